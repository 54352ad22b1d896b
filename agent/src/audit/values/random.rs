//! Random bytes, drawn from the kernel a page at a time.

use std::cell::RefCell;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes drawn at once.
const POOL_BYTES: usize = 4096;

#[derive(Zeroize, ZeroizeOnDrop)]
struct Pool {
    bytes: [u8; POOL_BYTES],
    /// Bytes before this one were given away.
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const {
        RefCell::new(Pool { bytes: [0; POOL_BYTES], used: POOL_BYTES })
    };
}

/// Why there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel gave no random bytes")]
pub struct NoRandom;

/// `N` fresh random bytes. Each thread has a pool of its own, and forgets a byte as it gives it.
///
/// Errors: [`NoRandom`] when the pool is empty and the kernel fills no other.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    const { assert!(N <= 64, "for keys, salts and nonces") };
    POOL.with_borrow_mut(|pool| {
        if POOL_BYTES - pool.used < N {
            getrandom::fill(&mut pool.bytes).map_err(|_| NoRandom)?;
            pool.used = 0;
        }
        let mut taken = [0; N];
        let given = &mut pool.bytes[pool.used..pool.used + N];
        taken.copy_from_slice(given);
        given.zeroize();
        pool.used += N;
        Ok(taken)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nothing_is_given_twice() {
        // More than two pools, in pieces that don't divide one.
        let drawn: HashSet<[u8; 24]> = (0..1000).map(|_| random().expect("random")).collect();
        assert_eq!(drawn.len(), 1000);
        assert!(drawn.iter().all(|bytes| bytes.iter().any(|&byte| byte != 0)));
    }
}
