//! Progress notifications, sent on a timer because hosts time out calls that stay silent.
//!
//! The first notification is sent within a second. After that, at most two a second are sent while the state changes, and at least one
//! every five seconds otherwise. `progress` is the number of seconds since the call arrived, so it always increases.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::caller::Peer;
use super::jsonrpc::{Json, Outgoing, ProgressToken};
use super::schema::ProgressNotificationParams;
use crate::tools::Progress;

/// Interval between two checks for updates.
const TICK: Duration = Duration::from_millis(500);

/// Longest time without a notification: the promised five seconds less one [`TICK`].
const HEARTBEAT: Duration = Duration::from_millis(4500);

/// Runs `call` to its end, and sends its `updates` to `peer` if the request has a progress token.
pub(crate) async fn report<T>(
    call: impl Future<Output = T>,
    token: Option<ProgressToken>,
    mut updates: watch::Receiver<Progress>,
    peer: Arc<dyn Peer>,
    received: Instant,
) -> T {
    let mut call = std::pin::pin!(call);
    let Some(token) = token else {
        return call.await;
    };
    let mut ticks = tokio::time::interval_at(received + TICK, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_sent = None;
    loop {
        tokio::select! {
            biased;
            result = &mut call => return result,
            now = ticks.tick() => {
                let silent_for = last_sent.map(|sent| now - sent);
                let is_due = silent_for.is_none_or(|silence| silence >= HEARTBEAT);
                // `Err` means that the call has dropped the sender: the first branch will see its result.
                if !is_due && !updates.has_changed().unwrap_or(false) {
                    continue;
                }
                last_sent = Some(now);
                let message = message(&updates.borrow_and_update());
                peer.notify(notification(&token, received.elapsed(), message));
            }
        }
    }
}

fn notification(token: &ProgressToken, elapsed: Duration, message: String) -> Outgoing {
    let params = ProgressNotificationParams {
        progress_token: token.clone(),
        progress: elapsed.as_secs_f64(),
        message,
    };
    let params = Json::new(&params).expect("the parameters have only string keys");
    Outgoing::Notification("notifications/progress", params)
}

/// Returns the text that a host shows to its user, at most 200 characters.
fn message(progress: &Progress) -> String {
    match progress {
        Progress::Starting => "starting".into(),
        Progress::Loading(percent) => format!("loading {percent} %"),
        Progress::WaitingForRoom => "waiting until a busy model can be unloaded".into(),
        Progress::Queued(position) => format!("queued, position {position}"),
        Progress::Prefill { done, total } => {
            format!("processing the prompt, {done}/{total} tokens")
        }
        Progress::Thinking(tokens) => format!("thinking, {tokens} tokens"),
        Progress::Generating(newest) => newest.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::Value;

    use super::*;

    /// A peer that records notifications with the time since the start of the call.
    struct Recorder {
        start: Instant,
        notifications: Mutex<Vec<(Duration, Value)>>,
    }

    impl Peer for Recorder {
        fn notify(&self, notification: Outgoing) -> bool {
            let Outgoing::Notification(_, params) = notification else {
                panic!("only notifications are sent")
            };
            let params = serde_json::from_str(&params.to_string()).unwrap();
            let mut notifications = self.notifications.lock().unwrap();
            notifications.push((self.start.elapsed(), params));
            true
        }
    }

    /// Returns the notifications of a call of 21 seconds whose state changes every `step`.
    async fn notifications_of(step: Duration) -> Vec<(Duration, Value)> {
        let start = Instant::now();
        let peer = Arc::new(Recorder {
            start,
            notifications: Mutex::default(),
        });
        let (sender, updates) = watch::channel(Progress::default());
        let call = async {
            let mut position = 0;
            while start.elapsed() < Duration::from_secs(21) {
                tokio::time::sleep(step).await;
                position += 1;
                sender.send_replace(Progress::Queued(position));
            }
        };
        report(
            call,
            Some(String::from("t").into()),
            updates,
            peer.clone(),
            start,
        )
        .await;
        peer.notifications.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn updates_are_sent_within_a_second_and_at_most_twice_a_second() {
        let sent = notifications_of(Duration::from_millis(10)).await;
        assert!(sent[0].0 <= Duration::from_secs(1));
        assert!(
            sent
                .windows(2)
                .all(|pair| pair[1].0.checked_sub(pair[0].0).unwrap() >= Duration::from_millis(500)),
            "{sent:?}"
        );
        assert!(sent.len() >= 40);
    }

    #[tokio::test(start_paused = true)]
    async fn without_updates_a_heartbeat_is_sent_every_five_seconds() {
        let sent = notifications_of(Duration::from_secs(21)).await;
        assert!(sent[0].0 <= Duration::from_secs(1));
        assert!(
            sent.windows(2)
                .all(|pair| pair[1].0.checked_sub(pair[0].0).unwrap() <= Duration::from_secs(5)),
            "{sent:?}"
        );
        assert!(sent.len() <= 6);
    }

    #[tokio::test(start_paused = true)]
    async fn progress_increases_and_carries_the_token_of_the_request() {
        let sent = notifications_of(Duration::from_millis(700)).await;
        let progress: Vec<f64> = sent
            .iter()
            .map(|(_, params)| params["progress"].as_f64().unwrap())
            .collect();
        assert!(progress.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            sent.iter()
                .all(|(_, params)| params["progressToken"] == "t")
        );
    }
}
