//! Passwords the agent logs in with, or that an application proves to know.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretBox, SecretSlice};
use tokio::sync::Mutex;

use super::{COMMAND_BYTES_MAX, COMMAND_LIMIT, SecretError, command, file};
use crate::config::PasswordSource;

/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// How long what a program printed is good for.
pub const COMMAND_TTL: Duration = Duration::from_secs(300);
/// How long a program that failed is not run again.
pub const COMMAND_FAILURE_TTL: Duration = Duration::from_secs(5);

impl PasswordSource {
    /// Reads the password now: 1 to [`PASSWORD_BYTES_MAX`] bytes without zeros, of any encoding.
    ///
    /// One line feed at the end of a file or of what a program printed is cut. A file is to belong
    /// to root or to the agent's user, and to nobody else's reach (mode 0600 or 0400).
    ///
    /// Errors: a [`SecretError`] that names the place. Runs on a tokio runtime with time and IO.
    pub async fn read(&self) -> Result<SecretSlice<u8>, SecretError> {
        let from = || self.to_string();
        match self {
            Self::File(path) => {
                let path = path.clone();
                let read = move || read_file(&path);
                tokio::task::spawn_blocking(read)
                    .await
                    .unwrap_or_else(|_| Err(SecretError::Unfinished { from: from() }))
            }
            Self::Environment(name) => {
                use std::os::unix::ffi::OsStringExt as _;
                let value = std::env::var_os(name);
                let value = value.ok_or_else(|| SecretError::NotSet { name: name.clone() })?;
                password(&zeroize::Zeroizing::new(value.into_vec()), from)
            }
            Self::Command(argv) => {
                let printed = command::output(argv, COMMAND_LIMIT).await?;
                password(without_line_feed(&printed), from)
            }
        }
    }
}

fn read_file(path: &Path) -> Result<SecretSlice<u8>, SecretError> {
    let (content, _) = file::read(path, PASSWORD_BYTES_MAX + 1)?;
    password(without_line_feed(&content), || format!("file `{}`", path.display()))
}

fn without_line_feed(content: &[u8]) -> &[u8] {
    content.strip_suffix(b"\n").unwrap_or(content)
}

fn password(bytes: &[u8], from: impl Fn() -> String) -> Result<SecretSlice<u8>, SecretError> {
    if bytes.is_empty() {
        return Err(SecretError::Empty { from: from() });
    }
    if bytes.len() > PASSWORD_BYTES_MAX {
        return Err(SecretError::TooLong { from: from(), max: PASSWORD_BYTES_MAX });
    }
    if bytes.contains(&0) {
        return Err(SecretError::ZeroByte { from: from() });
    }
    // Exactly as long as it is: a vector that is cut to its length leaves a copy behind.
    Ok(SecretBox::new(Box::from(bytes)))
}

/// A password that is asked for again and again.
///
/// Files and variables are read each time. What a program printed is kept for [`COMMAND_TTL`], a
/// failure of it for [`COMMAND_FAILURE_TTL`], and it runs once at a time.
pub struct Password {
    source: PasswordSource,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    result: Result<Arc<SecretSlice<u8>>, SecretError>,
    until: Instant,
}

impl Password {
    /// Nothing is read yet.
    pub fn new(source: PasswordSource) -> Self {
        Self { source, kept: Mutex::new(None) }
    }

    /// The password as of `now`.
    pub async fn read(&self, now: Instant) -> Result<Arc<SecretSlice<u8>>, SecretError> {
        match &self.source {
            PasswordSource::File(_) | PasswordSource::Environment(_) => {
                self.source.read().await.map(Arc::new)
            }
            PasswordSource::Command(_) => {
                let mut kept = self.kept.lock().await;
                if let Some(kept) = kept.as_ref().filter(|kept| now < kept.until) {
                    return kept.result.clone();
                }
                let result = self.source.read().await.map(Arc::new);
                let ttl = if result.is_ok() { COMMAND_TTL } else { COMMAND_FAILURE_TTL };
                *kept = Some(Kept { result: result.clone(), until: now + ttl });
                result
            }
        }
    }

    /// Forgets what is kept, but for a failure.
    pub(super) async fn forget(&self) {
        let mut kept = self.kept.lock().await;
        kept.take_if(|kept| kept.result.is_ok());
    }

    /// Forgets what is kept: the server did not accept it. `refused` is what was read then; a newer
    /// one stays.
    pub async fn evict(&self, refused: &Arc<SecretSlice<u8>>) {
        let mut kept = self.kept.lock().await;
        let same = |kept: &Kept| match &kept.result {
            Ok(password) => password.expose_secret() == refused.expose_secret(),
            Err(_) => false,
        };
        if kept.as_ref().is_some_and(same) {
            *kept = None;
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password").field("source", &self.source).finish_non_exhaustive()
    }
}

const _: () = assert!(COMMAND_BYTES_MAX <= PASSWORD_BYTES_MAX + 1);

#[cfg(test)]
mod tests {
    use super::super::file::tests::write;
    use super::*;

