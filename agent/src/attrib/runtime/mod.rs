//! What the container runtimes' own files on the host tell.
//!
//! Only files that runtimes write for themselves are read, below the host root; never a path inside
//! a container's own file system. Files of rootless runtimes belong to the user who runs them: they
//! are read only if they do belong to that user, and what they say is that user's claim
//! ([`super::Container::claimed_by`]).

mod docker;
mod facts;
mod host;
mod logs;
mod oci;
mod state;
mod storage;

use std::path::{Path, PathBuf};

pub(super) use facts::Facts;
pub use facts::{LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX, NAME_BYTES_MAX};
pub use host::{DIR_ENTRIES_MAX, RUNTIME_FILE_BYTES_MAX};
pub(super) use host::{HostFiles, Owner};
pub(super) use state::{Agreement, Candidate, Process, StateIndex, StateMatch};

use super::cgroup_path::is_plain_id;

/// Where runtimes keep their files, as absolute paths on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeRoots {
    /// Folders of Docker's containers, `<root>/<id>/config.v2.json`.
    pub docker: Vec<PathBuf>,
    /// containerd's task folders, `<root>/<namespace>/<id>/config.json`.
    pub containerd: Vec<PathBuf>,
    /// Storage of Podman and CRI-O, `<root>/overlay-containers/<id>/userdata/config.json`.
    pub storage: Vec<PathBuf>,
    /// State folders of crun (`<root>/<id>/status`) and runc (`<root>/<id>/state.json`), given to
    /// them as `--root`.
    pub states: Vec<PathBuf>,
    /// Kubernetes log links, `<pod>_<namespace>_<container>-<id>.log`.
    pub pod_logs: Vec<PathBuf>,
}

impl Default for RuntimeRoots {
    fn default() -> Self {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        Self {
            docker: paths(&[
                "/var/lib/docker/containers",
                "/var/snap/docker/common/var-lib-docker/containers",
            ]),
            containerd: paths(&[
                "/run/containerd/io.containerd.runtime.v2.task",
                "/run/k3s/containerd/io.containerd.runtime.v2.task",
                "/var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task",
            ]),
            storage: paths(&["/var/lib/containers/storage"]),
            states: paths(&[
                "/run/crun",
                "/run/runc",
                "/run/docker/runtime-runc/moby",
                "/run/containerd/runc/k8s.io",
                "/run/containerd/runc/default",
            ]),
            pod_logs: paths(&["/var/log/containers"]),
        }
    }
}

impl RuntimeRoots {
    /// Those of a user's rootless runtimes. `home` is from `/etc/passwd`.
    pub(super) fn of_user(uid: u32, home: &str) -> Self {
        let run = PathBuf::from(format!("/run/user/{uid}"));
        let share = Path::new(home).join(".local/share");
        Self {
            docker: vec![share.join("docker/containers")],
            containerd: Vec::new(),
            storage: vec![share.join("containers/storage")],
            states: vec![run.join("crun"), run.join("runc")],
            pod_logs: Vec::new(),
        }
    }
}

/// All that files below `roots` tell of the container `id`. Reads files: may take as long as the
/// slowest file system.
///
/// Files are asked in an order of trust and detail: Docker's, containerd's bundle, the storage of
/// Podman and CRI-O, the state folder of crun or runc, names of log files. What an earlier one told
/// stays.
pub(super) fn describe(
    host: &HostFiles,
    roots: &RuntimeRoots,
    owner: Owner,
    id: &str,
    state: Option<&Candidate>,
) -> Facts {
    let mut facts = Facts::default();
    if !is_plain_id(id) {
        return facts;
    }
    docker::read(host, &roots.docker, owner, id, &mut facts);
    oci::read_containerd(host, &roots.containerd, owner, id, &mut facts);
    storage::read(host, &roots.storage, owner, id, &mut facts);
    match state {
        Some(state) => oci::read_state(host, state, owner, &mut facts),
        None => {
            if let Some(state) = state::by_id(host, &roots.states, owner, id) {
                oci::read_state(host, &state, owner, &mut facts);
            }
        }
    }
    if facts.pod.is_none() {
        logs::read(host, &roots.pod_logs, id, &mut facts);
    }
    facts
}

#[cfg(test)]
mod tests;
