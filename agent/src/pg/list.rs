//! Repeated fields of messages, kept as the bytes they came in.
//!
//! A list that was parsed borrows its bytes, was checked once, and is read again by iterating; a
//! list that was built owns them. Either way writing it back is one copy.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use super::codec::{Reader, WriteError, Writer};
use super::error::BytesFault;

/// What a list is made of.
pub trait Kind {
    /// One element.
    type Item<'a>;
    /// Reads one element.
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Self::Item<'a>, BytesFault>;
    /// Writes one element.
    fn write(item: &Self::Item<'_>, writer: &mut Writer<'_>) -> Result<(), WriteError>;
}

/// Elements that are 16-bit integers: format codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Int16;
/// Elements that are 32-bit integers: object identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Int32;
/// Elements that are values: a length, -1 for NULL, and that many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value;
/// Elements that are strings ended by a zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text;

impl Kind for Int16 {
    type Item<'a> = u16;

    fn read<'a>(reader: &mut Reader<'a>) -> Result<u16, BytesFault> {
        reader.u16()
    }

    fn write(item: &u16, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        writer.u16(*item);
        Ok(())
    }
}

impl Kind for Int32 {
    type Item<'a> = u32;

    fn read<'a>(reader: &mut Reader<'a>) -> Result<u32, BytesFault> {
        reader.u32()
    }

    fn write(item: &u32, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        writer.u32(*item);
        Ok(())
    }
}

impl Kind for Value {
    type Item<'a> = Option<&'a [u8]>;

    fn read<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, BytesFault> {
        reader.value()
    }

    fn write(item: &Option<&[u8]>, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        writer.value(*item)
    }
}

impl Kind for Text {
    type Item<'a> = &'a [u8];

    fn read<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], BytesFault> {
        reader.text()
    }

    fn write(item: &&[u8], writer: &mut Writer<'_>) -> Result<(), WriteError> {
        writer.text(item)
    }
}

/// A list whose length is said by a count in front of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Counted<'a, K> {
    count: u16,
    bytes: Cow<'a, [u8]>,
    kind: PhantomData<fn() -> K>,
}

impl<'a, K: Kind> Counted<'a, K> {
    /// Builds a list.
    ///
    /// Errors: [`WriteError::TooMany`] over 65535 elements, and those of the elements.
    pub fn new<'i>(items: impl IntoIterator<Item = K::Item<'i>>) -> Result<Self, WriteError> {
        let mut bytes = Vec::new();
        let mut count = 0_usize;
        for item in items {
            K::write(&item, &mut Writer::raw(&mut bytes))?;
            count += 1;
        }
        let count = u16::try_from(count).map_err(|_| WriteError::TooMany { found: count })?;
        Ok(Self { count, bytes: Cow::Owned(bytes), kind: PhantomData })
    }

    /// Reads the 16-bit count and checks that many elements; nothing is reserved for them.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, BytesFault> {
        let count = reader.u16()?;
        Self::read_items(reader, count)
    }

    /// Checks `count` elements whose count was read elsewhere.
    pub fn read_items(reader: &mut Reader<'a>, count: u16) -> Result<Self, BytesFault> {
        let whole = reader.rest();
        for _ in 0..count {
            K::read(reader)?;
        }
        let bytes = &whole[..whole.len() - reader.rest().len()];
        Ok(Self { count, bytes: Cow::Borrowed(bytes), kind: PhantomData })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = K::Item<'_>> {
        let mut reader = Reader::new(&self.bytes);
        // Checked when read or built, so `ok` never hides an error.
        (0..self.count).map_while(move |_| K::read(&mut reader).ok())
    }

    /// Appends the 16-bit count and the elements.
    pub fn write(&self, writer: &mut Writer<'_>) {
        writer.u16(self.count);
        self.write_items(writer);
    }

    /// Appends the elements alone.
    pub fn write_items(&self, writer: &mut Writer<'_>) {
        writer.bytes(&self.bytes);
    }
}

impl<K> fmt::Debug for Counted<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} items, {} bytes]", self.count, self.bytes.len())
    }
}

/// A list that ends with a zero byte where the next element would begin.
#[derive(Clone, PartialEq, Eq)]
pub struct Terminated<'a, K> {
    bytes: Cow<'a, [u8]>,
    kind: PhantomData<fn() -> K>,
}

impl<'a, K: Kind> Terminated<'a, K> {
    /// Builds a list. Elements must not begin with a zero byte.
    pub fn new<'i>(items: impl IntoIterator<Item = K::Item<'i>>) -> Result<Self, WriteError> {
        let mut bytes = Vec::new();
        for item in items {
            let start = bytes.len();
            K::write(&item, &mut Writer::raw(&mut bytes))?;
            if bytes.get(start) == Some(&0) {
                return Err(WriteError::ZeroInString { offset: 0 });
            }
        }
        Ok(Self { bytes: Cow::Owned(bytes), kind: PhantomData })
    }

    /// Reads elements up to and including the terminator.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, BytesFault> {
        let whole = reader.rest();
        while *reader.rest().first().ok_or(BytesFault::Unterminated)? != 0 {
            K::read(reader)?;
        }
        let bytes = &whole[..whole.len() - reader.rest().len()];
        reader.u8()?;
        Ok(Self { bytes: Cow::Borrowed(bytes), kind: PhantomData })
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = K::Item<'_>> {
        let mut reader = Reader::new(&self.bytes);
        std::iter::from_fn(move || {
            // Checked when read or built, so `ok` never hides an error.
            (!reader.rest().is_empty()).then(|| K::read(&mut reader).ok()).flatten()
        })
    }

    /// Appends the elements and the terminator.
    pub fn write(&self, writer: &mut Writer<'_>) {
        writer.bytes(&self.bytes);
        writer.u8(0);
    }
}

impl<K> fmt::Debug for Terminated<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_and_read_lists_are_equal() {
        let built = Counted::<Value>::new([None, Some(&b"ab"[..]), Some(b"")]).expect("fits");
        let mut bytes = Vec::new();
        built.write(&mut Writer::raw(&mut bytes));
        let read = Counted::<Value>::read(&mut Reader::new(&bytes)).expect("well formed");
        assert_eq!(read, built);
        let items: Vec<_> = read.iter().collect();
        assert_eq!(items, [None, Some(&b"ab"[..]), Some(b"")]);
    }

    #[test]
    fn count_larger_than_the_body_is_refused() {
        let refused = Counted::<Int32>::read(&mut Reader::new(&[0xff, 0xff, 0, 0, 0, 1]));
        assert_eq!(refused, Err(BytesFault::Truncated { found: 0, expected: 4 }));
    }

    #[test]
    fn terminated_list_needs_its_end() {
        let read = |bytes| Terminated::<Text>::read(&mut Reader::new(bytes)).map(|_| ());
        assert_eq!(read(b"a\0b\0\0"), Ok(()));
        assert_eq!(read(b"a\0b\0"), Err(BytesFault::Unterminated));
        assert!(Terminated::<Text>::new([&b""[..]]).is_err());
    }
}
