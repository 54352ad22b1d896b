//! Writing JSON objects straight into a byte buffer.
//!
//! A record is a flat object whose fields are known when the program is compiled, and most of its
//! bytes are the text of a statement: writing it by hand costs a copy of that text and little else.
//! Nothing here allocates but the buffer that grows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use std::sync::Arc;

use super::excerpt::Excerpt;
use super::time::WallNanos;

/// Longest [`Json`], in bytes.
pub const JSON_BYTES_MAX: usize = 1 << 20;

/// A value that was rendered as JSON once and is repeated in many records: the identity of a
/// process.
///
/// One line of valid JSON, by construction. Cloning counts a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(Arc<str>);

/// Why a value can't be a [`Json`].
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Its own `Serialize` failed.
    #[error("value cannot be rendered as JSON")]
    Render(#[from] serde_json::Error),
    /// Longer than [`JSON_BYTES_MAX`].
    #[error("value too long as JSON: found {0} bytes, expected at most {JSON_BYTES_MAX}")]
    TooLong(usize),
}

impl Json {
    /// Renders `value` without line feeds.
    pub fn render<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        let text = serde_json::to_string(value)?;
        if text.len() > JSON_BYTES_MAX {
            return Err(JsonError::TooLong(text.len()));
        }
        Ok(Self(text.into()))
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An object being written. Field names are the caller's constants: plain ASCII that needs no
/// escape.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Object<'o> {
    /// Begins an object at the end of `out`.
    pub(super) fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out }
    }

    /// Ends it.
    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    /// A whole number.
    #[inline(always)]
    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        write_number(self.out, value);
    }

    /// A whole number that may be absent.
    pub(super) fn number_if(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.number(name, value);
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, name: &str, value: bool) {
        self.name(name);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// A constant of the program: no escape needed.
    #[inline(always)]
    pub(super) fn word(&mut self, name: &str, value: &'static str) {
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
    }

    /// A text of ours that may hold anything.
    #[inline(always)]
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        write_string(self.out, value);
    }

    /// A text of ours that may be absent.
    pub(super) fn text_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// What a peer sent: as text when it is UTF-8, else as base64, and then `NAME_encoding` says
    /// so.
    pub(super) fn bytes(&mut self, name: &str, value: &[u8]) {
        match std::str::from_utf8(value) {
            Ok(text) => self.text(name, text),
            Err(_) => self.base64(name, value),
        }
    }

    /// As [`Object::bytes`], for what may be absent.
    pub(super) fn bytes_if(&mut self, name: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.bytes(name, value);
        }
    }

    /// Bytes that are no text, whatever they look like: always as base64, and `NAME_encoding` says
    /// so.
    fn base64(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        write_base64(self.out, value);
        self.suffixed(name, "_encoding");
        self.out.extend_from_slice(b"\"base64\"");
    }

    /// As [`Object::bytes`]; what was cut has its full length in `NAME_bytes` and its digest in
    /// `NAME_sha256`.
    pub(super) fn excerpt(&mut self, name: &str, value: &Excerpt<'_>) {
        self.bytes(name, value.kept);
        self.cut(name, value);
    }

    /// As [`Object::excerpt`], for a value in binary format: always base64.
    pub(super) fn binary_excerpt(&mut self, name: &str, value: &Excerpt<'_>) {
        self.base64(name, value.kept);
        self.cut(name, value);
    }

    fn cut(&mut self, name: &str, value: &Excerpt<'_>) {
        if let Some(cut) = &value.cut {
            self.suffixed(name, "_bytes");
            write_number(self.out, cut.full_bytes);
            if let Some(digest) = &cut.sha256 {
                self.suffixed(name, "_sha256");
                write_hex(self.out, digest);
            }
        }
    }

    /// Bytes as lower-case hexadecimal digits.
    pub(super) fn hex(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        write_hex(self.out, value);
    }

    /// A moment in RFC 3339.
    #[inline(always)]
    pub(super) fn time(&mut self, name: &str, value: WallNanos) {
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(&value.rfc3339());
        self.out.push(b'"');
    }

    /// Anything with a `Display` whose text needs no escape: addresses.
    pub(super) fn display(&mut self, name: &str, value: impl std::fmt::Display) {
        use std::io::Write as _;
        self.name(name);
        // Writing to a `Vec` can't fail.
        let _ = write!(self.out, "\"{value}\"");
    }

    /// A value rendered before.
    #[inline(always)]
    pub(super) fn json(&mut self, name: &str, value: &Json) {
        self.name(name);
        self.out.extend_from_slice(value.0.as_bytes());
    }

    /// An object in the object.
    pub(super) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        let mut object = Object::begin(self.out);
        fill(&mut object);
        object.end();
    }

    /// An array of objects.
    pub(super) fn objects<T>(
        &mut self,
        name: &str,
        items: impl Iterator<Item = T>,
        mut fill: impl FnMut(&mut Object<'_>, T),
    ) {
        self.list(name, |list| items.for_each(|item| list.object(|object| fill(object, item))));
    }

    /// An array of objects that are pushed one by one.
    pub(super) fn list(&mut self, name: &str, fill: impl FnOnce(&mut List<'_>)) {
        self.name(name);
        self.out.push(b'[');
        fill(&mut List { out: self.out });
        self.out.push(b']');
    }

    /// An array of values rendered before.
    pub(super) fn jsons<'j>(&mut self, name: &str, items: impl Iterator<Item = &'j Json>) {
        self.array(name, items, |out, item| out.extend_from_slice(item.0.as_bytes()));
    }

    /// An array of constants.
    pub(super) fn words(&mut self, name: &str, items: impl Iterator<Item = &'static str>) {
        self.array(name, items, write_string);
    }

    /// `null`, for a value that is known to be NULL.
    pub(super) fn null(&mut self, name: &str) {
        self.name(name);
        self.out.extend_from_slice(b"null");
    }

    fn array<T>(
        &mut self,
        name: &str,
        items: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Vec<u8>, T),
    ) {
        self.name(name);
        self.out.push(b'[');
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            write(self.out, item);
        }
        self.out.push(b']');
    }

    // The length of the name is known where this is called: inlined, its copy is a few stores.
    #[inline(always)]
    fn name(&mut self, name: &str) {
        self.suffixed(name, "");
    }

    #[inline(always)]
    fn suffixed(&mut self, name: &str, suffix: &str) {
        let comma: &[u8] = if self.out.last() == Some(&b'{') { b"\"" } else { b",\"" };
        self.out.reserve(name.len() + suffix.len() + 4);
        self.out.extend_from_slice(comma);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

/// An array of objects being written.
pub(super) struct List<'o> {
    out: &'o mut Vec<u8>,
}

