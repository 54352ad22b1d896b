//! `pgward-verify`: checks an audit trail of pgward, or a bundle of one session, with public keys.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use pgward_verify::command::{Args, CommandError, Printer};
use pgward_verify::{Report, Verdict};

/// Checks an audit trail of pgward, or a bundle of one session, with nothing but public keys.
///
/// Exit code: 0 intact and anchored; 1 tampering or corruption; 2 intact as far as present, but
/// incomplete; 3 could not be checked.
#[derive(Parser)]
#[command(name = "pgward-verify", version)]
struct Arguments {
    /// The folder of a trail or of a copy of it, or a bundle of a session
    #[arg(value_name = "FOLDER|BUNDLE")]
    path: PathBuf,
    #[command(flatten)]
    args: Args,
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

fn run(arguments: &Arguments) -> Result<Verdict, Box<dyn std::error::Error>> {
    let mut printer = Printer::new(arguments.args.json);
    loop {
        let report = check(arguments)?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        printer.print(&report, &mut out)?;
        out.flush()?;
        let Some(seconds) = arguments.args.watch else { return Ok(report.verdict) };
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

fn check(arguments: &Arguments) -> Result<Report, CommandError> {
    let begun = Instant::now();
    let mut shown = false;
    let terminal = io::stderr().is_terminal();
    let report = arguments.args.check(&arguments.path, &mut |entries| {
        if terminal && begun.elapsed() > Duration::from_secs(1) {
            eprint!("\r{entries} records checked");
            shown = true;
        }
    });
    if shown {
        eprint!("\r\x1b[K");
    }
    report
}
