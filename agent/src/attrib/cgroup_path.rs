//! What a cgroup path says: container, pod, unit.
//!
//! Everything here is pure: a path in, its meaning out. The outermost container wins: its cgroup
//! was made by the host's own runtime, what lies below was made inside it and is listed as
//! `nested`, as a claim. For Kubernetes nodes that are themselves containers (kind) the node is
//! therefore the container and the pod's containers are nested.

use super::identity::Runtime;

/// Longest path looked at; longer ones are not the kernel's (`PATH_MAX`).
pub(super) const PATH_BYTES_MAX: usize = 4096;
/// Most nested containers listed.
pub(super) const NESTED_MAX: usize = 4;
/// Longest container id.
pub(super) const ID_BYTES_MAX: usize = 256;

/// Meaning of a cgroup path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) container: Option<Found>,
    /// Inside `container`, as `runtime:id`.
    pub(super) nested: Vec<String>,
    /// Of the Kubernetes pod around `container`.
    pub(super) pod_uid: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) slice: Option<String>,
    pub(super) user_unit: Option<String>,
    /// From `user@N.service` or `user-N.slice`.
    pub(super) owner: Option<u32>,
}

/// A container as found in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) runtime: Runtime,
    /// Index of the component that carries the id.
    pub(super) depth: usize,
}

/// Reads a path as in `/proc/PID/cgroup`.
pub(super) fn parse(path: &str) -> Placement {
    let mut out = Placement::default();
    if path.len() > PATH_BYTES_MAX {
        return out;
    }
    let components: Vec<&str> = components(path).collect();
    units(&components, &mut out);
    for (depth, component) in components.iter().enumerate() {
        if out.container.is_none() {
            out.pod_uid = out.pod_uid.or_else(|| pod_uid(component, &components[..depth]));
        }
        let Some((id, runtime)) = container(component, &components[..depth]) else { continue };
        if out.container.is_none() {
            out.container = Some(Found { id, runtime, depth });
        } else if out.nested.len() < NESTED_MAX {
            out.nested.push(format!("{}:{id}", runtime.as_str()));
        }
    }
    out
}

/// The components of a cgroup path.
pub(super) fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|component| !component.is_empty())
}

/// Whether a container id can be part of a file name: nothing that leaves its folder.
pub(super) fn is_plain_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= ID_BYTES_MAX
        && !id.starts_with('.')
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'+'))
}

/// Undoes systemd's escaping of names: `\x2d` is the byte 0x2d. What is not an escape stays.
pub(super) fn unescape(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'\\' && bytes.get(at + 1) == Some(&b'x'))
            .then(|| name.get(at + 2..at + 4))
            .flatten()
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// How a component names a container: `parent`/`prefix` id `suffix`.
struct Rule {
    /// The component above; empty for any.
    parent: &'static str,
    prefix: &'static str,
    suffix: &'static str,
    id: Id,
    runtime: Runtime,
}

#[derive(Clone, Copy)]
enum Id {
    /// 64 lower-case hexadecimal digits.
    Hex64,
    /// Whatever the runtime's users may choose.
    Name,
    /// A name escaped by systemd.
    Escaped,
    /// Task and container of ECS on Fargate: 32 hexadecimal digits, `-`, digits.
    EcsTask,
}

const fn rule(
    parent: &'static str,
    prefix: &'static str,
    suffix: &'static str,
    id: Id,
    runtime: Runtime,
) -> Rule {
    Rule { parent, prefix, suffix, id, runtime }
}

/// First match counts. Monitors (`libpod-conmon-`, `crio-conmon-`, `lxc.monitor.`) are outside of
/// their container and match none: what follows the prefix is not 64 digits.
const RULES: &[Rule] = &[
    // Scopes of the systemd cgroup driver.
    rule("", "docker-", ".scope", Id::Hex64, Runtime::Docker),
    rule("", "cri-containerd-", ".scope", Id::Hex64, Runtime::Containerd),
    rule("", "containerd-", ".scope", Id::Hex64, Runtime::Containerd),
    rule("", "nerdctl-", ".scope", Id::Hex64, Runtime::Containerd),
    rule("", "crio-", ".scope", Id::Hex64, Runtime::CriO),
    rule("", "libpod-", ".scope", Id::Hex64, Runtime::Podman),
    rule("", "crun-", ".scope", Id::Name, Runtime::Crun),
    rule("", "runc-", ".scope", Id::Name, Runtime::Runc),
    // Folders of the cgroupfs driver.
    rule("docker", "", "", Id::Hex64, Runtime::Docker),
    rule("actions_job", "", "", Id::Hex64, Runtime::Docker),
    rule("k8s.io", "", "", Id::Hex64, Runtime::Containerd),
    rule("moby", "", "", Id::Hex64, Runtime::Docker),
    rule("", "crio-", "", Id::Hex64, Runtime::CriO),
    rule("", "libpod-payload-", "", Id::Hex64, Runtime::Podman),
    rule("", "libpod-", "", Id::Hex64, Runtime::Podman),
    rule("", "kata_", "", Id::Hex64, Runtime::Containerd),
    rule("buildkit", "", "", Id::Name, Runtime::Buildkit),
    rule("garden", "", "", Id::Name, Runtime::Garden),
    rule("", "", "", Id::EcsTask, Runtime::Oci),
    // System containers.
    rule("lxc", "", "", Id::Name, Runtime::Lxc),
    rule("lxc.payload", "", "", Id::Name, Runtime::Lxc),
    rule("", "lxc.payload.", "", Id::Name, Runtime::Lxc),
    rule("", "machine-lxc\\x2d", ".scope", Id::Escaped, Runtime::Lxc),
    rule("", "systemd-nspawn@", ".service", Id::Escaped, Runtime::Nspawn),
    rule("", "machine-", ".scope", Id::Escaped, Runtime::Nspawn),
    // Nothing else looks like this.
    rule("", "", "", Id::Hex64, Runtime::Oci),
];

