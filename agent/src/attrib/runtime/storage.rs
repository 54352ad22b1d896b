//! Podman and CRI-O: their common container storage.
//!
//! `<root>/overlay-containers/<id>/userdata/config.json` has the annotations; `containers.json`
//! (and, for containers that do not outlive a boot, `volatile-containers.json`) names and images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::facts::{Facts, fill};
use super::host::{HostFiles, Owner, RUNTIME_FILE_BYTES_MAX};
use super::oci;
use crate::attrib::cgroup_path::is_plain_id;
use crate::attrib::identity::{Field, Reason, Runtime};

/// Storage drivers, by whose name folders begin.
const DRIVERS: [&str; 4] = ["overlay", "vfs", "btrfs", "zfs"];

/// An entry of `containers.json`. Source: containers/storage, `Container`.
#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    /// Id of the image.
    #[serde(default)]
    image: Option<String>,
    /// JSON in a string, of the engine's own making.
    #[serde(default)]
    metadata: Option<String>,
}

/// [`Entry::metadata`] as Podman and CRI-O write it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Metadata {
    image_name: Option<String>,
    name: Option<String>,
    container_name: Option<String>,
    pod_id: Option<String>,
}

pub(super) fn read(host: &HostFiles, roots: &[PathBuf], owner: Owner, id: &str, facts: &mut Facts) {
    for root in roots {
        for driver in DRIVERS {
            let folder = root.join(format!("{driver}-containers"));
            let by_spec = read_spec(host, &folder, owner, id, facts);
            let by_list = ["containers.json", "volatile-containers.json"]
                .iter()
                .any(|name| read_list(host, &folder.join(name), owner, id, facts));
            if by_spec || by_list {
                return;
            }
        }
    }
}

fn read_spec(host: &HostFiles, folder: &Path, owner: Owner, id: &str, facts: &mut Facts) -> bool {
    let path = |id: &str| folder.join(id).join("userdata/config.json");
    let Some(notes) = oci::spec(host, &path(id), owner, facts) else { return false };
    let is_crio = notes.get("io.container.manager").is_some_and(|name| name == "cri-o")
        || notes.contains_key("io.kubernetes.cri-o.ContainerType");
    facts.runtime.get_or_insert(if is_crio { Runtime::CriO } else { Runtime::Podman });
    facts.take_notes(&notes);
    facts.take_labels(&notes);
    take_crio_labels(&notes, facts);
    if !is_crio {
        facts.labels_kept_by = Some("podman");
    }
    // A pod's own labels are with its sandbox.
    let sandbox = notes.get("io.kubernetes.cri-o.SandboxID");
    if let Some(sandbox) = sandbox.filter(|sandbox| *sandbox != id && is_plain_id(sandbox))
        && let Some(notes) = oci::spec(host, &path(sandbox), owner, facts)
    {
        take_crio_labels(&notes, facts);
    }
    true
}

fn take_crio_labels(notes: &BTreeMap<String, String>, facts: &mut Facts) {
    let Some(labels) = notes.get("io.kubernetes.cri-o.Labels") else { return };
    match serde_json::from_str::<BTreeMap<String, String>>(labels) {
        Ok(labels) => {
            facts.take_notes(&labels);
            facts.take_labels(&labels);
        }
        Err(_) => {
            facts.problem(
                Field::ContainerLabels,
                Reason::Malformed("annotation `io.kubernetes.cri-o.Labels`"),
            );
        }
    }
}

fn read_list(host: &HostFiles, path: &Path, owner: Owner, id: &str, facts: &mut Facts) -> bool {
    let bytes = match host.read(path, owner, RUNTIME_FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(Reason::NotProvided) => return false,
        Err(reason) => {
            facts.problem(Field::ContainerName, reason);
            return false;
        }
    };
    let Ok(entries) = serde_json::from_slice::<Vec<Entry>>(&bytes) else {
        facts.problem(Field::ContainerName, Reason::Malformed("containers.json"));
        return false;
    };
    let Some(entry) = entries.into_iter().find(|entry| entry.id == id) else { return false };
    let metadata = entry.metadata.and_then(|text| serde_json::from_str::<Metadata>(&text).ok());
    let metadata = metadata.unwrap_or_default();
    let runtime = if metadata.pod_id.is_some() { Runtime::CriO } else { Runtime::Podman };
    facts.runtime.get_or_insert(runtime);
    if runtime == Runtime::Podman {
        facts.labels_kept_by = Some("podman");
    }
    fill(&mut facts.name, entry.names.and_then(|names| names.into_iter().next()));
    fill(&mut facts.name, metadata.name.or(metadata.container_name));
    fill(&mut facts.image, metadata.image_name);
    fill(&mut facts.image, entry.image);
    true
}
