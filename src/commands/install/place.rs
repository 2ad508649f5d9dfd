//! Where a client's file is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::mcp_clients::Client;

/// The folders that the names in [`Client::files`] stand for. One that this system has not is missing.
pub(crate) type Folders = BTreeMap<&'static str, PathBuf>;

/// Those of this user.
pub(crate) fn folders(variables: &BTreeMap<String, String>) -> Folders {
    let variable = |name: &str| {
        let folder = PathBuf::from(variables.get(name)?);
        folder.is_absolute().then_some(folder)
    };
    let home = dirs::home_dir();
    let on = |is_there: bool, folder: Option<PathBuf>| folder.filter(|_| is_there);
    // Zed uses it on macOS, too, where the platform's folder is another.
    let xdg = variable("XDG_CONFIG_HOME")
        .filter(|_| !cfg!(target_os = "macos"))
        .or_else(|| Some(home.as_ref()?.join(".config")));
    let pointer = home
        .as_ref()
        .and_then(|home| std::fs::read_to_string(home.join(".lmstudio-home-pointer")).ok());
    [
        ("config", dirs::config_dir()),
        ("xdg", on(cfg!(unix), xdg)),
        ("appdata", on(cfg!(windows), dirs::config_dir())),
        ("local", on(cfg!(windows), dirs::data_local_dir())),
        ("claude", variable("CLAUDE_CONFIG_DIR").or(home.clone())),
        ("lmstudio", pointer.map(|folder| folder.trim().into())),
        ("home", home),
    ]
    .into_iter()
    .filter_map(|(name, folder)| Some((name, folder?)))
    .collect()
}

/// The file of `client`: the first whose client is installed.
///
/// # Errors
/// What was looked for, where it is not.
pub(crate) fn find(client: &Client, folders: &Folders) -> Result<PathBuf, Vec<PathBuf>> {
    let mut looked_for = Vec::new();
    for file in client.files.iter().flat_map(|file| expand(file, folders)) {
        let sign = match file.parent() {
            Some(folder) if !client.is_known_by_file => folder,
            _ => &file,
        };
        if sign.exists() {
            return Ok(file);
        }
        looked_for.push(sign.to_owned());
    }
    Err(looked_for)
}

/// The paths that `template` stands for.
fn expand(template: &str, folders: &Folders) -> Vec<PathBuf> {
    let mut parts = template.split('/');
    let first = parts.next().unwrap_or_default();
    let start = folders.get(first.trim_matches(['{', '}']));
    parts.fold(start.cloned().into_iter().collect(), |paths, part| {
        let paths = paths.iter();
        match part.strip_suffix('*') {
            Some(prefix) => paths.flat_map(|path| beginning(path, prefix)).collect(),
            None => paths.map(|path| path.join(part)).collect(),
        }
    })
}

/// What in `folder` has a name that begins so.
fn beginning(folder: &Path, prefix: &str) -> Vec<PathBuf> {
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

    /// Where every client's file may be.
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
    fn linux_has_its_files_in_the_configuration_folder() {
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
    fn macos_has_most_in_application_support() {
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
    fn windows_has_most_in_roaming() {
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
    fn claude_desktop_as_a_package_has_its_file_there_and_nowhere_else() {
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
