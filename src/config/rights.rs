//! Rights over HTTP in a configuration that is rejected for other reasons: the rights that it takes away end nevertheless.
//!
//! Revocation must not wait until the rest of a file is valid. So rights only shrink here: a token that is removed, renamed or replaced
//! ends, and lists and limits are narrowed. Rights that the rejected configuration would grant wait until the file is valid.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ModelConfig;
use super::address::Address;
use super::file::ConfigFile;
use super::http::{Host, HttpConfig, HttpLimits, origin};
use super::load::Layers;
use super::source::Source;
use super::token::{self, TokenConfig};
use super::{Overrides, Surroundings, find_file};

/// The rights that a configuration states, as far as they can be read.
#[derive(Debug)]
pub struct Rights {
    tokens: Vec<Arc<TokenConfig>>,
    /// The configuration file.
    source: Arc<Source>,
    /// The readable part of the configuration.
    settings: ConfigFile,
    /// Addresses of values that cannot be read.
    unreadable: Vec<Address>,
    /// Allowed hosts; `None` if they are unknown.
    allowed_hosts: Option<Vec<Host>>,
    /// Allowed origins; `None` if they are unknown.
    allowed_origins: Option<Vec<String>>,
    /// `max_calls` of `[server]`; `None` if it is unknown.
    max_calls: Option<usize>,
}

impl Rights {
    /// Reads the rights from the configuration that `typed` names. Returns `None` if they are unknown: the file cannot be read, is empty,
    /// or `server` or `server.tokens` is not a valid table.
    pub fn read(typed: &Overrides, around: &Surroundings) -> Option<Self> {
        let file = find_file(typed, around).ok()??;
        let mut layers = Layers::read(typed, &around.variables, Some(&file));
        let source = Arc::clone(layers.file.as_ref()?);
        let is_empty = source
            .tree
            .as_object()
            .is_none_or(serde_json::Map::is_empty);
        let tables = [Address::of(["server"]), Address::of(["server", "tokens"])];
        let has_problem = |layers: &Layers, at: &Address| {
            let mut problems = layers.problems.iter();
            problems.any(|problem| problem.address.as_ref() == Some(at))
        };
        if is_empty || tables.iter().any(|table| has_problem(&layers, table)) {
            return None;
        }
        let addresses = layers.problems.iter();
        let unreadable: Vec<Address> = addresses
            .filter_map(|problem| problem.address.clone())
            .collect();
        let is_known = |key| {
            let key = Address::of(["server", key]);
            source.syntax.is_empty() && !unreadable.iter().any(|at| overlap(at, &key))
        };
        let settings = layers.merged();
        let server = &settings.server;
        let hosts = || {
            server
                .allowed_hosts
                .iter()
                .filter_map(|host| Host::parse(host.trim()))
        };
        let origins = || {
            server
                .allowed_origins
                .iter()
                .filter_map(|text| origin(text.trim()))
        };
        let allowed_hosts = is_known("allowed_hosts").then(|| hosts().collect());
        let allowed_origins = is_known("allowed_origins").then(|| origins().collect());
        let max_calls = is_known("max_calls").then_some(server.max_calls);
        token::set_aside(&mut layers);
        Some(Self {
            tokens: token::resolve(&settings, &mut layers),
            source,
            settings,
            unreadable,
            allowed_hosts,
            allowed_origins,
            max_calls,
        })
    }

    /// Returns `current` without the rights that this configuration does not grant. `models` are those that are served.
    #[must_use]
    pub fn narrow(&self, current: &HttpConfig, models: &[ModelConfig]) -> HttpConfig {
        let tokens = current
            .tokens
            .iter()
            .map(|token| Arc::new(self.narrow_token(token, models)));
        HttpConfig {
            tokens: if current.tokens.is_empty() {
                // Without tokens, everybody had all rights.
                self.tokens.clone()
            } else {
                tokens.collect()
            },
            allowed_hosts: common(&current.allowed_hosts, self.allowed_hosts.as_deref()),
            allowed_origins: common(&current.allowed_origins, self.allowed_origins.as_deref()),
            limits: HttpLimits {
                max_calls: self.max_calls.map_or(current.limits.max_calls, |max| {
                    max.min(current.limits.max_calls)
                }),
                ..current.limits.clone()
            },
            ..current.clone()
        }
    }

