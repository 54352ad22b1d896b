//! What lies in the trail's folder beside the log: nothing may be there that does not belong.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::check::relative;
use crate::epoch::EpochSummary;
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
            "lock" | "identity.toml" | "keep.json" => is_plain_file(&path),
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

/// Files of an epoch. `aside`: files that recoveries say to have made.
pub(crate) fn check_epoch_folder(
    epoch: &Epoch,
    prefix: &str,
    aside: &[String],
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
        if !known {
            let sentence = "this does not belong into the folder of an epoch";
            findings.add(Finding::new(Class::ExtraFile, sentence).file(format!("{prefix}{name}")));
        }
    }
    Ok(())
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

const KEYRING_HEADER_BYTES: usize = 512;
const SLOT_BYTES: usize = 128;
const KEYRING_MAGIC: &[u8] = b"pgward keyring 1";
const ERASED: u8 = 2;

/// Keys that were erased must have a record that says so.
///
/// A file of keys: header (512 bytes: magic 16, day u32, part u32, state u8) and slots of 128
/// bytes (state u8, kind u8, ..., owner at 16..48); state 2 is erased; each ends with a CRC32C.
pub(crate) fn check_keyring(directory: &Path, epochs: &[EpochSummary], findings: &mut Findings) {
    let folder = directory.join("keys/values");
    let Ok(all) = names(&folder) else { return };
    let redactions: Vec<_> = epochs.iter().flat_map(|epoch| &epoch.redactions).collect();
    let said = |scope: &str, target: Option<&[u8]>| {
        redactions.iter().any(|(_, found, named)| {
            found == scope
                && target.is_none_or(|target| {
                    named == target || *named == hex::encode(target).into_bytes()
                })
        })
    };
    // What was erased before the log begins, as it is now, has its record among what was pruned.
    let begins = epochs.iter().filter_map(|epoch| epoch.times_ns).map(|(first, _)| first).min();
    let weigh = |finding: Finding, time: &[u8]| {
        let time = time.first_chunk::<8>().map(|time| u64::from_be_bytes(*time));
        match (time, begins) {
            (Some(time), Some(begins)) if time < begins => finding.weighing(Severity::Note),
            (_, _) => finding,
        }
    };
    for name in all.iter().filter(|name| name.ends_with(".keys")) {
        let path = folder.join(name);
        let shown = relative(directory, &path);
        let Ok(mut file) = File::open(&path) else {
            let sentence = "the keys of values cannot be read here: whether all that were erased \
                            have a record was not checked";
            findings.add(
                Finding::new(Class::Unreadable, sentence).file(shown).weighing(Severity::Note),
            );
            continue;
        };
        let mut header = [0; KEYRING_HEADER_BYTES];
        let sound = file.read_exact(&mut header).is_ok() && sound(&header);
        if !sound || !header.starts_with(KEYRING_MAGIC) {
            let sentence = "the header of a file of keys is damaged";
            findings.add(Finding::new(Class::Unreadable, sentence).file(shown).bytes(0, 512));
            continue;
        }
        let day_said = said("day", None);
        if header[24] == ERASED && !day_said {
            let sentence = "the key of a day was erased, and no record says so";
            let finding = Finding::new(Class::KeyErased, sentence);
            let finding = finding.file(shown.clone()).bytes(0, 512);
            findings.add(weigh(finding, &header[40..]));
        }
        let mut slot = [0; SLOT_BYTES];
        let mut offset = KEYRING_HEADER_BYTES as u64;
        while file.read_exact(&mut slot).is_ok() {
            let session: Option<&[u8; 16]> = slot[16..32].try_into().ok();
            let explained = day_said
                || match (slot[1], session) {
                    (1, Some(session)) => said("session", Some(session)),
                    _ => said("subject", None),
                };
            if slot[0] == ERASED && self::sound(&slot) && !explained {
                let sentence = "a key of sealed values was erased, and no record says so";
                let finding = Finding::new(Class::KeyErased, sentence)
                    .file(shown.clone())
                    .bytes(offset, SLOT_BYTES as u64);
                let session = session.filter(|_| slot[1] == 1);
                findings.add(weigh(finding.sessions(session), &slot[8..]));
            }
            offset += SLOT_BYTES as u64;
        }
    }
}

/// Whether the last four bytes are the check sum of those before.
fn sound(bytes: &[u8]) -> bool {
    bytes
        .split_last_chunk::<4>()
        .is_some_and(|(covered, sum)| crc32c::crc32c(covered) == u32::from_be_bytes(*sum))
}
