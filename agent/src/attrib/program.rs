//! Program and arguments of a living process, known to be of one and the same program.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use pgward_common::Actor;

use super::cgroup_tree::{MOUNTINFO_BYTES_MAX, device_of_mount};
use super::cmdline::{self, CMDLINE_READ_MAX, CMDLINE_WINDOW, Cmdline};
use super::exe::{ExeFile, ExeId};
use super::gather::Notes;
use super::identity::{CmdlineSize, Field, Reason, Sha256};
use super::resolver::Shared;
use super::source::{ProcFile, ProcHandle, ProcLink, SourceError};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) exe: Option<String>,
    pub(super) exe_deleted: bool,
    pub(super) exe_sha256: Option<Sha256>,
    pub(super) args: Option<Vec<String>>,
    pub(super) args_full: Option<CmdlineSize>,
    pub(super) redacted: u32,
    /// The process runs another program than at the event.
    pub(super) changed: bool,
}

/// Reads program and arguments.
///
/// Order: program's file, path, arguments, program's file again. When both are the file of the
/// event, so is what was read in between. File and arguments may hang, see [`super::patience`];
/// each has its own deadline, so that a process cannot hide its program behind its arguments.
pub(super) fn read(
    shared: &Shared,
    actor: &Actor,
    handle: &Arc<dyn ProcHandle>,
    notes: &mut Notes,
) -> Program {
    let mut out = Program::default();
    let deadline = shared.settings.read_deadline;
    let first = shared.patience.wait(deadline, {
        let handle = Arc::clone(handle);
        move || open(&handle)
    });
    let first = first.and_then(|opened| opened.map_err(Reason::from));
    let path = handle.link(ProcLink::Exe);
    let second = shared.patience.wait(deadline, {
        let handle = Arc::clone(handle);
        move || {
            let args = handle.read(ProcFile::Cmdline, CMDLINE_WINDOW, CMDLINE_READ_MAX);
            (args, open(&handle).map(|exe| exe.id))
        }
    });

    // Which program is it?
    match &first {
        Ok(exe) => match compare(actor, handle, exe.id) {
            Compared::Same => {}
            Compared::Unknown(reason) => notes.doubt(Field::Exe, reason),
            Compared::Changed(reason) => return changed(out, &reason, notes),
        },
        Err(reason) => notes.doubt(Field::Exe, reason.clone()),
    }
    let (args, last) = match second {
        Ok((args, last)) => (args.map_err(Reason::from), last.map_err(Reason::from)),
        Err(reason) => (Err(reason.clone()), Err(reason)),
    };
    match (&first, &last) {
        (Ok(exe), Ok(last)) if exe.id != *last => {
            return changed(out, &program_changed(exe.id, *last), notes);
        }
        (Ok(_), Ok(_)) => {}
        // The arguments have no witness that they are still those of the program.
        (_, Err(reason)) | (Err(reason), Ok(_)) => {
            if args.is_ok() {
                notes.doubt(Field::Cmdline, reason.clone());
            }
        }
    }

    match path {
        Ok(path) => {
            let path = path.to_string_lossy().into_owned();
            out.exe_deleted = first.as_ref().is_ok_and(|exe| exe.metadata.nlink() == 0);
            let bare = path.strip_suffix(" (deleted)").filter(|_| out.exe_deleted);
            out.exe = Some(bare.map_or(path.clone(), str::to_owned));
        }
        Err(error) => notes.missing(Field::Exe, error.into()),
    }
    match args {
        Ok(args) => match cmdline::parse(&args) {
            Some(Cmdline { args, full, redacted }) => {
                out.args = Some(args);
                out.args_full = full;
                out.redacted = redacted;
            }
            None => notes.missing(Field::Cmdline, Reason::EmptyCmdline),
        },
        Err(reason) => notes.missing(Field::Cmdline, reason),
    }
    match first.and_then(|exe| digest(shared, exe)) {
        Ok(digest) => out.exe_sha256 = Some(digest),
        Err(reason) => notes.missing(Field::ExeSha256, reason),
    }
    out
}

fn open(handle: &Arc<dyn ProcHandle>) -> Result<ExeFile, SourceError> {
    Ok(ExeFile::new(handle.open_exe()?)?)
}

fn changed(mut out: Program, reason: &Reason, notes: &mut Notes) -> Program {
    out.changed = true;
    notes.drop_doubt(Field::Exe);
    for field in [Field::Exe, Field::ExeSha256, Field::Cmdline] {
        notes.missing(field, reason.clone());
    }
    out
}

enum Compared {
    Same,
    Unknown(Reason),
    Changed(Reason),
}

/// Compares a file with the one of the event.
///
/// The inode is compared as the kernel has it. The device is that of the super block in the event,
/// while `st_dev` is another number on btrfs and overlayfs: when they differ, the device of the
/// mount, which is the super block's, decides.
fn compare(actor: &Actor, handle: &Arc<dyn ProcHandle>, found: ExeId) -> Compared {
    if actor.exe_inode == 0 {
        return Compared::Unknown(Reason::NoKernelExe);
    }
    let expected = ExeId { inode: actor.exe_inode, dev: actor.exe_dev, mount_id: None };
    if found.inode != expected.inode {
        return Compared::Changed(program_changed(expected, found));
    }
    if expected.dev == 0 || found.dev == expected.dev {
        return Compared::Same;
    }
    let mounts = handle.read(ProcFile::MountInfo, MOUNTINFO_BYTES_MAX, MOUNTINFO_BYTES_MAX as u64);
    let device = mounts.ok().and_then(|mounts| device_of_mount(&mounts.bytes, found.mount_id?));
    match device {
        Some(device) if device == expected.dev => Compared::Same,
        Some(dev) => Compared::Changed(program_changed(expected, ExeId { dev, ..found })),
        None => Compared::Unknown(Reason::DeviceNotCompared),
    }
}

fn program_changed(expected: ExeId, found: ExeId) -> Reason {
    Reason::ProgramChanged {
        found_inode: found.inode,
        found_dev: found.dev,
        expected_inode: expected.inode,
        expected_dev: expected.dev,
    }
}

fn digest(shared: &Shared, exe: ExeFile) -> Result<Sha256, Reason> {
    if let Some(digest) = shared.hashes.known(&exe) {
        return Ok(digest);
    }
    if let Some(reason) = shared.hashes.refusal(&exe) {
        return Err(reason);
    }
    let hashes = Arc::clone(&shared.hashes);
    shared.patience.wait(shared.settings.hash_deadline, move || hashes.take(&exe))?
}
