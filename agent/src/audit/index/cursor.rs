//! Numbers and lists of the index file.
//!
//! `varint`: LEB128, at most 10 bytes, any `u64`. `list`: varint count, then as many ascending numbers,
//! the first as it is and each other as its distance from the one before, which is at least 1.

use super::IndexError;

/// Reads a part of an index. Every length and number is checked against what is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'b [u8], IndexError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(IndexError::Malformed("something runs past the end of its part"))?;
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, IndexError> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    pub(super) fn varint(&mut self) -> Result<u64, IndexError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(IndexError::Malformed("a number is too large"))
    }

    /// A number that has to be below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> Result<u32, IndexError> {
        let value = self.varint()?;
        if value >= limit {
            return Err(IndexError::Malformed("a number is beyond its table"));
        }
        u32::try_from(value).map_err(|_| IndexError::Malformed("a number is too large"))
    }

    /// A count of things that take at least one byte each.
    pub(super) fn count(&mut self) -> Result<usize, IndexError> {
        let count = self.varint()?;
        let left = self.bytes.len() - self.at;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= left)
            .ok_or(IndexError::Malformed("more things than bytes"))
    }

    /// A list of numbers below `limit`.
    pub(super) fn list(&mut self, limit: u64) -> Result<Vec<u32>, IndexError> {
        let count = self.count()?;
        let mut list = Vec::with_capacity(count);
        let mut last = None;
        for _ in 0..count {
            let step = self.varint()?;
            let value = next(last, step)?;
            if value >= limit {
                return Err(IndexError::Malformed("a number is beyond its table"));
            }
            last = Some(value);
            list.push(
                u32::try_from(value).map_err(|_| IndexError::Malformed("a number is too large"))?,
            );
        }
        Ok(list)
    }

    /// A list of any numbers.
    pub(super) fn long_list(&mut self) -> Result<Vec<u64>, IndexError> {
        let count = self.count()?;
        let mut list = Vec::with_capacity(count);
        let mut last = None;
        for _ in 0..count {
            let step = self.varint()?;
            let value = next(last, step)?;
            last = Some(value);
            list.push(value);
        }
        Ok(list)
    }

    /// Steps over a list, and says where it begins.
    pub(super) fn skip_list(&mut self) -> Result<usize, IndexError> {
        let at = self.at;
        for _ in 0..self.count()? {
            self.varint()?;
        }
        Ok(at)
    }

    /// Everything must be used up.
    pub(super) fn finish(&self) -> Result<(), IndexError> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(IndexError::Malformed("bytes behind the end of a part"))
        }
    }
}

fn next(last: Option<u64>, step: u64) -> Result<u64, IndexError> {
    match last {
        None => Ok(step),
        Some(last) if step > 0 => {
            last.checked_add(step).ok_or(IndexError::Malformed("a number is too large"))
        }
        Some(_) => Err(IndexError::Malformed("a list does not ascend")),
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a list; `values` ascend.
pub(super) fn put_list(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = u64>) {
    put_varint(out, values.len() as u64);
    let mut last = None;
    for value in values {
        debug_assert!(last.is_none_or(|last| last < value), "lists ascend");
        put_varint(out, last.map_or(value, |last| value - last));
        last = Some(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_come_back(values in prop::collection::btree_set(any::<u64>(), 0..50)) {
            let mut out = Vec::new();
            put_list(&mut out, values.iter().copied());
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.long_list().expect("a list"), values.into_iter().collect::<Vec<_>>());
            cursor.finish().expect("all used");
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut cursor = Cursor::new(&bytes);
            while cursor.list(1000).is_ok() && cursor.at() < bytes.len() {}
            let _ = Cursor::new(&bytes).long_list();
            let _ = Cursor::new(&bytes).skip_list();
        }
    }

    #[test]
    fn numbers_beyond_64_bits_are_refused() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX);
        assert_eq!(Cursor::new(&out).varint().ok(), Some(u64::MAX));
        let last = out.len() - 1;
        out[last] = 2;
        assert!(Cursor::new(&out).varint().is_err());
        assert!(Cursor::new(&[0x80; 11]).varint().is_err());
        assert!(Cursor::new(&[2, 5, 0]).list(10).is_err(), "a list ascends");
        assert!(Cursor::new(&[1, 10]).list(10).is_err(), "within its table");
    }
}
