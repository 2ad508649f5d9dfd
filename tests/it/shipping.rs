//! What the workflows promise: which archives there are, whose code builds them, and that they run elsewhere.

use std::path::Path;

/// A contract: addresses below `releases/latest/download` are made of these names.
const ARTIFACTS: [&str; 7] = [
    "linux-x86_64",
    "linux-arm64",
    "linux-x86_64-musl",
    "linux-x86_64-cuda",
    "windows-x86_64",
    "macos-x86_64",
    "macos-arm64",
];

fn workflow(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn a_release_has_every_archive() {
    let release = workflow("release.yml");
    let built: Vec<&str> = release
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- artifact: "))
        .collect();
    assert_eq!(built, ARTIFACTS);
}

#[test]
fn no_archive_is_for_the_machine_that_builds_it() {
    let release = workflow("release.yml");
    assert!(release.contains("RUSTFLAGS: ${{ matrix.rustflags }}"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for build in release.split("- artifact: ").skip(1) {
        let script = ["scripts/bundle", "scripts/build-static"]
            .into_iter()
            .find(|script| build.contains(&format!("{script} \"$FOLDER")));
        let is_set = match script {
            Some(script) => {
                let script = std::fs::read_to_string(folder.join(script)).unwrap();
                script.contains("export RUSTFLAGS=")
            }
            None => build.lines().any(|line| {
                let flags = line.trim().strip_prefix("rustflags: -C ");
                flags.is_some_and(|flags| !flags.contains("native"))
            }),
        };
        assert!(is_set, "{build}");
    }
}

#[test]
fn actions_are_pinned_to_a_commit() {
    for name in ["ci.yml", "release.yml"] {
        for line in workflow(name).lines() {
            let Some((_, action)) = line.split_once("uses: ") else {
                continue;
            };
            let (_, pin) = action.split_once('@').unwrap_or_default();
            let (commit, version) = pin.split_once(" # v").unwrap_or_default();
            assert!(
                commit.len() == 40
                    && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
                    && version.starts_with(|digit: char| digit.is_ascii_digit()),
                "{name}: {line}"
            );
        }
    }
}
