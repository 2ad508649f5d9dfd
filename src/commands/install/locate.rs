//! Finds the configuration file of a client.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::mcp_clients::Client;

/// Folders by their names in [`Client::files`]. Folders that this system does not have are left out.
pub(crate) type Folders = BTreeMap<&'static str, PathBuf>;

/// Returns the folders of the current user.
pub(crate) fn folders(variables: &BTreeMap<String, String>) -> Folders {
    let variable = |name: &str| {
        let folder = PathBuf::from(variables.get(name)?);
        folder.is_absolute().then_some(folder)
    };
    let home = dirs::home_dir();
    let only_if = |is_system: bool, folder: Option<PathBuf>| folder.filter(|_| is_system);
    // Zed uses this folder on macOS, too, unlike other programs there.
    let xdg = variable("XDG_CONFIG_HOME")
        .filter(|_| !cfg!(target_os = "macos"))
        .or_else(|| Some(home.as_ref()?.join(".config")));
    let pointer = home
        .as_ref()
        .and_then(|home| std::fs::read_to_string(home.join(".lmstudio-home-pointer")).ok());
    [
        ("config", dirs::config_dir()),
        ("xdg", only_if(cfg!(unix), xdg)),
        ("appdata", only_if(cfg!(windows), dirs::config_dir())),
        ("local", only_if(cfg!(windows), dirs::data_local_dir())),
        ("claude", variable("CLAUDE_CONFIG_DIR").or(home.clone())),
        ("lmstudio", pointer.map(|folder| folder.trim().into())),
        ("home", home),
    ]
    .into_iter()
    .filter_map(|(name, folder)| Some((name, folder?)))
    .collect()
}

/// Returns the first file of `client` that shows that the client is installed.
///
/// # Errors
/// The client is not installed. The error lists the paths that do not exist.
pub(crate) fn find(client: &Client, folders: &Folders) -> Result<PathBuf, Vec<PathBuf>> {
    let mut missing = Vec::new();
    for file in client.files.iter().flat_map(|file| expand(file, folders)) {
        let sign = match file.parent() {
            Some(folder) if !client.is_detected_by_file => folder,
            _ => &file,
        };
        if sign.exists() {
            return Ok(file);
        }
        missing.push(sign.to_owned());
    }
    Err(missing)
}

/// Returns the paths that `template` matches.
fn expand(template: &str, folders: &Folders) -> Vec<PathBuf> {
    let mut parts = template.split('/');
    let first = parts.next().unwrap_or_default();
    let start = folders.get(first.trim_matches(['{', '}']));
    parts.fold(start.cloned().into_iter().collect(), |paths, part| {
        let paths = paths.iter();
        match part.strip_suffix('*') {
            Some(prefix) => paths.flat_map(|path| with_prefix(path, prefix)).collect(),
            None => paths.map(|path| path.join(part)).collect(),
        }
    })
}

/// Returns the entries of `folder` whose names begin with `prefix`.
fn with_prefix(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp_clients::CLIENTS;

    /// Lists the possible files of all clients.
    fn all(folders: &[(&'static str, &str)]) -> String {
        let folders = folders.iter().map(|(name, folder)| (*name, folder.into()));
        let folders: Folders = folders.collect();
        let lines = CLIENTS.iter().flat_map(|client| {
            let paths = client.files.iter().flat_map(|file| expand(file, &folders));
            let lines = paths.map(|path| format!("{}: {}", client.name, path.display()));
            lines
                .map(|line| line.replace('\\', "/"))
                .collect::<Vec<_>>()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn most_files_are_in_the_config_folder_on_linux() {
        let folders = [
            ("home", "~"),
            ("claude", "~"),
            ("config", "~/.config"),
            ("xdg", "~/.config"),
        ];
        insta::assert_snapshot!(all(&folders), @"
        claude-desktop: ~/.config/Claude/claude_desktop_config.json
        claude-code: ~/.claude.json
        cursor: ~/.cursor/mcp.json
        vscode: ~/.config/Code/User/mcp.json
        vscode: ~/.config/Code - Insiders/User/mcp.json
        zed: ~/.config/zed/settings.json
        lmstudio: ~/.cache/lm-studio/mcp.json
        lmstudio: ~/.lmstudio/mcp.json
        ");
    }

    #[test]
    fn most_files_are_in_application_support_on_macos() {
        let folders = [
            ("home", "~"),
            ("claude", "~"),
            ("config", "~/Library/Application Support"),
            ("xdg", "~/.config"),
        ];
        insta::assert_snapshot!(all(&folders), @"
        claude-desktop: ~/Library/Application Support/Claude/claude_desktop_config.json
        claude-code: ~/.claude.json
        cursor: ~/.cursor/mcp.json
        vscode: ~/Library/Application Support/Code/User/mcp.json
        vscode: ~/Library/Application Support/Code - Insiders/User/mcp.json
        zed: ~/.config/zed/settings.json
        lmstudio: ~/.cache/lm-studio/mcp.json
        lmstudio: ~/.lmstudio/mcp.json
        ");
    }

    #[test]
    fn most_files_are_in_roaming_appdata_on_windows() {
        let folders = [
            ("home", "%USERPROFILE%"),
            ("claude", "%USERPROFILE%"),
            ("config", "%APPDATA%"),
            ("appdata", "%APPDATA%"),
            ("local", "%LOCALAPPDATA%"),
        ];
        insta::assert_snapshot!(all(&folders), @"
        claude-desktop: %APPDATA%/Claude/claude_desktop_config.json
        claude-code: %USERPROFILE%/.claude.json
        cursor: %USERPROFILE%/.cursor/mcp.json
        vscode: %APPDATA%/Code/User/mcp.json
        vscode: %APPDATA%/Code - Insiders/User/mcp.json
        zed: %APPDATA%/Zed/settings.json
        lmstudio: %USERPROFILE%/.cache/lm-studio/mcp.json
        lmstudio: %USERPROFILE%/.lmstudio/mcp.json
        ");
    }

    #[test]
    fn claude_desktop_as_a_package_has_its_file_in_the_folder_of_the_package() {
        let root = std::env::temp_dir().join(format!("llama-mcp-place-{}", std::process::id()));
        let package = "Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude";
        let folders = Folders::from([("local", root.clone()), ("config", root.join("Roaming"))]);
        let [desktop, ..] = &CLIENTS;
        let missing = find(desktop, &folders).unwrap_err();
        assert_eq!(missing, [root.join("Roaming/Claude")]);
        std::fs::create_dir_all(root.join("Roaming/Claude")).unwrap();
        let of_installer = find(desktop, &folders).unwrap();
        std::fs::create_dir_all(root.join(package)).unwrap();
        let of_package = find(desktop, &folders).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        let file = "claude_desktop_config.json";
        assert_eq!(of_installer, root.join("Roaming/Claude").join(file));
        assert_eq!(of_package, root.join(package).join(file));
    }
}
