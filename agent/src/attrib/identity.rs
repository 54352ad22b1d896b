//! What is known about a process, and what is not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::summary;

/// Who a process is. What each field proves is in the table of the [module](super).
///
/// Serialised with the field names below; fields without a value are left out, and each that could
/// have had one has an entry in `missing`. Text that is not UTF-8 has U+FFFD in place of the bytes
/// that are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Process id (thread group id) in the initial pid namespace.
    pub pid: u32,
    /// Start, nanoseconds since boot, suspend included. From the kernel event where that had it,
    /// else from `/proc`, rounded down to a clock tick (then `confidence` is
    /// [`Confidence::Unconfirmed`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_ns: Option<u64>,
    /// Exec generation (`task_struct.self_exec_id`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<u64>,
    /// Boot within which `pid`, `start_ns` and `exec` mean something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<Arc<str>>,
    /// How far the facts from `/proc` are known to be of the process the kernel named.
    pub confidence: Confidence,
    /// Name of the process; of the task at the time of the event when the process could not be
    /// read.
    pub comm: String,
    /// Path of the program in the mount namespace of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// The program's file has no name any more: replaced by an upgrade, deleted, or never had one
    /// (memfd).
    #[serde(skip_serializing_if = "is_false")]
    pub exe_deleted: bool,
    /// SHA-256 of the program's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe_sha256: Option<Sha256>,
    /// Arguments, secrets blotted out, at most [`super::ARGS_MAX`] and [`super::ARG_BYTES_MAX`]
    /// bytes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<Vec<String>>,
    /// Full size of a command line that was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmdline_full: Option<CmdlineSize>,
    /// How many secrets were blotted out of the arguments.
    #[serde(skip_serializing_if = "is_zero")]
    pub cmdline_redacted: u32,
    /// Working directory in the mount namespace of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// User id in the initial user namespace, from the kernel event.
    pub uid: u32,
    /// Group id in the initial user namespace, from the kernel event.
    pub gid: u32,
    /// Name of `uid` in the host's `/etc/passwd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// User who logged in, kept over `su` and `sudo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loginuid: Option<u32>,
    /// Parents, nearest first, at most [`super::PARENTS_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Parent>,
    /// Cgroup path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Hierarchy of `cgroup`: `v2`, or `v1:` and its controllers or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_hierarchy: Option<String>,
    /// Unit of the system's service manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Slice of that unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// Unit of a user's service manager; that user chooses the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_unit: Option<String>,
    /// Container, when the process is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Fields that have a value of which something is to be said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<Remark>,
    /// Fields without a value, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Remark>,
}

impl Identity {
    /// Why `field` has no value, if it has none.
    pub fn missing(&self, field: Field) -> Option<&Reason> {
        self.missing.iter().find(|remark| remark.field == field).map(|remark| &remark.reason)
    }

    /// What is to be said of the value of `field`, if anything.
    pub fn doubt(&self, field: Field) -> Option<&Reason> {
        self.doubts.iter().find(|remark| remark.field == field).map(|remark| &remark.reason)
    }

    /// One line for tables: `psql[4711] alice container=web(docker) /usr/bin/psql`.
    ///
    /// Characters that would move a terminal's cursor are escaped: the process chooses most of
    /// these names.
    pub fn summary(&self) -> String {
        summary::of(self)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())
    }
}

/// How far facts from `/proc` are known to be of the process the kernel named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// The process was not there any more: only what the kernel told, and what its cgroup tells.
    KernelOnly,
    /// The kernel told no start time: facts are of the process that had the pid when it was read.
    Unconfirmed,
    /// Start time in the kernel event and in `/proc` agree.
    Confirmed,
}

/// An ancestor of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parent {
    /// Process id in the pid namespace of the proc root.
    pub pid: u32,
    /// Start, nanoseconds since boot, rounded down to a clock tick.
    pub start_ns: u64,
    /// Path of the program; `None` for kernel threads, zombies, or without the right to read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Name of the process.
    pub comm: String,
}

/// Size of a command line before it was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CmdlineSize {
    /// Arguments.
    pub args: u64,
    /// Bytes, the zero after each argument included.
    pub bytes: u64,
    /// There was more than was counted ([`super::CMDLINE_READ_MAX`]).
    #[serde(skip_serializing_if = "is_false")]
    pub at_least: bool,
}

