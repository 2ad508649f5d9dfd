//! `llama-mcp-server status`: how a server is, as a table.

use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use jiff::SignedDuration;

use super::print;
use super::server::{Server, no_server};
use crate::cli::{Format, StatusArgs};
use crate::config::Surroundings;
use crate::config::units::human;
use crate::process::mounted;
use crate::registry::{ModelState, ModelStatus};
use crate::status::{ConfigStatus, ServerStatus};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// Seconds without a finished step from which on a line names the process.
const LONG_STEP: u64 = 10;

/// The cursor to the upper left, and all below it empty.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Asks and prints, once or until it is ended.
///
/// # Errors
/// Where the server does not answer, or does not know the token.
pub(crate) fn run(asked: StatusArgs, around: &Surroundings) -> anyhow::Result<ExitCode> {
    let server = match Server::asked(asked.remote, around)? {
        Ok(server) => server,
        Err(code) => return Ok(code),
    };
    if !asked.watch {
        return print(&look(&server, asked.format)?);
    }
    let is_screen = asked.format == Format::Text && io::stdout().is_terminal();
    let clear = if is_screen { CLEAR } else { "" };
    loop {
        match look(&server, asked.format) {
            Ok(told) => drop(print(&format!("{clear}{told}"))?),
            // It may be about to start again.
            Err(error) => drop(writeln!(io::stderr(), "{clear}{error:#}")),
        }
        thread::sleep(PAUSE);
    }
}

/// One look, as it is written.
fn look(server: &Server, format: Format) -> anyhow::Result<String> {
    let url = &server.url;
    let (status, said) = server.get_with_token("/status")?;
    let problem = match status {
        200 => None,
        401 => Some(server.wants_token()),
        404 => {
            let problem = format!(
                "what answers at {url} tells no status: another program, or an older version"
            );
            return Err(server.missing(problem).into());
        }
        status => Some(format!(
            "the server at {url} tells no status: {status} {said}"
        )),
    };
    if let Some(problem) = problem {
        return Err(no_server(problem).into());
    }
    let status: ServerStatus = serde_json::from_str(&said).with_context(|| {
        server.missing(format!(
            "what answers at {url} is another program, or another version than this one"
        ))
    })?;
    Ok(match format {
        Format::Json => said + "\n",
        Format::Text => told(&status),
    })
}

fn told(server: &ServerStatus) -> String {
    let mut lines = vec![format!(
        "llama-mcp-server {}, up {}",
        server.version,
        time(server.uptime_seconds)
    )];
    lines.extend(server.config.as_ref().map(config));
    let unusable = server.unusable_tokens.iter();
    lines.extend(
        unusable.map(|token| format!("token {} does not work: {}", token.name, token.error)),
    );
    lines.push(String::new());
    let models = server.models.iter().map(row);
    lines.extend(table([HEAD.map(str::to_owned)].into_iter().chain(models)));
    let tools = server.tools.iter();
    let tools = tools.map(|tool| [tool.name.clone(), tool.model.clone()]);
    lines.push(String::new());
    lines.extend(table(
        [["TOOL", "MODEL"].map(str::to_owned)]
            .into_iter()
            .chain(tools),
    ));
    let failed = server.models.iter().filter_map(|model| {
        let error = model.error.as_ref()?;
        Some(format!("\n{}: {error}", model.name))
    });
    lines.extend(failed);
    lines.extend(server.models.iter().filter_map(offloaded));
    lines.extend(server.models.iter().filter_map(silent));
    lines.join("\n") + "\n"
}

/// Returns a line about a model that has layers on a GPU; `None` if it has none.
fn offloaded(model: &ModelStatus) -> Option<String> {
    let (gpu_layers, layers) = model.gpu_layers.zip(model.layers)?;
    let memory = model.gpu_memory_bytes;
    let memory = memory.map_or_else(String::new, |bytes| {
        format!(", {} of its memory", human(bytes))
    });
    Some(format!(
        "\n{}: {gpu_layers} of {layers} layers on the GPU{memory}",
        model.name
    ))
}

/// Returns a line about a process that has work and has finished no step for a long time.
fn silent(model: &ModelStatus) -> Option<String> {
    let silence = model
        .last_step_seconds
        .filter(|seconds| *seconds >= LONG_STEP)?;
    let pid = model.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
    Some(format!(
        "\n{}: process {pid} has finished no step for {}",
        model.name,
        time(silence)
    ))
}

fn config(config: &ConfigStatus) -> String {
    let file = config.file.display();
    let edited = match &config.reloaded_at {
        Some(at) => format!("configuration {file}, last edit applied at {at}"),
        None => format!("configuration {file}"),
    };
    let mut lines = vec![edited];
    let stale = config.stale_mounts.iter();
    lines.extend(stale.map(|file| format!("{}; {}", mounted::stale(file), mounted::WAY_OUT)));
    if !config.restart_required.is_empty() {
        let keys = config.restart_required.join(", ");
        lines.push(format!("restart needed: {keys}"));
    }
    if !config.faults.is_empty() {
        let faults = config.faults.join("\n\n");
        lines.push(format!("parts that do not work:\n{faults}"));
    }
    lines.extend(config.refused.as_ref().map(|edit| {
        format!(
            "the edit of {} was rejected; the previous configuration stays active:\n{}",
            edit.at, edit.error
        )
    }));
    lines.join("\n")
}

