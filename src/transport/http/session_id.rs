//! Signed session ids, and the keys that sign them. Pure.
//!
//! An id is the base64url form of a version, the time at which the session was opened, a random number, and a MAC over all three. A
//! process with the key can verify an id that another process created, so a session survives a restart and works with every replica.
//! [`super::sessions`] decides whether such a session may still be used.

use std::fmt;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use blake2::Blake2sMac;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use data_encoding::BASE64URL_NOPAD;
use uuid::Uuid;

/// First byte of an id: the version of the format.
const FORMAT: u8 = 1;

/// Length of the signed part: the version, the time in seconds since 1970, and the random number.
const SIGNED: usize = 1 + 8 + 16;

/// Length of the MAC. A guess is right with a probability of 2^-128.
const TAG: usize = 16;

/// Length of an id in bytes.
const LENGTH: usize = SIGNED + TAG;

/// Length of an id in characters.
const TEXT_LENGTH: usize = (LENGTH * 8).div_ceil(6);

/// Prefix of the salt, which separates these keys from other keys derived from a token.
const LABEL: &str = "llama-mcp-server session v1/";

/// A well-formed session id. [`SessionKey::verifies`] checks its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId([u8; LENGTH]);

impl SessionId {
    /// Parses the value of `Mcp-Session-Id`. Returns `None` if it is not a well-formed id.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() != TEXT_LENGTH {
            return None;
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let bytes: [u8; LENGTH] = bytes.try_into().ok()?;
        (bytes[0] == FORMAT).then_some(Self(bytes))
    }

    /// Returns the time at which the session was opened, since 1970.
    pub(crate) fn opened(&self) -> Duration {
        let mut seconds = [0; 8];
        seconds.copy_from_slice(&self.0[1..9]);
        Duration::from_secs(u64::from_be_bytes(seconds))
    }
}

impl fmt::Display for SessionId {
    /// Formats the id as the value of `Mcp-Session-Id`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

/// Signs the session ids of one token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SessionKey([u8; 32]);

impl SessionKey {
    /// Derives the key for the sessions of the token `name` from `secret`. Both are empty if the server has no token and no secret.
    ///
    /// This takes tens of milliseconds and 19 MiB on purpose: the secret may be a weak token, and an attacker who finds a session id must
    /// not be able to test many guesses against it.
    pub(crate) fn derive(name: &str, secret: &str) -> Self {
        let salt = format!("{LABEL}{name}");
        let mut key = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
            .hash_password_into(secret.as_bytes(), salt.as_bytes(), &mut key)
            .expect("a secret from a header or a file is shorter than 4 GiB");
        Self(key)
    }

    /// Creates the id of a session that is opened at `now`, the time since 1970.
    pub(crate) fn new_id(&self, now: Duration) -> SessionId {
        let mut bytes = [0; LENGTH];
        bytes[0] = FORMAT;
        bytes[1..9].copy_from_slice(&now.as_secs().to_be_bytes());
        // Random (RFC 9562, version 4), so that an id cannot be guessed even if the key is not secret.
        bytes[9..SIGNED].copy_from_slice(Uuid::new_v4().as_bytes());
        let tag = self.mac(&bytes[..SIGNED]).finalize().into_bytes();
        bytes[SIGNED..].copy_from_slice(&tag);
        SessionId(bytes)
    }

    /// Returns whether `id` was signed with this key, in constant time.
    pub(crate) fn verifies(&self, id: &SessionId) -> bool {
        let (signed, tag) = id.0.split_at(SIGNED);
        self.mac(signed).verify_slice(tag).is_ok()
    }

    fn mac(&self, signed: &[u8]) -> Blake2sMac<U16> {
        Blake2sMac::new(&self.0.into()).chain_update(signed)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_hours(500_000);

    static ALICES: LazyLock<SessionKey> = LazyLock::new(|| SessionKey::derive("alice", "alices"));

    /// Parses `text` and verifies it with [`ALICES`].
    fn parse_verified(text: &str) -> Option<SessionId> {
        SessionId::parse(text).filter(|id| ALICES.verifies(id))
    }

    #[test]
    fn every_process_with_the_same_name_and_secret_verifies_an_id() {
        for (name, secret) in [("", ""), ("", "secret"), ("alice", "secret")] {
            let id = SessionKey::derive(name, secret).new_id(NOW);
            assert!(SessionKey::derive(name, secret).verifies(&id));
            assert_eq!(SessionId::parse(&id.to_string()), Some(id));
            assert_eq!(id.opened(), NOW);
        }
    }

    #[test]
    fn a_key_of_another_name_or_secret_does_not_verify_an_id() {
        let id = ALICES.new_id(NOW);
        for (name, secret) in [
            ("", ""),
            ("", "alices"),
            ("bob", "alices"),
            ("alice", "bobs"),
        ] {
            assert!(
                !SessionKey::derive(name, secret).verifies(&id),
                "{name} {secret}"
            );
        }
    }

    #[test]
    fn ids_are_unique_short_and_visible_ascii() {
        let ids = [ALICES.new_id(NOW), ALICES.new_id(NOW)];
        assert_ne!(ids[0], ids[1]);
        let text = ids[0].to_string();
        assert_eq!(text.len(), 55);
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
    }

    #[test]
    fn another_version_is_refused_even_if_it_is_signed() {
        let mut bytes = ALICES.new_id(NOW).0;
        bytes[0] = FORMAT + 1;
        let tag = ALICES.mac(&bytes[..SIGNED]).finalize().into_bytes();
        bytes[SIGNED..].copy_from_slice(&tag);
        assert_eq!(parse_verified(&SessionId(bytes).to_string()), None);
    }

    #[test]
    fn debug_output_does_not_reveal_a_key() {
        assert_eq!(format!("{:?}", *ALICES), "***");
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_refused(text in ".{0,80}|[A-Za-z0-9_-]{55}") {
            prop_assert_eq!(parse_verified(&text), None);
        }

        #[test]
        fn an_id_with_a_changed_bit_is_refused(byte in 0..LENGTH, bit in 0..8_u32) {
            let mut bytes = ALICES.new_id(NOW).0;
            bytes[byte] ^= 1_u8 << bit;
            prop_assert_eq!(parse_verified(&SessionId(bytes).to_string()), None);
        }

        #[test]
        fn an_id_with_a_changed_character_is_refused(at in 0..TEXT_LENGTH, other in "[ -~]") {
            let id = ALICES.new_id(NOW).to_string();
            let mut changed = id.clone();
            changed.replace_range(at..=at, &other);
            prop_assert_eq!(parse_verified(&changed).is_some(), changed == id);
        }
    }
}
