//! What the server counts: names, labels and units of all that `/metrics` tells.
//!
//! Counted in one place for the whole process, as logs are written. Where nobody can ask (stdio) nothing is installed, and counting
//! does nothing. Labels are names of the configuration and words of this program, never what a client sends. [`expect`] creates
//! each series at 0 before its first event: a rate over a series that begins at 1 would miss that event.

mod known;
mod meters;
mod of_process;

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::encoding::{prometheus_text, text};
use strum::{EnumIter, IntoStaticStr};

use super::outcome::{CallEnd, Outcome};
use crate::process::usage::Usage;

pub(crate) use known::Names;
use meters::{
    Histograms, Meters, OfCall, OfLoad, OfModel, OfRefusal, OfReload, OfToken, OfTool, OfUnload,
};

static METERS: OnceLock<Meters> = OnceLock::new();

/// Counts from here on, for the whole process. The active configuration was just read.
pub(crate) fn install() {
    METERS.get_or_init(Meters::new).server.reload_succeeded();
}

/// Creates, at 0, the series of `names`. Series of former names stay until the server ends.
pub(crate) fn expect(names: &Names<'_>) {
    if let Some(meters) = METERS.get() {
        meters.expect(names);
    }
}

/// A text format for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Format {
    /// Returns the value of `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Returns all that was counted, in `format`; an empty text if nothing is counted.
pub(crate) fn render(format: Format) -> String {
    let mut rendered = String::new();
    if let Some(meters) = METERS.get() {
        let encoded: fmt::Result = match format {
            Format::Text => prometheus_text::encode(&mut rendered, &meters.registry),
            Format::OpenMetrics => text::encode(&mut rendered, &meters.registry),
        };
        encoded.expect("a text takes all");
    }
    rendered
}

fn of(model: &str) -> OfModel {
    OfModel {
        model: model.to_owned(),
    }
}

/// A call begins, which `model` is to answer.
pub(super) fn call_begins(model: &str) {
    if let Some(meters) = METERS.get() {
        meters.calls.running.get_or_create(&of(model)).inc();
    }
}

/// A call, by the names that label it.
#[derive(Debug)]
pub(super) struct CallOf<'call> {
    pub(super) tool: &'call str,
    pub(super) model: &'call str,
    /// Name of the caller's token.
    pub(super) token: Option<&'call str>,
}

/// Counts a call that took the time `took`. If `end` is `None`, the call is made again, and only the last attempt is counted.
pub(super) fn call_ended(call: &CallOf<'_>, end: Option<&CallEnd>, took: Duration) {
    let Some(meters) = METERS.get() else { return };
    meters.calls.running.get_or_create(&of(call.model)).dec();
    let Some(end) = end else { return };
    let (tool, model) = (call.tool.to_owned(), call.model.to_owned());
    let outcome = end.outcome.name();
    let ended = OfCall {
        tool: tool.clone(),
        model: model.clone(),
        outcome,
        code: end.code(),
    };
    meters.calls.ended.get_or_create(&ended).inc();
    if let Some(token) = call.token.map(str::to_owned) {
        let of_token = OfToken { token, outcome };
        meters.calls.by_token.get_or_create(&of_token).inc();
    }
    let call_time = meters.calls.duration.get_or_create(&OfTool { tool, model });
    call_time.observe(took.as_secs_f64());
}

/// Tokens and times of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// How many of them came from the cache.
    pub cached: u32,
    /// Tokens that were written.
    pub completion: u32,
    /// Before the prompt was begun.
    pub waited: Duration,
    /// From there to the first token.
    pub prefill: Duration,
    /// Tokens a second, where it can be told.
    pub prompt_speed: Option<f64>,
    /// Tokens a second, where it can be told.
    pub generation_speed: Option<f64>,
}

/// An answer of `model` came.
pub(crate) fn answered(model: &str, answer: Answered) {
    let Some(meters) = METERS.get() else { return };
    let model = of(model);
    let tokens = [
        (&meters.calls.prompt_tokens, answer.prompt),
        (&meters.calls.cached_tokens, answer.cached),
        (&meters.calls.completion_tokens, answer.completion),
    ];
    for (counter, tokens) in tokens {
        counter.get_or_create(&model).inc_by(tokens.into());
    }
    let observe = |histograms: &Histograms<OfModel>, value| {
        histograms.get_or_create(&model).observe(value);
    };
    observe(&meters.calls.queue_time, answer.waited.as_secs_f64());
    if answer.completion == 0 {
        return;
    }
    let to_first_token = answer.waited + answer.prefill;
    observe(&meters.calls.first_token_time, to_first_token.as_secs_f64());
    let speeds = [
        (&meters.calls.prompt_speed, answer.prompt_speed),
        (&meters.calls.generation_speed, answer.generation_speed),
    ];
    for (histograms, speed) in speeds {
        if let Some(speed) = speed {
            observe(histograms, speed);
        }
    }
}

fn count_load(meters: &Meters, model: &str, outcome: &'static str) {
    let model = model.to_owned();
    meters
        .models
        .loads
        .get_or_create(&OfLoad { model, outcome })
        .inc();
}

