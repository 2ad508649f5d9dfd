//! External faults: killed processes, changes of a loaded model's file, a full disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::support::config::Folder;
use crate::support::{
    LIMIT, Server, ToolResult, signal_process, tiny, tiny_with_template, wait_for_end_of,
    wait_for_worker_of, workers_of,
};

const PARIS: &str = "The capital of France is Paris.";

/// Error of a call whose worker is killed while it runs.
const KILLED: &str = "the model's process stopped unexpectedly (signal: 9 (SIGKILL): the system was probably out of memory); try again: the next call starts a new process";

/// Error of a call that was resent once, and whose new worker is killed before the call starts.
const KILLED_TWICE: &str = "the model's process stopped unexpectedly (signal: 9 (SIGKILL): the system was probably out of memory); check that there is enough memory and that the model's file is intact; see the server's log";

/// Error of a call whose worker is killed before it has answered any call.
const KILLED_FIRST: &str = "the model's process stopped unexpectedly (signal: 9 (SIGKILL): the system was probably out of memory); no call has succeeded since the model was loaded; if this happens again, check the model's file and the free memory; see the server's log";

/// Error of a call whose worker is killed while it loads, if the load must not be retried yet.
const KILLED_LOADING: &str = "the model could not be loaded: signal: 9 (SIGKILL): the system was probably out of memory; try again in 1 s";

fn france() -> Value {
    json!({"text": "What is the capital of France?", "temperature": 0})
}

/// An answer that never ends by itself.
fn song() -> Value {
    json!({"text": "Sing forever.", "temperature": 0, "repeat_penalty": 1, "max_tokens": 4000})
}

/// A server with a copy of the tiny model in a folder of its own.
struct Fixture {
    folder: Folder,
    server: Server,
}

impl Fixture {
    fn new(name: &str, flags: &[&str]) -> Self {
        let folder = Folder::new(name, "");
        let server = Server::start(&folder.0.join("crab.gguf"), flags);
        Self { folder, server }
    }

    fn model(&self) -> PathBuf {
        self.folder.0.join("crab.gguf")
    }

    fn call(&mut self) -> ToolResult {
        let id = self.server.call(france());
        self.server.result(id)
    }

    fn ask(&mut self) -> Result<String, String> {
        let result = self.call();
        if result.is_error {
            Err(result.text)
        } else {
            Ok(result.text)
        }
    }

    /// Replaces the model's file with a rename, as downloads and editors do.
    fn replace_model(&self, content: &[u8]) {
        let new = self.folder.0.join("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.model()).unwrap();
    }

    fn worker(&self) -> u32 {
        workers_of(self.server.child.id())[0]
    }

    fn kill_worker(&self) {
        signal_process(self.worker(), "KILL");
    }

    /// Changes the file's timestamp, so that a failed load is retried at once.
    fn touch(&self, round: u64) {
        let model = File::options().append(true).open(self.model()).unwrap();
        model
            .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(round))
            .unwrap();
    }

    /// Returns the number of zombie children.
    fn zombies(&self) -> usize {
        let stats = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        let is_ours = format!("Z {} ", self.server.child.id());
        // The name is in parentheses and may contain anything.
        let states = stats.filter_map(|stat| Some(stat.rsplit_once(") ")?.1.starts_with(&is_ours)));
        states.filter(|is_zombie| *is_zombie).count()
    }

    fn open_files(&self) -> usize {
        let files = format!("/proc/{}/fd", self.server.child.id());
        fs::read_dir(files).unwrap().count()
    }
}

/// Kills the worker in one phase of a call, and checks the results of the calls.
type Phase = fn(&mut Fixture);

fn kill_while_idle(fixture: &mut Fixture) {
    let worker = fixture.worker();
    fixture.kill_worker();
    wait_for_end_of(worker);
}

fn kill_between_calls(fixture: &mut Fixture) {
    fixture.kill_worker();
    // The server may not have noticed yet. The call has not started, or its prompt was being prepared.
    match fixture.ask() {
        Ok(text) => assert_eq!(text, PARIS),
        Err(text) => assert_eq!(text, KILLED),
    }
}

fn kill_while_loading(fixture: &mut Fixture) {
    kill_while_idle(fixture);
    let call = fixture.server.call(france());
    signal_process(wait_for_worker_of(fixture.server.child.id()), "KILL");
    let result = fixture.server.result(call);
    // The load may have finished.
    let ends = [KILLED, KILLED_FIRST, KILLED_TWICE, KILLED_LOADING, PARIS];
    assert!(ends.contains(&result.text.as_str()), "{}", result.text);
}

fn kill_while_queued(fixture: &mut Fixture) {
    let running = fixture.server.call(song());
    let waiting = fixture.server.call(france());
    fixture
        .server
        .wait_for_progress(waiting, |message| message.starts_with("queued"));
    fixture.kill_worker();
    assert_eq!(fixture.server.result(running).text, KILLED);
    // A call that has not started is resent once.
    assert_eq!(fixture.server.result(waiting).text, PARIS);
}

fn kill_during_prefill(fixture: &mut Fixture) {
    let call = fixture
        .server
        .call(json!({"text": "word ".repeat(3500), "max_tokens": 1}));
    fixture
        .server
        .wait_for_progress(call, |message| message.starts_with("processing the prompt"));
    fixture.kill_worker();
    assert_eq!(fixture.server.result(call).text, KILLED);
}

