//! Resolves `${…}`, `~` and relative paths in the strings of a file.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::Layers;
use crate::config::address::Address;
use crate::config::interpolate::{Scope, interpolate};
use crate::config::paths;
use crate::config::problem::Origin;
use crate::config::source_text::SourceText;

impl Layers {
    /// Resolves `${…}` in strings, and relative paths against the folder of the file. Adds the addresses of strings that cannot be
    /// resolved to `unresolved`.
    pub(super) fn complete(
        &mut self,
        address: &Address,
        value: &mut Value,
        source: &Arc<SourceText>,
        scope: &mut Scope<'_>,
        unresolved: &mut Vec<Address>,
    ) {
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    self.complete(&address.join(key), value, source, scope, unresolved);
                }
            }
            Value::Array(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    let address = address.join(at.to_string());
                    self.complete(&address, item, source, scope, unresolved);
                }
            }
            Value::String(text) => {
                let (read, files) = (scope.read.len(), scope.files.len());
                let resolved = interpolate(text, scope);
                if address
                    .parts()
                    .first()
                    .is_some_and(|table| table == "server")
                {
                    self.server_files.extend_from_slice(&scope.files[files..]);
                }
                if !self.schema.is_secret(address) {
                    scope.read.truncate(read);
                }
                match resolved {
                    Ok(None) => {}
                    Ok(Some(resolved)) => {
                        let written = if self.schema.is_path(address) {
                            from_folder(scope.folder, &resolved, text)
                        } else {
                            text.clone()
                        };
                        self.written.insert(address.clone(), written);
                        *value = self.schema.typed(address, &resolved);
                    }
                    Err(error) => {
                        let origin = Origin::File(Arc::clone(source));
                        let hint = argument_hint(address, text, source).or(error.hint);
                        self.add_error(origin, Some(address), error.message, hint);
                        unresolved.push(address.clone());
                    }
                }
                if let (Value::String(path), true) = (&*value, self.schema.is_path(address)) {
                    if let Some(hint) = self.missing_path_hint(address, path, scope.folder) {
                        let message = format!("`{path}` does not exist");
                        let origin = Origin::File(Arc::clone(source));
                        self.add_error(origin, Some(address), message, Some(hint));
                        unresolved.push(address.clone());
                    }
                    let path = paths::at_home(path, self.home.as_deref());
                    *value = scope.folder.join(&*path).to_string_lossy().into();
                }
            }
            _ => {}
        }
    }

    /// Replaces `~` with the home directory in all paths of `value`, which is at `address`. Reports and removes paths whose `~` cannot be
    /// replaced.
    pub(super) fn expand_home(&mut self, origin: &Origin, address: &Address, value: &mut Value) {
        match value {
            Value::Object(table) => {
                table.retain(|key, value| {
                    let address = address.join(key);
                    let hint = match &*value {
                        Value::String(path) if self.schema.is_path(&address) => {
                            self.missing_path_hint(&address, path, Path::new(""))
                        }
                        _ => None,
                    };
                    let Some(hint) = hint else {
                        self.expand_home(origin, &address, value);
                        return true;
                    };
                    let message =
                        format!("`{}` does not exist", value.as_str().unwrap_or_default());
                    self.add_error(origin.clone(), Some(&address), message, Some(hint));
                    self.refused.push(address);
                    false
                });
            }
            Value::String(path) if self.schema.is_path(address) => {
                *path = paths::at_home(path, self.home.as_deref()).into_owned();
            }
            _ => {}
        }
    }

    /// Returns a hint for the `path` at `address` if it has a `~` or a shell variable that is not replaced, and does not exist. Returns `None`
    /// for files of models: the check of the model reports them, so that the other models are served.
    fn missing_path_hint(&self, address: &Address, path: &str, folder: &Path) -> Option<String> {
        let is_of_model = address.in_defaults().is_some() || address.parts().first()? == "defaults";
        if is_of_model {
            return None;
        }
        let hint = paths::shell_variable_hint(path)
            .or_else(|| paths::tilde_hint(path, self.home.as_deref()))?;
        (!folder.join(path).exists()).then_some(hint)
    }
}

/// Returns a hint if `text`, the prompt of a tool at `address`, has the name of an argument in `${…}`.
fn argument_hint(address: &Address, text: &str, source: &SourceText) -> Option<String> {
    let [tools, tool, key] = address.parts() else {
        return None;
    };
    if tools != "tools" || key != "prompt" {
        return None;
    }
    let arguments = Address::new(["tools", tool, "arguments"]);
    let arguments = arguments.get(&source.tree)?;
    let names = text
        .split("${")
        .skip(1)
        .filter_map(|rest| rest.split_once('}'));
    let mut names = names.map(|(name, _)| name.trim());
    let name = names.find(|name| arguments.get(*name).is_some())?;
    Some(format!(
        "write `{{{{ {name} }}}}` for the argument `{name}`, or `$${{` for a literal `${{`"
    ))
}

/// Returns the path `text`, which resolves to `resolved`, for use in another file: a relative path is joined to `folder`.
fn from_folder(folder: &Path, resolved: &str, text: &str) -> String {
    if Path::new(resolved).is_absolute() || resolved.starts_with('~') {
        return text.to_owned();
    }
    let folder = std::path::absolute(folder.join(".")).unwrap_or_else(|_| folder.into());
    let folder = folder.to_string_lossy().replace("${", "$${");
    Path::new(&folder).join(text).to_string_lossy().into()
}
