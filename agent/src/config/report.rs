//! Everything that is wrong with a configuration file, in one report.

use std::fmt;

/// One error, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, counted from 1; `None` where something is missing altogether.
    pub line: Option<usize>,
    /// `table.key`, with an index for tables that may repeat: `intercept[0].ports`. Empty for
    /// errors of the TOML syntax.
    pub key: String,
    /// What happened, then found and expected.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

/// All errors of one file, by line. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Report {
    /// The file as the user named it.
    pub file: String,
    /// What is wrong, in the order of the lines; what is missing comes last.
    pub problems: Vec<Problem>,
}

impl Report {
    /// A report about `file`, sorted by line.
    pub(crate) fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        problems.dedup();
        Self { file: file.to_owned(), problems }
    }
}

/// One line `FILE:LINE: table.key: message` for each problem, a hint on a line of its own, and no
/// line feed at the end.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.file)?;
            if let Some(line) = problem.line {
                write!(f, "{line}:")?;
            }
            if !problem.key.is_empty() {
                write!(f, " `{}`:", problem.key)?;
            }
            write!(f, " {}", problem.message)?;
            if let Some(hint) = &problem.hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}
