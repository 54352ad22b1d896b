//! A text without its literals.
//!
//! Each literal is replaced by a parameter, numbered behind the highest that the text has; each
//! comment by `/* */`, since people and programs write values into comments. White space stays.
//! A space is put where a parameter would stick to a name or number. No byte of a literal is in
//! the result, it has the same tokens otherwise, and doing it again changes nothing.

use super::lex::{Encoding, Kind, Lexer, Strings, Token, continues_word};
use super::secrets::{holds_secret, is_secret_name, names_password};

/// What stands for a comment.
const COMMENT: &[u8] = b"/* */";
/// Parameters have 16 bits on the wire; a number beyond this is refused by every server, and is not
/// counted when literals get theirs.
const PARAMETER_MAX: u64 = i32::MAX as u64;

/// Most literals and comments of one text. The text from the last one on is hidden as a whole.
pub const PIECES_MAX: usize = 1 << 16;

/// What was found in a text.
#[derive(Clone, Debug, Default)]
pub struct Normalised {
    /// In their order.
    pieces: Vec<Piece>,
    highest_parameter: u64,
    unreadable: bool,
    secret: Secret,
}

/// What is secret in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Secret {
    /// Nothing that looks like it.
    #[default]
    Nothing,
    /// Some pieces: [`Piece::secret`].
    Pieces,
    /// A name says that secrets are beside it: all its strings, and whatever is bound to it.
    Strings,
    /// Where it begins and ends cannot be told: all of the text, and whatever is bound to it.
    All,
}

/// A literal, comment or slip of a pen in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is.
    pub token: Token,
    /// Whether it must not be stored.
    pub secret: bool,
}

/// Which pieces are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// All.
    All,
    /// Those that must not be stored.
    Secrets,
}

impl Normalised {
    /// Looks at a text. Takes time in proportion to its length.
    pub fn of(text: &[u8], encoding: Encoding, strings: Strings) -> Self {
        let mut found = Self::default();
        found.read(text, encoding, strings);
        found
    }

    fn read(&mut self, text: &[u8], encoding: Encoding, strings: Strings) {
        let mut reading = Reading::default();
        let mut tokens = Lexer::new(text, encoding, strings);
        while let Some(mut token) = tokens.next() {
            let bytes = &text[token.start..token.end];
            let secret = match token.kind {
                Kind::Word | Kind::QuotedWord | Kind::EscapedWord => {
                    if !reading.word(token.kind, bytes) {
                        continue;
                    }
                    token.end = end_of_slip(text, token.end);
                    tokens.skip_to(token.end);
                    true
                }
                Kind::Parameter => {
                    self.count(bytes);
                    reading.other();
                    continue;
                }
                Kind::Number if reading.after_name_of_secret() => {
                    token.end = end_of_slip(text, token.end);
                    tokens.skip_to(token.end);
                    true
                }
                Kind::Number => false,
                Kind::String | Kind::Bits | Kind::DollarQuote | Kind::Comment => {
                    holds_secret(bytes)
                }
                Kind::Unreadable => {
                    self.unreadable = true;
                    holds_secret(bytes)
                }
                Kind::Punctuation if bytes == b";" => {
                    reading.end_statement();
                    continue;
                }
                Kind::Operator | Kind::Punctuation | Kind::Other => {
                    reading.other();
                    continue;
                }
            };
            if token.kind != Kind::Comment {
                reading.other();
            }
            self.pieces.push(Piece { token, secret });
            if self.pieces.len() == PIECES_MAX {
                self.hide_rest(text);
                break;
            }
        }
        self.classify(text, reading.names_secret);
    }

    /// Makes the last piece reach to the end.
    fn hide_rest(&mut self, text: &[u8]) {
        if let Some(Piece { token, secret }) = self.pieces.last_mut() {
            (token.kind, token.end) = (Kind::Unreadable, text.len());
            *secret = holds_secret(&text[token.start..]);
            self.unreadable = true;
        }
    }

