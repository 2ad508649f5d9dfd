//! Progress by time, not by step: hosts give up on a call by the clock.
//!
//! The first notification comes within a second, then at most two a second while something changes, and one at least
//! every five seconds in any case. `progress` is the seconds since the call arrived, so it always increases.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::dispatcher::Peer;
use super::jsonrpc::Outgoing;
use super::schema::ProgressNotificationParams;
use crate::worker::client::{NEWEST_CHARS, Progress};

/// Between two looks at the news: two a second at most, and the first within one.
const TICK: Duration = Duration::from_millis(500);

/// The longest silence: less than the five seconds promised, by a tick.
const HEARTBEAT: Duration = Duration::from_millis(4500);

/// Runs `call` and reports its `news` to `peer` until it ends; silently where the request carried no token.
pub async fn report<T>(
    call: impl Future<Output = T>,
    token: Option<Value>,
    mut news: watch::Receiver<Progress>,
    peer: Arc<dyn Peer>,
    received: Instant,
) -> T {
    let mut call = std::pin::pin!(call);
    let Some(token) = token.filter(|token| token.is_string() || token.is_number()) else {
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
                // A sender that is gone has ended its call, which is noticed above.
                if !is_due && !news.has_changed().unwrap_or(false) {
                    continue;
                }
                last_sent = Some(now);
                let message = message(&news.borrow_and_update());
                peer.notify(notification(&token, received.elapsed(), message));
            }
        }
    }
}

fn notification(token: &Value, elapsed: Duration, message: String) -> Outgoing {
    let params = ProgressNotificationParams {
        progress_token: token.clone(),
        progress: elapsed.as_secs_f64(),
        message,
    };
    let params = serde_json::to_value(params).expect("the parameters have only string keys");
    Outgoing::Notification("notifications/progress", params)
}

/// What people read, at most [`NEWEST_CHARS`] characters.
fn message(progress: &Progress) -> String {
    match progress {
        Progress::Starting => "starting".into(),
        Progress::Loading(percent) => format!("loading {percent} %"),
        Progress::Queued(place) => format!("queued, place {place}"),
        Progress::Prefill(done, total) => format!("reading the prompt, {done}/{total} tokens"),
        Progress::Generating(newest) => newest.chars().take(NEWEST_CHARS).collect(),
    }
}