impl List<'_> {
    /// The next object.
    pub(super) fn object(&mut self, fill: impl FnOnce(&mut Object<'_>)) {
        if self.out.last() != Some(&b'[') {
            self.out.push(b',');
        }
        let mut object = Object::begin(self.out);
        fill(&mut object);
        object.end();
    }
}

/// Writes `text` as a JSON string, in quotes.
///
/// Besides what RFC 8259 section 7 asks for (control characters, quote, backslash) these are
/// escaped: DEL and U+0080–U+009F, which steer terminals, and U+2028 and U+2029, which some readers
/// take for the end of a line.
pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut copied = 0;
    let mut at = 0;
    while let Some(skip) = position_to_look_at(&bytes[at..]) {
        at += skip;
        let (code, len) = match &bytes[at..] {
            [0xc2, second @ 0x80..=0x9f, ..] => (u16::from(*second), 2),
            [0xe2, 0x80, third @ (0xa8 | 0xa9), ..] => (0x2000 + u16::from(*third) - 0x80, 3),
            [0xc2 | 0xe2, ..] => {
                at += 1;
                continue;
            }
            rest => (u16::from(rest[0]), 1),
        };
        out.extend_from_slice(&bytes[copied..at]);
        write_escape(out, code);
        at += len;
        copied = at;
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// Where the first byte stands that may begin something to escape.
///
/// Blocks without one are told by a loop without a branch, which the compiler turns into vector
/// instructions.
fn position_to_look_at(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 32;
    let clear = bytes
        .chunks_exact(BLOCK)
        .take_while(|block| !block.iter().fold(false, |found, byte| found | needs_look(*byte)))
        .count();
    let from = clear * BLOCK;
    bytes[from..].iter().position(|byte| needs_look(*byte)).map(|at| from + at)
}

/// The bytes that are escaped themselves, and the first ones of the longer characters that are.
fn needs_look(byte: u8) -> bool {
    (byte < 0x20)
        | (byte == b'"')
        | (byte == b'\\')
        | (byte == 0x7f)
        | (byte == 0xc2)
        | (byte == 0xe2)
}

fn write_escape(out: &mut Vec<u8>, code: u16) {
    let short = match code {
        0x08 => b'b',
        0x09 => b't',
        0x0a => b'n',
        0x0c => b'f',
        0x0d => b'r',
        0x22 => b'"',
        0x5c => b'\\',
        _ => {
            let [high, low] = code.to_be_bytes();
            let digit = |nibble: u8| HEX[usize::from(nibble & 15)];
            let digits = [digit(high >> 4), digit(high), digit(low >> 4), digit(low)];
            out.extend_from_slice(b"\\u");
            out.extend_from_slice(&digits);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn write_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for byte in bytes {
        let pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        out.extend_from_slice(&pair);
    }
    out.push(b'"');
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]);
    out.truncate(start + written.expect("four bytes were reserved for each three"));
    out.push(b'"');
}

fn write_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20]; // u64::MAX has 20 digits
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn string(text: &str) -> String {
        let mut out = Vec::new();
        write_string(&mut out, text);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn escapes_what_could_break_a_line_or_a_terminal() {
        for (text, json) in [
            ("", r#""""#),
            ("select 1", r#""select 1""#),
            ("a\"b\\c/d", r#""a\"b\\c/d""#),
            ("\0\x01\x08\t\n\x0b\x0c\r\x1b\x1f", r#""\u0000\u0001\b\t\n\u000b\f\r\u001b\u001f""#),
            ("\x7f\u{80}\u{85}\u{9b}\u{9f}\u{a0}", "\"\\u007f\\u0080\\u0085\\u009b\\u009f\u{a0}\""),
            ("a\u{2028}b\u{2029}\u{2027}\u{202a}", "\"a\\u2028b\\u2029\u{2027}\u{202a}\""),
            ("é€🐘", "\"é€🐘\""),
        ] {
            assert_eq!(string(text), json);
        }
    }

    #[test]
    fn bytes_say_how_they_are_encoded() {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.bytes("a", b"x\xffy");
        object.bytes("b", b"");
        object.bytes("c", "é".as_bytes());
        object.end();
        let text = String::from_utf8(out).expect("JSON is UTF-8");
        assert_eq!(text, r#"{"a":"eP95","a_encoding":"base64","b":"","c":"é"}"#);
    }

    #[test]
    fn rendered_values_are_bounded() {
        assert_eq!(Json::render(&["a\nb"]).expect("short").as_str(), r#"["a\nb"]"#);
        let long = "x".repeat(JSON_BYTES_MAX);
        assert!(matches!(Json::render(&long), Err(JsonError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            let json = string(&text);
            let harmful = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
            prop_assert!(!json.chars().any(harmful));
            prop_assert_eq!(serde_json::from_str::<String>(&json).expect("valid JSON"), text);
        }

        #[test]
        fn any_number_comes_back(value in any::<u64>()) {
            let mut out = Vec::new();
            write_number(&mut out, value);
            prop_assert_eq!(String::from_utf8(out).expect("digits"), value.to_string());
        }

        #[test]
        fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut out = Vec::new();
            let mut object = Object::begin(&mut out);
            object.bytes("a", &bytes);
            object.end();
            let value: serde_json::Value = serde_json::from_slice(&out).expect("valid JSON");
            let text = value["a"].as_str().expect("a string");
            let back = match value["a_encoding"].as_str() {
                None => text.as_bytes().to_vec(),
                Some(_) => STANDARD.decode(text).expect("base64"),
            };
            prop_assert_eq!(back, bytes);
        }
    }
}
