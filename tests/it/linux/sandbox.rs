//! Malicious code in a worker, which tries everything that a process of the same user may do to others.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;

use crate::support::worker::Worker;
use crate::support::{program, tiny};

/// The file that the attempts target. `attempts.c` is compiled with its path.
fn victim() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("victim")
}

/// Error numbers that count as refused: `EPERM`, `EACCES`, and `ENOSYS` for `clone3`.
const REFUSALS: [i32; 3] = [1, 13, 38];

/// Compiles the library with the attempts, once, and returns its path.
fn attempts() -> PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    let compile = || {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/linux/sandbox");
        let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("attempts.so");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(folder.join("attempts.c"))
            .arg(format!("-DVICTIM=\"{}\"", victim().display()))
            .arg("-ldl")
            .status();
        assert!(compiled.unwrap().success());
        library
    };
    LIBRARY.get_or_init(compile).clone()
}

/// Makes each attempt in the worker of a loaded model that answers a question. Returns the `errno` of each, or 0.
fn outcomes(sandbox: &str) -> BTreeMap<String, i32> {
    std::fs::write(victim(), "content").unwrap();
    let mut command = program();
    command.env("LD_PRELOAD", attempts());
    let load =
        json!({"path": tiny(), "sandbox": sandbox, "n_ctx": 512, "n_threads": 2, "max_queue": 8});
    let mut worker = Worker::start(command, &load);
    let question = json!([{"role": "user", "content": "What is the capital of France?"}]);
    let answers = worker.ask(&[question], 40);
    assert_eq!(answers[0].text, "The capital of France is Paris.");
    let log = worker.end();
    let attempts = log.lines().filter_map(|line| line.strip_prefix("attempt "));
    attempts
        .map(|line| {
            let (name, errno) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), errno.parse().unwrap())
        })
        .collect()
}

#[test]
#[expect(
    clippy::print_stderr,
    reason = "lists the attempts that this machine cannot test"
)]
fn a_sandboxed_worker_cannot_do_what_other_processes_may() {
    let free = outcomes("off");
    let restricted = outcomes("auto");
    std::fs::remove_file(victim()).unwrap();
    assert!(
        free.len() > 40 && free.keys().eq(restricted.keys()),
        "{free:?} {restricted:?}"
    );
    let (possible, impossible): (Vec<_>, Vec<_>) = free.iter().partition(|(_, errno)| **errno == 0);
    for (name, errno) in impossible {
        eprintln!("not tested: {name} fails with {errno} without a sandbox, too");
    }
    let allowed: Vec<_> = restricted
        .iter()
        .filter(|(_, errno)| !REFUSALS.contains(errno))
        .collect();
    assert!(allowed.is_empty(), "{allowed:?}");
    assert!(possible.len() > 15, "{possible:?}");
}
