//! The secret that signs session ids.

use std::fmt;

use super::address::Address;
use super::file::ConfigFile;
use super::load::Layers;

/// Secret that signs session ids. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SessionSecret(String);

/// Minimum length of a session secret, in characters. It is at least that of the keys derived from it.
const MIN_SECRET: usize = 32;

impl SessionSecret {
    /// Parses a secret. Returns `None` if it has fewer than [`MIN_SECRET`] characters.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        (text.chars().count() >= MIN_SECRET).then(|| Self(text.to_owned()))
    }

    /// Returns the secret, to derive keys from. It must not be shown.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Reads the secret of `settings`, and adds errors to `layers`.
    pub(super) fn resolve(settings: &ConfigFile, layers: &mut Layers) -> Option<Self> {
        let secret = Self::parse(settings.server.session_secret.as_deref()?);
        if secret.is_none() {
            let message = format!("must have at least {MIN_SECRET} characters");
            let hint = "generate one with `openssl rand -hex 32`";
            layers.problem_at(
                &Address::new(["server", "session_secret"]),
                message,
                Some(hint.into()),
            );
        }
        secret
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
