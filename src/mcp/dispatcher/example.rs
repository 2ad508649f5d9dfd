use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::tests::{Deaf, config};
use super::{Access, Caller, Catalog, ConnectionId, Dispatcher, Era, Message};
use crate::backend::{Backend, scripted::Script};
use crate::fair::MessagePermits;
use crate::registry::Registry;

#[tokio::test]
async fn a_client_connects_and_lists_the_tools() {
    let config = config("tests/models/tiny-crab-chat.Q8_0.gguf");
    let (backend, _models) = Script::new();
    let registry = Arc::new(Registry::new(Backend::Scripted(backend)));
    let editions = registry.stage(&config.models, &BTreeMap::new(), &config.registry);
    let catalog = Catalog::new(&config, &editions, &registry);
    let dispatcher = Arc::new(Dispatcher::new(catalog));

    let caller = Caller {
        connection: ConnectionId("example".into()),
        client: "example".into(),
        access: Access::default(),
        permits: MessagePermits::default(),
    };
    let send = async |request: Value| -> Value {
        let message = Message::parse(request.to_string().as_bytes()).unwrap();
        let response = dispatcher.dispatch(&caller, Era::Legacy, message, Arc::new(Deaf));
        serde_json::from_str(&response.await.unwrap().to_json()).unwrap()
    };

    let response = send(json!({"jsonrpc": "2.0", "id": 1, "method": "initialize"})).await;
    assert_eq!(response["result"]["serverInfo"]["name"], "llama-mcp-server");

    let response = send(json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"})).await;
    assert_eq!(response["result"]["tools"][0]["name"], "chat");
}
