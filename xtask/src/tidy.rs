//! What the compiler can't guard: absences between modules, length of files, commands and tests that documents name,
//! words that belong to one machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::CommandFactory;

use crate::run::{Steps, cargo, command, probe, root, run, say, stdout, target};
use crate::shown::named_tests;

/// Longer files are named, for somebody to ask whether each still holds one idea.
const LINES_MAX: usize = 650;

/// What code of a part of the tree may not name, with the reason.
struct Absence {
    /// A file, or a folder with everything below.
    part: &'static str,
    words: &'static [&'static str],
    reason: &'static str,
}

const IMPURE: &[&str] = &[
    "std::net", // addresses are in `core::net`
    "std::os::unix::net",
    "std::fs",
    "std::thread",
    "std::time::Instant",
    "time::SystemTime",
    "Instant::now",
    "SystemTime::now",
    "rand::",
    "tokio::",
    "nix::",
    "libc::",
    "procfs::",
];

const PURE: &str = "no socket, file, clock, thread or randomness here: time and bytes come in";

const ABSENCES: &[Absence] = &[
    Absence { part: "agent/src/pg", words: IMPURE, reason: PURE },
    Absence { part: "agent/src/sql", words: IMPURE, reason: PURE },
    Absence { part: "agent/src/policy", words: IMPURE, reason: PURE },
    Absence { part: "agent/src/mask", words: IMPURE, reason: PURE },
    Absence { part: "agent/src/audit/chain", words: IMPURE, reason: PURE },
    Absence { part: "agent/src/audit/schema", words: IMPURE, reason: PURE },
    Absence { part: "agent/src/audit/view", words: IMPURE, reason: PURE },
    Absence { part: "agent/src/audit/keys/epoch.rs", words: IMPURE, reason: PURE },
    Absence {
        part: "verify/src",
        words: &["pgward::", "pgward_common::", "std::net", "tokio::"],
        reason: "who checks the trail shares no code with who writes it, and needs no network",
    },
    Absence {
        part: "agent/src/policy",
        words: &["crate::pg"],
        reason: "policy knows no wire type: it is asked with facts",
    },
    Absence {
        part: "agent/src/pg",
        words: &["crate::policy", "crate::audit", "crate::net", "crate::bpf"],
        reason: "the protocol core knows neither policy nor records nor sockets: decisions come in",
    },
    Absence {
        part: "agent/src/net",
        words: &["b'Q'", "b'P'", "b'B'", "b'Z'"],
        reason: "message tags are protocol: sockets are driven by `pg::session`",
    },
    Absence {
        part: "ebpf/src",
        words: &["pgward::", "aya::"],
        reason: "kernel and agent share types only through `common`",
    },
    Absence {
        part: "common/src",
        words: &["std::", "aya_ebpf::"],
        reason: "seen by the kernel side and the agent: neither's own types",
    },
];

/// Checks everything and reports all that is found.
pub(crate) fn tidy() -> Result<()> {
    let files = tracked()?;
    let mut steps = Steps::default();
    steps.step("absences", || absences(&files));
    steps.step("words", || words(&files));
    steps.step("commands in documents", || commands(&files));
    steps.step("tests in documents", || named_tests(&files));
    long_files(&files)?;
    steps.finish()
}

/// Files that git knows or would add, relative to the top folder.
pub(crate) fn tracked() -> Result<Vec<PathBuf>> {
    let list =
        stdout(command("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    // Listed still when removed and not yet committed.
    Ok(list.lines().map(PathBuf::from).filter(|file| root().join(file).is_file()).collect())
}

fn absences(files: &[PathBuf]) -> Result<()> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "rs")) {
        let rules: Vec<_> = ABSENCES.iter().filter(|rule| file.starts_with(rule.part)).collect();
        if rules.is_empty() {
            continue;
        }
        let text = read(file)?;
        for (number, line) in code_lines(&text) {
            for rule in &rules {
                for word in rule.words.iter().filter(|word| names(line, word)) {
                    found.push(format!("{}:{number}: `{word}`: {}", file.display(), rule.reason));
                }
            }
        }
    }
    report(found)
}

/// Lines with code, numbered from 1: without comments, up to the unit tests, which stand last in a file.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.enumerate().map(|(index, line)| (index + 1, line)).take_while(|(_, line)| {
        let line = line.trim();
        line != "#[cfg(test)]"
    })
}

/// Whether a line names `word` as a path of its own: not as the end of a longer name.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
            || (before == Some(':') && line[..at].ends_with("::") && word.contains("::"))
    })
}

/// Words of one machine, and marks of unfinished work.
fn words(files: &[PathBuf]) -> Result<()> {
    // In two halves, so that this file does not hold them.
    let unfinished =
        [["to", "do!("], ["unimpl", "emented!("], ["#[ig", "nore"], ["FIX", "ME"], ["XX", "X"]];
    let mut forbidden: Vec<(String, &str)> =
        unfinished.iter().map(|halves| (halves.concat(), "unfinished or skipped work")).collect();
    let machine = "a path of one machine";
    let home = ["/ho", "me/"].concat();
    forbidden.extend([home.clone(), ["/Us", "ers/"].concat()].map(|word| (word, machine)));
    let folders = [Some(root()), std::env::var_os("HOME").map(PathBuf::from)];
    forbidden.extend(folders.iter().flatten().filter_map(|folder| {
        let shown = format!("{}/", folder.display());
        (shown.len() > 2).then_some((shown, machine))
    }));

    let mut found = Vec::new();
    for file in files {
        // Text that others wrote, or no text.
        let foreign = ["Cargo.lock", "LICENSE-APACHE", "ebpf/LICENSE-GPL-2.0"];
        if foreign.iter().any(|name| file == Path::new(name)) {
            continue;
        }
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        // There, homes of users are the subject: rootless containers keep their state in them.
        let about_homes = file.starts_with("agent/src/attrib");
        for (index, line) in text.lines().enumerate() {
            for (word, reason) in forbidden.iter().filter(|(word, _)| line.contains(word)) {
                if about_homes && *word == home {
                    continue;
                }
                found.push(format!("{}:{}: `{word}`: {reason}", file.display(), index + 1));
            }
        }
    }
    report(found)
}

