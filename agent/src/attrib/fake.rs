//! A host made of files, for tests: proc tree, cgroup tree, root file system.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgward_common::Actor;

use super::exe::ExeFile;
use super::resolver::{AttribSettings, Resolver};
use super::source::{
    Bounded, NamespaceKind, ProcFile, ProcHandle, ProcLink, ProcSource, ProcStat, RootedProc,
    SourceError,
};

pub(super) const BOOT_ID: &str = "11112222-3333-4444-5555-666677778888";
pub(super) const UID: u32 = 1000;

/// The folders of a host.
pub(super) struct FakeHost {
    folder: tempfile::TempDir,
}

/// One process of it, to be adjusted and then written.
pub(super) struct FakeProcess<'h> {
    host: &'h FakeHost,
    pub(super) pid: u32,
    pub(super) ppid: u32,
    pub(super) start_ticks: u64,
    pub(super) comm: &'static str,
    pub(super) state: char,
    pub(super) flags: u32,
    pub(super) cmdline: Vec<u8>,
    pub(super) cgroup: String,
    pub(super) loginuid: &'static str,
    pub(super) exe: &'static [u8],
}

impl FakeHost {
    pub(super) fn new() -> Self {
        let host = Self { folder: tempfile::tempdir().expect("a folder") };
        for folder in ["proc", "root", "cgroup", "programs"] {
            fs::create_dir(host.path(folder)).expect("empty");
        }
        host.write("proc/sys/kernel/random/boot_id", format!("{BOOT_ID}\n"));
        host.write(
            "root/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:,,,:/home/alice:/bin/sh\n",
        );
        host
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    /// Writes a file of the host, with the folders above it.
    pub(super) fn write(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("below the host")).expect("folders");
        fs::write(path, contents).expect("written");
    }

    pub(super) fn process(&self, pid: u32) -> FakeProcess<'_> {
        FakeProcess {
            host: self,
            pid,
            ppid: 0,
            start_ticks: 100_000 + u64::from(pid),
            comm: "psql",
            state: 'S',
            flags: 0,
            cmdline: b"psql\0-h\0db\0".to_vec(),
            cgroup: "0::/system.slice/app.service\n".to_owned(),
            loginuid: "1000",
            exe: b"program",
        }
    }

    pub(super) fn remove(&self, pid: u32) {
        fs::remove_dir_all(self.path(&format!("proc/{pid}"))).expect("was there");
    }

    /// The kernel's view of a process at this moment.
    pub(super) fn actor(&self, pid: u32) -> Actor {
        let handle = RootedProc::new(self.path("proc")).open(pid).expect("was written");
        let stat = handle.stat().expect("was written");
        let mut actor = Actor {
            start_boottime_ns: stat.start_ticks * TICK_NS + 7_654_321,
            exec_id: 3,
            tgid: pid,
            tid: pid,
            uid: UID,
            gid: UID,
            ..Actor::default()
        };
        for (to, from) in actor.comm.iter_mut().zip(stat.comm.bytes()) {
            *to = from;
        }
        if let Ok(exe) = handle.open_exe() {
            let id = ExeFile::new(exe).expect("a file").id;
            (actor.exe_inode, actor.exe_dev) = (id.inode, id.dev);
        }
        let cgroup = handle.read(ProcFile::Cgroup, 4096, 4096).expect("was written").bytes;
        let cgroup = String::from_utf8(cgroup).expect("ours");
        let v2 = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
        actor.cgroup_id = self.cgroup_id(v2);
        actor
    }

    /// Id of a cgroup, which is made if need be.
    pub(super) fn cgroup_id(&self, path: &str) -> u64 {
        let folder = self.path(&format!("cgroup{path}"));
        fs::create_dir_all(&folder).expect("folders");
        fs::metadata(folder).expect("made").ino()
    }

    pub(super) fn settings(&self) -> AttribSettings {
        AttribSettings {
            proc_root: self.path("proc"),
            host_root: self.path("root"),
            cgroup2_mount: Some(self.path("cgroup")),
            host_uid: own_uid(),
            // Deadlines that no busy machine meets by accident.
            read_deadline: LONG,
            hash_deadline: LONG,
            files_deadline: LONG,
            ..AttribSettings::default()
        }
    }

    pub(super) fn resolver(&self) -> Resolver {
        Resolver::new(self.settings()).expect("the root is there")
    }

    /// A resolver whose reads of arguments call `hook` first.
    pub(super) fn hooked(
        &self,
        settings: AttribSettings,
        hook: impl Fn() + Send + Sync + 'static,
    ) -> Resolver {
        let source = Hooked { inner: RootedProc::new(self.path("proc")), hook: Arc::new(hook) };
        Resolver::with_source(settings, Arc::new(source)).expect("the root is there")
    }
}

