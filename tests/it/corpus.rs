//! The corpus of the fuzzer, replayed: inputs that reach every part of what reads from outside, and such as are meant to break it.

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is a crate of its own, too")]
mod fuzz;

use std::fs;
use std::path::{Path, PathBuf};

/// The inputs of a target, in a fixed order.
fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
#[expect(
    clippy::print_stderr,
    reason = "the last line of a failed test names its input"
)]
fn what_the_fuzzer_found_breaks_nothing() {
    for (target, take) in fuzz::TARGETS {
        let files = corpus(target);
        assert!(files.len() >= 10, "{target} has no corpus");
        for file in files {
            eprintln!("{}", file.display());
            take(&fs::read(&file).unwrap());
        }
    }
    fs::remove_dir_all(&*fuzz::FOLDER).unwrap();
}
