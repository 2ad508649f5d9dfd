//! `Config`: validated, resolved, typed. What was typed ([`Overrides`]) goes in, what the program runs by comes out.

pub mod error;
pub mod http;
pub mod ranges;

use std::path::PathBuf;
use std::time::Duration;

use crate::gguf;
pub use error::ConfigError;
use http::HttpConfig;
use ranges::Range;

/// Everything that can be said on the command line; none is what was not said.
#[derive(Debug, Default, Clone, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the documented flags, described in `cli`"
)]
pub struct Overrides {
    pub models: Vec<PathBuf>,
    pub n_gpu_layers: Option<i64>,
    pub n_ctx: Option<i64>,
    pub n_batch: Option<i64>,
    pub n_threads: Option<i64>,
    pub parallel: Option<i64>,
    pub max_queue: Option<i64>,
    pub tool_name: Option<String>,
    pub max_tokens: Option<i64>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<i64>,
    pub min_p: Option<f64>,
    pub repeat_penalty: Option<f64>,
    pub seed: Option<i64>,
    pub prompt_suffix: Option<String>,
    pub deadline: Option<f64>,
    pub is_http: bool,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub auth: Option<String>,
    pub auth_file: Option<PathBuf>,
    pub allow_unauthenticated: bool,
    pub allowed_hosts: Vec<String>,
    pub allowed_origins: Vec<String>,
    pub drain_time: Option<f64>,
}

/// What the surroundings say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// CPUs that this process may use.
    pub cpus: usize,
    /// [`http::AUTH_VARIABLE`], where it is set.
    pub auth: Option<String>,
}

/// What the program runs by.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The model that is served.
    pub model: ModelConfig,
    /// How clients connect.
    pub transport: Transport,
    /// Where the program gives less than was asked: for the log.
    pub notes: Vec<String>,
}

/// How clients connect.
#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    /// By standard input and output.
    Stdio,
    /// By Streamable HTTP.
    Http(HttpConfig),
}

/// A model and the tool that it is.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// What logs and errors call it.
    pub name: String,
    /// The GGUF; it has been looked at.
    pub path: PathBuf,
    /// What people call the model: the name in the file, else the file's.
    pub title: String,
    /// The MCP tool.
    pub tool_name: String,
    /// Layers on the GPU.
    pub n_gpu_layers: u32,
    /// Tokens of one call; 0 is what the model was trained for.
    pub n_ctx: u32,
    /// Tokens of one batch.
    pub n_batch: usize,
    /// Threads that compute; at most the CPUs there are.
    pub n_threads: usize,
    /// Calls at once.
    pub parallel: usize,
    /// Calls that may wait beyond those.
    pub max_queue: usize,
    /// What a call gets that does not say.
    pub defaults: Defaults,
}

/// The defaults of a tool's arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// Tokens of an answer.
    pub max_tokens: u32,
    /// 0 is greedy.
    pub temperature: f32,
    /// 1 is off.
    pub top_p: f32,
    /// 0 is off.
    pub top_k: i32,
    /// 0 is off.
    pub min_p: f32,
    /// 1 is off.
    pub repeat_penalty: f32,
    /// None draws one for every call.
    pub seed: Option<u32>,
    /// Appended to the system message.
    pub prompt_suffix: Option<String>,
    /// From a call's arrival.
    pub deadline: Option<Duration>,
}

/// Tool names as every client accepts them: one bad name makes Claude Desktop drop the whole server.
const MAX_TOOL_NAME: usize = 64;

