//! Tokens of SQL, as PostgreSQL's scanner cuts them.
//!
//! Source: PostgreSQL documentation, "Lexical Structure", and `src/backend/parser/scan.l` of
//! version 18. What matters here is where a literal begins and ends; a run of operator characters
//! is one token, and what the scanner would refuse (`12ab`) is the token that hides most.
//!
//! # What two readers could read in two ways
//!
//! A literal must never be taken for something else, so where the server may see other borders
//! than we do, all that is left of the text is one [`Kind::Unreadable`]:
//!
//! * a literal, quoted name or comment that does not end,
//! * a zero byte: the server sees nothing behind it,
//! * `\'` in a plain string, when strings may not be standard ([`Strings::Unsure`]),
//! * in an encoding whose later bytes may look like ASCII ([`Encoding::Unsafe`]): a byte from 0x80
//!   outside of plain strings, quoted names, comments and dollar quotes. In none of these
//!   encodings is a later byte below 0x30, so quotes, `$`, `*`, `/`, `-` and line ends are always
//!   themselves, but a later byte may be a backslash, a letter or an operator.

use memchr::{memchr, memchr2, memmem};

/// What the bytes of a text may mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Bytes below 0x80 are always ASCII.
    Safe,
    /// They may be the later bytes of a character, or nothing is known.
    Unsafe,
}

/// How backslashes in plain strings are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strings {
    /// As themselves: `standard_conforming_strings` is on.
    Standard,
    /// As escapes, or that is not known.
    Unsure,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Identifier or keyword.
    Word,
    /// `"name"`
    QuotedWord,
    /// `U&"name"`: may spell any name.
    EscapedWord,
    /// `$1`
    Parameter,
    /// Number, with all letters that stick to it.
    Number,
    /// `'…'`, `E'…'` or `U&'…'`, with what continues it on later lines. `N'…'` is the word `N` and
    /// a string, as the server has it.
    String,
    /// `B'…'` or `X'…'`
    Bits,
    /// `$tag$…$tag$`
    DollarQuote,
    /// `--` up to the end of the line, or `/* */`, nested.
    Comment,
    /// A run of operator characters.
    Operator,
    /// One of `, ( ) [ ] ; :`, or `.` or `..`.
    Punctuation,
    /// A byte that no SQL has outside of quotes.
    Other,
    /// All that is left: its borders cannot be told.
    Unreadable,
}

/// A token and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Offset of its first byte.
    pub start: usize,
    /// Offset behind its last byte.
    pub end: usize,
}

/// Cuts a text into tokens; white space is left out. Every byte is looked at a fixed number of
/// times at most.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    strings: Strings,
    encoding: Encoding,
}

impl Encoding {
    /// The encoding that a server calls so (`client_encoding`). Names that are not known are
    /// [`Encoding::Unsafe`].
    pub fn named(name: &[u8]) -> Self {
        const SAFE: [&[u8]; 2] = [b"UTF8", b"SQL_ASCII"];
        const SAFE_FAMILIES: [&[u8]; 6] =
            [b"LATIN", b"WIN", b"EUC_", b"ISO_8859_", b"KOI8", b"MULE_INTERNAL"];
        let safe = SAFE.contains(&name) || SAFE_FAMILIES.iter().any(|f| name.starts_with(f));
        if safe { Self::Safe } else { Self::Unsafe }
    }
}

impl Kind {
    /// Whether it holds a value that somebody wrote into the text, or may.
    pub fn is_literal(self) -> bool {
        match self {
            Self::Number | Self::String | Self::Bits | Self::DollarQuote | Self::Unreadable => true,
            Self::Word
            | Self::QuotedWord
            | Self::EscapedWord
            | Self::Parameter
            | Self::Comment
            | Self::Operator
            | Self::Punctuation
            | Self::Other => false,
        }
    }
}

impl<'a> Lexer<'a> {
    /// Begins at the beginning of `text`.
    pub fn new(text: &'a [u8], encoding: Encoding, strings: Strings) -> Self {
        Self { text, at: 0, strings, encoding }
    }

    /// Goes on at `at`, which must not be before the end of the last token.
    pub(super) fn skip_to(&mut self, at: usize) {
        debug_assert!(self.at <= at && at <= self.text.len(), "only forward");
        self.at = at;
    }

    fn byte(&self, at: usize) -> u8 {
        // Zero is of no class that continues anything.
        self.text.get(at).copied().unwrap_or(0)
    }

    /// First offset from `at` whose byte is not of `class`.
    fn end_of(&self, mut at: usize, class: u8) -> usize {
        while self.text.get(at).is_some_and(|&byte| CLASS[usize::from(byte)] & class != 0) {
            at += 1;
        }
        at
    }

