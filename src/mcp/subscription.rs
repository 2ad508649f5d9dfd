//! `subscriptions/listen`: a request that stays open and delivers the notifications that its client opted in to (2026-07-28
//! `basic/patterns/subscriptions`).
//!
//! The first message acknowledges the subscription, and every notification carries the id of the request. The response is sent when
//! the server shuts down. A subscription ends earlier if the client cancels it or disconnects.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::caller::Peer;
use super::jsonrpc::{ErrorObject, INVALID_PARAMS, Json, Outgoing, RequestId};
use super::schema::{Implementation, SERVER_INFO};

/// Parameters or result of a message that belongs to a subscription.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SubscriptionMessage<'id> {
    #[serde(skip_serializing_if = "Option::is_none")]
    result_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notifications: Option<Value>,
    #[serde(rename = "_meta")]
    meta: Meta<'id>,
}

#[derive(Debug, Serialize)]
struct Meta<'id> {
    /// Id of the request that opened the subscription.
    #[serde(rename = "io.modelcontextprotocol/subscriptionId")]
    subscription: &'id RequestId,
    #[serde(
        rename = "io.modelcontextprotocol/serverInfo",
        skip_serializing_if = "Option::is_none"
    )]
    server: Option<Implementation>,
}

impl<'id> SubscriptionMessage<'id> {
    /// Creates the parameters of a message for the subscription that request `id` opened.
    fn new(id: &'id RequestId) -> Self {
        Self {
            result_type: None,
            notifications: None,
            meta: Meta {
                subscription: id,
                server: None,
            },
        }
    }

    fn to_json(&self) -> Json {
        Json::new(self).expect("all keys are strings")
    }
}

/// The notifications that a client opted in to. The server has only one kind: changes to the list of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filter {
    tools_list_changed: bool,
}

impl Filter {
    /// Reads the parameters of the request.
    ///
    /// # Errors
    /// Fails if `notifications` is missing or has values of the wrong type.
    pub(crate) fn parse(params: &Map<String, Value>) -> Result<Self, ErrorObject> {
        let invalid = |message: &str| ErrorObject::new(INVALID_PARAMS, message);
        let Some(Value::Object(requested)) = params.get("notifications") else {
            return Err(invalid(
                "`notifications` must be an object, for example {\"toolsListChanged\": true}",
            ));
        };
        match requested.get("toolsListChanged") {
            Some(Value::Bool(tools_list_changed)) => Ok(Self {
                tools_list_changed: *tools_list_changed,
            }),
            None => Ok(Self {
                tools_list_changed: false,
            }),
            Some(_) => Err(invalid(
                "`notifications.toolsListChanged` must be true or false",
            )),
        }
    }

    /// Returns the part of the request that the server honours, for the acknowledgement.
    fn honoured(self) -> Value {
        if self.tools_list_changed {
            json!({"toolsListChanged": true})
        } else {
            json!({})
        }
    }
}

/// Sends `changes` to `peer` until `closing` is cancelled or the client stops reading, then returns the result of the request.
/// Dropping the future ends the subscription without a response.
pub(crate) async fn listen(
    id: &RequestId,
    filter: Filter,
    peer: Arc<dyn Peer>,
    mut changes: watch::Receiver<u64>,
    closing: CancellationToken,
) -> Json {
    let mut acknowledged = SubscriptionMessage::new(id);
    acknowledged.notifications = Some(filter.honoured());
    let mut is_read = peer.notify(Outgoing::Notification(
        "notifications/subscriptions/acknowledged",
        acknowledged.to_json(),
    ));
    while is_read {
        tokio::select! {
            () = closing.cancelled() => break,
            changed = changes.changed() => {
                if changed.is_err() {
                    break;
                }
                if filter.tools_list_changed {
                    let params = SubscriptionMessage::new(id).to_json();
                    is_read = peer.notify(Outgoing::tools_changed(Some(params)));
                }
            }
        }
    }
    let mut result = SubscriptionMessage::new(id);
    result.result_type = Some("complete");
    result.meta.server = Some(SERVER_INFO);
    result.to_json()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A peer that records notifications.
    #[derive(Default)]
    struct Recorder(Mutex<Vec<Outgoing>>);

    impl Peer for Recorder {
        fn notify(&self, notification: Outgoing) -> bool {
            self.0.lock().unwrap().push(notification);
            true
        }
    }

    fn filter(notifications: &Value) -> Result<Filter, ErrorObject> {
        let params = json!({"notifications": notifications});
        Filter::parse(params.as_object().unwrap())
    }

    #[test]
    fn only_changes_to_the_list_of_tools_are_honoured() {
        let all = json!({"toolsListChanged": true, "promptsListChanged": true, "resourceSubscriptions": ["x"]});
        assert_eq!(
            filter(&all).unwrap().honoured(),
            json!({"toolsListChanged": true})
        );
        assert_eq!(filter(&json!({})).unwrap().honoured(), json!({}));
        assert!(filter(&json!({"toolsListChanged": 1})).is_err());
        assert!(Filter::parse(&Map::new()).is_err());
    }

    #[tokio::test]
    async fn a_subscription_is_acknowledged_first_and_answered_at_shutdown() {
        let (peer, closing) = (Arc::new(Recorder::default()), CancellationToken::new());
        let (changes, seen) = watch::channel(0);
        let id = RequestId::from("s".to_owned());
        let requested = filter(&json!({"toolsListChanged": true})).unwrap();
        let listening = listen(&id, requested, peer.clone(), seen, closing.clone());
        let mut listening = std::pin::pin!(listening);
        assert!(futures_util::poll!(listening.as_mut()).is_pending());
        changes.send_modify(|count| *count += 1);
        assert!(futures_util::poll!(listening.as_mut()).is_pending());
        closing.cancel();
        let result = listening.await;
        let meta = json!({"io.modelcontextprotocol/subscriptionId": "s"});
        let mut complete = json!({"resultType": "complete", "_meta": meta});
        complete["_meta"]["io.modelcontextprotocol/serverInfo"] = json!(SERVER_INFO);
        assert_eq!(result, complete.into());
        assert_eq!(
            *peer.0.lock().unwrap(),
            [
                Outgoing::Notification(
                    "notifications/subscriptions/acknowledged",
                    json!({"notifications": {"toolsListChanged": true}, "_meta": meta}).into()
                ),
                Outgoing::Notification(
                    "notifications/tools/list_changed",
                    json!({"_meta": meta}).into()
                ),
            ]
        );
    }
}
