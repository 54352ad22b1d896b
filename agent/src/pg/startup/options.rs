//! The startup parameter `options`: what the server would make of it.
//!
//! ```text
//!   -c work_mem=1MB  --search-path=a\ b  -cgeqo=off  -Fd 5
//!   |  setting       |                   |           ||
//!   |                setting             setting     |switch `d` with an argument
//!   |                                                switch `F`
//!   words are split at white space; a backslash takes the next byte as it is
//! ```
//!
//! The server hands the words to `getopt`, so letters may stand together behind one dash and an
//! argument may follow its letter with or without a space. A reader that only looks for `-c` would
//! see less than is set.
//!
//! Source: PostgreSQL documentation, "Message Formats", `StartupMessage`, and "postgres";
//! `pg_split_opts` (`src/backend/utils/init/postinit.c`), `process_postgres_switches`
//! (`src/backend/tcop/postgres.c`) and `ParseLongOption` (`src/backend/utils/misc/guc.c`) of
//! PostgreSQL 15 to 18.

use crate::pg::error::BytesFault;

/// Options of one startup packet: more than any client has reason to give.
pub const OPTIONS_MAX: usize = 256;

/// Letters that take no argument.
const ALONE: &[u8] = b"bEeFijlnOPsT";
/// Letters that take one; so does a second dash, as a letter like the others.
const WITH_ARGUMENT: &[u8] = b"BCDdfhkNprStvW";

/// One item of `options`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartupOption {
    /// `-c name=value` or `--name=value`.
    Setting {
        /// Name with underscores for dashes, as the server makes them; upper and lower case are
        /// the same name to it and are kept here.
        name: Vec<u8>,
        /// Everything behind the first equals sign.
        value: Vec<u8>,
    },
    /// Another switch that the server knows, most of which stand for a setting (`-S` for
    /// `work_mem`, `-O` for `allow_system_table_mods`).
    Switch {
        /// Its letter.
        letter: u8,
        /// Its argument, for letters that take one.
        argument: Option<Vec<u8>>,
    },
    /// What the server refuses the connection for.
    Invalid(Invalid),
}

/// Why the server would refuse an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalid {
    /// A letter that is no switch.
    Letter(u8),
    /// A switch at the very end whose argument is missing.
    Argument {
        /// Its letter.
        letter: u8,
    },
    /// A setting without an equals sign.
    Value {
        /// What stands where `name=value` should.
        name: Vec<u8>,
    },
    /// A word that belongs to no switch.
    Word(Vec<u8>),
}

/// Items of the value of the startup parameter `options`, in the order they take effect.
///
/// Limits: [`OPTIONS_MAX`] items; the value itself is bounded as its packet is.
/// Errors: [`BytesFault::TooManyParameters`].
pub fn options(value: &[u8]) -> Result<Vec<StartupOption>, BytesFault> {
    let mut words = Words(value);
    let mut items = Vec::new();
    let mut switches = true;
    while let Some(word) = words.next() {
        match word.strip_prefix(b"-") {
            // Two dashes alone: no switches behind, and nothing else is allowed either.
            Some(b"-") if switches => switches = false,
            Some([_, ..]) if switches => cluster(&word[1..], &mut words, &mut items)?,
            Some(_) | None => push(&mut items, StartupOption::Invalid(Invalid::Word(word)))?,
        }
    }
    Ok(items)
}

/// Letters behind one dash, the last of which may take an argument.
fn cluster(
    mut letters: &[u8],
    words: &mut Words<'_>,
    items: &mut Vec<StartupOption>,
) -> Result<(), BytesFault> {
    while let Some((&letter, rest)) = letters.split_first() {
        letters = rest;
        let takes = letter == b'c' || letter == b'-' || WITH_ARGUMENT.contains(&letter);
        let item = if takes {
            letters = &[];
            let argument = if rest.is_empty() { words.next() } else { Some(rest.to_vec()) };
            match argument {
                None => StartupOption::Invalid(Invalid::Argument { letter }),
                Some(argument) if matches!(letter, b'c' | b'-') => setting(argument),
                argument => StartupOption::Switch { letter, argument },
            }
        } else if ALONE.contains(&letter) {
            StartupOption::Switch { letter, argument: None }
        } else {
            StartupOption::Invalid(Invalid::Letter(letter))
        };
        push(items, item)?;
    }
    Ok(())
}

fn setting(argument: Vec<u8>) -> StartupOption {
    let Some(at) = argument.iter().position(|byte| *byte == b'=') else {
        return StartupOption::Invalid(Invalid::Value { name: argument });
    };
    let name = argument[..at].iter().map(|byte| if *byte == b'-' { b'_' } else { *byte });
    StartupOption::Setting { name: name.collect(), value: argument[at + 1..].to_vec() }
}

fn push(items: &mut Vec<StartupOption>, item: StartupOption) -> Result<(), BytesFault> {
    if items.len() >= OPTIONS_MAX {
        return Err(BytesFault::TooManyParameters { max: OPTIONS_MAX });
    }
    items.push(item);
    Ok(())
}

/// Words between white space, without the backslashes that protected bytes of them.
struct Words<'a>(&'a [u8]);

