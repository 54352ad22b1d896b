//! Arguments of `pgward policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::audit::{Moment, Place, parse_moment};
use crate::policy::Subject;
use crate::policy::told::{self, Told};

/// `pgward policy`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Report everything that is wrong with a policy
    Check(PolicyFileArgs),
    /// Run the cases of a policy
    Test(PolicyFileArgs),
    /// Say how a statement would fare, and why
    Explain(ExplainArgs),
    /// List recorded statements that fare differently under two policies
    Diff(DiffArgs),
    /// List recorded statements that a policy would refuse
    Backtest(BacktestArgs),
}

/// `pgward policy check`, `pgward policy test`
#[derive(Debug, Args)]
pub struct PolicyFileArgs {
    /// Policy
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `pgward policy explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Policy
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Who asks: keys as in `[[assign]]`, such as `role=ann,exe=/usr/bin/psql,label.app=shop`
    #[arg(long = "as", value_name = "KEY=VALUE,...", value_delimiter = ',', value_parser = parse_told)]
    pub who: Vec<(String, String)>,
    /// What for
    #[arg(long, value_name = "TEXT")]
    pub sql: String,
    /// When; now unless it is said
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub at: Option<Moment>,
    /// One JSON object instead of tables
    #[arg(long)]
    pub json: bool,
}

impl ExplainArgs {
    /// Who asks.
    pub fn subject(&self) -> Result<Subject, Told> {
        let mut subject = Subject::default();
        for (key, value) in &self.who {
            told::tell(&mut subject, key, value)?;
        }
        Ok(subject)
    }
}

/// `pgward policy diff`
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Policy of before
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// Policy of after
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// Folder of a trail, or a copy of one
    #[arg(long, value_name = "FOLDER")]
    pub over: PathBuf,
    /// Which statements.
    #[command(flatten)]
    pub span: Span,
}

/// `pgward policy backtest`
#[derive(Debug, Args)]
pub struct BacktestArgs {
    /// Policy
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Which trail.
    #[command(flatten)]
    pub place: Place,
    /// Which statements.
    #[command(flatten)]
    pub span: Span,
}

/// Which recorded statements, and how what they come to is shown.
#[derive(Debug, Args)]
pub struct Span {
    /// From this moment: RFC 3339, or an age such as `2h` or `7d`
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub since: Option<Moment>,
    /// Before this moment
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub until: Option<Moment>,
    /// One JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
}

fn parse_told(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| format!("expected `key=value`, found `{text}`"))?;
    Ok((key.trim().to_owned(), value.to_owned()))
}
