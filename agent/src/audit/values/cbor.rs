//! The few items of CBOR (RFC 8949) that a payload is made of, in their canonical form.

const UINT: u8 = 0;
const BYTES: u8 = 2;
const MAP: u8 = 5;
const NULL: u8 = 0xf6;

/// Longest head of an item, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 9;

pub(super) fn uint(value: u64, out: &mut Vec<u8>) {
    head(UINT, value, out);
}

/// A map of this many pairs, which follow.
pub(super) fn map(pairs: usize, out: &mut Vec<u8>) {
    head(MAP, pairs as u64, out);
}

pub(super) fn bytes(value: &[u8], out: &mut Vec<u8>) {
    bytes_head(value.len(), out);
    out.extend_from_slice(value);
}

/// Bytes, so many of which follow.
pub(super) fn bytes_head(length: usize, out: &mut Vec<u8>) {
    head(BYTES, length as u64, out);
}

pub(super) fn null(out: &mut Vec<u8>) {
    out.push(NULL);
}

fn head(major: u8, value: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match value {
        0..=23 => out.push(major | value as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, value as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// Reads items back. Refuses every other form of the same item, so that there is one payload for
/// one content.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn head(&mut self) -> Option<(u8, u64)> {
        let (&first, rest) = self.0.split_first()?;
        let (length, least) = match first & 31 {
            small @ 0..=23 => {
                self.0 = rest;
                return Some((first >> 5, small.into()));
            }
            24 => (1, 24),
            25 => (2, 0x100),
            26 => (4, 0x1_0000),
            27 => (8, 0x1_0000_0000),
            _ => return None,
        };
        let value = rest.get(..length)?.iter().fold(0_u64, |n, &byte| n << 8 | u64::from(byte));
        self.0 = &rest[length..];
        (value >= least).then_some((first >> 5, value))
    }

    fn of(&mut self, major: u8) -> Option<u64> {
        self.head().filter(|(found, _)| *found == major).map(|(_, value)| value)
    }

    pub(super) fn uint(&mut self) -> Option<u64> {
        self.of(UINT)
    }

    pub(super) fn map(&mut self) -> Option<u64> {
        self.of(MAP)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.of(BYTES)?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Exactly `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes()?.try_into().ok()
    }

    /// Takes a null, if there is one.
    pub(super) fn null(&mut self) -> bool {
        match self.0.split_first() {
            Some((&NULL, rest)) => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_those_of_rfc_8949_appendix_a() {
        let mut out = Vec::new();
        for value in [0, 23, 24, 100, 1000, 1_000_000, 1_000_000_000_000, u64::MAX] {
            uint(value, &mut out);
        }
        assert_eq!(
            hex::encode(&out),
            "0017181818641903e81a000f42401b000000e8d4a510001bffffffffffffffff"
        );
        out.clear();
        bytes(&[1, 2, 3, 4], &mut out);
        map(0, &mut out);
        null(&mut out);
        assert_eq!(hex::encode(&out), "4401020304a0f6");
    }

    #[test]
    fn what_is_written_is_read() {
        for value in [0, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let mut out = Vec::new();
            uint(value, &mut out);
            assert_eq!(Reader(&out).uint(), Some(value));
            for cut in 0..out.len() {
                assert_eq!(Reader(&out[..cut]).uint(), None);
            }
        }
    }

    #[test]
    fn other_forms_are_refused() {
        // Longer heads than needed, indefinite lengths, lengths beyond the end.
        for bytes in ["1817", "190018", "1a0000ffff", "1b00000000ffffffff", "1f"] {
            assert_eq!(Reader(&hex::decode(bytes).expect("hex")).uint(), None, "{bytes}");
        }
        for bytes in ["5f4101ff", "5bffffffffffffffff00", "4201", "0a"] {
            assert_eq!(Reader(&hex::decode(bytes).expect("hex")).bytes(), None, "{bytes}");
        }
    }
}
