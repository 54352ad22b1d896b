//! State folders of crun and runc, for containers whose cgroup path carries no id.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::OFlag;
use serde::Deserialize;

use super::facts::{LABEL_KEY_BYTES_MAX, LABELS_MAX};
use super::host::{HostFiles, Owner, RUNTIME_FILE_BYTES_MAX};
use crate::attrib::cgroup_path::is_plain_id;
use crate::attrib::identity::{Evidence, Runtime};
use crate::attrib::lru::Lru;

/// Most parsed state files kept.
const STATES_MAX: usize = 4096;

/// A container as its runtime's state file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::attrib) struct Candidate {
    pub(in crate::attrib) id: String,
    pub(in crate::attrib) runtime: Runtime,
    /// First process, and its start in clock ticks.
    pub(in crate::attrib) pid: u32,
    pub(in crate::attrib) start_ticks: u64,
    /// Paths in the cgroup hierarchies; may be none.
    pub(in crate::attrib) cgroups: Vec<String>,
    pub(super) bundle: Option<String>,
    pub(super) folder: PathBuf,
    pub(super) labels: BTreeMap<String, String>,
}

/// A process to be placed.
pub(in crate::attrib) struct Process<'a> {
    /// Pid and start of the process, then of its parents.
    pub(in crate::attrib) line: &'a [(u32, u64)],
    /// Its cgroup paths.
    pub(in crate::attrib) cgroups: &'a [String],
}

/// The container a process is in, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::attrib) struct StateMatch {
    pub(in crate::attrib) candidate: Arc<Candidate>,
    pub(in crate::attrib) evidence: Evidence,
    /// More than the cgroup speaks for it.
    pub(in crate::attrib) is_confirmed: bool,
}

/// Whether a process is in the namespaces of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::attrib) enum Agreement {
    Yes,
    No,
    /// One of them is gone, or the container has no namespaces of its own.
    Unknown,
}

/// Parsed state files, by path, as long as they do not change.
pub(in crate::attrib) struct StateIndex {
    known: Mutex<Lru<PathBuf, Parsed>>,
}

/// Inode, size and change time of a state file.
type Stamp = (u64, u64, i64, i64);
/// What a state file held, if it was understood.
type Parsed = (Stamp, Option<Arc<Candidate>>);

impl StateIndex {
    pub(in crate::attrib) fn new() -> Self {
        Self { known: Mutex::new(Lru::new(STATES_MAX)) }
    }

    /// Finds the container of a process.
    ///
    /// The container's first process in the process's own line is proof: its start is compared, so
    /// that a state file that was left behind names nobody. Next the cgroup: processes started by
    /// `exec` into the container are no children of its first process. As `cgroupsPath` may name a
    /// folder that others share, `namespaces` must not speak against it.
    pub(in crate::attrib) fn find(
        &self,
        host: &HostFiles,
        roots: &[PathBuf],
        owner: Owner,
        process: &Process<'_>,
        namespaces: &dyn Fn(&Candidate) -> Agreement,
    ) -> Option<StateMatch> {
        let mut by_cgroup: Option<(usize, Agreement, Arc<Candidate>)> = None;
        let mut by_pid: Option<(usize, Arc<Candidate>)> = None;
        for root in roots {
            for name in host.list(root) {
                let Some(candidate) = self.load(host, root, owner, &name) else { continue };
                let first = (candidate.pid, candidate.start_ticks);
                // Nearest the host counts, as with cgroup paths: what is inside is the container's
                // own claim.
                let at = process.line.iter().rposition(|&link| link == first);
                if let Some(at) = at
                    && by_pid.as_ref().is_none_or(|(best, _)| at > *best)
                {
                    by_pid = Some((at, Arc::clone(&candidate)));
                }
                let depth = candidate
                    .cgroups
                    .iter()
                    .filter(|path| process.cgroups.iter().any(|inner| is_within(inner, path)))
                    .map(String::len)
                    .min();
                if let Some(depth) = depth
                    && by_cgroup.as_ref().is_none_or(|(best, ..)| depth < *best)
                {
                    match namespaces(&candidate) {
                        Agreement::No => {}
                        agreement => by_cgroup = Some((depth, agreement, candidate)),
                    }
                }
            }
        }
        let by_pid = by_pid.map(|(_, candidate)| StateMatch {
            candidate,
            evidence: Evidence::StatePid,
            is_confirmed: true,
        });
        by_pid.or_else(|| {
            let (_, agreement, candidate) = by_cgroup?;
            let is_confirmed = agreement == Agreement::Yes;
            Some(StateMatch { candidate, evidence: Evidence::StateCgroup, is_confirmed })
        })
    }