impl Iterator for Words<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let begin = self.0.iter().position(|byte| !is_space(*byte))?;
        let mut word = Vec::new();
        let mut escaped = false;
        let mut rest = &self.0[begin..];
        while let Some((&byte, behind)) = rest.split_first() {
            if !escaped && is_space(byte) {
                break;
            }
            rest = behind;
            escaped = !escaped && byte == b'\\';
            if !escaped {
                word.push(byte);
            }
        }
        self.0 = rest;
        Some(word)
    }
}

/// `isspace` of the C locale, in which the server does this.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> StartupOption {
        StartupOption::Setting { name: name.into(), value: value.into() }
    }

    fn switch(letter: u8, argument: Option<&str>) -> StartupOption {
        StartupOption::Switch { letter, argument: argument.map(Into::into) }
    }

    fn word(word: &str) -> StartupOption {
        StartupOption::Invalid(Invalid::Word(word.into()))
    }

    #[track_caller]
    fn check(value: &str, expected: &[StartupOption]) {
        assert_eq!(options(value.as_bytes()).as_deref(), Ok(expected), "{value:?}");
    }

    #[test]
    fn every_way_to_write_a_setting_is_seen() {
        for value in [
            "-c work_mem=1MB",
            "-cwork_mem=1MB",
            "--work_mem=1MB",
            "-c work-mem=1MB",
            "--work-mem=1MB",
            " \t\n\u{b}\u{c}\r-c\twork_mem=1MB\n",
            "-c \\work_mem=1MB",
            "\\-c work_mem=1MB",
            "-\\c work_mem\\=1MB",
        ] {
            check(value, &[set("work_mem", "1MB")]);
        }
        check("-sFc a=1", &[switch(b's', None), switch(b'F', None), set("a", "1")]);
        check("-sca=1", &[switch(b's', None), set("a", "1")]);
        check("-s-a=1", &[switch(b's', None), set("a", "1")]);
    }

    #[test]
    fn values_are_taken_as_they_are() {
        check("-c a=b=c", &[set("a", "b=c")]);
        check("-c a=", &[set("a", "")]);
        check("-c =b", &[set("", "b")]);
        check("-c A.b-C=d-e", &[set("A.b_C", "d-e")]);
        check("-c a=1 -c a=2", &[set("a", "1"), set("a", "2")]);
        check("-c --", &[StartupOption::Invalid(Invalid::Value { name: "--".into() })]);
        check("-c -c=1", &[set("_c", "1")]);
    }

    #[test]
    fn backslash_protects_one_byte() {
        check(r"-c search_path=a\ b,c", &[set("search_path", "a b,c")]);
        check(r"-c a=\\", &[set("a", r"\")]);
        check(r"-c a=\\\ b", &[set("a", r"\ b")]);
        check(r"-c a=\\ b", &[set("a", r"\"), word("b")]);
        check(r"-c a=\", &[set("a", "")]);
        check(r"-c \", &[StartupOption::Invalid(Invalid::Value { name: Vec::new() })]);
    }

    #[test]
    fn other_switches_are_kept_as_such() {
        check("-S 100 -O", &[switch(b'S', Some("100")), switch(b'O', None)]);
        check("-d5 -fs", &[switch(b'd', Some("5")), switch(b'f', Some("s"))]);
        check("-W -c", &[switch(b'W', Some("-c"))]);
        for letter in ALONE {
            check(&format!("-{}", char::from(*letter)), &[switch(*letter, None)]);
        }
        for letter in WITH_ARGUMENT {
            check(&format!("-{}x", char::from(*letter)), &[switch(*letter, Some("x"))]);
        }
    }

    #[test]
    fn what_the_server_refuses_is_named() {
        check("-Z", &[StartupOption::Invalid(Invalid::Letter(b'Z'))]);
        check("-:", &[StartupOption::Invalid(Invalid::Letter(b':'))]);
        check("-c", &[StartupOption::Invalid(Invalid::Argument { letter: b'c' })]);
        check("-S", &[StartupOption::Invalid(Invalid::Argument { letter: b'S' })]);
        check("--single", &[StartupOption::Invalid(Invalid::Value { name: "single".into() })]);
        check("- x", &[word("-"), word("x")]);
        // Two dashes alone end the switches.
        check("-- work_mem=1MB -c x=", &[word("work_mem=1MB"), word("-c"), word("x=")]);
        check(r"\", &[word("")]);
        // `getopt` looks for switches behind words, too.
        check("x -c a=1", &[word("x"), set("a", "1")]);
    }

    #[test]
    fn nothing_is_no_option() {
        for value in ["", " ", "\t\n\r ", "--", " -- "] {
            check(value, &[]);
        }
    }

    #[test]
    fn items_are_counted() {
        let letters = "s".repeat(OPTIONS_MAX);
        let all = options(format!("-{letters}").as_bytes()).expect("as many as allowed");
        assert_eq!(all.len(), OPTIONS_MAX);
        let too_many = Err(BytesFault::TooManyParameters { max: OPTIONS_MAX });
        assert_eq!(options(format!("-s{letters}").as_bytes()), too_many);
        assert_eq!(options("x ".repeat(OPTIONS_MAX + 1).as_bytes()), too_many);
    }
}
