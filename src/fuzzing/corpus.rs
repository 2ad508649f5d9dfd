//! Replays the fuzzer's corpus: inputs that reach every parser of untrusted input, and inputs that once broke one.

use std::fs;
use std::path::{Path, PathBuf};

type Target = (&'static str, fn(&[u8]));

/// Chat templates are replayed by the integration tests: the program renders them in a process with limits.
const TARGETS: [Target; 7] = [
    ("message", super::message),
    ("http", super::http),
    ("config", super::config),
    ("header", super::header),
    ("worker", super::worker),
    ("schema", super::schema),
    ("budget", super::budget),
];

/// Returns the inputs of `target`, in a fixed order.
fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(target);
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
#[expect(
    clippy::print_stderr,
    reason = "a failed test shows which input it replayed"
)]
fn the_corpus_of_the_fuzzer_breaks_no_invariant() {
    for (target, run) in TARGETS {
        let files = corpus(target);
        assert!(files.len() >= 10, "{target} has no corpus");
        for file in files {
            eprintln!("{}", file.display());
            run(&fs::read(&file).unwrap());
        }
    }
    fs::remove_dir_all(&*super::FOLDER).unwrap();
}
