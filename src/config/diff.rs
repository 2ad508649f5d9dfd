//! What an edit of the configuration changes, and how that comes into force: pure.
//!
//! Applying the difference of two configurations to the first gives the second.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::file::LogSettings;
use super::http::HttpConfig;
use super::token::{AUTH, TokenConfig};
use super::{Config, ModelConfig, RegistryConfig, ToolConfig, Transport};

/// See the module.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ConfigDiff {
    /// By name.
    pub models: BTreeMap<String, Change<ModelConfig>>,
    /// By name; those that are made of prompts.
    pub tools: BTreeMap<String, Change<ToolConfig>>,
    /// How models share the machine, where that is another way now.
    pub registry: Option<Part<RegistryConfig>>,
    /// How clients connect.
    pub transport: Option<Part<Transport>>,
    /// Whether results of calls include `_meta`.
    pub result_meta: Option<Part<bool>>,
    /// What is logged.
    pub log: Option<Part<LogSettings>>,
    /// Whether the file is watched.
    pub watch: Option<Part<super::file::WatchMode>>,
}

/// What becomes of a model or a tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change<T> {
    /// It was not there before.
    Added(T),
    /// It is not there any more.
    Removed,
    /// It is another one now.
    Changed(Part<T>),
}

/// Another value of something that was there before.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part<T> {
    /// What it is now.
    pub to: T,
    /// The keys that count from the next call on.
    pub live: BTreeSet<String>,
    /// The keys for which something starts anew: a model by itself, for anything else the server must be.
    pub restart: BTreeSet<String>,
}

impl ConfigDiff {
    /// What makes `new` of `old`.
    pub(crate) fn between(old: &Config, new: &Config) -> Self {
        let by_name = |config: &Config| -> BTreeMap<String, ModelConfig> {
            let models = config.models.iter();
            models
                .map(|model| (model.name.clone(), model.clone()))
                .collect()
        };
        Self {
            models: changes(&by_name(old), &by_name(new), model_keys),
            tools: {
                let by_name = |config: &Config| -> BTreeMap<String, ToolConfig> {
                    let tools = config.tools.iter();
                    tools
                        .map(|tool| (tool.name.clone(), tool.clone()))
                        .collect()
                };
                changes(&by_name(old), &by_name(new), |old, new| {
                    (differing(old, new), BTreeSet::new())
                })
            },
            registry: part(&old.registry, &new.registry, |old, new| {
                (differing(old, new), BTreeSet::new())
            }),
            transport: part(&old.transport, &new.transport, transport_keys),
            result_meta: part(&old.result_meta, &new.result_meta, |_, _| {
                (BTreeSet::from(["result_meta".into()]), BTreeSet::new())
            }),
            log: part(&old.log, &new.log, |old, new| {
                let keys = differing(old, new);
                keys.into_iter().partition(|key| key == "log_prompts")
            }),
            watch: part(&old.watch, &new.watch, |_, _| {
                (BTreeSet::new(), BTreeSet::from(["watch".into()]))
            }),
        }
    }

