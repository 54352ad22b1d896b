//! `pgward-verify`: checks an audit trail of pgward, or a bundle of one session, with public keys.

use std::collections::HashSet;
use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use pgward_verify::bundle::{BUNDLE_BYTES_MAX, verify_bundle};
use pgward_verify::note::VerifierKey;
use pgward_verify::{Finding, Options, Report, Severity, Verdict, verify_dir_with};

/// Checks an audit trail of pgward, or a bundle of one session, with nothing but public keys.
///
/// Exit code: 0 intact and anchored; 1 tampering or corruption; 2 intact as far as present, but
/// incomplete; 3 could not be checked.
#[derive(Parser)]
#[command(name = "pgward-verify", version)]
struct Arguments {
    /// The folder of a trail or of a copy of it, or a bundle of a session.
    #[arg(value_name = "DIR|BUNDLE")]
    path: PathBuf,
    /// Public key of a host: `keys/host.vkey` as it was copied at enrolment, or the line itself.
    /// A key for `<fleet>/<host>` counts for all epochs of that host.
    #[arg(long = "key", value_name = "FILE|VKEY")]
    keys: Vec<String>,
    /// Public key of a witness (cosignature/v1).
    #[arg(long = "witness", value_name = "FILE|VKEY")]
    witnesses: Vec<String>,
    /// Number of witnesses that must have signed. Default: all.
    #[arg(long, value_name = "N")]
    quorum: Option<usize>,
    /// Checkpoints that were copied elsewhere: a file with one or many notes, or a folder.
    #[arg(long = "anchor", value_name = "FILE|DIR")]
    anchors: Vec<PathBuf>,
    /// Another copy of the trail, to be compared byte by byte.
    #[arg(long, value_name = "DIR")]
    copy: Option<PathBuf>,
    /// One JSON object for each finding, and one for the summary.
    #[arg(long)]
    json: bool,
    /// Check again and again, so many seconds after each run; print what is new.
    #[arg(long, value_name = "SECONDS")]
    watch: Option<u64>,
    /// Seconds between two seals, as configured on the host.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seal_every: u64,
    /// Seconds by which the newest record may be younger than the newest anchored one.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    anchor_lag: u64,
    /// Judge the age of the last seal as of this time, in seconds since 1970: when a copy was made.
    #[arg(long, value_name = "SECONDS")]
    as_of: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let asked = !error.use_stderr();
            // Nothing can be done if the terminal is gone.
            let _ = error.print();
            return ExitCode::from(if asked { 0 } else { Verdict::Failed.exit_code() });
        }
    };
    match run(&arguments) {
        Ok(verdict) => ExitCode::from(verdict.exit_code()),
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            eprintln!("pgward-verify: {text}");
            ExitCode::from(Verdict::Failed.exit_code())
        }
    }
}

type Error = Box<dyn std::error::Error>;

fn run(arguments: &Arguments) -> Result<Verdict, Error> {
    let mut known = HashSet::new();
    loop {
        let report = check(arguments)?;
        print(&report, arguments.json, &mut known)?;
        let Some(seconds) = arguments.watch else { return Ok(report.verdict) };
        std::thread::sleep(Duration::from_secs(seconds.max(1)));
    }
}

fn check(arguments: &Arguments) -> Result<Report, Error> {
    let mut options = Options::new(&arguments.path);
    options.keys = keys(&arguments.keys)?;
    options.witnesses = keys(&arguments.witnesses)?;
    options.quorum = arguments.quorum;
    options.anchors.clone_from(&arguments.anchors);
    options.copy.clone_from(&arguments.copy);
    options.seal_every_seconds = arguments.seal_every;
    options.anchor_lag_seconds = arguments.anchor_lag;
    if let Some(seconds) = arguments.as_of {
        options.now_ns = seconds.saturating_mul(1_000_000_000);
    }
    if arguments.path.is_file() {
        let mut bytes = Vec::new();
        fs::File::open(&arguments.path)?.take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > BUNDLE_BYTES_MAX {
            return Err(format!("`{}` is too long for a bundle", arguments.path.display()).into());
        }
        return Ok(verify_bundle(&bytes, &options)?);
    }
    let begun = Instant::now();
    let mut shown = false;
    let terminal = io::stderr().is_terminal();
    let report = verify_dir_with(&options, &mut |entries| {
        if terminal && begun.elapsed() > Duration::from_secs(1) {
            eprint!("\r{entries} records checked");
            shown = true;
        }
    })?;
    if shown {
        eprint!("\r\x1b[K");
    }
    Ok(report)
}

/// Keys are given as lines, or as files that hold lines.
fn keys(given: &[String]) -> Result<Vec<VerifierKey>, Error> {
    let mut keys = Vec::new();
    for one in given {
        let is_line = one.matches('+').count() >= 2 && !PathBuf::from(one).exists();
        let text = if is_line {
            one.clone()
        } else {
            fs::read_to_string(one)
                .map_err(|error| format!("cannot read the key `{one}`: {error}"))?
        };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            keys.push(VerifierKey::parse(line).map_err(|error| format!("`{one}`: {error}"))?);
        }
    }
    Ok(keys)
}

/// Prints findings that were not printed before, and the summary.
fn print(report: &Report, json: bool, known: &mut HashSet<String>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let is_new = |finding: &&Finding| known.insert(format!("{finding:?}"));
    for finding in report.findings.iter().filter(is_new) {
        if json {
            serde_json::to_writer(&mut out, finding)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{finding}")?;
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
        serde_json::to_writer(&mut out, &summary)?;
        return writeln!(out);
    }
    for epoch in &report.epochs {
        writeln!(
            out,
            "log {}: {} records in {} segments, {} seals, {} sessions, {} statements ({} with \
             unknown outcome)",
            epoch.origin.as_deref().unwrap_or("unknown"),
            epoch.entries,
            epoch.segments,
            epoch.seals,
            epoch.sessions,
            epoch.intents,
            epoch.outcomes_unknown
        )?;
        if let Some(root) = &epoch.root {
            writeln!(out, "    root {root}")?;
        }
        match (epoch.anchored, epoch.anchored_at) {
            (Some(size), Some(time)) => {
                writeln!(
                    out,
                    "    anchored: {size} records, seen by witnesses {time} s after 1970"
                )?;
            }
            (Some(size), None) => writeln!(out, "    anchored: {size} records")?,
            (None, _) => writeln!(out, "    not anchored")?,
        }
        writeln!(
            out,
            "    connections: {} seen, {} intercepted, {} refused, {} failed, {} allowed unseen, {} \
             unexplained",
            epoch.seen,
            epoch.intercepted,
            epoch.refused,
            epoch.failed,
            epoch.allowed,
            epoch.unexplained
        )?;
    }
    let count = |severity| report.findings.iter().filter(|one| one.severity == severity).count();
    let verdict = match report.verdict {
        Verdict::Intact => "intact and anchored",
        Verdict::Tampered => "NOT INTACT",
        Verdict::Incomplete => "intact as far as present, but INCOMPLETE",
        Verdict::Failed => "not checked",
    };
    writeln!(
        out,
        "{verdict}: {} findings of tampering, {} of missing parts, {} notes",
        count(Severity::Tampering),
        count(Severity::Incomplete),
        count(Severity::Note)
    )
}
