//! Care of the audit trail on a live agent: what is put back, copied, pruned, shredded, held and eased, each with the
//! verdict of the program that only knows the public key.

mod big;
mod glass;
mod prune;
mod rollback;
mod runs;
mod shred;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use pgward_tests::agent::Agent;
use pgward_tests::host;
use pgward_tests::needs_kernel as gate;
use pgward_tests::visitor::Visitor;
use pgward_tests::wire;
use pgward_verify::{Options, Report, Severity, VerifierKey, verify_dir};

/// What a test returns.
type Result<T = ()> = anyhow::Result<T>;

/// A session of a process that is intercepted, driven by the test.
type Client = wire::Session<Visitor>;

/// How a command of the binary ended.
#[derive(Debug)]
struct Told {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Told {
    fn ok(self) -> Result<String> {
        ensure!(self.code == Some(0), "{self:?}");
        Ok(self.out)
    }
}

/// Runs `pgward <arguments>` for this agent, to its end.
fn pgward(agent: &Agent, arguments: &[&str]) -> Result<Told> {
    let output = host::output(&mut agent.command(arguments)?)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Told { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) })
}

/// Options for the trail in a folder, with all public keys of hosts that lie there.
fn options(folder: &Path) -> Result<Options> {
    let mut options = Options::new(folder);
    for file in fs::read_dir(folder.join("keys"))? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "vkey") {
            options.keys.push(VerifierKey::parse(fs::read_to_string(&path)?.trim_end())?);
        }
    }
    Ok(options)
}

/// What verification says of a trail: its report, which must not speak of tampering.
fn untampered(options: &Options) -> Result<Report> {
    let report = verify_dir(options)?;
    let found = heavy(&report);
    ensure!(found.is_empty(), "{found:#?}");
    ensure!(report.verdict.exit_code() != 1, "{:?}", report.verdict);
    Ok(report)
}

/// Findings of tampering: class, log, message.
fn heavy(report: &Report) -> Vec<String> {
    let heavy = report.findings.iter().filter(|found| found.severity == Severity::Tampering);
    heavy.map(|found| format!("{found:?}")).collect()
}

/// Findings of a class.
fn count(report: &Report, class: &str) -> u64 {
    report.classes.get(class).copied().unwrap_or_default()
}

/// All files below a folder, by their path inside of it, with their bytes.
fn tree(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for file in fs::read_dir(&next)? {
            let path = file?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).with_context(|| format!("{}", path.display()))?;
                found.insert(path.strip_prefix(folder)?.to_owned(), bytes);
            }
        }
    }
    Ok(found)
}

/// Makes `to` a copy of `from`, with its modes, in place of what is there.
fn copy(from: &Path, to: &Path) -> Result {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    host::run(std::process::Command::new("cp").arg("-a").arg(from).arg(to))?;
    Ok(())
}

/// Files of a trail in which a value can be read as it is.
fn with_value(folder: &Path, value: &str) -> Result<Vec<PathBuf>> {
    let has = |bytes: &[u8]| bytes.windows(value.len()).any(|part| part == value.as_bytes());
    Ok(tree(folder)?.into_iter().filter(|(_, bytes)| has(bytes)).map(|(path, _)| path).collect())
}
