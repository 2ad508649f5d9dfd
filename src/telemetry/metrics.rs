//! The metrics of the server, which `/metrics` returns.
//!
//! Metrics are global to the process, like the log. Over stdio, which has no `/metrics`, nothing is installed and every function does
//! nothing. Label values are names from the configuration and constants of this program, never text from a client. [`create_series`]
//! creates each series at 0 before its first event: a rate over a series that begins at 1 would miss that event.

mod known;
mod meters;
mod process;

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::encoding::{prometheus_text, text};
use strum::{EnumIter, IntoStaticStr};

use super::outcome::{CallEnd, Outcome};
use crate::process::usage::Usage;

pub(crate) use known::Names;
use meters::{
    CallLabels, Histograms, LoadLabels, Meters, ModelLabels, RefusalLabels, ReloadLabels,
    TokenLabels, ToolLabels, UnloadLabels,
};

static METERS: OnceLock<Meters> = OnceLock::new();

/// Starts to count, for the whole process. Called when the first configuration is active.
pub(crate) fn install() {
    METERS.get_or_init(Meters::new).server.reload_succeeded();
}

/// Creates the series of `names` at 0. Series of former names stay until the server exits.
pub(crate) fn create_series(names: &Names<'_>) {
    if let Some(meters) = METERS.get() {
        meters.create_series(names);
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

/// Returns all metrics in `format`; an empty string over stdio.
pub(crate) fn render(format: Format) -> String {
    let mut rendered = String::new();
    if let Some(meters) = METERS.get() {
        let encoded: fmt::Result = match format {
            Format::Text => prometheus_text::encode(&mut rendered, &meters.registry),
            Format::OpenMetrics => text::encode(&mut rendered, &meters.registry),
        };
        encoded.expect("writing to a string does not fail");
    }
    rendered
}

/// Returns the labels of series by model.
fn of(model: &str) -> ModelLabels {
    ModelLabels {
        model: model.to_owned(),
    }
}

/// Records the start of a call of `model`.
pub(super) fn call_started(model: &str) {
    if let Some(meters) = METERS.get() {
        meters.calls.running.get_or_create(&of(model)).inc();
    }
}

/// The names that label a call.
#[derive(Debug)]
pub(super) struct CallNames<'call> {
    pub(super) tool: &'call str,
    pub(super) model: &'call str,
    /// Name of the caller's token.
    pub(super) token: Option<&'call str>,
}

/// Records the end of a call that took the time `took`. If `end` is `None`, the call is retried, and only its last attempt is counted.
pub(super) fn call_ended(call: &CallNames<'_>, end: Option<&CallEnd>, took: Duration) {
    let Some(meters) = METERS.get() else { return };
    meters.calls.running.get_or_create(&of(call.model)).dec();
    let Some(end) = end else { return };
    let (tool, model) = (call.tool.to_owned(), call.model.to_owned());
    let outcome = end.outcome.name();
    let ended = CallLabels {
        tool: tool.clone(),
        model: model.clone(),
        outcome,
        code: end.code(),
    };
    meters.calls.ended.get_or_create(&ended).inc();
    if let Some(token) = call.token.map(str::to_owned) {
        let of_token = TokenLabels { token, outcome };
        meters.calls.by_token.get_or_create(&of_token).inc();
    }
    let call_time = meters
        .calls
        .duration
        .get_or_create(&ToolLabels { tool, model });
    call_time.observe(took.as_secs_f64());
}

/// Tokens and times of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens of the prompt that came from the cache.
    pub cached: u32,
    /// Generated tokens.
    pub completion: u32,
    /// Generated tokens that were forced instead of sampled.
    pub forced: u32,
    /// Draft tokens.
    pub drafted: u32,
    /// Draft tokens that the model accepted.
    pub accepted: u32,
    /// Time from the arrival of the call to the prefill.
    pub waited: Duration,
    /// Time from the start of the prefill to the first token.
    pub prefill: Duration,
    /// Prefill speed, in tokens per second; `None` if it is unknown.
    pub prompt_speed: Option<f64>,
    /// Generation speed, in tokens per second; `None` if it is unknown.
    pub generation_speed: Option<f64>,
}