    async fn exposed(source: PasswordSource) -> Vec<u8> {
        source.read().await.expect("a password").expose_secret().to_vec()
    }

    fn counting(folder: &tempfile::TempDir, script: &str) -> Password {
        // Each run adds a line to a file and prints how many there are.
        let count = folder.path().join("runs");
        let script = format!("echo >> {0}; printf p; wc -l < {0}; {script}", count.display());
        let argv = ["/bin/sh".to_owned(), "-c".to_owned(), script];
        Password::new(PasswordSource::Command(argv.to_vec()))
    }

    #[tokio::test]
    async fn one_line_feed_is_cut() {
        let folder = tempfile::tempdir().expect("a folder");
        for (content, expected) in [
            (&b"pencil"[..], &b"pencil"[..]),
            (b"pencil\n", b"pencil"),
            (b"pencil\n\n", b"pencil\n"),
            (b" pen cil \r\n", b" pen cil \r"),
            (b"\xff\n", b"\xff"),
        ] {
            let path = write(&folder, "p", content, 0o600);
            assert_eq!(exposed(PasswordSource::File(path)).await, expected);
        }
        let echo = ["/bin/echo", "pencil"].map(str::to_owned).to_vec();
        assert_eq!(exposed(PasswordSource::Command(echo)).await, b"pencil");
    }

    #[tokio::test]
    async fn what_is_no_password_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let longest = [b'x'; PASSWORD_BYTES_MAX];
        let path = write(&folder, "longest", &longest, 0o600);
        assert_eq!(exposed(PasswordSource::File(path)).await, longest);
        for content in [&b""[..], b"\n", b"hunter\0two", &[b'x'; PASSWORD_BYTES_MAX + 1]] {
            let path = write(&folder, "p", content, 0o600);
            let error = PasswordSource::File(path.clone()).read().await.expect_err("refused");
            let named = format!("file `{}`", path.display());
            let expected = match content {
                b"" | b"\n" => SecretError::Empty { from: named },
                b"hunter\0two" => SecretError::ZeroByte { from: named },
                _ => SecretError::TooLong { from: named, max: PASSWORD_BYTES_MAX },
            };
            assert_eq!(error, expected);
            assert!(!format!("{error} {error:?}").contains("hunter"));
        }
        let path = write(&folder, "open", b"pencil", 0o644);
        let error = PasswordSource::File(path).read().await.expect_err("refused").to_string();
        assert!(error.ends_with(": mode 0644, expected 0600 or 0400"), "{error}");
    }

    #[tokio::test]
    async fn the_environment_is_a_source() {
        // Set by cargo for every test.
        let source = PasswordSource::Environment("CARGO_PKG_NAME".to_owned());
        assert_eq!(exposed(source).await, b"pgward");
        let name = "PGWARD_TEST_NOT_SET".to_owned();
        let error = PasswordSource::Environment(name.clone()).read().await.expect_err("not set");
        assert_eq!(error, SecretError::NotSet { name });
    }

    #[tokio::test]
    async fn a_program_runs_again_when_its_time_is_over_or_it_was_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let password = counting(&folder, "true");
        let start = Instant::now();
        let read = async |after: Duration| password.read(start + after).await.expect("a password");
        let second = Duration::from_secs(1);
        assert_eq!(read(Duration::ZERO).await.expose_secret(), b"p1");
        let first = read(COMMAND_TTL - second).await;
        assert_eq!(first.expose_secret(), b"p1");
        let next = read(COMMAND_TTL).await;
        assert_eq!(next.expose_secret(), b"p2");
        password.evict(&first).await;
        assert_eq!(read(COMMAND_TTL).await.expose_secret(), b"p2", "the refused one was older");
        password.evict(&next).await;
        assert_eq!(read(COMMAND_TTL).await.expose_secret(), b"p3");
        assert!(!format!("{password:?} {next:?}").contains("p2"));
    }

    #[tokio::test]
    async fn a_program_that_failed_rests_for_a_while() {
        let folder = tempfile::tempdir().expect("a folder");
        let password = counting(&folder, "exit 1");
        let runs = || std::fs::read(folder.path().join("runs")).expect("runs").len();
        let start = Instant::now();
        for (after, expected) in [(0, 1), (4, 1), (5, 2), (9, 2), (10, 3)] {
            let error = password.read(start + Duration::from_secs(after)).await;
            assert!(matches!(error, Err(SecretError::Status { .. })), "{error:?}");
            assert_eq!(runs(), expected, "after {after} s");
        }
    }

    #[tokio::test]
    async fn sessions_that_ask_together_run_a_program_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let password = Arc::new(counting(&folder, "true"));
        let now = Instant::now();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let password = Arc::clone(&password);
                tokio::spawn(async move { password.read(now).await })
            })
            .collect();
        for task in tasks {
            let read = task.await.expect("finished").expect("a password");
            assert_eq!(read.expose_secret(), b"p1");
        }
    }
}
