//! Model processes that run foreign code: whatever they write or leave behind, their calls end with an error that gives the reason.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use super::{Launcher, start};
use crate::backend::{Offer, Progress, Unanswered};
use crate::config::{GgufSource, LoadSettings};
use crate::engine::{
    Conversation, GenerateRequest, Message, Request, Role, SamplingParams, ThinkingOutput,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Longer than any test takes.
const LIMIT: Duration = Duration::from_mins(2);

/// A call of at most ten tokens.
fn request() -> Request {
    Request::Generate(Arc::new(GenerateRequest {
        conversation: Conversation {
            messages: vec![Message {
                role: Role::User,
                content: "Hi".to_owned(),
            }],
            thinking: ThinkingOutput::Strip,
            json_schema: None,
            thinking_budget: None,
            template_arguments: serde_json::Map::new(),
        },
        max_tokens: 10,
        sampling: SamplingParams::default(),
        stop: Vec::new(),
    }))
}

/// Calls a model whose process behaves as `name` says, and returns the error of the call.
fn error_of(name: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend/local/tests/worker.sh");
    // The script's behaviour depends on the name of the link.
    let folder = env::temp_dir().join(format!("llama-mcp-{}-worker-{name}", process::id()));
    drop(fs::remove_dir_all(&folder));
    fs::create_dir(&folder).unwrap();
    let program = folder.join(name);
    symlink(script, &program).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let result = runtime.block_on(async {
        let launcher = Launcher::new(program, "info".into(), CancellationToken::new()).unwrap();
        let (_fixed, no_fixed) = watch::channel(Arc::default());
        let source = GgufSource::read(LoadSettings::default());
        let offer = Offer {
            need: None,
            memory_limit: u64::MAX,
        };
        let runner = start(&launcher, name, &source, offer, no_fixed, drop);
        let (progress, _seen) = watch::channel(Progress::default());
        let mut call = runner.call("test".to_owned(), request(), progress);
        tokio::time::timeout(LIMIT, call.answer()).await.unwrap()
    });
    runtime.shutdown_timeout(Duration::ZERO);
    fs::remove_dir_all(folder).unwrap();
    match result.unwrap_err() {
        Unanswered::Failed(error) => error.to_string(),
        Unanswered::Stopped => panic!("nobody stopped it"),
    }
}

const STOPPED: &str = "the model's process stopped unexpectedly";

#[test]
fn a_line_without_end_ends_the_process() {
    let expected =
        format!("{STOPPED} (the server killed it: it wrote a line longer than 25.0 MiB)");
    assert_eq!(error_of("endless-line"), expected);
    assert_eq!(error_of("huge-answer"), expected);
}

#[test]
fn an_answer_longer_than_its_tokens_allow_ends_the_process() {
    assert_eq!(
        error_of("long-answer"),
        format!(
            "{STOPPED} (the server killed it: an answer was longer than 512 bytes per token of `max_tokens`)"
        )
    );
}

#[test]
fn a_loaded_model_that_cannot_continue_reports_why() {
    assert_eq!(
        error_of("failed"),
        "the model's process cannot continue (could not create a context of 512 cells)"
    );
}

#[test]
fn a_long_line_of_the_log_is_truncated() {
    let error = error_of("long-line-of-errors");
    let beginning = format!("{STOPPED} (exit status: 3; last output: xxx");
    assert!(
        error.starts_with(&beginning) || error.ends_with("output: the end)"),
        "{error}"
    );
    assert!(error.len() < 1200, "{error}");
}

#[test]
fn a_flood_of_errors_is_dropped_from_the_log_and_delays_nothing() {
    let error = error_of("flood");
    let again = "ERROR llama-cpp-2: again | ".repeat(7);
    assert_eq!(
        error,
        format!("{STOPPED} (exit status: 3; last output: {again}the end)")
    );
}

#[test]
fn a_process_whose_child_keeps_its_pipes_counts_as_ended_and_the_child_is_killed() {
    let error = error_of("child");
    let output = error.strip_prefix(&format!("{STOPPED} (exit status: 3; last output: child "));
    let child = output
        .unwrap_or_else(|| panic!("{error}"))
        .trim_end_matches(')');
    wait_for_end_of(child.parse().unwrap());
}

#[test]
fn the_error_text_of_a_process_is_one_short_printable_line() {
    let error = error_of("escape");
    assert!(error.starts_with("why [31m xxx"), "{error}");
    assert_eq!(error.chars().count(), 1024);
}

/// Waits until process `pid` has ended.
fn wait_for_end_of(pid: i32) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    // A process that is gone cannot be opened.
    let Ok(process) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else {
        return;
    };
    let limit = Timespec::try_from(LIMIT).unwrap();
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ended, 1, "{pid:?} does not end");
}
