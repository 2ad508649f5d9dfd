//! Promises of a release: its archives, the machines that run them, and the Rust version.

use serde::Deserialize;
use yaml_serde::Value;

use crate::support::example::repository;

/// Names of the archives. They never change, because URLs below `releases/latest/download` contain them.
const ARCHIVES: [&str; 7] = [
    "linux-x86_64",
    "linux-arm64",
    "linux-x86_64-musl",
    "linux-x86_64-cuda",
    "windows-x86_64",
    "macos-x86_64",
    "macos-arm64",
];

/// Scripts that set `RUSTFLAGS` themselves.
const PORTABLE_BUILDS: [&str; 2] = ["scripts/bundle", "scripts/build-static"];

/// An entry in the matrix of the job `build`.
#[derive(Deserialize)]
struct Archive {
    artifact: String,
    build: String,
    rustflags: Option<String>,
}

fn read(name: &str) -> String {
    std::fs::read_to_string(repository(name)).unwrap()
}

/// Returns the job `build` of the release workflow, and its archives.
fn build() -> (Value, Vec<Archive>) {
    let release: Value = yaml_serde::from_str(&read(".github/workflows/release.yml")).unwrap();
    let job = release["jobs"]["build"].clone();
    let matrix = job["strategy"]["matrix"]["include"].clone();
    (job, yaml_serde::from_value(matrix).unwrap())
}

#[test]
fn a_release_has_every_archive() {
    let (_, archives) = build();
    let names: Vec<String> = archives.into_iter().map(|it| it.artifact).collect();
    assert_eq!(names, ARCHIVES);
}

#[test]
fn archives_are_not_compiled_for_the_build_machine() {
    let (job, archives) = build();
    let steps = job["steps"].as_sequence().unwrap();
    let step = steps.iter().find(|step| step["name"] == "Build").unwrap();
    assert_eq!(step["env"]["RUSTFLAGS"], "${{ matrix.rustflags }}");
    for archive in archives {
        let is_portable = match archive.rustflags {
            Some(flags) => flags.starts_with("-C target-") && !flags.contains("native"),
            None => PORTABLE_BUILDS.into_iter().any(|script| {
                archive.build.contains(&format!("{script} \"$FOLDER"))
                    && read(script).contains("export RUSTFLAGS=")
            }),
        };
        assert!(is_portable, "{}", archive.artifact);
    }
}

#[test]
fn the_toolchain_and_the_image_use_the_rust_version_of_the_crate() {
    let version = env!("CARGO_PKG_RUST_VERSION");
    let file: toml::Table = read("rust-toolchain.toml").parse().unwrap();
    let channel = file["toolchain"]["channel"].as_str().unwrap();
    let patch = channel.strip_prefix(version);
    assert!(
        patch.is_some_and(|patch| patch.starts_with('.')),
        "{channel}"
    );
    assert!(read("Dockerfile").contains(&format!("ARG RUST={version}\n")));
}
