//! Automation of pgward: everything that builds, checks, shows or measures it is a subcommand of `cargo xtask`.
//!
//! Each command that runs is printed first. A subcommand goes on after a failure where it can, reports every failure at
//! its end, and exits with 1; wrong usage exits with 2.

mod ebpf;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::ebpf::WhenMissing;

/// Builds, checks, shows and measures pgward.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the eBPF programs for the agent to embed
    BuildEbpf {
        /// Fail when there is no toolchain, instead of leaving the programs out
        #[arg(long)]
        require: bool,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::BuildEbpf { require } => {
            ebpf::build(if require { WhenMissing::Fail } else { WhenMissing::LeaveOut })
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
