//! The keys that sign session ids, derived once for each token.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::session_id::SessionKey;
use crate::config::session_secret::SessionSecret;
use crate::transport::guard::{LiveConfig, Principal, Refusal};

/// Keys by the name of the token, each with the secret that it was derived from.
type Derived = HashMap<String, (String, SessionKey)>;

/// A cache of keys, each derived at its first use. Clones share the cache.
#[derive(Clone)]
pub(crate) struct SessionKeys {
    live: LiveConfig,
    derived: Arc<Mutex<Derived>>,
    /// Lock that serialises derivations, since each takes memory and many clients reconnect after a restart.
    deriving: Arc<tokio::sync::Mutex<()>>,
}

impl SessionKeys {
    /// Creates an empty cache for the tokens and the secret of the configuration `live`.
    pub(crate) fn new(live: LiveConfig) -> Self {
        Self {
            live,
            derived: Arc::default(),
            deriving: Arc::default(),
        }
    }

    /// Returns the key for the sessions of `principal`, derived from `session_secret` if it is set, otherwise from the token. Without
    /// both, the key need not be secret, since every client may open a session.
    ///
    /// # Errors
    /// 503 if the server shuts down meanwhile.
    pub(crate) async fn key_for(&self, principal: &Principal) -> Result<SessionKey, Refusal> {
        let name = principal.name().unwrap_or_default();
        let secret = self.secret_for(principal);
        if let Some(key) = self.cached(name, &secret) {
            return Ok(key);
        }
        let permit = Arc::clone(&self.deriving).lock_owned().await;
        if let Some(key) = self.cached(name, &secret) {
            return Ok(key);
        }
        let (keys, name) = (self.clone(), name.to_owned());
        // The client may disconnect meanwhile. The next one still waits for this derivation and uses its result.
        let derived = tokio::task::spawn_blocking(move || {
            let key = SessionKey::derive(&name, &secret);
            keys.store(name, secret, key.clone());
            drop(permit);
            key
        });
        derived
            .await
            .map_err(|_stopped| Refusal::busy("the server is shutting down"))
    }

    fn store(&self, name: String, secret: String, key: SessionKey) {
        let mut known = self.lock();
        let rules = self.live.borrow();
        // Drops the keys of tokens that a reload removed.
        known.retain(|known, _| rules.tokens.iter().any(|token| token.name == *known));
        known.insert(name, (secret, key));
    }

    fn secret_for(&self, principal: &Principal) -> String {
        let rules = self.live.borrow();
        let secret = rules.session_secret.as_ref().map(SessionSecret::reveal);
        let token = principal.0.as_ref();
        let token = token.and_then(|token| Some(token.secret.as_ref().ok()?.reveal()));
        secret.or(token).unwrap_or_default().to_owned()
    }

    fn cached(&self, name: &str, secret: &str) -> Option<SessionKey> {
        let known = self.lock();
        let (derived_from, key) = known.get(name)?;
        (derived_from == secret).then(|| key.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Derived> {
        self.derived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
