//! Runs the fuzz targets of `fuzz/`, a package outside the workspace.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::run::{Steps, cargo, command, probe, root, run, say, tools, which};

/// Runs each fuzz target for `seconds`, and reports every target with a finding.
///
/// cargo-fuzz is built into `target/tools` when the host has none. The sanitizer needs unstable flags: nightly when it is
/// installed, else the stable compiler told to accept them.
pub(crate) fn fuzz(seconds: u64, only: Option<&str>) -> Result<()> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("no targets: {}", folder.display()))?;
    let mut targets: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .filter(|target| only.is_none_or(|only| target.contains(only)))
        .collect();
    targets.sort();
    if targets.is_empty() {
        bail!("no fuzz target matches in {}", folder.display());
    }
    let program = cargo_fuzz()?;
    let nightly = probe(command("rustup").args(["run", "nightly", "rustc", "--version"])).is_some();
    say(format_args!(
        "compiler: {}",
        if nightly { "nightly" } else { "stable, unstable flags on" }
    ));

    let mut steps = Steps::default();
    for target in &targets {
        steps.step(&format!("fuzz {target} for {seconds} s"), || {
            let mut fuzz = if nightly {
                let mut fuzz = command("rustup");
                fuzz.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
                fuzz.args(["run", "nightly"]).arg(&program);
                fuzz
            } else {
                let mut fuzz = command(&program);
                fuzz.env("RUSTC_BOOTSTRAP", "1");
                fuzz
            };
            let limit = format!("-max_total_time={seconds}");
            fuzz.args(["fuzz", "run", target]).args(inputs(target)?);
            run(fuzz.args(["--", &limit, "-print_final_stats=1"]))
        });
    }
    steps.finish()
}

/// Folders that inputs of a target are in: what was found before, where new ones go, and the seeds that come with the
/// sources, if there are some.
fn inputs(target: &str) -> Result<Vec<PathBuf>> {
    let fuzz = root().join("fuzz");
    let (corpus, seeds) = (fuzz.join("corpus").join(target), fuzz.join("seeds").join(target));
    std::fs::create_dir_all(&corpus).with_context(|| format!("making {}", corpus.display()))?;
    Ok([corpus, seeds].into_iter().filter(|folder| folder.is_dir()).collect())
}

fn cargo_fuzz() -> Result<PathBuf> {
    let own = tools().join("bin/cargo-fuzz");
    if let Some(found) = which("cargo-fuzz").or_else(|| own.is_file().then(|| own.clone())) {
        return Ok(found);
    }
    run(cargo().args(["install", "cargo-fuzz", "--locked", "--root"]).arg(tools()))?;
    Ok(own)
}
