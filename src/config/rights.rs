//! Revokes rights over HTTP that a rejected configuration no longer grants.
//!
//! Revocation must not wait until the rest of the file is valid. Rights only shrink here: a token that is removed, renamed or replaced is
//! revoked, and lists and limits are narrowed. Rights that the rejected configuration would add wait until the file is valid.

mod mention;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::ModelConfig;
use super::address::Address;
use super::file::ConfigFile;
use super::http::{Host, HttpConfig, HttpLimits, origin};
use super::interpolate::read_lossy;
use super::load::Layers;
use super::source_text::SourceText;
use super::token::{self, TokenConfig};
use super::{Overrides, Surroundings, find_file};

/// The rights over HTTP in a configuration, as far as they can be read.
#[derive(Debug)]
pub(crate) struct Rights {
    tokens: Vec<Arc<TokenConfig>>,
    /// Configuration file.
    source: Arc<SourceText>,
    /// Readable part of the configuration.
    settings: ConfigFile,
    /// Addresses of values that cannot be read.
    unreadable: Vec<Address>,
    /// Allowed hosts; `None` if a syntax error may hide them.
    allowed_hosts: Option<Vec<Host>>,
    /// Allowed origins; `None` if a syntax error may hide them.
    allowed_origins: Option<Vec<String>>,
    /// `max_calls` of `[server]`; `None` if it is unreadable or a syntax error may hide it.
    max_calls: Option<usize>,
}

impl Rights {
    /// Reads the rights from the configuration that `typed` names. Returns `None` if they are unknown, because the file cannot be read, is empty
    /// or binary, or has an invalid table `server` or `server.tokens`.
    pub(crate) fn read(typed: &Overrides, around: &Surroundings) -> Option<Self> {
        let file = find_file(typed, around).ok()??;
        let text = read_lossy(&file).ok()?;
        Self::of_text(typed, around, &file, text)
    }

    /// Reads the rights like [`Self::read`], but with `text` as the content of `file`. With the text of the active configuration, only the files
    /// that it names can have changed.
    pub(crate) fn of_text(
        typed: &Overrides,
        around: &Surroundings,
        file: &Path,
        text: String,
    ) -> Option<Self> {
        if text.contains('\0') {
            return None;
        }
        let mut layers = Layers::read_as(typed, &around.variables, file, text);
        let source = Arc::clone(layers.file.as_ref()?);
        let is_empty = source
            .tree
            .as_object()
            .is_none_or(serde_json::Map::is_empty);
        let errors = source.syntax.iter();
        let errors = errors.filter_map(|(_, place)| Some(place.as_ref()?.start));
        let addresses = layers.problems.iter();
        let unreadable: Vec<Address> = addresses
            .filter_map(|problem| problem.address.clone())
            .chain(source.broken.iter().cloned())
            .chain(mention::keys_at(&source.text, errors))
            .collect();
        let tables = [Address::new(["server"]), Address::new(["server", "tokens"])];
        if is_empty || tables.iter().any(|table| unreadable.contains(table)) {
            return None;
        }
        let is_known = |key| {
            source.syntax.is_empty()
                || Address::new(["server", key]).get(&source.tree).is_some()
                || !mention::may_have_key(&source.text, key)
        };
        let settings = layers.merged();
        token::set_aside(&mut layers);
        let tokens = token::resolve(&settings, &mut layers);
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
        let is_readable = !unreadable.contains(&Address::new(["server", "max_calls"]));
        let max_calls = (is_readable && is_known("max_calls")).then_some(server.max_calls);
        let readable = |token: &Arc<TokenConfig>| {
            Arc::new(without_unreadable(token, &unreadable, &source.tree))
        };
        Some(Self {
            tokens: tokens.iter().map(readable).collect(),
            source,
            settings,
            unreadable,
            allowed_hosts,
            allowed_origins,
            max_calls,
        })
    }

