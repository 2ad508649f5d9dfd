//! What goes wrong beside the server: processes that are killed, files that change under a loaded model, a full disk.

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

/// How a call ends whose process is killed under it.
const KILLED: &str = "the model's process stopped unexpectedly (signal: 9 (SIGKILL): the system probably had no memory left); try again, the next call starts a new process";

/// The same where it had been sent once more, and had not begun again.
const KILLED_TWICE: &str = "the model's process stopped unexpectedly (signal: 9 (SIGKILL): the system probably had no memory left); check that memory suffices and that the model's file is whole; the server's log may say more";

/// The same where the process had not answered any call yet.
const KILLED_FIRST: &str = "the model's process stopped unexpectedly (signal: 9 (SIGKILL): the system probably had no memory left); no call has succeeded since the model was loaded; if this happens again, check the model's file and the free memory; see the server's log";

/// The same where the load had not ended, once the next one may not come yet.
const KILLED_LOADING: &str = "the model could not be loaded: signal: 9 (SIGKILL): the system probably had no memory left; try again in 1 s";

fn france() -> Value {
    json!({"text": "What is the capital of France?", "temperature": 0})
}

/// A song that does not end by itself.
fn song() -> Value {
    json!({"text": "Sing forever.", "temperature": 0, "repeat_penalty": 1, "max_tokens": 4000})
}

/// A server of a copy of the tiny model in a folder of its own.
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

    /// Puts a file in the model's place, as a download that is done or an editor does.
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

    /// A load that failed is tried again at once where the file has changed.
    fn touch(&self, round: u64) {
        let model = File::options().append(true).open(self.model()).unwrap();
        model
            .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(round))
            .unwrap();
    }

    /// Children that have ended and were not waited for.
    fn zombies(&self) -> usize {
        let stats = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        let is_ours = format!("Z {} ", self.server.child.id());
        // The name stands in parentheses and may hold anything.
        let states = stats.filter_map(|stat| Some(stat.rsplit_once(") ")?.1.starts_with(&is_ours)));
        states.filter(|is_zombie| *is_zombie).count()
    }

    fn open_files(&self) -> usize {
        let files = format!("/proc/{}/fd", self.server.child.id());
        fs::read_dir(files).unwrap().count()
    }
}

/// A phase of a call in which its process is killed: what is to be seen of the calls that were there.
type Phase = fn(&mut Fixture);

fn idle(at: &mut Fixture) {
    let worker = at.worker();
    at.kill_worker();
    wait_for_end_of(worker);
}

fn between_two_calls(at: &mut Fixture) {
    at.kill_worker();
    // The server may not have heard of it yet; the call had not begun, or was just being prepared.
    match at.ask() {
        Ok(text) => assert_eq!(text, PARIS),
        Err(text) => assert_eq!(text, KILLED),
    }
}

fn loading(at: &mut Fixture) {
    idle(at);
    let call = at.server.call(france());
    signal_process(wait_for_worker_of(at.server.child.id()), "KILL");
    let result = at.server.result(call);
    // The load may have been over.
    let ends = [KILLED, KILLED_FIRST, KILLED_TWICE, KILLED_LOADING, PARIS];
    assert!(ends.contains(&result.text.as_str()), "{}", result.text);
}

fn queued(at: &mut Fixture) {
    let running = at.server.call(song());
    let waiting = at.server.call(france());
    at.server
        .wait_for_progress(waiting, |message| message.starts_with("queued"));
    at.kill_worker();
    assert_eq!(at.server.result(running).text, KILLED);
    // What had not begun is sent once more.
    assert_eq!(at.server.result(waiting).text, PARIS);
}

fn prefill(at: &mut Fixture) {
    let call = at
        .server
        .call(json!({"text": "word ".repeat(3500), "max_tokens": 1}));
    at.server
        .wait_for_progress(call, |message| message.starts_with("processing the prompt"));
    at.kill_worker();
    assert_eq!(at.server.result(call).text, KILLED);
}

fn generating(at: &mut Fixture) {
    let call = at.server.call(song());
    at.server
        .wait_for_progress(call, |message| message.contains("la la"));
    at.kill_worker();
    assert_eq!(at.server.result(call).text, KILLED);
}

