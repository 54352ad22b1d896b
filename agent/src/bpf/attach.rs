//! Links and pins: attach, swap, detach; which cgroup we are on.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, statfs},
};
use thiserror::Error;
use tracing::warn;

use super::sys::{self, AttachType, BPF_F_PREORDER};

const ROOT_INODE: u64 = 1;

/// What can go wrong between a loaded program and a working hook.
#[derive(Debug, Error)]
pub enum AttachError {
    /// No cgroup v2 file system is mounted.
    #[error(
        "no cgroup v2 file system is mounted\n\
         hint: mount one, e.g. `mount -t cgroup2 none /sys/fs/cgroup/unified`"
    )]
    NoCgroup2,
    /// The path is not in a cgroup v2 file system.
    #[error("`{path}` is not a cgroup v2 folder")]
    NotCgroup2 {
        /// The path.
        path: PathBuf,
    },
    /// The mount shows a subtree: we are in a cgroup namespace.
    #[error(
        "`{path}` is not the cgroup root: its inode is {inode}, expected 1; attached there, \
         everything outside of it would go unseen\n\
         hint: run outside of the cgroup namespace, or name the subtree in `bpf.cgroup` to \
         intercept only what runs inside"
    )]
    NotRoot {
        /// The mount.
        path: PathBuf,
        /// Its inode.
        inode: u64,
    },
    /// Our own process is outside of the subtree, so its sockets would not be seen by `sock_ops`.
    #[error(
        "the agent runs in cgroup `{own}`, outside of `{cgroup}`: its accepted sockets would \
         not take over identities\n\
         hint: start it inside, e.g. write its pid to `{cgroup}/cgroup.procs` first"
    )]
    AgentOutside {
        /// The agent's cgroup, from `/proc/self/cgroup`.
        own: String,
        /// The attach point.
        cgroup: PathBuf,
    },
    /// Another agent holds the cgroup.
    #[error("another pgward is attached to `{path}`\nhint: stop it first; `pgward status` asks it")]
    AlreadyAttached {
        /// The attach point.
        path: PathBuf,
    },
    /// The pins belong to an attachment elsewhere.
    #[error(
        "pins in `{path}` belong to cgroup id {found}, expected {expected}\n\
         hint: `pgward detach` removes them, or set another `bpf.pin_path`"
    )]
    OtherCgroup {
        /// The pin folder.
        path: PathBuf,
        /// Cgroup id of the link.
        found: u64,
        /// Cgroup id configured.
        expected: u64,
    },
    /// A program without link holds the hook exclusively.
    #[error(
        "cannot attach `{program}`: a program attached without BPF_F_ALLOW_MULTI holds the hook\n\
         hint: `bpftool cgroup show {cgroup}` names it"
    )]
    Exclusive {
        /// Our program.
        program: &'static str,
        /// The attach point.
        cgroup: PathBuf,
    },
    /// The pin folder is not in bpffs.
    #[error("`{path}` is not in a BPF file system\nhint: `mount -t bpf bpf {path}`")]
    NotBpfFs {
        /// The pin folder.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("{call} failed for `{what}`")]
    System {
        /// The call.
        call: &'static str,
        /// Its object.
        what: String,
        /// The error.
        #[source]
        source: io::Error,
    },
}

fn system(call: &'static str, what: impl Into<String>) -> impl FnOnce(io::Error) -> AttachError {
    let what = what.into();
    move |source| AttachError::System { call, what, source }
}

/// The cgroup that is intercepted, locked against a second agent for as long as this value lives.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    id: u64,
    is_root: bool,
    lock: Flock<File>,
}

