//! `pgward config check`

use std::io;

use super::{CheckArgs, Exit, Output, printable};
use crate::config::{Config, ConfigError, Warning, warnings};
use crate::secrets::examine_places;

/// Reports everything that is wrong with the file: on standard output, since that is what was asked
/// for. What is good, and still to be known, is a warning and no finding.
pub fn run(args: &CheckArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    match Config::load(&args.file) {
        Ok(config) => {
            let file = args.file.display();
            let mut warned = warnings(&config);
            warned.extend(examine_places(&config, Some(&args.file)));
            for Warning { about, message, hint } in &warned {
                let (about, message) = (printable(about), printable(message));
                writeln!(output.data, "{file}: warning: {about}: {message}")?;
                if let Some(hint) = hint {
                    writeln!(output.data, "  hint: {hint}")?;
                }
            }
            // The agent would not start with a policy that is wrong.
            if let Err(report) = config.policy.load() {
                writeln!(output.data, "{report}")?;
                return Ok(Exit::Finding);
            }
            writeln!(output.data, "{file}: good")?;
            match warned.len() {
                0 => {}
                1 => writeln!(output.notes, "1 warning")?,
                several => writeln!(output.notes, "{several} warnings")?,
            }
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