/// A container: what the cgroup path or the runtime's state says, and what the runtime's files add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// Id as the runtime gave it.
    pub id: String,
    /// Who runs it.
    pub runtime: Runtime,
    /// Name; for runtimes whose ids are chosen by people (crun, runc, LXC, nspawn) the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Image as it was asked for, or its digest where only that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Kubernetes pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Kubernetes pod uid, as in the cgroup path or the runtime's files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// Kubernetes namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels of container and pod, at most [`super::LABELS_MAX`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How the process was tied to the container.
    pub evidence: Evidence,
    /// The user who could have made all this up: the cgroup folder lies below one that belongs to
    /// that user (rootless containers do). `None` when only root could.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed_by: Option<u32>,
    /// Containers inside this one, outermost first, as `runtime:id`, as claimed by this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nested: Vec<String>,
    /// The container is a pod's sandbox (`pause`).
    #[serde(skip_serializing_if = "is_false")]
    pub sandbox: bool,
}

/// Container runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// Docker Engine.
    Docker,
    /// containerd, by way of Kubernetes, nerdctl or `ctr`.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman.
    Podman,
    /// crun used directly.
    Crun,
    /// runc used directly.
    Runc,
    /// BuildKit, a build step.
    Buildkit,
    /// LXC, LXD, Incus.
    Lxc,
    /// systemd-nspawn, or another machine registered with systemd-machined.
    Nspawn,
    /// Garden (Cloud Foundry).
    Garden,
    /// Something that names cgroups by container id, but does not say what it is.
    Oci,
}

impl Runtime {
    /// Name as serialised.
    pub fn as_str(self) -> &'static str {
        match self {
            Runtime::Docker => "docker",
            Runtime::Containerd => "containerd",
            Runtime::CriO => "cri-o",
            Runtime::Podman => "podman",
            Runtime::Crun => "crun",
            Runtime::Runc => "runc",
            Runtime::Buildkit => "buildkit",
            Runtime::Lxc => "lxc",
            Runtime::Nspawn => "nspawn",
            Runtime::Garden => "garden",
            Runtime::Oci => "oci",
        }
    }
}

/// How a process was tied to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// Its cgroup path carries the id.
    CgroupPath,
    /// Its cgroup is the one in the runtime's state file, or below it.
    StateCgroup,
    /// The container's first process, of the start time in the runtime's state file, is this
    /// process or an ancestor.
    StatePid,
}

/// A field of [`Identity`], for remarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named after the fields of `Identity` and `Container`")]
pub enum Field {
    StartNs,
    Exec,
    BootId,
    Comm,
    Exe,
    ExeSha256,
    Cmdline,
    Cwd,
    User,
    #[serde(rename = "loginuid")]
    LoginUid,
    Parents,
    Cgroup,
    Unit,
    Container,
    #[serde(rename = "container.name")]
    ContainerName,
    #[serde(rename = "container.image")]
    ContainerImage,
    #[serde(rename = "container.pod")]
    ContainerPod,
    #[serde(rename = "container.labels")]
    ContainerLabels,
}

/// Something to be said of a field. Serialised as `{"field": .., "reason": ".."}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// Which field.
    pub field: Field,
    /// What.
    #[serde(serialize_with = "as_text")]
    pub reason: Reason,
}

