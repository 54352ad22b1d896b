//! What lies in the trail's folder beside the log: nothing may be there that does not belong.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::findings::{Class, Finding, Findings, Severity};
use crate::frame::{Frames, SegmentHeader};
use crate::store::{Epoch, Form, ReadError, Trail, epoch_number, names, segment_name};

/// Most bytes of `identity.toml`.
const IDENTITY_BYTES_MAX: u64 = 64 << 10;

/// Files at the top, and links anywhere.
pub(crate) fn check_root(trail: &Trail, findings: &mut Findings) -> Result<(), ReadError> {
    let directory = trail.directory();
    for name in names(directory)? {
        let path = directory.join(&name);
        let known = match &*name {
            "lock" | "identity.toml" | "keep.json" | "grants.json" => is_plain_file(&path),
            "keys" => path.is_dir(),
            name if name.ends_with(".tmp") => is_plain_file(&path),
            name => epoch_number(name).is_some() && is_folder(&path),
        };
        if !known {
            let sentence = "this does not belong into the folder of a trail";
            findings.add(Finding::new(Class::ExtraFile, sentence).file(name));
        }
    }
    let identity = directory.join("identity.toml");
    if let Ok(file) = File::open(&identity) {
        let mut text = String::new();
        let read = file.take(IDENTITY_BYTES_MAX).read_to_string(&mut text);
        let newest = trail.newest().map_or(0, |epoch| epoch.number);
        let epoch = read.ok().and_then(|_| named_epoch(&text));
        if let Some(epoch) = epoch.filter(|epoch| *epoch > newest) {
            let sentence =
                format!("the host is in epoch {epoch}, the newest that is there is {newest}");
            findings.add(Finding::new(Class::EpochMissing, sentence).file("identity.toml"));
        }
    }
    Ok(())
}

/// `epoch = 3` in `identity.toml`.
fn named_epoch(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("epoch"))?;
    line.trim_start().strip_prefix('=')?.trim().parse().ok()
}

/// Files of an epoch. `aside`: files that recoveries say to have made; `pruned`: records of recoveries
/// may be gone.
pub(crate) fn check_epoch_folder(
    epoch: &Epoch,
    prefix: &str,
    aside: &[String],
    pruned: bool,
    findings: &mut Findings,
) -> Result<(), ReadError> {
    let directory = epoch.directory();
    for name in names(directory)? {
        let path = directory.join(&name);
        let known = match &*name {
            "next.log" => {
                check_zeros(&path, prefix, &name, true, findings)?;
                is_plain_file(&path)
            }
            "reserve" => {
                check_zeros(&path, prefix, &name, false, findings)?;
                is_plain_file(&path)
            }
            "checkpoint" | "cosigned" => is_plain_file(&path),
            "tile" | "checkpoints" => is_folder(&path),
            name if name.ends_with(".tmp") => is_plain_file(&path),
            name if aside.iter().any(|file| file == name) => is_plain_file(&path),
            name => match segment_name(name) {
                Some((first, Form::Values)) => {
                    is_plain_file(&path) && epoch.pieces().iter().any(|piece| piece.first == first)
                }
                Some((_, Form::Log | Form::Pack | Form::Index)) => is_plain_file(&path),
                None => false,
            },
        };
        if !known && pruned && is_aside(&name) && is_plain_file(&path) {
            let sentence = "bytes that were put aside; the record that may say so was pruned";
            let finding = Finding::new(Class::ExtraFile, sentence).weighing(Severity::Note);
            findings.add(finding.file(format!("{prefix}{name}")));
        } else if !known {
            let sentence = "this does not belong into the folder of an epoch";
            findings.add(Finding::new(Class::ExtraFile, sentence).file(format!("{prefix}{name}")));
        }
    }
    Ok(())
}

/// Named as recoveries name what they put aside.
fn is_aside(name: &str) -> bool {
    let number = name.strip_prefix("recovered-");
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A preallocated file holds zeros; the next segment may have its header already.
fn check_zeros(
    path: &Path,
    prefix: &str,
    name: &str,
    header: bool,
    findings: &mut Findings,
) -> Result<(), ReadError> {
    let io = || ReadError::io("read", path);
    let mut bytes = Vec::new();
    let file = match File::open(path) {
        Ok(file) => file,
        // It became a segment meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io()(error)),
    };
    file.take(512).read_to_end(&mut bytes).map_err(io())?;
    let start = if header && SegmentHeader::decode(&bytes).is_ok() { 512 } else { 0 };
    let Ok(mut frames) = Frames::open(path, start) else { return Ok(()) };
    if let Some(offset) = frames.first_nonzero().map_err(io())? {
        let sentence = "bytes lie in a file that is kept for later and must be empty";
        findings.add(
            Finding::new(Class::ExtraBytes, sentence)
                .file(format!("{prefix}{name}"))
                .bytes(offset, 1),
        );
    }
    Ok(())
}

/// A file with one name, that is no link.
fn is_plain_file(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.is_file() && metadata.nlink() == 1,
        // It went away meanwhile.
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}
