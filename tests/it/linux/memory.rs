//! Memory limits of cgroups, the page cache, and shared weights.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::cgroup::Cgroup;
use crate::support::config::{Folder, text};
use crate::support::{Server, TempFile, gemma, program, smollm2, tiny, workers_of};

/// Returns a configuration with the models `a` and `b`, both loaded from `path`, and with `more` in each table.
fn two_models(name: &str, head: &str, path: &Path, more: &str) -> TempFile {
    let mut file = format!("[registry]\nidle_ttl = \"never\"\n{head}\n");
    for model in ["a", "b"] {
        let path = path.display();
        writeln!(
            file,
            "[models.{model}]\npath = '{path}'\nn_threads = 1\n{more}"
        )
        .unwrap();
    }
    TempFile::new(&format!("{name}.toml"), file.as_bytes())
}

fn printed(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(output.stderr));
    text(output.stdout)
}

fn serve(file: &TempFile, group: Option<&Cgroup>) -> Server {
    let mut command = program();
    command.arg("--config").arg(&file.0);
    Server::spawn(match group {
        Some(group) => group.run(&command),
        None => command,
    })
}

fn ask(server: &mut Server, model: &str) {
    let id = server.call_tool(model, json!({"text": "Hello", "max_tokens": 4}));
    let result = server.result(id);
    assert!(!result.is_error, "{}", result.text);
}

#[test]
fn models_that_fit_stay_loaded_although_the_page_cache_fills_their_cgroup() {
    let Some(group) = Cgroup::limited("cache", 200) else {
        return;
    };
    let file = two_models("cache", "", &tiny(), "");
    // A page is charged to the cgroup that uses it first.
    let large = TempFile::new("large", b"");
    let mut server = serve(&file, Some(&group));
    ask(&mut server, "a");
    ask(&mut server, "b");
    let workers = workers_of(server.child.id());
    assert_eq!(workers.len(), 2);
    let mut write = Command::new("dd");
    write.args(["if=/dev/zero", "bs=1M", "count=300", "conv=fsync"]);
    write.arg(format!("of={}", large.0.display()));
    group.run(&write).output().unwrap();
    if group.page_cache() < 80 << 20 {
        // The file is in memory, but not charged to the page cache of this cgroup.
        return;
    }
    for model in ["a", "b", "a", "b"] {
        ask(&mut server, model);
        assert_eq!(workers_of(server.child.id()), workers);
    }
}

#[test]
fn limits_of_the_servers_cgroup_and_its_parent_bound_the_memory_budget() {
    let Some(group) = Cgroup::limited("limit", 300) else {
        return;
    };
    let child = group.child();
    let mut command = program();
    command.args(["config", "check", "--model"]).arg(tiny());
    for group in [&group, &child] {
        let stdout = printed(group.run(&command));
        assert!(stdout.contains("Memory for models: 270.0 MiB"), "{stdout}");
    }
    let mut doctor = program();
    doctor.args(["doctor", "--model"]).arg(tiny());
    let stdout = printed(child.run(&doctor));
    let limit = "the cgroup limit of the container or service is 300.0 MiB";
    assert!(stdout.contains(limit), "{stdout}");
}

fn as_json(file: &TempFile) -> Value {
    let mut command = program();
    command.args(["config", "check", "--format", "json"]);
    command.arg(&file.0);
    serde_json::from_str(&printed(command)).unwrap()
}

#[test]
fn models_of_one_file_share_its_weights_and_stay_loaded_together() {
    let small = "n_ctx = 256\nparallel = 1";
    let found = as_json(&two_models("shared", "", &smollm2(), small));
    let bytes = |value: &Value| value.as_u64().unwrap();
    let model = &found["models"][0];
    let (alone, weights) = (bytes(&model["total_bytes"]), bytes(&model["weight_bytes"]));
    let together = bytes(&found["together_bytes"]);
    assert!(weights > 80 << 20, "{weights}");
    assert!(
        together < 2 * alone - weights * 9 / 10,
        "{together} of {alone}"
    );
    // This budget is too small for two copies of the weights.
    let budget = format!("memory_budget = {}", together + (8 << 20));
    let file = two_models("shared-tight", &budget, &smollm2(), small);
    let mut server = serve(&file, None);
    ask(&mut server, "a");
    ask(&mut server, "b");
    assert_eq!(workers_of(server.child.id()).len(), 2);
    let copies = two_models(
        "copies",
        &budget,
        &smollm2(),
        &format!("{small}\nmmap = false"),
    );
    let mut server = serve(&copies, None);
    ask(&mut server, "a");
    ask(&mut server, "b");
    assert_eq!(workers_of(server.child.id()).len(), 1);
}

#[test]
fn hints_name_only_settings_that_help() {
    let folder = Folder::new("hints", "");
    let wrong = |budget: &str, n_ctx: &str| {
        let model = gemma();
        let file = format!(
            "[registry]\nmemory_budget = '{budget}'\n[models.a]\npath = '{}'\nn_ctx = {n_ctx}\n",
            model.display()
        );
        folder.write("llama-mcp-server.toml", &file);
        let output = folder.run(&["config", "check"], &[]);
        assert_eq!(output.status.code(), Some(2));
        text(output.stderr)
    };
    let error = wrong("200MiB", "4096");
    assert!(
        error.contains("choose a smaller model or quantization, or raise `memory_budget`"),
        "{error}"
    );
    assert!(!error.contains("n_ctx`"), "{error}");
}

#[test]
fn the_hint_for_a_prompt_beyond_the_trained_context_does_not_advise_a_larger_n_ctx() {
    let words = "word ".repeat(6000);
    let mut server = Server::tiny(&["--n_ctx", "65536"]);
    let error = server.refusal(json!({"text": words}));
    assert!(
        error.ends_with("shorten the text, or choose a model with a longer context (this one was trained for 4096 tokens)"),
        "{error}"
    );
    let mut server = Server::tiny(&["--n_ctx", "512"]);
    let error = server.refusal(json!({"text": "word ".repeat(1000)}));
    assert!(
        error.ends_with("shorten the text, or give the model a larger `n_ctx` (at most 4096)"),
        "{error}"
    );
    let folder = Folder::new("capped", "[models.a]\npath = 'crab.gguf'\nn_ctx = 65536\n");
    let stdout = text(folder.run(&["config", "check"], &[]).stdout);
    assert!(
        stdout.contains("warning[context_capped]: `models.a.n_ctx`: is 65536, but the model was trained for 4096 tokens: the context is 4096"),
        "{stdout}"
    );
}