fn kill_while_generating(fixture: &mut Fixture) {
    let call = fixture.server.call(song());
    fixture
        .server
        .wait_for_progress(call, |message| message.contains("la la"));
    fixture.kill_worker();
    assert_eq!(fixture.server.result(call).text, KILLED);
}

#[test]
fn killing_a_worker_in_any_phase_of_a_call_fails_only_that_call() {
    // Small batches, so that a long prompt takes seconds.
    let mut fixture = Fixture::new("killed", &["--parallel", "1", "--n_batch", "8"]);
    let quick: [Phase; 3] = [kill_while_idle, kill_between_calls, kill_while_loading];
    // These phases wait for progress notifications, which come twice a second.
    let slow: [Phase; 3] = [
        kill_while_queued,
        kill_during_prefill,
        kill_while_generating,
    ];
    let phases = std::iter::repeat_n(quick, 24)
        .flatten()
        .chain(std::iter::repeat_n(slow, 10).flatten());
    assert_eq!(fixture.ask().unwrap(), PARIS);
    let mut open = None;
    let mut kills = 0;
    for phase in phases {
        phase(&mut fixture);
        kills += 1;
        fixture.touch(kills);
        assert_eq!(fixture.ask().unwrap(), PARIS);
        assert_eq!(workers_of(fixture.server.child.id()).len(), 1);
        assert_eq!(fixture.zombies(), 0);
        // After the first round no file is opened for the first time.
        let most = *open.get_or_insert_with(|| fixture.open_files());
        let started = Instant::now();
        // The answer may arrive before the previous worker's last file is closed.
        while fixture.open_files() > most {
            let is_over = started.elapsed() >= LIMIT;
            assert!(!is_over, "more files are open after {kills} kills");
            std::thread::yield_now();
        }
    }
    assert!(kills >= 100);
}

#[test]
fn a_model_whose_file_is_deleted_answers_until_it_is_reloaded() {
    let mut fixture = Fixture::new("vanished", &[]);
    assert_eq!(fixture.ask().unwrap(), PARIS);
    fs::remove_file(fixture.model()).unwrap();
    assert_eq!(fixture.ask().unwrap(), PARIS);
    kill_while_idle(&mut fixture);
    let error = fixture.ask().unwrap_err();
    assert!(
        error.starts_with("the model file `crab.gguf` does not exist; "),
        "{error}"
    );
    fixture.replace_model(&fs::read(tiny()).unwrap());
    assert_eq!(fixture.ask().unwrap(), PARIS);
}

#[test]
fn truncating_a_mapped_model_file_fails_the_call_and_the_next_error_names_the_cause() {
    let mut fixture = Fixture::new("cut", &[]);
    assert_eq!(fixture.ask().unwrap(), PARIS);
    // The weights begin far behind this offset.
    File::options()
        .write(true)
        .open(fixture.model())
        .unwrap()
        .set_len(4096)
        .unwrap();
    assert_eq!(
        fixture.ask().unwrap_err(),
        "the model's process stopped unexpectedly (signal: 7 (SIGBUS): part of the model's file could not be read: the file was truncated while it was in use, or its disk is failing); try again: the next call starts a new process"
    );
    let truncated = "the model file `crab.gguf` is truncated: it has 4096 bytes";
    for _ in 0..2 {
        let error = fixture.ask().unwrap_err();
        assert!(error.starts_with(truncated), "{error}");
        assert!(
            error.ends_with("try again once the file has changed"),
            "{error}"
        );
    }
    fixture.replace_model(&fs::read(tiny()).unwrap());
    assert_eq!(fixture.ask().unwrap(), PARIS);
}

#[test]
fn a_replaced_model_file_is_used_from_the_next_load_on() {
    let mut fixture = Fixture::new("replaced", &[]);
    let tokens = |result: ToolResult| result.generation["prompt_tokens"].as_u64().unwrap();
    let before = tokens(fixture.call());
    let other = tiny_with_template(
        "other.gguf",
        "{{ messages[-1].content }} and so on and so on",
    );
    fixture.replace_model(&fs::read(&other.0).unwrap());
    assert_eq!(tokens(fixture.call()), before);
    kill_while_idle(&mut fixture);
    assert_ne!(tokens(fixture.call()), before);
    fixture.replace_model(b"no model");
    assert_ne!(tokens(fixture.call()), before);
    kill_while_idle(&mut fixture);
    let error = fixture.ask().unwrap_err();
    assert!(error.contains("is not a GGUF model file"), "{error}");
    fixture.replace_model(&fs::read(tiny()).unwrap());
    assert_eq!(tokens(fixture.call()), before);
}

#[test]
fn a_full_disk_loses_log_lines_but_no_calls() {
    let text = "[log]\nlevel = \"debug\"\nfile = \"server.log\"\nrotation = \"never\"\n\
                [models.chat]\npath = \"crab.gguf\"\nn_threads = 1\n";
    let folder = Folder::new("full", text);
    // Every write to it fails as on a full disk.
    let log = folder.0.join("server.log");
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    assert_eq!(
        fs::write(&log, "a line").unwrap_err().kind(),
        std::io::ErrorKind::StorageFull
    );
    let mut server = folder.serve();
    for _ in 0..20 {
        assert_eq!(server.chat(france()).text, PARIS);
    }
    let files = fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap();
    let mut files = files.map(|file| fs::read_link(file.unwrap().path()).unwrap_or_default());
    assert!(files.any(|file| file == Path::new("/dev/full")));
    server.close_stdin();
    assert_eq!(server.wait().code(), Some(0));
}
