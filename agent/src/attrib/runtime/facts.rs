//! Facts about a container, gathered from several files.

use std::collections::BTreeMap;

use crate::attrib::identity::{Field, Reason, Remark, Runtime};

/// Most labels kept.
pub const LABELS_MAX: usize = 64;
/// Longest key of a label kept; Kubernetes allows 317.
pub const LABEL_KEY_BYTES_MAX: usize = 320;
/// Longest value of a label kept; longer ones are cut.
pub const LABEL_VALUE_BYTES_MAX: usize = 1024;
/// Longest name of a container, image, pod or namespace kept; longer ones are cut.
pub const NAME_BYTES_MAX: usize = 1024;

/// What was found so far. The first to tell a fact is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::attrib) struct Facts {
    /// A file that only this runtime writes was found.
    pub(in crate::attrib) runtime: Option<Runtime>,
    pub(in crate::attrib) name: Option<String>,
    pub(in crate::attrib) image: Option<String>,
    pub(in crate::attrib) pod: Option<String>,
    pub(in crate::attrib) pod_uid: Option<String>,
    pub(in crate::attrib) namespace: Option<String>,
    pub(in crate::attrib) labels: BTreeMap<String, String>,
    pub(in crate::attrib) sandbox: bool,
    /// What went wrong, other than that a file was not there.
    pub(in crate::attrib) problems: Vec<Remark>,
    /// The runtime that keeps labels where they are not read.
    pub(in crate::attrib) labels_kept_by: Option<&'static str>,
}

/// Names under which runtimes note the same thing, in labels or annotations; the first one there
/// counts.
const NAMES: &[&str] =
    &["io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name"];
const IMAGES: &[&str] = &[
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
    "io.kubernetes.cri-o.Image",
    "org.opencontainers.image.ref.name",
];
const PODS: &[&str] = &["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"];
const POD_UIDS: &[&str] = &["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"];
const NAMESPACES: &[&str] = &["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"];
/// Key and value by which a pod's sandbox is known.
const SANDBOX: &[(&str, &str)] = &[
    ("io.kubernetes.cri.container-type", "sandbox"),
    ("io.kubernetes.cri-o.ContainerType", "sandbox"),
    ("io.kubernetes.docker.type", "podsandbox"),
];
/// Annotations that are a runtime's notes to itself rather than somebody's labels.
const NOTES: &[&str] = &[
    "io.kubernetes.",
    "io.container.",
    "io.podman.",
    "nerdctl/",
    "org.systemd.property.",
    "run.oci.",
    "annotation.io.kubernetes.",
];

impl Facts {
    /// Takes what labels or annotations tell.
    pub(super) fn take_notes(&mut self, notes: &BTreeMap<String, String>) {
        let find = |names: &[&str]| names.iter().find_map(|name| notes.get(*name).cloned());
        fill(&mut self.name, find(NAMES));
        fill(&mut self.image, find(IMAGES));
        fill(&mut self.pod, find(PODS));
        fill(&mut self.pod_uid, find(POD_UIDS));
        fill(&mut self.namespace, find(NAMESPACES));
        self.sandbox |= SANDBOX
            .iter()
            .any(|(name, value)| notes.get(*name).is_some_and(|found| found == value));
    }

    /// Takes labels; of two with the same name the first stays.
    pub(super) fn take_labels(&mut self, labels: &BTreeMap<String, String>) {
        let is_label = |key: &str| !NOTES.iter().any(|note| key.starts_with(note));
        let mut cut = 0;
        let mut found = 0;
        for (key, value) in labels.iter().filter(|(key, _)| is_label(key)) {
            found += 1;
            if self.labels.len() >= LABELS_MAX || key.len() > LABEL_KEY_BYTES_MAX {
                cut += 1;
                continue;
            }
            let kept = cut_to(value, LABEL_VALUE_BYTES_MAX);
            cut += usize::from(kept.len() < value.len());
            self.labels.entry(key.clone()).or_insert_with(|| kept.to_owned());
        }
        if cut > 0 {
            self.problem(Field::ContainerLabels, Reason::LabelsCut { kept: found - cut, found });
        }
    }

    /// Notes that a file which could have told `field` was there but could not be used.
    pub(super) fn problem(&mut self, field: Field, reason: Reason) {
        let remark = Remark { field, reason };
        if !self.problems.contains(&remark) {
            self.problems.push(remark);
        }
    }
}

/// Gives a fact its value if it has none, and the value has text.
pub(super) fn fill(fact: &mut Option<String>, value: Option<String>) {
    if fact.is_none()
        && let Some(value) = value.filter(|value| !value.is_empty())
    {
        *fact = Some(cut_to(&value, NAME_BYTES_MAX).to_owned());
    }
}

fn cut_to(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let at = (0..=bytes_max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.get(..at).unwrap_or("")
}