const HEAD: [&str; 10] = [
    "MODEL",
    "STATE",
    "PID",
    "MEMORY",
    "RUNNING",
    "WAITING",
    "CACHE",
    "TOKENS/S",
    "PROMPT TOKENS/S",
    "IDLE",
];

/// Lines of `rows`, of which the first has the heads; a column is as wide as what is in it.
fn table<const COLUMNS: usize>(rows: impl Iterator<Item = [String; COLUMNS]>) -> Vec<String> {
    let rows: Vec<_> = rows.collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let padded = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(padded).collect()
}

fn row(model: &ModelStatus) -> [String; HEAD.len()] {
    let state = match model.state {
        ModelState::Unloaded => "unloaded",
        ModelState::Failed => "failed",
        ModelState::Loading => "loading",
        ModelState::Loaded => "loaded",
        ModelState::Ending => "ending",
        ModelState::Replaced => "replaced",
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let speed = |speed: Option<f64>| or_none(speed.map(|speed| format!("{speed:.1}")));
    let reserved = model.kv_cells.zip(model.kv_cells_reserved);
    [
        model.name.clone(),
        state.into(),
        or_none(model.pid.map(|pid| pid.to_string())),
        or_none(model.memory_bytes.map(human)),
        model.running.to_string(),
        model.waiting.to_string(),
        or_none(reserved.map(|(all, reserved)| {
            format!("{} %", u64::from(reserved) * 100 / u64::from(all.max(1)))
        })),
        speed(model.generation_tokens_per_second),
        speed(model.prompt_tokens_per_second),
        or_none(model.idle_seconds.map(time)),
    ]
}

fn time(seconds: u64) -> String {
    let seconds = SignedDuration::from_secs(seconds.try_into().unwrap_or(i64::MAX));
    format!("{seconds:#}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ToolStatus, UnusableToken};

    #[test]
    fn the_table_shows_what_is_known_and_what_failed() {
        let unloaded = ModelStatus {
            name: "coder".into(),
            state: ModelState::Failed,
            pid: None,
            last_step_seconds: None,
            memory_bytes: None,
            gpu_layers: None,
            layers: None,
            gpu_memory_bytes: None,
            running: 0,
            waiting: 0,
            kv_cells: None,
            kv_cells_reserved: None,
            prompt_tokens_per_second: None,
            generation_tokens_per_second: None,
            idle_seconds: None,
            error: Some("the file is cut".into()),
        };
        let loaded = ModelStatus {
            name: "small".into(),
            state: ModelState::Loaded,
            pid: Some(4711),
            last_step_seconds: Some(42),
            memory_bytes: Some(3 << 29),
            gpu_layers: Some(12),
            layers: Some(33),
            gpu_memory_bytes: Some(3 << 30),
            running: 2,
            waiting: 13,
            kv_cells: Some(4096),
            kv_cells_reserved: Some(2048),
            prompt_tokens_per_second: Some(411.25),
            generation_tokens_per_second: Some(52.04),
            idle_seconds: Some(75),
            error: None,
        };
        let tool = |name: &str, model: &str| ToolStatus {
            name: name.into(),
            model: model.into(),
        };
        let mut file = ConfigStatus::of("/config/llama-mcp-server.toml".into(), Vec::new());
        file.applied(
            "2026-01-02T03:00:00Z".parse().unwrap(),
            vec!["server.port".into(), "log.level".into()],
            vec!["error: a tool fails".into()],
        );
        file.refused(
            "2026-01-02T03:04:05.6Z".parse().unwrap(),
            "error: no".into(),
        );
        let server = ServerStatus {
            version: "1.2.3".into(),
            uptime_seconds: 7384,
            models: vec![unloaded, loaded],
            tools: vec![tool("small", "small"), tool("summarise_text", "coder")],
            unusable_tokens: vec![UnusableToken {
                name: "bob".into(),
                error: "the token must not be empty".into(),
            }],
            config: Some(file),
        };
        insta::assert_snapshot!(told(&server), @r"
        llama-mcp-server 1.2.3, up 2h 3m 4s
        configuration /config/llama-mcp-server.toml, last edit applied at 2026-01-02T03:00:00Z
        restart needed: server.port, log.level
        parts that do not work:
        error: a tool fails
        the edit of 2026-01-02T03:04:05Z was rejected; the previous configuration stays active:
        error: no
        token bob does not work: the token must not be empty

        MODEL  STATE   PID   MEMORY   RUNNING  WAITING  CACHE  TOKENS/S  PROMPT TOKENS/S  IDLE
        coder  failed  -     -        0        0        -      -         -                -
        small  loaded  4711  1.5 GiB  2        13       50 %   52.0      411.2            1m 15s

        TOOL            MODEL
        small           small
        summarise_text  coder

        coder: the file is cut

        small: 12 of 33 layers on the GPU, 3.0 GiB of its memory

        small: process 4711 has finished no step for 42s
        ");
    }
}
