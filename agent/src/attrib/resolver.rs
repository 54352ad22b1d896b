//! The resolver: identities by process, kept as long as there is room.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pgward_common::Actor;

use super::cgroup_tree::{Cgroup2Mount, CgroupTree, MOUNTINFO_BYTES_MAX, shows_all};
use super::exe::{EXE_HASH_BYTES_MAX, EXE_HASHES_MAX, HashCache};
use super::gather::gather;
use super::identity::{Confidence, Field, Identity, Reason};
use super::lru::Lru;
use super::patience::Patience;
use super::runtime::{HostFiles, RuntimeRoots, StateIndex};
use super::source::{Bounded, NamespaceKind, ProcSource, RootedProc, SourceError};

/// Identities kept unless set otherwise. Typically 2 kB each, at most some 100 kB with a full set
/// of long labels.
pub const IDENTITIES_MAX: usize = 4096;
/// After this an identity that lacks something which may still come is built anew.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How many times.
pub const RETRIES_MAX: u32 = 3;

/// Where and how much to read.
#[derive(Clone, Debug)]
pub struct AttribSettings {
    /// Proc file system of the initial pid namespace.
    pub proc_root: PathBuf,
    /// The host's root directory.
    pub host_root: PathBuf,
    /// Where cgroup2 is mounted; `None` to find it in `/proc/self/mountinfo`.
    pub cgroup2_mount: Option<PathBuf>,
    /// Owner of the folders below it that are the host's own. 0 but in tests.
    pub host_uid: u32,
    /// Where container runtimes keep their files, on the host.
    pub roots: RuntimeRoots,
    /// Further state folders of crun and runc, which take any as `--root`.
    pub extra_state_roots: Vec<PathBuf>,
    /// Identities kept.
    pub identities_max: usize,
    /// Digests of programs kept.
    pub exe_hashes_max: usize,
    /// Largest program whose digest is taken.
    pub exe_hash_bytes_max: u64,
    /// Time for opening a program, and again for reading arguments.
    pub read_deadline: Duration,
    /// Time for taking a digest.
    pub hash_deadline: Duration,
    /// Time for the files of container runtimes.
    pub files_deadline: Duration,
}

impl Default for AttribSettings {
    fn default() -> Self {
        Self {
            proc_root: PathBuf::from("/proc"),
            host_root: PathBuf::from("/"),
            cgroup2_mount: None,
            host_uid: 0,
            roots: RuntimeRoots::default(),
            extra_state_roots: Vec::new(),
            identities_max: IDENTITIES_MAX,
            exe_hashes_max: EXE_HASHES_MAX,
            exe_hash_bytes_max: EXE_HASH_BYTES_MAX,
            read_deadline: Duration::from_millis(250),
            hash_deadline: Duration::from_secs(10),
            files_deadline: Duration::from_secs(1),
        }
    }
}

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// The host root can't be opened.
    #[error("open host root `{path}`")]
    HostRoot {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Something about this system that makes identities worse than they could be; for `doctor` and the
/// log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// Pids of kernel events mean other processes there, or none.
    #[error("`{proc_root}` is not the proc file system of the initial pid namespace")]
    PidNamespace {
        /// The proc root.
        proc_root: String,
    },
    /// Start times in `/proc` are shifted: no process is ever recognised.
    #[error("the agent runs in a time namespace whose boot clock is shifted")]
    TimeNamespace,
    /// No cgroup2 mount: cgroups of processes that have ended stay unknown.
    #[error("no cgroup2 mount found")]
    NoCgroup2,
    /// A cgroup namespace or a bind mount hides the rest.
    #[error("the cgroup2 mount at `{at}` shows only a part of the hierarchy")]
    PartOfCgroups {
        /// Mount point.
        at: String,
    },
}

/// Builds identities and keeps them.
///
/// An identity belongs to (process, start, exec generation) and to the credentials and cgroup of
/// the event. It stays true after the process has ended, and stays known until it is the one used
/// longest ago.
pub struct Resolver {
    shared: Shared,
    identities: Mutex<Lru<Key, Entry>>,
}

/// What the modules of `attrib` share.
pub(super) struct Shared {
    pub(super) settings: AttribSettings,
    pub(super) source: Arc<dyn ProcSource>,
    pub(super) host: Arc<HostFiles>,
    pub(super) roots: Arc<RuntimeRoots>,
    pub(super) states: Arc<StateIndex>,
    pub(super) cgroups: CgroupTree,
    pub(super) hashes: Arc<HashCache>,
    pub(super) patience: Patience,
    pub(super) boot_id: Result<Arc<str>, SourceError>,
    /// Nanoseconds per clock tick.
    pub(super) tick_ns: u64,
}

