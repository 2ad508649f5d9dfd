//! The list of tools.

use serde_json::{Value, json};

use crate::support::config::Folder;
use crate::support::example::Example;
use crate::support::{Server, gemma};

/// Returns the tools of each example, with the server's instructions.
fn examples() -> Vec<(Vec<Value>, String)> {
    let examples = [
        Example::single_model(),
        Example::typed_tools(),
        Example::team(),
    ];
    let mut servers = examples
        .each_ref()
        .map(|example| Server::spawn(example.command(&["--transport", "stdio"])));
    let ask = |server: &mut Server| {
        let id = server.request("initialize", json!({}));
        let instructions = server.response(id)["result"]["instructions"].clone();
        (list(server), instructions.as_str().unwrap().to_owned())
    };
    servers.iter_mut().map(ask).collect()
}

fn list(server: &mut Server) -> Vec<Value> {
    let id = server.request("tools/list", json!({}));
    let response = server.response(id);
    response["result"]["tools"].as_array().unwrap().clone()
}

/// Keywords that some hosts refuse or interpret differently.
const UNPORTABLE: [&str; 12] = [
    "oneOf",
    "anyOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "$ref",
    "$defs",
    "definitions",
    "patternProperties",
    "const",
];

/// Walks the schema. Asserts that every part has a type, every array has `items`, and no keyword is unportable.
fn assert_portable(schema: &Value, at: &str) {
    let table = schema
        .as_object()
        .unwrap_or_else(|| panic!("{at}: no object"));
    for key in UNPORTABLE {
        assert!(!table.contains_key(key), "{at}: {key}");
    }
    let types = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().map(|one| one.as_str().unwrap()).collect(),
        other => panic!("{at}: the type is {other}"),
    };
    let known = ["string", "integer", "number", "boolean", "array", "object"];
    assert!(
        types.iter().all(|one| known.contains(one)),
        "{at}: {types:?}"
    );
    if types.contains(&"array") {
        assert_portable(&schema["items"], &format!("{at}[]"));
    }
    let properties = table.get("properties").map(|all| all.as_object().unwrap());
    for (name, property) in properties.into_iter().flatten() {
        assert_name(name);
        assert_portable(property, &format!("{at}.{name}"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let is_there = properties.is_some_and(|all| all.contains_key(name.as_str().unwrap()));
        assert!(is_there, "{at}: {name} is required and not there");
    }
}

fn assert_name(name: &str) {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    assert!(
        (1..=64).contains(&name.len()) && name.chars().all(allowed),
        "{name}"
    );
}

#[test]
fn every_tool_is_described_as_hosts_require() {
    let mut count = 0;
    for (tools, instructions) in examples() {
        for tool in &tools {
            let name = tool["name"].as_str().unwrap();
            assert_name(name);
            assert_portable(&tool["inputSchema"], name);
            assert_eq!(tool["inputSchema"]["type"], "object");
            assert!(tool["inputSchema"]["properties"].is_object(), "{name}");
            if let Some(output) = tool.get("outputSchema") {
                assert_eq!(output["type"], "object", "{name}");
            }
            let title = tool["title"].as_str().unwrap();
            assert!(!title.is_empty() && !tool["description"].as_str().unwrap().is_empty());
            assert_eq!(
                tool["annotations"],
                json!({"title": title, "readOnlyHint": true, "destructiveHint": false, "idempotentHint": false, "openWorldHint": false})
            );
            assert!(
                instructions.contains(&format!("- `{name}`: ")),
                "{instructions}"
            );
            count += 1;
        }
        assert!(instructions.len() < 2000, "{} bytes", instructions.len());
    }
    assert_eq!(count, 1 + 4 + 2);
}

#[test]
fn the_list_of_tools_states_how_long_an_answer_may_be() {
    let text = format!(
        r#"
[defaults]
path = '{}'
[models.all]
n_ctx = 0
[models.limited]
n_ctx = 0
max_tokens_limit = 10000
[models.small]
[tools.typed]
model = "all"
prompt = "Sing."
max_tokens = 20000
"#,
        gemma().display()
    );
    let folder = Folder::new("sizes", &text);
    let mut server = folder.serve();
    let sizes: Vec<(String, u64)> = list(&mut server)
        .iter()
        .map(|tool| {
            let most = tool["_meta"]["anthropic/maxResultSizeChars"].as_u64();
            (tool["name"].as_str().unwrap().to_owned(), most.unwrap())
        })
        .collect();
    let expected = [
        // The context that the model was trained with: 32,768 tokens.
        ("all", 262_144),
        ("limited", 80_000),
        ("small", 50_000),
        ("typed", 160_000),
    ];
    assert_eq!(sizes, expected.map(|(name, most)| (name.to_owned(), most)));
}
