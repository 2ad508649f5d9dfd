//! Files that look like chat models but are not: every command and the load name their kind.

use serde_json::json;

use crate::support::config::{Folder, text};
use crate::support::gemma;

/// Returns a GGUF file of `architecture`, without tensors.
fn gguf(architecture: &str) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(text("general.architecture"));
    bytes.extend(8_u32.to_le_bytes());
    bytes.extend(text(architecture));
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes
}

#[test]
fn check_doctor_and_install_name_the_kind_of_a_file_that_is_not_a_chat_model() {
    let folder = Folder::new("kinds", "[models.a]\npath = 'a.gguf'\n");
    for (architecture, kind) in [
        (
            "flux",
            "a diffusion model for images or video (architecture `flux`)",
        ),
        ("whisper", "a speech model (architecture `whisper`)"),
        (
            "clip",
            "a projector (mmproj), the vision or audio part of another model",
        ),
        (
            "gemma-embedding",
            "an embedding model (architecture `gemma-embedding`)",
        ),
        ("llama", "a GGUF file without a language model"),
    ] {
        std::fs::write(folder.0.join("a.gguf"), gguf(architecture)).unwrap();
        for (arguments, code) in [
            (&["config", "check"][..], 2),
            (&["doctor"], 1),
            (&["install", "print", "--model", "a.gguf"], 2),
        ] {
            let output = folder.run(arguments, &[]);
            assert_eq!(output.status.code(), Some(code), "{arguments:?}");
            let printed = text(output.stdout) + &text(output.stderr);
            assert!(printed.contains(kind), "{arguments:?}: {printed}");
        }
    }
}

#[test]
fn the_load_names_the_kind_of_a_file_that_replaced_the_model() {
    let folder = Folder::new("kind-at-load", "[models.a]\npath = 'crab.gguf'\n");
    let mut server = folder.serve();
    let tools = server.request("tools/list", json!({}));
    server.response(tools);
    std::fs::write(folder.0.join("crab.gguf"), gguf("gemma-embedding")).unwrap();
    let id = server.call_tool("a", json!({"text": "Hello"}));
    let result = server.result(id);
    assert!(
        result.is_error && result.text.contains("is an embedding model"),
        "{}",
        result.text
    );
}

#[test]
fn every_command_warns_about_a_base_model() {
    let model = gemma();
    let file = format!("[models.a]\npath = '{}'\n", model.display());
    let folder = Folder::new("base", &file);
    let model = model.to_str().unwrap();
    for (arguments, prefix) in [
        (
            &["config", "check"][..],
            "warning[base_model]: `models.a.path`",
        ),
        (&["doctor"], "warning  configuration: `models.a.path`"),
        (
            &["install", "print", "--model", model],
            "warning: `--model`",
        ),
    ] {
        let output = folder.run(arguments, &[]);
        assert!(output.status.success(), "{arguments:?}");
        let printed = text(output.stdout) + &text(output.stderr);
        let warning = format!("{prefix}: probably a base model (its file has no chat template)");
        assert!(printed.contains(&warning), "{arguments:?}: {printed}");
    }
}

#[test]
fn install_refuses_configurations_that_the_check_refuses() {
    let file = "[registry]\nmemory_budget = '16MiB'\n[models.a]\npath = 'crab.gguf'\n";
    let folder = Folder::new("install-tight", file);
    let check = folder.run(&["config", "check"], &[]);
    let install = folder.run(
        &["install", "print", "--config", "llama-mcp-server.toml"],
        &[],
    );
    assert_eq!(install.status.code(), check.status.code());
    assert_eq!(text(install.stdout), "");
    assert!(text(install.stderr).contains("the limit for all models together is 16.0 MiB"));
}
