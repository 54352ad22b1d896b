//! `pgward doctor`: prints what [`crate::app::doctor`] finds.

use std::io;

use super::{DoctorArgs, Exit, Output, load, printable};
use crate::app::doctor::{Check, Health, examine};

/// Examines and prints. Exit: 1 when something does not work.
pub fn run(args: &DoctorArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let config = match &args.config {
        Some(path) => match load(output, path)? {
            Ok(config) => Some(config),
            Err(exit) => return Ok(exit),
        },
        None => None,
    };
    let checks = examine(config.as_ref().zip(args.config.as_deref()), args.pid);
    if args.json {
        serde_json::to_writer(&mut *output.data, &checks)?;
        writeln!(output.data)?;
    } else {
        print(&checks, output)?;
    }
    let failed = checks.iter().any(|check| check.verdict == Health::Fail);
    Ok(if failed { Exit::Finding } else { Exit::Done })
}

fn print(checks: &[Check], output: &mut Output<'_>) -> io::Result<()> {
    let width = checks.iter().map(|check| check.what.len()).max().unwrap_or(0);
    for check in checks {
        let word = match check.verdict {
            Health::Ok => "ok  ",
            Health::Warn => "warn",
            Health::Fail => "FAIL",
        };
        writeln!(output.data, "{word}  {:width$}  {}", check.what, printable(&check.found))?;
        if let Some(hint) = &check.hint {
            writeln!(output.data, "      {:width$}  hint: {}", "", printable(hint))?;
        }
    }
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (warned, failed) = (count(Health::Warn), count(Health::Fail));
    writeln!(output.data, "{} ok, {warned} with a hint, {failed} failed", count(Health::Ok))
}
