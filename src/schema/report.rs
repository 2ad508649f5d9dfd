//! Faults of schemas, and notes on schemas.

use std::fmt;

/// Maximum number of faults, and of notes, that are kept for a schema.
pub(super) const MAX_REPORTS: usize = 50;

/// A reason why a schema cannot be enforced, with the place in the schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at `{pointer}`: {reason}")]
pub(crate) struct SchemaFault {
    /// JSON pointer of the schema or keyword; `#` is the whole schema.
    pub pointer: String,
    /// Description of the fault, and what to do about it.
    pub reason: String,
    /// Whether a limit of the system kept the schema from being read. The schema itself may be valid.
    pub is_of_system: bool,
}

/// All faults of a schema, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SchemaFaults(pub Vec<SchemaFault>);

impl fmt::Display for SchemaFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SchemaFaults {}

impl From<SchemaFault> for SchemaFaults {
    fn from(fault: SchemaFault) -> Self {
        Self(vec![fault])
    }
}

/// Distinct faults or notes, at most [`MAX_REPORTS`]. A schema is read again for each reference to it and reports the same each time.
#[derive(Debug, Clone)]
pub(super) struct Reports<T>(pub(super) Vec<T>);

impl<T> Default for Reports<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq> Reports<T> {
    /// Adds `report` if it is new.
    pub(super) fn add(&mut self, report: T) {
        if !self.are_full() && !self.0.contains(&report) {
            self.0.push(report);
        }
    }

    /// Returns whether further reports are dropped.
    pub(super) fn are_full(&self) -> bool {
        self.0.len() >= MAX_REPORTS
    }
}

/// Creates a fault at `pointer`.
pub(super) fn fault(pointer: &str, reason: impl fmt::Display) -> SchemaFault {
    SchemaFault {
        pointer: pointer.into(),
        reason: reason.to_string(),
        is_of_system: false,
    }
}

/// Creates a note at `pointer`.
pub(super) fn note(pointer: &str, text: impl Into<String>) -> SchemaNote {
    SchemaNote {
        pointer: pointer.into(),
        text: text.into(),
        is_ignored: false,
    }
}

/// A remark about a part of a schema that is ignored, narrowed, checked later or not advertised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SchemaNote {
    /// JSON pointer of the schema or keyword; `#` is the whole schema.
    pub pointer: String,
    /// How the schema or keyword is handled.
    pub text: String,
    /// Whether the schema or keyword is not enforced at all.
    pub is_ignored: bool,
}

impl fmt::Display for SchemaNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at `{}`: {}", self.pointer, self.text)
    }
}