    /// `old`, changed.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn apply(&self, old: &Config) -> Config {
        let mut models: BTreeMap<String, ModelConfig> = old
            .models
            .iter()
            .map(|model| (model.name.clone(), model.clone()))
            .collect();
        apply(&mut models, &self.models);
        let mut tools: BTreeMap<String, ToolConfig> = old
            .tools
            .iter()
            .map(|tool| (tool.name.clone(), tool.clone()))
            .collect();
        apply(&mut tools, &self.tools);
        Config {
            models: models.into_values().collect(),
            tools: tools.into_values().collect(),
            transport: value(self.transport.as_ref(), &old.transport),
            registry: value(self.registry.as_ref(), &old.registry),
            result_meta: value(self.result_meta.as_ref(), &old.result_meta),
            log: value(self.log.as_ref(), &old.log),
            watch: value(self.watch.as_ref(), &old.watch),
        }
    }

    /// What of it waits for a restart of the server.
    pub(crate) fn needs_restart(&self) -> Vec<String> {
        let keys = |table: &str, keys: Option<&BTreeSet<String>>| -> Vec<String> {
            let keys = keys.into_iter().flatten();
            keys.map(|key| format!("{table}.{key}")).collect()
        };
        [
            keys("server", self.transport.as_ref().map(|part| &part.restart)),
            keys("server", self.watch.as_ref().map(|part| &part.restart)),
            keys("log", self.log.as_ref().map(|part| &part.restart)),
        ]
        .concat()
    }

    /// A line for everything that changes; none where nothing does.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .models
            .iter()
            .map(|(name, change)| format!("model {name}: {}", change.in_words()))
            .collect();
        let tools = self.tools.iter();
        lines.extend(tools.map(|(name, change)| format!("tool {name}: {}", change.in_words())));
        let live = [
            ("server", self.transport.as_ref().map(|part| &part.live)),
            ("server", self.result_meta.as_ref().map(|part| &part.live)),
            ("log", self.log.as_ref().map(|part| &part.live)),
            ("registry", self.registry.as_ref().map(|part| &part.live)),
        ];
        for (table, keys) in live {
            if let Some(keys) = keys.filter(|keys| !keys.is_empty()) {
                lines.push(format!("{table}: live ({})", joined(keys)));
            }
        }
        let waiting = self.needs_restart();
        if !waiting.is_empty() {
            lines.push(format!(
                "not before the server is restarted: {}",
                waiting.join(", ")
            ));
        }
        lines
    }
}

impl<T> Change<T> {
    fn in_words(&self) -> String {
        match self {
            Self::Added(_) => "added".into(),
            Self::Removed => "removed".into(),
            Self::Changed(part) => part.in_words(),
        }
    }
}

impl<T> Part<T> {
    fn in_words(&self) -> String {
        let all: BTreeSet<String> = self.live.union(&self.restart).cloned().collect();
        if self.restart.is_empty() {
            format!("live ({})", joined(&all))
        } else {
            format!("restart ({})", joined(&self.restart)) + &also_live(&self.live)
        }
    }
}

fn also_live(keys: &BTreeSet<String>) -> String {
    if keys.is_empty() {
        String::new()
    } else {
        format!(", live ({})", joined(keys))
    }
}

fn joined(keys: &BTreeSet<String>) -> String {
    keys.iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

impl fmt::Display for ConfigDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lines() {
            none if none.is_empty() => f.write_str("nothing changes"),
            lines => f.write_str(&lines.join("\n")),
        }
    }
}

/// The keys that count live, and those that need a restart.
type Keys = (BTreeSet<String>, BTreeSet<String>);

fn part<T: Clone + PartialEq>(
    old: &T,
    new: &T,
    keys: impl FnOnce(&T, &T) -> Keys,
) -> Option<Part<T>> {
    (old != new).then(|| {
        let (live, restart) = keys(old, new);
        let to = new.clone();
        Part { to, live, restart }
    })
}

#[cfg(test)]
fn value<T: Clone>(part: Option<&Part<T>>, old: &T) -> T {
    part.map_or_else(|| old.clone(), |part| part.to.clone())
}

fn changes<T: Clone + PartialEq>(
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    keys: impl Fn(&T, &T) -> Keys,
) -> BTreeMap<String, Change<T>> {
    let removed = old
        .keys()
        .filter(|name| !new.contains_key(*name))
        .map(|name| (name.clone(), Change::Removed));
    let rest = new.iter().filter_map(|(name, value)| {
        let change = match old.get(name) {
            None => Change::Added(value.clone()),
            Some(former) => Change::Changed(part(former, value, &keys)?),
        };
        Some((name.clone(), change))
    });
    removed.chain(rest).collect()
}

