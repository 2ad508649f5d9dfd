//! The Model Context Protocol: the supported revisions, and how a client gets one of them.
//!
//! The server supports two eras at once and determines the era of each message ([`era`]). In the legacy era, 2024-11-05 to
//! 2025-11-25, a handshake negotiates the revision (`basic/lifecycle`). In the modern era, 2026-07-28, there is no handshake, and
//! every request names its revision (`basic/versioning`).

pub(crate) mod caller;
pub(crate) mod dispatcher;
pub(crate) mod era;
pub mod jsonrpc;
mod lists;
pub(crate) mod method;
pub(crate) mod progress;
pub(crate) mod schema;
pub(crate) mod subscription;

/// The modern revision, which has no handshake.
pub(crate) const MODERN_REVISION: &str = "2026-07-28";

/// The legacy revisions, which have a handshake, newest first.
pub(crate) const LEGACY_REVISIONS: [&str; 4] =
    ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Returns all supported revisions, newest first.
pub(crate) fn revisions() -> Vec<&'static str> {
    [MODERN_REVISION]
        .into_iter()
        .chain(LEGACY_REVISIONS)
        .collect()
}

/// Returns the legacy revision for a client that requested `requested` in `initialize`.
///
/// A known revision is granted, and an unknown one is replaced with the newest. A client that requests none, for example with
/// `params: {}`, gets the oldest.
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
    fn a_known_revision_is_granted_an_unknown_one_becomes_the_newest_and_a_missing_one_the_oldest()
    {
        for revision in LEGACY_REVISIONS {
            assert_eq!(negotiate(Some(revision)), revision);
        }
        assert_eq!(negotiate(Some(MODERN_REVISION)), "2025-11-25");
        assert_eq!(negotiate(Some("v999")), "2025-11-25");
        assert_eq!(negotiate(None), "2024-11-05");
    }
}
