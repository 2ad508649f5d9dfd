use std::collections::BTreeMap;

use futures_util::poll;

use super::*;
use crate::config::{Config, Overrides, Surroundings};
use crate::fair::MessagePermits;
use crate::process::Cpus;

/// A peer that drops all notifications.
pub(super) struct Deaf;

impl Peer for Deaf {
    fn notify(&self, _: Outgoing) -> bool {
        true
    }
}

/// Returns the configuration of a server for one model.
pub(super) fn config(model: &str) -> Config {
    let overrides = Overrides {
        models: vec![model.into()],
        ..Overrides::default()
    };
    let surroundings = Surroundings {
        program: None,
        cpus: Cpus::single(1),
        variables: BTreeMap::new(),
        folders: Vec::new(),
    };
    let (config, _) = Config::load(&overrides, &surroundings).unwrap();
    config
}

fn message(json: &Value) -> Message {
    Message::parse(json.to_string().as_bytes()).unwrap()
}

fn request(id: u64, method: &str) -> Message {
    message(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"notifications": {}}}))
}

fn caller() -> Caller {
    Caller {
        connection: ConnectionId("test".into()),
        client: "test".into(),
        access: Access::default(),
        permits: MessagePermits::default(),
    }
}

#[tokio::test]
async fn a_request_is_dispatched_and_cancelled() {
    let dispatcher = Arc::new(Dispatcher::new(Catalog::default()));
    let dispatch = |era, message| dispatcher.dispatch(&caller(), era, message, Arc::new(Deaf));

    let response = dispatch(Era::Legacy, request(1, "ping")).await.unwrap();
    assert_eq!(
        response.to_json(),
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#
    );

    let mut subscription = Box::pin(dispatch(Era::Modern, request(2, "subscriptions/listen")));
    assert!(poll!(&mut subscription).is_pending());
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}});
    let mut cancellation = Box::pin(dispatch(Era::Legacy, message(&cancel)));
    assert!(poll!(&mut cancellation).is_pending());
    assert_eq!(subscription.await, None);
    assert_eq!(cancellation.await, None);
}

#[tokio::test]
async fn the_id_of_a_request_in_flight_cannot_be_used_again() {
    let dispatcher = Arc::new(Dispatcher::new(Catalog::default()));
    let dispatch = |message| dispatcher.dispatch(&caller(), Era::Legacy, message, Arc::new(Deaf));
    let first = dispatch(request(1, "ping"));
    let second = dispatch(request(1, "ping")).await;
    assert!(
        matches!(second, Some(Outgoing::Error(Some(_), error)) if error.code == INVALID_REQUEST)
    );
    assert!(matches!(first.await, Some(Outgoing::Result(..))));
    let third = dispatch(request(1, "ping")).await;
    assert!(matches!(third, Some(Outgoing::Result(..))));
}
