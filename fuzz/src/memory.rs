//! Counts heap bytes, so that a target can tell what a session keeps.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static BYTES: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those the system allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above; the pointer came from `alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Heap bytes from here on.
pub struct Measure {
    start: usize,
}

impl Measure {
    /// Begins to count.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { start: BYTES.load(Ordering::Relaxed) }
    }

    /// Bytes allocated since and not freed.
    pub fn bytes(&self) -> usize {
        BYTES.load(Ordering::Relaxed).saturating_sub(self.start)
    }
}
