//! Tests on the systems of `tests/cgroups/memory`. The last one reads the files of this machine.

use std::fs;

use super::*;
use crate::cgroup::example::{System, folder_of};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn limit_of(name: &str) -> CgroupLimit {
    limit(&System::unpack("memory", name).0)
}

/// Limit and free bytes of a system, in MiB.
fn mebibytes(name: &str) -> (u64, u64) {
    match limit_of(name) {
        CgroupLimit::Bytes(Capacity { total, free }) => (total / MIB, free / MIB),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn page_cache_in_a_container_is_free_memory() {
    // 998 MiB are used, of which 888 and 977 are files.
    assert_eq!(mebibytes("docker-v2"), (1000, 890));
    assert_eq!(mebibytes("docker-v1"), (1000, 979));
    assert_eq!(mebibytes("kubernetes-v2").1, 1843 - (1500 - 1080));
}

#[test]
fn a_container_sees_its_limit_with_and_without_a_namespace() {
    assert_eq!(mebibytes("docker-v2-host-namespace"), (512, 392));
    assert_eq!(mebibytes("docker-v1-namespace"), (256, 204));
    assert_eq!(mebibytes("podman-rootless"), (1024, 624));
    assert_eq!(mebibytes("lxc"), (4096, 2560));
}

#[test]
fn a_service_sees_its_own_limit() {
    assert_eq!(mebibytes("systemd-v2-service"), (1000, 790));
    assert_eq!(mebibytes("systemd-v1-service"), (500, 390));
    assert_eq!(mebibytes("systemd-v2-memory-high"), (600, 530));
    assert_eq!(mebibytes("hybrid"), (3072, 1792));
    assert_eq!(mebibytes("odd-mount-point"), (128, 102));
}

#[test]
fn the_limit_of_a_parent_and_the_usage_of_its_other_children_apply() {
    assert_eq!(mebibytes("systemd-v2-slice"), (2048, 2048 - 1840));
    // Its parent is not visible, but its limit is.
    assert_eq!(mebibytes("kubernetes-v1"), (768, 558));
    assert_eq!(mebibytes("v1-without-hierarchy"), (300, 230));
}

#[test]
fn the_own_cgroup_counts_in_every_mount_of_its_hierarchy() {
    assert_eq!(mebibytes("v1-mounted-twice"), (300, 230));
}

#[test]
fn a_huge_number_means_unlimited() {
    for name in ["docker-v1-unlimited", "docker-v1-unlimited-64k-pages"] {
        assert_eq!(limit_of(name), CgroupLimit::None, "{name}");
    }
}

#[test]
fn a_hidden_cgroup_is_reported_and_nothing_outside_of_the_mount_is_read() {
    for name in [
        "outside-namespace",
        "host-mount-in-namespace",
        "not-mounted",
    ] {
        assert_eq!(limit_of(name), CgroupLimit::Hidden, "{name}");
    }
}

#[test]
fn without_cgroups_or_with_malformed_files_there_is_no_limit() {
    for name in ["no-cgroups", "broken"] {
        assert_eq!(limit_of(name), CgroupLimit::None, "{name}");
    }
}

#[test]
fn every_file_of_a_system_has_a_test() {
    let source = include_str!("tests.rs");
    for entry in fs::read_dir(folder_of("memory")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = name.trim_end_matches(".txt");
        assert!(source.contains(&format!("\"{name}\"")), "{name}");
    }
}

#[test]
fn this_kernel_is_understood() {
    if let CgroupLimit::Bytes(Capacity { total, free }) = limit(Path::new("/")) {
        assert!(free <= total && total < 1024 * 1024 * GIB);
    }
}
