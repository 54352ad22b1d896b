//! Automation of pgward: everything that builds, checks, shows or measures it is a subcommand of `cargo xtask`.
//!
//! Each command that runs is printed first. A subcommand goes on after a failure where it can, reports every failure at
//! its end, and exits with 1; wrong usage exits with 2.

mod bench;
mod demo;
mod ebpf;
mod fuzz;
mod interrupt;
mod leftovers;
mod licences;
mod lint;
mod regression;
mod run;
mod scratch;
mod setup;
mod shown;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::demo::AtTheEnd;
use crate::ebpf::WhenMissing;
use crate::setup::Purpose;

/// Builds, checks, shows and measures pgward.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show pgward at work: a throw-away server, unmodified clients, and who asked what
    Demo {
        /// Keep it running until Ctrl-C
        #[arg(long)]
        keep: bool,
    },
    /// Build the eBPF programs for the agent to embed
    BuildEbpf {
        /// Fail when there is no toolchain, instead of leaving the programs out
        #[arg(long)]
        require: bool,
    },
    /// Install what is missing, as root: Debian packages, and tools below `target/tools`
    Setup {
        /// What to install for
        #[arg(long = "for", value_enum, default_value = "test")]
        purpose: Purpose,
    },
    /// Install what the tests need, build, and run all of them
    Test {
        /// Only tests whose name contains this
        only: Option<String>,
    },
    /// Check format, clippy, documentation, licences and sources of dependencies
    Lint,
    /// Check what the compiler can't: absences between modules, commands in documents, stray words
    Tidy,
    /// Run the fuzz targets
    Fuzz {
        /// How long to run each
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Only targets whose name contains this
        only: Option<String>,
    },
    /// Compare pgward with a direct connection, a plain relay and pgbouncer; write docs/benchmarks.md
    Bench(bench::Options),
    /// The measuring part of `bench`, in the optimised build
    #[command(hide = true)]
    BenchRun(bench::Options),
    /// The plain relay of `bench`
    #[command(hide = true)]
    Relay(bench::RelayOptions),
    /// The idle sessions of `bench`
    #[command(hide = true)]
    IdleClients(bench::IdleOptions),
    /// The clients of `bench` that begin TLS and go
    #[command(hide = true)]
    HandshakeClients(bench::HandshakeOptions),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Demo { keep } => demo::demo(if keep { AtTheEnd::Keep } else { AtTheEnd::PutAway }),
        Task::BuildEbpf { require } => {
            ebpf::build(if require { WhenMissing::Fail } else { WhenMissing::LeaveOut })
        }
        Task::Setup { purpose } => setup::setup(purpose),
        Task::Test { only } => test::test(only.as_deref()),
        Task::Lint => lint::lint(),
        Task::Tidy => tidy::tidy(),
        Task::Fuzz { seconds, only } => fuzz::fuzz(seconds, only.as_deref()),
        Task::Bench(options) => bench::bench(&options),
        Task::BenchRun(options) => bench::bench_run(&options),
        Task::Relay(options) => bench::relay(&options),
        Task::IdleClients(options) => bench::hold_sessions(&options),
        Task::HandshakeClients(options) => bench::shake_hands(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
