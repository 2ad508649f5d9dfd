/* Ends the program with an error message instead of an illegal instruction on a CPU that it was not built for.
 *
 * With target-cpu=native any Rust function, even main, may contain the instructions in question. So this check is a
 * constructor in C, which is compiled for the baseline and runs first. The build script generates cpu_features.h: the
 * extensions that the compiler may use, and those that llama.cpp's kernels always use.
 * CPUID bits: Intel SDM vol. 2A; XCR0: vol. 1, 13.3. */
#include <cpuid.h>
#include <string.h>
#include <unistd.h>

struct feature {
    const char *name;
    unsigned leaf, subleaf, reg, bit;
};

static const struct feature needed[] = {
#define NEED(name, leaf, subleaf, reg, bit) {name, leaf, subleaf, reg, bit},
#include "cpu_features.h"
};

enum { XCR0_AVX = 0x6, XCR0_AVX512 = 0xe6 };

/* Returns the register state that the operating system saves on a thread switch (XCR0). */
static unsigned saved_state(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return a;
}

static int is_supported(const struct feature *feature, unsigned saved) {
    unsigned regs[4];
    unsigned state = strncmp(feature->name, "avx512", 6) ? XCR0_AVX : XCR0_AVX512;
    if (!strncmp(feature->name, "avx", 3) && (saved & state) != state)
        return 0;
    return __get_cpuid_count(feature->leaf, feature->subleaf, regs, regs + 1, regs + 2, regs + 3) &&
           (regs[feature->reg] >> feature->bit & 1);
}

static void say(const char *text) {
    if (write(2, text, strlen(text)) < 0)
        _exit(1);
}

__attribute__((constructor(101))) static void check_cpu(void) {
    unsigned saved = saved_state(), missing = 0;
    for (unsigned i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (is_supported(needed + i, saved))
            continue;
        say(missing++ ? ", " : "error: this binary was built for another CPU: this one lacks ");
        say(needed[i].name);
    }
    if (missing) {
        say("\n\nhint: build it on this machine (cargo build --release --locked), or take a build for an older CPU\n");
        _exit(1);
    }
}
