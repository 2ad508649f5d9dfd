//! Tests of edits: what they change, and what they leave as it is.

use super::*;

const SLOT: Slot<'_> = Slot {
    key: "mcpServers",
    name: "llama",
};

fn entry() -> Entry {
    Entry {
        has_type: false,
        command: "/bin/llama-mcp-server".to_owned(),
        args: vec!["--model".to_owned(), "/m.gguf".to_owned()],
    }
}

fn set_in(text: &str) -> String {
    set(text, SLOT, &entry()).unwrap()
}

fn error_of(text: &str) -> String {
    set(text, SLOT, &entry()).unwrap_err().to_string()
}

#[test]
fn an_empty_file_gets_only_the_entry() {
    let text = set_in("");
    insta::assert_snapshot!(text, @r#"
    {
      "mcpServers": {
        "llama": {
          "command": "/bin/llama-mcp-server",
          "args": ["--model", "/m.gguf"]
        }
      }
    }
    "#);
    assert!(text.ends_with("}\n"));
    assert_eq!(set_in("{}"), text.trim_end());
    assert!(!text.ends_with("\n\n"));
}

#[test]
fn everything_else_keeps_its_order_and_comments() {
    let text = r#"// settings of mine
{
    "zoom": 1.50, // large
    "mcpServers": {
        /* from work */
        "other": { "command": "npx", "args": [] },
    },
    "about": "ü\u00fc",
}
"#;
    insta::assert_snapshot!(set_in(text), @r#"
    // settings of mine
    {
        "zoom": 1.50, // large
        "mcpServers": {
            /* from work */
            "other": { "command": "npx", "args": [] },
            "llama": {
                "command": "/bin/llama-mcp-server",
                "args": ["--model", "/m.gguf"],
            },
        },
        "about": "ü\u00fc",
    }
    "#);
    assert_eq!(remove(&set_in(text), SLOT).unwrap(), text);
}

#[test]
fn windows_files_keep_their_byte_order_mark_and_line_ends() {
    let text = "\u{feff}{\r\n\t\"a\": 1\r\n}\r\n";
    assert_eq!(
        set_in(text),
        "\u{feff}{\r\n\t\"a\": 1,\r\n\t\"mcpServers\": {\r\n\t\t\"llama\": {\r\n\
         \t\t\t\"command\": \"/bin/llama-mcp-server\",\r\n\t\t\t\"args\": [\"--model\", \"/m.gguf\"]\r\n\t\t}\r\n\t}\r\n}\r\n"
    );
}

#[test]
fn the_same_edit_again_changes_nothing() {
    let text = r#"{"mcpServers":{"llama":{"args":["--model","/m.gguf"],"command":"/bin/llama-mcp-server"}}}"#;
    assert_eq!(set_in(text), text);
    assert_eq!(remove("{}", SLOT).unwrap(), "{}");
    assert_eq!(remove("", SLOT).unwrap(), "");
}

#[test]
fn an_entry_of_this_program_is_replaced_and_keeps_its_other_keys() {
    let text = r#"{
  "mcpServers": {
    "llama": {
      "command": "C:\\old\\llama-mcp-server.exe",
      "args": ["--model", "old.gguf"], // the small one
      "env": { "RUST_LOG": "debug" }
    }
  }
}"#;
    insta::assert_snapshot!(set_in(text), @r#"
    {
      "mcpServers": {
        "llama": {
          "command": "/bin/llama-mcp-server",
          "args": ["--model", "/m.gguf"], // the small one
          "env": { "RUST_LOG": "debug" }
        }
      }
    }
    "#);
}

#[test]
fn an_entry_in_the_former_format_of_zed_is_replaced() {
    let slot = Slot {
        key: "context_servers",
        ..SLOT
    };
    let text = r#"{"context_servers": {"llama": {"command": {"path": "/x/llama-mcp-server", "args": []}}}}"#;
    let edited = set(text, slot, &entry()).unwrap();
    let value: Value = serde_json::from_str(&edited).unwrap();
    let command = &value["context_servers"]["llama"]["command"];
    assert_eq!(command, "/bin/llama-mcp-server");
}

#[test]
fn another_server_with_the_same_name_is_not_changed() {
    let text = r#"{"mcpServers": {"llama": {"command": "npx", "args": ["llama"]}}}"#;
    let error = "the name `llama` is taken by another server (`npx`); choose another with `--name`";
    assert_eq!(error_of(text), error);
    assert_eq!(remove(text, SLOT).unwrap_err().to_string(), error);
}

#[test]
fn an_invalid_file_is_reported_with_the_place_of_the_error() {
    let errors = [
        "{\n  \"mcpServers\": {\n",
        "{'mcpServers': {}}",
        "{\"a\": 1 \"b\": 2}",
        "[]",
        "{\"mcpServers\": []}",
        "{\"mcpServers\": {\"llama\": 1}}",
        "{\"mcpServers\": {}, \"mcpServers\": {}}",
    ]
    .map(error_of);
    insta::assert_snapshot!(errors.join("\n"), @"
    line 2, column 17: Unterminated object; correct it, then run this again
    line 1, column 2: Single-quoted strings are not allowed; correct it, then run this again
    line 1, column 8: Expected comma; correct it, then run this again
    the file must be a JSON object; correct it, then run this again
    `mcpServers` must be a JSON object; correct it, then run this again
    `llama` must be a JSON object; correct it, then run this again
    `mcpServers` occurs twice; remove one of the two
    ");
}
