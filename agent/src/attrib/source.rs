//! Where facts about processes come from.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use procfs::ProcError;
use procfs::process::Process;

use super::identity::Reason;

/// Facts about the processes of a host. [`RootedProc`] reads a proc file system; tests bring
/// others.
pub trait ProcSource: Send + Sync {
    /// Opens the process that has `pid` now. The handle stays with that process: after its end
    /// reads fail, and never tell of another process that got the same pid.
    ///
    /// Errors: [`SourceError::Gone`] when there is none.
    fn open(&self, pid: u32) -> Result<Arc<dyn ProcHandle>, SourceError>;

    /// Id of this boot of the system, a UUID.
    fn boot_id(&self) -> Result<String, SourceError>;

    /// Clock ticks per second, the unit of [`ProcStat::start_ticks`].
    fn ticks_per_second(&self) -> u64;
}

/// One process.
///
/// `read` of [`ProcFile::Cmdline`] and `open_exe` may take as long as the process likes: its memory
/// and its program may lie on a file system served by one of its friends. The others answer from
/// kernel memory.
pub trait ProcHandle: Send + Sync {
    /// State, parent and start.
    fn stat(&self) -> Result<ProcStat, SourceError>;

    /// Reads a file.
    ///
    /// Shape: at most `keep_max` bytes are returned, at most `read_max` are read and counted.
    fn read(&self, file: ProcFile, keep_max: usize, read_max: u64) -> Result<Bounded, SourceError>;

    /// Reads a link. The path is one in the mount namespace of the process: to be shown, never to
    /// be opened.
    fn link(&self, link: ProcLink) -> Result<PathBuf, SourceError>;

    /// Opens the program's file itself, whatever its name is now and in whichever mount namespace.
    fn open_exe(&self) -> Result<File, SourceError>;

    /// Inode of a namespace of the process, which identifies it while it lives.
    fn namespace(&self, kind: NamespaceKind) -> Result<u64, SourceError>;
}

/// A process's files that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the files, see proc(5)")]
pub enum ProcFile {
    Cgroup,
    Cmdline,
    Comm,
    LoginUid,
    MountInfo,
}

/// A process's links that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the links, see proc(5)")]
pub enum ProcLink {
    Cwd,
    Exe,
}

/// Namespaces by which a process can be told to be in a container. The network namespace is not
/// among them: pods share it and processes visit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "see namespaces(7)")]
pub enum NamespaceKind {
    Mount,
    Pid,
}

/// Part of `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcStat {
    /// Name of the process (its first thread).
    pub comm: String,
    /// `R`, `S`, `D`, `Z`, ...
    pub state: u8,
    /// Parent; 0 for none, or one outside of the pid namespace.
    pub ppid: u32,
    /// `PF_*` flags of the kernel.
    pub flags: u32,
    /// Start in clock ticks since boot, suspend included (field 22).
    pub start_ticks: u64,
}

impl ProcStat {
    /// Whether the process has ended and only waits for its parent.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Whether it is a thread of the kernel.
    pub fn is_kernel_thread(&self) -> bool {
        const PF_KTHREAD: u32 = 0x0020_0000; // include/linux/sched.h
        self.flags & PF_KTHREAD != 0
    }

    /// Parses the one line of `/proc/PID/stat`.
    ///
    /// Layout (proc(5)): pid, name in parentheses, then fields between single spaces. The name may
    /// itself hold spaces and parentheses, so that the last `)` ends it. procfs's own parser is not
    /// used as it indexes before it checks.
    pub fn parse(line: &[u8]) -> Result<Self, SourceError> {
        const MALFORMED: SourceError = SourceError::Malformed("/proc/PID/stat");
        let open = line.iter().position(|&b| b == b'(').ok_or(MALFORMED)?;
        let close = line.iter().rposition(|&b| b == b')').ok_or(MALFORMED)?;
        let comm = line.get(open + 1..close).ok_or(MALFORMED)?;
        let rest = line.get(close + 1..).and_then(|rest| std::str::from_utf8(rest).ok());
        let fields: Vec<&str> = rest.ok_or(MALFORMED)?.split_ascii_whitespace().collect();
        // Field n of proc(5) is at n - 3.
        let field = |n: usize| fields.get(n - 3).copied().ok_or(MALFORMED);
        Ok(Self {
            comm: String::from_utf8_lossy(comm).into_owned(),
            state: field(3)?.bytes().next().ok_or(MALFORMED)?,
            ppid: field(4)?.parse().map_err(|_| MALFORMED)?,
            flags: field(9)?.parse().map_err(|_| MALFORMED)?,
            start_ticks: field(22)?.parse().map_err(|_| MALFORMED)?,
        })
    }
}

