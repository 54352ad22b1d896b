//! A program that prints a password.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::SecretError;

/// How long a program may take.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// How much it may print, in bytes, with the line feed at its end.
pub const COMMAND_BYTES_MAX: usize = 1024;

/// The whole environment of a program: enough for a script to find its tools.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C")];

/// Runs a program, absolute path first, and hands out what it printed.
///
/// It reads nothing, and what it says on standard error is dropped: that may hold secrets. It and
/// all that it started are killed when it takes longer than `limit`, prints more than
/// [`COMMAND_BYTES_MAX`] bytes, or fails otherwise; it is waited for in any case, also when whoever
/// asked has gone.
pub(super) async fn output(
    argv: &[String],
    limit: Duration,
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let running = Running::start(argv)?;
    let program = running.program.clone();
    // A task of its own: a session that ends while it waits must not leave a zombie behind.
    tokio::spawn(running.finish(limit))
        .await
        .unwrap_or_else(|_| Err(SecretError::Unfinished { from: format!("command `{program}`") }))
}

/// A program that was started.
struct Running {
    program: String,
    child: Child,
}

impl Running {
    fn start(argv: &[String]) -> Result<Self, SecretError> {
        let program = argv.first().cloned().unwrap_or_default();
        let child = Command::new(&program)
            .args(argv.iter().skip(1).map(OsStr::new))
            .env_clear()
            .envs(ENVIRONMENT)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A group of its own, so that what it starts can be killed with it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&program, "start", &error))?;
        Ok(Self { program, child })
    }

    async fn finish(mut self, limit: Duration) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let result = match tokio::time::timeout(limit, self.collect()).await {
            Ok(result) => result,
            Err(_) => {
                let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                Err(SecretError::Timeout { program: self.program.clone(), limit_ms })
            }
        };
        if result.is_err() {
            self.end().await;
        }
        result
    }

    async fn collect(&mut self) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let program = &self.program;
        let mut printed = Zeroizing::new(vec![0; COMMAND_BYTES_MAX + 1]);
        let mut filled = 0;
        if let Some(pipe) = &mut self.child.stdout {
            while filled < printed.len() {
                let read = pipe.read(&mut printed[filled..]).await;
                match read.map_err(|error| failed(program, "read", &error))? {
                    0 => break,
                    bytes => filled += bytes,
                }
            }
        }
        if filled > COMMAND_BYTES_MAX {
            let from = format!("command `{program}`");
            return Err(SecretError::TooLong { from, max: COMMAND_BYTES_MAX });
        }
        let status = self.child.wait().await.map_err(|error| failed(program, "wait", &error))?;
        if !status.success() {
            let status = status.to_string();
            return Err(SecretError::Status { program: program.clone(), status });
        }
        printed.truncate(filled);
        Ok(printed)
    }

    /// Kills what still runs, and waits for the program.
    async fn end(&mut self) {
        // `id` is there until the program was waited for: until then nobody else can have its number.
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // An error says that it has ended by itself.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
        // An error says that it was waited for already.
        let _ = self.child.kill().await;
    }
}

fn failed(program: &str, what: &'static str, error: &std::io::Error) -> SecretError {
    SecretError::Program { program: program.to_owned(), what, kind: error.kind() }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::path::Path;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn what_it_prints_is_the_password() {
        let printed = output(&shell("printf 'a b'; echo noise >&2"), LONG).await.expect("runs");
        assert_eq!(printed.as_slice(), b"a b");
        let program = ["/bin/echo", "$HOME;", "x"].map(str::to_owned);
        let printed = output(&program, LONG).await.expect("runs");
        assert_eq!(printed.as_slice(), b"$HOME; x\n", "no shell looks at the arguments");
        let most = format!("head -c {COMMAND_BYTES_MAX} /dev/zero");
        assert_eq!(output(&shell(&most), LONG).await.expect("runs").len(), COMMAND_BYTES_MAX);
    }

    #[tokio::test]
    async fn the_environment_of_the_agent_is_not_its() {
        let printed = output(&["/usr/bin/env".to_owned()], LONG).await.expect("runs");
        let text = String::from_utf8(printed.to_vec()).expect("UTF-8");
        let mut names: Vec<_> =
            text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        names.sort_unstable();
        assert_eq!(names, ["LC_ALL", "PATH"]);
    }

    #[tokio::test]
    async fn failures_are_told_apart() {
        let program = || "/bin/sh".to_owned();
        let status = "exit status: 3".to_owned();
        assert_eq!(
            output(&shell("echo secret; exit 3"), LONG).await,
            Err(SecretError::Status { program: program(), status })
        );
        let from = "command `/bin/sh`".to_owned();
        assert_eq!(
            output(&shell("cat /dev/zero"), LONG).await,
            Err(SecretError::TooLong { from, max: COMMAND_BYTES_MAX })
        );
        let absent = "/nowhere/program".to_owned();
        assert_eq!(
            output(std::slice::from_ref(&absent), LONG).await,
            Err(SecretError::Program { program: absent, what: "start", kind: ErrorKind::NotFound })
        );
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_killed_and_waited_for() {
        let limit = Duration::from_millis(50);
        // The shell waits for a program of its own, which holds the pipe open too.
        for script in ["exec sleep 1000", "sleep 1000; true", "sleep 1000 & wait"] {
            let running = Running::start(&shell(script)).expect("starts");
            let id = running.child.id().expect("runs");
            let expected = SecretError::Timeout { program: "/bin/sh".to_owned(), limit_ms: 50 };
            assert_eq!(running.finish(limit).await, Err(expected));
            // A zombie would still be there.
            assert!(!Path::new(&format!("/proc/{id}")).exists(), "{script}");
        }
    }

    #[tokio::test]
    async fn what_it_started_is_killed_with_it() {
        use std::io::Read as _;
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        // The shell and what it starts both hold the pipe; one byte says that both run.
        let script = format!("exec 3>{}; sleep 20 & echo >&3; wait", pipe.display());
        let running = Running::start(&shell(&script)).expect("starts");
        let open = tokio::task::spawn_blocking(move || {
            let mut pipe = std::fs::File::open(pipe).expect("the other end");
            pipe.read_exact(&mut [0]).expect("one byte");
            pipe
        });
        let mut pipe = open.await.expect("no panic");
        let begun = std::time::Instant::now();
        assert!(running.finish(Duration::from_millis(1)).await.is_err());
        let rest = tokio::task::spawn_blocking(move || pipe.read_to_end(&mut Vec::new()));
        assert_eq!(rest.await.expect("no panic").expect("read"), 0);
        assert!(begun.elapsed() < Duration::from_secs(10), "it ended by itself");
    }

    #[tokio::test]
    async fn a_program_that_prints_too_much_is_waited_for() {
        let running = Running::start(&shell("cat /dev/zero")).expect("starts");
        let id = running.child.id().expect("runs");
        assert!(running.finish(LONG).await.is_err());
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
