//! The `pgward` binary: arguments, logging, exit code.

use std::{io, process::ExitCode};

use clap::Parser;
use pgward::{
    app,
    cli::{self, Cli, Command, ConfigCommand, Exit, Output, RunArgs},
    config::{Config, Log, LogFormat},
};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    Output::of_process(|output| match &command {
        Command::Run(args) => run(args, output),
        Command::Doctor(args) => cli::doctor::run(args, output),
        Command::Sessions(args) => cli::sessions::run(args, output),
        Command::Kill(args) => cli::kill::run(args, output),
        Command::Grant(args) => cli::grant::run(args, output),
        Command::Status(args) => cli::status::run(args, output),
        Command::Config(ConfigCommand::Check(args)) => cli::check::run(args, output),
        Command::Ca(command) => cli::ca::run(command, output),
        Command::Detach(args) => cli::detach::run(args, output),
        Command::Audit(command) => cli::audit::run(command, output),
        Command::Policy(command) => cli::policy::run(command, output),
    })
}

fn run(args: &RunArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let (config, text) = match Config::load_with_text(&args.config) {
        Ok(loaded) => loaded,
        Err(error) => return cli::print_config_error(output, &error),
    };
    start_logging(&config.log);
    match app::run(&config, text.as_bytes()) {
        Ok(()) => Ok(Exit::Done),
        Err(error) => output.error(&error),
    }
}

/// Lines of the programs in the kernel come through `log` and join the others.
fn start_logging(log: &Log) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    match log.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
