//! Checks that fuel can pay for a text before the text is made. Pure.
//!
//! minijinja charges a method for its result only when it has the result. Without a check, `a.replace('a', a)` of 100,000 letters
//! would take 10 GB first. Some of its filters do the same.

use std::fmt;
use std::io;

use minijinja::{Error, ErrorKind, State, Value};

/// Bytes of text for which one fuel pays, in minijinja's measure.
const BYTES_PER_FUEL: u64 = 64;

/// Bytes that an item of a list costs at least, in minijinja's measure.
const ITEM_BYTES: usize = 32;

/// How many times more a byte of a printed list or map costs than a byte of a text, in minijinja's measure.
const CONTAINER_COST: usize = 16;

/// Bytes that a field of a format string may take in addition to its width and its value, such as the binary form of a number.
const FIELD_BYTES: usize = 512;

/// Returns the number of bytes for which the remaining fuel pays.
fn bytes_left(state: &State<'_, '_>) -> usize {
    let bytes = state.fuel_levels().map(|(_, left)| left * BYTES_PER_FUEL);
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    bytes.unwrap_or(usize::MAX)
}

fn out_of_fuel() -> Error {
    Error::from(ErrorKind::OutOfFuel)
}

/// Checks that fuel can pay for `bytes` of text.
///
/// # Errors
/// `OutOfFuel` if it cannot.
pub(super) fn check_bytes(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    if bytes < bytes_left(state) {
        Ok(())
    } else {
        Err(out_of_fuel())
    }
}

/// Charges for looking at `bytes` of text, whatever is made of it.
///
/// # Errors
/// `OutOfFuel` if fuel cannot pay for it.
pub(super) fn charge(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(bytes as u64 / BYTES_PER_FUEL)
}

/// Checks that fuel can pay for a list of `items`.
///
/// # Errors
/// `OutOfFuel` if it cannot.
pub(super) fn check_items(state: &State<'_, '_>, items: usize) -> Result<(), Error> {
    check_bytes(state, items.saturating_mul(ITEM_BYTES))
}

/// Checks that fuel can pay for `values` joined with a text of `joiner` bytes. A value that has no items passes.
///
/// # Errors
/// `OutOfFuel` if it cannot.
pub(super) fn check_joined(
    state: &State<'_, '_>,
    values: &Value,
    joiner: usize,
) -> Result<(), Error> {
    // Values without a length may be iterators that can be read only once.
    let Some(items) = values.len().and_then(|_| values.try_iter().ok()) else {
        return Ok(());
    };
    let mut left = bytes_left(state);
    for item in items {
        let bytes = printed_bytes(state, &item)?.saturating_add(joiner);
        left = left
            .checked_sub(bytes.max(ITEM_BYTES))
            .ok_or_else(out_of_fuel)?;
    }
    Ok(())
}

/// Checks that fuel can pay for the format string `text`, whose fields begin with `mark`, with the values `args`.
///
/// # Errors
/// `OutOfFuel` if it cannot.
pub(super) fn check_formatted(
    state: &State<'_, '_>,
    text: &str,
    mark: char,
    args: &[Value],
) -> Result<(), Error> {
    let fields = text.matches(mark).count();
    let numbers = text.split(|c: char| !c.is_ascii_digit());
    let width = numbers.filter(|digits| !digits.is_empty());
    let width = width.map(|digits| digits.parse().unwrap_or(usize::MAX));
    let mut longest = 0;
    for value in args {
        longest = longest.max(printed_bytes(state, value)?);
    }
    let field = width
        .max()
        .unwrap_or(0)
        .saturating_add(longest)
        .saturating_add(FIELD_BYTES);
    check_bytes(
        state,
        fields.saturating_mul(field).saturating_add(text.len()),
    )
}

/// Returns the length of `value` as text. Charges for printing a list or a map.
///
/// # Errors
/// `OutOfFuel` if fuel cannot pay for the text of a list or a map.
pub(super) fn printed_bytes(state: &State<'_, '_>, value: &Value) -> Result<usize, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.len());
    }
    charge_printed(state, format_args!("{value}"))
}

/// Returns the length of `text`, the text of a list or a map, and charges for it.
///
/// # Errors
/// `OutOfFuel` if fuel cannot pay for it.
pub(super) fn charge_printed(
    state: &State<'_, '_>,
    text: fmt::Arguments<'_>,
) -> Result<usize, Error> {
    let most = bytes_left(state) / CONTAINER_COST;
    let mut counter = Limited::new(io::sink(), most);
    if fmt::write(&mut counter, text).is_err() {
        return Err(out_of_fuel());
    }
    let bytes = most - counter.left;
    charge(state, bytes)?;
    Ok(bytes)
}

/// Checks that fuel can pay for the JSON of `value`, and charges for it.
///
/// # Errors
/// `OutOfFuel` if it cannot; other faults are left to the real writing.
pub(super) fn check_json(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let most = bytes_left(state) / CONTAINER_COST;
    let mut counter = Limited::new(io::sink(), most);
    match serde_json::to_writer(&mut counter, value) {
        Err(error) if error.is_io() => Err(out_of_fuel()),
        _ => state.consume_fuel((most - counter.left) as u64 / BYTES_PER_FUEL),
    }
}

/// Returns a buffer that takes as many bytes as fuel can pay for.
pub(super) fn limited_buffer(state: &State<'_, '_>) -> Limited<Vec<u8>> {
    Limited::new(Vec::new(), bytes_left(state))
}

/// A writer that fails when more than a number of bytes are written to it.
pub(super) struct Limited<W> {
    inner: W,
    left: usize,
}

impl<W> Limited<W> {
    fn new(inner: W, left: usize) -> Self {
        Self { inner, left }
    }

    /// Returns the writer with all that was written.
    pub(super) fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: io::Write> io::Write for Limited<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(bytes.len());
        self.left = left.ok_or(io::ErrorKind::FileTooLarge)?;
        self.inner.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: io::Write> fmt::Write for Limited<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        io::Write::write_all(self, text.as_bytes()).or(Err(fmt::Error))
    }
}
