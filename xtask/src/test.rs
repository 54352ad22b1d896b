//! Runs every test, those of the kernel side included, and counts what passed, failed and was not run.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::ebpf::{self, WhenMissing};
use crate::run::{Steps, announce, cargo, root, run, say};
use crate::setup::{self, Purpose};

/// Set to 1 to leave out kernel tests that can't run here; their names are printed.
const SKIP_KERNEL: &str = "PGWARD_SKIP_KERNEL";

/// Everything but the kernel side, which is no program of the host. One selection for all, because another one unites
/// features of dependencies in another way and compiles them again.
const PACKAGES: [&str; 4] = ["--workspace", "--exclude", "pgward-ebpf", "--locked"];

/// Installs what is missing, builds everything, runs all tests or those whose name contains `only`; the whole of a test
/// program below `tests/tests` when it has that name.
///
/// The last line on standard output is `N passed, N failed, N skipped`.
pub(crate) fn test(only: Option<&str>) -> Result<()> {
    let skip = std::env::var(SKIP_KERNEL).is_ok_and(|value| value == "1");
    let mut steps = Steps::default();
    let mut counts = Counts::default();
    let ready = steps.step("setup", || setup::setup(Purpose::Test));
    if !ready && !skip {
        say(format_args!(
            "going on without: tests that need what is missing fail (or set {SKIP_KERNEL}=1)"
        ));
    }
    let when_missing = if skip { WhenMissing::LeaveOut } else { WhenMissing::Fail };
    steps.step("kernel side", || ebpf::build(when_missing));
    if steps.step("build", || run(cargo().arg("build").args(PACKAGES))) {
        steps.step("tests", || {
            let mut tests = cargo();
            // A kernel test that can't run fails, unless skipping was asked for.
            tests.env("REQUIRE_KERNEL", if skip { "0" } else { "1" });
            tests.arg("test").args(PACKAGES).arg("--no-fail-fast").args(selection(only));
            counts = follow(&mut tests, std::io::stdout(), std::io::stderr())?;
            if counts.passed == 0 && counts.failed == 0 {
                bail!("no test ran");
            }
            if counts.failed > 0 {
                bail!("{} tests failed: {}", counts.failed, counts.failures.join(", "));
            }
            Ok(())
        });
    }
    for line in &counts.not_run {
        say(line);
    }
    let result = steps.finish();
    // A build that fails is a failure although no test says so.
    let failed = if result.is_err() { counts.failed.max(1) } else { counts.failed };
    let mut out = std::io::stdout();
    writeln!(out, "{} passed, {failed} failed, {} skipped", counts.passed, counts.skipped())
        .context("writing the summary")?;
    result
}

/// Arguments of `cargo test` for `only`.
fn selection(only: Option<&str>) -> Vec<&str> {
    match only {
        Some(name) if root().join("tests/tests").join(name).join("main.rs").is_file() => {
            vec!["--test", name]
        }
        Some(part) => vec![part],
        None => Vec::new(),
    }
}

/// What the output of `cargo test` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u32,
    failed: u32,
    ignored: u32,
    /// Lines `NOT RUN: name: reason`: such a test passes for libtest, and is not counted as passed here.
    not_run: Vec<String>,
    failures: Vec<String>,
}

impl Counts {
    fn skipped(&self) -> usize {
        self.ignored as usize + self.not_run.len()
    }

    fn take(&mut self, line: &str) {
        if let Some(at) = line.find("NOT RUN: ") {
            // A test may ask for several things, and say so each time.
            let name = |line: &str| line.split(": ").nth(1).map(str::to_owned);
            let line = &line[at..];
            if !self.not_run.iter().any(|seen| name(seen) == name(line)) {
                self.not_run.push(line.to_owned());
                self.passed = self.passed.saturating_sub(1);
            }
        } else if let Some(result) = line.strip_prefix("test result: ") {
            let number = |what: &str| -> u32 {
                let part = result.split([';', '.']).find_map(|part| part.trim().strip_suffix(what));
                part.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
            };
            self.passed += number(" passed");
            self.failed += number(" failed");
            self.ignored += number(" ignored");
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
    }
}

/// Runs the tests, passes both outputs on as they come, and counts.
///
/// Errors: when they can't be started, or end with a failure that no test reported (a test that does not compile, a crash).
fn follow(command: &mut Command, to_out: impl Write, to_err: impl Write + Send) -> Result<Counts> {
    announce(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("starting cargo test")?;
    let (out, err) = (child.stdout.take().context("piped")?, child.stderr.take().context("piped")?);
    let counts = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        scope.spawn(|| pass_on(err, to_err, &counts));
        pass_on(out, to_out, &counts);
    });
    let status = child.wait().context("waiting for cargo test")?;
    let counts = counts.into_inner().map_err(|_| anyhow::anyhow!("a reader panicked"))?.finish();
    if !status.success() && counts.failed == 0 {
        bail!(
            "{status}, without a failed test: something did not compile, or a test program crashed"
        );
    }
    Ok(counts)
}

/// Lines of both outputs. The two come in no order, so that counting waits for the end.
#[derive(Default)]
struct Tally {
    lines: Vec<String>,
}

impl Tally {
    fn finish(self) -> Counts {
        let mut counts = Counts::default();
        let (not_run, others): (Vec<_>, Vec<_>) =
            self.lines.into_iter().partition(|line| line.contains("NOT RUN: "));
        others.iter().chain(&not_run).for_each(|line| counts.take(line));
        counts
    }
}

fn pass_on(from: impl Read, mut to: impl Write, tally: &Mutex<Tally>) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let _ = to.write_all(&line);
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let counted = text.contains("NOT RUN: ")
            || text.starts_with("test result: ")
            || text.ends_with(" ... FAILED");
        if counted && let Ok(mut tally) = tally.lock() {
            tally.lines.push(text);
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_program_is_run_whole() {
        assert_eq!(selection(Some("handshake")), ["--test", "handshake"]);
        assert_eq!(selection(Some("a_part_of_a_name")), ["a_part_of_a_name"]);
        assert!(selection(None).is_empty());
    }

    #[test]
    fn counts_results_of_several_programs_and_takes_off_what_was_not_run() {
        let lines = [
            "NOT RUN: holds_the_syn: not root",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test codec::splits ... FAILED",
            "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out; finished in 1.52s",
            "NOT RUN: holds_the_syn: no program `crun` in the path",
            "test x ... NOT RUN: other: no BPF",
        ];
        let tally = Tally { lines: lines.iter().map(|line| (*line).to_owned()).collect() };
        let counts = tally.finish();
        assert_eq!((counts.passed, counts.failed, counts.skipped()), (13, 1, 3));
        assert_eq!(counts.failures, ["codec::splits"]);
        assert_eq!(counts.not_run, [lines[0], "NOT RUN: other: no BPF"]);
    }

    #[test]
    fn a_crash_that_no_test_reports_is_an_error() {
        let mut crash = Command::new("sh");
        crash.args(["-c", "echo 'test result: ok. 1 passed; 0 failed'; exit 101"]);
        let error = follow(&mut crash, std::io::sink(), std::io::sink());
        assert!(error.expect_err("exit 101").to_string().contains("crashed"));
    }
}