/// What a bounded read gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounded {
    /// The first bytes.
    pub bytes: Vec<u8>,
    /// How many bytes there were, as far as they were counted.
    pub total: u64,
    /// How many of all bytes were zero.
    pub zeros: u64,
    /// Counting stopped at its limit.
    pub at_least: bool,
}

impl Bounded {
    /// Reads `from` to its end, or through `read_max` bytes; keeps `keep_max`.
    pub fn read(mut from: impl Read, keep_max: usize, read_max: u64) -> io::Result<Self> {
        let mut out = Self::default();
        const CHUNK: u64 = 64 * 1024;
        let mut chunk = vec![0; usize::try_from(read_max.clamp(1, CHUNK)).unwrap_or(1)];
        loop {
            let got = match from.read(&mut chunk) {
                Ok(0) => return Ok(out),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let got = &chunk[..got];
            let room = keep_max.saturating_sub(out.bytes.len()).min(got.len());
            out.bytes.extend_from_slice(&got[..room]);
            out.total += got.len() as u64;
            out.zeros += got.iter().filter(|&&b| b == 0).count() as u64;
            if out.total >= read_max {
                out.at_least = true;
                return Ok(out);
            }
        }
    }

    /// Whether bytes were left out of `bytes`.
    pub fn is_cut(&self) -> bool {
        self.at_least || self.total > self.bytes.len() as u64
    }
}

/// Why a fact could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// There is no such process, or not any more.
    #[error("no such process")]
    Gone,
    /// There is no such file; of a process that has ended the kernel may say this too.
    #[error("no such file")]
    Absent,
    /// No right to read.
    #[error("permission denied")]
    Denied,
    /// Another error of the operating system.
    #[error("{0}")]
    Os(String),
    /// Contents not as documented.
    #[error("not understood: {0}")]
    Malformed(&'static str),
}

impl From<io::Error> for SourceError {
    fn from(error: io::Error) -> Self {
        match (error.raw_os_error(), error.kind()) {
            (Some(libc::ESRCH), _) => Self::Gone,
            (_, io::ErrorKind::NotFound) => Self::Absent,
            (_, io::ErrorKind::PermissionDenied) => Self::Denied,
            _ => Self::Os(error.to_string()),
        }
    }
}

impl From<ProcError> for SourceError {
    fn from(error: ProcError) -> Self {
        match error {
            ProcError::NotFound(_) => Self::Absent,
            ProcError::PermissionDenied(_) => Self::Denied,
            ProcError::Io(error, _) => Self::from(error),
            ProcError::Incomplete(_) | ProcError::Other(_) | ProcError::InternalError(_) => {
                Self::Os(error.to_string())
            }
        }
    }
}

impl From<SourceError> for Reason {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Gone => Self::Ended,
            SourceError::Absent => Self::NotProvided,
            SourceError::Denied => Self::Denied,
            SourceError::Os(error) => Self::Os(error),
            SourceError::Malformed(what) => Self::Malformed(what),
        }
    }
}

/// A proc file system at some place, of the initial pid namespace: kernel events carry pids of that
/// one.
#[derive(Clone, Debug)]
pub struct RootedProc {
    root: PathBuf,
    ticks_per_second: u64,
}

impl RootedProc {
    /// `root` is `/proc`, or where the host's proc file system is mounted in the agent's container.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        // Every architecture of Linux but alpha has 100.
        const TICKS_USUAL: u64 = 100;
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
        let ticks_per_second = match ticks {
            Ok(Some(ticks)) => u64::try_from(ticks).unwrap_or(TICKS_USUAL).max(1),
            Ok(None) | Err(_) => TICKS_USUAL,
        };
        Self { root: root.into(), ticks_per_second }
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl ProcSource for RootedProc {
    fn open(&self, pid: u32) -> Result<Arc<dyn ProcHandle>, SourceError> {
        match Process::new_with_root(self.root.join(pid.to_string())) {
            Ok(process) => Ok(Arc::new(Live(process))),
            Err(ProcError::NotFound(_)) => Err(SourceError::Gone),
            Err(error) => Err(error.into()),
        }
    }

    fn boot_id(&self) -> Result<String, SourceError> {
        const MALFORMED: SourceError = SourceError::Malformed("sys/kernel/random/boot_id");
        let file = File::open(self.root.join("sys/kernel/random/boot_id"))?;
        let id = String::from_utf8(Bounded::read(file, 64, 64)?.bytes).map_err(|_| MALFORMED)?;
        let id = id.trim();
        let is_uuid = id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if is_uuid { Ok(id.to_owned()) } else { Err(MALFORMED) }
    }

    fn ticks_per_second(&self) -> u64 {
        self.ticks_per_second
    }
}

/// A folder of the proc file system held open: its files are of that process only, even when its
/// pid is reused.
struct Live(Process);

impl ProcHandle for Live {
    fn stat(&self) -> Result<ProcStat, SourceError> {
        // 52 numbers of at most 20 digits and a name of 16 bytes.
        const STAT_BYTES_MAX: usize = 2048;
        let file = self.0.open_relative("stat").map_err(|error| match error {
            // Each process has this file: without it, no process.
            ProcError::NotFound(_) => SourceError::Gone,
            error => error.into(),
        })?;
        ProcStat::parse(&Bounded::read(file, STAT_BYTES_MAX, STAT_BYTES_MAX as u64)?.bytes)
    }