    /// Narrows one token. A token that has ended stays in the list without its secret, since an empty list would let everybody in.
    fn narrow_token(&self, current: &TokenConfig, models: &[ModelConfig]) -> TokenConfig {
        let Some(new) = self.tokens.iter().find(|new| new.name == current.name) else {
            let secret = current.token.clone();
            return TokenConfig {
                token: secret.filter(|_| !self.is_absent(&current.name)),
                ..current.clone()
            };
        };
        TokenConfig {
            name: current.name.clone(),
            token: current
                .token
                .clone()
                .filter(|token| new.token.as_ref() == Some(token)),
            admin: current.admin && new.admin,
            tools: common_tools(current.tools.as_ref(), self.tools_of(new, models).as_ref()),
            max_calls: least(current.max_calls, new.max_calls),
            calls_per_minute: least(current.calls_per_minute, new.calls_per_minute),
        }
    }

    /// Returns the tools of `token`. If the names of a model cannot be read, they mean what they mean in `models`: a slip in `aliases` does
    /// not take a tool away from a token that has it by an alias.
    fn tools_of(
        &self,
        token: &TokenConfig,
        models: &[ModelConfig],
    ) -> Option<Arc<BTreeSet<String>>> {
        let mut tools = token.tools.as_deref()?.clone();
        for model in models.iter().filter(|model| self.hides_names(&model.name)) {
            // A name that the configuration cannot resolve is still among the tools.
            let means_model =
                |name: &String| model.is_called(name) && !self.settings.tools.contains_key(name);
            if tools.iter().any(means_model) {
                tools.extend(model.tool_name.clone());
            }
        }
        Some(Arc::new(tools))
    }

    /// Returns whether names of the model `model` cannot be read: an error is in them, or they are missing and an error may be the cause.
    fn hides_names(&self, model: &str) -> bool {
        let is_unreadable = |at: &Address| self.unreadable.iter().any(|one| overlap(one, at));
        let table = Address::of(["models", model]);
        let may_hide = !self.source.syntax.is_empty() || is_unreadable(&table);
        let names = ["aliases", "tool_name"].map(|key| table.join(key));
        names
            .iter()
            .any(|name| is_unreadable(name) || (may_hide && name.get(&self.source.tree).is_none()))
    }

    /// Returns whether a token that was not found is certainly not in the file. A syntax error may hide a token, but not its name.
    fn is_absent(&self, token: &str) -> bool {
        self.source.syntax.is_empty() || !mentions(&self.source.text, token)
    }
}

/// Returns whether one of two addresses contains the other, or they are the same.
fn overlap(one: &Address, other: &Address) -> bool {
    let mut parts = one.parts().iter().zip(other.parts());
    parts.all(|(one, other)| one == other)
}

/// Returns whether the TOML text `text` contains `name` as a whole word outside lines that are comments.
fn mentions(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let is_whole = |line: &str, at: usize| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    };
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .any(|line| {
            let mut places = line.match_indices(name);
            places.any(|(at, _)| is_whole(line, at))
        })
}

/// Returns the items of `current` that are also in `stated`; all of them if `stated` is `None`.
fn common<T: Clone + PartialEq>(current: &[T], stated: Option<&[T]>) -> Vec<T> {
    let items = current.iter();
    items
        .filter(|item| stated.is_none_or(|stated| stated.contains(item)))
        .cloned()
        .collect()
}

/// Returns the tools that both lists allow; `None` allows all tools.
fn common_tools(
    one: Option<&Arc<BTreeSet<String>>>,
    other: Option<&Arc<BTreeSet<String>>>,
) -> Option<Arc<BTreeSet<String>>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Arc::new(one.intersection(other).cloned().collect())),
        (one, other) => one.or(other).cloned(),
    }
}

/// Returns the smaller of two limits; `None` is no limit.
fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    [one, other].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_comment_or_in_another_word_is_no_mention() {
        for absent in [
            "# [server.tokens.alice]",
            "  \t#[server.tokens.alice]\n",
            "[server.tokens.malice]",
            "[server.tokens.alice-2]",
            "prompt = \"Alices_alice\"",
            "",
        ] {
            assert!(!mentions(absent, "alice"), "{absent}");
        }
        for present in [
            "[server.tokens.alice]",
            "[server.tokens.\"alice\"",
            "server = { tokens = { alice = { token = ",
            "# alice\n  alice.token = = 1",
            "malice = 1 alice",
        ] {
            assert!(mentions(present, "alice"), "{present}");
        }
    }
}
