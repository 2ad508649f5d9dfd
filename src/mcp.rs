//! The Model Context Protocol: its revisions, and which one a client gets.
//!
//! Served here are the revisions with a handshake, 2024-11-05 to 2025-11-25 (`basic/lifecycle`). `server/discover` of
//! later ones is answered with "method not found", on which clients fall back to `initialize`.

pub mod dispatcher;
pub mod jsonrpc;
pub mod progress;
pub mod schema;

/// The revisions that are served, newest first.
pub const REVISIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// What a client gets that asked for `requested`: that, if it is known; the newest, if it is not; and the oldest, where
/// it named none, as the documented `initialize` with `params: {}` does.
pub fn negotiate(requested: Option<&str>) -> &'static str {
    let [newest, .., oldest] = REVISIONS;
    match requested {
        None => oldest,
        Some(requested) => REVISIONS
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
        for revision in REVISIONS {
            assert_eq!(negotiate(Some(revision)), revision);
        }
        assert_eq!(negotiate(Some("2026-07-28")), "2025-11-25");
        assert_eq!(negotiate(Some("v999")), "2025-11-25");
        assert_eq!(negotiate(None), "2024-11-05");
    }
}
