//! The keys of `[server]`, `[log]` and `[registry]` as a resolved configuration holds them. When an edit of each takes effect is
//! declared in [`super::file`].

use std::mem::discriminant;
use std::sync::{Arc, LazyLock};

use super::address::Address;
use super::effect::Effect;
use super::http::HttpConfig;
use super::token::{AUTH, TokenConfig};
use super::tool;
use super::validate::ConfigSchema;
use super::{Config, Transport};

/// A key outside of models and tools.
pub(super) struct Key {
    pub(super) table: &'static str,
    pub(super) name: &'static str,
    differs: fn(&Config, &Config) -> bool,
    /// Sets the key in the first configuration to its value in the second.
    copy: fn(&mut Config, &Config),
}

/// Creates the [`Key`] of a field: `table.name` in [`Config`], `http name` or `limits name` in [`HttpConfig`], or else a key of `[server]`.
macro_rules! key {
    ($table:ident.$name:ident) => {
        key!(@ stringify!($table), $name, $table.$name)
    };
    (http $name:ident) => {
        key!(@http $name, $name)
    };
    (limits $name:ident) => {
        key!(@http $name, limits.$name)
    };
    ($name:ident) => {
        key!(@ "server", $name, $name)
    };
    (@ $table:expr, $name:ident, $($field:ident).+) => {
        Key {
            table: $table,
            name: stringify!($name),
            differs: |old, new| old.$($field).+ != new.$($field).+,
            copy: |to, from| to.$($field).+.clone_from(&from.$($field).+),
        }
    };
    (@http $name:ident, $($field:ident).+) => {
        Key {
            table: "server",
            name: stringify!($name),
            differs: |old, new| {
                both_http(old, new).is_some_and(|(old, new)| old.$($field).+ != new.$($field).+)
            },
            copy: |to, from| with_http(to, from, |to, from| {
                to.$($field).+.clone_from(&from.$($field).+);
            }),
        }
    };
}

/// All keys, in the order of the log. `auth_file` is part of `auth`.
static KEYS: &[Key] = &[
    Key {
        table: "server",
        name: "transport",
        differs: |old, new| discriminant(&old.transport) != discriminant(&new.transport),
        copy: |to, from| to.transport.clone_from(&from.transport),
    },
    key!(http host),
    Key {
        table: "server",
        name: "port",
        // The addresses follow from the host.
        differs: |old, new| {
            both_http(old, new)
                .is_some_and(|(old, new)| old.host == new.host && old.addresses != new.addresses)
        },
        copy: |to, from| {
            with_http(to, from, |to, from| {
                to.addresses.clone_from(&from.addresses);
            });
        },
    },
    Key {
        table: "server",
        name: "auth",
        differs: |old, new| differ_in_tokens(old, new, |token| token.name == AUTH),
        copy: copy_tokens,
    },
    Key {
        table: "server",
        name: "tokens",
        differs: |old, new| differ_in_tokens(old, new, |token| token.name != AUTH),
        copy: copy_tokens,
    },
    key!(http session_secret),
    key!(http allowed_hosts),
    key!(http allowed_origins),
    key!(http cors),
    key!(result_meta),
    key!(watch),
    key!(http drain_time),
    key!(limits max_connections),
    key!(limits max_calls),
    key!(limits header_time),
    key!(limits body_time),
    key!(limits idle_time),
    key!(limits max_sessions),
    key!(limits max_body),
    key!(limits max_held),
    key!(log.level),
    key!(log.format),
    key!(log.file),
    key!(log.rotation),
    key!(log.max_size),
    key!(log.keep),
    key!(log.log_prompts),
    key!(registry.max_loaded),
    key!(registry.memory_budget),
    key!(registry.stall_timeout),
];

