//! Analysis of statements against real servers: PostgreSQL's own regression SQL.

mod psql;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use pgward::sql::facts::{Encoding, Limits, STACK_BYTES, Unknown, analyse};
use pgward_tests::gate;
use pgward_tests::postgres::{Cluster, SUPERUSER, Version};

use server::Grammar;

/// What a test returns.
type Result<T = ()> = anyhow::Result<T>;

/// Statements on which PostgreSQL 15 and the grammar of 18 disagree, each with the reason.
const DIFFERENCES_15: &str = include_str!("differences-15.txt");

/// Those on which the server of 18 and the grammar disagree.
const DIFFERENCES_18: &str = include_str!("differences-18.txt");

#[test]
fn the_regression_sql_of_15_is_read_as_its_server_does() -> Result {
    compare("the_regression_sql_of_15_is_read_as_its_server_does", Version::Debian, DIFFERENCES_15)
}

#[test]
fn the_regression_sql_of_18_is_read_as_its_server_does() -> Result {
    compare(
        "the_regression_sql_of_18_is_read_as_its_server_does",
        Version::Eighteen,
        DIFFERENCES_18,
    )
}

fn compare(test: &str, version: Version, listed: &str) -> Result {
    let name = match version {
        Version::Debian => "15",
        Version::Eighteen => "18",
    };
    let Some(folder) = gate::regression_sql(test, name) else { return Ok(()) };
    let cluster = Cluster::builder().version(version).start()?;
    let mut grammar = Grammar::new(cluster.port(), SUPERUSER)?;
    let found = on_large_stack(|| differences(&folder, &mut grammar))?;
    assert!(found.statements > 30_000, "only {} statements", found.statements);
    assert!(found.refused > 100, "only {} statements are refused", found.refused);
    let listed: BTreeSet<&str> =
        listed.lines().filter(|line| !line.is_empty() && !line.starts_with("-- ")).collect();
    let new: Vec<_> = found.differ.keys().filter(|line| !listed.contains(line.as_str())).collect();
    let gone: Vec<_> = listed.iter().filter(|line| !found.differ.contains_key(**line)).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "of {} statements\nnot listed: {new:#?}\nlisted, but the same: {gone:#?}",
        found.statements
    );
    Ok(())
}

/// What was seen of a folder of files.
#[derive(Default)]
struct Found {
    statements: usize,
    refused: usize,
    /// File and statement, cut, and where both stand.
    differ: BTreeMap<String, String>,
}

fn differences(folder: &Path, grammar: &mut Grammar) -> Result<Found> {
    let mut found = Found::default();
    for path in files(folder)? {
        let file = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        // In files for other encodings the server refuses the bytes before it reads the text.
        let texts = psql::statements(&file).into_iter();
        let texts: Vec<_> = texts.filter(|text| std::str::from_utf8(text).is_ok()).collect();
        found.statements += texts.len();
        for (text, theirs) in texts.iter().zip(grammar.refuses(&texts)?) {
            let ours = match analyse(text, Encoding::Utf8, &Limits::default()) {
                Ok(facts) => {
                    for statement in &facts.statements {
                        let strange =
                            statement.unknown.iter().find(|u| matches!(u, Unknown::Node(_)));
                        assert_eq!(strange, None, "{}", String::from_utf8_lossy(text));
                    }
                    None
                }
                Err(unknown) => Some(unknown),
            };
            found.refused += usize::from(theirs.is_some());
            if ours.is_some() != theirs.is_some() {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let line = format!("{name}: {}", first_words(text));
                let verdicts = format!("here {ours:?}, there {theirs:?}");
                found.differ.insert(line, verdicts);
            }
        }
    }
    Ok(found)
}

/// The beginning of a text, on one line and without comments in front.
fn first_words(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("--"));
    let words: Vec<_> = lines.flat_map(str::split_whitespace).collect();
    words.join(" ").chars().take(100).collect()
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "sql") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
