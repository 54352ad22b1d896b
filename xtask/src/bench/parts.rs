//! Parts of the benchmarks. Each is measured by itself and has its place in `docs/benchmarks.md`, where a run replaces its own
//! part and leaves the other as it is.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What is measured in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Statements, bulk and idle sessions in the clear, without a password
    Statements,
    /// Logins with SCRAM-SHA-256, and sessions, over clear text and TLS on either leg
    Logins,
    /// The audit trail: the store alone, statements with and without it, bytes of a record, checking, searching
    Audit,
    /// Facts about a statement seen for the first time, without an agent around
    Facts,
}

impl Part {
    /// In the order of the document.
    pub(super) const ALL: [Part; 4] = [Part::Statements, Part::Logins, Part::Audit, Part::Facts];

    /// Word on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Part::Statements => "statements",
            Part::Logins => "logins",
            Part::Audit => "audit",
            Part::Facts => "facts",
        }
    }

    /// Length of one pgbench run unless another is asked for, in seconds. The other parts have more cases.
    pub(super) fn seconds(self) -> u32 {
        match self {
            Part::Statements => 4,
            Part::Logins | Part::Audit | Part::Facts => 2,
        }
    }

    /// The line in front of it; the first has none.
    fn marker(self) -> Option<&'static str> {
        match self {
            Part::Statements => None,
            Part::Logins => Some("<!-- part: logins -->\n"),
            Part::Audit => Some("<!-- part: audit -->\n"),
            Part::Facts => Some("<!-- part: facts -->\n"),
        }
    }

    /// Puts its text into the document.
    pub(super) fn write(self, document: &Path, text: &str) -> Result<()> {
        let shown = || document.display().to_string();
        let old = fs::read_to_string(document).with_context(|| format!("reading {}", shown()))?;
        let new = self.replaced(&old, text);
        fs::write(document, new).with_context(|| format!("writing {}", shown()))
    }

    fn replaced(self, document: &str, text: &str) -> String {
        let mut texts = Vec::new();
        let mut rest = document;
        for part in Part::ALL.into_iter().rev() {
            let at = match part.marker() {
                None => Some(0),
                Some(marker) => rest.find(marker),
            };
            let own = match at {
                None => "",
                Some(at) => {
                    let own = &rest[at..];
                    rest = &rest[..at];
                    own.strip_prefix(part.marker().unwrap_or_default()).unwrap_or(own)
                }
            };
            texts.push((part, if part == self { text } else { own }));
        }
        let mut new = String::new();
        for (part, text) in texts.into_iter().rev().filter(|(_, text)| !text.trim().is_empty()) {
            if let Some(marker) = part.marker() {
                new.push('\n');
                new.push_str(marker);
            }
            new.push_str(text.trim_matches('\n'));
            new.push('\n');
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_replaces_itself_alone() {
        let both = Part::Logins.replaced("# Benchmarks\n", "## Logins\n\nold\n");
        assert_eq!(both, "# Benchmarks\n\n<!-- part: logins -->\n## Logins\n\nold\n");
        let logins = Part::Logins.replaced(&both, "## Logins\n");
        assert_eq!(logins, "# Benchmarks\n\n<!-- part: logins -->\n## Logins\n");
        let statements = Part::Statements.replaced(&both, "# New\n");
        assert_eq!(statements, "# New\n\n<!-- part: logins -->\n## Logins\n\nold\n");
        assert_eq!(Part::Statements.replaced("", "# New\n"), "# New\n");
    }
}
