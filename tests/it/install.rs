//! The `install` command registers the server with clients, which can then start it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::config::{Folder, ONE_MODEL, text};
use crate::support::{Server, program, tiny};

/// A home directory with nothing but folders and files of clients.
struct Home(Folder);

impl Home {
    fn new(name: &str) -> Self {
        Self(Folder::new(name, ONE_MODEL))
    }

    /// Creates a home directory with the folder of a client.
    fn with(name: &str, folder: &str) -> Self {
        let home = Self::new(name);
        std::fs::create_dir_all(home.path(folder)).unwrap();
        home
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.0.join(file)
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).unwrap();
    }

    fn install(&self, arguments: &[&str]) -> Output {
        let mut command = program();
        command
            .current_dir(&self.0.0)
            .env("HOME", &self.0.0)
            .env("XDG_CONFIG_HOME", self.path(".config"))
            .env_remove("CLAUDE_CONFIG_DIR")
            .arg("install")
            .args(arguments);
        command.output().unwrap()
    }

    /// Runs `install`, which must succeed. Returns its output, with this home as `~` and this program as `PROGRAM`.
    fn installed(&self, arguments: &[&str]) -> String {
        let output = self.install(arguments);
        assert_eq!(text(output.stderr), "", "{arguments:?}");
        self.redact(output.stdout)
    }

    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.install(arguments);
        assert_eq!(text(output.stdout), "");
        (output.status.code().unwrap(), self.redact(output.stderr))
    }

    fn redact(&self, output: Vec<u8>) -> String {
        text(output)
            .replace(self.0.0.to_str().unwrap(), "~")
            .replace(env!("CARGO_BIN_EXE_llama-mcp-server"), "PROGRAM")
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

const CURSOR: &str = ".cursor/mcp.json";

/// Starts the server as the client would, from another folder and without this environment, and checks that it answers.
fn start(entry: &Value) {
    let mut command = Command::new(entry["command"].as_str().unwrap());
    let arguments = entry["args"].as_array().unwrap();
    command
        .current_dir("/")
        .env_clear()
        .args(arguments.iter().map(|argument| argument.as_str().unwrap()));
    let mut server = Server::spawn(command);
    let tools = server.request("tools/list", json!({}));
    let tool = server.response(tools)["result"]["tools"][0]["name"].clone();
    let question = json!({"text": "What is the capital of Peru?", "temperature": 0});
    let call = server.call_tool(tool.as_str().unwrap(), question);
    let result = server.result(call);
    assert_eq!(result.text, "The capital of Peru is Lima.");
}

#[test]
#[cfg(target_os = "linux")]
fn every_client_can_start_the_registered_server() {
    for (client, file, key) in [
        (
            "claude-desktop",
            ".config/Claude/claude_desktop_config.json",
            "mcpServers",
        ),
        ("claude-code", ".claude.json", "mcpServers"),
        ("cursor", CURSOR, "mcpServers"),
        ("vscode", ".config/Code/User/mcp.json", "servers"),
        ("zed", ".config/zed/settings.json", "context_servers"),
        ("lmstudio", ".lmstudio/mcp.json", "mcpServers"),
    ] {
        let home = Home::with(client, Path::new(file).parent().unwrap().to_str().unwrap());
        home.write(file, "{\"theirs\": [1, 2]}");
        home.installed(&[client, "--model", "crab.gguf"]);
        let written: Value = serde_json::from_str(&home.read(file)).unwrap();
        assert_eq!(written["theirs"], json!([1, 2]), "{client}");
        let entry = &written[key]["llama"];
        let has_type = ["claude-code", "vscode"].contains(&client);
        assert_eq!(
            entry["type"],
            json!(has_type.then_some("stdio")),
            "{client}"
        );
        start(entry);
        home.installed(&[client, "--remove"]);
        assert_eq!(
            serde_json::from_str::<Value>(&home.read(file)).unwrap(),
            json!({"theirs": [1, 2], key: {}})
        );
    }
}

#[test]
fn install_reports_what_it_wrote_and_the_next_step() {
    let home = Home::with("says", ".lmstudio");
    insta::assert_snapshot!(home.installed(&["lmstudio", "crab.gguf"]), @r"
    LM Studio: `llama` is now in ~/.lmstudio/mcp.json
    Command: PROGRAM --model ~/crab.gguf --deadline 50
    Time limit: 60 seconds per call; set `timeout` (milliseconds) next to `command` to change it. The deadline ends answers earlier, with the text generated so far.
    Next: switch the server on in LM Studio, under Program
    ");
    let written = home.redact(home.read(".lmstudio/mcp.json").into_bytes());
    insta::assert_snapshot!(written, @r#"
    {
      "mcpServers": {
        "llama": {
          "command": "PROGRAM",
          "args": ["--model", "~/crab.gguf", "--deadline", "50"]
        }
      }
    }
    "#);
    insta::assert_snapshot!(home.installed(&["lmstudio", "--model", "crab.gguf"]), @r"
    LM Studio: `llama` is already in ~/.lmstudio/mcp.json
    Command: PROGRAM --model ~/crab.gguf --deadline 50
    Time limit: 60 seconds per call; set `timeout` (milliseconds) next to `command` to change it. The deadline ends answers earlier, with the text generated so far.
    Next: switch the server on in LM Studio, under Program
    ");
    insta::assert_snapshot!(home.installed(&["lmstudio", "--config", "llama-mcp-server.toml"]), @r"
    LM Studio: `llama` is now in ~/.lmstudio/mcp.json
    Backup: ~/.lmstudio/mcp.json.before-install
    Command: PROGRAM --config ~/llama-mcp-server.toml --transport stdio
    Time limit: 60 seconds per call; set `timeout` (milliseconds) next to `command` to change it. Set `deadline = 50` under [defaults] to end answers earlier, with the text generated so far.
    Next: switch the server on in LM Studio, under Program
    ");
    insta::assert_snapshot!(home.installed(&["lmstudio", "--remove"]), @r"
    LM Studio: `llama` was removed from ~/.lmstudio/mcp.json
    Backup: ~/.lmstudio/mcp.json.before-install-2
    Next: restart LM Studio
    ");
    insta::assert_snapshot!(home.installed(&["lmstudio", "--remove"]), @"LM Studio: `llama` is not in ~/.lmstudio/mcp.json");
}

#[test]
fn a_configuration_with_an_http_transport_is_served_over_stdio() {
    let home = Home::with("http", ".cursor");
    let file = format!("[server]\ntransport = \"http\"\nport = 0\n{ONE_MODEL}");
    home.write("llama-mcp-server.toml", &file.replace("n_ctx = 1\n", ""));
    home.installed(&["cursor", "--config", "llama-mcp-server.toml"]);
    let written: Value = serde_json::from_str(&home.read(CURSOR)).unwrap();
    start(&written["mcpServers"]["llama"]);
}

#[test]
fn flags_after_two_hyphens_are_passed_to_the_server() {
    let home = Home::with("flags", ".lmstudio");
    home.installed(&[
        "lmstudio",
        "--model",
        "crab.gguf",
        "--name",
        "small",
        "--",
        "--deadline",
        "7",
    ]);
    let written: Value = serde_json::from_str(&home.read(".lmstudio/mcp.json")).unwrap();
    let entry = &written["mcpServers"]["small"];
    assert_eq!(entry["args"].as_array().unwrap()[2..], ["--deadline", "7"]);
    start(entry);
}

#[test]
fn a_dry_run_prints_the_file_and_writes_nothing() {
    let home = Home::with("dry", ".cursor");
    home.write(CURSOR, "// mine\n{\n}\n");
    let shown = home.installed(&["cursor", "--model", "crab.gguf", "--dry-run"]);
    insta::assert_snapshot!(shown, @r#"
    // mine
    {
      "mcpServers": {
        "llama": {
          "command": "PROGRAM",
          "args": ["--model", "~/crab.gguf"]
        }
      }
    }
    "#);
    assert_eq!(home.read(CURSOR), "// mine\n{\n}\n");
    assert_eq!(home.list(".cursor"), ["mcp.json"]);
    let printed = home.installed(&["print", "--model", "crab.gguf"]);
    assert_eq!(format!("// mine\n{printed}"), shown);
}

#[test]
#[cfg(unix)]
fn symbolic_links_are_followed_and_permissions_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let home = Home::with("link", ".cursor");
    home.write("real.json", "{}");
    let secret = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(home.path("real.json"), secret).unwrap();
    symlink("../real.json", home.path(CURSOR)).unwrap();
    home.installed(&["cursor", "--model", "crab.gguf"]);
    assert!(home.path(CURSOR).is_symlink());
    assert!(home.read("real.json").contains("mcpServers"));
    for file in ["real.json", "real.json.before-install"] {
        let mode = home.path(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(home.list(".cursor"), ["mcp.json"]);
}

#[test]
fn earlier_backups_are_kept() {
    let home = Home::with("backups", ".cursor");
    for settings in ["{\"a\": 1}", "{\"a\": 2}", "{\"a\": 1}"] {
        home.write(CURSOR, settings);
        home.installed(&["cursor", "--model", "crab.gguf"]);
    }
    let names = [
        "mcp.json",
        "mcp.json.before-install",
        "mcp.json.before-install-2",
    ];
    assert_eq!(home.list(".cursor"), names);
    assert_eq!(home.read(".cursor/mcp.json.before-install"), "{\"a\": 1}");
    assert_eq!(home.read(".cursor/mcp.json.before-install-2"), "{\"a\": 2}");
}

#[test]
fn invalid_requests_are_refused_and_write_nothing() {
    let home = Home::with("refused", ".cursor");
    let refused = |arguments: &[&str]| {
        let (code, redact) = home.refused(arguments);
        format!("{code} {redact}")
    };
    let model = ["--model", "crab.gguf"];
    let with = |client: &'static str| [&[client], &model[..]].concat();
    let broken = "{\n  \"mcpServers\": {]\n}";
    let other = "{\"mcpServers\": {\"llama\": {\"command\": \"npx\"}}}";
    let mut redact = vec![
        refused(&with("zed")),
        refused(&with("claude-code")),
        refused(&["cursor", "--model", "missing.gguf"]),
        refused(&["cursor", "--model", "llama-mcp-server.toml"]),
        refused(&["cursor", "--config", "missing.toml"]),
        refused(&["cursor", "--model", "crab.gguf", "--", "--n_ctx", "x"]),
        refused(&["cursor", "--model", "crab.gguf", "--", "health"]),
        refused(&[
            "cursor",
            "--model",
            "crab.gguf",
            "--",
            "--transport",
            "http",
        ]),
        refused(&["cursor", "--model", "crab.gguf", "--name", "a b"]),
        refused(&["print", "--remove"]),
    ];
    for file in [broken, other, "[]"] {
        home.write(CURSOR, file);
        redact.push(refused(&with("cursor")));
        assert_eq!(home.read(CURSOR), file);
    }
    assert_eq!(home.list(".cursor"), ["mcp.json"]);
    insta::assert_snapshot!(redact.join("---\n"), @r#"
    1 error[install_failed]: the configuration of `zed` was not changed
      caused by: Zed is not installed for this user: there is no `~/.config/zed`; start it once if it is installed, or copy the output of `install print` into its file
    ---
    1 error[install_failed]: the configuration of `claude-code` was not changed
      caused by: Claude Code is not installed for this user: there is no `~/.claude.json`; start it once if it is installed, or copy the output of `install print` into its file
    ---
    2 error[config_model]: `--model`: the model file `~/missing.gguf` does not exist
      hint: check the path; in a configuration file, paths are relative to its folder
    ---
    2 error[config_model]: `--model`: `~/llama-mcp-server.toml` is not a GGUF model file: it begins with `[def`
      hint: to use it as the configuration, pass `--config ~/llama-mcp-server.toml`
    ---
    2 error[config_unreadable]: could not read the configuration `~/missing.toml`: No such file or directory (os error 2)
    ---
    2 error[config_value]: `--n_ctx`: must be a whole number from 0 to 100000000, found the string "x"
    ---
    2 error[command_line]: the command line must name one model, found 2

    hint: declare them in a file: `llama-mcp-server config init > llama-mcp-server.toml` creates one
    ---
    2 error: `--transport` cannot be combined with `install`: clients start the server over stdio; remove the flag
    ---
    2 error: invalid value 'a b' for '--name <NAME>': must be 1 to 64 letters, digits, `_` or `-`

    For more information, try '--help'.
    ---
    1 error[install_failed]: the configuration of `print` was not changed
      caused by: `print` writes no file, so there is nothing to remove; name the client
    ---
    1 error[install_failed]: the configuration of `cursor` was not changed
      caused by: could not edit `~/.cursor/mcp.json`
      caused by: line 2, column 18: Unexpected token in object; correct it, then run this again
    ---
    1 error[install_failed]: the configuration of `cursor` was not changed
      caused by: could not edit `~/.cursor/mcp.json`
      caused by: the name `llama` is taken by another server (`npx`); choose another with `--name`
    ---
    1 error[install_failed]: the configuration of `cursor` was not changed
      caused by: could not edit `~/.cursor/mcp.json`
      caused by: the file must be a JSON object; correct it, then run this again
    "#);
}

#[test]
#[cfg(unix)]
fn a_program_found_through_a_link_on_the_path_is_registered_by_the_link() {
    let home = Home::with("path", ".cursor");
    std::fs::create_dir_all(home.path("bin")).unwrap();
    let link = home.path("bin/llama-mcp-server");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_llama-mcp-server"), &link).unwrap();
    let output = Command::new(&link)
        .env("HOME", &home.0.0)
        .env("PATH", home.path("bin"))
        .args(["install", "cursor", "--model"])
        .arg(tiny())
        .output()
        .unwrap();
    assert!(output.status.success());
    let written: Value = serde_json::from_str(&home.read(CURSOR)).unwrap();
    let command = &written["mcpServers"]["llama"]["command"];
    assert_eq!(command, link.to_str().unwrap());
}
