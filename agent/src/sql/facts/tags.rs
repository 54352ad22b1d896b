//! Tags of sqlcommenter: `/*key='value',other='value'*/` in front of or behind a text.

use std::collections::BTreeMap;

use crate::sql::lex::{Encoding, Kind, Lexer, Strings};

/// Bytes of a text that are searched from its beginning and from its end.
const SEARCHED_BYTES: usize = 8 << 10;

/// Tags that are kept; more of them are cut off.
const TAGS_MAX: usize = 64;

/// Tags in the comments in front of `text` and behind it, keys and values decoded. What stands behind wins, as the writers
/// of such comments put them there. A comment of another form has none.
///
/// The application writes them: they tell what it says, and no more.
pub fn tags(text: &[u8]) -> BTreeMap<Box<str>, Box<str>> {
    let mut tags = BTreeMap::new();
    for comment in [leading(text), trailing(text)].into_iter().flatten() {
        if let Some(found) = parse(comment) {
            tags.extend(found);
        }
    }
    tags
}

/// What is inside of the first comment of a text that begins with one.
fn leading(text: &[u8]) -> Option<&[u8]> {
    let text = &text[..text.len().min(SEARCHED_BYTES)];
    let first = Lexer::new(text, Encoding::Safe, Strings::Standard).next()?;
    if first.kind != Kind::Comment {
        return None;
    }
    text[first.start..first.end].strip_prefix(b"/*")?.strip_suffix(b"*/")
}

/// What is inside of the last comment of a text that ends with one, but for blanks and a semicolon.
fn trailing(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().rposition(|byte| !b" \t\r\n;".contains(byte))? + 1;
    let inside = text[..end].strip_suffix(b"*/")?;
    let searched = &inside[inside.len().saturating_sub(SEARCHED_BYTES)..];
    let start = memchr::memmem::rfind(searched, b"/*")?;
    Some(&searched[start + 2..])
}

/// `key='value'` with commas between: `None` for anything else.
fn parse(comment: &[u8]) -> Option<Vec<(Box<str>, Box<str>)>> {
    let mut tags = Vec::new();
    let mut rest = comment.trim_ascii();
    loop {
        let equals = rest.iter().position(|&byte| byte == b'=')?;
        let key = decode(rest[..equals].trim_ascii())?;
        let value = rest[equals + 1..].trim_ascii_start().strip_prefix(b"'")?;
        let end = closing_quote(value)?;
        tags.push((key, decode(&value[..end])?));
        rest = value[end + 1..].trim_ascii_start();
        match rest.strip_prefix(b",") {
            Some(more) if tags.len() < TAGS_MAX => rest = more.trim_ascii_start(),
            Some(_) => return Some(tags),
            None => return rest.is_empty().then_some(tags),
        }
    }
}

/// The quote that ends a value: not one behind a backslash.
fn closing_quote(value: &[u8]) -> Option<usize> {
    let mut escaped = false;
    value.iter().position(|&byte| {
        let closes = byte == b'\'' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// Undoes `\'` and `%41`. `None` for what is empty or no text then.
fn decode(text: &[u8]) -> Option<Box<str>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, behind @ ..] = rest {
        rest = behind;
        decoded.push(match (byte, behind) {
            (b'%', [high, low, behind @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    high << 4 | low
                }
                _ => *byte,
            },
            (b'\\', [b'\'', behind @ ..]) => {
                rest = behind;
                b'\''
            }
            _ => *byte,
        });
    }
    let decoded = String::from_utf8(decoded).ok()?;
    (!decoded.is_empty()).then(|| decoded.into())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let tags = tags(text.as_bytes());
        tags.iter().map(|(key, value)| format!("{key}={value};")).collect()
    }

    #[test]
    fn tags_are_read_at_both_ends() {
        let text = "SELECT 1 /*route='%2Fpolls%201',action='it\\'s', db_driver='x%3Dy'*/ ; ";
        assert_eq!(shown(text), "action=it's;db_driver=x=y;route=/polls 1;");
        assert_eq!(shown("/*a='1'*/ SELECT 1"), "a=1;");
        assert_eq!(shown("/*a='1',b='2'*/ SELECT 1 /*b='3'*/"), "a=1;b=3;");
    }

    #[test]
    fn other_comments_have_no_tags() {
        for text in [
            "SELECT 1",
            "",
            ";",
            "SELECT '/*a=''1''*/'",
            "SELECT 1 -- a='1'",
            "SELECT 1 /* free text */",
            "SELECT 1 /*a=1*/",
            "SELECT 1 /*a='1' b='2'*/",
            "SELECT 1 /*a='1*/",
            "SELECT 1 /*=''*/",
            "SELECT 1 /*a='%ff'*/",
            "*/",
        ] {
            assert_eq!(shown(text), "", "{text}");
        }
    }

    #[test]
    fn their_number_is_bounded() {
        let many: Vec<_> = (0..1000).map(|n| format!("k{n}='v'")).collect();
        assert_eq!(tags(format!("/*{}*/", many[..200].join(",")).as_bytes()).len(), TAGS_MAX);
        assert_eq!(shown(&format!("SELECT 1 /*{}*/", many.join(",").repeat(9))), "");
    }
}
