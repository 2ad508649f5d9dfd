//! The `doctor` command and its report.

use std::process::Output;

use crate::support::config::Folder;
use crate::support::http::HttpServer;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn all_output(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn without_a_configuration_doctor_describes_the_machine() {
    let folder = Folder::new("doctor-alone", "");
    std::fs::remove_file(folder.0.join("llama-mcp-server.toml")).unwrap();
    let output = folder.run(&["doctor"], &[]);
    let stdout = all_output(&output);
    assert!(output.status.success(), "{stdout}");
    for found in [
        "ok       build: llama-mcp-server",
        "ok       cpu: ",
        "ok       threads: ",
        "ok       kernel: llama.cpp CPU backend: ",
        "  memory: ",
        "ok       configuration: none",
    ] {
        assert!(stdout.contains(found), "{found}: {stdout}");
    }
}

#[test]
fn doctor_checks_the_models_the_disk_and_the_port_of_a_configuration() {
    let folder = Folder::new(
        "doctor",
        "[server]\ntransport = 'http'\nport = 0\n[models.small]\npath = 'crab.gguf'\n",
    );
    let output = folder.run(&["doctor"], &[]);
    let stdout = all_output(&output);
    assert!(output.status.success(), "{stdout}");
    assert!(stdout.contains("  model small: `"), "{stdout}");
    assert!(stdout.contains("llama, trained for "), "{stdout}");
    assert!(stdout.contains("  disk for temporary files: "), "{stdout}");
    assert!(stdout.contains("port: 127.0.0.1:0 is free"), "{stdout}");
}

#[test]
fn a_port_used_by_another_program_is_a_problem_but_not_by_this_server() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = |port: u16| {
        let file = format!(
            "[server]\ntransport = 'http'\nport = {port}\n[models.small]\npath = 'crab.gguf'\n"
        );
        let folder = Folder::new("doctor-port", &file);
        folder.run(&["doctor"], &[])
    };
    let taken = other.local_addr().unwrap().port();
    // The other program never answers, so `doctor` waits for its timeout.
    let closes = std::thread::spawn(move || drop(other.accept()));
    let output = at(taken);
    closes.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stdout = text(&output.stdout);
    assert!(stdout.contains("PROBLEM  port: "), "{stdout}");
    let server = HttpServer::tiny(&[]);
    // On a busy machine the server may take longer to answer than `doctor` waits.
    let mut outputs = (0..10).map(|_| at(server.address.port()));
    let output = outputs.find(|output| output.status.success());
    let stdout = text(&output.expect("one of ten finds nothing wrong").stdout);
    assert!(
        stdout.contains("a llama-mcp-server is already running there"),
        "{stdout}"
    );
}

#[test]
fn doctor_reports_problems_of_a_configuration_like_config_check() {
    let folder = Folder::new("doctor-wrong", "[models.small]\npath = 'none.gguf'\n");
    let output = folder.run(&["doctor"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let stdout = text(&output.stdout);
    assert!(
        stdout.contains("PROBLEM  configuration: error[config_model]"),
        "{stdout}"
    );
}

#[test]
fn a_model_that_can_never_fit_is_a_problem() {
    let file = "[registry]\nmemory_budget = '20MiB'\n[models.small]\npath = 'crab.gguf'\n";
    let folder = Folder::new("doctor-tight", file);
    let output = folder.run(&["doctor"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let stdout = text(&output.stdout);
    assert!(stdout.contains("warning  model small: "), "{stdout}");
    assert!(
        stdout.contains("with the problems below; 20.0 MiB for models"),
        "{stdout}"
    );
    assert!(stdout.contains("PROBLEM  configuration: "), "{stdout}");
}

#[test]
fn the_report_of_an_invalid_configuration_omits_its_texts() {
    for broken in [
        "system = \"I am a private person.\n",
        "prompt_suffix = 7\nsystem = 'I am a private person.'",
        "chat_template = '{{ I am a private person'",
    ] {
        let file = format!("[models.small]\npath = 'crab.gguf'\n{broken}\n");
        let folder = Folder::new("doctor-broken", &file);
        let output = folder.run(&["doctor", "--bundle"], &[]);
        assert_eq!(output.status.code(), Some(1), "{}", all_output(&output));
        let report = folder.0.join("llama-mcp-server-report.txt");
        let report = std::fs::read_to_string(report).unwrap();
        assert!(report.contains("llama-mcp-server.toml:3:"), "{report}");
        assert!(!report.contains("private person"), "{report}");
    }
}

#[test]
fn the_report_contains_no_secrets_and_no_prompts() {
    let file = "[server]\nauth = 'topsecret'\n[models.small]\npath = 'crab.gguf'\nsystem = 'I am a private person.'\n\
        [tools.ask]\nprompt = '{{ it }}'\narguments.it.description = 'What a private person asks.'\n";
    let folder = Folder::new("doctor-report", file);
    let output = folder.run(&["doctor", "--bundle", "report.txt"], &[]);
    assert!(output.status.success(), "{}", all_output(&output));
    let report = std::fs::read_to_string(folder.0.join("report.txt")).unwrap();
    assert!(report.contains("[models.small]"), "{report}");
    assert!(report.contains("kernel: "), "{report}");
    assert!(
        !report.contains("topsecret") && !report.contains("private person"),
        "{report}"
    );
    let again = folder.run(&["doctor", "--bundle", "report.txt"], &[]);
    assert_eq!(again.status.code(), Some(1), "a report is not overwritten");
    assert!(text(&again.stderr).contains("could not write the report `report.txt`"));
}
