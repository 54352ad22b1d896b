//! A file of verifiers: one role a line.
//!
//! ```text
//! "role" "SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>"
//! ; a comment, as is a line that begins with #
//! ```
//!
//! Both parts stand in double quotes, a quote inside is doubled, and nothing follows: the format of
//! pgbouncer's `userlist.txt`, of which other kinds of secrets are refused here.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::SecretError;
use super::file::{self, Stamp};
use crate::config::ROLE_BYTES_MAX;
use crate::pg::scram::{Verifier, VerifierError};

/// Largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 4 << 20;
/// Largest number of lines, comments included.
pub const LINES_MAX: usize = 20_000;

/// A file that changed this shortly before it was read may change again without another time
/// stamp: those of the kernel are a few milliseconds apart.
const STAMP_GRAIN: Duration = Duration::from_millis(100);

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// It is not two quoted texts.
    #[error("expected `\"role\" \"SCRAM-SHA-256$...\"`")]
    Format,
    /// A role of no length, or longer than the server's.
    #[error("role of {found} bytes, expected 1..={ROLE_BYTES_MAX}")]
    Role {
        /// Its length.
        found: usize,
    },
    /// The second text is another kind of secret, or broken.
    #[error("{0}")]
    Verifier(VerifierError),
    /// The role stands on an earlier line.
    #[error("the role has a line already: {first}")]
    Twice {
        /// That line.
        first: usize,
    },
    /// There are too many.
    #[error("too many lines, expected at most {LINES_MAX}")]
    TooMany,
}

type Verifiers = HashMap<Box<[u8]>, Arc<Verifier>>;

/// A verifier file, read at the first question and again whenever it has changed.
///
/// A file that can't be read or is wrong answers no question, also when an earlier state of it was
/// good: who takes a role out of it wants it gone.
pub struct VerifierFile {
    path: PathBuf,
    loaded: Mutex<Option<(Stamp, Arc<Verifiers>)>>,
}

impl VerifierFile {
    /// Nothing is read yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), loaded: Mutex::new(None) }
    }

    /// The verifier of `role`, as the startup packet has it; `None` when the file has no such line.
    ///
    /// Errors: [`SecretError::File`] and [`SecretError::Line`].
    pub async fn lookup(
        self: &Arc<Self>,
        role: &[u8],
    ) -> Result<Option<Arc<Verifier>>, SecretError> {
        let file = Arc::clone(self);
        let verifiers =
            tokio::task::spawn_blocking(move || file.current()).await.unwrap_or_else(|_| {
                let from = format!("verifier file `{}`", self.path.display());
                Err(SecretError::Unfinished { from })
            })?;
        Ok(verifiers.get(role).cloned())
    }

    /// Reads the file now; whether it has a line for `role`, when one is asked for. Blocks.
    pub(super) fn check(&self, role: Option<&str>) -> Result<bool, SecretError> {
        let verifiers = self.current()?;
        Ok(role.is_none_or(|role| verifiers.contains_key(role.as_bytes())))
    }

    /// Reads the file where that is needed. Blocks.
    fn current(&self) -> Result<Arc<Verifiers>, SecretError> {
        // Held while the file is read: others that ask would read it too.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((stamp, verifiers)) = loaded.as_ref()
            && file::stamp(&self.path)? == *stamp
        {
            return Ok(Arc::clone(verifiers));
        }
        *loaded = None;
        let (content, stamp) = file::read(&self.path, FILE_BYTES_MAX)?;
        let verifiers = Arc::new(self.parse(&content)?);
        if settled(&stamp, SystemTime::now()) {
            *loaded = Some((stamp, Arc::clone(&verifiers)));
        }
        Ok(verifiers)
    }

    fn parse(&self, content: &[u8]) -> Result<Verifiers, SecretError> {
        parse(content).map_err(|(line, fault)| SecretError::Line {
            path: self.path.clone(),
            line,
            fault,
        })
    }
}

impl fmt::Debug for VerifierFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifierFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Whether a later change would show in another stamp.
fn settled(stamp: &Stamp, now: SystemTime) -> bool {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let grain = i128::try_from(STAMP_GRAIN.as_nanos()).unwrap_or(i128::MAX);
    let now = i128::try_from(now.as_nanos()).unwrap_or(0);
    stamp.changed_nanos() + grain < now
}

