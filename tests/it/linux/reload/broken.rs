//! Edits whose settings break a model.

use super::{file, serve, tools};
use crate::support::config::Folder;

/// Errors of a model's settings that `config check` reports, with the log line of each.
const BROKEN_SETTINGS: [(&str, &str, &str); 3] = [
    ("", "tool = false", "all models are hidden"),
    ("", "chat_template = \"chatml\"", "a.chat_template`"),
    (
        "[registry]\nmemory_budget = \"1MiB\"\n",
        "",
        "the limit for all models together is 1.0 MiB",
    ),
];

#[test]
fn an_edit_that_breaks_a_model_that_works_is_rejected() {
    let folder = Folder::new("breaks", &file("a", ""));
    let mut server = serve(&folder);
    for (head, key, message) in BROKEN_SETTINGS {
        let edited = format!("{head}{}{}", file("a", key), file("b", key));
        folder.write("llama-mcp-server.toml", &edited);
        server.wait_for_log(message);
        assert_eq!(tools(&mut server), ["a"], "{message}");
    }
    folder.write(
        "llama-mcp-server.toml",
        &(file("a", "")
            + &file("c", "path = \"none.gguf\"").replacen("path = \"crab.gguf\"\n", "", 1)),
    );
    // An error in the model's file is not an error of the edit.
    server.wait_for_notification("notifications/tools/list_changed");
    assert_eq!(tools(&mut server), ["a", "c"]);
}

#[test]
fn an_edit_is_applied_although_another_model_was_broken_before() {
    let broken = file("a", "chat_template = \"{{ 'x' }}\"");
    let folder = Folder::new("was-broken", &(broken.clone() + &file("b", "")));
    let mut server = serve(&folder);
    assert_eq!(tools(&mut server), ["a", "b"]);
    folder.write("llama-mcp-server.toml", &(broken + &file("c", "")));
    server.wait_for_notification("notifications/tools/list_changed");
    assert_eq!(tools(&mut server), ["a", "c"]);
}