impl Resolver {
    /// A resolver that reads this system. Errors: the host root can't be opened; other gaps only
    /// make identities poorer.
    pub fn new(settings: AttribSettings) -> Result<Self, ResolverError> {
        let source = Arc::new(RootedProc::new(&settings.proc_root));
        Self::with_source(settings, source)
    }

    /// A resolver that has processes from elsewhere.
    pub fn with_source(
        settings: AttribSettings,
        source: Arc<dyn ProcSource>,
    ) -> Result<Self, ResolverError> {
        const NANOS_PER_SECOND: u64 = 1_000_000_000;
        let host = HostFiles::new(&settings.host_root).map_err(|error| {
            ResolverError::HostRoot { path: settings.host_root.clone(), source: error }
        })?;
        let mount = match &settings.cgroup2_mount {
            Some(at) => Some(Cgroup2Mount { at: at.clone(), root: "/".to_owned() }),
            None => own_mountinfo().and_then(|info| Cgroup2Mount::find(&info)),
        };
        let mut roots = settings.roots.clone();
        roots.states.extend(settings.extra_state_roots.iter().cloned());
        let shared = Shared {
            host: Arc::new(host),
            roots: Arc::new(roots),
            states: Arc::new(StateIndex::new()),
            cgroups: CgroupTree::new(mount, settings.host_uid),
            hashes: Arc::new(HashCache::new(settings.exe_hashes_max, settings.exe_hash_bytes_max)),
            patience: Patience::default(),
            boot_id: source.boot_id().map(Arc::from),
            tick_ns: (NANOS_PER_SECOND / source.ticks_per_second().max(1)).max(1),
            source,
            settings,
        };
        // Cgroups that are there now name processes that end before they are read.
        shared.cgroups.walk();
        let identities = Mutex::new(Lru::new(shared.settings.identities_max));
        Ok(Self { shared, identities })
    }

    /// Id of this boot, the same in all identities.
    pub fn boot_id(&self) -> Option<&str> {
        self.shared.boot_id.as_deref().ok()
    }

    /// The identity of the process of a kernel event.
    ///
    /// **Blocks**: reads some 20 small files (about a millisecond), takes the digest of a program
    /// not seen before (seconds per GB), and waits for what hangs up to the deadlines of the
    /// settings. Call it on a thread kept for it, soon after the event: a process that ends first
    /// leaves only what the kernel told.
    pub fn resolve(&self, actor: &Actor) -> Arc<Identity> {
        let Some(key) = Key::of(actor) else {
            // Without a start time the pid alone would be the key, and pids are reused.
            return Arc::new(gather(&self.shared, actor));
        };
        let earlier = match self.entry(&key) {
            Some(entry) if !entry.is_due(Instant::now()) => return entry.identity,
            earlier => earlier,
        };
        let identity = Arc::new(gather(&self.shared, actor));
        let entry = Entry::after(earlier, identity, Instant::now());
        let identity = Arc::clone(&entry.identity);
        self.lock().insert(key, entry);
        identity
    }

    /// The identity, if it was resolved before. Does not block, and reads no file.
    ///
    /// `None` also for events without a start time: those are never kept.
    pub fn lookup(&self, actor: &Actor) -> Option<Arc<Identity>> {
        self.entry(&Key::of(actor)?).map(|entry| entry.identity)
    }

