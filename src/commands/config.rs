//! `llama-mcp-server config`: checks, prints and explains the configuration.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use super::{INVALID, overrides, print, report_error, report_rejected};
use crate::backend::Need;
use crate::backend::footprint::{Footprint, sum};
use crate::check::{self, Checked};
use crate::cli::{ConfigCommand, Format};
use crate::config::diff::ConfigDiff;
use crate::config::problem::Problem;
use crate::config::reference::View;
use crate::config::units::human;
use crate::config::{Config, ConfigError, Overrides, Rejected, Surroundings, reference, validate};
use crate::gguf::memory::Estimate;

/// Runs `command`.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn run(command: ConfigCommand, around: &Surroundings) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check {
            source,
            format,
            strict,
        } => check(&overrides(source)?, around, format, strict),
        ConfigCommand::Show { source, origin } => show(&overrides(source)?, around, origin),
        ConfigCommand::Diff { old, new } => diff(old, new, around),
        ConfigCommand::Schema => {
            let schema = serde_json::to_string_pretty(&validate::schema())
                .context("could not format the schema")?;
            print(&format!("{schema}\n"))
        }
        ConfigCommand::Init => print(&reference::text()),
        ConfigCommand::Reference => print(&reference::markdown()),
    }
}

fn check(
    typed: &Overrides,
    around: &Surroundings,
    format: Format,
    is_strict: bool,
) -> anyhow::Result<ExitCode> {
    let examined = examine(typed, around, is_strict);
    match (examined, format) {
        (Ok((checked, warnings)), Format::Text) => print(&to_text(&checked, &warnings)),
        (Ok((checked, warnings)), Format::Json) => {
            print(&format!("{:#}\n", to_json(&checked, &warnings)))
        }
        (Err(rejected), Format::Text) => report_rejected(&rejected),
        (Err(Rejected { error, warnings }), Format::Json) => {
            let json = json!({"ok": false, "problems": error.to_json(), "warnings": problems_to_json(&warnings)});
            print(&format!("{json:#}\n"))?;
            Ok(ExitCode::from(INVALID))
        }
    }
}

/// Checks the configuration. Returns it with its warnings.
///
/// # Errors
/// The configuration has errors, or parts that do not work. If `is_strict`, warnings are errors.
fn examine(
    typed: &Overrides,
    around: &Surroundings,
    is_strict: bool,
) -> Result<(Checked, Vec<Problem>), Rejected> {
    let judged = |rejected: Rejected| {
        if is_strict {
            rejected.with_warnings_as_errors()
        } else {
            rejected
        }
    };
    let mut checked = check::examine(typed, around).map_err(judged)?;
    let tolerated = std::mem::take(&mut checked.tolerated_faults);
    let warnings = std::mem::take(&mut checked.layers.warnings);
    if tolerated.is_empty() && (warnings.is_empty() || !is_strict) {
        return Ok((checked, warnings));
    }
    let error = ConfigError::from_problems(tolerated);
    Err(judged(Rejected { error, warnings }))
}

fn problems_to_json(problems: &[Problem]) -> Vec<Value> {
    problems.iter().map(Problem::to_json).collect()
}

fn diff(old: PathBuf, new: PathBuf, around: &Surroundings) -> anyhow::Result<ExitCode> {
    let load = |file: PathBuf| {
        let typed = Overrides {
            config: Some(file),
            ..Overrides::default()
        };
        check::load(&typed, around)
    };
    let both = load(old).and_then(|old| Ok((old, load(new)?)));
    match both {
        Ok((old, new)) => {
            let diff = ConfigDiff::between(&old.config, &new.config);
            print(&format!("{diff}\n"))
        }
        Err(error) => report_error(&error),
    }
}

/// Returns the report on a valid configuration for people.
fn to_text(checked: &Checked, warnings: &[Problem]) -> String {
    let budget = &checked.budget;
    let mut lines = vec![format!(
        "The configuration is valid. Memory for models: {}.\n",
        human(*budget)
    )];
    for (model, _, need) in checked.loadable() {
        let estimate = need.estimate;
        lines.push(format!(
            "{}: {} (weights {}, cache {} for {} cells, compute {})",
            model.name,
            human(estimate.total()),
            human(estimate.weights),
            human(estimate.cache),
            need.kv_cells,
            human(estimate.compute)
        ));
        lines.extend(on_gpu(need));
        if need.kv_cells < need.wanted_cells {
            lines.push(format!(
                "  note: all calls at full length need {} cells, which do not fit; calls queue for free cells",
                need.wanted_cells
            ));
        }
    }
    if checked.needs.len() > 1 {
        lines.push(format!("\ntogether: {}", total(checked)));
    }
    lines.extend(notes(checked).map(|note| format!("note: {note}")));
    lines.extend(warnings.iter().map(|warning| format!("\n{warning}")));
    lines.join("\n") + "\n"
}

