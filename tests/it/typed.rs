//! Typed tools: arguments, prompts, and answers that follow a schema.

mod random;

use serde_json::{Value, json};

use crate::support::Server;
use crate::support::config::{Folder, text};

/// Returns a configuration of the tiny model as `crab`, with `tools`.
fn file(tools: &str) -> String {
    format!(
        "[models.crab]\npath = \"crab.gguf\"\nn_threads = 1\ntemperature = 0\nrepeat_penalty = 1.0\n{tools}"
    )
}

const CAPITAL: &str = r#"
[tools.capital]
prompt = "What is the capital of {{ country }}?"
[tools.capital.arguments.country]
enum = ["France", "Peru"]

[tools.card]
prompt = "Give me {{ country }} as JSON."
output = { type = "object", properties = { country = { type = "string" }, capital = { type = "string" } }, required = ["country", "capital"] }
[tools.card.arguments.country]
default = "Cuba"

[tools.side]
prompt = "What is the capital of {{ country }}?"
choices = ["Paris", "Lima"]
[tools.side.arguments.country]
"#;

fn call(server: &mut Server, tool: &str, arguments: Value) -> Value {
    let id = server.call_tool(tool, arguments);
    server.response(id)["result"].clone()
}

#[test]
fn a_typed_tool_fills_its_prompt_and_its_answer_follows_the_schema() {
    let folder = Folder::new("typed", &file(CAPITAL));
    let mut server = folder.serve();
    let free = call(&mut server, "capital", json!({"country": "Peru"}));
    assert_eq!(free["content"][0]["text"], "The capital of Peru is Lima.");
    assert_eq!(free.get("structuredContent"), None);
    let card = call(&mut server, "card", json!({}));
    let expected = json!({"country": "Cuba", "capital": "Havana"});
    assert_eq!(card["structuredContent"], expected);
    assert_eq!(
        card["content"][0]["text"],
        r#"{"country":"Cuba","capital":"Havana"}"#
    );
    let side = call(&mut server, "side", json!({"country": "France"}));
    let choice = &side["structuredContent"]["choice"];
    assert!(["Paris", "Lima"].contains(&choice.as_str().unwrap()));
    let text = format!("{{\"choice\":{choice}}}");
    assert_eq!(side["content"][0]["text"], text);
}

#[test]
fn the_tokens_that_a_schema_forces_are_counted() {
    let folder = Folder::new("forced-tokens", &file(CAPITAL));
    let mut server = folder.serve();
    let counts = |result: &Value| {
        let generation = &result["_meta"]["llama-mcp-server/generation"];
        ["forced_tokens", "completion_tokens"].map(|name| generation[name].as_u64().unwrap())
    };
    let [forced, all] = counts(&call(&mut server, "card", json!({})));
    // Names and punctuation of `{"country": "Cuba", "capital": "Havana"}`.
    assert!(3 * forced > all && forced < all, "{forced} of {all}");
    let [forced, all] = counts(&call(&mut server, "side", json!({"country": "France"})));
    assert!(3 * forced > all && forced < all, "{forced} of {all}");
    let [forced, _] = counts(&call(&mut server, "capital", json!({"country": "Peru"})));
    assert_eq!(forced, 0, "a free answer");
}

#[test]
fn clients_see_the_schemas_of_arguments_and_answer() {
    let folder = Folder::new("typed-list", &file(CAPITAL));
    let mut server = folder.serve();
    let id = server.request("tools/list", json!({}));
    let tools = server.response(id)["result"]["tools"].clone();
    let find = |name: &str| {
        let mut tools = tools.as_array().unwrap().iter();
        tools.find(|tool| tool["name"] == name).unwrap().clone()
    };
    let capital = find("capital");
    let schema = json!({"type": "object", "properties": {"country": {"type": "string", "enum": ["France", "Peru"]}}, "required": ["country"]});
    assert_eq!(capital["inputSchema"], schema);
    assert_eq!(capital.get("outputSchema"), None);
    assert_eq!(find("card")["inputSchema"]["required"], json!([]));
    assert_eq!(
        find("card")["outputSchema"]["required"],
        json!(["country", "capital"])
    );
    let choice = json!({"type": "object", "properties": {"choice": {"type": "string", "enum": ["Paris", "Lima"]}}, "required": ["choice"]});
    assert_eq!(find("side")["outputSchema"], choice);
}