/// A process has loaded `model`, in so long.
pub(crate) fn loaded(model: &str, took: Duration) {
    let Some(meters) = METERS.get() else { return };
    count_load(meters, model, "ok");
    let load_time = meters.models.load_time.get_or_create(&of(model));
    load_time.observe(took.as_secs_f64());
    meters.models.loaded.get_or_create(&of(model)).inc();
}

/// `model` could not be loaded.
pub(crate) fn load_failed(model: &str) {
    if let Some(meters) = METERS.get() {
        count_load(meters, model, "failed");
    }
}

/// A process of `model` takes so much more memory than was known.
pub(crate) fn takes_more(model: &str, bytes: u64) {
    if let Some(meters) = METERS.get() {
        meters
            .models
            .memory
            .get_or_create(&of(model))
            .inc_by(whole(bytes));
    }
}

/// Counts the resources that a process of `model` uses `now`. `known` is the last measurement of the same process.
pub(crate) fn used(model: &str, known: Usage, now: Usage) {
    let Some(meters) = METERS.get() else { return };
    let model = of(model);
    let cpu_time = now.cpu_time.saturating_sub(known.cpu_time);
    let counter = meters.models.cpu_time.get_or_create(&model);
    counter.inc_by(cpu_time.as_secs_f64());
    let gauge = meters.models.resident.get_or_create(&model);
    gauge.inc_by(whole(now.resident) - whole(known.resident));
}

/// The reason for which a model was unloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum UnloadReason {
    /// Nobody called it for its `idle_ttl`.
    Idle,
    /// Another model needed its memory, or its place under `max_loaded`.
    Evicted,
    /// An edit of the configuration, or another file, took its place.
    Edited,
    /// Somebody asked for it with `unload` or `restart`.
    Requested,
    /// The server shuts down.
    Shutdown,
}

impl UnloadReason {
    /// Returns the value of the label `reason`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How a model's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessEnd {
    /// It was told to.
    Unloaded(UnloadReason),
    /// By itself.
    Died,
    /// Ended from outside, with SIGTERM.
    Terminated,
    /// Killed, since it finished no step for too long.
    Stalled,
}

/// A process of `model` is gone that took so much memory, and had it loaded or not. There may be another one already.
pub(crate) fn gone(model: &str, end: ProcessEnd, was_loaded: bool, bytes: u64) {
    let Some(meters) = METERS.get() else { return };
    let model = of(model);
    meters
        .models
        .memory
        .get_or_create(&model)
        .dec_by(whole(bytes));
    if was_loaded {
        meters.models.loaded.get_or_create(&model).dec();
    }
    for gauge in [
        &meters.calls.waiting,
        &meters.models.cells,
        &meters.models.reserved_cells,
        &meters.models.last_step,
    ] {
        gauge.get_or_create(&model).set(0);
    }
    match end {
        ProcessEnd::Died => drop(meters.models.deaths.get_or_create(&model).inc()),
        ProcessEnd::Stalled => drop(meters.models.stalls.get_or_create(&model).inc()),
        ProcessEnd::Unloaded(reason) if was_loaded => {
            let model = model.model.clone();
            let reason = reason.name();
            let unloads = meters
                .models
                .unloads
                .get_or_create(&OfUnload { model, reason });
            unloads.inc();
        }
        ProcessEnd::Unloaded(_) | ProcessEnd::Terminated => {}
    }
}

/// Sets how long ago the process of `model` finished a step; zero if it has nothing to do.
pub(crate) fn last_step(model: &str, ago: Duration) {
    if let Some(meters) = METERS.get() {
        let gauge = meters.models.last_step.get_or_create(&of(model));
        gauge.set(whole(ago.as_secs()));
    }
}

/// What the process of a model holds at the moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occupancy {
    /// Calls that wait for a sequence.
    pub waiting: usize,
    /// All cells.
    pub cells: u32,
    /// Reserved ones.
    pub reserved_cells: u32,
}

/// The process of `model` holds this now.
pub(crate) fn holds(model: &str, now: Occupancy) {
    let Some(meters) = METERS.get() else { return };
    let model = of(model);
    let waiting = whole(now.waiting as u64);
    meters.calls.waiting.get_or_create(&model).set(waiting);
    meters
        .models
        .cells
        .get_or_create(&model)
        .set(now.cells.into());
    let reserved = meters.models.reserved_cells.get_or_create(&model);
    reserved.set(now.reserved_cells.into());
}

/// Counts a request over HTTP that was refused with `status`.
pub(crate) fn http_refused(status: u16) {
    if let Some(meters) = METERS.get() {
        let refusal = OfRefusal {
            status: status.into(),
        };
        meters.server.http_refusals.get_or_create(&refusal).inc();
    }
}

/// Sets whether an edit of the configuration waits for a restart of the server.
pub(crate) fn restart_required(is_required: bool) {
    if let Some(meters) = METERS.get() {
        meters.server.restart_required.set(is_required.into());
    }
}

/// An edit of the configuration came into force, or was refused.
pub(crate) fn reloaded(is_ok: bool) {
    let Some(meters) = METERS.get() else { return };
    let outcome = if is_ok { "ok" } else { "refused" };
    meters
        .server
        .reloads
        .get_or_create(&OfReload { outcome })
        .inc();
    if is_ok {
        meters.server.reload_succeeded();
    } else {
        meters.server.reload_ok.set(0);
    }
}

/// As gauges have numbers.
fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
