//! `subscriptions/listen`: a request that stays open and carries what its client opted in to (2026-07-28
//! `basic/patterns/subscriptions`).
//!
//! The first message acknowledges, every notification names the subscription by the request's id, and at the end of the
//! server the request is answered. A subscription ends before that when its client cancels it or goes.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::caller::Peer;
use super::jsonrpc::{ErrorObject, INVALID_PARAMS, Json, Outgoing, RequestId};
use super::schema::{Implementation, SERVER_INFO};

/// The parameters or the result of a message that belongs to a subscription.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OfSubscription<'id> {
    #[serde(skip_serializing_if = "Option::is_none")]
    result_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notifications: Option<Value>,
    #[serde(rename = "_meta")]
    meta: Meta<'id>,
}

#[derive(Debug, Serialize)]
struct Meta<'id> {
    /// The request that opened the subscription.
    #[serde(rename = "io.modelcontextprotocol/subscriptionId")]
    subscription: &'id RequestId,
    #[serde(
        rename = "io.modelcontextprotocol/serverInfo",
        skip_serializing_if = "Option::is_none"
    )]
    server: Option<Implementation>,
}

impl<'id> OfSubscription<'id> {
    /// Makes the parameters of a message of the subscription that request `id` opened.
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
        Json::of(self).expect("all keys are strings")
    }
}

/// What a client opted in to, as far as there is any of it: only the list of tools ever changes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filter {
    tools_list_changed: bool,
}

impl Filter {
    /// Reads the parameters of the request.
    ///
    /// # Errors
    /// Where they do not say what is wanted.
    pub(crate) fn parse(params: &Map<String, Value>) -> Result<Self, ErrorObject> {
        let invalid = |message: &str| ErrorObject::new(INVALID_PARAMS, message);
        let Some(Value::Object(wanted)) = params.get("notifications") else {
            return Err(invalid(
                "`notifications` must say which are wanted: {\"toolsListChanged\": true}",
            ));
        };
        match wanted.get("toolsListChanged") {
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

    fn honoured(self) -> Value {
        if self.tools_list_changed {
            json!({"toolsListChanged": true})
        } else {
            json!({})
        }
    }
}

/// Tells `peer` of `changes` until `closing`, and gives the answer to the request then, or when the client does not read what
/// it is told. Dropping the future ends the subscription without an answer.
pub(crate) async fn listen(
    id: &RequestId,
    filter: Filter,
    peer: Arc<dyn Peer>,
    mut changes: watch::Receiver<u64>,
    closing: CancellationToken,
) -> Json {
    let mut acknowledged = OfSubscription::new(id);
    acknowledged.notifications = Some(filter.honoured());
    let mut is_told = peer.notify(Outgoing::Notification(
        "notifications/subscriptions/acknowledged",
        acknowledged.to_json(),
    ));
    while is_told {
        tokio::select! {
            () = closing.cancelled() => break,
            changed = changes.changed() => {
                if changed.is_err() {
                    break;
                }
                if filter.tools_list_changed {
                    let params = OfSubscription::new(id).to_json();
                    is_told = peer.notify(Outgoing::tools_changed(Some(params)));
                }
            }
        }
    }
    let mut result = OfSubscription::new(id);
    result.result_type = Some("complete");
    result.meta.server = Some(SERVER_INFO);
    result.to_json()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<Outgoing>>);

    impl Peer for Heard {
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
    fn only_what_there_is_is_honoured() {
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
    async fn it_is_acknowledged_first_and_answered_at_the_end() {
        let (peer, closing) = (Arc::new(Heard::default()), CancellationToken::new());
        let (changes, seen) = watch::channel(0);
        let id = RequestId::from("s".to_owned());
        let wanted = filter(&json!({"toolsListChanged": true})).unwrap();
        let listening = listen(&id, wanted, peer.clone(), seen, closing.clone());
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
