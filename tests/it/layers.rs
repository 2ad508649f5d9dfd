//! Who may import whom: the table of `src/lib.rs`, read off the sources.

use std::path::{Path, PathBuf};

/// Lowest first; a module may import its own layer and those below it.
const LAYERS: [&[&str]; 8] = [
    &[
        "error_code",
        "fair",
        "gguf",
        "gpu",
        "heap",
        "json",
        "memory",
        "printable",
        "process",
        "schema",
        "signals",
        "supervisor",
        "telemetry",
        "threads",
    ],
    &["config"],
    &["engine"],
    &["worker"],
    &["registry"],
    &["tools", "status"],
    &["mcp"],
    &["transport"],
];

const HTTP: &[&str] = &[
    "transport/guard.rs",
    "transport/guard/admin.rs",
    "transport/guard/refusal.rs",
    "transport/http.rs",
    "transport/http/admin.rs",
    "transport/http/connection.rs",
    "transport/http/endpoint.rs",
    "transport/http/response.rs",
    "transport/http/exposition.rs",
    "transport/http/headers.rs",
    "transport/http/permits.rs",
    "transport/http/not_found.rs",
    "transport/http/observe.rs",
    "transport/http/receive.rs",
];

/// Crates that only these files may name.
const WALLS: [(&str, &[&str]); 25] = [
    (
        "llama_cpp_2",
        &[
            "engine/llama.rs",
            "engine/llama/cpu.rs",
            "engine/llama/decoder.rs",
            "engine/llama/device.rs",
            "engine/llama/sampler.rs",
            "engine/llama/sampler/sample.rs",
            "engine/llama/sampler/sample/tests.rs",
            "engine/llama/vocabulary.rs",
            "engine/llama/sampling.rs",
        ],
    ),
    ("argon2", &["transport/http/session_id.rs"]),
    ("axum", HTTP),
    ("blake2", &["transport/http/session_id.rs"]),
    ("hyper", HTTP),
    ("tikv_jemalloc_ctl", &["heap.rs"]),
    ("tower_http", HTTP),
    (
        "clap",
        &[
            "cli.rs",
            "cli/server.rs",
            "cli/foreign.rs",
            "cli/install.rs",
            "cli/manual.rs",
            "program.rs",
        ],
    ),
    ("clap_complete", &["cli/manual.rs"]),
    ("clap_mangen", &["cli/manual.rs"]),
    (
        "jsonc_parser",
        &["commands/install/edit.rs", "commands/install/edit/tests.rs"],
    ),
    (
        "prometheus_client",
        &[
            "telemetry/metrics.rs",
            "telemetry/metrics/known.rs",
            "telemetry/metrics/meters.rs",
            "telemetry/metrics/of_process.rs",
        ],
    ),
    ("ureq", &["commands/server.rs"]),
    ("figment", &["config/load/effective.rs"]),
    (
        "landlock",
        &["worker/sandbox/files.rs", "worker/sandbox/tests.rs"],
    ),
    (
        "libc",
        &[
            "worker/sandbox/system_calls.rs",
            "worker/sandbox/system_calls/lists.rs",
            "worker/sandbox/tests.rs",
        ],
    ),
    ("seccompiler", &["worker/sandbox/system_calls.rs"]),
    ("sd_notify", &["supervisor.rs"]),
    (
        "sysinfo",
        &[
            "memory.rs",
            "process.rs",
            "process/activity.rs",
            "process/usage.rs",
        ],
    ),
    ("llguidance", &["engine/grammar.rs"]),
    (
        "notify",
        &[
            "reload/watch.rs",
            "reload/watch/folders.rs",
            "reload/watch/writers.rs",
        ],
    ),
    (
        "jsonschema",
        &[
            "fuzzing.rs",
            "schema/tests/advertising.rs",
            "schema/tests/properties.rs",
            "schema/tests/reading.rs",
            "schema/validator.rs",
            "config/validate.rs",
            "config/validate/value.rs",
        ],
    ),
    ("jsonschema_regex", &["schema/pattern.rs"]),
    ("regex_syntax", &["schema/pattern.rs", "schema/portable.rs"]),
    (
        "minijinja",
        &[
            "engine/template.rs",
            "engine/template/budget.rs",
            "engine/template/filters.rs",
            "engine/template/filters/tests.rs",
            "engine/template/methods.rs",
            "engine/template/python.rs",
            "engine/template/tojson.rs",
            "tools/typed/prompt.rs",
            "tools/typed/prompt/lookups.rs",
            "tools/typed/prompt/names.rs",
            "tools/typed/prompt/trials.rs",
        ],
    ),
];

/// Calls that read the time of day, which may jump. Deadlines and idle times use a clock that does not.
const WALL_CLOCKS: [&str; 4] = ["SystemTime", "Zoned::now", "Timestamp::now", "UNIX_EPOCH"];

/// Files that may read it: lines and file names of the log, metrics and people need it, chat templates print it, a file's time is
/// compared with the start of the server, a session id holds when it was made, and a directory's time shows whether it is still used.
const TELL_THE_TIME: [&str; 7] = [
    "program.rs",
    "reload.rs",
    "engine/template/python.rs",
    "telemetry/log_file.rs",
    "telemetry/metrics/meters.rs",
    "transport/http/permits.rs",
    "worker/driver_cache.rs",
];

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (
                path.strip_prefix(&root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned(),
                text,
            )
        })
        .collect()
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn modules_import_only_from_the_layers_below() {
    for (file, text) in sources() {
        let module = file.split(['/', '.']).next().unwrap();
        let Some(layer) = layer_of(module) else {
            continue;
        };
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            for (at, _) in line.match_indices("crate::") {
                let imported = line[at + "crate::".len()..]
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap();
                let below = layer_of(imported).is_some_and(|imported| imported <= layer);
                assert!(below, "src/{file}: {line}");
            }
        }
    }
}

/// Whether `line` has a path into the crate called `name`, not into one whose name ends like it.
fn names_crate(line: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(&format!("{name}::"))
        .any(|(at, _)| !line[..at].ends_with(is_part))
}

#[test]
fn foreign_crates_stay_behind_their_walls() {
    for (file, text) in sources() {
        for (name, allowed) in WALLS {
            let named = text
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && names_crate(line, name));
            assert!(
                !named || allowed.contains(&file.as_str()),
                "src/{file} names {name}"
            );
        }
    }
}

#[test]
fn nothing_waits_by_the_time_of_day() {
    let mut found = Vec::new();
    for (file, text) in sources() {
        let tells = text.lines().any(|line| {
            !line.trim_start().starts_with("//")
                && WALL_CLOCKS.iter().any(|clock| line.contains(clock))
        });
        if tells {
            found.push(file);
        }
    }
    found.sort();
    let mut allowed = TELL_THE_TIME.map(str::to_owned);
    allowed.sort();
    assert_eq!(found, allowed);
}