const LONG: std::time::Duration = std::time::Duration::from_secs(600);
/// 100 ticks per second, as everywhere.
pub(super) const TICK_NS: u64 = 10_000_000;

pub(super) fn own_uid() -> u32 {
    nix::unistd::getuid().as_raw()
}

impl FakeProcess<'_> {
    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn cgroup(self, contents: &str) -> Self {
        let contents = contents.to_owned();
        self.with(|process| process.cgroup = contents)
    }

    /// Writes the files of the process, and returns the kernel's view of it.
    pub(super) fn start(self) -> Actor {
        let file = |name: &str| format!("proc/{}/{name}", self.pid);
        let stat = format!(
            "{} ({}) {} {} 1 1 0 -1 {} 0 0 0 0 0 0 0 0 20 0 1 0 {} 1 1\n",
            self.pid, self.comm, self.state, self.ppid, self.flags, self.start_ticks
        );
        self.host.write(&file("stat"), stat);
        self.host.write(&file("cmdline"), &self.cmdline);
        self.host.write(&file("cgroup"), &self.cgroup);
        self.host.write(&file("loginuid"), self.loginuid);
        self.host.write(&file("ns/mnt"), "");
        self.host.write(&file("ns/pid"), "");
        let program = format!("programs/{}", self.pid);
        self.host.write(&program, self.exe);
        link(&self.host.path(&program), &self.host.path(&file("exe")));
        link(Path::new("/srv/app"), &self.host.path(&file("cwd")));
        self.host.actor(self.pid)
    }
}

/// Makes a link, in place of one that may be there.
pub(super) fn link(to: &Path, at: &Path) {
    let _ = fs::remove_file(at);
    symlink(to, at).expect("free");
}

type Hook = Arc<dyn Fn() + Send + Sync>;

struct Hooked {
    inner: RootedProc,
    hook: Hook,
}

impl ProcSource for Hooked {
    fn open(&self, pid: u32) -> Result<Arc<dyn ProcHandle>, SourceError> {
        let inner = self.inner.open(pid)?;
        Ok(Arc::new(HookedHandle { inner, hook: Arc::clone(&self.hook) }))
    }

    fn boot_id(&self) -> Result<String, SourceError> {
        self.inner.boot_id()
    }

    fn ticks_per_second(&self) -> u64 {
        self.inner.ticks_per_second()
    }
}

struct HookedHandle {
    inner: Arc<dyn ProcHandle>,
    hook: Hook,
}

impl ProcHandle for HookedHandle {
    fn stat(&self) -> Result<ProcStat, SourceError> {
        self.inner.stat()
    }

    fn read(&self, file: ProcFile, keep_max: usize, read_max: u64) -> Result<Bounded, SourceError> {
        if file == ProcFile::Cmdline {
            (self.hook)();
        }
        self.inner.read(file, keep_max, read_max)
    }

    fn link(&self, link: ProcLink) -> Result<PathBuf, SourceError> {
        self.inner.link(link)
    }

    fn open_exe(&self) -> Result<std::fs::File, SourceError> {
        self.inner.open_exe()
    }

    fn namespace(&self, kind: NamespaceKind) -> Result<u64, SourceError> {
        self.inner.namespace(kind)
    }
}
