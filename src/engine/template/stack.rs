//! The stack on which a template is rendered: values can be nested as deep as fuel allows, and each level takes stack where they are
//! dropped, printed, compared or sorted.

use crate::engine::{EngineError, EngineErrorKind};
use crate::threads::{NotDone, on_stack};

/// The stack for one level of a nested value, which costs one fuel at least. Measured: 63 bytes to drop it, 383 to compare or sort it, 447
/// to print it.
const LEVEL_STACK: usize = 1024;

/// The most levels for which there is stack: longer conversations have more fuel, and no use for such values.
const MAX_LEVELS: usize = 8_000_000;

/// The smallest stack on which a template is rendered.
const MIN_STACK: usize = 4 * 1024 * 1024;

/// Does `render`, which may take as much work as `fuel`, on a stack that the deepest value cannot exhaust which a template can make of
/// it. Only address space is reserved. If the system refuses so much, the stack is smaller.
pub(super) fn on_deep_stack<T: Send>(
    fuel: u64,
    render: impl Fn() -> Result<T, EngineError> + Sync,
) -> Result<T, EngineError> {
    let levels = usize::try_from(fuel).unwrap_or(usize::MAX).min(MAX_LEVELS);
    let mut stack = LEVEL_STACK * levels;
    loop {
        match on_stack(stack, &render) {
            Ok(rendered) => return rendered,
            Err(NotDone::NoThread(_)) if stack > MIN_STACK => stack /= 2,
            Err(NotDone::NoThread(limit)) => return Err(limit.into()),
            Err(NotDone::Panicked) => {
                return Err(EngineError::new(
                    EngineErrorKind::Template,
                    "the model's chat template could not be rendered: its renderer failed",
                )
                .hint("the server's log holds the details"));
            }
        }
    }
}
