//! How much of the stack is left.

use super::STACK_BYTES;

/// Where the stack was when an analysis began. Frames are of very different size in builds with and without
/// optimisation, so that a count of levels would not tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack {
    start: usize,
}

impl Stack {
    /// The stack of this thread, at about its beginning.
    pub(super) fn here() -> Self {
        Self { start: position() }
    }

    /// Whether three quarters are used up. The parser, whose trees are as deep, makes do with less.
    pub(super) fn is_low(self) -> bool {
        self.start.abs_diff(position()) > STACK_BYTES / 4 * 3
    }
}

/// An address on the stack.
#[inline(never)]
fn position() -> usize {
    let mark = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&mark)).addr()
}
