//! `result_meta = false` removes `_meta` from results, for clients that pass whole results to their model.

use serde_json::{Value, json};

use crate::support::config::Folder;
use crate::support::{Server, modern};

fn file(keys: &str) -> String {
    format!("[server]\n{keys}\n[models.crab]\npath = \"crab.gguf\"\nn_threads = 1\n")
}

/// Returns the results of a successful and a failed call, in both eras.
fn results(server: &mut Server) -> Vec<Value> {
    let params = [json!({"text": "Hi", "max_tokens": 4}), json!({})]
        .map(|arguments| json!({"name": "crab", "arguments": arguments}));
    let ids: Vec<u64> = params
        .into_iter()
        .flat_map(|params| [params.clone(), modern::with_envelope(params)])
        .map(|params| server.request("tools/call", params))
        .collect();
    let results = ids
        .into_iter()
        .map(|id| server.response(id)["result"].clone());
    results.collect()
}

#[test]
fn call_results_have_no_meta_and_are_otherwise_unchanged() {
    let folder = Folder::new("no-meta", &file("result_meta = false"));
    let mut server = folder.serve();
    for result in results(&mut server) {
        assert_eq!(result.get("_meta"), None, "{result}");
        assert_ne!(result["content"][0]["text"], "");
    }
    server.send_line(&modern::request("d", "server/discover", json!({})).to_string());
    let discovered = server.response("d")["result"].clone();
    assert!(
        discovered["_meta"]["io.modelcontextprotocol/serverInfo"].is_object(),
        "{discovered}"
    );
}

#[test]
fn an_edit_of_result_meta_is_live_over_stdio() {
    let folder = Folder::new("meta-live", &file(""));
    let mut server = folder.serve();
    for result in results(&mut server) {
        let meta = result["_meta"].as_object().unwrap();
        assert!(meta.keys().any(|key| key.starts_with("llama-mcp-server/")));
    }
    folder.write("llama-mcp-server.toml", &file("result_meta = false"));
    server.wait_for_log("server: live (result_meta)");
    for result in results(&mut server) {
        assert_eq!(result.get("_meta"), None, "{result}");
    }
}
