//! Attempts, and how a file tells of them.
//!
//! ```text
//!   @ name
//!   key: value          any of: forms, goal, startup (several), data, bytes, undo, never
//!   text of a statement
//!   ;;                  between statements that are sent one after the other
//!   text of a statement
//! ```
//!
//! What stands before the first `@` is a comment. In a text, `{blanks:n}`, `{open:n}`, `{close:n}`, `{list:n}` and
//! `{name:n}` stand for something of that length, `{socket}`, `{port}` and `{data}` for where the server is, and with
//! `bytes: yes` `\xNN` for a byte.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};

/// How statements become messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Each is a Query.
    Simple,
    /// Each is a Parse, Bind, Describe, Execute and Sync.
    Extended,
    /// The same with one Sync for all.
    Pipeline,
    /// The lines are messages, and answers are waited for.
    Raw,
    /// The lines are messages, sent without waiting.
    Rush,
}

/// What an attempt is after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// A value of the forbidden relation.
    Canary,
    /// This text, which is not in what is sent.
    Sees(String),
    /// A change of the database: this question, answered with true.
    Effect(String),
}

/// One attempt.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) name: String,
    pub(crate) forms: Vec<Form>,
    pub(crate) goal: Goal,
    /// Parameters of the startup message besides user and database.
    pub(crate) startup: Vec<(String, String)>,
    /// Lines for a `COPY … FROM STDIN`.
    pub(crate) data: Option<String>,
    /// What brings back what is not of the database.
    pub(crate) undo: Option<String>,
    /// Why the server itself never lets it reach its goal.
    pub(crate) never: Option<String>,
    /// Statements, or lines of messages.
    pub(crate) steps: Vec<Vec<u8>>,
}

/// Where the server is.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) socket: String,
    pub(crate) port: u16,
    pub(crate) data: String,
}

impl Form {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Pipeline => "pipeline",
            Self::Raw => "raw",
            Self::Rush => "rush",
        }
    }
}

/// Reads the attempts of a file.
pub(crate) fn read(text: &str, site: &Site) -> Result<Vec<Attempt>> {
    let (_, blocks) = text.split_once("\n@ ").context("no attempt")?;
    blocks
        .split("\n@ ")
        .map(|block| {
            let (name, rest) = block.split_once('\n').context("an attempt without a text")?;
            one(name, rest, site).with_context(|| format!("attempt `{name}`"))
        })
        .collect()
}

fn one(name: &str, text: &str, site: &Site) -> Result<Attempt> {
    let mut attempt = Attempt {
        name: name.to_owned(),
        forms: vec![Form::Simple, Form::Extended],
        goal: Goal::Canary,
        startup: Vec::new(),
        data: None,
        undo: None,
        never: None,
        steps: Vec::new(),
    };
    let mut escapes = false;
    let mut rest = text;
    while let Some((line, after)) = rest.split_once('\n') {
        let Some((key, value)) = line.split_once(": ") else { break };
        match key {
            "forms" => attempt.forms = forms(value)?,
            "goal" => attempt.goal = goal(value)?,
            "startup" => {
                let (name, value) = value.split_once('=').context("startup without `=`")?;
                attempt.startup.push((name.to_owned(), value.to_owned()));
            }
            "data" => attempt.data = Some(format!("{value}\n")),
            "bytes" => escapes = value == "yes",
            "undo" => attempt.undo = Some(value.to_owned()),
            "never" => attempt.never = Some(value.to_owned()),
            _ => break,
        }
        rest = after;
    }
    let text = filled(rest.trim_end_matches('\n'), site)?;
    let raw = attempt.forms.iter().any(|form| matches!(form, Form::Raw | Form::Rush));
    let between = if raw { "\n" } else { "\n;;\n" };
    attempt.steps = text.split(between).map(|step| bytes(step, escapes)).collect();
    ensure!(!text.is_empty() && !attempt.forms.is_empty(), "nothing to send");
    Ok(attempt)
}

fn forms(words: &str) -> Result<Vec<Form>> {
    let mut forms = Vec::new();
    for word in words.split(' ') {
        match word {
            "simple" => forms.push(Form::Simple),
            "extended" => forms.push(Form::Extended),
            "pipeline" => forms.push(Form::Pipeline),
            "raw" => forms.extend([Form::Raw, Form::Rush]),
            "rush" => forms.push(Form::Rush),
            _ => bail!("no such form: `{word}`"),
        }
    }
    Ok(forms)
}

fn goal(text: &str) -> Result<Goal> {
    match text.split_once(' ') {
        Some(("sees", text)) => Ok(Goal::Sees(text.to_owned())),
        Some(("effect", question)) => Ok(Goal::Effect(question.to_owned())),
        _ => bail!("no such goal: `{text}`"),
    }
}

/// The text with everything in braces filled in.
fn filled(text: &str, site: &Site) -> Result<String> {
    let mut full = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (word, after) = after.split_once('}').context("a brace that does not close")?;
        full.push_str(before);
        rest = after;
        match word {
            "socket" => full.push_str(&site.socket),
            "port" => write!(full, "{}", site.port)?,
            "data" => full.push_str(&site.data),
            _ => {
                let (what, count) = word.split_once(':').context("a word without a count")?;
                let count: usize = count.parse()?;
                match what {
                    "blanks" => full.push_str(&" ".repeat(count)),
                    "open" => full.push_str(&"(".repeat(count)),
                    "close" => full.push_str(&")".repeat(count)),
                    "name" => full.push_str(&"n".repeat(count)),
                    "list" => {
                        let numbers: Vec<_> = (0..count).map(|n| n.to_string()).collect();
                        full.push_str(&numbers.join(", "));
                    }
                    _ => bail!("no such word: `{what}`"),
                }
            }
        }
    }
    full.push_str(rest);
    Ok(full)
}

/// The bytes of a text, `\xNN` as one byte where asked for.
fn bytes(text: &str, escapes: bool) -> Vec<u8> {
    let mut all = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x").filter(|_| escapes) {
        all.extend_from_slice(before.as_bytes());
        let digits = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match digits {
            Some(byte) => {
                all.push(byte);
                rest = &after[2..];
            }
            None => {
                all.extend_from_slice(b"\\x");
                rest = after;
            }
        }
    }
    all.extend_from_slice(rest.as_bytes());
    all
}

#[test]
fn a_file_tells_of_attempts() -> Result<()> {
    let site = Site { socket: "/s".to_owned(), port: 1, data: "/d".to_owned() };
    let text = "# about\n\n@ a\ngoal: sees X\nbytes: yes\nselect '{port}\\x5c'\n;;\nselect {open:2}\n\n\
                @ b\nforms: raw\nstartup: options=-c a=b\nP s | select 1\nS\n";
    let attempts = read(text, &site)?;
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0].goal, Goal::Sees("X".to_owned()));
    assert_eq!(attempts[0].steps, [b"select '1\\'".to_vec(), b"select ((".to_vec()]);
    assert_eq!(attempts[1].forms, [Form::Raw, Form::Rush]);
    assert_eq!(attempts[1].startup, [("options".to_owned(), "-c a=b".to_owned())]);
    assert_eq!(attempts[1].steps, [b"P s | select 1".to_vec(), b"S".to_vec()]);
    assert!(read("# about\n\n@ a\nforms: none\nselect 1\n", &site).is_err());
    Ok(())
}
