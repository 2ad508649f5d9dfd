//! Compiles the CPU check (`src/cpu.c`) for the CPU extensions of this build, and sets the library path of builds with `cpu-variants`.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// CPU extensions that llama.cpp's kernels always use (build script of llama-cpp-sys-2).
const ALWAYS: [&str; 6] = ["sse4.2", "avx", "avx2", "fma", "f16c", "bmi2"];

type Feature = (&'static str, u32, u32, u32, u32);

/// CPU extensions that a compiler may use, with their CPUID bits: name, leaf, sub-leaf, register (0 is EAX, 3 is EDX) and bit.
const FEATURES: [Feature; 28] = [
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
    let has_variants = env::var_os("CARGO_FEATURE_CPU_VARIANTS").is_some();
    let architecture = env::var("CARGO_CFG_TARGET_ARCH")?;
    let is_linux = env::var("CARGO_CFG_TARGET_OS")? == "linux";
    if has_variants {
        if !is_linux {
            return Err("the feature `cpu-variants` is supported on Linux only".into());
        }
        // DT_RPATH instead of DT_RUNPATH: it precedes LD_LIBRARY_PATH, and also applies to dependencies of the libraries.
        println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/lib,--disable-new-dtags");
    }
    let used = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let is_used = |name: &str| {
        // llama.cpp checks the needs of each variant itself.
        (ALWAYS.contains(&name) && !has_variants) || used.split(',').any(|used| used == name)
    };
    let needed: Vec<_> = FEATURES
        .into_iter()
        .filter(|(name, ..)| architecture == "x86_64" && is_used(name))
        .collect();
    let names: Vec<_> = needed.iter().map(|(name, ..)| *name).collect();
    let extensions = if names.is_empty() {
        architecture.clone()
    } else {
        names.join(", ")
    };
    println!("cargo:rustc-env=CPU_EXTENSIONS={extensions}");
    if is_linux && !needed.is_empty() {
        compile_check(&needed)?;
    }
    Ok(())
}

fn compile_check(needed: &[Feature]) -> Result<(), Box<dyn Error>> {
    let mut rows = String::new();
    for (name, leaf, subleaf, register, bit) in needed {
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
        // Linked as an object, since nothing refers to it: from a library, the linker would leave it out.
        println!("cargo:rustc-link-arg-bins={}", object.display());
    }
    Ok(())
}
