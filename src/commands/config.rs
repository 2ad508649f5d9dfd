//! `llama-mcp-server config`: check, show and explain the configuration.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use super::{WRONG, print, refused, refused_with};
use crate::check::{self, Checked};
use crate::cli::{ConfigCommand, Format};
use crate::config::diff::ConfigDiff;
use crate::config::reference::View;
use crate::config::units::human;
use crate::config::{
    self, Config, ConfigError, Overrides, Surroundings, Transport, reference, shape,
};
use crate::registry::footprint::{Footprint, sum};

/// Runs `command`.
///
/// # Errors
/// Where standard output cannot be written.
pub fn run(command: ConfigCommand, around: &Surroundings) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check { source, format } => check(&source.into_overrides(), around, format),
        ConfigCommand::Show { source, origin } => show(&source.into_overrides(), around, origin),
        ConfigCommand::Diff { old, new } => diff(old, new, around),
        ConfigCommand::Schema => {
            let schema = serde_json::to_string_pretty(&shape::schema())
                .context("the schema could not be written")?;
            print(&format!("{schema}\n"))
        }
        ConfigCommand::Init => print(&reference::text()),
        ConfigCommand::Reference => print(&reference::markdown()),
    }
}

fn check(typed: &Overrides, around: &Surroundings, format: Format) -> anyhow::Result<ExitCode> {
    let checked = check::load(typed, around).and_then(|checked| {
        if checked.doubts.is_empty() {
            Ok(checked)
        } else {
            Err(ConfigError::of(checked.doubts))
        }
    });
    let error = match (checked, format) {
        (Ok(checked), Format::Text) => return print(&told(&checked)),
        (Ok(checked), Format::Json) => return print(&format!("{:#}\n", as_json(&checked))),
        (Err(error), _) => error,
    };
    let notes = config::notes(typed, around);
    if format == Format::Text {
        return refused_with(&error, &notes);
    }
    let json = json!({"ok": false, "problems": error.to_json(), "notes": notes});
    print(&format!("{json:#}\n"))?;
    Ok(ExitCode::from(WRONG))
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
        Err(error) => refused(&error),
    }
}

fn told(checked: &Checked) -> String {
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
        if need.kv_cells < need.wanted_cells {
            lines.push(format!(
                "  note: all calls at full length would need {} cells, which do not fit; calls wait for cells",
                need.wanted_cells
            ));
        }
    }
    if checked.needs.len() > 1 {
        lines.push(format!("\ntogether: {}", together(checked)));
    }
    lines.extend(
        checked
            .warnings
            .iter()
            .map(|warning| format!("warning: {warning}")),
    );
    lines.extend(notes(checked).map(|note| format!("note: {note}")));
    lines.join("\n") + "\n"
}

/// Returns what each model takes that can be loaded from its files.
fn footprints(checked: &Checked) -> impl Iterator<Item = Footprint> + '_ {
    let models = checked.loadable();
    models.map(|(.., need)| need.demand().footprint)
}

/// Returns what all models take, and whether that fits.
fn together(checked: &Checked) -> String {
    let all = sum(footprints(checked));
    let fit = if all <= checked.budget {
        "all fit together"
    } else {
        "not all fit together: models that idle make room"
    };
    let alone = footprints(checked).map(|footprint| footprint.total);
    let shared = alone.fold(0, u64::saturating_add).saturating_sub(all);
    let once = match shared {
        0 => String::new(),
        bytes => format!(
            "; weights of a common file count once, which saves {}",
            human(bytes)
        ),
    };
    format!("{} ({fit}{once})", human(all))
}

/// Returns the notes on a valid configuration, including those on its schemas.
fn notes(checked: &Checked) -> impl Iterator<Item = String> + '_ {
    let of_schemas = checked.config.tools.iter().flat_map(|tool| {
        tool.answer.iter().flat_map(move |answer| {
            let key = answer.key();
            let notes = answer.notes.iter();
            notes.map(move |note| format!("`tools.{}.{key}` {note}", tool.name))
        })
    });
    let http = match &checked.config.transport {
        Transport::Http(http) => Some(http),
        Transport::Stdio => None,
    };
    let of_tokens = http.into_iter().flat_map(|http| http.token_notes());
    let notes = checked.layers.notes.iter().cloned();
    notes.chain(of_tokens).chain(of_schemas)
}

fn as_json(checked: &Checked) -> Value {
    let models = checked.loadable().map(|(model, files, need)| {
        let header = &files.header;
        json!({
            "name": model.name,
            "tool": model.tool_name,
            "path": model.load.path,
            "architecture": header.architecture,
            "trained_context": header.n_ctx_train,
            "has_chat_template": header.chat_template.is_some() || model.load.chat_template.is_some(),
            "n_ctx": need.n_ctx,
            "kv_cells": need.kv_cells,
            "wanted_cells": need.wanted_cells,
            "weight_bytes": need.estimate.weights,
            "cache_bytes": need.estimate.cache,
            "compute_bytes": need.estimate.compute,
            "total_bytes": need.estimate.total(),
        })
    });
    json!({"ok": true, "memory_budget_bytes": checked.budget, "together_bytes": sum(footprints(checked)), "warnings": checked.warnings, "models": models.collect::<Vec<_>>(), "notes": notes(checked).collect::<Vec<_>>()})
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
        Err(error) => refused_with(&error, &config::notes(typed, around)),
    }
}
