//! `pgward audit verify`: what `pgward-verify` does, with what this host knows.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgward_verify::Verdict;
use pgward_verify::command::{Args, Printer};

use super::args::VerifyArgs;
use super::progress::Progress;
use super::read::{Asked, Source};
use crate::cli::{Exit, Output, load};

/// Checks a trail or a bundle. Ends as `pgward-verify` does.
pub(super) fn run(args: &VerifyArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let failed = Exit::Verified(Verdict::Failed);
    let mut check = args.check.clone();
    let path = match &args.what {
        Some(path) => path.clone(),
        None => {
            let Ok(config) = load(output, &args.config)? else { return Ok(failed) };
            check
                .seal_every
                .get_or_insert(config.audit.seal_every.as_millis().div_ceil(1000) as u64);
            let source = Source::of(config);
            source.tell("verify", &asked(&check), output)?;
            source.directory
        }
    };
    own_key(&path, &mut check, output)?;
    let mut printer = Printer::new(check.json);
    loop {
        let progress = Progress::new("records checked", None);
        let report = check.check(&path, &mut |entries| progress.reach(entries));
        drop(progress);
        let report = match report {
            Ok(report) => report,
            Err(error) => return output.error(&error).map(|_| failed),
        };
        printer.print(&report, output.data)?;
        let Some(seconds) = check.watch else { return Ok(Exit::Verified(report.verdict)) };
        output.data.flush()?;
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

/// What is checked against what, as it is recorded.
fn asked(check: &Args) -> Asked {
    let paths = |name: &str, paths: &[PathBuf], asked: Asked| {
        paths.iter().fold(asked, |asked, path| asked.with(name, Some(path.display())))
    };
    let texts = |name: &str, texts: &[String], asked: Asked| {
        texts.iter().fold(asked, |asked, text| asked.with(name, Some(text)))
    };
    let asked = texts("witness", &check.witnesses, texts("key", &check.keys, Asked::default()));
    paths("anchor", &check.anchors, asked)
        .with("copy", check.copy.as_ref().map(|path| path.display()))
        .with("as_of", check.as_of)
        .with("watch", check.watch)
}

/// Takes the key beside the trail when no other is given, and says what that is worth.
fn own_key(path: &Path, check: &mut Args, output: &mut Output<'_>) -> io::Result<()> {
    let own = path.join("keys/host.vkey");
    if check.keys.is_empty() && own.is_file() {
        writeln!(
            output.notes,
            "checked with the key in the folder itself: who can write there can replace both; \
             hint: give the key that was copied at enrolment with --key"
        )?;
        check.keys.push(own.display().to_string());
    }
    Ok(())
}
