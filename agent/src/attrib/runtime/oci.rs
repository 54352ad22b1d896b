//! OCI bundles: the annotations of `config.json` (OCI runtime specification, "Annotations").

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::facts::Facts;
use super::host::{HostFiles, Owner, RUNTIME_FILE_BYTES_MAX};
use super::state::Candidate;
use crate::attrib::identity::{Field, Reason, Runtime};

/// Most containerd namespaces looked into.
const CONTAINERD_NAMESPACES_MAX: usize = 64;

/// What is used of a `config.json`.
#[derive(Deserialize)]
pub(super) struct Spec {
    #[serde(default)]
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

/// Reads a `config.json`. `None` when there is none; other troubles go into `facts`.
pub(super) fn spec(
    host: &HostFiles,
    path: &Path,
    owner: Owner,
    facts: &mut Facts,
) -> Option<BTreeMap<String, String>> {
    let bytes = match host.read(path, owner, RUNTIME_FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(Reason::NotProvided) => return None,
        Err(reason) => {
            facts.problem(Field::ContainerName, reason);
            return None;
        }
    };
    match serde_json::from_slice::<Spec>(&bytes) {
        Ok(spec) => Some(spec.annotations.unwrap_or_default()),
        Err(_) => {
            facts.problem(Field::ContainerName, Reason::Malformed("config.json"));
            None
        }
    }
}

/// containerd: `<root>/<namespace>/<id>/config.json`. Its namespace `moby` is Docker's.
pub(super) fn read_containerd(
    host: &HostFiles,
    roots: &[PathBuf],
    owner: Owner,
    id: &str,
    facts: &mut Facts,
) {
    for root in roots {
        for namespace in host.list(root).into_iter().take(CONTAINERD_NAMESPACES_MAX) {
            let path = root.join(&namespace).join(id).join("config.json");
            let Some(annotations) = spec(host, &path, owner, facts) else { continue };
            let is_docker = namespace == "moby";
            let runtime = if is_docker { Runtime::Docker } else { Runtime::Containerd };
            facts.runtime.get_or_insert(runtime);
            facts.take_notes(&annotations);
            facts.take_labels(&annotations);
            if !is_docker {
                facts.labels_kept_by = Some("containerd");
            }
            return;
        }
    }
}

/// crun and runc: the copy of `config.json` in crun's state folder, else the one in the bundle the
/// state names.
///
/// The copy is preferred: it is as it was when the container was made, and lies where only the
/// runtime writes.
pub(super) fn read_state(host: &HostFiles, state: &Candidate, owner: Owner, facts: &mut Facts) {
    let copy = state.folder.join("config.json");
    let annotations = spec(host, &copy, owner, facts).or_else(|| {
        let bundle = Path::new(state.bundle.as_deref()?);
        let is_plain = bundle.is_absolute()
            && !bundle.components().any(|part| part == std::path::Component::ParentDir);
        is_plain.then(|| spec(host, &bundle.join("config.json"), owner, facts)).flatten()
    });
    facts.runtime.get_or_insert(state.runtime);
    if let Some(annotations) = annotations {
        facts.take_notes(&annotations);
        facts.take_labels(&annotations);
    }
    // What runc copies from the bundle: `key=value`.
    facts.take_labels(&state.labels);
}
