//! `pgward policy check`

use std::io;

use super::PolicyFileArgs;
use crate::cli::{Exit, Output, printable};
use crate::config::read_policy;
use crate::policy::{Advice, Policy};

/// Reports everything that is wrong with the file: on standard output, since that is what was asked for. What works and
/// is likely not meant is a warning and no finding.
pub(super) fn run(args: &PolicyFileArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let file = args.file.display().to_string();
    let text = match read_policy(&args.file) {
        Ok(text) => text,
        Err(error) => return output.error(&error),
    };
    match Policy::parse(&file, &text) {
        Ok(policy) => {
            for Advice { line, message, hint } in policy.advice() {
                writeln!(output.data, "{file}:{line}: warning: {}", printable(message))?;
                writeln!(output.data, "  hint: {hint}")?;
            }
            let (roles, rules, cases) =
                (policy.roles().len(), policy.rules(), policy.cases().len());
            writeln!(
                output.data,
                "{file}: good: {roles} roles, {rules} rules, {cases} cases, SHA-256 {}",
                policy.identity()
            )?;
            Ok(Exit::Done)
        }
        Err(report) => {
            writeln!(output.data, "{report}")?;
            let errors = report.problems.len();
            writeln!(output.notes, "{errors} error{}", if errors == 1 { "" } else { "s" })?;
            Ok(Exit::Finding)
        }
    }
}
