//! One identity from one kernel event: asks the other modules in turn and keeps what they say.

use std::sync::Arc;

use pgward_common::Actor;

use super::identity::{Confidence, Field, Identity, Reason, Remark};
use super::resolver::Shared;
use super::source::{ProcFile, ProcHandle, ProcLink, ProcStat, SourceError};
use super::{parents, place, program, users};

/// Remarks on the fields of an identity: at most one of a kind per field, the first.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) missing: Vec<Remark>,
    pub(super) doubts: Vec<Remark>,
}

impl Notes {
    pub(super) fn missing(&mut self, field: Field, reason: Reason) {
        if self.missing.iter().all(|remark| remark.field != field) {
            self.missing.push(Remark { field, reason });
        }
    }

    pub(super) fn doubt(&mut self, field: Field, reason: Reason) {
        if self.doubts.iter().all(|remark| remark.field != field) {
            self.doubts.push(Remark { field, reason });
        }
    }

    pub(super) fn drop_doubt(&mut self, field: Field) {
        self.doubts.retain(|remark| remark.field != field);
    }
}

/// Builds the identity. Blocks as [`super::Resolver::resolve`] says.
pub(super) fn gather(shared: &Shared, actor: &Actor) -> Identity {
    let mut notes = Notes::default();
    let mut identity = from_kernel(shared, actor, &mut notes);
    match users::by_uid(&shared.host, actor.uid) {
        Ok(user) => identity.user = Some(user.name),
        Err(reason) => notes.missing(Field::User, reason),
    }
    match open(shared, actor) {
        Ok((handle, stat)) => living(shared, actor, &handle, &stat, &mut identity, &mut notes),
        Err(reason) => {
            for field in [
                Field::Exe,
                Field::ExeSha256,
                Field::Cmdline,
                Field::Cwd,
                Field::LoginUid,
                Field::Parents,
            ] {
                notes.missing(field, reason.clone());
            }
            place::gone(shared, actor, &mut identity, &mut notes);
        }
    }
    identity.missing = notes.missing;
    identity.doubts = notes.doubts;
    identity
}

/// What the kernel told.
fn from_kernel(shared: &Shared, actor: &Actor, notes: &mut Notes) -> Identity {
    let end = actor.comm.iter().position(|&b| b == 0).unwrap_or(actor.comm.len());
    let known = |value: u64| (value != 0).then_some(value);
    let start_ns = known(actor.start_boottime_ns);
    if start_ns.is_none() {
        notes.missing(Field::StartNs, Reason::NoKernelStart);
    }
    let exec = known(actor.exec_id);
    if exec.is_none() {
        notes.missing(Field::Exec, Reason::NoKernelExec);
    }
    let boot_id = match &shared.boot_id {
        Ok(id) => Some(Arc::clone(id)),
        Err(error) => {
            notes.missing(Field::BootId, error.clone().into());
            None
        }
    };
    Identity {
        pid: actor.tgid,
        start_ns,
        exec,
        boot_id,
        confidence: Confidence::KernelOnly,
        comm: String::from_utf8_lossy(&actor.comm[..end]).into_owned(),
        exe: None,
        exe_deleted: false,
        exe_sha256: None,
        cmdline: None,
        cmdline_full: None,
        cmdline_redacted: 0,
        cwd: None,
        uid: actor.uid,
        gid: actor.gid,
        user: None,
        loginuid: None,
        parents: Vec::new(),
        cgroup: None,
        cgroup_hierarchy: None,
        unit: None,
        slice: None,
        user_unit: None,
        container: None,
        doubts: Vec::new(),
        missing: Vec::new(),
    }
}

/// Opens the process of the event: no other, by its start time.
fn open(shared: &Shared, actor: &Actor) -> Result<(Arc<dyn ProcHandle>, ProcStat), Reason> {
    let handle = shared.source.open(actor.tgid)?;
    let stat = handle.stat()?;
    let expected_ns = actor.start_boottime_ns;
    // `stat` has the start rounded down; one tick of tolerance costs nothing, see the module's
    // documentation.
    let expected = expected_ns / shared.tick_ns;
    if expected_ns != 0 && stat.start_ticks.abs_diff(expected) > 1 {
        let found_ns = stat.start_ticks.saturating_mul(shared.tick_ns);
        return Err(Reason::PidReused { found_ns, expected_ns });
    }
    Ok((handle, stat))
}