    /// Kind and end of the token that begins at `start` with `first`. `None`: it cannot be told.
    fn token(&self, start: usize, first: u8) -> Option<(Kind, usize)> {
        let next = self.byte(start + 1);
        match first {
            b'\'' => Some((Kind::String, self.plain_string(start)?)),
            b'"' => Some((Kind::QuotedWord, self.quoted_word(start)?)),
            b'e' | b'E' if next == b'\'' => Some((Kind::String, self.escape_string(start + 1)?)),
            b'b' | b'B' | b'x' | b'X' if next == b'\'' => Some((Kind::Bits, self.bits(start + 1)?)),
            b'u' | b'U' if next == b'&' && self.byte(start + 2) == b'\'' => {
                Some((Kind::String, self.standard_string(start + 2)?))
            }
            b'u' | b'U' if next == b'&' && self.byte(start + 2) == b'"' => {
                Some((Kind::EscapedWord, self.quoted_word(start + 2)?))
            }
            b'$' => self.dollar(start),
            b'-' if next == b'-' => Some((Kind::Comment, self.end_of_line(start))),
            b'/' if next == b'*' => Some((Kind::Comment, self.block_comment(start)?)),
            b'.' if next == b'.' => Some((Kind::Punctuation, start + 2)),
            b'.' if next.is_ascii_digit() => Some((Kind::Number, self.number(start)?)),
            b'0'..=b'9' => Some((Kind::Number, self.number(start)?)),
            b',' | b'(' | b')' | b'[' | b']' | b';' | b':' | b'.' => {
                Some((Kind::Punctuation, start + 1))
            }
            0 => None,
            _ if is(first, WORD_START) => Some((Kind::Word, self.word(start)?)),
            _ if is(first, OPERATOR) => Some((Kind::Operator, self.operator(start))),
            _ => Some((Kind::Other, start + 1)),
        }
    }

    /// End of letters, digits, `_` and `$`.
    fn word(&self, start: usize) -> Option<usize> {
        let end = self.end_of(start, WORD);
        self.plain(start, end)
    }

    /// `end`, if the bytes before it mean what they look like.
    fn plain(&self, start: usize, end: usize) -> Option<usize> {
        match self.encoding {
            Encoding::Safe => Some(end),
            Encoding::Unsafe => self.text[start..end].is_ascii().then_some(end),
        }
    }

