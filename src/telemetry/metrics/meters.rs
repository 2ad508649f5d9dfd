//! The series that there are: their names, labels, texts and bounds.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::of_process::OwnProcess;

/// Bounds of durations, in seconds: a cached answer takes hundredths, a long one on a CPU minutes.
const SECONDS: [f64; 14] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0,
];

/// Bounds of speeds, in tokens a second: from a large model on a small CPU to prompts on a GPU.
const SPEEDS: [f64; 12] = [
    1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 10_000.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfModel {
    pub(super) model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfTool {
    pub(super) tool: String,
    pub(super) model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfCall {
    pub(super) tool: String,
    pub(super) model: String,
    pub(super) outcome: &'static str,
    /// Code of the error, empty for other outcomes.
    pub(super) code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfToken {
    pub(super) token: String,
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfUnload {
    pub(super) model: String,
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBuild {
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfLoad {
    pub(super) model: String,
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfReload {
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfRefusal {
    pub(super) status: u32,
}

pub(super) type Histograms<L> = Family<L, Histogram, Bounds>;
type Float = Gauge<f64, AtomicU64>;
type FloatCounter = Counter<f64, AtomicU64>;

/// Makes the histogram of a series, with these bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds(&'static [f64]);

impl MetricConstructor<Histogram> for Bounds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// All meters, and the registry that writes them.
#[derive(Debug)]
pub(super) struct Meters {
    pub(super) registry: Registry,
    pub(super) calls: CallMeters,
    pub(super) models: ModelMeters,
    pub(super) server: ServerMeters,
}

/// Meters of calls and their answers.
#[derive(Debug)]
pub(super) struct CallMeters {
    pub(super) ended: Family<OfCall, Counter>,
    pub(super) by_token: Family<OfToken, Counter>,
    pub(super) running: Family<OfModel, Gauge>,
    pub(super) waiting: Family<OfModel, Gauge>,
    pub(super) duration: Histograms<OfTool>,
    pub(super) queue_time: Histograms<OfModel>,
    pub(super) first_token_time: Histograms<OfModel>,
    pub(super) prompt_speed: Histograms<OfModel>,
    pub(super) generation_speed: Histograms<OfModel>,
    pub(super) prompt_tokens: Family<OfModel, Counter>,
    pub(super) cached_tokens: Family<OfModel, Counter>,
    pub(super) completion_tokens: Family<OfModel, Counter>,
}

/// Meters of models and their processes.
#[derive(Debug)]
pub(super) struct ModelMeters {
    pub(super) loads: Family<OfLoad, Counter>,
    pub(super) load_time: Histograms<OfModel>,
    pub(super) unloads: Family<OfUnload, Counter>,
    pub(super) deaths: Family<OfModel, Counter>,
    pub(super) stalls: Family<OfModel, Counter>,
    pub(super) last_step: Family<OfModel, Gauge>,
    pub(super) loaded: Family<OfModel, Gauge>,
    pub(super) memory: Family<OfModel, Gauge>,
    pub(super) resident: Family<OfModel, Gauge>,
    pub(super) cpu_time: Family<OfModel, FloatCounter>,
    pub(super) cells: Family<OfModel, Gauge>,
    pub(super) reserved_cells: Family<OfModel, Gauge>,
}

/// Meters of HTTP and the configuration.
#[derive(Debug)]
pub(super) struct ServerMeters {
    pub(super) http_refusals: Family<OfRefusal, Counter>,
    pub(super) reloads: Family<OfReload, Counter>,
    pub(super) restart_required: Gauge,
    pub(super) reload_ok: Gauge,
    pub(super) reload_time: Float,
}

impl Meters {
    pub(super) fn new() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(OwnProcess));
        // A counter's name gets `_total`, a text its full stop.
        let mut names = Names(registry.sub_registry_with_prefix("llama_mcp"));
        let build: Family<OfBuild, Gauge> =
            names.add("build_info", "The program, by its version; the value is 1");
        let version = env!("CARGO_PKG_VERSION");
        build.get_or_create(&OfBuild { version }).set(1);
        let meters = Self {
            calls: CallMeters::register(&mut names),
            models: ModelMeters::register(&mut names),
            server: ServerMeters::register(&mut names),
            registry,
        };
        meters.expect_fixed();
        meters
    }
}

impl CallMeters {
    fn register(names: &mut Names<'_>) -> Self {
        Self {
            ended: names.add(
                "calls",
                "Calls of tools by outcome (stop, length, deadline, error, busy, cancelled) and code of the error",
            ),
            by_token: names.add("token_calls", "Calls by name of the token and outcome"),
            running: names.add("calls_running", "Calls that have no answer yet"),
            waiting: names.add("calls_waiting", "Calls that wait for a sequence of the model"),
            duration: names.seconds("call_duration_seconds", "Time from a call's arrival to its end"),
            queue_time: names.seconds(
                "queue_duration_seconds",
                "Time that answered calls waited: for memory, for the load of their model and for a sequence",
            ),
            first_token_time: names.seconds(
                "time_to_first_token_seconds",
                "Time from a call's arrival to the first token of its answer",
            ),
            prompt_speed: names.speeds(
                "prompt_tokens_per_second",
                "Prefill speed, without cached tokens",
            ),
            generation_speed: names.speeds(
                "generation_tokens_per_second",
                "Generation speed of an answer",
            ),
            prompt_tokens: names.add("prompt_tokens", "Tokens of the prompts of answered calls"),
            cached_tokens: names.add(
                "cached_prompt_tokens",
                "Prompt tokens that came from the cache, of answered calls",
            ),
            completion_tokens: names.add(
                "completion_tokens",
                "Tokens that were generated, thinking included",
            ),
        }
    }
}

impl ModelMeters {
    fn register(names: &mut Names<'_>) -> Self {
        Self {
            loads: names.add("model_loads", "Loads of models by outcome: ok, failed"),
            load_time: names.seconds("model_load_duration_seconds", "Duration of loads of models"),
            unloads: names.add(
                "model_unloads",
                "Unloads of models by reason: idle, evicted, edited, requested, shutdown",
            ),
            deaths: names.add(
                "model_process_deaths",
                "Model processes that ended unexpectedly, stalls not counted",
            ),
            stalls: names.add(
                "model_stalls",
                "Model processes that were killed because they finished no step within `stall_timeout`",
            ),
            last_step: names.add(
                "model_last_step_seconds",
                "Time since the model's process finished a step, 0 if it has nothing to do",
            ),
            loaded: names.add("model_loaded", "Processes that have the model loaded"),
            memory: names.add(
                "model_memory_bytes",
                "Highest measured memory of the model's process, without GPU memory",
            ),
            resident: names.add(
                "model_process_resident_memory_bytes",
                "Resident memory of the model's process, as last measured",
            ),
            cpu_time: names.add(
                "model_process_cpu_seconds",
                "CPU time of the model's processes, in user and kernel mode",
            ),
            cells: names.add("kv_cells", "Cells of the model's KV cache, a token each"),
            reserved_cells: names.add(
                "kv_cells_reserved",
                "Cells of the model's KV cache that are reserved for running calls",
            ),
        }
    }
}

impl ServerMeters {
    fn register(names: &mut Names<'_>) -> Self {
        Self {
            http_refusals: names.add(
                "http_refusals",
                "Requests over HTTP that were refused, by status",
            ),
            reloads: names.add(
                "config_reloads",
                "Reloads of the configuration by outcome: ok, refused",
            ),
            restart_required: names.add(
                "config_restart_required",
                "Whether an edit of the configuration requires a restart of the server: 1 if so, else 0",
            ),
            reload_ok: names.add(
                "config_last_reload_successful",
                "Whether the last reload of the configuration succeeded: 1 if so, else 0",
            ),
            reload_time: names.add(
                "config_last_reload_success_timestamp_seconds",
                "When the active configuration was loaded, in seconds since 1970",
            ),
        }
    }

    /// Records that the configuration that was read last is active.
    pub(super) fn reload_succeeded(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.reload_ok.set(1);
        self.reload_time.set(now.unwrap_or_default().as_secs_f64());
    }
}

struct Names<'registry>(&'registry mut Registry);

impl Names<'_> {
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.register(name, help, M::default())
    }

    fn seconds<L: LabelSet>(&mut self, name: &str, help: &str) -> Histograms<L> {
        self.register(name, help, Family::new_with_constructor(Bounds(&SECONDS)))
    }

    fn speeds<L: LabelSet>(&mut self, name: &str, help: &str) -> Histograms<L> {
        self.register(name, help, Family::new_with_constructor(Bounds(&SPEEDS)))
    }

    fn register<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}

/// What can tell series apart.
trait LabelSet:
    EncodeLabelSet + Clone + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync + 'static
{
}

impl LabelSet for OfModel {}
impl LabelSet for OfTool {}
