//! The command line.
//!
//! Data goes to standard output, all else to standard error. Exit codes: 0 done, 1 a finding, 2 the
//! tool failed. Subcommands that need the kernel side are carried out elsewhere; what needs only
//! files and the control socket is here, as functions `run(arguments, output)` that write to an
//! [`Output`].

pub mod audit;
pub mod ca;
pub mod check;
pub mod detach;
pub mod doctor;
pub mod log;
pub mod sessions;
pub mod status;
mod table;

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

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
    Sessions(AskArgs),
    /// Say how the running agent is
    Status(AskArgs),
    /// Work with the configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Work with the local certificate authority
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Work with the audit trail
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Take the kernel side away: from then on nothing is intercepted
    Detach(DetachArgs),
    /// Print the query log as a table
    Log(LogArgs),
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

/// `pgward sessions`, `pgward status`
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

/// `pgward log`
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Query log; by default the one the configuration names
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, conflicts_with = "file")]
    pub config: PathBuf,
    /// Go on as records come, until interrupted
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last of them
    #[arg(long, short = 'n', value_name = "ROWS", default_value_t = 1000)]
    pub rows: usize,
    /// Records as they are in the file, instead of a table
    #[arg(long, conflicts_with_all = ["columns", "width"])]
    pub json: bool,
    /// Which columns, and in which order
    #[arg(long, value_enum, value_delimiter = ',', value_name = "COLUMN,...")]
    pub columns: Vec<log::Column>,
    /// Characters a line may have; 0 for no limit. By default the width of the terminal, no limit
    /// where there is none
    #[arg(long, value_name = "CHARACTERS")]
    pub width: Option<u16>,
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
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => ExitCode::SUCCESS,
            Exit::Finding => ExitCode::from(1),
            Exit::Failed => ExitCode::from(2),
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
        let mut data = io::BufWriter::new(stdout.lock());
        // Not locked: `pgward run` logs there from all its threads for as long as this value lives.
        let mut notes = io::stderr();
        let mut output = Output {
            data: &mut data,
            notes: &mut notes,
            width: width.filter(|columns| *columns > 0),
        };
        let result = command(&mut output).and_then(|exit| output.data.flush().map(|()| exit));
        match result {
            Ok(exit) => exit.into(),
            // Who reads has seen enough: `pgward log | head`.
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

#[cfg(test)]
mod tests;