/// Prefixes in the systemd form of an OCI `cgroupsPath`, `slice:prefix:id`, which runtimes with the
/// cgroupfs driver take for the name of a folder.
const COLON_PREFIXES: &[(&str, Runtime)] = &[
    ("cri-containerd", Runtime::Containerd),
    ("containerd", Runtime::Containerd),
    ("nerdctl", Runtime::Containerd),
    ("docker", Runtime::Docker),
    ("crio", Runtime::CriO),
    ("libpod", Runtime::Podman),
    ("buildkit", Runtime::Buildkit),
    ("crun", Runtime::Crun),
    ("runc", Runtime::Runc),
];

fn container(component: &str, above: &[&str]) -> Option<(String, Runtime)> {
    let mut parts = component.splitn(3, ':');
    if let (Some(_slice), Some(prefix), Some(id)) = (parts.next(), parts.next(), parts.next()) {
        let (_, runtime) = COLON_PREFIXES.iter().find(|(known, _)| *known == prefix)?;
        return is_plain_id(id).then(|| (id.to_owned(), *runtime));
    }
    let parent = above.last().copied().unwrap_or("");
    if parent == "libpod_parent" && valid_id(component, Id::Hex64).is_some() {
        return None; // a pod of Podman: its containers are below
    }
    for rule in RULES {
        if !rule.parent.is_empty() && rule.parent != parent {
            continue;
        }
        let id = component.strip_prefix(rule.prefix).and_then(|c| c.strip_suffix(rule.suffix));
        if let Some(id) = id.and_then(|id| valid_id(id, rule.id)) {
            if rule.prefix == "machine-" && id.starts_with("qemu-") {
                return None; // a virtual machine: its clients are not processes of this host
            }
            let on_ecs = matches!(rule.runtime, Runtime::Oci) && above.contains(&"ecs");
            return Some((id, if on_ecs { Runtime::Docker } else { rule.runtime }));
        }
    }
    None
}

fn valid_id(text: &str, kind: Id) -> Option<String> {
    let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match kind {
        Id::Hex64 => (text.len() == 64 && is_hex(text)).then(|| text.to_owned()),
        Id::Name => is_plain_id(text).then(|| text.to_owned()),
        Id::Escaped => Some(unescape(text)).filter(|name| is_plain_id(name)),
        Id::EcsTask => {
            let (task, number) = text.split_once('-')?;
            let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            (task.len() == 32 && is_hex(task) && is_number).then(|| text.to_owned())
        }
    }
}

/// Pod uid in a component below `kubepods`: `pod<uid>`, `kubepods-burstable-pod<uid>.slice`, and
/// the latter before a colon.
fn pod_uid(component: &str, above: &[&str]) -> Option<String> {
    let name = component.split(':').next().unwrap_or(component);
    let uid = match name.strip_suffix(".slice") {
        Some(name) if name.contains("kubepods") => name.rsplit_once("-pod")?.1,
        Some(_) => return None,
        None if above.iter().any(|name| name.contains("kubepods")) => name.strip_prefix("pod")?,
        None => return None,
    };
    // In slices `-` separates levels, so that the uid's own are written `_`. Static pods have 32
    // digits without any.
    let uid = uid.replace('_', "-");
    let is_uid = matches!(uid.len(), 32 | 36)
        && uid.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    is_uid.then_some(uid)
}

/// Unit, slice, user's unit, owner. As systemd's own `cg_path_get_unit`: slices first, then one
/// unit; a path that goes on otherwise has none. A leading `_` is systemd's escape of names that
/// would clash with kernel files.
fn units(components: &[&str], out: &mut Placement) {
    let name = |component: &str| component.strip_prefix('_').unwrap_or(component).to_owned();
    let slices = components.iter().take_while(|c| c.ends_with(".slice")).count();
    out.slice = slices.checked_sub(1).map(|last| name(components[last]));
    let owner = components[..slices]
        .iter()
        .find_map(|slice| slice.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok());
    out.owner = owner;
    let Some(unit) = components.get(slices).filter(|c| is_unit(c)) else { return };
    out.unit = Some(name(unit));
    let manager = unit.strip_prefix("user@").and_then(|rest| rest.strip_suffix(".service"));
    let Some(uid) = manager.and_then(|uid| uid.parse().ok()) else { return };
    out.owner = Some(uid);
    let rest = &components[slices + 1..];
    let slices = rest.iter().take_while(|c| c.ends_with(".slice")).count();
    out.user_unit = rest.get(slices).filter(|c| is_unit(c)).map(|unit| name(unit));
}

fn is_unit(component: &str) -> bool {
    const SUFFIXES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];
    SUFFIXES.iter().any(|suffix| component.len() > suffix.len() && component.ends_with(suffix))
}

#[cfg(test)]
#[path = "cgroup_path_tests.rs"]
mod tests;
