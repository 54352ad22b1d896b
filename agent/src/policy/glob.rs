//! Patterns: `*` stands for any run of characters, `?` for one.
//!
//! Names of database objects are written as in SQL: letters outside of double quotes are folded to lower case, inside of
//! them all stands for itself, `*` and `?` too, and a doubled quote is one. A dot parts schema and name; without one the
//! schema is `*`. The rules are those of `\d` in psql, except for the schema.

/// Longest identifier of the server, in bytes (`NAMEDATALEN` less one): a longer one would match nothing.
const IDENTIFIER_BYTES_MAX: usize = 63;

/// A pattern for one text. The whole text must match; case counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob(Box<[Part]>);

/// Neighbours are never both `Text` or both `Any`, and no `Text` is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Text(Box<str>),
    One,
    Any,
}

impl Glob {
    /// A pattern that is written without quotes or folding: for paths, images, users.
    pub fn plain(text: &str) -> Self {
        let mut builder = Builder::default();
        text.chars().for_each(|c| builder.pattern(c));
        builder.finish()
    }

    /// What every text matches.
    pub fn any() -> Self {
        Self([Part::Any].into())
    }

    /// Whether every text matches, by the look of it.
    pub fn is_any(&self) -> bool {
        matches!(&*self.0, [Part::Any])
    }

    /// The only text that matches, if it is only one.
    pub(super) fn literal(&self) -> Option<&str> {
        match &*self.0 {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            [..] => None,
        }
    }

    /// What every text that matches begins with.
    pub(super) fn prefix(&self) -> &str {
        match self.0.first() {
            Some(Part::Text(text)) => text,
            Some(Part::One | Part::Any) | None => "",
        }
    }

    /// Whether all of `text` matches. Takes at most the product of both lengths.
    pub fn matches(&self, text: &str) -> bool {
        let (mut part, mut rest) = (0, text);
        // Where the last `*` stands, and what it has not taken yet.
        let mut any: Option<(usize, &str)> = None;
        loop {
            let step = match self.0.get(part) {
                None if rest.is_empty() => return true,
                None => None,
                Some(Part::Any) => {
                    any = Some((part, rest));
                    Some(rest)
                }
                Some(Part::One) => behind_one(rest),
                Some(Part::Text(text)) => rest.strip_prefix(&**text),
            };
            if let Some(behind) = step {
                (part, rest) = (part + 1, behind);
                continue;
            }
            // The last `*` takes one more; those in front of it need not be asked again.
            let Some((at, longer)) = any.and_then(|(at, from)| Some((at, behind_one(from)?)))
            else {
                return false;
            };
            any = Some((at, longer));
            (part, rest) = (at + 1, longer);
        }
    }
}

fn behind_one(text: &str) -> Option<&str> {
    let mut chars = text.chars();
    chars.next().map(|_| chars.as_str())
}

#[derive(Default)]
struct Builder {
    parts: Vec<Part>,
    text: String,
}

impl Builder {
    fn pattern(&mut self, c: char) {
        match c {
            '*' => {
                self.flush();
                if self.parts.last() != Some(&Part::Any) {
                    self.parts.push(Part::Any);
                }
            }
            '?' => {
                self.flush();
                self.parts.push(Part::One);
            }
            c => self.text.push(c),
        }
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            self.parts.push(Part::Text(std::mem::take(&mut self.text).into()));
        }
    }

    fn finish(mut self) -> Glob {
        self.flush();
        Glob(self.parts.into())
    }
}

/// A pattern for an object that may have a schema.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamePattern {
    /// For its schema.
    pub schema: Glob,
    /// For its name.
    pub name: Glob,
}

/// Why a text is no pattern for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A part is empty.
    #[error("a part is empty")]
    Empty,
    /// A double quote has no end.
    #[error("a double quote has no end")]
    Quote,
    /// Text follows a closing quote.
    #[error("a dot is missing behind a double quote")]
    Behind,
    /// There are more parts than it can have.
    #[error("more parts than the name can have")]
    Parts,
    /// A character that must be quoted.
    #[error("`{0}` must stand in double quotes")]
    Character(char),
    /// Longer than any identifier.
    #[error("longer than {IDENTIFIER_BYTES_MAX} bytes, as no identifier is")]
    Long,
}

impl NamePattern {
    /// Reads `name` or `schema.name`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut parts = identifiers(text)?.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(name), None, _) => Ok(Self { schema: Glob::any(), name }),
            (Some(schema), Some(name), None) => Ok(Self { schema, name }),
            (None, ..) | (_, _, Some(_)) => Err(NameError::Parts),
        }
    }

    /// What every object matches.
    pub fn any() -> Self {
        Self { schema: Glob::any(), name: Glob::any() }
    }

    /// Whether an object could be meant: an unknown schema could be any.
    pub(super) fn touches(&self, schema: Option<&str>, name: &str) -> bool {
        self.name.matches(name) && schema.is_none_or(|schema| self.schema.matches(schema))
    }

    /// Whether an object is meant for certain: an unknown schema only by a pattern for all.
    pub(super) fn covers(&self, schema: Option<&str>, name: &str) -> bool {
        let schemas = || schema.map_or(self.schema.is_any(), |schema| self.schema.matches(schema));
        self.name.matches(name) && schemas()
    }
}

