//! Random bytes for every entry, drawn in bulk: one draw costs as much as a hundred salts.

use std::cell::RefCell;

/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;
/// Bytes drawn at once.
const POOL_BYTES: usize = 4096;

/// A fresh salt.
///
/// Panics when the system has no random bytes, which cannot happen once it has booted: an entry
/// with a guessable salt would give away the entries beside it.
pub fn salt() -> [u8; SALT_BYTES] {
    thread_local!(static POOL: RefCell<(Vec<u8>, usize)> = const { RefCell::new((Vec::new(), 0)) });
    POOL.with_borrow_mut(|(pool, at)| {
        if *at + SALT_BYTES > pool.len() {
            pool.resize(POOL_BYTES, 0);
            aws_lc_rs::rand::fill(pool).expect("the system has random bytes");
            *at = 0;
        }
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&pool[*at..*at + SALT_BYTES]);
        // What was handed out is in an entry: it is no secret, and is never handed out again.
        *at += SALT_BYTES;
        salt
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salts_differ() {
        let salts: std::collections::BTreeSet<_> = (0..1000).map(|_| salt()).collect();
        assert_eq!(salts.len(), 1000);
    }
}