    fn count(&mut self, parameter: &[u8]) {
        let number = parameter[1..]
            .iter()
            .try_fold(0_u64, |n, digit| n.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        if let Some(number) = number.filter(|&number| number <= PARAMETER_MAX) {
            self.highest_parameter = self.highest_parameter.max(number);
        }
    }

    fn classify(&mut self, text: &[u8], names_secret: bool) {
        if names_secret {
            for piece in self.pieces.iter_mut().filter(|p| p.token.kind != Kind::Number) {
                piece.secret = true;
            }
        }
        self.secret = if self.unreadable && (names_secret || names_password(text)) {
            Secret::All
        } else if names_secret {
            Secret::Strings
        } else if self.pieces.iter().any(|piece| piece.secret) {
            Secret::Pieces
        } else {
            Secret::Nothing
        };
    }

    /// Literals and comments.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The highest number of a parameter; 0 when there is none.
    pub fn highest_parameter(&self) -> u64 {
        self.highest_parameter
    }

    /// Whether all tokens could be told.
    pub fn is_readable(&self) -> bool {
        !self.unreadable
    }

    /// What is secret.
    pub fn secret(&self) -> Secret {
        self.secret
    }

    /// Appends `text`, which is the one that was read, with pieces replaced. With
    /// [`Replace::Secrets`] a piece that is replaced has the number that it has with
    /// [`Replace::All`].
    pub fn write(&self, text: &[u8], replace: Replace, out: &mut Vec<u8>) {
        let (mut copied, mut number, mut stuck) = (0, self.highest_parameter, false);
        out.reserve(text.len());
        for piece in &self.pieces {
            let Token { kind, start, end } = piece.token;
            number += u64::from(kind != Kind::Comment);
            if replace == Replace::Secrets && !piece.secret {
                continue;
            }
            copy(&text[copied..start], &mut stuck, out);
            if kind == Kind::Comment {
                out.extend_from_slice(COMMENT);
                stuck = false;
            } else {
                parameter(number, out);
                stuck = true;
            }
            copied = end;
        }
        copy(&text[copied..], &mut stuck, out);
    }
}

/// Where in a statement we are.
#[derive(Debug, Default)]
struct Reading {
    /// Words of the statement so far, up to two.
    words: u8,
    /// The first word was `CREATE` or `ALTER`.
    defines: bool,
    /// The second was `ROLE`, `USER` or `GROUP`.
    of_role: bool,
    /// A name that holds secrets was just before.
    after_name: bool,
    /// There was one anywhere.
    names_secret: bool,
}

impl Reading {
    /// Takes a word; gives whether it is itself what should have been a literal: a password without
    /// quotes, or in those of a name.
    fn word(&mut self, kind: Kind, bytes: &[u8]) -> bool {
        let slip = match kind {
            Kind::QuotedWord | Kind::EscapedWord => self.after_name,
            _ => self.after_name_of_secret() && !follows_password(bytes),
        };
        let named = match kind {
            Kind::QuotedWord => is_secret_name(&bytes[1..bytes.len() - 1]),
            // It may spell anything, by an escape character that is said behind it.
            Kind::EscapedWord => true,
            _ => is_secret_name(bytes),
        };
        match self.words {
            0 => self.defines = is_one_of(bytes, &["create", "alter"]),
            1 => self.of_role = self.defines && is_one_of(bytes, &["role", "user", "group"]),
            _ => {}
        }
        self.words = (self.words + 1).min(2);
        self.names_secret |= named;
        self.after_name = named && !slip;
        slip
    }

    fn after_name_of_secret(&self) -> bool {
        self.after_name && self.of_role
    }

    fn other(&mut self) {
        self.after_name = false;
    }

    fn end_statement(&mut self) {
        *self = Self { names_secret: self.names_secret, ..Self::default() };
    }
}

/// What may stand behind `PASSWORD`, or behind a role of that name, without being one.
fn follows_password(word: &[u8]) -> bool {
    const OPTIONS: [&str; 26] = [
        "null",
        "superuser",
        "nosuperuser",
        "createdb",
        "nocreatedb",
        "createrole",
        "nocreaterole",
        "inherit",
        "noinherit",
        "login",
        "nologin",
        "replication",
        "noreplication",
        "bypassrls",
        "nobypassrls",
        "connection",
        "valid",
        "in",
        "role",
        "admin",
        "user",
        "sysid",
        "set",
        "reset",
        "with",
        "rename",
    ];
    is_one_of(word, &OPTIONS)
}

fn is_one_of(word: &[u8], words: &[&str]) -> bool {
    words.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(word))
}

/// End of a password that somebody wrote without quotes: up to white space, `;` or a quote.
fn end_of_slip(text: &[u8], from: usize) -> usize {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b';' | b'\'' | b'"' | 0);
    from + text[from..].iter().position(ends).unwrap_or(text.len() - from)
}

/// Appends text that stays, behind a parameter if `stuck`.
fn copy(bytes: &[u8], stuck: &mut bool, out: &mut Vec<u8>) {
    let Some(&first) = bytes.first() else {
        return;
    };
    if *stuck && continues_word(first) {
        out.push(b' ');
    }
    *stuck = false;
    out.extend_from_slice(bytes);
}

fn parameter(number: u64, out: &mut Vec<u8>) {
    if out.last().is_some_and(|&last| continues_word(last)) {
        out.push(b' ');
    }
    out.push(b'$');
    let mut digits = [0_u8; 20];
    let (mut left, mut at) = (number, digits.len());
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
