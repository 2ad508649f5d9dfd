//! The Model Context Protocol: its revisions, and which one a client gets.
//!
//! Two eras are served side by side, told apart for each message ([`era`]). The legacy one, 2024-11-05 to 2025-11-25, opens
//! with a handshake, which negotiates the revision (`basic/lifecycle`). The modern one, 2026-07-28, has none: every request
//! names its revision (`basic/versioning`).

pub(crate) mod caller;
pub(crate) mod dispatcher;
pub(crate) mod era;
pub mod jsonrpc;
mod lists;
pub(crate) mod progress;
pub(crate) mod schema;
pub(crate) mod subscription;

/// The revision without a handshake.
pub(crate) const MODERN_REVISION: &str = "2026-07-28";

/// The revisions with one, newest first.
pub(crate) const LEGACY_REVISIONS: [&str; 4] =
    ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// All that are served, newest first.
pub(crate) fn revisions() -> Vec<&'static str> {
    [MODERN_REVISION]
        .into_iter()
        .chain(LEGACY_REVISIONS)
        .collect()
}

/// What a client gets whose `initialize` asked for `requested`: that, if it is known; the newest with a handshake, if it is
/// not; and the oldest, where it named none, as the documented `initialize` with `params: {}` does.
pub(crate) fn negotiate(requested: Option<&str>) -> &'static str {
    let [newest, .., oldest] = LEGACY_REVISIONS;
    match requested {
        None => oldest,
        Some(requested) => LEGACY_REVISIONS
            .into_iter()
            .find(|revision| *revision == requested)
            .unwrap_or(newest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_revision_is_echoed_an_unknown_one_gets_the_newest_and_none_the_oldest() {
        for revision in LEGACY_REVISIONS {
            assert_eq!(negotiate(Some(revision)), revision);
        }
        assert_eq!(negotiate(Some(MODERN_REVISION)), "2025-11-25");
        assert_eq!(negotiate(Some("v999")), "2025-11-25");
        assert_eq!(negotiate(None), "2024-11-05");
    }
}