fn living(
    shared: &Shared,
    actor: &Actor,
    handle: &Arc<dyn ProcHandle>,
    stat: &ProcStat,
    identity: &mut Identity,
    notes: &mut Notes,
) {
    if identity.start_ns.is_some() {
        identity.confidence = Confidence::Confirmed;
    } else {
        identity.confidence = Confidence::Unconfirmed;
        identity.start_ns = Some(stat.start_ticks.saturating_mul(shared.tick_ns));
        notes.missing.retain(|remark| remark.field != Field::StartNs);
        notes.doubt(Field::StartNs, Reason::NoKernelStart);
    }

    let lifeless = if stat.is_zombie() {
        Some(Reason::Zombie)
    } else if stat.is_kernel_thread() {
        Some(Reason::KernelThread)
    } else {
        None
    };
    // What a short life takes with it first is read first.
    match &lifeless {
        Some(reason) => {
            for field in [Field::Exe, Field::ExeSha256, Field::Cmdline] {
                notes.missing(field, reason.clone());
            }
            identity.comm.clone_from(&stat.comm);
        }
        None => {
            let found = program::read(shared, actor, handle, notes);
            if !found.changed {
                identity.comm.clone_from(&stat.comm);
            }
            identity.exe = found.exe;
            identity.exe_deleted = found.exe_deleted;
            identity.exe_sha256 = found.exe_sha256;
            identity.cmdline = found.args;
            identity.cmdline_full = found.args_full;
            identity.cmdline_redacted = found.redacted;
        }
    }
    let cgroups = handle.read(ProcFile::Cgroup, CGROUP_BYTES_MAX, CGROUP_BYTES_MAX as u64);
    match handle.link(ProcLink::Cwd) {
        Ok(cwd) => identity.cwd = Some(cwd.to_string_lossy().into_owned()),
        Err(error) => notes.missing(Field::Cwd, lifeless.clone().unwrap_or(error.into())),
    }
    match login_uid(handle) {
        Ok(Some(uid)) => identity.loginuid = Some(uid),
        Ok(None) => notes.missing(Field::LoginUid, Reason::LoginUnset),
        Err(error) => notes.missing(Field::LoginUid, error.into()),
    }
    let line = parents::follow(shared.source.as_ref(), actor.tgid, handle, stat, shared.tick_ns);
    match line.broken {
        Some(reason) if line.parents.is_empty() => notes.missing(Field::Parents, reason),
        Some(reason) => notes.doubt(Field::Parents, reason),
        None => {}
    }
    identity.parents = line.parents;

    match cgroups {
        Ok(cgroups) => {
            let process = place::Living { actor, handle, links: &line.links };
            place::living(shared, &process, &cgroups.bytes, identity, notes);
        }
        Err(SourceError::Gone | SourceError::Absent) => {
            place::gone(shared, actor, identity, notes);
        }
        Err(error) => {
            for field in [Field::Cgroup, Field::Unit, Field::Container] {
                notes.missing(field, error.clone().into());
            }
        }
    }
    say_if_ended(handle, notes);
}

/// A process that ended while it was read leaves empty files and files that are not there.
fn say_if_ended(handle: &Arc<dyn ProcHandle>, notes: &mut Notes) {
    let ended = match handle.stat() {
        Ok(stat) if stat.is_zombie() => Reason::Zombie,
        Ok(_) => return,
        Err(_) => Reason::Ended,
    };
    for remark in notes.missing.iter_mut().chain(&mut notes.doubts) {
        let is_of_process = matches!(
            remark.field,
            Field::Exe
                | Field::ExeSha256
                | Field::Cmdline
                | Field::Cwd
                | Field::LoginUid
                | Field::Parents
        );
        let is_of_its_end =
            matches!(remark.reason, Reason::NotProvided | Reason::EmptyCmdline | Reason::Ended);
        if is_of_process && is_of_its_end {
            remark.reason = ended.clone();
        }
    }
}

/// Most bytes of `/proc/PID/cgroup`: 14 hierarchies with paths of `PATH_MAX`.
const CGROUP_BYTES_MAX: usize = 64 * 1024;

fn login_uid(handle: &Arc<dyn ProcHandle>) -> Result<Option<u32>, SourceError> {
    const UNSET: u32 = u32::MAX;
    const DIGITS_MAX: usize = 16;
    let read = handle.read(ProcFile::LoginUid, DIGITS_MAX, DIGITS_MAX as u64)?;
    let text = std::str::from_utf8(&read.bytes).map_err(|_| MALFORMED_LOGINUID)?;
    let uid = text.trim().parse::<u32>().map_err(|_| MALFORMED_LOGINUID)?;
    Ok((uid != UNSET).then_some(uid))
}

const MALFORMED_LOGINUID: SourceError = SourceError::Malformed("/proc/PID/loginuid");