/// Reads one identifier, as a pattern.
pub(super) fn identifier(text: &str) -> Result<Glob, NameError> {
    let mut parts = identifiers(text)?;
    match (parts.pop(), parts.is_empty()) {
        (Some(part), true) => Ok(part),
        (Some(_), false) | (None, _) => Err(NameError::Parts),
    }
}

/// The parts of a dotted name; at least one.
fn identifiers(text: &str) -> Result<Vec<Glob>, NameError> {
    let mut parts = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut builder = Builder::default();
        if chars.peek() == Some(&'"') {
            chars.next();
            loop {
                match chars.next().ok_or(NameError::Quote)? {
                    '"' if chars.peek() == Some(&'"') => {
                        chars.next();
                        builder.text.push('"');
                    }
                    '"' => break,
                    c => builder.text.push(c),
                }
            }
            if chars.peek().is_some_and(|c| *c != '.') {
                return Err(NameError::Behind);
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != '.') {
                if !(c.is_alphanumeric() || matches!(c, '_' | '$' | '*' | '?')) {
                    return Err(NameError::Character(c));
                }
                builder.pattern(c.to_ascii_lowercase());
            }
        }
        let part = builder.finish();
        let bytes = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::One => 1,
            Part::Any => 0,
        };
        if part.0.is_empty() {
            return Err(NameError::Empty);
        }
        if part.0.iter().map(bytes).sum::<usize>() > IDENTIFIER_BYTES_MAX {
            return Err(NameError::Long);
        }
        parts.push(part);
        if chars.next().is_none() {
            return Ok(parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_texts() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("a", "A", false),
            ("a", "ab", false),
            ("*", "", true),
            ("*", "any / thing", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*c", "abc", true),
            ("*c", "abcd", false),
            ("a*c", "abcc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a?c", "abc", true),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("*?", "", false),
            ("**?", "x", true),
            ("*aab", "aaaaab", true),
        ] {
            assert_eq!(Glob::plain(pattern).matches(text), expected, "{pattern} {text}");
        }
        assert!(Glob::plain("**").is_any());
        assert!(!Glob::plain("*?").is_any());
    }

    #[test]
    fn names_are_folded_and_quoted_as_in_sql() {
        for (pattern, schema, name, expected) in [
            ("cards", "public", "cards", true),
            ("CARDS", "public", "cards", true),
            ("\"CARDS\"", "public", "cards", false),
            ("\"CARDS\"", "public", "CARDS", true),
            ("pci.*", "pci", "cards", true),
            ("pci.*", "public", "cards", false),
            ("\"a.b\".c", "a.b", "c", true),
            ("\"*\".c", "x", "c", false),
            ("\"*\".c", "*", "c", true),
            ("\"a\"\"b\"", "x", "a\"b", true),
            ("audit_?", "x", "audit_1", true),
        ] {
            let parsed = NamePattern::parse(pattern).expect("a pattern");
            assert_eq!(parsed.touches(Some(schema), name), expected, "{pattern} {schema}.{name}");
            assert_eq!(parsed.covers(Some(schema), name), expected, "{pattern} {schema}.{name}");
        }
    }

    #[test]
    fn an_unknown_schema_is_touched_by_all_and_covered_by_a_star() {
        let parse = |text| NamePattern::parse(text).expect("a pattern");
        for (pattern, touches, covers) in
            [("pci.cards", true, false), ("*.cards", true, true), ("cards", true, true)]
        {
            let found =
                (parse(pattern).touches(None, "cards"), parse(pattern).covers(None, "cards"));
            assert_eq!(found, (touches, covers), "{pattern}");
        }
        assert!(!parse("?*.cards").covers(None, "cards"));
    }

    #[test]
    fn bad_names_say_why() {
        for (text, error) in [
            ("", NameError::Empty),
            ("a.", NameError::Empty),
            (".a", NameError::Empty),
            ("\"\"", NameError::Empty),
            ("\"a", NameError::Quote),
            ("\"a\"b", NameError::Behind),
            ("a.b.c", NameError::Parts),
            ("a b", NameError::Character(' ')),
            ("f(int)", NameError::Character('(')),
        ] {
            assert_eq!(NamePattern::parse(text), Err(error), "{text}");
        }
        assert_eq!(NamePattern::parse(&"x".repeat(64)), Err(NameError::Long));
        assert_eq!(identifier("a.b"), Err(NameError::Parts));
    }
}