/// Returns a line about the layers that GPUs compute for a model with `need`. Returns `None` if they compute none.
fn on_gpu(need: &Need) -> Option<String> {
    let layers = (need.gpu_layers > 0)
        .then(|| format!("  GPU: {} of {} layers", need.gpu_layers, need.layers))?;
    let Some(available) = need.allowance.gpu else {
        return Some(layers + " in the machine's memory");
    };
    let Estimate {
        weights,
        cache,
        compute,
    } = need.gpu;
    Some(format!(
        "{layers}, {} of {} (weights {}, cache {}, compute {})",
        human(need.gpu.total()),
        human(available),
        human(weights),
        human(cache),
        human(compute)
    ))
}

/// Returns the footprint of each model that can be loaded.
fn footprints(checked: &Checked) -> impl Iterator<Item = Footprint> + '_ {
    let models = checked.loadable();
    models.map(|(.., need)| need.demand().footprint)
}

/// Returns the memory that all models take together, and whether that fits the budget.
fn total(checked: &Checked) -> String {
    let all = sum(footprints(checked));
    let fit = if all <= checked.budget {
        "all fit together"
    } else {
        "not all fit together; idle models are evicted when others are called"
    };
    let alone = footprints(checked).map(|footprint| footprint.total);
    let shared = alone.fold(0, u64::saturating_add).saturating_sub(all);
    let once = match shared {
        0 => String::new(),
        bytes => format!(
            "; weights of a shared file count once, which saves {}",
            human(bytes)
        ),
    };
    format!("{} ({fit}{once})", human(all))
}

/// Returns the notes on a valid configuration, including those on its schemas.
fn notes(checked: &Checked) -> impl Iterator<Item = String> + '_ {
    let schema_notes = checked.config.tools.iter().flat_map(|tool| {
        let answer = tool
            .prepared()
            .and_then(|prepared| prepared.answer.as_ref());
        answer.into_iter().flat_map(move |answer| {
            let key = answer.key();
            // Ignored keywords are warnings.
            let notes = answer.notes.iter().filter(|note| !note.is_ignored);
            notes.map(move |note| format!("`tools.{}.{key}` {note}", tool.name))
        })
    });
    checked.layers.notes.iter().cloned().chain(schema_notes)
}

/// Returns the report on a valid configuration for programs.
fn to_json(checked: &Checked, warnings: &[Problem]) -> Value {
    let models = checked.loadable().map(|(model, files, need)| {
        let header = &files.header;
        json!({
            "name": model.name,
            "tool": model.tool_name,
            "path": model.gguf().settings.path,
            "architecture": header.architecture,
            "trained_context": header.n_ctx_train,
            "has_chat_template": header.chat_template.is_some() || model.gguf().settings.chat_template.is_some(),
            "n_ctx": need.n_ctx,
            "kv_cells": need.kv_cells,
            "wanted_cells": need.wanted_cells,
            "weight_bytes": need.estimate.weights,
            "cache_bytes": need.estimate.cache,
            "compute_bytes": need.estimate.compute,
            "total_bytes": need.estimate.total(),
            "gpu_layers": need.gpu_layers,
            "layers": need.layers,
            "gpu_memory_bytes": need.gpu.total(),
            "gpu_memory_available_bytes": need.allowance.gpu,
        })
    });
    json!({"ok": true, "memory_budget_bytes": checked.budget, "together_bytes": sum(footprints(checked)), "warnings": problems_to_json(warnings), "models": models.collect::<Vec<_>>(), "notes": notes(checked).collect::<Vec<_>>()})
}

fn show(typed: &Overrides, around: &Surroundings, with_origin: bool) -> anyhow::Result<ExitCode> {
    match Config::load(typed, around) {
        Ok((_, layers)) => {
            let view = if with_origin {
                View::Origins
            } else {
                View::Values
            };
            print(&reference::effective(&layers, view))
        }
        Err(error) => report_rejected(&error),
    }
}
