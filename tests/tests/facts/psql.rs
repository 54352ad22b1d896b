//! Cuts the files of PostgreSQL's regression suite into what psql would send.

use pgward::sql::lex::{Encoding, Kind, Lexer, Strings};

/// Commands of psql that send what was typed so far.
const SENDING: [&[u8]; 12] = [
    b"g",
    b"gx",
    b"gset",
    b"gexec",
    b"gdesc",
    b"watch",
    b"crosstabview",
    b"bind",
    b"bind_named",
    b"parse",
    b"sendpipeline",
    b"gsets",
];

/// Texts of a file, in order.
pub(crate) fn statements(file: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader { file, at: 0, typed: Vec::new(), found: Vec::new() };
    while reader.at < file.len() {
        reader.read();
    }
    reader.send();
    reader.found
}

struct Reader<'f> {
    file: &'f [u8],
    at: usize,
    typed: Vec<u8>,
    found: Vec<Vec<u8>>,
}

/// What nests, so that a semicolon inside does not end the text.
#[derive(Default)]
struct Depth {
    words: usize,
    parentheses: usize,
    blocks: usize,
    routine: bool,
    create: bool,
}

impl Reader<'_> {
    /// Reads up to the end of a text, or of a command of psql.
    fn read(&mut self) {
        let mut depth = Depth::of(&self.typed);
        let start = self.at;
        for token in Lexer::new(&self.file[start..], Encoding::Safe, Strings::Standard) {
            let word = &self.file[start + token.start..start + token.end];
            let behind = start + token.end;
            if word.first() == Some(&b'\\') {
                self.typed.extend_from_slice(&self.file[start..start + token.start]);
                self.at = start + token.start + 1;
                return self.command();
            }
            depth.meet(token.kind, word);
            if word == b";" && depth.parentheses == 0 && depth.blocks == 0 {
                self.typed.extend_from_slice(&self.file[start..behind]);
                self.at = behind;
                self.send();
                return;
            }
        }
        self.typed.extend_from_slice(&self.file[start..]);
        self.at = self.file.len();
    }

    /// Reads a command of psql, behind its backslash.
    fn command(&mut self) {
        let rest = &self.file[self.at..];
        if rest.first() == Some(&b';') {
            // A semicolon that does not send.
            self.typed.push(b';');
            self.at += 1;
            return;
        }
        let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |end| end + 1);
        let line = &rest[..end];
        let name: Vec<u8> = line
            .iter()
            .copied()
            .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            .collect();
        self.at += end;
        if SENDING.contains(&&name[..]) {
            self.send();
        } else if name == b"r" || name == b"reset" {
            self.typed.clear();
        } else if name == b"copy" && contains(line, b"from stdin") {
            self.skip_rows();
        }
    }

    fn send(&mut self) {
        let text = std::mem::take(&mut self.typed);
        let mut tokens = Lexer::new(&text, Encoding::Safe, Strings::Standard);
        let first = tokens.find(|token| token.kind != Kind::Comment);
        let Some(first) = first else { return };
        let copy = text[first.start..first.end].eq_ignore_ascii_case(b"copy");
        if copy && contains(&text, b"from stdin") {
            self.skip_rows();
        }
        self.found.push(text);
    }

    /// Skips rows of COPY, up to the line that ends them. Where a statement comes first there are none: it fails.
    fn skip_rows(&mut self) {
        let mut at = self.at;
        for line in self.file[self.at..].split_inclusive(|&byte| byte == b'\n') {
            at += line.len();
            let line = line.trim_ascii_end();
            if line == b"\\." {
                self.at = at;
                return;
            }
            if line.ends_with(b";") {
                return;
            }
        }
    }
}

impl Depth {
    /// What nests at the end of what was typed before.
    fn of(typed: &[u8]) -> Self {
        let mut depth = Self::default();
        for token in Lexer::new(typed, Encoding::Safe, Strings::Standard) {
            depth.meet(token.kind, &typed[token.start..token.end]);
        }
        depth
    }

    fn meet(&mut self, kind: Kind, word: &[u8]) {
        match word {
            b"(" => self.parentheses += 1,
            b")" => self.parentheses = self.parentheses.saturating_sub(1),
            // Behind a semicolon that does not send, and is not inside of a routine.
            b";" if self.parentheses == 0 && self.blocks == 0 => *self = Self::default(),
            _ => {}
        }
        if kind != Kind::Word {
            return;
        }
        let is = |other: &str| word.eq_ignore_ascii_case(other.as_bytes());
        self.words += 1;
        match self.words {
            1 => self.create = is("create"),
            2..=4 if self.create && (is("function") || is("procedure")) => self.routine = true,
            _ => {}
        }
        if self.routine && self.parentheses == 0 {
            if is("begin") || (is("case") && self.blocks > 0) {
                self.blocks += 1;
            } else if is("end") {
                self.blocks = self.blocks.saturating_sub(1);
            }
        }
    }
}

/// Whether words follow each other in a text, in any case and with any blanks between.
fn contains(text: &[u8], words: &[u8]) -> bool {
    let plain = text.to_ascii_lowercase();
    let plain: Vec<&[u8]> =
        plain.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).collect();
    let words: Vec<&[u8]> = words.split(|&byte| byte == b' ').collect();
    let same = |found: &&[u8], word: &&[u8]| found.strip_suffix(b";").unwrap_or(found) == *word;
    plain.windows(words.len()).any(|found| found.iter().zip(&words).all(|(a, b)| same(a, b)))
}

#[test]
fn files_are_cut_as_psql_does() {
    let file =
        b"SELECT 1; select '\\x;' -- a;\n , 2;\n\\echo it's\nCOPY t FROM stdin;\n1\ta\n\\.\n\
        SELECT 3 \\; SELECT 4;\nselect 5 \\gset\n\\if x\ncopy t from stdin (x);\nSELECT 6;\n\
        CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE 1 END; SELECT 2; END;\n\
        CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);\nSELECT 7";
    let found: Vec<String> = statements(file)
        .iter()
        .map(|text| String::from_utf8_lossy(text.trim_ascii()).into_owned())
        .collect();
    assert_eq!(
        found,
        [
            "SELECT 1;",
            "select '\\x;' -- a;\n , 2;",
            "COPY t FROM stdin;",
            "SELECT 3 ; SELECT 4;",
            "select 5",
            "copy t from stdin (x);",
            "SELECT 6;",
            "CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE 1 END; SELECT 2; END;",
            "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);",
            "SELECT 7",
        ]
    );
}
