//! The names, labels, help texts and buckets of all series.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::process::OwnProcess;

/// Buckets of durations, in seconds: from a cached answer to a long one on a CPU.
const SECONDS: [f64; 14] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0,
];

/// Buckets of speeds, in tokens per second: from a large model on a small CPU to prefill on a GPU.
const SPEEDS: [f64; 12] = [
    1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 10_000.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ModelLabels {
    pub(super) model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ToolLabels {
    pub(super) tool: String,
    pub(super) model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CallLabels {
    pub(super) tool: String,
    pub(super) model: String,
    pub(super) outcome: &'static str,
    /// Code of the error; empty for other outcomes.
    pub(super) code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TokenLabels {
    pub(super) token: String,
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UnloadLabels {
    pub(super) model: String,
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LoadLabels {
    pub(super) model: String,
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReloadLabels {
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RefusalLabels {
    pub(super) status: u32,
}

pub(super) type Histograms<L> = Family<L, Histogram, Buckets>;
type Float = Gauge<f64, AtomicU64>;
type FloatCounter = Counter<f64, AtomicU64>;

/// Creates the histograms of a family, with these buckets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// All meters, and the registry that renders them.
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
    pub(super) ended: Family<CallLabels, Counter>,
    pub(super) by_token: Family<TokenLabels, Counter>,
    pub(super) running: Family<ModelLabels, Gauge>,
    pub(super) waiting: Family<ModelLabels, Gauge>,
    pub(super) duration: Histograms<ToolLabels>,
    pub(super) queue_time: Histograms<ModelLabels>,
    pub(super) first_token_time: Histograms<ModelLabels>,
    pub(super) prompt_speed: Histograms<ModelLabels>,
    pub(super) generation_speed: Histograms<ModelLabels>,
    pub(super) prompt_tokens: Family<ModelLabels, Counter>,
    pub(super) cached_tokens: Family<ModelLabels, Counter>,
    pub(super) completion_tokens: Family<ModelLabels, Counter>,
    pub(super) forced_tokens: Family<ModelLabels, Counter>,
    pub(super) drafted_tokens: Family<ModelLabels, Counter>,
    pub(super) accepted_tokens: Family<ModelLabels, Counter>,
}

/// Meters of models and their processes.
#[derive(Debug)]
pub(super) struct ModelMeters {
    pub(super) loads: Family<LoadLabels, Counter>,
    pub(super) load_time: Histograms<ModelLabels>,
    pub(super) unloads: Family<UnloadLabels, Counter>,
    pub(super) deaths: Family<ModelLabels, Counter>,
    pub(super) stalls: Family<ModelLabels, Counter>,
    pub(super) last_step: Family<ModelLabels, Gauge>,
    pub(super) loaded: Family<ModelLabels, Gauge>,
    pub(super) memory: Family<ModelLabels, Gauge>,
    pub(super) resident: Family<ModelLabels, Gauge>,
    pub(super) cpu_time: Family<ModelLabels, FloatCounter>,
    pub(super) cells: Family<ModelLabels, Gauge>,
    pub(super) reserved_cells: Family<ModelLabels, Gauge>,
    pub(super) threads: Family<ModelLabels, Gauge>,
}

/// Meters of HTTP and the configuration.
#[derive(Debug)]
pub(super) struct ServerMeters {
    pub(super) http_refusals: Family<RefusalLabels, Counter>,
    pub(super) reloads: Family<ReloadLabels, Counter>,
    pub(super) restart_required: Gauge,
    pub(super) reload_ok: Gauge,
    pub(super) reload_time: Float,
}

impl Meters {
    pub(super) fn new() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(OwnProcess));
        // The encoder appends `_total` to the names of counters, and a period to help texts.
        let mut registrar = Registrar(registry.sub_registry_with_prefix("llama_mcp"));
        let build: Family<BuildLabels, Gauge> =
            registrar.add("build_info", "The program, by its version; the value is 1");
        let version = env!("CARGO_PKG_VERSION");
        build.get_or_create(&BuildLabels { version }).set(1);
        let meters = Self {
            calls: CallMeters::register(&mut registrar),
            models: ModelMeters::register(&mut registrar),
            server: ServerMeters::register(&mut registrar),
            registry,
        };
        meters.create_fixed_series();
        meters
    }
}

impl CallMeters {
    fn register(registrar: &mut Registrar<'_>) -> Self {
        Self {
            ended: registrar.add(
                "calls",
                "Calls of tools by outcome (stop, length, deadline, error, busy, cancelled) and code of the error",
            ),
            by_token: registrar.add("token_calls", "Calls by name of the token and outcome"),
            running: registrar.add("calls_running", "Calls that have no answer yet"),
            waiting: registrar.add("calls_waiting", "Calls that wait for a sequence of the model"),
            duration: registrar.seconds("call_duration_seconds", "Time from a call's arrival to its end"),
            queue_time: registrar.seconds(
                "queue_duration_seconds",
                "Time that answered calls waited: for memory, for the load of their model and for a sequence",
            ),
            first_token_time: registrar.seconds(
                "time_to_first_token_seconds",
                "Time from a call's arrival to the first token of its answer",
            ),
            prompt_speed: registrar.speeds(
                "prompt_tokens_per_second",
                "Prefill speed, without cached tokens",
            ),
            generation_speed: registrar.speeds(
                "generation_tokens_per_second",
                "Generation speed of an answer",
            ),
            prompt_tokens: registrar.add("prompt_tokens", "Tokens of the prompts of answered calls"),
            cached_tokens: registrar.add(
                "cached_prompt_tokens",
                "Prompt tokens that came from the cache, of answered calls",
            ),
            completion_tokens: registrar.add(
                "completion_tokens",
                "Tokens that were generated, thinking included",
            ),
            forced_tokens: registrar.add(
                "forced_tokens",
                "Generated tokens that were not sampled, since a schema or a marker of reasoning forced them",
            ),
            drafted_tokens: registrar.add(
                "drafted_tokens",
                "Draft tokens of speculative decoding, from the prompt and the answer (`speculative`)",
            ),
            accepted_tokens: registrar.add(
                "accepted_tokens",
                "Draft tokens that became part of an answer",
            ),
        }
    }
}

impl ModelMeters {
    fn register(registrar: &mut Registrar<'_>) -> Self {
        Self {
            loads: registrar.add("model_loads", "Loads of models by outcome: ok, failed"),
            load_time: registrar.seconds("model_load_duration_seconds", "Duration of loads of models"),
            unloads: registrar.add(
                "model_unloads",
                "Unloads of models by reason: idle, evicted, edited, requested, shutdown",
            ),
            deaths: registrar.add(
                "model_process_deaths",
                "Model processes that ended unexpectedly, stalls not counted",
            ),
            stalls: registrar.add(
                "model_stalls",
                "Model processes that were killed because they finished no step within `stall_timeout`",
            ),
            last_step: registrar.add(
                "model_last_step_seconds",
                "Time since the model's process finished a step, 0 if it has nothing to do",
            ),
            loaded: registrar.add("model_loaded", "Processes that have the model loaded"),
            memory: registrar.add(
                "model_memory_bytes",
                "Highest measured memory of the model's process, without GPU memory",
            ),
            resident: registrar.add(
                "model_process_resident_memory_bytes",
                "Resident memory of the model's process, as last measured",
            ),
            cpu_time: registrar.add(
                "model_process_cpu_seconds",
                "CPU time of the model's processes, in user and kernel mode",
            ),
            cells: registrar.add("kv_cells", "Cells of the model's KV cache, a token each"),
            reserved_cells: registrar.add(
                "kv_cells_reserved",
                "Cells of the model's KV cache that are reserved for running calls",
            ),
            threads: registrar.add(
                "model_threads",
                "Threads with which the model computes on the CPUs, 0 if it is not loaded or GPUs compute its layers",
            ),
        }
    }
}

impl ServerMeters {
    fn register(registrar: &mut Registrar<'_>) -> Self {
        Self {
            http_refusals: registrar.add(
                "http_refusals",
                "Requests over HTTP that were refused, by status",
            ),
            reloads: registrar.add(
                "config_reloads",
                "Reloads of the configuration by outcome: ok, refused",
            ),
            restart_required: registrar.add(
                "config_restart_required",
                "Whether an edit of the configuration requires a restart of the server: 1 if so, else 0",
            ),
            reload_ok: registrar.add(
                "config_last_reload_successful",
                "Whether the last reload of the configuration succeeded: 1 if so, else 0",
            ),
            reload_time: registrar.add(
                "config_last_reload_success_timestamp_seconds",
                "When the active configuration was loaded, in seconds since 1970",
            ),
        }
    }

    /// Records that a configuration became active.
    pub(super) fn reload_succeeded(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.reload_ok.set(1);
        self.reload_time.set(now.unwrap_or_default().as_secs_f64());
    }
}

/// Registers metrics under their names.
struct Registrar<'registry>(&'registry mut Registry);

impl Registrar<'_> {
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.register(name, help, M::default())
    }

    fn seconds<L: LabelSet>(&mut self, name: &str, help: &str) -> Histograms<L> {
        self.register(name, help, Family::new_with_constructor(Buckets(&SECONDS)))
    }

    fn speeds<L: LabelSet>(&mut self, name: &str, help: &str) -> Histograms<L> {
        self.register(name, help, Family::new_with_constructor(Buckets(&SPEEDS)))
    }

    fn register<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}

/// A set of labels.
trait LabelSet:
    EncodeLabelSet + Clone + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync + 'static
{
}

impl LabelSet for ModelLabels {}
impl LabelSet for ToolLabels {}