impl Cgroup {
    /// Opens the cgroup v2 root (`None`) or a named subtree, and takes the lock. The lock is on the folder itself, so it does
    /// not matter through which mount a second agent looks.
    pub fn open(subtree: Option<&Path>) -> Result<Self, AttachError> {
        let path = match subtree {
            Some(path) => path.to_owned(),
            None => cgroup2_mount()?,
        };
        let what = path.display().to_string();
        let file = File::open(&path).map_err(system("open", &what))?;
        let kind = statfs(&path).map_err(|e| system("statfs", &what)(e.into()))?;
        if kind.filesystem_type() != CGROUP2_SUPER_MAGIC {
            return Err(AttachError::NotCgroup2 { path });
        }
        let id = file.metadata().map_err(system("stat", &what))?.ino();
        let is_root = id == ROOT_INODE;
        if subtree.is_none() && !is_root {
            return Err(AttachError::NotRoot { path, inode: id });
        }
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            if errno == Errno::EWOULDBLOCK {
                AttachError::AlreadyAttached { path: path.clone() }
            } else {
                system("flock", &what)(errno.into())
            }
        })?;
        let cgroup = Self { path, id, is_root, lock };
        cgroup.check_agent_inside()?;
        Ok(cgroup)
    }

    /// Cgroup id: the inode of its folder.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is the root of the hierarchy: everything on the host is inside.
    pub fn is_root(&self) -> bool {
        self.is_root
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    fn check_agent_inside(&self) -> Result<(), AttachError> {
        if self.is_root {
            return Ok(());
        }
        let own =
            fs::read_to_string("/proc/self/cgroup").map_err(system("read", "/proc/self/cgroup"))?;
        let own = own.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/").to_owned();
        let mut at = cgroup2_mount()?.join(own.trim_start_matches('/'));
        loop {
            if fs::metadata(&at).is_ok_and(|m| m.ino() == self.id) {
                return Ok(());
            }
            if !at.pop() {
                return Err(AttachError::AgentOutside { own, cgroup: self.path.clone() });
            }
        }
    }
}

/// First cgroup v2 mount of this mount namespace (`/proc/mounts`): hybrid hosts have it at `/sys/fs/cgroup/unified`.
pub(super) fn cgroup2_mount() -> Result<PathBuf, AttachError> {
    let mounts = fs::read_to_string("/proc/mounts").map_err(system("read", "/proc/mounts"))?;
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .map(|fields| PathBuf::from(fields[1]))
        .ok_or(AttachError::NoCgroup2)
}

/// The hooks in the order of attaching and swapping: a connect must never meet a hand-over that does not know it.
pub(super) const HOOKS: [(&str, AttachType); 8] = [
    ("sock_ops_events", AttachType::SockOps),
    ("hold_syn", AttachType::Egress),
    ("getpeername4", AttachType::Getpeername4),
    ("getpeername6", AttachType::Getpeername6),
    ("sock_release", AttachType::SockRelease),
    ("sock_create", AttachType::SockCreate),
    ("connect4", AttachType::Connect4),
    ("connect6", AttachType::Connect6),
];

/// The hook of a program, as kernel documentation names it.
pub fn hook(program: &str) -> &'static str {
    match program {
        "connect4" | "connect4_redirect" => "cgroup/connect4",
        "connect6" | "connect6_redirect" => "cgroup/connect6",
        "getpeername4" => "cgroup/getpeername4",
        "getpeername6" => "cgroup/getpeername6",
        "hold_syn" => "cgroup_skb/egress",
        "sendmsg_locked" => "tp_btf/tcp_sendmsg_locked",
        "sock_create" => "cgroup/sock_create",
        "sock_ops_events" => "sock_ops",
        "sock_release" => "cgroup/sock_release",
        _ => "unknown hook",
    }
}

/// The folder in bpffs that holds links and maps. The version in its name is that of the shared layouts: another layout
/// gets another folder.
#[derive(Debug, Clone)]
pub struct PinFolder {
    root: PathBuf,
}

