//! A report to pass on: what doctor found, and what counts of the configuration, without what is nobody's business.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;

use crate::config::{Config, Overrides, Surroundings, reference};

/// Keys whose texts are prompts, or tell of them.
const PROMPTS: [&str; 6] = [
    "chat_template",
    "description",
    "prompt",
    "prompt_suffix",
    "system",
    "title",
];

/// Writes the report to `path`, which must not be there yet.
pub(super) fn write(
    path: &Path,
    findings: &str,
    typed: &Overrides,
    around: &Surroundings,
) -> anyhow::Result<()> {
    let configuration = match Config::load(typed, around) {
        Ok((_, layers)) => without_prompts(&reference::effective(&layers, false)),
        Err(_) => "(there is none that could be run)\n".into(),
    };
    let report = format!(
        "# What doctor found\n\n{findings}\n# What counts of the configuration\n\n{configuration}"
    );
    let report = without_home(&report, dirs::home_dir().as_deref());
    File::create_new(path)
        .and_then(|mut file| file.write_all(report.as_bytes()))
        .with_context(|| format!("could not write the report `{}`", path.display()))
}

/// `effective`, which has a value a line, with the lengths of prompts in their places.
fn without_prompts(effective: &str) -> String {
    let line = |line: &str| match line.split_once(" = ") {
        Some((key, value)) if PROMPTS.contains(&key.trim_start_matches("# ")) => {
            let text: String = serde_json::from_str(value).unwrap_or_default();
            format!("{key} = \"({} characters)\"\n", text.chars().count())
        }
        _ => format!("{line}\n"),
    };
    effective.lines().map(line).collect()
}

/// A home folder is called like its owner.
fn without_home(report: &str, home: Option<&Path>) -> String {
    let home = home.map(|home| home.to_string_lossy());
    match home.as_deref() {
        None | Some("" | "/") => report.to_owned(),
        Some(home) => report.replace(home, "~"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_and_the_owner_of_the_home_folder_are_left_out() {
        let effective =
            "[models.small]\npath = \"/home/ann/small.gguf\"\nsystem = \"I am Ann.\\nBe kind.\"\n";
        let report = without_home(&without_prompts(effective), Some(Path::new("/home/ann")));
        assert_eq!(
            report,
            "[models.small]\npath = \"~/small.gguf\"\nsystem = \"(18 characters)\"\n"
        );
    }
}