    fn load(
        &self,
        host: &HostFiles,
        root: &Path,
        owner: Owner,
        id: &str,
    ) -> Option<Arc<Candidate>> {
        if !is_plain_id(id) {
            return None;
        }
        let folder = root.join(id);
        for (name, parse) in FORMS {
            let path = folder.join(name);
            let Ok(file) = host.open(&path, OFlag::O_NONBLOCK) else { continue };
            let metadata = file.metadata().ok()?;
            let stamp: Stamp =
                (metadata.ino(), metadata.size(), metadata.ctime(), metadata.ctime_nsec());
            {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((seen, candidate)) = known.touch(&path)
                    && *seen == stamp
                {
                    return candidate.clone();
                }
            }
            let bytes = host.read(&path, owner, RUNTIME_FILE_BYTES_MAX).ok();
            let candidate = bytes.and_then(|bytes| parse(&bytes, id, &folder)).map(Arc::new);
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(path, (stamp, candidate.clone()));
            return candidate;
        }
        None
    }
}

/// The state of a container whose id is known.
pub(super) fn by_id(
    host: &HostFiles,
    roots: &[PathBuf],
    owner: Owner,
    id: &str,
) -> Option<Candidate> {
    roots.iter().find_map(|root| {
        let folder = root.join(id);
        FORMS.iter().find_map(|(name, parse)| {
            let bytes = host.read(&folder.join(name), owner, RUNTIME_FILE_BYTES_MAX).ok()?;
            parse(&bytes, id, &folder)
        })
    })
}

type Parse = fn(&[u8], &str, &Path) -> Option<Candidate>;
const FORMS: [(&str, Parse); 2] = [("status", crun), ("state.json", runc)];

/// crun's `status`. Source: crun, `libcrun_write_container_status`.
#[derive(Deserialize)]
struct CrunStatus {
    pid: u32,
    #[serde(rename = "process-start-time", default)]
    start_ticks: u64,
    #[serde(rename = "cgroup-path", default)]
    cgroup_path: Option<String>,
    #[serde(default)]
    bundle: Option<String>,
}

fn crun(bytes: &[u8], id: &str, folder: &Path) -> Option<Candidate> {
    let status: CrunStatus = serde_json::from_slice(bytes).ok()?;
    Some(Candidate {
        id: id.to_owned(),
        runtime: Runtime::Crun,
        pid: status.pid,
        start_ticks: status.start_ticks,
        cgroups: status.cgroup_path.into_iter().filter(|path| is_specific(path)).collect(),
        bundle: status.bundle,
        folder: folder.to_owned(),
        labels: BTreeMap::new(),
    })
}

/// runc's `state.json`. Source: runc, `libcontainer.State`.
#[derive(Deserialize)]
struct RuncState {
    init_process_pid: u32,
    #[serde(default)]
    init_process_start: u64,
    #[serde(default)]
    cgroup_paths: Option<BTreeMap<String, String>>,
    #[serde(default)]
    config: Option<RuncConfig>,
}

#[derive(Deserialize)]
struct RuncConfig {
    /// `key=value`: the bundle and the annotations.
    #[serde(default)]
    labels: Option<Vec<String>>,
}

fn runc(bytes: &[u8], id: &str, folder: &Path) -> Option<Candidate> {
    let state: RuncState = serde_json::from_slice(bytes).ok()?;
    let paths = state.cgroup_paths.unwrap_or_default();
    let cgroups = paths.iter().filter_map(|(kind, path)| relative_cgroup(kind, path));
    let labels = state.config.and_then(|config| config.labels).unwrap_or_default();
    let mut labels: BTreeMap<String, String> = labels
        .iter()
        .take(LABELS_MAX)
        .filter_map(|label| label.split_once('='))
        .filter(|(key, _)| key.len() <= LABEL_KEY_BYTES_MAX)
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let bundle = labels.remove("bundle");
    let docker = folder.parent().is_some_and(|root| root.ends_with("runtime-runc/moby"));
    let containerd = folder
        .parent()
        .and_then(Path::parent)
        .is_some_and(|root| root.ends_with("containerd/runc"));
    let runtime = match (docker, containerd) {
        (true, _) => Runtime::Docker,
        (false, true) => Runtime::Containerd,
        (false, false) => Runtime::Runc,
    };
    Some(Candidate {
        id: id.to_owned(),
        runtime,
        pid: state.init_process_pid,
        start_ticks: state.init_process_start,
        cgroups: cgroups.filter(|path| is_specific(path)).collect(),
        bundle,
        folder: folder.to_owned(),
        labels,
    })
}

/// runc notes folders (`/sys/fs/cgroup/memory/a`), by controller; `/proc/PID/cgroup` has paths
/// (`/a`).
fn relative_cgroup(controller: &str, folder: &str) -> Option<String> {
    let rest = folder.strip_prefix("/sys/fs/cgroup")?;
    if controller.is_empty() {
        return Some(rest.strip_prefix("/unified").unwrap_or(rest).to_owned());
    }
    let rest = rest.strip_prefix('/')?;
    rest.find('/').and_then(|at| rest.get(at..)).map(str::to_owned)
}

/// Whether a cgroup can tell a container from anything: not the root.
fn is_specific(path: &str) -> bool {
    path.starts_with('/') && path.len() > 1 && !path.contains("/..")
}

/// Whether the cgroup `inner` is `outer` or below it.
fn is_within(inner: &str, outer: &str) -> bool {
    let outer = outer.trim_end_matches('/');
    let rest = inner.strip_prefix(outer);
    !outer.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
