//! Edits of the configuration while the server runs.

mod broken;
mod many;

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::config::Folder;
use crate::support::http::{Client, Events, HttpServer};
use crate::support::{Server, program, signal_process, wait_for_end_of, workers_of};

const FRANCE: &str = "What is the capital of France?";
const PARIS: &str = "The capital of France is Paris.";

/// Returns a configuration of one model, called `name`, with `more` keys.
fn file(name: &str, more: &str) -> String {
    format!("[models.{name}]\npath = \"crab.gguf\"\nn_threads = 1\ntemperature = 0\n{more}\n")
}

fn serve(folder: &Folder) -> Server {
    let mut server = folder.serve();
    server.initialize();
    server
}

fn tools(server: &mut Server) -> Vec<String> {
    let id = server.request("tools/list", json!({}));
    let tools = &server.response(id)["result"]["tools"];
    let tools = tools.as_array().unwrap().iter();
    tools
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Saves a new text over an existing file.
type Save = fn(&Path, &str);

#[test]
fn an_edit_is_noticed_however_it_is_saved() {
    let ways: [(&str, Save); 5] = [
        ("in place", |path, text| fs::write(path, text).unwrap()),
        ("in pieces", |path, text| {
            use std::io::Write;
            let mut file = fs::File::create(path).unwrap();
            for piece in text.as_bytes().chunks(20) {
                file.write_all(piece).unwrap();
                file.sync_all().unwrap();
            }
        }),
        ("with an atomic rename", |path, text| {
            let new = path.with_extension("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, path).unwrap();
        }),
        ("with a backup of the old file", |path, text| {
            fs::rename(path, path.with_extension("toml~")).unwrap();
            fs::write(path, text).unwrap();
        }),
        ("removed and written again", |path, text| {
            fs::remove_file(path).unwrap();
            fs::write(path, text).unwrap();
        }),
    ];
    for watch in ["auto", "poll"] {
        let head = format!("[server]\nwatch = \"{watch}\"\n");
        let folder = Folder::new("ways", &(head.clone() + &file("first", "")));
        let mut server = serve(&folder);
        let path = folder.0.join("llama-mcp-server.toml");
        for (number, (way, save)) in ways.iter().enumerate() {
            let name = format!("tool{number}");
            save(&path, &(head.clone() + &file(&name, "")));
            server.wait_for_notification("notifications/tools/list_changed");
            assert_eq!(tools(&mut server), [name], "{way}, {watch}");
        }
    }
}

#[test]
fn a_file_is_not_read_while_a_program_has_it_open_unless_a_signal_asks_for_it() {
    use std::io::Write;

    let folder = Folder::new("open", &file("a", ""));
    let mut command = program();
    command
        .current_dir(&folder.0)
        .env("RUST_LOG", "llama_mcp_server=debug");
    let mut server = Server::spawn(command);
    server.wait_for_log("the files of the configuration are watched");
    // A valid configuration, but only the beginning of the file.
    let mut writer = fs::File::create(folder.0.join("llama-mcp-server.toml")).unwrap();
    writer.write_all(file("b", "").as_bytes()).unwrap();
    server.wait_for_log("is still open for writing");
    assert_eq!(tools(&mut server), ["a"]);
    server.signal("HUP");
    server.wait_for_notification("notifications/tools/list_changed");
    assert_eq!(tools(&mut server), ["b"]);
    writer.write_all(file("c", "").as_bytes()).unwrap();
    drop(writer);
    server.wait_for_notification("notifications/tools/list_changed");
    assert_eq!(tools(&mut server), ["b", "c"]);
}

#[test]
fn a_mounted_folder_whose_link_is_replaced_is_noticed() {
    use std::os::unix::fs::symlink;
    // Kubernetes mounts a ConfigMap in this way: the file is a link through the link `..data`, which is replaced.
    let folder = Folder::new("mounted", "");
    let mounted = |data: &str, name: &str| {
        fs::create_dir(folder.0.join(data)).unwrap();
        fs::copy(
            folder.0.join("crab.gguf"),
            folder.0.join(data).join("crab.gguf"),
        )
        .unwrap();
        fs::write(
            folder.0.join(data).join("llama-mcp-server.toml"),
            file(name, ""),
        )
        .unwrap();
        symlink(data, folder.0.join("..data_tmp")).unwrap();
        fs::rename(folder.0.join("..data_tmp"), folder.0.join("..data")).unwrap();
    };
    mounted("..2026_01", "one");
    let path = folder.0.join("llama-mcp-server.toml");
    fs::remove_file(&path).unwrap();
    symlink("..data/llama-mcp-server.toml", &path).unwrap();
    let mut server = serve(&folder);
    for (data, name) in [("..2026_02", "two"), ("..2026_03", "three")] {
        mounted(data, name);
        server.wait_for_notification("notifications/tools/list_changed");
        assert_eq!(tools(&mut server), [name]);
    }
}

#[test]
fn files_that_the_configuration_includes_are_watched_too() {
    let folder = Folder::new("named", &file("a", "description = \"${file:about.txt}\""));
    fs::write(folder.0.join("about.txt"), "first").unwrap();
    let mut server = serve(&folder);
    fs::write(folder.0.join("about.txt"), "second").unwrap();
    server.wait_for_notification("notifications/tools/list_changed");
    let id = server.request("tools/list", json!({}));
    let tools = server.response(id);
    let about = tools["result"]["tools"][0]["description"].as_str().unwrap();
    assert!(about.starts_with("second"), "{about}");
}

#[test]
fn without_a_watcher_a_signal_reloads_the_configuration() {
    let head = "[server]\nwatch = \"off\"\n";
    let folder = Folder::new("signal", &format!("{head}{}", file("a", "")));
    let mut server = serve(&folder);
    let path = folder.0.join("llama-mcp-server.toml");
    fs::write(path, format!("{head}{}", file("b", ""))).unwrap();
    server.signal("HUP");
    server.wait_for_notification("notifications/tools/list_changed");
    assert_eq!(tools(&mut server), ["b"]);
}

#[test]
fn a_broken_edit_changes_nothing_and_is_reported_as_by_config_check() {
    let folder = Folder::new("broken", &file("a", ""));
    let mut server = serve(&folder);
    let path = folder.0.join("llama-mcp-server.toml");
    fs::write(&path, file("b", "temprature = 1")).unwrap();
    server.wait_for_log("did you mean `temperature`?");
    assert_eq!(tools(&mut server), ["a"]);
    fs::write(&path, file("b", "temperature = 1")).unwrap();
    server.wait_for_log("duplicate key");
    fs::write(&path, file("b", "")).unwrap();
    server.wait_for_notification("notifications/tools/list_changed");
    assert_eq!(tools(&mut server), ["b"]);
}

#[test]
fn changed_launch_settings_apply_to_new_calls_while_running_ones_finish_in_the_old_process() {
    let folder = Folder::new("restart", &file("a", ""));
    let mut server = serve(&folder);
    let (running, former) = server.call_with_stopped_worker("a");
    let path = folder.0.join("llama-mcp-server.toml");
    fs::write(
        &path,
        file("a", "n_ctx = 2048\nmax_tokens = 3\ncut_note = false"),
    )
    .unwrap();
    server.wait_for_log("model a: restart (n_ctx), live (cut_note, max_tokens)");
    let id = server.call_tool("a", json!({"text": FRANCE}));
    // A new process with the new settings runs next to the old one.
    assert_eq!(server.result(id).text, "The capital of");
    assert_eq!(workers_of(server.child.id()).len(), 2);
    assert!(!server.has_answered(running));
    signal_process(former, "CONT");
    assert!(!server.result(running).is_error);
    wait_for_end_of(former);
    assert_eq!(workers_of(server.child.id()).len(), 1);
}

#[test]
fn live_keys_do_not_restart_the_worker() {
    let folder = Folder::new("live", &file("a", ""));
    let mut server = serve(&folder);
    let id = server.call_tool("a", json!({"text": FRANCE}));
    assert_eq!(server.result(id).text, PARIS);
    let worker = workers_of(server.child.id());
    let path = folder.0.join("llama-mcp-server.toml");
    fs::write(
        &path,
        file("a", "max_tokens = 3\ncut_note = false\npin = true"),
    )
    .unwrap();
    server.wait_for_log("model a: live (cut_note, max_tokens, pin)");
    let id = server.call_tool("a", json!({"text": FRANCE}));
    assert_eq!(server.result(id).text, "The capital of");
    assert_eq!(workers_of(server.child.id()), worker);
}

#[test]
fn a_call_of_a_removed_tool_says_that_it_was_removed() {
    let folder = Folder::new("removed", &(file("a", "") + &file("b", "")));
    let mut server = serve(&folder);
    fs::write(folder.0.join("llama-mcp-server.toml"), file("b", "")).unwrap();
    server.wait_for_notification("notifications/tools/list_changed");
    let id = server.call_tool("a", json!({"text": FRANCE}));
    let result = server.result(id);
    assert!(result.is_error);
    assert_eq!(
        result.text,
        "the tool `a` was removed by a reload of the configuration; available: `b`"
    );
}

#[test]
fn over_http_sessions_are_notified_and_tokens_and_request_checks_are_live() {
    let head = |token: &str| format!("[server]\nauth = \"{token}\"\n");
    let folder = Folder::new("http", &(head("one") + &file("a", "")));
    let path = folder.0.join("llama-mcp-server.toml");
    let server = HttpServer::with_config(&path);
    let mut client = Client::new(server.url(), &[("Authorization", "Bearer one")]);
    client.initialize();
    let mut notifications = Events::new(client.send("GET", None));
    fs::write(&path, head("one") + &file("b", "")).unwrap();
    let notification = notifications.next().unwrap();
    assert_eq!(notification["method"], "notifications/tools/list_changed");
    fs::write(&path, head("two") + "port = 7\n" + &file("b", "")).unwrap();
    server.wait_for_log("server: live (auth)");
    assert!(
        notifications.all(|message| message["method"] == "notifications/tools/list_changed"),
        "it ends"
    );
    assert_eq!(client.send("DELETE", None).status(), 401);
    client.header("Authorization", "Bearer two");
    assert_eq!(client.send("DELETE", None).status(), 204);
}

#[test]
fn a_token_in_a_file_of_its_own_is_live_too() {
    let head = "[server]\nauth_file = \"token\"\n";
    let folder = Folder::new("token", &(head.to_owned() + &file("a", "")));
    fs::write(folder.0.join("token"), "one\n").unwrap();
    let server = HttpServer::with_config(&folder.0.join("llama-mcp-server.toml"));
    let mut client = Client::new(server.url(), &[("Authorization", "Bearer one")]);
    client.initialize();
    fs::write(folder.0.join("token"), "two\n").unwrap();
    server.wait_for_log("server: live (auth)");
    assert_eq!(client.send("DELETE", None).status(), 401);
    client.header("Authorization", "Bearer two");
    assert_eq!(client.send("DELETE", None).status(), 204);
}

#[test]
fn a_changed_number_of_model_slots_applies_at_once() {
    let head = |max: usize| format!("[registry]\nmax_loaded = {max}\n");
    let models = file("a", "") + &file("b", "");
    let folder = Folder::new("room", &(head(1) + &models));
    let mut server = serve(&folder);
    let path = folder.0.join("llama-mcp-server.toml");
    let (running, busy) = server.call_with_stopped_worker("a");
    let waiting = server.call_tool("b", json!({"text": FRANCE}));
    server.wait_for_progress(waiting, |message| {
        message.starts_with("waiting until a busy model")
    });
    fs::write(&path, head(2) + &models).unwrap();
    assert_eq!(server.result(waiting).text, PARIS);
    let mut workers = workers_of(server.child.id());
    assert_eq!(workers.len(), 2);
    assert!(!server.has_answered(running));
    signal_process(busy, "CONT");
    assert!(!server.result(running).is_error);
    workers.retain(|worker| *worker != busy);
    fs::write(&path, head(1) + &models).unwrap();
    // The model that has been idle for longer is evicted.
    wait_for_end_of(workers[0]);
    assert_eq!(workers_of(server.child.id()), [busy]);
}

#[test]
fn a_pipe_in_place_of_the_file_blocks_nothing() {
    let folder = Folder::new("pipe", &file("a", ""));
    let mut server = serve(&folder);
    let path = folder.0.join("llama-mcp-server.toml");
    fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    server.wait_for_log("it is a pipe or a device; save its text to a file");
    fs::remove_file(&path).unwrap();
    fs::write(&path, file("b", "")).unwrap();
    server.wait_for_notification("notifications/tools/list_changed");
    assert_eq!(tools(&mut server), ["b"]);
}

#[test]
fn keys_that_require_a_restart_of_the_server_are_named() {
    let folder = Folder::new("address", &file("a", ""));
    let mut server = serve(&folder);
    let path = folder.0.join("llama-mcp-server.toml");
    let head = "[server]\ntransport = \"http\"\nport = 0\n[log]\nlevel = \"debug\"\n";
    fs::write(&path, format!("{head}{}", file("b", ""))).unwrap();
    server.wait_for_log("requires a restart of the server: server.transport, log.level");
    // All other changes are live.
    assert_eq!(tools(&mut server), ["b"]);
    // Pending changes are computed against the running settings, not against the last edit.
    fs::write(&path, file("c", "")).unwrap();
    server.wait_for_notification("notifications/tools/list_changed");
    let plan = "the new configuration is active\nmodel b: removed\nmodel c: added\n";
    server.wait_for_log(plan);
    let log = server.end();
    assert_eq!(
        log.matches("requires a restart of the server").count(),
        1,
        "{log}"
    );
}

#[test]
fn config_diff_describes_the_effect_of_an_edit_without_a_server() {
    let folder = Folder::new("plan", &file("a", ""));
    fs::write(
        folder.0.join("new.toml"),
        file("a", "parallel = 2\ntop_k = 1"),
    )
    .unwrap();
    let diff = |old: &str, new: &str| {
        let output = folder.run(&["config", "diff", old, new], &[]);
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let plan = "model a: restart (parallel), live (top_k)\n".to_owned();
    assert_eq!(diff("llama-mcp-server.toml", "new.toml"), (Some(0), plan));
    let nothing = "nothing changes\n".to_owned();
    assert_eq!(diff("new.toml", "new.toml"), (Some(0), nothing));
    assert_eq!(diff("new.toml", "none.toml").0, Some(2));
}