    /// What makes identities worse on this system than they could be.
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        // PROC_PID_INIT_INO, include/linux/proc_ns.h.
        const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
        let first = self.shared.source.open(1).and_then(|one| one.namespace(NamespaceKind::Pid));
        if first.is_ok_and(|namespace| namespace != INITIAL_PID_NAMESPACE) {
            let proc_root = self.shared.settings.proc_root.display().to_string();
            gaps.push(Gap::PidNamespace { proc_root });
        }
        if boot_clock_is_shifted() {
            gaps.push(Gap::TimeNamespace);
        }
        match self.shared.cgroups.mount() {
            None => gaps.push(Gap::NoCgroup2),
            Some(mount) if !shows_all(mount) => {
                gaps.push(Gap::PartOfCgroups { at: mount.at.display().to_string() });
            }
            Some(_) => {}
        }
        gaps
    }

    fn entry(&self, key: &Key) -> Option<Entry> {
        self.lock().touch(key).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lru<Key, Entry>> {
        // Held for one map operation; a map of finished values has no state that a panic could have
        // broken.
        self.identities.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an identity depends on. `comm` and `tid` are of a thread and do not count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    tgid: u32,
    start_boottime_ns: u64,
    exec_id: u64,
    exe_inode: u64,
    uid: u32,
    gid: u32,
    cgroup_id: u64,
}

impl Key {
    fn of(actor: &Actor) -> Option<Self> {
        (actor.start_boottime_ns != 0).then_some(Self {
            tgid: actor.tgid,
            start_boottime_ns: actor.start_boottime_ns,
            exec_id: actor.exec_id,
            exe_inode: actor.exe_inode,
            uid: actor.uid,
            gid: actor.gid,
            cgroup_id: actor.cgroup_id,
        })
    }
}

#[derive(Clone)]
struct Entry {
    identity: Arc<Identity>,
    /// When to build it anew.
    due: Option<Instant>,
    retries: u32,
}

impl Entry {
    fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// The entry to keep after `identity` was built. What was learnt while the process lived is not
    /// given up for what is left of it.
    fn after(earlier: Option<Entry>, identity: Arc<Identity>, now: Instant) -> Self {
        let retries = earlier.as_ref().map_or(0, |earlier| earlier.retries + 1);
        if let Some(earlier) = earlier
            && identity.confidence < earlier.identity.confidence
        {
            return Self { identity: earlier.identity, due: None, retries };
        }
        let due = (retries < RETRIES_MAX && may_get_better(&identity)).then(|| now + RETRY_AFTER);
        Self { identity, due, retries }
    }
}

/// Whether something is missing that may be there a little later: runtimes write their files while
/// the container starts, and what hung may answer.
fn may_get_better(identity: &Identity) -> bool {
    identity.confidence != Confidence::KernelOnly
        && identity.missing.iter().any(|remark| match &remark.reason {
            Reason::TimedOut { .. } | Reason::TooManyStuck { .. } => true,
            Reason::NoRuntimeFile | Reason::Malformed(_) => matches!(
                remark.field,
                Field::ContainerName | Field::ContainerImage | Field::ContainerPod
            ),
            _ => false,
        })
}

fn own_mountinfo() -> Option<Vec<u8>> {
    let file = std::fs::File::open("/proc/self/mountinfo").ok()?;
    Some(Bounded::read(file, MOUNTINFO_BYTES_MAX, MOUNTINFO_BYTES_MAX as u64).ok()?.bytes)
}

/// Layout of `timens_offsets` (time_namespaces(7)): clock, seconds, nanoseconds; absent without
/// time namespaces.
fn boot_clock_is_shifted() -> bool {
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    offsets.lines().any(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        fields.first().is_some_and(|clock| *clock == "boottime" || *clock == "7")
            && fields.iter().skip(1).any(|offset| *offset != "0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attrib::fake::FakeHost;

    #[test]
    fn what_may_get_better_is_built_anew_a_few_times() {
        let host = FakeHost::new();
        let id = "ab".repeat(32);
        let actor = host.process(50).cgroup(&format!("0::/docker/{id}\n")).start();
        let poor = host.resolver().resolve(&actor);
        host.write(
            &format!("root/var/lib/docker/containers/{id}/config.v2.json"),
            r#"{"Name":"/web","Config":{"Image":"i"}}"#,
        );
        let good = host.resolver().resolve(&actor);
        host.remove(50);
        let gone = host.resolver().resolve(&actor);
        let now = Instant::now();

        let first = Entry::after(None, Arc::clone(&poor), now);
        assert!(!first.is_due(now) && first.is_due(now + RETRY_AFTER));
        let done = Entry::after(Some(first.clone()), Arc::clone(&good), now);
        assert_eq!((done.due, done.identity.missing(Field::ContainerName)), (None, None));
        let kept = Entry::after(Some(first.clone()), gone, now);
        assert!(kept.due.is_none() && Arc::ptr_eq(&kept.identity, &poor));
        let mut entry = first;
        for _ in 0..RETRIES_MAX {
            assert!(entry.due.is_some());
            entry = Entry::after(Some(entry), Arc::clone(&poor), now);
        }
        assert_eq!(entry.due, None, "enough");
    }

    #[test]
    fn tells_the_gaps_of_a_system() {
        let host = FakeHost::new();
        host.process(1).start();
        let gaps = host.resolver().gaps();
        assert!(matches!(&gaps[0], Gap::PidNamespace { .. }), "{gaps:?}");
        assert!(matches!(gaps.last(), Some(Gap::PartOfCgroups { .. })), "{gaps:?}");
    }

    #[test]
    fn a_host_root_that_is_not_there_is_an_error() {
        let settings =
            AttribSettings { host_root: PathBuf::from("/nonexistent"), ..Default::default() };
        let error = Resolver::new(settings).err().expect("refused");
        assert_eq!(error.to_string(), "open host root `/nonexistent`");
    }
}
