//! Which modules may import which: layers, cycles, and walls around foreign crates. The table of `src/lib.rs` defines the layers.

mod imports;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use crate::support::example::repository;
use imports::{Crate, Segments, paths, sources};

/// Crates, and the modules that may name them. Their submodules may, too.
const WALLS: [(&str, &[&str]); 25] = [
    ("argon2", &["transport/http/session_id"]),
    ("axum", &["transport/guard", "transport/http"]),
    ("blake2", &["transport/http/session_id"]),
    ("clap", &["cli", "program"]),
    ("clap_complete", &["cli/manual"]),
    ("clap_mangen", &["cli/manual"]),
    ("figment", &["config/load/effective"]),
    ("hyper", &["transport/http"]),
    ("jsonc_parser", &["commands/install/edit"]),
    (
        "jsonschema",
        &[
            "config/validate",
            "fuzzing",
            "schema/tests",
            "schema/validator",
        ],
    ),
    ("jsonschema_regex", &["schema/pattern"]),
    ("landlock", &["worker/sandbox"]),
    ("libc", &["worker/sandbox"]),
    ("llama_cpp_2", &["engine/llama"]),
    ("llguidance", &["engine/grammar"]),
    ("minijinja", &["engine/template", "tools/typed/prompt"]),
    ("notify", &["reload/watch"]),
    ("prometheus_client", &["telemetry/metrics"]),
    ("regex_syntax", &["schema/pattern", "schema/portable"]),
    ("sd_notify", &["supervisor"]),
    ("seccompiler", &["worker/sandbox/system_calls"]),
    ("sysinfo", &["memory", "process"]),
    ("tikv_jemalloc_ctl", &["heap"]),
    ("tower_http", &["transport/http"]),
    ("ureq", &["commands/server"]),
];

/// Modules, and those of lower layers that they reach only through a seam, which may reexport their items.
const SEAMS: [(&str, &[&str]); 1] = [("registry", &["gguf", "worker"])];

/// Modules that import each other in a cycle, and the reason.
const CYCLES: [(&[&str], &str); 2] = [
    (
        &["registry/lease", "registry/manager"],
        "a lease that is dropped is given back to the manager that granted it",
    ),
    (
        &[
            "schema/conjunction",
            "schema/lower",
            "schema/merge",
            "schema/recursion",
            "schema/values",
        ],
        "one recursive descent: the parts of schemas are schemas",
    ),
];

/// Calls that read the wall clock, which may jump. Deadlines and idle times use a monotonic clock instead.
const WALL_CLOCKS: [&str; 4] = ["SystemTime", "Zoned::now", "Timestamp::now", "UNIX_EPOCH"];

/// Files that may read the wall clock: logs, metrics and people need it, chat templates print it, a file's timestamp is compared with the
/// start of the server, a session id contains when it was made, and a directory's timestamp shows whether it is still used.
const WALL_CLOCK_READERS: [&str; 7] = [
    "program.rs",
    "reload.rs",
    "engine/template/python.rs",
    "telemetry/log_file.rs",
    "telemetry/metrics/meters.rs",
    "transport/http/permits.rs",
    "worker/driver_cache.rs",
];

/// Reads the table of `src/lib.rs`: module → layer.
fn layers() -> HashMap<String, usize> {
    let text = std::fs::read_to_string(repository("src/lib.rs")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("//! | ")?.split(" | ");
        let layer: usize = cells.next()?.parse().ok()?;
        Some((layer, cells.next()?))
    });
    let modules = rows.flat_map(|(layer, modules)| {
        let names = modules
            .split(", ")
            .map(|name| name.trim_matches(['[', ']', '`']));
        names.map(move |name| (name.trim_start_matches("mod@").to_owned(), layer))
    });
    modules.collect()
}

#[test]
fn modules_import_only_from_their_own_layer_and_lower_ones() {
    let layers = layers();
    let layer = |module: &str| {
        let layer = layers.get(module);
        *layer.unwrap_or_else(|| panic!("src/lib.rs: the layer of `{module}` is missing"))
    };
    let all = Crate::read();
    for source in all.sources.iter().filter(|source| source.module != ["lib"]) {
        let own = layer(&source.module[0]);
        for imported in all.imports(source, true) {
            let is_below = imported.first().is_none_or(|module| layer(module) <= own);
            assert!(is_below, "{} imports {}", source.name(), imported.join("/"));
        }
    }
}