#[cfg(test)]
fn apply<T: Clone>(values: &mut BTreeMap<String, T>, changes: &BTreeMap<String, Change<T>>) {
    for (name, change) in changes {
        match change {
            Change::Added(value) | Change::Changed(Part { to: value, .. }) => {
                values.insert(name.clone(), value.clone());
            }
            Change::Removed => {
                values.remove(name);
            }
        }
    }
}

/// What changes how a model is loaded starts its process anew, and nothing else does: the rule of
/// [`ModelConfig::is_loaded_like`].
fn model_keys(old: &ModelConfig, new: &ModelConfig) -> Keys {
    let mut restart = differing(&old.source, &new.source);
    let mut live = differing(old, new);
    live.retain(|key| !restart.contains(key));
    // If the path changed, the files differ anyway.
    let has_changed = old.gguf().stamp != new.gguf().stamp || old.gguf().files != new.gguf().files;
    if has_changed && !restart.contains("path") && !restart.contains("lora") {
        restart.insert("the file".into());
    }
    (live, restart)
}

/// What the sockets are made with needs a restart; what is checked with each request is live.
fn transport_keys(old: &Transport, new: &Transport) -> Keys {
    let (Transport::Http(old), Transport::Http(new)) = (old, new) else {
        return (BTreeSet::new(), BTreeSet::from(["transport".into()]));
    };
    let HttpConfig {
        host,
        addresses,
        tokens,
        session_secret,
        allowed_hosts,
        allowed_origins,
        cors,
        drain_time,
        limits,
    } = &**old;
    let differing = |keys: &[(&str, bool)]| -> BTreeSet<String> {
        let keys = keys.iter().filter(|(_, differs)| *differs);
        keys.map(|(key, _)| (*key).to_owned()).collect()
    };
    let is_same_host = *host == new.host;
    // `auth` is one of them, and its key stands beside the others.
    let of_auth = |tokens: &[Arc<TokenConfig>], is_auth: bool| -> Vec<Arc<TokenConfig>> {
        let tokens = tokens.iter();
        let wanted = tokens.filter(|token| (token.name == AUTH) == is_auth);
        wanted.cloned().collect()
    };
    let differs = |is_auth| of_auth(tokens, is_auth) != of_auth(&new.tokens, is_auth);
    let other = &new.limits;
    // The tokens end at once, but the server stays closed until it is restarted.
    let would_open = old.would_open(new);
    let live = differing(&[
        ("auth", !would_open && differs(true)),
        ("tokens", !would_open && differs(false)),
        ("session_secret", *session_secret != new.session_secret),
        ("allowed_hosts", *allowed_hosts != new.allowed_hosts),
        ("allowed_origins", *allowed_origins != new.allowed_origins),
        ("drain_time", *drain_time != new.drain_time),
        ("max_calls", limits.max_calls != other.max_calls),
        ("max_body", limits.max_body != other.max_body),
        ("max_held", limits.max_held != other.max_held),
        ("header_time", limits.header_time != other.header_time),
        ("body_time", limits.body_time != other.body_time),
        ("idle_time", limits.idle_time != other.idle_time),
    ]);
    let restart = differing(&[
        ("auth", would_open && differs(true)),
        ("tokens", would_open && differs(false)),
        ("host", !is_same_host),
        ("port", is_same_host && *addresses != new.addresses),
        ("cors", *cors != new.cors),
        ("max_sessions", limits.max_sessions != other.max_sessions),
        (
            "max_connections",
            limits.max_connections != other.max_connections,
        ),
    ]);
    (live, restart)
}

/// The keys in which two tables differ.
fn differing(old: &impl Serialize, new: &impl Serialize) -> BTreeSet<String> {
    let table = |value: Result<Value, serde_json::Error>| match value {
        Ok(Value::Object(table)) => table,
        _ => serde_json::Map::new(),
    };
    let (old, new) = (
        table(serde_json::to_value(old)),
        table(serde_json::to_value(new)),
    );
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests;
