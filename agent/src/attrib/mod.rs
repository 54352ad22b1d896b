//! Who did it: from a kernel event to a process, its program, its unit, its container.
//!
//! A [`Resolver`] takes a [`pgward_common::Actor`], which the kernel filled in at the time of the
//! event, reads what `/proc` and the files of container runtimes add, and gives an [`Identity`].
//! What could not be had is in [`Identity::missing`] with a [`Reason`], never just absent; what is
//! to be taken with care is in [`Identity::doubts`].
//!
//! ```text
//!   Actor (kernel, at the event) ── tgid, start, exec, uid, gid, cgroup id, program's inode
//!     │ pinned /proc/PID, start compared ............ another process with this pid is never taken for it
//!     ├─ program's inode compared before and after ... another program of the process neither
//!     ├─ cgroup path, its id compared ── container id, pod uid, unit
//!     └─ files of the runtime on the host ── container name, image, pod, labels
//! ```
//!
//! # What each field proves
//!
//! "Root" is whoever has the rights of root in the initial user namespace: root can forge all of
//! it, and is not considered. "Runtime" is a container runtime that runs as root.
//!
//! | field | says | chosen by | does not say |
//! | --- | --- | --- | --- |
//! | `pid`, `start_ns`, `boot_id` | one process, for ever | kernel | - |
//! | `exec` | which program of that process: grows at each `execve` | kernel | which program: see `exe` |
//! | `uid`, `gid` | credentials at the event, initial user namespace | kernel | the uid the process sees in its own namespace |
//! | `user` | name of the uid on the host | root | that the container calls that uid so |
//! | `loginuid` | who logged in, through `su` and `sudo` | PAM at login, then immutable but for `CAP_AUDIT_CONTROL` | unset for services and most containers |
//! | `comm` | a name | the process (`PR_SET_NAME`) | anything |
//! | `exe` | path by which the program was found | the file system of the process: in a container its image, or the process itself if it can mount | that the path means the same on the host |
//! | `exe_sha256` | content of the program's file, read through `/proc/PID/exe` | kernel, for files the kernel keeps | what runs in memory: libraries, `LD_PRELOAD`, `ptrace`, scripts of an interpreter |
//! | `cmdline` | arguments, as they are in the memory of the process now | the process, at any time | what it was started with |
//! | `cwd` | a folder | the process | - |
//! | `parents` | who started whom, when it was read | kernel | parents that ended: their children move to a reaper |
//! | `cgroup` | where the process is accounted for | kernel; who owns a folder chooses names below it | - |
//! | `unit`, `slice` | unit of the system's systemd | systemd | which process of the unit |
//! | `user_unit` | unit of a user's systemd | that user | anything against that user |
//! | `container.id` | the outermost container | runtime; a user when `claimed_by` says so | containers inside it: `nested` is its own claim |
//! | `container.name`, `image`, `pod`, `labels` | what the runtime noted | who may start containers | that the image's content is what its name promises |
//!
//! Rules that follow: never let a rule rest on `comm`, `cmdline` or `exe` alone where the process
//! is not trusted; a container with `claimed_by` is no better than that uid; [`Confidence`] and
//! `missing` are part of the answer. A container is never recognised by its network namespace: pods
//! share it and processes visit it.
//!
//! # How facts are kept apart from other processes' facts
//!
//! - `/proc/PID` is opened once and read through that descriptor. It belongs to one process: after
//!   its end reads fail, even when the pid is in use again.
//! - Its start time (`stat`, field 22, clock ticks) must be that of the event within one tick.
//!   Within a tick a pid cannot come round again: that takes `pid_max` forks.
//! - The inode of the program is compared with that of the event, before and after the arguments
//!   are read. An exec of the very same file, and one that was undone in between, are not seen;
//!   `exec` in the next event tells.
//! - Without BTF the event has no start time. Facts are then of the process that has the pid when
//!   it is read, and [`Confidence::Unconfirmed`] says so; such identities are never kept.
//! - `/proc` must be that of the initial pid namespace, and the agent in the initial time
//!   namespace: [`Resolver::gaps`] tells when they are not.
//!
//! # Threads
//!
//! [`Resolver::resolve`] blocks: it reads files and hashes programs, and is to be called on a
//! thread kept for it. [`Resolver::lookup`] does not block, and is for threads that carry data.

mod cgroup_path;
mod cgroup_tree;
mod cmdline;
mod exe;
mod gather;
mod identity;
mod lru;
mod parents;
mod patience;
mod place;
mod program;
mod resolver;
mod runtime;
mod source;
mod summary;
mod users;

pub use cgroup_tree::{CGROUP_DEPTH_MAX, CGROUP_IDS_MAX, CGROUP_WALK_MAX, CGROUP_WALK_PAUSE};
pub use cmdline::{ARG_BYTES_MAX, ARGS_MAX, CMDLINE_READ_MAX, CMDLINE_WINDOW, redact};
pub use exe::{EXE_HASH_BYTES_MAX, EXE_HASHES_MAX};
pub use identity::{
    CmdlineSize, Confidence, Container, Evidence, Field, Identity, Parent, Reason, Remark, Runtime,
    Sha256,
};
pub use parents::PARENTS_MAX;
pub use patience::STUCK_MAX;
pub use resolver::{
    AttribSettings, Gap, IDENTITIES_MAX, RETRIES_MAX, RETRY_AFTER, Resolver, ResolverError,
};
pub use runtime::{
    DIR_ENTRIES_MAX, LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX, NAME_BYTES_MAX,
    RUNTIME_FILE_BYTES_MAX, RuntimeRoots,
};
pub use source::{
    Bounded, NamespaceKind, ProcFile, ProcHandle, ProcLink, ProcSource, ProcStat, RootedProc,
    SourceError,
};
pub use users::PASSWD_BYTES_MAX;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod tests;
