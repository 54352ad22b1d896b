//! Docker: `config.v2.json` of a container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::facts::{Facts, fill};
use super::host::{HostFiles, Owner, RUNTIME_FILE_BYTES_MAX};
use crate::attrib::identity::{Field, Reason, Runtime};

/// Source: moby, `container.Container`, as the daemon stores it.
#[derive(Deserialize)]
struct ConfigV2 {
    #[serde(rename = "Name")]
    name: Option<String>,
    /// Digest of the image.
    #[serde(rename = "Image")]
    image: Option<String>,
    #[serde(rename = "Config")]
    config: Option<Config>,
}

#[derive(Deserialize)]
struct Config {
    /// The image as it was asked for.
    #[serde(rename = "Image")]
    image: Option<String>,
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

pub(super) fn read(host: &HostFiles, roots: &[PathBuf], owner: Owner, id: &str, facts: &mut Facts) {
    for root in roots {
        let path = root.join(id).join("config.v2.json");
        let bytes = match host.read(&path, owner, RUNTIME_FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(Reason::NotProvided) => continue,
            Err(reason) => {
                facts.problem(Field::ContainerName, reason);
                continue;
            }
        };
        let Ok(found) = serde_json::from_slice::<ConfigV2>(&bytes) else {
            facts.problem(Field::ContainerName, Reason::Malformed("config.v2.json"));
            continue;
        };
        facts.runtime.get_or_insert(Runtime::Docker);
        if let Some(config) = found.config {
            let labels = config.labels.unwrap_or_default();
            facts.take_notes(&labels); // those of a Kubernetes node come before the daemon's own
            facts.take_labels(&labels);
            fill(&mut facts.image, config.image);
        }
        fill(&mut facts.name, found.name.map(|name| name.trim_start_matches('/').to_owned()));
        fill(&mut facts.image, found.image);
        return;
    }
}