#[test]
fn invalid_arguments_are_refused_with_what_is_allowed() {
    let tools = r#"
[tools.t]
prompt = "{{ text }}{{ n }}{{ list }}"
[tools.t.arguments.text]
max_length = 3
[tools.t.arguments.n]
type = "integer"
minimum = 1
maximum = 9
default = 1
[tools.t.arguments.list]
type = "array"
items = "integer"
min_items = 2
max_items = 3
default = [1, 2]
[tools.t.arguments.word]
min_length = 2
default = "ab"
[tools.t.arguments.share]
type = "number"
minimum = 0
default = 0
"#;
    let folder = Folder::new("typed-arguments", &file(tools));
    let mut server = folder.serve();
    for (arguments, message) in [
        (json!({}), "`text` is missing: it has no default"),
        (
            json!({"question": "a"}),
            "`text` is missing: it has no default; `question` is not an argument of this tool; available: `text`, `list`, `n`, `share`, `word`",
        ),
        (
            json!({"txt": "a"}),
            "`text` is missing: it has no default; `txt` is not an argument of this tool; did you mean `text`?",
        ),
        (
            json!({"text": "a", "n": "ten"}),
            "`n`: must be a whole number from 1 to 9, found the string \"ten\"",
        ),
        (
            json!({"text": "a", "n": "10"}),
            "`n`: must be a whole number from 1 to 9, found 10",
        ),
        (
            json!({"text": null}),
            "`text` is missing: it has no default",
        ),
        (
            json!({"text": "a", "txt": 1}),
            "`txt` is not an argument of this tool; did you mean `text`?",
        ),
        (
            json!({"text": "abcd"}),
            "`text`: must be a string of at most 3 characters, found the string \"abcd\"",
        ),
        (
            json!({"text": "a", "n": 10}),
            "`n`: must be a whole number from 1 to 9, found 10",
        ),
        (
            json!({"text": "a", "list": ["x"]}),
            "`list[0]`: must be a whole number, found the string \"x\"",
        ),
        (
            json!({"text": "a", "list": [1, 2, 3, 4]}),
            "`list`: must be an array of whole numbers, 2 to 3, found 4 items",
        ),
        (
            json!({"text": "a", "word": "x"}),
            "`word`: must be a string of at least 2 characters, found the string \"x\"",
        ),
        (
            json!({"text": "a", "share": -0.5}),
            "`share`: must be a number of at least 0, found -0.5",
        ),
    ] {
        let result = call(&mut server, "t", arguments);
        assert_eq!(result["isError"], true);
        assert_eq!(result["content"][0]["text"], message);
    }
    let whole = json!({"text": "a", "n": 3.0, "list": [1.0, 2]});
    let result = call(&mut server, "t", whole);
    assert_eq!(result.get("isError"), None, "{result}");
}

#[test]
fn a_truncated_answer_is_an_error_and_never_incomplete_json() {
    let tools = CAPITAL.replace("output =", "max_tokens = 8\noutput =");
    let folder = Folder::new("typed-cut", &file(&tools));
    let mut server = folder.serve();
    let result = call(&mut server, "card", json!({}));
    assert_eq!(result["isError"], true);
    assert_eq!(result.get("structuredContent"), None);
    assert_eq!(
        result["content"][0]["text"],
        "no answer: truncated after 8 tokens, before the JSON was complete; raise `max_tokens`, or bound the schema's strings and arrays"
    );
}

#[test]
fn problems_of_a_tool_are_reported_with_their_location() {
    let tools = r#"
[tools.a]
model = "crap"
prompt = "x"
[tools.b]
prompt = "{{ txet }}"
[tools.b.arguments.text]
[tools.c]
prompt = "x"
output = { type = "object", properties = { a = { type = "string", not = { pattern = "a" } }, b = { type = "integer", minimun = 1 } } }
[tools.d]
output = "{"
choices = ["x"]
[tools.e]
prompt = "x"
choices = []
[tools.f]
prompt = "x"
[tools.f.arguments.n]
type = "integer"
max_length = 3
default = "x"
[tools.h]
prompt = "x"
choices = ["x"]
stop = ["y"]
[tools.crab]
prompt = "x"
"#;
    let folder = Folder::new("typed-wrong", &file(tools));
    let output = folder.run(&["config", "check"], &[]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(text(output.stderr));
    // These are found only if everything else is valid.
    let tools = "[tools.g]\nprompt = \"x\"\noutput = { type = \"object\", properties = { a = { type = \"string\", pattern = \"^a{5}$\", maxLength = 3 } } }\n";
    let folder = Folder::new("typed-pattern", &file(tools));
    let stderr = text(folder.run(&["config", "check"], &[]).stderr);
    let expected = "error[config_tool]: `tools.g.output`: the schema cannot be enforced at `#/properties/a/pattern`: no text matches it: `pattern` and lengths contradict each other; change one of them\n --> ./llama-mcp-server.toml:8:77\n";
    assert!(stderr.starts_with(expected), "{stderr}");
    let tools = "[tools.b]\nprompt = \"{{ txet }}\"\n[tools.b.arguments.text]\n";
    let folder = Folder::new("typed-template", &file(tools));
    let stderr = text(folder.run(&["config", "check"], &[]).stderr);
    let expected = "error[config_tool]: `tools.b.prompt`: uses `txet`, which is not an argument (line 1 of the template)\n --> ./llama-mcp-server.toml:7:10\n";
    assert!(stderr.starts_with(expected), "{stderr}");
}

#[test]
fn a_call_of_a_chat_tool_may_contain_a_schema() {
    let mut server = Server::tiny(&[]);
    let schema = json!({"type": "object", "properties": {"country": {"type": "string"}, "capital": {"type": "string"}}, "required": ["country", "capital"]});
    let ask = |schema: Value| json!({"text": "Give me Cuba as JSON.", "temperature": 0, "json_schema": schema});
    let result = call(&mut server, "chat", ask(schema));
    assert_eq!(
        result["structuredContent"],
        json!({"country": "Cuba", "capital": "Havana"})
    );
    let refused = call(
        &mut server,
        "chat",
        ask(
            json!({"type": "object", "properties": {"a": {"minimun": 1}, "b": {"not": {"pattern": "a"}}}}),
        ),
    );
    assert_eq!(refused["isError"], true);
    let error = refused["content"][0]["text"].as_str().unwrap();
    assert_eq!(
        error,
        "`json_schema`: the schema cannot be enforced at `#/properties/a/minimun`: unknown keyword; did you mean `minimum`?; at `#/properties/b/not`: unsupported `not`; describe what is allowed instead, or remove it"
    );
    // Keywords that the grammar does not support, and keywords that would be ignored.
    let pattern = json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "^a{5}$", "maxLength": 3}}});
    let with_stop = json!({"text": "x", "json_schema": {"type": "object"}, "stop": "x"});
    for (arguments, message) in [
        (
            ask(pattern),
            "`json_schema`: the schema cannot be enforced at `#/properties/a/pattern`: no text matches it: `pattern` and lengths contradict each other; change one of them",
        ),
        (
            with_stop,
            "give `stop` or `json_schema`, not both: a structured answer ends by itself",
        ),
    ] {
        let refused = call(&mut server, "chat", arguments);
        assert_eq!(refused["isError"], true);
        assert_eq!(refused["content"][0]["text"], message);
    }
}

