//! The command line.
//!
//! Data goes to standard output, all else to standard error. Exit codes: 0 done, 1 a finding, 2 the
//! tool failed; `audit verify` has its own. Subcommands that need the kernel side are carried out elsewhere; what needs only
//! files and the control socket is here, as functions `run(arguments, output)` that write to an
//! [`Output`].

pub mod audit;
pub mod ca;
pub mod check;
pub mod detach;
pub mod doctor;
pub mod grant;
pub mod kill;
pub mod policy;
pub mod sessions;
pub mod status;
mod table;

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use pgward_verify::Verdict;

use crate::config::{Config, ConfigError, DEFAULT_PATH};

pub use table::printable;

/// Transparent interception, attribution and audit of PostgreSQL clients.
#[derive(Debug, Parser)]
#[command(name = "pgward", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Intercept, relay and record until stopped
    Run(RunArgs),
    /// Say what works on this machine, and why a process would or would not be intercepted
    Doctor(DoctorArgs),
    /// List the sessions of the running agent
    Sessions(sessions::SessionsArgs),
    /// Cancel statements, or end sessions, of the running agent
    Kill(kill::KillArgs),
    /// Grant a role of the policy for a while
    Grant(Box<grant::GrantArgs>),
    /// Say how the running agent is
    Status(AskArgs),
    /// Work with the configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Work with the local certificate authority
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Take the kernel side away: from then on nothing is intercepted
    Detach(DetachArgs),
    /// Read, search, check and export the audit trail, and take care of it
    #[command(subcommand)]
    Audit(Box<audit::AuditCommand>),
    /// Check, test and explain policies, and try them on what was recorded
    #[command(subcommand)]
    Policy(Box<policy::PolicyCommand>),
}

/// `pgward run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
}

/// `pgward doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Configuration file; without one the defaults are looked at
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say why this process would or would not be intercepted
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// `pgward status` and others that only ask
#[derive(Debug, Args)]
pub struct AskArgs {
    /// Configuration file, which names the control socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// `pgward config`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Report everything that is wrong with a configuration file
    Check(CheckArgs),
}

/// `pgward config check`
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration file
    #[arg(value_name = "FILE", default_value = DEFAULT_PATH)]
    pub file: PathBuf,
}

/// `pgward detach`
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// Configuration file, which names the folder of the pins
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, conflicts_with = "pin_path")]
    pub config: PathBuf,
    /// Folder of the pins, where there is no configuration any more
    #[arg(long, value_name = "FOLDER")]
    pub pin_path: Option<PathBuf>,
}

/// How a subcommand ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was asked.
    Done,
    /// It did, and found something wrong.
    Finding,
    /// It could not.
    Failed,
    /// `audit verify` came to this, which has exit codes of its own: 3 when it could not.
    Verified(Verdict),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => ExitCode::SUCCESS,
            Exit::Finding => ExitCode::from(1),
            Exit::Failed => ExitCode::from(2),
            Exit::Verified(verdict) => ExitCode::from(verdict.exit_code()),
        }
    }
}

/// Where a subcommand writes.
pub struct Output<'o> {
    /// Standard output: data.
    pub data: &'o mut dyn Write,
    /// Standard error: all else.
    pub notes: &'o mut dyn Write,
    /// Width of the terminal behind `data`, if there is one.
    pub width: Option<u16>,
}

impl Output<'_> {
    /// Runs `command` on the process's own standard output and error.
    pub fn of_process(command: impl FnOnce(&mut Output<'_>) -> io::Result<Exit>) -> ExitCode {
        let stdout = io::stdout();
        let width = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| size.ws_col);
        // Neither is locked: for as long as this value lives, threads of `pgward run` log to one, and
        // its anchors print to the other.
        let mut data = io::BufWriter::new(stdout);
        let mut notes = io::stderr();
        let mut output = Output {
            data: &mut data,
            notes: &mut notes,
            width: width.filter(|columns| *columns > 0),
        };
        let result = command(&mut output).and_then(|exit| output.data.flush().map(|()| exit));
        match result {
            Ok(exit) => exit.into(),
            // Who reads has seen enough: `pgward audit tail | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done.into(),
            Err(error) => {
                // Nobody is left to tell when this fails too.
                let _ = writeln!(io::stderr(), "error: cannot write: {error}");
                Exit::Failed.into()
            }
        }
    }

    /// Prints an error with its causes, and hints where there are any.
    pub fn error(&mut self, error: &dyn Error) -> io::Result<Exit> {
        write!(self.notes, "error: {error}")?;
        let mut source = error.source();
        while let Some(cause) = source {
            write!(self.notes, ": {cause}")?;
            source = cause.source();
        }
        writeln!(self.notes)?;
        Ok(Exit::Failed)
    }
}

/// Prints why there is no configuration: a report as it is, anything else as an error.
pub fn print_config_error(output: &mut Output<'_>, error: &ConfigError) -> io::Result<Exit> {
    match error {
        ConfigError::Invalid(report) => {
            writeln!(output.notes, "{report}")?;
            Ok(Exit::Failed)
        }
        ConfigError::Read { .. } | ConfigError::TooLarge { .. } => output.error(error),
    }
}

/// The configuration, or the exit after printing what is wrong with it.
fn load(output: &mut Output<'_>, path: &std::path::Path) -> io::Result<Result<Config, Exit>> {
    match Config::load(path) {
        Ok(config) => Ok(Ok(config)),
        Err(error) => print_config_error(output, &error).map(Err),
    }
}

/// `feed000000000001000000000000002a` as `feed:42`.
fn short_session(id: &str) -> String {
    printable(&crate::control::short_session(id))
}

/// `2026-02-28T23:59:59.000000042Z` as `2026-02-28 23:59:59.000`.
fn short_time(time: &str) -> String {
    match (time.get(..10), time.get(11..23)) {
        (Some(day), Some(second)) => printable(&format!("{day} {second}")),
        _ => printable(time),
    }
}

#[cfg(test)]
mod tests;