/// Why a field has no value, or what is to be said of the one it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The process was gone before it could be read.
    #[error("process ended before it was read")]
    Ended,
    /// The process has ended and waits for its parent: memory and files are gone.
    #[error("process has ended and was not yet reaped")]
    Zombie,
    /// Another process has the pid now.
    #[error(
        "process ended, its pid was reused: found a process started at {found_ns} ns, expected {expected_ns} ns"
    )]
    PidReused {
        /// Start of the process found, nanoseconds since boot, rounded down to a clock tick.
        found_ns: u64,
        /// Start of the process looked for.
        expected_ns: u64,
    },
    /// Kernel threads have no program.
    #[error("kernel thread")]
    KernelThread,
    /// The process runs another program now: found at once, or by reading it twice.
    #[error(
        "process runs another program since: found inode {found_inode} on device {found_dev:#x}, expected inode {expected_inode} on device {expected_dev:#x}"
    )]
    ProgramChanged {
        /// Inode of the program read.
        found_inode: u64,
        /// Its device, as in the kernel.
        found_dev: u32,
        /// Inode of the program at the time of the event.
        expected_inode: u64,
        /// Its device.
        expected_dev: u32,
    },
    /// The kernel event had no start time (no BTF): the pid alone ties the facts to the process.
    #[error("the kernel event has no start time: tied to the process by its pid alone")]
    NoKernelStart,
    /// The kernel event had no exec generation (no BTF).
    #[error("the kernel event has no exec generation")]
    NoKernelExec,
    /// The kernel event did not say which file was the program.
    #[error("the kernel event does not name the program's file: an exec since would not be seen")]
    NoKernelExe,
    /// The file's inode is as in the event, its device could not be compared.
    #[error("device of the program's file not comparable with the kernel event")]
    DeviceNotCompared,
    /// The file is on a file system whose server, a program of some user, chooses what each reader
    /// sees.
    #[error("program is on a FUSE file system: whoever serves it chooses what each reader sees")]
    FuseFile,
    /// The file is not a regular file.
    #[error("program is not a regular file")]
    NotRegular,
    /// More bytes than are taken.
    #[error("too large: {found} bytes, at most {max} are taken")]
    TooLarge {
        /// Size found.
        found: u64,
        /// Limit.
        max: u64,
    },
    /// The file changed while its digest was taken.
    #[error("file changed while it was read")]
    ChangedWhileRead,
    /// The read did not come back in time: memory or file behind a server that does not answer.
    #[error("read did not end within {ms} ms")]
    TimedOut {
        /// Time given.
        ms: u64,
    },
    /// Too many earlier reads did not come back.
    #[error("not read: {stuck} earlier reads still hang")]
    TooManyStuck {
        /// How many.
        stuck: usize,
    },
    /// No right to read it.
    #[error("permission denied")]
    Denied,
    /// Kernel or runtime has no such fact.
    #[error("not provided by this kernel")]
    NotProvided,
    /// Another error of the operating system.
    #[error("{0}")]
    Os(String),
    /// The file was there, its contents were not understood.
    #[error("not understood: {0}")]
    Malformed(&'static str),
    /// `loginuid` is 4294967295.
    #[error("unset: not started from a login session")]
    LoginUnset,
    /// No such uid in the host's `/etc/passwd`.
    #[error("uid {0} is not in the host's /etc/passwd")]
    UnknownUid(u32),
    /// The process has no arguments at all.
    #[error("process has an empty command line")]
    EmptyCmdline,
    /// More ancestors than are followed.
    #[error("more than {0} ancestors")]
    MoreParents(usize),
    /// Parents form a ring, or a parent is younger than its child.
    #[error("chain of parents broken: the parent of {0} has changed while it was followed")]
    ParentsBroken(u32),
    /// The cgroup id of the event is of no cgroup known.
    #[error("cgroup id {0} is not known: the cgroup is gone")]
    UnknownCgroup(u64),
    /// The event has no cgroup id.
    #[error("the kernel event has no cgroup id")]
    NoKernelCgroup,
    /// On v1 and hybrid hosts all processes may be in the root of the v2 hierarchy.
    #[error("cgroup is the root: says nothing on hosts with cgroup v1")]
    RootCgroup,
    /// The process was moved between the event and the reading.
    #[error("process was moved to {now} since")]
    Moved {
        /// Cgroup it is in now.
        now: String,
    },
    /// The cgroup of the event and the one read could not be compared.
    #[error("cgroup not compared with the kernel event")]
    CgroupNotCompared,
    /// The path starts above the agent's own cgroup namespace.
    #[error("cgroup path is relative to the agent's own cgroup namespace")]
    CgroupNamespace,
    /// The cgroup is that of a container, but may be shared with others: the container's first
    /// process or this one is gone, or the container has no namespaces of its own.
    #[error("by its cgroup alone: namespaces could not be compared")]
    CgroupAlone,
    /// No file of a runtime on this host tells.
    #[error("no file of a container runtime on this host tells")]
    NoRuntimeFile,
    /// The runtime keeps this in a database that is not read.
    #[error("kept by {0} in a database that is not read")]
    RuntimeDatabase(&'static str),
    /// A file that tells belongs to somebody else than the container's user.
    #[error("file of the runtime belongs to uid {found}, expected {expected}")]
    ForeignFile {
        /// Owner found.
        found: u32,
        /// Owner expected.
        expected: u32,
    },
    /// More labels, or longer ones, than are kept.
    #[error("labels cut: {kept} of {found} kept whole")]
    LabelsCut {
        /// Labels kept as they were.
        kept: usize,
        /// Labels found.
        found: usize,
    },
}

/// A SHA-256 digest, serialised as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256(pub [u8; 32]);

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn as_text<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(reason)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}