impl Key {
    /// Returns when the edit that makes `new` of `old` takes effect.
    pub(super) fn effect(&self, old: &Config, new: &Config) -> Effect {
        if old.would_open(new) && ["auth", "tokens"].contains(&self.name) {
            // The tokens end at once, but the server stays closed until it is restarted.
            return Effect::RequiresRestart;
        }
        self.declared_effect()
    }

    fn declared_effect(&self) -> Effect {
        // A test ensures that each key declares its effect.
        effect_of(&Address::new([self.table, self.name])).unwrap_or(Effect::RequiresRestart)
    }
}

static SCHEMA: LazyLock<ConfigSchema> = LazyLock::new(ConfigSchema::default);

/// Returns the effect of the key at `address`; `None` if neither the key nor a table around it declares one.
pub(super) fn effect_of(address: &Address) -> Option<Effect> {
    SCHEMA.effect(address)
}

/// Keys outside of models that each resolved model has, since its process depends on them.
const SHARED_KEYS: [(&str, &str); 2] = [("server", "max_queue"), ("registry", "sandbox")];

/// Returns the effect of `key` in the settings of the resolved `model`.
pub(super) fn effect_of_model_key(model: &str, key: &str) -> Option<Effect> {
    let shared = SHARED_KEYS.iter().find(|(_, shared)| *shared == key);
    let address = match shared {
        Some((table, _)) => Address::new([table, key]),
        None => Address::of_model(model, key),
    };
    SCHEMA.knows(&address).then(|| effect_of(&address))?
}

/// Returns the effect of `key` of `tool`.
pub(super) fn effect_of_tool_key(tool: &str, key: &str) -> Option<Effect> {
    effect_of(&tool::address(tool, key))
}

/// Returns the keys in which the configurations differ.
pub(super) fn differing(old: &Config, new: &Config) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| (key.differs)(old, new))
}

impl Config {
    /// Returns the configuration of a server that runs with `self` and reloads `new`: keys whose edits require a restart keep their values.
    #[must_use]
    pub(crate) fn with_live_keys_of(&self, new: &Self) -> Self {
        let mut active = self.clone();
        for key in KEYS {
            if key.declared_effect() != Effect::RequiresRestart {
                (key.copy)(&mut active, new);
            }
        }
        active.models.clone_from(&new.models);
        active.tools.clone_from(&new.tools);
        // Not a key: the check of each configuration sets it.
        active
            .registry
            .gpu_memory
            .clone_from(&new.registry.gpu_memory);
        active
    }

    /// Returns whether a server with this configuration requires a token and would require none after a restart with `new`.
    pub(crate) fn would_open(&self, new: &Self) -> bool {
        both_http(self, new).is_some_and(|(old, new)| old.would_open(new))
    }
}

fn both_http<'config>(
    old: &'config Config,
    new: &'config Config,
) -> Option<(&'config HttpConfig, &'config HttpConfig)> {
    match (&old.transport, &new.transport) {
        (Transport::Http(old), Transport::Http(new)) => Some((old, new)),
        _ => None,
    }
}

/// Calls `copy` if both configurations are of a server over HTTP.
fn with_http(to: &mut Config, from: &Config, copy: impl FnOnce(&mut HttpConfig, &HttpConfig)) {
    if let (Transport::Http(to), Transport::Http(from)) = (&mut to.transport, &from.transport) {
        copy(to, from);
    }
}

/// Returns whether the configurations differ in those tokens that `is_meant` selects.
fn differ_in_tokens(old: &Config, new: &Config, is_meant: fn(&TokenConfig) -> bool) -> bool {
    let meant = |http: &HttpConfig| -> Vec<Arc<TokenConfig>> {
        let tokens = http.tokens.iter().filter(|token| is_meant(token));
        tokens.cloned().collect()
    };
    both_http(old, new).is_some_and(|(old, new)| meant(old) != meant(new))
}

fn copy_tokens(to: &mut Config, from: &Config) {
    with_http(to, from, |to, from| to.tokens = to.tokens_after(from));
}