/// Returns which modules import which of their siblings. A module and its submodules count as one.
fn imports_among_siblings(all: &Crate) -> BTreeMap<Segments, BTreeSet<Segments>> {
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for source in all.sources.iter().filter(|source| !source.is_test()) {
        for imported in all.imports(source, false) {
            let pairs = source.module.iter().zip(&imported);
            let shared = pairs.take_while(|(own, other)| own == other).count();
            if shared < source.module.len() && shared < imported.len() && source.module != ["lib"] {
                let importer = source.module[..=shared].to_vec();
                let imported = imported[..=shared].to_vec();
                found.entry(importer).or_default().insert(imported);
            }
        }
    }
    found
}

/// Returns everything that `from` imports, directly or indirectly.
fn reachable<'i>(
    from: &Segments,
    imports: &'i BTreeMap<Segments, BTreeSet<Segments>>,
) -> BTreeSet<&'i Segments> {
    let mut found = BTreeSet::new();
    let mut pending: Vec<_> = imports.get(from).into_iter().flatten().collect();
    while let Some(module) = pending.pop() {
        if found.insert(module) {
            pending.extend(imports.get(module).into_iter().flatten());
        }
    }
    found
}

#[test]
fn every_import_cycle_has_a_documented_reason() {
    let imports = imports_among_siblings(&Crate::read());
    let circle = |module: &Segments| {
        let others = reachable(module, &imports).into_iter();
        let circle = others.filter(|other| reachable(other, &imports).contains(module));
        circle.map(|module| module.join("/")).collect::<Vec<_>>()
    };
    let found: BTreeSet<_> = imports
        .keys()
        .map(circle)
        .filter(|circle| !circle.is_empty())
        .collect();
    let listed = CYCLES.map(|(circle, _)| circle.iter().map(ToString::to_string).collect());
    assert_eq!(found, BTreeSet::from(listed));
}

#[test]
fn foreign_crates_stay_behind_their_walls() {
    let mut unused: BTreeSet<_> = (WALLS.iter())
        .flat_map(|(name, modules)| modules.iter().map(move |module| (*name, *module)))
        .collect();
    for source in sources() {
        let used = paths(&source.tokens)
            .into_iter()
            .filter(|path| path.len() > 1);
        let used: BTreeSet<String> = used.map(|mut path| path.swap_remove(0)).collect();
        let file = source.name();
        for (name, modules) in WALLS.iter().filter(|(name, _)| used.contains(*name)) {
            let is_below = |module: &&&str| Path::new(&file).starts_with(module);
            let wall = modules.iter().find(is_below);
            let wall = wall.unwrap_or_else(|| panic!("src/{file}.rs names {name}"));
            unused.remove(&(*name, *wall));
        }
    }
    assert_eq!(unused, BTreeSet::new());
}

#[test]
fn the_registry_reaches_files_and_processes_only_through_the_backend() {
    let all = Crate::read();
    for (module, hidden) in SEAMS {
        for source in (all.sources.iter()).filter(|one| one.module[0] == module && !one.is_test()) {
            let paths = paths(&source.tokens).into_iter();
            let imported = paths.filter_map(|path| all.resolve(&source.module, &path));
            for (imported, _) in imported {
                let is_hidden = (imported.first()).is_some_and(|first| hidden.contains(&&**first));
                assert!(
                    !is_hidden,
                    "{} imports {}",
                    source.name(),
                    imported.join("/")
                );
            }
        }
    }
}

#[test]
fn only_listed_files_read_the_wall_clock() {
    let mut found = Vec::new();
    for source in sources() {
        let tells = source.text.lines().any(|line| {
            !line.trim_start().starts_with("//")
                && WALL_CLOCKS.iter().any(|clock| line.contains(clock))
        });
        if tells {
            found.push(format!("{}.rs", source.name()));
        }
    }
    found.sort();
    let mut allowed = WALL_CLOCK_READERS.map(str::to_owned);
    allowed.sort();
    assert_eq!(found, allowed);
}
