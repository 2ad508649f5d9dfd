//! Widths of padded texts.

use minijinja::{Error, ErrorKind};

/// Maximum width to which a text is padded.
const MAX_WIDTH: usize = 9_999;

/// Returns `width` if it is at most [`MAX_WIDTH`].
pub(super) fn checked_width(width: usize) -> Result<usize, Error> {
    if width <= MAX_WIDTH {
        return Ok(width);
    }
    let text = format!("the width must be at most {MAX_WIDTH}");
    Err(Error::new(ErrorKind::InvalidOperation, text))
}

/// Divides `missing` spaces into those left and right of a text, as `str.center` does for `width`.
pub(super) fn centered(missing: usize, width: usize) -> (usize, usize) {
    let left = missing / 2 + (missing & width & 1);
    (left, missing - left)
}