/// Records an answer of `model`.
pub(crate) fn answered(model: &str, answer: Answered) {
    let Some(meters) = METERS.get() else { return };
    let model = of(model);
    let tokens = [
        (&meters.calls.prompt_tokens, answer.prompt),
        (&meters.calls.cached_tokens, answer.cached),
        (&meters.calls.completion_tokens, answer.completion),
        (&meters.calls.forced_tokens, answer.forced),
        (&meters.calls.drafted_tokens, answer.drafted),
        (&meters.calls.accepted_tokens, answer.accepted),
    ];
    for (counter, tokens) in tokens {
        counter.get_or_create(&model).inc_by(tokens.into());
    }
    let observe = |histograms: &Histograms<ModelLabels>, value| {
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
        .get_or_create(&LoadLabels { model, outcome })
        .inc();
}

/// Records that a process loaded `model` in the time `took`.
pub(crate) fn loaded(model: &str, took: Duration) {
    let Some(meters) = METERS.get() else { return };
    count_load(meters, model, "ok");
    let load_time = meters.models.load_time.get_or_create(&of(model));
    load_time.observe(took.as_secs_f64());
    meters.models.loaded.get_or_create(&of(model)).inc();
}

/// Records that a load of `model` failed.
pub(crate) fn load_failed(model: &str) {
    if let Some(meters) = METERS.get() {
        count_load(meters, model, "failed");
    }
}

/// Records that the memory of a process of `model` grew by `bytes` since the last measurement.
pub(crate) fn memory_grew(model: &str, bytes: u64) {
    if let Some(meters) = METERS.get() {
        meters
            .models
            .memory
            .get_or_create(&of(model))
            .inc_by(whole(bytes));
    }
}

/// Records the resources that a process of `model` uses `now`. `known` is the last measurement of the same process.
pub(crate) fn usage_changed(model: &str, known: Usage, now: Usage) {
    let Some(meters) = METERS.get() else { return };
    let model = of(model);
    let cpu_time = now.cpu_time.saturating_sub(known.cpu_time);
    let counter = meters.models.cpu_time.get_or_create(&model);
    counter.inc_by(cpu_time.as_secs_f64());
    let gauge = meters.models.resident.get_or_create(&model);
    gauge.inc_by(whole(now.resident) - whole(known.resident));
}

/// Reason why a model was unloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum UnloadReason {
    /// The model was not called for its `idle_ttl`.
    Idle,
    /// Another model required its memory, or its slot of `max_loaded`.
    Evicted,
    /// The configuration or the model's file changed.
    Edited,
    /// An operator requested it with `unload` or `restart`.
    Requested,
    /// The server shuts down.
    Shutdown,
}

impl UnloadReason {
    /// Returns the value of the label `reason`.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }
}

/// The way in which a model's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessEnd {
    /// The server unloaded the model.
    Unloaded(UnloadReason),
    /// The process crashed or exited by itself.
    Died,
    /// Another program ended the process with SIGTERM.
    Terminated,
    /// The server killed the process because it finished no step within `stall_timeout`.
    Stalled,
}

/// Records the end of a process of `model` that had taken `bytes` of memory. A successor may already run.
pub(crate) fn process_ended(model: &str, end: ProcessEnd, was_loaded: bool, bytes: u64) {
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
        &meters.models.threads,
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
                .get_or_create(&UnloadLabels { model, reason });
            unloads.inc();
        }
        ProcessEnd::Unloaded(_) | ProcessEnd::Terminated => {}
    }
}

/// Records how long ago the process of `model` finished a step; zero if it is idle.
pub(crate) fn last_step(model: &str, ago: Duration) {
    if let Some(meters) = METERS.get() {
        let gauge = meters.models.last_step.get_or_create(&of(model));
        gauge.set(whole(ago.as_secs()));
    }
}

/// The occupancy of a model's process at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occupancy {
    /// Calls that wait for a sequence.
    pub waiting: usize,
    /// Cells of the KV cache.
    pub cells: u32,
    /// Cells of the KV cache that are reserved for running calls.
    pub reserved_cells: u32,
    /// Threads that compute on the CPUs; 0 if GPUs compute the layers.
    pub threads: usize,
}

/// Records the occupancy of the process of `model`.
pub(crate) fn occupancy_changed(model: &str, now: Occupancy) {
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
    let threads = meters.models.threads.get_or_create(&model);
    threads.set(whole(now.threads as u64));
}

/// Counts a request over HTTP that was refused with `status`.
pub(crate) fn http_refused(status: u16) {
    if let Some(meters) = METERS.get() {
        let refusal = RefusalLabels {
            status: status.into(),
        };
        meters.server.http_refusals.get_or_create(&refusal).inc();
    }
}

/// Records whether an edit of the configuration requires a restart of the server.
pub(crate) fn restart_required(is_required: bool) {
    if let Some(meters) = METERS.get() {
        meters.server.restart_required.set(is_required.into());
    }
}

/// Records that an edit of the configuration was applied, or rejected.
pub(crate) fn reloaded(is_ok: bool) {
    let Some(meters) = METERS.get() else { return };
    let outcome = if is_ok { "ok" } else { "refused" };
    meters
        .server
        .reloads
        .get_or_create(&ReloadLabels { outcome })
        .inc();
    if is_ok {
        meters.server.reload_succeeded();
    } else {
        meters.server.reload_ok.set(0);
    }
}

/// Converts `value` to the type of gauges.
fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
