//! Format, clippy, documentation and the policy on dependencies.

use anyhow::Result;

use crate::licences;
use crate::run::{Steps, cargo, run, say, which};
use crate::setup::{self, Purpose};

/// The kernel side is a program without `std` and is linted apart.
const NOT_KERNEL: [&str; 3] = ["--workspace", "--exclude", "pgward-ebpf"];

/// Runs every lint and reports all that fail.
pub(crate) fn lint() -> Result<()> {
    let mut steps = Steps::default();
    steps.step("setup", || setup::setup(Purpose::Build));
    steps.step("format", || run(cargo().args(["fmt", "--all", "--check"])));
    steps.step("clippy", || {
        run(cargo().arg("clippy").args(NOT_KERNEL).args([
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]))
    });
    // Compiled for the host, where clippy has a `core`; the profile's abort on panic is what a program without `std` needs.
    // Stable accepts the one unstable feature that the programs use (assembly for BPF), as it is only looked at here.
    steps.step("clippy of the kernel side", || {
        run(cargo()
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["clippy", "--package", "pgward-ebpf", "--profile", "bpf", "--locked"])
            .args(["--target-dir", "target/ebpf", "--", "-D", "warnings"]))
    });
    steps.step("documentation", || {
        // Binaries named as their library would write over its pages; `xtask` has no library.
        let mut doc = cargo();
        doc.env("RUSTDOCFLAGS", "-D warnings");
        run(doc.arg("doc").args(NOT_KERNEL).args(["--no-deps", "--lib", "--locked"]))
    });
    steps.step("licences, bans, sources", licences::check);
    if which("cargo-deny").is_some() {
        steps.step("cargo-deny", || {
            run(cargo().args(["deny", "check", "licenses", "bans", "sources"]))
        });
    } else {
        say("cargo-deny is not installed: the checks above stand in for it");
    }
    steps.finish()
}
