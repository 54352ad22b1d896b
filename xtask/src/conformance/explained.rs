//! The list of differences that are known and why they are.
//!
//! ```toml
//! [[difference]]
//! suite = "postgres-15"
//! test = "stats"
//! reason = "counts the connections of the server, of which the agent makes its own"
//! ```
//!
//! A `test` that ends in `*` stands for all that begin so.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Differences with their reasons.
#[derive(Debug, Default)]
pub(super) struct Explained {
    known: Vec<Difference>,
}

#[derive(Debug)]
struct Difference {
    suite: String,
    test: String,
    reason: String,
}

impl Explained {
    /// Reads the list.
    ///
    /// Errors: when an entry has no suite, test or reason.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("no {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("reading {}", file.display()))
    }

    /// Why this test may fare otherwise.
    pub(super) fn reason(&self, suite: &str, test: &str) -> Option<&str> {
        let is = |known: &&Difference| {
            let test_is = match known.test.strip_suffix('*') {
                Some(start) => test.starts_with(start),
                None => test == known.test,
            };
            known.suite == suite && test_is
        };
        self.known.iter().find(is).map(|known| known.reason.as_str())
    }

    fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = toml::from_str(text)?;
        let entries = match table.get("difference") {
            None => &[][..],
            Some(list) => list.as_array().context("`difference` is no list of tables")?,
        };
        let word = |entry: &toml::Value, key: &str| -> Result<String> {
            let text = entry.get(key).and_then(toml::Value::as_str).unwrap_or_default().trim();
            if text.is_empty() || text == "*" {
                bail!("`{key}` is missing in {entry}");
            }
            Ok(text.to_owned())
        };
        let known = entries.iter().map(|entry| {
            Ok(Difference {
                suite: word(entry, "suite")?,
                test: word(entry, "test")?,
                reason: word(entry, "reason")?,
            })
        });
        Ok(Self { known: known.collect::<Result<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_of_one_test_or_of_all_that_begin_alike() {
        let text = "[[difference]]\nsuite = \"a\"\ntest = \"one\"\nreason = \"r1\"\n\
                    [[difference]]\nsuite = \"a\"\ntest = \"two[*\"\nreason = \"r2\"\n";
        let explained = Explained::parse(text).expect("good");
        assert_eq!(explained.reason("a", "one"), Some("r1"));
        assert_eq!(explained.reason("a", "one more"), None);
        assert_eq!(explained.reason("b", "one"), None);
        assert_eq!(explained.reason("a", "two[3]"), Some("r2"));
    }

    #[test]
    fn a_difference_without_a_reason_is_refused() {
        for text in [
            "[[difference]]\nsuite = \"a\"\ntest = \"one\"\n",
            "[[difference]]\nsuite = \"a\"\ntest = \"*\"\nreason = \"all\"\n",
            "difference = 1\n",
        ] {
            assert!(Explained::parse(text).is_err(), "{text}");
        }
    }
}
