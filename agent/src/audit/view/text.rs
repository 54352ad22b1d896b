//! JSON as text that can go to a terminal.

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// `value` on one line, without a line feed. No control character, U+007F to U+009F, U+2028 or
/// U+2029 stands in it as itself.
pub fn line(value: &Value) -> String {
    let mut out = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut out, Escaping(CompactFormatter)))
        .expect("a value of JSON can be written to a vector");
    String::from_utf8(out).expect("JSON is UTF-8")
}

struct Escaping(CompactFormatter);

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(harmful) {
            let (plain, tail) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut characters = tail.chars();
            let code = characters.next().map_or(0, u32::from);
            write!(writer, "\\u{code:04x}")?;
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

fn harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_could_move_a_cursor_is_escaped() {
        let value = json!({"a": "x\u{7f}\u{9b}\u{2028}\u{1b}\n\"\\é🐘"});
        assert_eq!(line(&value), r#"{"a":"x\u007f\u009b\u2028\u001b\n\"\\é🐘"}"#);
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            let line = line(&json!(text));
            prop_assert!(!line.chars().any(harmful));
            prop_assert_eq!(serde_json::from_str::<String>(&line).expect("valid JSON"), text);
        }
    }
}
