//! Report to share: the findings and the effective configuration, without secrets, prompts and the home directory.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;

use super::Finding;
use crate::config::load::Layers;
use crate::config::reference::{self, View};

/// Writes the report to `path`, which must not exist.
pub(super) fn write(
    path: &Path,
    findings: &[Finding],
    layers: Option<&Layers>,
) -> anyhow::Result<()> {
    let findings: Vec<String> = findings.iter().map(Finding::to_shareable).collect();
    let configuration = layers.map_or_else(
        || "(no valid configuration)\n".into(),
        |layers| reference::effective(layers, View::ForOthers),
    );
    let report = format!(
        "# Findings\n\n{}\n\n# Effective configuration\n\n{configuration}",
        findings.join("\n")
    );
    let home = dirs::home_dir();
    let real = home.as_ref().and_then(|home| home.canonicalize().ok());
    let report = without_home(&report, real.as_deref());
    let report = without_home(&report, home.as_deref());
    File::create_new(path)
        .and_then(|mut file| file.write_all(report.as_bytes()))
        .with_context(|| format!("could not write the report `{}`", path.display()))
}

/// Replaces the home directory with `~`, since its name is usually that of its owner. TOML values contain it with escapes.
fn without_home(report: &str, home: Option<&Path>) -> String {
    let home = home.map(|home| home.to_string_lossy().into_owned());
    match home.as_deref() {
        None | Some("" | "/") => report.to_owned(),
        Some(home) => {
            let escaped = home.escape_default().to_string();
            report.replace(&escaped, "~").replace(home, "~")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_directory_is_replaced_with_a_tilde() {
        let report = "`/home/ann/small.gguf`, path = \"/home/ann/small.gguf\"";
        let home = Some(Path::new("/home/ann"));
        assert_eq!(
            without_home(report, home),
            "`~/small.gguf`, path = \"~/small.gguf\""
        );
        let home = Some(Path::new(r"C:\Users\ann"));
        let report = r#"`C:\Users\ann\small.gguf`, path = "C:\\Users\\ann\\small.gguf""#;
        assert_eq!(
            without_home(report, home),
            r#"`~\small.gguf`, path = "~\\small.gguf""#
        );
    }
}