    /// Layout: digits with `_`, `.`, digits, exponent; or `0x`, `0o`, `0b` and what follows. A `.`
    /// before another `.` belongs to neither number.
    fn number(&self, start: usize) -> Option<usize> {
        let mut at = self.end_of(start, DIGIT);
        if self.byte(at) == b'.' && self.byte(at + 1) != b'.' {
            at = self.end_of(at + 1, DIGIT);
        }
        if matches!(self.byte(at), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(at + 1), b'+' | b'-'));
            if self.byte(at + 1 + sign).is_ascii_digit() {
                at = self.end_of(at + 1 + sign, DIGIT);
            }
        }
        if is(self.byte(at), WORD_START) {
            at = self.end_of(at, WORD);
        }
        self.plain(start, at)
    }

    fn operator(&self, start: usize) -> usize {
        let mut at = start + 1;
        while is(self.byte(at), OPERATOR) {
            match (self.byte(at), self.byte(at + 1)) {
                (b'-', b'-') | (b'/', b'*') => break,
                _ => at += 1,
            }
        }
        at
    }

    fn end_of_line(&self, at: usize) -> usize {
        memchr2(b'\n', b'\r', &self.text[at..]).map_or(self.text.len(), |found| at + found)
    }

    fn block_comment(&self, start: usize) -> Option<usize> {
        let (mut at, mut depth) = (start + 2, 1_usize);
        loop {
            at += memchr2(b'*', b'/', self.text.get(at..)?)?;
            match (self.byte(at), self.byte(at + 1)) {
                (b'*', b'/') => {
                    at += 2;
                    depth -= 1;
                    if depth == 0 {
                        return Some(at);
                    }
                }
                (b'/', b'*') => {
                    at += 2;
                    depth += 1;
                }
                _ => at += 1,
            }
        }
    }

    /// `$1`, `$tag$…$tag$`, or a `$` that means nothing.
    fn dollar(&self, start: usize) -> Option<(Kind, usize)> {
        if self.byte(start + 1).is_ascii_digit() {
            let mut at = start + 2;
            while self.byte(at).is_ascii_digit() {
                at += 1;
            }
            return Some((Kind::Parameter, at));
        }
        let mut at = start + 1;
        if is(self.byte(at), WORD_START) {
            while self.byte(at) != b'$' && is(self.byte(at), WORD) {
                at += 1;
            }
        }
        if self.byte(at) != b'$' {
            return Some((Kind::Other, start + 1));
        }
        let end = self.plain(start, at + 1)?;
        let tag = &self.text[start..end];
        let close = memmem::find(&self.text[end..], tag)?;
        Some((Kind::DollarQuote, end + close + tag.len()))
    }

    /// `open` is the offset of the first quote here and in what follows.
    fn quoted_word(&self, open: usize) -> Option<usize> {
        let mut at = open + 1;
        loop {
            at += memchr(b'"', self.text.get(at..)?)? + 1;
            if self.byte(at) != b'"' {
                return Some(at);
            }
            at += 1;
        }
    }

    fn plain_string(&self, open: usize) -> Option<usize> {
        match self.strings {
            Strings::Standard => self.standard_string(open),
            Strings::Unsure => self.unsure_string(open),
        }
    }

    fn standard_string(&self, open: usize) -> Option<usize> {
        let mut at = open + 1;
        loop {
            at += memchr(b'\'', self.text.get(at..)?)? + 1;
            if self.byte(at) == b'\'' {
                at += 1;
                continue;
            }
            match self.continued(at) {
                Some(next) => at = next,
                None => return Some(at),
            }
        }
    }

    /// Bit strings know no doubled quote: the second one begins another literal.
    fn bits(&self, open: usize) -> Option<usize> {
        let mut at = open + 1;
        loop {
            at += memchr(b'\'', self.text.get(at..)?)? + 1;
            match self.continued(at) {
                Some(next) => at = next,
                None => return Some(at),
            }
        }
    }

    fn escape_string(&self, open: usize) -> Option<usize> {
        let mut at = open + 1;
        loop {
            at += memchr2(b'\'', b'\\', self.text.get(at..)?)?;
            if self.text[at] == b'\\' || self.byte(at + 1) == b'\'' {
                at += 2;
                continue;
            }
            at += 1;
            match self.continued(at) {
                Some(next) => at = next,
                None => return self.plain(open, at),
            }
        }
    }

    /// End of a string that ends at the same place whether backslashes escape or not.
    fn unsure_string(&self, open: usize) -> Option<usize> {
        let (mut at, mut backslashes) = (open + 1, false);
        loop {
            at += memchr2(b'\'', b'\\', self.text.get(at..)?)?;
            if self.text[at] == b'\\' {
                let end = self.end_of(at, BACKSLASH);
                if (end - at) % 2 == 1 && self.byte(end) == b'\'' {
                    return None;
                }
                (at, backslashes) = (end, true);
                continue;
            }
            at += 1;
            if self.byte(at) == b'\'' {
                at += 1;
                continue;
            }
            match self.continued(at) {
                Some(next) => at = next,
                // Which of the backslashes are some is not known in an unsafe encoding.
                None if backslashes => return self.plain(open, at),
                None => return Some(at),
            }
        }
    }

    /// Where a string goes on that was closed just before `at`: behind white space with a line end,
    /// and line comments, if a quote follows.
    fn continued(&self, mut at: usize) -> Option<usize> {
        let mut line_ended = false;
        loop {
            match self.text.get(at)? {
                b'\n' | b'\r' => line_ended = true,
                b' ' | b'\t' | b'\x0b' | b'\x0c' => {}
                b'-' if self.byte(at + 1) == b'-' => {
                    at = self.end_of_line(at);
                    continue;
                }
                b'\'' if line_ended => return Some(at + 1),
                _ => return None,
            }
            at += 1;
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let start = self.end_of(self.at, SPACE);
        let first = *self.text.get(start)?;
        let (kind, end) = self.token(start, first).unwrap_or((Kind::Unreadable, self.text.len()));
        debug_assert!(start < end && end <= self.text.len(), "a token has bytes");
        self.at = end;
        Some(Token { kind, start, end })
    }
}

/// Whether a name or number could go on with this byte.
pub(super) fn continues_word(byte: u8) -> bool {
    is(byte, WORD)
}

const SPACE: u8 = 1;
const WORD_START: u8 = 2;
const WORD: u8 = 4;
const DIGIT: u8 = 8;
const OPERATOR: u8 = 16;
const BACKSLASH: u8 = 32;

const fn is(byte: u8, class: u8) -> bool {
    CLASS[byte as usize] & class != 0
}

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' => SPACE,
            b'A'..=b'Z' | b'a'..=b'z' | 0x80.. => WORD_START | WORD,
            // Digits of a number may be parted by it.
            b'_' => WORD_START | WORD | DIGIT,
            b'0'..=b'9' => WORD | DIGIT,
            b'$' => WORD,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*'
            | b'/' | b'%' | b'<' | b'>' | b'=' => OPERATOR,
            b'\\' => BACKSLASH,
            _ => 0,
        };
        byte += 1;
    }
    table
}
