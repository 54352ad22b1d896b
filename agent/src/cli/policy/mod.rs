//! `pgward policy`: checks, tests and explains policies, and tries them on what was recorded.

mod analysis;
mod args;
mod check;
mod explain;
mod records;
mod replay;
mod test;

use std::io;
use std::path::Path;

pub use args::*;

use super::{Exit, Output};
use crate::config::read_policy;
use crate::policy::Policy;

/// Does what `command` says.
pub fn run(command: &PolicyCommand, output: &mut Output<'_>) -> io::Result<Exit> {
    match command {
        PolicyCommand::Check(args) => check::run(args, output),
        PolicyCommand::Test(args) => test::run(args, output),
        PolicyCommand::Explain(args) => explain::run(args, output),
        PolicyCommand::Diff(args) => replay::diff(args, output),
        PolicyCommand::Backtest(args) => replay::backtest(args, output),
    }
}

/// The policy in a file, or the exit after printing what is wrong with it.
fn load(path: &Path, output: &mut Output<'_>) -> io::Result<Result<Policy, Exit>> {
    let text = match read_policy(path) {
        Ok(text) => text,
        Err(error) => return output.error(&error).map(Err),
    };
    match Policy::parse(&path.display().to_string(), &text) {
        Ok(policy) => Ok(Ok(policy)),
        Err(report) => {
            writeln!(output.notes, "{report}")?;
            Ok(Err(Exit::Failed))
        }
    }
}
