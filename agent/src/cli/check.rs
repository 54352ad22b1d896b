//! `pgward config check`

use std::io;

use super::{CheckArgs, Exit, Output};
use crate::config::{Config, ConfigError};

/// Reports everything that is wrong with the file: on standard output, since that is what was asked
/// for.
pub fn run(args: &CheckArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    match Config::load(&args.file) {
        Ok(_) => {
            writeln!(output.data, "{}: good", args.file.display())?;
            Ok(Exit::Done)
        }
        Err(ConfigError::Invalid(report)) => {
            writeln!(output.data, "{report}")?;
            let errors = report.problems.len();
            writeln!(output.notes, "{errors} error{}", if errors == 1 { "" } else { "s" })?;
            Ok(Exit::Finding)
        }
        Err(error @ (ConfigError::Read { .. } | ConfigError::TooLarge { .. })) => {
            output.error(&error)
        }
    }
}
