//! Compiles the check of the CPU (`src/cpu.c`) into the program, for what this build lets the compiler use.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// llama.cpp's kernels use these in any case (llama-cpp-sys-2's build script).
const ALWAYS: [&str; 6] = ["sse4.2", "avx", "avx2", "fma", "f16c", "bmi2"];

/// Name, leaf, sub-leaf, register (eax 0 to edx 3) and bit of CPUID.
const FEATURES: [(&str, u32, u32, u32, u32); 28] = [
    ("sse4.2", 1, 0, 2, 20),
    ("fma", 1, 0, 2, 12),
    ("movbe", 1, 0, 2, 22),
    ("popcnt", 1, 0, 2, 23),
    ("avx", 1, 0, 2, 28),
    ("f16c", 1, 0, 2, 29),
    ("bmi1", 7, 0, 1, 3),
    ("avx2", 7, 0, 1, 5),
    ("bmi2", 7, 0, 1, 8),
    ("avx512f", 7, 0, 1, 16),
    ("avx512dq", 7, 0, 1, 17),
    ("avx512ifma", 7, 0, 1, 21),
    ("avx512cd", 7, 0, 1, 28),
    ("sha", 7, 0, 1, 29),
    ("avx512bw", 7, 0, 1, 30),
    ("avx512vl", 7, 0, 1, 31),
    ("avx512vbmi", 7, 0, 2, 1),
    ("avx512vbmi2", 7, 0, 2, 6),
    ("gfni", 7, 0, 2, 8),
    ("vaes", 7, 0, 2, 9),
    ("vpclmulqdq", 7, 0, 2, 10),
    ("avx512vnni", 7, 0, 2, 11),
    ("avx512bitalg", 7, 0, 2, 12),
    ("avx512vpopcntdq", 7, 0, 2, 14),
    ("avxvnni", 7, 1, 0, 4),
    ("avx512fp16", 7, 0, 3, 23),
    ("avx512bf16", 7, 1, 0, 5),
    ("lzcnt", 0x8000_0001, 0, 2, 5),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/cpu.c");
    let is_checked = env::var("CARGO_CFG_TARGET_ARCH")? == "x86_64"
        && env::var("CARGO_CFG_TARGET_OS")? == "linux";
    if !is_checked {
        return Ok(());
    }
    let used = env::var("CARGO_CFG_TARGET_FEATURE")?;
    let is_used =
        |name: &str| ALWAYS.contains(&name) || used.split(',').any(|feature| feature == name);
    let mut rows = String::new();
    for (name, leaf, subleaf, register, bit) in
        FEATURES.into_iter().filter(|(name, ..)| is_used(name))
    {
        writeln!(
            rows,
            "NEED(\"{name}\", {leaf}, {subleaf}, {register}, {bit})"
        )?;
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("cpu_features.h"), rows)?;
    let objects = cc::Build::new()
        .file("src/cpu.c")
        .include(&out)
        .flag("-march=x86-64")
        .opt_level(1)
        .cargo_warnings(false)
        .try_compile_intermediates()?;
    for object in objects {
        // The object itself: out of a library nothing would pull it.
        println!("cargo:rustc-link-arg-bins={}", object.display());
    }
    Ok(())
}
