//! `llama-mcp-server status`: prints the status of a running server as a table.

use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use jiff::SignedDuration;

use super::print;
use super::server::{RunningServer, no_server};
use crate::cli::{Format, StatusArgs};
use crate::config::Surroundings;
use crate::config::units::human;
use crate::process::mounted;
use crate::registry::{ModelState, ModelStatus};
use crate::status::{ConfigStatus, ServerStatus};

/// Time between two requests of `--watch`.
const INTERVAL: Duration = Duration::from_secs(2);

/// Seconds without a finished step after which a process with work is reported.
const LONG_STEP: u64 = 10;

/// Escape sequence that moves the cursor to the upper left corner and clears the screen.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Prints the status once, or with `--watch` until the program is terminated.
///
/// # Errors
/// The server does not answer, or rejects the token.
pub(crate) fn run(args: StatusArgs, around: &Surroundings) -> anyhow::Result<ExitCode> {
    let server = match RunningServer::from_args(args.remote, around)? {
        Ok(server) => server,
        Err(code) => return Ok(code),
    };
    if !args.watch {
        return print(&fetch(&server, args.format)?);
    }
    let is_screen = args.format == Format::Text && io::stdout().is_terminal();
    let clear = if is_screen { CLEAR } else { "" };
    loop {
        match fetch(&server, args.format) {
            Ok(status) => drop(print(&format!("{clear}{status}"))?),
            // The server may be restarting.
            Err(error) => drop(writeln!(io::stderr(), "{clear}{error:#}")),
        }
        thread::sleep(INTERVAL);
    }
}

/// Requests the status and formats it.
fn fetch(server: &RunningServer, format: Format) -> anyhow::Result<String> {
    let url = &server.url;
    let (status, body) = server.get_with_token("/status")?;
    let problem = match status {
        200 => None,
        401 => Some(server.token_rejected()),
        404 => {
            let problem = format!(
                "the program that answers at {url} has no status; it is another program, or an older version"
            );
            return Err(server.unexpected(problem).into());
        }
        status => Some(format!(
            "the server at {url} answers with status {status}: {body}"
        )),
    };
    if let Some(problem) = problem {
        return Err(no_server(problem).into());
    }
    let status: ServerStatus = serde_json::from_str(&body).with_context(|| {
        server.unexpected(format!(
            "invalid status from {url}: another program, or a different version, answers there"
        ))
    })?;
    Ok(match format {
        Format::Json => body + "\n",
        Format::Text => to_text(&status),
    })
}

fn to_text(server: &ServerStatus) -> String {
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
    lines.extend(table(
        [HEADINGS.map(str::to_owned)].into_iter().chain(models),
    ));
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
    lines.extend(server.models.iter().filter_map(stalled));
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

/// Returns a line about a process that has work but has not finished a step for a long time.
fn stalled(model: &ModelStatus) -> Option<String> {
    let seconds = model
        .last_step_seconds
        .filter(|seconds| *seconds >= LONG_STEP)?;
    let pid = model.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
    Some(format!(
        "\n{}: process {pid} has not finished a step for {}",
        model.name,
        time(seconds)
    ))
}

fn config(config: &ConfigStatus) -> String {
    let file = &config.file;
    let edited = match &config.reloaded_at {
        Some(at) => format!("configuration {file}, last edit applied at {at}"),
        None => format!("configuration {file}"),
    };
    let mut lines = vec![edited];
    let stale = config.stale_mounts.iter();
    lines.extend(
        stale.map(|file| format!("{}; {}", mounted::stale(file.as_ref()), mounted::ADVICE)),
    );
    if !config.restart_required.is_empty() {
        let keys = config.restart_required.join(", ");
        lines.push(format!("requires restart: {keys}"));
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

const HEADINGS: [&str; 11] = [
    "MODEL",
    "STATE",
    "PID",
    "MEMORY",
    "RUNNING",
    "WAITING",
    "CACHE",
    "THREADS",
    "TOKENS/S",
    "PROMPT TOKENS/S",
    "IDLE",
];

/// Formats `rows` as lines with aligned columns. The first row has the headings.
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

fn row(model: &ModelStatus) -> [String; HEADINGS.len()] {
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
    let threads = model.n_threads.zip(model.n_threads_configured);
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
        or_none(threads.map(|(now, configured)| format!("{now} of {configured}"))),
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
    fn the_status_lists_models_tools_and_failures() {
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
            n_threads: None,
            n_threads_configured: None,
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
            n_threads: Some(1),
            n_threads_configured: Some(2),
            prompt_tokens_per_second: Some(411.25),
            generation_tokens_per_second: Some(52.04),
            idle_seconds: Some(75),
            error: None,
        };
        let tool = |name: &str, model: &str| ToolStatus {
            name: name.into(),
            model: model.into(),
        };
        let mut file = ConfigStatus::new("/config/llama-mcp-server.toml".as_ref(), Vec::new());
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
        insta::assert_snapshot!(to_text(&server), @r"
        llama-mcp-server 1.2.3, up 2h 3m 4s
        configuration /config/llama-mcp-server.toml, last edit applied at 2026-01-02T03:00:00Z
        requires restart: server.port, log.level
        parts that do not work:
        error: a tool fails
        the edit of 2026-01-02T03:04:05Z was rejected; the previous configuration stays active:
        error: no
        token bob does not work: the token must not be empty

        MODEL  STATE   PID   MEMORY   RUNNING  WAITING  CACHE  THREADS  TOKENS/S  PROMPT TOKENS/S  IDLE
        coder  failed  -     -        0        0        -      -        -         -                -
        small  loaded  4711  1.5 GiB  2        13       50 %   1 of 2   52.0      411.2            1m 15s

        TOOL            MODEL
        small           small
        summarise_text  coder

        coder: the file is cut

        small: 12 of 33 layers on the GPU, 3.0 GiB of its memory

        small: process 4711 has not finished a step for 42s
        ");
    }
}
