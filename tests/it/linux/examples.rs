//! Each folder of `examples/`, started as its README says.

use serde_json::{Value, json};

use crate::support::config::Folder;
use crate::support::example::{Example, repository};
use crate::support::http::{Client, HttpServer, read_message, request};
use crate::support::{Server, program, tiny, workers_of};

const PERU: &str = "What is the capital of Peru?";
const LIMA: &str = "The capital of Peru is Lima.";

#[test]
fn editors_know_the_schema_of_every_file() {
    for name in ["typed-tools", "profiles", "team"] {
        let file = repository("examples")
            .join(name)
            .join("llama-mcp-server.toml");
        let written = std::fs::read_to_string(file).unwrap();
        let schema = "#:schema ../../config/llama-mcp-server.schema.json\n";
        assert!(written.starts_with(schema), "{name}");
    }
}

#[test]
fn the_single_model_answers_with_the_commands_of_the_readme_and_of_claude_desktop() {
    let example = Example::single_model();
    let exact = json!({"text": PERU, "temperature": 0, "repeat_penalty": 1});
    let mut server = Server::spawn(example.command(&[]));
    assert_eq!(server.chat(exact.clone()).text, LIMA);

    let written = example.read("claude_desktop_config.json");
    let client: Value = serde_json::from_str(&written).unwrap();
    let entry = &client["mcpServers"]["llama"];
    assert_eq!(entry["command"], "/path/to/llama-mcp-server");
    let model = example.path("model.gguf");
    let arguments = entry["args"].as_array().unwrap().iter().map(|argument| {
        let argument = argument.as_str().unwrap();
        argument.replace("/path/to/model.gguf", model.to_str().unwrap())
    });
    let mut command = program();
    command.args(arguments);
    assert_eq!(Server::spawn(command).chat(exact).text, LIMA);
}

fn call(server: &mut Server, tool: &str, arguments: Value) -> Value {
    let id = server.call_tool(tool, arguments);
    let result = server.response(id)["result"].clone();
    assert_eq!(result.get("isError"), None, "{result}");
    result
}

#[test]
fn every_typed_tool_answers() {
    let example = Example::typed_tools();
    let mut server = Server::spawn(example.command(&[]));
    let story = "Anna is 34 years old. She lives in Lisbon and works as a nurse.";
    call(
        &mut server,
        "summarise",
        json!({"text": story, "sentences": 1}),
    );
    let choice = call(
        &mut server,
        "classify",
        json!({"review": "I love it. Best purchase ever!"}),
    );
    assert_eq!(choice["structuredContent"], json!({"choice": "positive"}));
    let person = call(&mut server, "extract", json!({"text": story}));
    assert_eq!(person["structuredContent"]["name"], "Anna", "{person}");
    call(
        &mut server,
        "translate",
        json!({"text": "Good morning", "language": "German"}),
    );
}

#[test]
fn every_profile_answers_from_the_same_worker() {
    let example = Example::profiles();
    let mut server = Server::spawn(example.command(&[]));
    for tool in ["assistant", "editor", "storyteller"] {
        let question = json!({"role": "user", "content": "The cat sat on teh mat."});
        let answer = call(
            &mut server,
            tool,
            json!({"messages": [question], "max_tokens": 8}),
        );
        assert_ne!(answer["content"][0]["text"], "", "{tool}");
    }
    assert_eq!(workers_of(server.child.id()).len(), 1);
}

fn question(tool: &str) -> Value {
    let arguments = json!({"text": PERU, "max_tokens": 8});
    json!({"name": tool, "arguments": arguments})
}

#[test]
fn each_group_of_the_team_has_its_own_tools_and_limits() {
    let example = Example::team();
    let server = HttpServer::spawn(example.command(&[]));
    let mut developer = server.client_with_token(example.read("tokens/developers").trim());
    let mut visitor = server.client_with_token(example.read("tokens/visitors").trim());
    assert_eq!(developer.tools(), ["chat", "coder"]);
    assert_eq!(visitor.tools(), ["chat"]);
    assert_eq!(
        Client::new(server.url(), &[]).send("GET", None).status(),
        401
    );

    let coded = developer.request("tools/call", question("coder"));
    assert_eq!(coded["result"].get("isError"), None, "{coded}");
    let refused = visitor.request("tools/call", question("coder"));
    assert_eq!(refused["error"]["code"], -32602, "{refused}");

    let songs = [
        visitor.start_endless_call(100),
        visitor.start_endless_call(101),
    ];
    let third = || visitor.post(&request(102, "tools/call", question("chat")));
    let mut refused = third();
    assert_eq!(refused.status(), 429);
    let error = read_message(&mut refused);
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .contains("(`max_calls`, 2)"),
        "{error}"
    );
    drop(songs);
    // `calls_per_minute` also counts the refused call of an unknown tool and the two songs, whose permits are free soon.
    let mut served = 3;
    loop {
        let mut answer = third();
        if answer.status() == 200 {
            served += 1;
            continue;
        }
        assert_eq!(answer.status(), 429);
        let error = read_message(&mut answer)["error"]["message"].to_string();
        if error.contains("(`calls_per_minute`, 30)") {
            break;
        }
        assert!(error.contains("(`max_calls`, 2)"), "{error}");
    }
    assert!(served >= 30, "{served}");
    assert!(developer.chat(json!({"text": PERU})).len() > 1);
}

#[test]
fn the_configuration_of_the_container_works() {
    let compose = std::fs::read_to_string(repository("compose.yaml")).unwrap();
    assert!(compose.contains("LLAMA_MCP_AUTH_FILE: /run/secrets/token\n"));
    assert!(compose.contains("${CONFIG:-./deploy/config}:/config:ro"));
    let folder = Folder::empty("container");
    folder.write("token", "secret\n");
    let mut command = program();
    command
        .current_dir(repository("deploy/config"))
        .env("LLAMA_MCP_AUTH_FILE", folder.0.join("token"))
        .env("LLAMA_MCP_MODELS__CHAT__PATH", tiny());
    let server = HttpServer::spawn(command);
    let mut client = server.client_with_token("secret");
    let answer = client.chat(json!({"text": PERU, "temperature": 0, "repeat_penalty": 1}));
    assert_eq!(answer, LIMA);
}
