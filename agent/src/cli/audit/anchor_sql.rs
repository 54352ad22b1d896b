//! `pgward audit anchor-sql`: the table of the anchor in a database.

use std::io;

use clap::Args;

use crate::audit::anchors::{SQL_ROLE, anchor_sql};
use crate::cli::{Exit, Output};
use crate::config::ROLE_BYTES_MAX;

/// `pgward audit anchor-sql`
#[derive(Debug, Args)]
pub struct AnchorSqlArgs {
    /// Role that the agent logs in as; it is made where it is not there
    #[arg(long, value_name = "ROLE", default_value = SQL_ROLE, value_parser = role)]
    pub role: String,
}

/// Prints the SQL.
pub(super) fn run(args: &AnchorSqlArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    write!(output.data, "{}", anchor_sql(&args.role)).map(|()| Exit::Done)
}

/// A name that can stand anywhere in the SQL, quoted: a dollar sign would end the body of a block.
fn role(text: &str) -> Result<String, String> {
    let bad = |c: char| c.is_control() || c == '$';
    if text.is_empty() || text.len() > ROLE_BYTES_MAX || text.chars().any(bad) {
        return Err(format!(
            "expected 1 to {ROLE_BYTES_MAX} bytes without `$` and control characters"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn printed(arguments: &[&str]) -> Result<String, clap::Error> {
        let all = ["pgward", "audit", "anchor-sql"].iter().chain(arguments);
        let Command::Audit(command) = Cli::try_parse_from(all)?.command else {
            panic!("`audit` was asked for");
        };
        let (mut data, mut notes) = (Vec::new(), Vec::new());
        let mut output = Output { data: &mut data, notes: &mut notes, width: None };
        assert_eq!(crate::cli::audit::run(&command, &mut output).expect("written"), Exit::Done);
        assert!(notes.is_empty());
        Ok(String::from_utf8(data).expect("text"))
    }

    #[test]
    fn the_sql_is_about_the_role_that_was_named() {
        let usual = printed(&[]).expect("good arguments");
        assert!(usual.contains("TO \"pgward_anchor\";"), "{usual}");
        let other = printed(&["--role", "it's \"x\""]).expect("good arguments");
        assert!(other.contains("rolname = 'it''s \"x\"'"), "{other}");
        assert!(other.contains("TO \"it's \"\"x\"\"\";"), "{other}");
        for role in ["", "a$$b", "a\nb", &"a".repeat(64)] {
            assert!(printed(&["--role", role]).is_err(), "{role:?}");
        }
    }
}
