//! Whether this machine's CPU has what the binary was built for; else it would die of an illegal instruction in the
//! middle of its work.
//!
//! The standard library's detection is of no use for it: it takes for granted what the build took for granted.

/// Instruction sets that this build uses and the CPU lacks; empty where it can run.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
pub fn missing_features() -> Vec<&'static str> {
    let cpuid = raw_cpuid::CpuId::new();
    let basic = cpuid.get_feature_info();
    let extended = cpuid.get_extended_feature_info();
    let amd = cpuid.get_extended_processor_and_feature_identifiers();
    let mut missing = Vec::new();
    macro_rules! need {
        ($info:ident, $($name:tt $has:ident $used:expr),* $(,)?) => {
            $(if $used && !$info.as_ref().is_some_and(|info| info.$has()) {
                missing.push($name);
            })*
        };
    }
    // llama.cpp's kernels are built with these in any case (llama-cpp-sys-2's build script).
    need!(basic, "sse4.2" has_sse42 true, "avx" has_avx true, "fma" has_fma true, "f16c" has_f16c true, "xsave" has_oxsave true);
    need!(extended, "avx2" has_avx2 true, "bmi2" has_bmi2 true);
    // The rest is what `target-cpu` turned on; the compiler gives llama.cpp's kernels the same.
    need!(
        basic,
        "movbe" has_movbe cfg!(target_feature = "movbe"),
        "popcnt" has_popcnt cfg!(target_feature = "popcnt"),
    );
    need!(amd, "lzcnt" has_lzcnt cfg!(target_feature = "lzcnt"));
    need!(
        extended,
        "bmi1" has_bmi1 cfg!(target_feature = "bmi1"),
        "sha" has_sha cfg!(target_feature = "sha"),
        "gfni" has_gfni cfg!(target_feature = "gfni"),
        "vaes" has_vaes cfg!(target_feature = "vaes"),
        "vpclmulqdq" has_vpclmulqdq cfg!(target_feature = "vpclmulqdq"),
        "avxvnni" has_avx_vnni cfg!(target_feature = "avxvnni"),
        "avx512f" has_avx512f cfg!(target_feature = "avx512f"),
        "avx512bw" has_avx512bw cfg!(target_feature = "avx512bw"),
        "avx512cd" has_avx512cd cfg!(target_feature = "avx512cd"),
        "avx512dq" has_avx512dq cfg!(target_feature = "avx512dq"),
        "avx512vl" has_avx512vl cfg!(target_feature = "avx512vl"),
        "avx512ifma" has_avx512_ifma cfg!(target_feature = "avx512ifma"),
        "avx512vbmi" has_avx512vbmi cfg!(target_feature = "avx512vbmi"),
        "avx512vbmi2" has_avx512vbmi2 cfg!(target_feature = "avx512vbmi2"),
        "avx512vnni" has_avx512vnni cfg!(target_feature = "avx512vnni"),
        "avx512bitalg" has_avx512bitalg cfg!(target_feature = "avx512bitalg"),
        "avx512vpopcntdq" has_avx512vpopcntdq cfg!(target_feature = "avx512vpopcntdq"),
        "avx512bf16" has_avx512_bf16 cfg!(target_feature = "avx512bf16"),
        "avx512fp16" has_avx512_fp16 cfg!(target_feature = "avx512fp16"),
    );
    missing
}

/// Other architectures are built for their baseline, where no flags say otherwise.
#[cfg(not(target_arch = "x86_64"))]
pub fn missing_features() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_machine_that_runs_the_tests_has_what_it_built_for() {
        assert_eq!(super::missing_features(), Vec::<&str>::new());
    }
}
