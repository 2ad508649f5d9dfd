//! Progress by time, not by step: hosts give up on a call by the clock.
//!
//! The first notification comes within a second, then at most two a second while something changes, and one at least
//! every five seconds in any case. `progress` is the seconds since the call arrived, so it always increases.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::caller::Peer;
use super::jsonrpc::{Json, Outgoing, ProgressToken};
use super::schema::ProgressNotificationParams;
use crate::tools::Progress;

/// Between two looks at the news: two a second at most, and the first within one.
const TICK: Duration = Duration::from_millis(500);

/// The longest silence: less than the five seconds promised, by a tick.
const HEARTBEAT: Duration = Duration::from_millis(4500);

/// Runs `call` and reports its `news` to `peer` until it ends; silently where the request carried no token.
pub(crate) async fn report<T>(
    call: impl Future<Output = T>,
    token: Option<ProgressToken>,
    mut news: watch::Receiver<Progress>,
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

fn notification(token: &ProgressToken, elapsed: Duration, message: String) -> Outgoing {
    let params = ProgressNotificationParams {
        progress_token: token.clone(),
        progress: elapsed.as_secs_f64(),
        message,
    };
    let params = Json::of(&params).expect("the parameters have only string keys");
    Outgoing::Notification("notifications/progress", params)
}

/// What people read, at most 200 characters.
fn message(progress: &Progress) -> String {
    match progress {
        Progress::Starting => "starting".into(),
        Progress::Loading(percent) => format!("loading {percent} %"),
        Progress::WaitingForRoom => "waiting for room: other models are loaded and busy".into(),
        Progress::Queued(place) => format!("queued, place {place}"),
        Progress::Prefill(done, total) => format!("reading the prompt, {done}/{total} tokens"),
        Progress::Thinking(tokens) => format!("thinking, {tokens} tokens"),
        Progress::Generating(newest) => newest.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::Value;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<(Duration, Value)>>, Option<Instant>);

    impl Peer for Heard {
        fn notify(&self, notification: Outgoing) -> bool {
            let Outgoing::Notification(_, params) = notification else {
                panic!("only news are sent")
            };
            let at = self.1.map_or(Duration::ZERO, |start| start.elapsed());
            let params = serde_json::from_str(&params.to_string()).unwrap();
            self.0.lock().unwrap().push((at, params));
            true
        }
    }

    /// What a client hears of a call of 21 seconds whose state changes every `step`. The time is paused, so it runs ahead.
    async fn heard_of(step: Duration) -> Vec<(Duration, Value)> {
        let start = Instant::now();
        let peer = Arc::new(Heard(Mutex::default(), Some(start)));
        let (sender, news) = watch::channel(Progress::default());
        let call = async {
            let mut place = 0;
            while start.elapsed() < Duration::from_secs(21) {
                tokio::time::sleep(step).await;
                place += 1;
                sender.send_replace(Progress::Queued(place));
            }
        };
        report(
            call,
            Some(String::from("t").into()),
            news,
            peer.clone(),
            start,
        )
        .await;
        peer.0.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn news_come_within_a_second_and_at_most_twice_a_second() {
        let heard = heard_of(Duration::from_millis(10)).await;
        assert!(heard[0].0 <= Duration::from_secs(1));
        assert!(
            heard
                .windows(2)
                .all(|pair| pair[1].0.checked_sub(pair[0].0).unwrap() >= Duration::from_millis(500)),
            "{heard:?}"
        );
        assert!(heard.len() >= 40);
    }

    #[tokio::test(start_paused = true)]
    async fn without_news_a_sign_of_life_comes_every_five_seconds() {
        let heard = heard_of(Duration::from_secs(21)).await;
        assert!(heard[0].0 <= Duration::from_secs(1));
        assert!(
            heard
                .windows(2)
                .all(|pair| pair[1].0.checked_sub(pair[0].0).unwrap() <= Duration::from_secs(5)),
            "{heard:?}"
        );
        assert!(heard.len() <= 6);
    }

    #[tokio::test(start_paused = true)]
    async fn progress_increases_and_carries_the_token_as_it_came() {
        let heard = heard_of(Duration::from_millis(700)).await;
        let progress: Vec<f64> = heard
            .iter()
            .map(|(_, params)| params["progress"].as_f64().unwrap())
            .collect();
        assert!(progress.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            heard
                .iter()
                .all(|(_, params)| params["progressToken"] == "t")
        );
    }
}