#[test]
fn a_structured_answer_is_an_error_only_if_it_reaches_a_limit_of_the_server() {
    let tools = r#"
json_max_string = 40
[tools.short]
prompt = "Give me Cuba as JSON."
output = { type = "object", properties = { country = { type = "string" }, capital = { type = "string" } }, required = ["country", "capital"] }
[tools.cut]
prompt = "Sing forever."
json_max_string = 5
output = { type = "object", properties = { song = { type = "string", minLength = 5 } }, required = ["song"] }
"#;
    let folder = Folder::new("typed-limit", &file(tools));
    let mut server = folder.serve();
    let short = call(&mut server, "short", json!({}));
    let whole = json!({"country": "Cuba", "capital": "Havana"});
    assert_eq!(short["structuredContent"], whole);
    let cut = call(&mut server, "cut", json!({}));
    assert_eq!(cut["isError"], true);
    assert_eq!(cut["_meta"]["llama-mcp-server/error"]["code"], "answer_cut");
    let error = cut["content"][0]["text"].as_str().unwrap();
    assert!(
        error.starts_with("no answer: truncated at `#/song`, at the limit of 10 characters of a string; give the schema a `maxLength`"),
        "{error}"
    );
}

#[test]
fn config_check_warns_about_changes_of_a_schema() {
    let tools = r#"
[tools.a]
prompt = "x"
output = { type = "object", properties = { a = { type = "string", pattern = "^\\p{Lu}" }, b = { type = "array", items = { type = "string" }, uniqueItems = true, colour = 1 } } }
"#;
    let folder = Folder::new("typed-notes", &file(tools));
    let output = folder.run(&["config", "check"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let stdout = text(output.stdout);
    let notes: Vec<&str> = stdout
        .lines()
        .filter(|line| line.starts_with("note: `tools") || line.starts_with("warning[schema"))
        .collect();
    assert_eq!(
        notes,
        [
            "note: `tools.a.output` at `#/properties/b/uniqueItems`: checked on the finished answer only",
            "note: `tools.a.output` at `#/properties/a/pattern`: clients do not see the pattern `^\\p{Lu}`: JavaScript and Python read it differently",
            "warning[schema_not_enforced]: `tools.a.output`: at `#/properties/b/colour`: unknown keyword, ignored",
        ]
    );
}

#[test]
fn an_edit_of_a_tool_is_live() {
    let folder = Folder::new("typed-live", &file(CAPITAL));
    let mut server = folder.serve();
    let id = server.request("initialize", json!({}));
    server.response(id);
    let edited = CAPITAL.replace(
        "What is the capital of {{ country }}?",
        "Say something in Unicode.",
    );
    std::fs::write(folder.0.join("llama-mcp-server.toml"), file(&edited)).unwrap();
    server.wait_for_log("tool capital: live (prompt)");
    let result = call(&mut server, "capital", json!({"country": "Peru"}));
    assert!(
        result["content"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with("こんにちは"),
        "{result}"
    );
}