impl Config {
    /// Resolves what was typed. Reads the model's header and, for HTTP, the token's file and the host's addresses.
    ///
    /// # Errors
    /// All values out of range at once; then what is wrong with the model's file.
    pub fn resolve(typed: &Overrides, around: &Surroundings) -> Result<Self, ConfigError> {
        let cpus = around.cpus;
        let mut check = Checker::default();
        let seed: i64 = check.integer("seed", typed.seed, ranges::SEED, 42);
        let threads: usize = check.integer("n_threads", typed.n_threads, ranges::N_THREADS, 4);
        let deadline = typed
            .deadline
            .map(|seconds| check.number("deadline", Some(seconds), ranges::DEADLINE, 0.0));
        let drain_time = check.number("drain_time", typed.drain_time, ranges::DRAIN_TIME, 10.0);
        let mut config = Self {
            model: ModelConfig {
                name: "default".into(),
                path: typed.models.first().cloned().unwrap_or_default(),
                title: String::new(),
                tool_name: check.tool_name(typed.tool_name.as_deref().unwrap_or("chat")),
                n_gpu_layers: check.integer(
                    "n_gpu_layers",
                    typed.n_gpu_layers,
                    ranges::N_GPU_LAYERS,
                    99,
                ),
                n_ctx: check.integer("n_ctx", typed.n_ctx, ranges::N_CTX, 4096),
                n_batch: check.integer("n_batch", typed.n_batch, ranges::N_BATCH, 2048),
                n_threads: capped_threads(threads, cpus),
                parallel: check.integer("parallel", typed.parallel, ranges::PARALLEL, 4),
                max_queue: check.integer("max_queue", typed.max_queue, ranges::MAX_QUEUE, 64),
                defaults: Defaults {
                    max_tokens: check.integer(
                        "max_tokens",
                        typed.max_tokens,
                        ranges::MAX_TOKENS,
                        2048,
                    ),
                    temperature: check.number(
                        "temperature",
                        typed.temperature,
                        ranges::TEMPERATURE,
                        0.7,
                    ),
                    top_p: check.number("top_p", typed.top_p, ranges::TOP_P, 0.9),
                    top_k: check.integer("top_k", typed.top_k, ranges::TOP_K, 40),
                    min_p: check.number("min_p", typed.min_p, ranges::MIN_P, 0.0),
                    repeat_penalty: check.number(
                        "repeat_penalty",
                        typed.repeat_penalty,
                        ranges::REPEAT_PENALTY,
                        1.1,
                    ),
                    // -1 is no u32: drawn for every call.
                    seed: u32::try_from(seed).ok(),
                    prompt_suffix: typed.prompt_suffix.clone(),
                    deadline: deadline.map(Duration::from_secs_f64),
                },
            },
            transport: Transport::Stdio,
            notes: (threads > cpus)
                .then(|| {
                    format!(
                        "n_threads is {cpus}, the CPUs that this process may use, not {threads}"
                    )
                })
                .into_iter()
                .collect(),
        };
        if !check.problems.is_empty() {
            return Err(ConfigError::Values(check.problems));
        }
        let path = match &typed.models[..] {
            [] => return Err(ConfigError::NoModel),
            [path] => path,
            several => return Err(ConfigError::SeveralModels(several.len())),
        };
        if path.to_str().is_none() {
            return Err(ConfigError::PathNotUtf8(path.clone()));
        }
        if typed.is_http {
            let drain_time = Duration::from_secs_f64(drain_time);
            let http = HttpConfig::resolve(typed, around.auth.as_deref(), drain_time)?;
            config.transport = Transport::Http(http);
        }
        let header = gguf::read_header(path)?;
        let stem = || {
            path.file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        config.model.title = header
            .name
            .filter(|name| !name.trim().is_empty())
            .unwrap_or_else(stem);
        Ok(config)
    }
}

/// `wanted` threads, 0 for all; more than there are CPUs would only wait for each other.
fn capped_threads(wanted: usize, cpus: usize) -> usize {
    if wanted == 0 { cpus } else { wanted.min(cpus) }
}

/// Collects what is wrong, so that all of it is told at once.
#[derive(Default)]
struct Checker {
    problems: Vec<String>,
}

impl Checker {
    /// A value in range, or the default; `T` holds the whole range.
    fn integer<T: TryFrom<i64>>(
        &mut self,
        name: &str,
        typed: Option<i64>,
        range: Range<i64>,
        default: i64,
    ) -> T {
        let value = self.in_range(name, typed, range, default);
        T::try_from(value)
            .ok()
            .expect("the type of every setting holds its range")
    }

