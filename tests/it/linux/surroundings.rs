//! The environment of a server: individually mounted files, no `/proc`, resource limits, a cleaned folder for temporary files.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::config::{Folder, text};
use crate::support::http::HttpServer;
use crate::support::{Server, program, tiny};

/// Returns a configuration with one model, called `name`.
fn file(name: &str) -> String {
    format!("[models.{name}]\npath = \"crab.gguf\"\nn_threads = 1\ntemperature = 0\n")
}

/// Returns a command that runs `script` with `arguments` as root in new namespaces; `None` if the system does not allow that.
fn isolated<T: AsRef<OsStr>>(script: &str, arguments: &[T]) -> Option<Command> {
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command
            .args([
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                script,
                "sh",
            ])
            .env_remove("RUST_LOG")
            .env_remove("LLAMA_MCP_AUTH");
        command
    };
    let mut trial = unshared("mount -t tmpfs none /proc && ulimit -l 64");
    let tried = trial.stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut command = unshared(script);
    command.args(arguments);
    Some(command)
}

/// Replaces the file at `path` with a new one that contains `text`.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn edits_of_an_individually_mounted_file_are_live_and_its_replacement_is_reported() {
    let inside = Folder::new("mounted-inside", "");
    let outside = Folder::empty("mounted-outside");
    outside.write("host.toml", &file("one"));
    let host = outside.0.join("host.toml");
    let mounted = inside.0.join("llama-mcp-server.toml");
    let script =
        "mount --bind \"$1\" \"$2\" && exec \"$3\" --config \"$2\" --transport http --port 0";
    let program_file = program().get_program().to_owned();
    let arguments = [host.as_os_str(), mounted.as_os_str(), &program_file];
    let Some(command) = isolated(script, &arguments) else {
        return;
    };
    let server = HttpServer::spawn(command);
    fs::write(&host, file("two")).unwrap();
    server.wait_for_log("model two: added");
    replace(&host, &file("three"));
    let message = "the file was replaced outside of this mount; mount its folder";
    server.wait_for_log(message);
    let url = format!("http://{}", server.address);
    let status = program().args(["status", "--url", &url]).output().unwrap();
    let status = text(status.stdout);
    assert!(status.contains(message), "{status}");
}

#[test]
fn doctor_and_the_check_report_a_replaced_mounted_file() {
    let inside = Folder::new("doctor-inside", "");
    let outside = Folder::empty("doctor-outside");
    outside.write("host.toml", &file("one"));
    outside.write("new.toml", &file("two"));
    let [host, new] = ["host.toml", "new.toml"].map(|name| outside.0.join(name));
    let mounted = inside.0.join("llama-mcp-server.toml");
    let program_file = program().get_program().to_owned();
    let script = "mount --bind \"$1\" \"$2\" && mv \"$3\" \"$1\" && \"$4\" doctor --config \"$2\" && exec \"$4\" config check \"$2\"";
    let arguments = [
        host.as_os_str(),
        mounted.as_os_str(),
        new.as_os_str(),
        &program_file,
    ];
    let Some(mut command) = isolated(script, &arguments) else {
        return;
    };
    let stdout = text(command.output().unwrap().stdout);
    let warning = format!(
        "`{}`: the file was replaced outside of this mount",
        mounted.display()
    );
    let doctor = format!("warning  configuration: {warning}");
    let check = format!("\nwarning[stale_mount]: {warning}");
    assert!(
        stdout.contains(&doctor) && stdout.contains(&check),
        "{stdout}"
    );
}

#[test]
fn models_load_without_proc() {
    let script = "mount -t tmpfs none /proc && exec \"$1\" --model \"$2\" --n_threads 1";
    let program_file = program().get_program().to_owned();
    let model = tiny();
    let Some(command) = isolated(script, &[&program_file, model.as_os_str()]) else {
        return;
    };
    let mut server = Server::spawn(command);
    server.wait_for_log("the memory of this machine is unknown");
    let answer = server.chat(json!({"text": "What is the capital of Peru?", "temperature": 0}));
    assert_eq!(answer.text, "The capital of Peru is Lima.");
}

#[test]
fn refused_memory_locks_are_logged_once_and_doctor_reports_them_beforehand() {
    let folder = Folder::new("unlocked", &(file("a") + "mlock = true\n"));
    let script = "ulimit -l 64 && cd \"$1\" && shift && exec \"$@\"";
    let program_file = program().get_program().to_owned();
    let server = [folder.0.as_os_str(), &program_file];
    let Some(command) = isolated(script, &server) else {
        return;
    };
    let doctor = [&server[..], &[OsStr::new("doctor")]].concat();
    let stdout = text(isolated(script, &doctor).unwrap().output().unwrap().stdout);
    assert!(
        stdout.contains("warning  model a: `mlock` will have no effect: "),
        "{stdout}"
    );
    assert!(
        stdout.contains("`docker run --ulimit memlock=-1`"),
        "{stdout}"
    );
    let mut server = Server::spawn(command);
    let call = server.call_tool("a", json!({"text": "Hi", "max_tokens": 1}));
    server.result(call);
    let log = server.end();
    let message = "`mlock` has no effect, so the weights can be swapped out: the system lets a process lock 64 KiB";
    assert_eq!(log.matches(message).count(), 1, "{log}");
}

#[test]
fn too_few_open_files_for_the_connections_are_reported_at_the_start() {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 100 && exec \"$0\" \"$@\""])
        .arg(program().get_program())
        .arg("--model")
        .arg(tiny());
    let server = HttpServer::spawn(command);
    server.wait_for_log("but the system lets this process open 100 files");
}

#[test]
fn cpu_locks_survive_a_cleaned_folder_for_temporary_files() {
    let folder = Folder::new("cleaned", &(file("a") + &file("b")));
    let temporary = folder.0.join("tmp");
    fs::create_dir(&temporary).unwrap();
    // With `/proc`, the locks are in memory.
    let script = "mount -t tmpfs none /proc && cd \"$1\" && exec \"$2\"";
    let arguments = [folder.0.as_os_str(), program().get_program()].map(OsStr::to_owned);
    let Some(mut command) = isolated(script, &arguments) else {
        return;
    };
    command
        .env("TMPDIR", &temporary)
        .env("RUST_LOG", "llama_mcp_server=debug");
    let mut server = Server::spawn(command);
    let id = server.request("tools/list", json!({}));
    server.response(id);
    let locks: Vec<_> = fs::read_dir(&temporary).unwrap().collect();
    assert!(!locks.is_empty());
    for lock in locks {
        fs::remove_file(lock.unwrap().path()).unwrap();
    }
    let calls =
        ["a", "b"].map(|name| server.call_tool(name, json!({"text": "Hi", "max_tokens": 1})));
    for call in calls {
        assert!(!server.result(call).is_error);
    }
    let log = server.end();
    for message in [
        "turns at the CPUs",
        "CPU turns",
        "could not create a lock file",
    ] {
        assert!(!log.contains(message), "{log}");
    }
}