#[test]
fn a_worker_that_is_killed_in_any_phase_of_a_call_a_hundred_times_costs_that_call_alone() {
    // Small batches make a long prompt take seconds.
    let mut at = Fixture::new("killed", &["--parallel", "1", "--n_batch", "8"]);
    let cheap: [Phase; 3] = [idle, between_two_calls, loading];
    // These wait for news, which come twice a second.
    let dear: [Phase; 3] = [queued, prefill, generating];
    let phases = std::iter::repeat_n(cheap, 24)
        .flatten()
        .chain(std::iter::repeat_n(dear, 10).flatten());
    assert_eq!(at.ask().unwrap(), PARIS);
    let mut open = None;
    let mut kills = 0;
    for phase in phases {
        phase(&mut at);
        kills += 1;
        at.touch(kills);
        assert_eq!(at.ask().unwrap(), PARIS);
        assert_eq!(workers_of(at.server.child.id()).len(), 1);
        assert_eq!(at.zombies(), 0);
        // After the first round nothing is opened for the first time.
        let most = *open.get_or_insert_with(|| at.open_files());
        let started = Instant::now();
        // The answer may come before the last file of the former process is closed.
        while at.open_files() > most {
            let is_over = started.elapsed() >= LIMIT;
            assert!(!is_over, "more files are open after {kills} kills");
            std::thread::yield_now();
        }
    }
    assert!(kills >= 100);
}

#[test]
fn a_model_whose_file_vanishes_answers_until_it_is_loaded_anew() {
    let mut at = Fixture::new("vanished", &[]);
    assert_eq!(at.ask().unwrap(), PARIS);
    fs::remove_file(at.model()).unwrap();
    assert_eq!(at.ask().unwrap(), PARIS);
    idle(&mut at);
    let told = at.ask().unwrap_err();
    assert!(
        told.starts_with("the model file `crab.gguf` does not exist; "),
        "{told}"
    );
    at.replace_model(&fs::read(tiny()).unwrap());
    assert_eq!(at.ask().unwrap(), PARIS);
}

#[test]
fn a_model_whose_file_is_cut_while_it_is_mapped_ends_its_call_and_the_next_one_says_what_is_wrong()
{
    let mut at = Fixture::new("cut", &[]);
    assert_eq!(at.ask().unwrap(), PARIS);
    // The weights begin far behind.
    File::options()
        .write(true)
        .open(at.model())
        .unwrap()
        .set_len(4096)
        .unwrap();
    assert_eq!(
        at.ask().unwrap_err(),
        "the model's process stopped unexpectedly (signal: 7 (SIGBUS): a part of its file could not be read, since it was cut while it was loaded or its disk fails); try again, the next call starts a new process"
    );
    let truncated = "the model file `crab.gguf` is truncated: it has 4096 bytes";
    for _ in 0..2 {
        let told = at.ask().unwrap_err();
        assert!(told.starts_with(truncated), "{told}");
        assert!(
            told.ends_with("try again once the file has changed"),
            "{told}"
        );
    }
    at.replace_model(&fs::read(tiny()).unwrap());
    assert_eq!(at.ask().unwrap(), PARIS);
}

#[test]
fn a_model_whose_file_is_replaced_is_the_new_one_from_its_next_load_on() {
    let mut at = Fixture::new("replaced", &[]);
    let tokens = |result: ToolResult| result.generation["prompt_tokens"].as_u64().unwrap();
    let before = tokens(at.call());
    let other = tiny_with_template(
        "other.gguf",
        "{{ messages[-1].content }} and so on and so on",
    );
    at.replace_model(&fs::read(&other.0).unwrap());
    assert_eq!(tokens(at.call()), before);
    idle(&mut at);
    assert_ne!(tokens(at.call()), before);
    at.replace_model(b"no model");
    assert_ne!(tokens(at.call()), before);
    idle(&mut at);
    let told = at.ask().unwrap_err();
    assert!(told.contains("is not a GGUF model file"), "{told}");
    at.replace_model(&fs::read(tiny()).unwrap());
    assert_eq!(tokens(at.call()), before);
}

#[test]
fn a_full_disk_under_the_log_costs_the_log_alone() {
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
