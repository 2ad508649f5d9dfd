//! Model files that are missing, incomplete, unreadable or replaced, next to models that work.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::config::{Folder, text};
use crate::support::http::HttpServer;
use crate::support::{LIMIT, Server, signal_process, smollm2, tiny, wait_for_end_of, workers_of};

const PERU: &str = "What is the capital of Peru?";
const LIMA: &str = "The capital of Peru is Lima.";

/// Returns a configuration of a model that works and a model whose file the tests change, with a tool for each.
fn two_models(more: &str) -> String {
    format!(
        "
[models.works]
path = \"crab.gguf\"
n_threads = 1
temperature = 0
{more}
[models.late]
path = \"late.gguf\"
n_threads = 1
temperature = 0
idle_ttl = \"never\"
[tools.capital]
model = \"late\"
description = \"Names the capital of Peru.\"
prompt = \"{PERU}\"
"
    )
}

fn serve(folder: &Folder) -> Server {
    let mut server = folder.serve();
    server.initialize();
    server
}

fn tools(server: &mut Server) -> Value {
    let id = server.request("tools/list", json!({}));
    server.response(id)["result"]["tools"].take()
}

fn names(server: &mut Server) -> Vec<String> {
    let tools = tools(server);
    let names = tools.as_array().unwrap().iter();
    names
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Returns the answer of the tool called `name`, or its error.
fn ask(server: &mut Server, name: &str) -> Result<String, String> {
    let arguments = match name {
        "capital" => json!({}),
        _ => json!({"text": PERU}),
    };
    let id = server.call_tool(name, arguments);
    let result = server.result(id);
    if result.is_error {
        Err(result.text)
    } else {
        Ok(result.text)
    }
}

#[test]
fn a_missing_or_incomplete_file_does_not_affect_other_models_and_works_once_it_is_there() {
    let folder = Folder::new("late", &two_models(""));
    let mut server = serve(&folder);
    server.wait_for_log("the model file `./late.gguf` does not exist");
    assert_eq!(names(&mut server), ["late", "works", "capital"]);
    assert_eq!(ask(&mut server, "works").unwrap(), LIMA);
    for tool in ["late", "capital"] {
        let error = ask(&mut server, tool).unwrap_err();
        assert!(
            error.starts_with("the model file `late.gguf` does not exist; check the path"),
            "{error}"
        );
    }
    let whole = fs::read(tiny()).unwrap();
    let path = folder.0.join("late.gguf");
    for (state, content, expected) in [
        ("begun", &whole[..100], "is truncated"),
        ("half there", &whole[..whole.len() / 2], "is truncated"),
        (
            "reserved",
            &vec![0; whole.len()],
            "is not a GGUF model file",
        ),
    ] {
        fs::write(&path, content).unwrap();
        let error = ask(&mut server, "late").unwrap_err();
        assert!(error.contains(expected), "{state}: {error}");
    }
    // Within one tick of the file system's clock, a rewrite of the same length would go unnoticed.
    let new = folder.0.join("new");
    fs::write(&new, &whole).unwrap();
    fs::rename(new, &path).unwrap();
    assert_eq!(ask(&mut server, "late").unwrap(), LIMA);
    assert_eq!(ask(&mut server, "capital").unwrap(), LIMA);
}

#[test]
fn a_complete_file_named_like_a_part_requires_no_other_parts() {
    let name = "late-00001-of-00002.gguf";
    let file = two_models("").replace("late.gguf", name);
    let folder = Folder::new("part", &file);
    let mut server = serve(&folder);
    let whole = fs::read(tiny()).unwrap();
    fs::write(folder.0.join(name), &whole).unwrap();
    assert_eq!(ask(&mut server, "late").unwrap(), LIMA);
}

#[test]
fn a_folder_and_an_unreadable_file_are_reported_and_work_once_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("unreadable", &two_models(""));
    let path = folder.0.join("late.gguf");
    // Docker creates a folder if a mounted file is missing.
    fs::create_dir(&path).unwrap();
    let mut server = serve(&folder);
    let error = ask(&mut server, "late").unwrap_err();
    assert!(error.contains("`late.gguf` is not a file"), "{error}");
    fs::remove_dir(&path).unwrap();
    fs::copy(tiny(), &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&path).is_err() {
        let error = ask(&mut server, "late").unwrap_err();
        assert!(error.contains("permission denied"), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(ask(&mut server, "late").unwrap(), LIMA);
}

#[test]
fn edits_apply_while_the_file_of_a_model_is_missing() {
    let folder = Folder::new("edits-go-on", &two_models(""));
    let mut server = serve(&folder);
    fs::write(
        folder.0.join("llama-mcp-server.toml"),
        two_models("max_tokens = 3\ncut_note = false"),
    )
    .unwrap();
    server.wait_for_log("model works: live (cut_note, max_tokens)");
    assert_eq!(ask(&mut server, "works").unwrap(), "The capital of");
    assert!(
        ask(&mut server, "late")
            .unwrap_err()
            .contains("does not exist")
    );
    fs::copy(tiny(), folder.0.join("late.gguf")).unwrap();
    assert_eq!(ask(&mut server, "late").unwrap(), LIMA);
}

#[test]
fn a_missing_file_is_an_error_in_config_check_and_for_the_model_flag() {
    let folder = Folder::new("checked", &two_models(""));
    let output = folder.run(&["config", "check"], &[]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(text(output.stderr), @r#"
    error[config_model]: `models.late.path`: the model file `./late.gguf` does not exist
     --> ./llama-mcp-server.toml:8:8
      |
    8 | path = "late.gguf"
      |        ^^^^^^^^^^^
      |
      = hint: check the path; in a configuration file, paths are relative to its folder
    "#);
    let output = folder.run(&["--model", "late.gguf"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(output.stderr);
    assert!(
        stderr.contains("the model file `late.gguf` does not exist"),
        "{stderr}"
    );
}

#[test]
fn a_replaced_file_is_served_after_the_next_reload_and_running_calls_finish_in_the_old_process() {
    let folder = Folder::new(
        "replaced",
        &two_models("").replace(
            "[tools",
            "pin = true\n[registry]\nstall_timeout = \"never\"\n[tools",
        ),
    );
    let path = folder.0.join("late.gguf");
    fs::copy(tiny(), &path).unwrap();
    let mut server = serve(&folder);
    let song = server.call_tool("late", json!({"text": "Sing forever.", "max_tokens": 4000}));
    server.wait_for_progress(song, |message| message.starts_with("la la"));
    let former = workers_of(server.child.id())[0];
    // A stopped worker keeps the song running in the meantime.
    signal_process(former, "STOP");
    let new = folder.0.join("new");
    fs::copy(smollm2(), &new).unwrap();
    fs::rename(new, &path).unwrap();
    server.signal("HUP");
    server.wait_for_log("model late: restart (the file)");
    let titles = tools(&mut server);
    assert_ne!(titles[0]["title"], "Chat with Late");
    let id = server.call_tool("late", json!({"text": "Hi", "max_tokens": 5}));
    assert!(!server.result(id).is_error);
    assert_eq!(workers_of(server.child.id()).len(), 2);
    assert!(!server.has_answered(song));
    signal_process(former, "CONT");
    server.cancel(song);
    wait_for_end_of(former);
    // Nothing has changed since then, so the process stays.
    let worker = workers_of(server.child.id());
    server.signal("HUP");
    server.wait_for_log("nothing changes");
    let id = server.call_tool("late", json!({"text": "Hi", "max_tokens": 5}));
    assert!(!server.result(id).is_error);
    assert_eq!(workers_of(server.child.id()), worker);
}

#[test]
fn a_loaded_model_whose_file_is_gone_answers_through_reloads_until_the_file_can_be_loaded() {
    let folder = Folder::new("gone", &two_models(""));
    let path = folder.0.join("late.gguf");
    fs::copy(tiny(), &path).unwrap();
    let mut server = serve(&folder);
    let ask = |server: &mut Server| ask(server, "late").unwrap();
    assert_eq!(ask(&mut server), LIMA);
    let loaded = workers_of(server.child.id());
    fs::remove_file(&path).unwrap();
    server.signal("HUP");
    server.wait_for_log("late.gguf` does not exist");
    assert_eq!(ask(&mut server), LIMA);
    assert_eq!(workers_of(server.child.id()), loaded);
    // The beginning of a copy.
    fs::write(&path, &fs::read(tiny()).unwrap()[..90_000]).unwrap();
    server.signal("HUP");
    server.wait_for_log("is truncated");
    assert_eq!(ask(&mut server), LIMA);
    fs::copy(tiny(), &path).unwrap();
    server.signal("HUP");
    server.wait_for_log("model late: restart (the file)");
    assert_eq!(ask(&mut server), LIMA);
    assert_ne!(workers_of(server.child.id()), loaded);
}

#[test]
fn the_status_shows_that_a_model_can_never_have_its_memory() {
    let config = two_models("") + "[registry]\nmemory_budget = \"16MiB\"\n";
    let folder = Folder::new("never-fits-status", &config);
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let url = format!("http://{}", server.address);
    let report = folder.run(&["status", "--url", &url, "--format", "json"], &[]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["models"][1]["name"], "works");
    assert_eq!(report["models"][1]["state"], "failed");
    let error = report["models"][1]["error"].as_str().unwrap();
    assert!(
        error.contains("all models together may take 16.0 MiB"),
        "{error}"
    );
}

#[test]
fn the_status_shows_the_fault_of_a_file_before_any_call_until_it_is_fixed() {
    let folder = Folder::new("file-status", &two_models(""));
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let url = format!("http://{}", server.address);
    // On a busy machine the check of the files may take longer than the status waits for it.
    let wait_for_fault = |expected: bool| {
        let started = Instant::now();
        loop {
            let stdout = text(folder.run(&["status", "--url", &url], &[]).stdout);
            let has_fault = stdout.contains("late: the model file") && stdout.contains("failed");
            if has_fault == expected {
                return;
            }
            assert!(started.elapsed() < LIMIT, "{stdout}");
        }
    };
    wait_for_fault(true);
    fs::copy(tiny(), folder.0.join("late.gguf")).unwrap();
    wait_for_fault(false);
    fs::remove_file(folder.0.join("late.gguf")).unwrap();
    wait_for_fault(true);
}
