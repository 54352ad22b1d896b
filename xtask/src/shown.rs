//! Tests that documents name as `path/of/file.rs::name`: each must be there, and be run.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::tidy::{code_of_markdown, read};

/// Fails when a document names a test that does not exist.
pub(crate) fn named_tests(files: &[PathBuf]) -> Result<()> {
    let mut found = Vec::new();
    let documents = files.iter().filter(|file| file.extension().is_some_and(|end| end == "md"));
    for document in documents {
        for (file, name) in tests_named(&read(document)?) {
            // What is not tracked is not there for others.
            let there = files.iter().any(|tracked| tracked == Path::new(file));
            if !there || !has_test(&read(Path::new(file))?, name) {
                found.push(format!("{}: no such test: {file}::{name}", document.display()));
            }
        }
    }
    if !found.is_empty() {
        bail!("{} found:\n  {}", found.len(), found.join("\n  "));
    }
    Ok(())
}

/// Files and names of the tests that a document names.
fn tests_named(text: &str) -> Vec<(&str, &str)> {
    let whole = |(file, name): &(&str, &str)| {
        file.ends_with(".rs") && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let pieces = code_of_markdown(text).into_iter();
    pieces.filter_map(|piece| piece.split_once("::")).filter(whole).collect()
}

/// Whether a source has a function of that name with a test attribute.
fn has_test(source: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line.ends_with("test]");
        } else if line.contains(&head) {
            return is_test;
        } else if !line.starts_with("//") {
            is_test = false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tracked;

    #[test]
    fn finds_tests_in_documents() {
        let text = "| 1 | `a/b.rs::works`, `c.rs::also_works` | `d::e` and `x.rs` |\n";
        assert_eq!(tests_named(text), [("a/b.rs", "works"), ("c.rs", "also_works")]);
    }

    #[test]
    fn tells_tests_from_other_functions() {
        let source = "#[test]\n/// Says.\nfn one() {}\nfn two() {}\n#[tokio::test]\n\
                      async fn three() {}\n#[inline]\nfn four() {}\n// fn five() {}\n";
        let there = |name| has_test(source, name);
        assert!(there("one") && there("three"));
        assert!(!there("two") && !there("four") && !there("five") && !there("on"));
    }

    #[test]
    fn every_test_that_documents_name_is_there() -> Result<()> {
        let files = tracked()?;
        let table = read(Path::new("docs/audit.md"))?;
        assert!(tests_named(&table).len() > 50, "the table of tampers and faults is not read");
        named_tests(&files)
    }
}
