//! Checks that the remaining fuel pays for a text before the text is created. Pure.
//!
//! minijinja charges for the result of a method only afterwards. Without these checks, `a.replace('a', a)` with 100,000 letters would first
//! allocate 10 GB. Some of its filters behave the same.

use std::fmt;
use std::io;

use minijinja::{Error, ErrorKind, State, Value};

/// Bytes of text that one unit of fuel pays for, in minijinja's measure.
const BYTES_PER_FUEL: u64 = 64;

/// Minimum cost of a list item, in bytes of minijinja's measure.
const ITEM_BYTES: usize = 32;

/// Cost of a byte in a printed list or map, relative to a byte of plain text, in minijinja's measure.
const CONTAINER_COST: usize = 16;

/// Maximum bytes of a field of a format string in addition to its width and its value, for example for the binary form of a number.
const FIELD_BYTES: usize = 512;

/// Returns the number of bytes that the remaining fuel pays for.
fn bytes_left(state: &State<'_, '_>) -> usize {
    let bytes = state.fuel_levels().map(|(_, left)| left * BYTES_PER_FUEL);
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    bytes.unwrap_or(usize::MAX)
}

fn out_of_fuel() -> Error {
    Error::from(ErrorKind::OutOfFuel)
}

/// Checks that fuel pays for `bytes` of text.
///
/// # Errors
/// `OutOfFuel` if it does not.
pub(super) fn check_bytes(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    if bytes < bytes_left(state) {
        Ok(())
    } else {
        Err(out_of_fuel())
    }
}

/// Charges for reading `bytes` of text, whatever the result.
///
/// # Errors
/// `OutOfFuel` if fuel does not pay for it.
pub(super) fn charge(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(bytes as u64 / BYTES_PER_FUEL)
}

/// Checks that fuel pays for a list of `items`.
///
/// # Errors
/// `OutOfFuel` if it does not.
pub(super) fn check_items(state: &State<'_, '_>, items: usize) -> Result<(), Error> {
    check_bytes(state, items.saturating_mul(ITEM_BYTES))
}

/// Checks that fuel pays for `values` joined with a text of `joiner` bytes. A value without items passes.
///
/// # Errors
/// `OutOfFuel` if it does not.
pub(super) fn check_joined(
    state: &State<'_, '_>,
    values: &Value,
    joiner: usize,
) -> Result<(), Error> {
    // A value without a length may be an iterator that can be read only once.
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

/// Checks that fuel pays for the result of the format string `text`, whose fields begin with `mark`, with the values `args`.
///
/// # Errors
/// `OutOfFuel` if it does not.
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

/// Returns the length of `value` as text. Charges for printing it if it is a list or a map.
///
/// # Errors
/// `OutOfFuel` if fuel does not pay for it.
pub(super) fn printed_bytes(state: &State<'_, '_>, value: &Value) -> Result<usize, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.len());
    }
    charge_printed(state, format_args!("{value}"))
}

/// Returns the length of `text`, which a list or a map was printed as, and charges for it.
///
/// # Errors
/// `OutOfFuel` if fuel does not pay for it.
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

/// Checks that fuel pays for the JSON of `value`, and charges for it.
///
/// # Errors
/// `OutOfFuel` if it does not. Other faults are left to the actual serialisation.
pub(super) fn check_json(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let most = bytes_left(state) / CONTAINER_COST;
    let mut counter = Limited::new(io::sink(), most);
    match serde_json::to_writer(&mut counter, value) {
        Err(error) if error.is_io() => Err(out_of_fuel()),
        _ => state.consume_fuel((most - counter.left) as u64 / BYTES_PER_FUEL),
    }
}

/// Creates a buffer for as many bytes as fuel pays for.
pub(super) fn limited_buffer(state: &State<'_, '_>) -> Limited<Vec<u8>> {
    Limited::new(Vec::new(), bytes_left(state))
}

/// A writer that fails if more than a number of bytes are written to it.
pub(super) struct Limited<W> {
    inner: W,
    left: usize,
}

impl<W> Limited<W> {
    fn new(inner: W, left: usize) -> Self {
        Self { inner, left }
    }

    /// Returns the inner writer.
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
