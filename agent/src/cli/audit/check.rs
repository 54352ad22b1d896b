//! `pgward audit verify`: what `pgward-verify` does, with what this host knows.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgward_verify::bundle::{BUNDLE_BYTES_MAX, verify_bundle};
use pgward_verify::{
    CheckError, EpochSummary, Finding, Options, Report, Severity, Verdict, VerifierKey,
    verify_dir_with,
};

use super::args::{Place, VerifyArgs};
use super::progress::Progress;
use super::read::{Asked, source};
use crate::cli::table::printable;
use crate::cli::{Exit, Output};

/// Longest file of keys.
const KEYS_BYTES_MAX: u64 = 1 << 20;

/// Why nothing was checked.
#[derive(Debug, thiserror::Error)]
enum VerifyError {
    #[error("cannot read the key `{given}`")]
    Read { given: String, source: io::Error },
    #[error("not a key: `{given}`")]
    Key { given: String, source: Box<dyn std::error::Error> },
    #[error("cannot read the bundle `{}`", path.display())]
    Bundle { path: PathBuf, source: io::Error },
    #[error("too long for a bundle: found more than {BUNDLE_BYTES_MAX} bytes in `{}`", .0.display())]
    TooLong(PathBuf),
    #[error(transparent)]
    Check(#[from] CheckError),
}

/// Checks a trail or a bundle. Ends as `pgward-verify` does.
pub(super) fn run(args: &VerifyArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let path = match &args.what {
        Some(path) => path.clone(),
        None => {
            let place = Place { config: args.config.clone(), directory: None };
            let source = match source(&place, output)? {
                Ok(source) => source,
                Err(_) => return Ok(Exit::Verified(Verdict::Failed)),
            };
            source.tell("verify", &Asked::default(), output)?;
            source.directory
        }
    };
    let mut known = HashSet::new();
    loop {
        let report = match check(&path, args, output)? {
            Ok(report) => report,
            Err(error) => {
                output.error(&error)?;
                return Ok(Exit::Verified(Verdict::Failed));
            }
        };
        print(&report, args.json, &mut known, output)?;
        let Some(seconds) = args.watch else { return Ok(Exit::Verified(report.verdict)) };
        output.data.flush()?;
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

fn check(
    path: &Path,
    args: &VerifyArgs,
    output: &mut Output<'_>,
) -> io::Result<Result<Report, VerifyError>> {
    let own = path.join("keys/host.vkey");
    let mut given = args.keys.clone();
    if given.is_empty() && own.is_file() {
        writeln!(
            output.notes,
            "checked with the key in the folder itself: who can write there can replace both; \
             hint: give the key that was copied at enrolment with --key"
        )?;
        given.push(own.display().to_string());
    }
    Ok(checked(path, &given, args))
}

fn checked(path: &Path, given: &[String], args: &VerifyArgs) -> Result<Report, VerifyError> {
    let mut options = Options::new(path);
    options.keys = keys(given)?;
    options.witnesses = keys(&args.witnesses)?;
    options.quorum = args.quorum;
    options.anchors.clone_from(&args.anchors);
    options.copy.clone_from(&args.copy);
    if path.is_file() {
        return Ok(verify_bundle(&bundle(path)?, &options)?);
    }
    let progress = Progress::new("records checked", None);
    Ok(verify_dir_with(&options, &mut |entries| progress.reach(entries))?)
}

fn bundle(path: &Path) -> Result<Vec<u8>, VerifyError> {
    let failed = |source| VerifyError::Bundle { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > BUNDLE_BYTES_MAX {
        return Err(VerifyError::TooLong(path.to_owned()));
    }
    Ok(bytes)
}

/// Keys are given as lines, or as files that hold lines.
fn keys(given: &[String]) -> Result<Vec<VerifierKey>, VerifyError> {
    let mut keys = Vec::new();
    for one in given {
        let is_line = one.matches('+').count() >= 2 && !Path::new(one).exists();
        let text = if is_line {
            one.clone()
        } else {
            let failed = |source| VerifyError::Read { given: one.clone(), source };
            let mut text = String::new();
            let file = fs::File::open(one).map_err(failed)?;
            file.take(KEYS_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
            text
        };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let failed = |error| VerifyError::Key { given: one.clone(), source: Box::new(error) };
            keys.push(VerifierKey::parse(line).map_err(failed)?);
        }
    }
    Ok(keys)
}

/// Prints findings that were not printed before, and the summary.
fn print(
    report: &Report,
    json: bool,
    known: &mut HashSet<String>,
    output: &mut Output<'_>,
) -> io::Result<()> {
    for finding in &report.findings {
        if !known.insert(format!("{finding:?}")) {
            continue;
        }
        if json {
            serde_json::to_writer(&mut *output.data, finding)?;
            writeln!(output.data)?;
        } else {
            writeln!(output.data, "{}", shown(finding))?;
        }
    }
    if json {
        let summary = serde_json::json!({
            "summary": report.verdict,
            "exit": report.verdict.exit_code(),
            "records": report.entries(),
            "epochs": report.epochs,
            "classes": report.classes,
        });
        serde_json::to_writer(&mut *output.data, &summary)?;
        return writeln!(output.data);
    }
    report.epochs.iter().try_for_each(|epoch| epoch_lines(epoch, output))?;
    let count = |severity| report.findings.iter().filter(|one| one.severity == severity).count();
    let verdict = match report.verdict {
        Verdict::Intact => "intact and anchored",
        Verdict::Tampered => "NOT INTACT",
        Verdict::Incomplete => "intact as far as present, but INCOMPLETE",
        Verdict::Failed => "not checked",
    };
    writeln!(
        output.data,
        "{verdict}: {} findings of tampering, {} of missing parts, {} notes",
        count(Severity::Tampering),
        count(Severity::Incomplete),
        count(Severity::Note)
    )
}

/// A finding on lines that steer no terminal: names of files and texts in it may be made up.
fn shown(finding: &Finding) -> String {
    let lines: Vec<String> = finding.to_string().lines().map(printable).collect();
    lines.join("\n    ")
}

fn epoch_lines(epoch: &EpochSummary, output: &mut Output<'_>) -> io::Result<()> {
    let origin = printable(epoch.origin.as_deref().unwrap_or("unknown"));
    writeln!(
        output.data,
        "log {origin}: {} records in {} segments, {} seals, {} sessions, {} statements ({} with unknown outcome)",
        epoch.entries,
        epoch.segments,
        epoch.seals,
        epoch.sessions,
        epoch.intents,
        epoch.outcomes_unknown
    )?;
    if let Some(root) = &epoch.root {
        writeln!(output.data, "    root {root}")?;
    }
    match (epoch.anchored, epoch.anchored_at) {
        (Some(size), Some(time)) => {
            let time = humantime::format_rfc3339_seconds(
                std::time::UNIX_EPOCH + Duration::from_secs(time),
            );
            writeln!(output.data, "    anchored: {size} records, seen by witnesses at {time}")?;
        }
        (Some(size), None) => writeln!(output.data, "    anchored: {size} records")?,
        (None, _) => writeln!(output.data, "    not anchored")?,
    }
    writeln!(
        output.data,
        "    connections: {} seen, {} intercepted, {} refused, {} failed, {} allowed unseen, {} unexplained",
        epoch.seen,
        epoch.intercepted,
        epoch.refused,
        epoch.failed,
        epoch.allowed,
        epoch.unexplained
    )
}