/// All lines, or the first that is wrong, counted from 1.
fn parse(content: &[u8]) -> Result<Verifiers, (usize, LineFault)> {
    let mut verifiers = Verifiers::new();
    let mut lines: HashMap<Box<[u8]>, usize> = HashMap::new();
    for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let wrong = |fault| (number, fault);
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b";") || line.starts_with(b"#") {
            continue;
        }
        if number > LINES_MAX {
            return Err(wrong(LineFault::TooMany));
        }
        let (role, rest) = quoted(line).ok_or(wrong(LineFault::Format))?;
        let (text, rest) = match rest.first() {
            Some(b' ' | b'\t') => quoted(rest.trim_ascii_start()),
            Some(_) | None => None,
        }
        .ok_or(wrong(LineFault::Format))?;
        if !rest.is_empty() {
            return Err(wrong(LineFault::Format));
        }
        if role.is_empty() || role.len() > ROLE_BYTES_MAX {
            return Err(wrong(LineFault::Role { found: role.len() }));
        }
        let verifier = Verifier::parse(&text).map_err(|e| wrong(LineFault::Verifier(e)))?;
        let role: Box<[u8]> = Box::from(role.as_slice());
        if let Some(first) = lines.insert(role.clone(), number) {
            return Err(wrong(LineFault::Twice { first }));
        }
        verifiers.insert(role, Arc::new(verifier));
    }
    Ok(verifiers)
}