    fn number<T: FromF64>(
        &mut self,
        name: &str,
        typed: Option<f64>,
        range: Range<f64>,
        default: f64,
    ) -> T {
        T::from_f64(self.in_range(name, typed, range, default))
    }

    fn in_range<T: Copy + PartialOrd + std::fmt::Display>(
        &mut self,
        name: &str,
        typed: Option<T>,
        range: Range<T>,
        default: T,
    ) -> T {
        match typed {
            Some(value) if range.contains(value) => value,
            Some(value) => {
                self.problems
                    .push(format!("`--{name}`: must be {range}, found {value}"));
                range.min
            }
            None => default,
        }
    }

    fn tool_name(&mut self, name: &str) -> String {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.is_empty() || name.len() > MAX_TOOL_NAME || !name.chars().all(fits) {
            self.problems.push(format!(
                "`--tool_name`: must be 1 to {MAX_TOOL_NAME} letters, digits, `_` or `-`, found `{name}`"
            ));
        }
        name.to_owned()
    }
}

/// The widths in which settings are kept.
trait FromF64 {
    fn from_f64(value: f64) -> Self;
}

impl FromF64 for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
}

impl FromF64 for f32 {
    fn from_f64(value: f64) -> Self {
        ranges::to_f32(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed() -> Overrides {
        Overrides {
            models: vec!["tests/models/tiny-crab-chat.Q8_0.gguf".into()],
            ..Overrides::default()
        }
    }

    fn with_cpus(cpus: usize) -> Surroundings {
        Surroundings { cpus, auth: None }
    }

    #[test]
    fn the_documented_defaults_hold() {
        let model = Config::resolve(&typed(), &with_cpus(8)).unwrap().model;
        assert_eq!(
            (
                model.n_gpu_layers,
                model.n_ctx,
                model.n_batch,
                model.n_threads
            ),
            (99, 4096, 2048, 4)
        );
        assert_eq!(
            (model.tool_name.as_str(), model.parallel, model.max_queue),
            ("chat", 4, 64)
        );
        let expected = Defaults {
            max_tokens: 2048,
            temperature: 0.7,
            top_p: 0.9,
            top_k: 40,
            min_p: 0.0,
            repeat_penalty: 1.1,
            seed: Some(42),
            prompt_suffix: None,
            deadline: None,
        };
        assert_eq!(model.defaults, expected);
    }

    #[test]
    fn threads_are_capped_by_the_cpus_and_zero_means_all() {
        assert_eq!(
            [
                capped_threads(4, 2),
                capped_threads(0, 2),
                capped_threads(1, 2)
            ],
            [2, 2, 1]
        );
    }

    #[test]
    fn a_seed_of_minus_one_is_drawn() {
        let drawn = Overrides {
            seed: Some(-1),
            ..typed()
        };
        assert_eq!(
            Config::resolve(&drawn, &with_cpus(1))
                .unwrap()
                .model
                .defaults
                .seed,
            None
        );
    }

    #[test]
    fn all_values_out_of_range_are_told_at_once() {
        let wrong = Overrides {
            temperature: Some(f64::NAN),
            top_p: Some(7.0),
            tool_name: Some("a b".into()),
            ..typed()
        };
        let error = Config::resolve(&wrong, &with_cpus(1))
            .unwrap_err()
            .to_string();
        insta::assert_snapshot!(error, @r"
        `--tool_name`: must be 1 to 64 letters, digits, `_` or `-`, found `a b`
               `--temperature`: must be from 0 to 5, found NaN
               `--top_p`: must be from 0 to 1, found 7
        ");
    }
}