impl PinFolder {
    /// Makes the folder, mounting bpffs at `/sys/fs/bpf` if the path is there and nothing is mounted.
    pub fn create(root: &Path) -> Result<Self, AttachError> {
        let standard = Path::new("/sys/fs/bpf");
        if root.starts_with(standard) && !is_bpffs(standard) {
            mount(Some("bpf"), standard, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
                .map_err(|e| system("mount", "/sys/fs/bpf")(e.into()))?;
        }
        let folder = Self { root: root.to_owned() };
        for dir in [folder.links(), folder.maps()] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(system("mkdir", dir.display().to_string()))?;
        }
        if !is_bpffs(root) {
            let _ = fs::remove_dir(folder.links());
            let _ = fs::remove_dir(folder.maps());
            return Err(AttachError::NotBpfFs { path: root.to_owned() });
        }
        Ok(folder)
    }

    /// An existing folder; nothing is made.
    pub fn existing(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The path given.
    pub fn path(&self) -> &Path {
        &self.root
    }

    pub(super) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    pub(super) fn maps(&self) -> PathBuf {
        self.root.join(format!("maps-v{}", pgward_common::ABI_VERSION))
    }

    /// Errors unless the pins are free or those of `cgroup`. Their maps are another agent's otherwise: not even to be opened.
    pub(super) fn check_belongs_to(&self, cgroup: &Cgroup) -> Result<(), AttachError> {
        match self.attached_to() {
            Some(found) if found != cgroup.id() => Err(AttachError::OtherCgroup {
                path: self.path().to_owned(),
                found,
                expected: cgroup.id(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Cgroup id of the pinned links, if there are any that are still attached.
    pub fn attached_to(&self) -> Option<u64> {
        HOOKS.iter().find_map(|(name, _)| {
            let link = sys::open_pin(&self.links().join(name)).ok()?;
            sys::link_info(link.as_fd()).ok().map(|info| info.cgroup_id).filter(|id| *id != 0)
        })
    }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type() == BPF_FS_MAGIC)
}

/// The links at work. Held, so that a pin that is removed by hand takes no hook away while the agent runs.
#[derive(Debug)]
pub struct Links(pub(super) Vec<(&'static str, OwnedFd)>);

impl Links {
    /// Name of a program that was detached from under us, if any was.
    pub fn detached(&self) -> Option<&'static str> {
        let gone = |link: &OwnedFd| sys::link_info(link.as_fd()).is_ok_and(|i| i.cgroup_id == 0);
        self.0.iter().find(|(_, link)| gone(link)).map(|(name, _)| *name)
    }

    /// What is attached: names and ids of the programs.
    pub fn programs(&self) -> Vec<(&'static str, u32)> {
        let id = |link: &OwnedFd| sys::link_info(link.as_fd()).map_or(0, |info| info.program_id);
        self.0.iter().map(|(name, link)| (*name, id(link))).collect()
    }

    /// Name of a program whose link is not the one that is pinned in `folder`, if there is any: its hook goes with the agent.
    pub fn unpinned(&self, folder: &PinFolder) -> Option<&'static str> {
        let id = |link: BorrowedFd<'_>| sys::link_info(link).map(|info| info.id).ok();
        let pinned = |name: &str| id(sys::open_pin(&folder.links().join(name)).ok()?.as_fd());
        let missing = |(name, link): &&(&'static str, OwnedFd)| pinned(name) != id(link.as_fd());
        self.0.iter().find(missing).map(|(name, _)| *name)
    }
}

/// Takes back what a start made, unless the start says that it came to its end: hooks of an agent that never ran would
/// refuse connections. Hooks that were there before, with their maps, stay.
#[derive(Debug)]
#[must_use = "dropped, it takes the hooks back"]
pub struct Undo {
    folder: PinFolder,
    made: Vec<&'static str>,
    kept: bool,
}

impl Undo {
    pub(super) fn of(folder: &PinFolder) -> Self {
        Self { folder: folder.clone(), made: Vec::new(), kept: false }
    }

    /// The start succeeded.
    pub fn keep(mut self) {
        self.kept = true;
    }

    fn undo(&self) -> Result<(), AttachError> {
        let links = self.folder.links();
        // Those that redirect go first, as in `detach`.
        for name in self.made.iter().rev() {
            unhook(&links, name)?;
        }
        let some_left = HOOKS.iter().any(|(name, _)| links.join(name).exists());
        if !some_left {
            detach(&self.folder)?;
        }
        Ok(())
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = self.undo()
        {
            warn!(%error, "cannot take back hooks; `pgward detach` removes them");
        }
    }
}

/// Attaches `program` under its pin, or swaps it into the link that is pinned there. Gives the link; `undo` hears of a new one.
pub(super) fn attach(
    folder: &PinFolder,
    cgroup: &Cgroup,
    name: &'static str,
    attach_type: AttachType,
    program: BorrowedFd<'_>,
    undo: &mut Undo,
) -> Result<OwnedFd, AttachError> {
    let pin = folder.links().join(name);
    if let Ok(link) = sys::open_pin(&pin) {
        let info = sys::link_info(link.as_fd()).map_err(system("BPF_OBJ_GET_INFO_BY_FD", name))?;
        if info.cgroup_id == cgroup.id() {
            match sys::link_update(link.as_fd(), program) {
                Ok(()) => return Ok(link),
                // Somebody detached it by force: make it anew.
                Err(e) if e.raw_os_error() == Some(libc::ENOLINK) => {}
                Err(e) => return Err(system("BPF_LINK_UPDATE", name)(e)),
            }
        } else if info.cgroup_id != 0 {
            return Err(AttachError::OtherCgroup {
                path: folder.path().to_owned(),
                found: info.cgroup_id,
                expected: cgroup.id(),
            });
        }
        fs::remove_file(&pin).map_err(system("unlink", pin.display().to_string()))?;
    }
    // Before programs of child cgroups, where the kernel knows how (6.15); egress and sock_ops have no rewrites to win.
    let created = match sys::link_create(program, cgroup.fd(), attach_type, BPF_F_PREORDER) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            sys::link_create(program, cgroup.fd(), attach_type, 0)
        }
        other => other,
    };
    let link = created.map_err(|e| {
        if e.raw_os_error() == Some(libc::EPERM) {
            AttachError::Exclusive { program: name, cgroup: cgroup.path().to_owned() }
        } else {
            system("BPF_LINK_CREATE", name)(e)
        }
    })?;
    sys::pin(link.as_fd(), &pin).map_err(system("BPF_OBJ_PIN", pin.display().to_string()))?;
    undo.made.push(name);
    Ok(link)
}

/// Removes every pin: the hooks are gone when this returns. Gives the names of what was removed.
pub fn detach(folder: &PinFolder) -> Result<Vec<String>, AttachError> {
    let mut removed = Vec::new();
    let Ok(entries) = fs::read_dir(folder.path()) else { return Ok(removed) };
    // The hooks that redirect go first, so that no connect meets half of the set.
    let links = folder.links();
    for (name, _) in HOOKS.iter().rev() {
        if unhook(&links, name)? {
            removed.push(format!("links/{name}"));
        }
    }
    for entry in entries.flatten() {
        let dir = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "links" && !name.starts_with("maps-v") {
            continue;
        }
        for pin in
            fs::read_dir(&dir).map_err(system("readdir", dir.display().to_string()))?.flatten()
        {
            let what = pin.path().display().to_string();
            fs::remove_file(pin.path()).map_err(system("unlink", what))?;
            removed.push(format!("{name}/{}", pin.file_name().to_string_lossy()));
        }
        fs::remove_dir(&dir).map_err(system("rmdir", dir.display().to_string()))?;
    }
    // The folder itself, unless it is a mount point or holds what is not ours.
    let _ = fs::remove_dir(folder.path());
    Ok(removed)
}

/// Takes one hook away, and its pin. False: there was none.
fn unhook(links: &Path, name: &str) -> Result<bool, AttachError> {
    let pin = links.join(name);
    // A running agent holds its links too. Before Linux 5.9 they go with it.
    if let Ok(link) = sys::open_pin(&pin) {
        let _ = sys::link_detach(link.as_fd());
    }
    match fs::remove_file(&pin) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(system("unlink", pin.display().to_string())(e)),
    }
}