/// The quoted text that `line` begins with, and what follows it.
fn quoted(line: &[u8]) -> Option<(Zeroizing<Vec<u8>>, &[u8])> {
    let mut rest = line.strip_prefix(b"\"")?;
    // Never longer than what it is taken from, so that it does not grow and leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(rest.len()));
    loop {
        let end = rest.iter().position(|byte| *byte == b'"')?;
        text.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(b"\"") {
            Some(after) => {
                text.push(b'"');
                rest = after;
            }
            None => return Some((text, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::super::file::Fault;
    use super::super::file::tests::write;
    use super::*;

    const KEYS: &str = "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                        wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    /// A verifier that is told from others by its iterations.
    fn text(iterations: u32) -> String {
        format!("SCRAM-SHA-256${iterations}:W22ZaJ0SNY7soEsUEjb6gQ=={KEYS}")
    }

    fn line(role: &str, iterations: u32) -> String {
        format!("\"{role}\" \"{}\"\n", text(iterations))
    }

    fn roles(content: &str) -> Vec<(String, u32)> {
        let mut roles: Vec<_> = parse(content.as_bytes())
            .expect("a good file")
            .into_iter()
            .map(|(role, v)| (String::from_utf8_lossy(&role).into_owned(), v.iterations()))
            .collect();
        roles.sort();
        roles
    }

    #[test]
    fn reads_quoted_lines() {
        let content = format!(
            "; comment\n# another\n\n{}  \"with \"\"quotes\"\" in it\"\t \"{}\"  \r\n{}",
            line("app", 1),
            text(2),
            line("last", 3).trim_end()
        );
        let expected =
            [("app", 1), ("last", 3), ("with \"quotes\" in it", 2)].map(|(r, i)| (r.to_owned(), i));
        assert_eq!(roles(&content), expected);
        assert_eq!(roles(""), []);
    }

    #[test]
    fn names_the_first_line_that_is_wrong_and_shows_no_secret() {
        let verifier = text(4096);
        for (bad, fault) in [
            ("app SCRAM".to_owned(), LineFault::Format),
            (format!("\"app\"\"{verifier}\""), LineFault::Format),
            (format!("\"app\" \"{verifier}"), LineFault::Format),
            (format!("\"app\" \"{verifier}\" x"), LineFault::Format),
            (format!("\"app\" '{verifier}'"), LineFault::Format),
            ("\"app\"".to_owned(), LineFault::Format),
            (format!("\"\" \"{verifier}\""), LineFault::Role { found: 0 }),
            (format!("\"{}\" \"{verifier}\"", "x".repeat(64)), LineFault::Role { found: 64 }),
            ("\"app\" \"md5hunter2\"".to_owned(), LineFault::Verifier(VerifierError::Mechanism)),
            ("\"app\" \"hunter2\"".to_owned(), LineFault::Verifier(VerifierError::Mechanism)),
            (
                format!("\"app\" \"{}\"", verifier.replace("4096", "hunter2")),
                LineFault::Verifier(VerifierError::Iterations),
            ),
            (format!("\"good\" \"{verifier}\""), LineFault::Twice { first: 2 }),
        ] {
            let content = format!("# one\n{}{bad}\n\"unread", line("good", 1));
            let (number, found) = parse(content.as_bytes()).expect_err("a bad line");
            assert_eq!((number, found), (3, fault), "{bad}");
            let path = PathBuf::from("/v");
            let error = SecretError::Line { path, line: number, fault };
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2") && !shown.contains("WG5d"), "{shown}");
        }
        let many = "#\n".repeat(LINES_MAX) + &line("app", 1);
        assert_eq!(parse(many.as_bytes()).err(), Some((LINES_MAX + 1, LineFault::TooMany)));
    }

    proptest! {
        #[test]
        fn any_role_comes_back(role in "[^\\n\\x00]{1,15}") {
            prop_assume!(role.len() <= ROLE_BYTES_MAX);
            let quoted = role.replace('"', "\"\"");
            let parsed = parse(line(&quoted, 7).as_bytes()).expect("a good file");
            prop_assert_eq!(parsed.keys().next().map(|r| &**r), Some(role.as_bytes()));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"\"a\" \"SCRAM-SHA-256$", bytes.as_slice(), b"\""].concat());
        }
    }

    #[tokio::test]
    async fn changes_show_at_the_next_question() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = write(&folder, "v", line("app", 1).as_bytes(), 0o600);
        let file = Arc::new(VerifierFile::new(&path));
        let iterations = async |role: &str| {
            let found = file.lookup(role.as_bytes()).await.expect("a good file");
            found.map(|verifier| verifier.iterations())
        };
        assert_eq!((iterations("app").await, iterations("App").await), (Some(1), None));
        // In place, of the same length, within the grain of the time stamps.
        fs::write(&path, line("app", 2)).expect("written");
        assert_eq!(iterations("app").await, Some(2));
        fs::write(&path, line("other", 3)).expect("written");
        assert_eq!((iterations("app").await, iterations("other").await), (None, Some(3)));
        fs::write(&path, "broken").expect("written");
        let error = file.lookup(b"other").await.expect_err("a bad line");
        assert_eq!(
            error,
            SecretError::Line { path: path.clone(), line: 1, fault: LineFault::Format }
        );
        write(&folder, "v", line("app", 4).as_bytes(), 0o644);
        let error = file.lookup(b"app").await.expect_err("readable by others");
        let fault = Fault::Mode { found: 0o644 };
        assert_eq!(error, SecretError::File { path: path.clone(), fault });
        write(&folder, "v", line("app", 5).as_bytes(), 0o600);
        assert_eq!(iterations("app").await, Some(5));
        fs::remove_file(&path).expect("removed");
        assert!(file.lookup(b"app").await.is_err(), "a file that is gone has no roles");
        assert!(!format!("{file:?}").contains("W22Z"));
    }

    #[tokio::test]
    async fn a_file_that_did_not_change_is_read_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = write(&folder, "v", line("app", 1).as_bytes(), 0o600);
        let file = Arc::new(VerifierFile::new(&path));
        // Until the file is old enough, each question reads it.
        let first = loop {
            let first = file.lookup(b"app").await.expect("a good file").expect("a role");
            if file.loaded.lock().expect("no panic").is_some() {
                break first;
            }
            tokio::task::yield_now().await;
        };
        let second = file.lookup(b"app").await.expect("a good file").expect("a role");
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first.expose().expose_secret(), text(1));
    }

    #[test]
    fn stamps_settle_after_a_while() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = write(&folder, "v", b"", 0o600);
        let stamp = file::stamp(&path).expect("a file");
        let changed = fs::metadata(&path).expect("a file").modified().expect("a time");
        assert!(!settled(&stamp, changed));
        assert!(!settled(&stamp, changed - Duration::from_secs(9)), "a clock that was put back");
        assert!(settled(&stamp, changed + Duration::from_secs(9)));
    }
}
