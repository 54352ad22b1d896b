//! Atomic additions to map values: `core::sync::atomic` has none for the BPF target.
//!
//! [`add`] is in every kernel that has the agent's hooks; [`fetch_add`] needs Linux 5.12 (arm64: 5.18).

use core::arch::asm;

/// Adds to a value of a map.
///
/// # Safety
///
/// `value` must be a live map value, aligned to its size.
#[inline(always)]
pub unsafe fn add(value: *mut u64, count: u64) {
    // SAFETY: the memory is valid by contract, and the instruction touches nothing else.
    unsafe {
        asm!(
            "lock *(u64 *)({value} + 0) += {count}",
            value = in(reg) value,
            count = in(reg) count,
            options(nostack),
        );
    }
}

/// Adds to a value of a map and gives what it was before.
///
/// # Safety
///
/// As of [`add`].
#[inline(always)]
pub unsafe fn fetch_add(value: *mut u64, count: u64) -> u64 {
    let mut count = count;
    // SAFETY: as above.
    unsafe {
        asm!(
            "{count} = atomic_fetch_add((u64 *)({value} + 0), {count})",
            value = in(reg) value,
            count = inout(reg) count,
            options(nostack),
        );
    }
    count
}