    fn read(&self, file: ProcFile, keep_max: usize, read_max: u64) -> Result<Bounded, SourceError> {
        let name = match file {
            ProcFile::Cgroup => "cgroup",
            ProcFile::Cmdline => "cmdline",
            ProcFile::Comm => "comm",
            ProcFile::LoginUid => "loginuid",
            ProcFile::MountInfo => "mountinfo",
        };
        Ok(Bounded::read(self.0.open_relative(name)?, keep_max, read_max)?)
    }

    fn link(&self, link: ProcLink) -> Result<PathBuf, SourceError> {
        Ok(match link {
            ProcLink::Cwd => self.0.cwd()?,
            ProcLink::Exe => self.0.exe()?,
        })
    }

    fn open_exe(&self) -> Result<File, SourceError> {
        Ok(self.0.open_relative("exe")?)
    }

    fn namespace(&self, kind: NamespaceKind) -> Result<u64, SourceError> {
        use std::os::unix::fs::MetadataExt as _;
        let name = match kind {
            NamespaceKind::Mount => "ns/mnt",
            NamespaceKind::Pid => "ns/pid",
        };
        Ok(self.0.open_relative(name)?.metadata()?.ino())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_hostile_name() {
        let line = b"7 (a) R 1 (b) Z 42 7 7 0 -1 2097152 0 0 0 0 0 0 0 0 20 0 1 0 123456 1 1 1\n";
        let stat = ProcStat::parse(line).expect("a line as the kernel writes it");
        assert_eq!(stat.comm, "a) R 1 (b");
        assert_eq!((stat.state, stat.ppid, stat.start_ticks), (b'Z', 42, 123_456));
        assert!(stat.is_zombie() && stat.is_kernel_thread());
    }

    #[test]
    fn stat_cut_anywhere_is_an_error_and_no_panic() {
        let line = b"7 (ab) S 42 7 7 0 -1 64 0 0 0 0 0 0 0 0 20 0 1 0 5 ";
        for end in 0..line.len() - 2 {
            assert!(ProcStat::parse(&line[..end]).is_err(), "cut at {end}");
        }
        assert!(ProcStat::parse(line).is_ok());
        assert!(ProcStat::parse(b")(").is_err());
    }

    #[test]
    fn bounded_read_counts_beyond_what_it_keeps() {
        let bytes = vec![b'x'; 300_000];
        let read = Bounded::read(&bytes[..], 10, 1 << 20).expect("memory");
        assert_eq!((read.bytes.len(), read.total, read.at_least), (10, 300_000, false));
        assert!(read.is_cut());
        let read = Bounded::read(io::repeat(0), 10, 1 << 20).expect("memory");
        assert_eq!((read.bytes.len(), read.total, read.at_least), (10, 1 << 20, true));
        assert_eq!(read.zeros, 1 << 20);
        let read = Bounded::read(&b"abc"[..], 3, 100).expect("memory");
        assert!(!read.is_cut());
    }

    #[test]
    fn reads_this_process() {
        let source = RootedProc::new("/proc");
        let handle = source.open(std::process::id()).expect("we live");
        let stat = handle.stat().expect("our own");
        assert!(!stat.is_zombie() && !stat.is_kernel_thread() && stat.start_ticks > 0);
        assert_eq!(source.boot_id().expect("readable by all").len(), 36);
        assert!(handle.namespace(NamespaceKind::Mount).expect("our own") > 0);
    }
}