/// Every `cargo xtask X` and `pgward X` in a document is a command that exists.
fn commands(files: &[PathBuf]) -> Result<()> {
    let documents: Vec<_> =
        files.iter().filter(|file| file.extension().is_some_and(|end| end == "md")).collect();
    let mut named = BTreeSet::new();
    for file in documents {
        let text = read(file)?;
        for code in code_of_markdown(&text) {
            named
                .extend(command_named(code).map(|(program, words)| {
                    (program, words.join(" "), file.display().to_string())
                }));
        }
    }
    let own = crate::Arguments::command();
    let own: BTreeSet<_> = own.get_subcommands().map(|task| task.get_name().to_owned()).collect();
    run(cargo().args(["build", "--quiet", "--package", "pgward", "--bin", "pgward"]))?;
    let pgward = target().join("debug/pgward");

    let mut found = Vec::new();
    for (program, name, file) in named {
        let known = match program {
            Program::Xtask => name.split(' ').next().is_some_and(|task| own.contains(task)),
            Program::Pgward => {
                probe(command(&pgward).args(name.split(' ')).arg("--help")).is_some()
            }
        };
        if !known {
            found.push(format!("{file}: no such command: {} {name}", program.shown()));
        }
    }
    report(found)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Program {
    Xtask,
    Pgward,
}

impl Program {
    fn shown(self) -> &'static str {
        match self {
            Self::Xtask => "cargo xtask",
            Self::Pgward => "pgward",
        }
    }
}

/// Pieces of code in Markdown: lines of fenced blocks, and what stands between single backticks.
pub(crate) fn code_of_markdown(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            found.push(line);
        } else {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// The program and subcommands that a piece of code runs, up to its first option or placeholder: one at least.
fn command_named(code: &str) -> Option<(Program, Vec<&str>)> {
    let code = code.trim().trim_start_matches("$ ").trim_start_matches("# ");
    let code = code.trim_start_matches("sudo ");
    let (program, rest) = if let Some(rest) = code.strip_prefix("cargo xtask ") {
        (Program::Xtask, rest)
    } else {
        (Program::Pgward, code.strip_prefix("pgward ")?)
    };
    let plain = |word: &&str| {
        !word.starts_with('-') && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
    };
    let words: Vec<_> = rest.split_whitespace().take_while(plain).collect();
    (!words.is_empty()).then_some((program, words))
}

/// Names long files; no failure, for length is a question and not an answer.
fn long_files(files: &[PathBuf]) -> Result<()> {
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "rs")) {
        let lines = read(file)?.lines().count();
        if lines > LINES_MAX {
            say(format_args!("note: {} has {lines} lines, more than {LINES_MAX}", file.display()));
        }
    }
    Ok(())
}

pub(crate) fn read(file: &Path) -> Result<String> {
    fs::read_to_string(root().join(file)).with_context(|| format!("reading {}", file.display()))
}

fn report(found: Vec<String>) -> Result<()> {
    if !found.is_empty() {
        bail!("{} found:\n  {}", found.len(), found.join("\n  "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_code_but_neither_comments_nor_unit_tests() {
        let text = "use a;\n// use std::fs;\nlet x = 1; // tokio::\n#[cfg(test)]\nuse std::fs;\n";
        let lines: Vec<_> = code_lines(text).map(|(number, line)| (number, line.trim())).collect();
        assert_eq!(lines, [(1, "use a;"), (2, ""), (3, "let x = 1;")]);
    }

    #[test]
    fn finds_paths_but_not_the_ends_of_longer_names() {
        assert!(names("use std::fs::File;", "std::fs"));
        assert!(names("let f = ::std::fs::read(p);", "std::fs"));
        assert!(names("std::time::SystemTime", "time::SystemTime"));
        assert!(names("rand::random()", "rand::"));
        assert!(!names("operand::new()", "rand::"));
        assert!(!names("use my_std::fs;", "std::fs"));
    }

    #[test]
    fn finds_commands_in_documents() {
        let text = "Run `cargo xtask demo --keep` and `pgward`.\n\n```sh\n# pgward run --config x\n\
                    cargo xtask test\n```\n\nThe `pgward --help` and `pgward <command>` texts, and\n\
                    `pgward audit hold set NAME`.\n";
        let found: Vec<_> = code_of_markdown(text).into_iter().filter_map(command_named).collect();
        let expected = [
            (Program::Xtask, vec!["demo"]),
            (Program::Pgward, vec!["run"]),
            (Program::Xtask, vec!["test"]),
            (Program::Pgward, vec!["audit", "hold", "set"]),
        ];
        assert_eq!(found, expected);
    }
}