    /// Returns `current` without the rights that this configuration does not grant. `models` are the models being served.
    #[must_use]
    pub(crate) fn narrow(&self, current: &HttpConfig, models: &[ModelConfig]) -> HttpConfig {
        let tokens = current
            .tokens
            .iter()
            .map(|token| Arc::new(self.narrow_token(token, models)));
        HttpConfig {
            tokens: if current.tokens.is_empty() {
                // Without tokens, every client had all rights.
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

    /// Narrows one token. A revoked token stays in the list without its secret, since an empty list would let every client in.
    fn narrow_token(&self, current: &TokenConfig, models: &[ModelConfig]) -> TokenConfig {
        let Some(new) = self.token(&current.name) else {
            return if self.may_hide(&current.name) {
                current.clone()
            } else {
                current.ended("the rejected configuration does not have it")
            };
        };
        let narrowed = TokenConfig {
            admin: current.admin && new.admin,
            tools: common_tools(current.tools.as_ref(), self.tools_of(new, models).as_ref()),
            is_scraper: current.is_scraper && new.is_scraper,
            max_calls: least(current.max_calls, new.max_calls),
            calls_per_minute: least(current.calls_per_minute, new.calls_per_minute),
            ..current.clone()
        };
        match &new.secret {
            Ok(_) if new.secret == current.secret => narrowed,
            Ok(_) => narrowed.ended("the rejected configuration changes its secret"),
            Err(fault) => narrowed.ended(&fault.to_string()),
        }
    }

    /// Returns the tools of `token`. If the names of a model cannot be read, those in `models` apply: a mistake in `aliases` does not revoke a
    /// tool that the token has by an alias.
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

    /// Returns whether names of the model `model` cannot be read. Either they contain an error, or they are missing and an error may hide them.
    fn hides_names(&self, model: &str) -> bool {
        let is_unreadable = |at: &Address| self.unreadable.iter().any(|one| overlap(one, at));
        let table = Address::new(["models", model]);
        let may_hide = !self.source.syntax.is_empty() || is_unreadable(&table);
        let names = ["aliases", "tool_name"].map(|key| table.join(key));
        names
            .iter()
            .any(|name| is_unreadable(name) || (may_hide && name.get(&self.source.tree).is_none()))
    }

    fn token(&self, name: &str) -> Option<&TokenConfig> {
        let mut tokens = self.tokens.iter();
        tokens.find(|token| token.name == name).map(Arc::as_ref)
    }

    /// Returns whether the token `name` was not found and may be in the part of the file that a syntax error hides.
    pub(crate) fn may_hide(&self, name: &str) -> bool {
        self.token(name).is_none()
            && !self.source.syntax.is_empty()
            && mention::may_have_token(&self.source.text, name)
    }
}

/// Returns whether two addresses are the same, or one contains the other.
fn overlap(one: &Address, other: &Address) -> bool {
    let mut parts = one.parts().iter().zip(other.parts());
    parts.all(|(one, other)| one == other)
}

/// Returns `token` with only the rights that the file certainly grants. If `tools` is one of the `unreadable` addresses, the token gets no tools.
/// For an unreadable limit, it gets the number that `tree`, the values of the file, still has, or 0.
fn without_unreadable(token: &TokenConfig, unreadable: &[Address], tree: &Value) -> TokenConfig {
    let key = |key| Address::new(["server", "tokens", &token.name, key]);
    let is_unreadable = |key: &Address| {
        let mut addresses = unreadable.iter();
        addresses.any(|address| address.parts().starts_with(key.parts()))
    };
    let number = |key: &Address| {
        let value = key.get(tree);
        let text = value.and_then(Value::as_str);
        let number = value.and_then(Value::as_u64);
        number.or_else(|| text?.trim().parse().ok()).unwrap_or(0)
    };
    let mut token = token.clone();
    if is_unreadable(&key("tools")) {
        token.tools = Some(Arc::default());
        token.is_scraper = false;
    }
    let [calls, rate] = ["max_calls", "calls_per_minute"].map(key);
    if is_unreadable(&calls) {
        token.max_calls = Some(usize::try_from(number(&calls)).unwrap_or(usize::MAX));
    }
    if is_unreadable(&rate) {
        match u32::try_from(number(&rate)).unwrap_or(u32::MAX) {
            0 => token.max_calls = Some(0),
            calls => token.calls_per_minute = Some(calls),
        }
    }
    token
}

/// Returns the items of `current` that are also in `stated`. Returns all items if `stated` is `None`.
fn common<T: Clone + PartialEq>(current: &[T], stated: Option<&[T]>) -> Vec<T> {
    let items = current.iter();
    items
        .filter(|item| stated.is_none_or(|stated| stated.contains(item)))
        .cloned()
        .collect()
}

/// Returns the tools that both lists allow. `None` allows all tools.
fn common_tools(
    one: Option<&Arc<BTreeSet<String>>>,
    other: Option<&Arc<BTreeSet<String>>>,
) -> Option<Arc<BTreeSet<String>>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Arc::new(one.intersection(other).cloned().collect())),
        (one, other) => one.or(other).cloned(),
    }
}

/// Returns the smaller of two limits. `None` is no limit.
fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    [one, other].into_iter().flatten().min()
}

#[cfg(test)]
mod tests;
