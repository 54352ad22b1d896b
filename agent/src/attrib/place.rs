//! Where a process runs: cgroup, unit, container.

use std::sync::Arc;

use pgward_common::Actor;

use super::cgroup_path::{self, Placement};
use super::cgroup_tree::{Line, lines};
use super::gather::Notes;
use super::identity::{Container, Evidence, Field, Identity, Reason, Runtime};
use super::resolver::Shared;
use super::runtime::{self, Agreement, Candidate, Facts, Owner, Process, RuntimeRoots, StateMatch};
use super::source::{NamespaceKind, ProcHandle, ProcSource};
use super::users;

/// A process that can still be read.
pub(super) struct Living<'a> {
    pub(super) actor: &'a Actor,
    pub(super) handle: &'a Arc<dyn ProcHandle>,
    /// Pid and start in ticks, the process first, then its parents.
    pub(super) links: &'a [(u32, u64)],
}

/// Places a living process by the contents of its `cgroup` file.
pub(super) fn living(
    shared: &Shared,
    process: &Living<'_>,
    contents: &[u8],
    identity: &mut Identity,
    notes: &mut Notes,
) {
    let lines = at_event(shared, process.actor, lines(contents), notes);
    if lines.is_empty() {
        for field in [Field::Cgroup, Field::Unit, Field::Container] {
            notes.missing(field, Reason::Malformed("/proc/PID/cgroup"));
        }
        return;
    }
    let found = apply(shared, &lines, identity);
    match found {
        Some(found) => describe(shared, found, None, identity, notes),
        None => {
            by_state(shared, process.links, Some(process.handle), &lines, identity, notes);
        }
    }
}

/// Places a process that is gone, by the id of its cgroup.
pub(super) fn gone(shared: &Shared, actor: &Actor, identity: &mut Identity, notes: &mut Notes) {
    let path = match actor.cgroup_id {
        0 => Err(Reason::NoKernelCgroup),
        id => shared.cgroups.path_of(id).ok_or(Reason::UnknownCgroup(id)),
    };
    let path = match path {
        Ok(path) => path,
        Err(reason) => {
            for field in [Field::Cgroup, Field::Unit, Field::Container] {
                notes.missing(field, reason.clone());
            }
            return;
        }
    };
    let is_root = path == "/";
    let lines = [Line { hierarchy: V2.to_owned(), path }];
    if let Some(found) = apply(shared, &lines, identity) {
        describe(shared, found, None, identity, notes);
        return;
    }
    if is_root {
        notes.missing(Field::Unit, Reason::RootCgroup);
    }
    // It may itself have been the first process of a container; its parents are not known any more.
    let links = match actor.start_boottime_ns {
        0 => Vec::new(),
        start => vec![(actor.tgid, start / shared.tick_ns)],
    };
    by_state(shared, &links, None, &lines, identity, notes);
    if identity.container.is_none() {
        let reason = if is_root { Reason::RootCgroup } else { Reason::Ended };
        notes.missing(Field::Container, reason);
    }
}

const V2: &str = "v2";

/// The cgroup at the time of the event: paths in `/proc` are of now, and processes can be moved.
fn at_event(shared: &Shared, actor: &Actor, lines: Vec<Line>, notes: &mut Notes) -> Vec<Line> {
    let Some(v2) = lines.iter().find(|line| line.hierarchy == V2) else {
        notes.doubt(Field::Cgroup, Reason::CgroupNotCompared);
        return lines;
    };
    if v2.path.contains("/..") {
        notes.doubt(Field::Cgroup, Reason::CgroupNamespace);
        return lines;
    }
    let found = shared.cgroups.look(&v2.path, None);
    match (actor.cgroup_id, found) {
        (0, _) => notes.doubt(Field::Cgroup, Reason::NoKernelCgroup),
        (_, None) => notes.doubt(Field::Cgroup, Reason::CgroupNotCompared),
        (id, Some(folder)) if folder.id != id => {
            let now = v2.path.clone();
            notes.doubt(Field::Cgroup, Reason::Moved { now });
            if let Some(path) = shared.cgroups.path_of(id) {
                return vec![Line { hierarchy: V2.to_owned(), path }];
            }
        }
        (_, Some(_)) => {}
    }
    lines
}

/// A container found in a cgroup path.
struct InPath {
    id: String,
    runtime: Runtime,
    pod_uid: Option<String>,
    nested: Vec<String>,
    claimed_by: Option<u32>,
    evidence: Evidence,
}

/// Fills in cgroup and unit; returns the container of the first line that has one.
fn apply(shared: &Shared, lines: &[Line], identity: &mut Identity) -> Option<InPath> {
    let first = lines.first()?;
    identity.cgroup = Some(first.path.clone());
    identity.cgroup_hierarchy = Some(first.hierarchy.clone());
    let mut found = None;
    for line in lines {
        let placement = cgroup_path::parse(&line.path);
        if identity.unit.is_none() && placement.unit.is_some() {
            identity.unit.clone_from(&placement.unit);
            identity.slice.clone_from(&placement.slice);
            identity.user_unit.clone_from(&placement.user_unit);
        }
        if found.is_none() {
            found = in_path(shared, line, placement);
        }
    }
    found
}

fn in_path(shared: &Shared, line: &Line, placement: Placement) -> Option<InPath> {
    let container = placement.container?;
    let folder = (line.hierarchy == V2)
        .then(|| shared.cgroups.look(&line.path, Some(container.depth)))
        .flatten();
    let host_uid = shared.settings.host_uid;
    let claimed_by = match folder {
        Some(folder) => folder.foreign_owner,
        // Folders out of reach: the path itself names those that systemd hands to users.
        None => placement.owner.filter(|uid| *uid != host_uid),
    };
    Some(InPath {
        id: container.id,
        runtime: container.runtime,
        pod_uid: placement.pod_uid,
        nested: placement.nested,
        claimed_by,
        evidence: Evidence::CgroupPath,
    })
}

/// Looks for the container of a process whose cgroup path carries no id in the state folders of
/// crun and runc. Without a handle the process is gone.
fn by_state(
    shared: &Shared,
    links: &[(u32, u64)],
    handle: Option<&Arc<dyn ProcHandle>>,
    lines: &[Line],
    identity: &mut Identity,
    notes: &mut Notes,
) {
    let owner = lines.iter().find_map(|line| cgroup_path::parse(&line.path).owner);
    let user = owner.filter(|uid| *uid != shared.settings.host_uid);
    let links = links.to_vec();
    let cgroups: Vec<String> = lines.iter().map(|line| line.path.clone()).collect();
    let (host, states) = (Arc::clone(&shared.host), Arc::clone(&shared.states));
    let (roots, source) = (Arc::clone(&shared.roots), Arc::clone(&shared.source));
    let handle = handle.cloned();
    let found = shared.patience.wait(shared.settings.files_deadline, move || {
        let process = Process { line: &links, cgroups: &cgroups };
        let agree = |candidate: &Candidate| match &handle {
            Some(handle) => namespaces(source.as_ref(), handle, candidate),
            None => Agreement::Unknown,
        };
        let found = states.find(&host, &roots.states, Owner::Any, &process, &agree);
        if let Some(found) = found {
            return Some((found, None));
        }
        let uid = user?;
        let roots = RuntimeRoots::of_user(uid, "");
        let found = states.find(&host, &roots.states, Owner::User(uid), &process, &agree);
        found.map(|found| (found, Some(uid)))
    });
    match found {
        Ok(None) => {}
        Ok(Some((StateMatch { candidate, evidence, is_confirmed }, claimed_by))) => {
            if !is_confirmed {
                notes.doubt(Field::Container, Reason::CgroupAlone);
            }
            let found = InPath {
                id: candidate.id.clone(),
                runtime: candidate.runtime,
                pod_uid: None,
                nested: Vec::new(),
                claimed_by,
                evidence,
            };
            describe(shared, found, Some(candidate), identity, notes);
        }
        Err(reason) => notes.missing(Field::Container, reason),
    }
}

/// Whether a process shares a namespace with the first process of a container that the container
/// does not share with the host.
fn namespaces(
    source: &dyn ProcSource,
    process: &Arc<dyn ProcHandle>,
    candidate: &Candidate,
) -> Agreement {
    let Ok(first) = source.open(candidate.pid) else { return Agreement::Unknown };
    let is_first = first
        .stat()
        .is_ok_and(|stat| stat.start_ticks == candidate.start_ticks && !stat.is_zombie());
    if !is_first {
        return Agreement::Unknown;
    }
    let mut agreement = Agreement::Unknown;
    for kind in [NamespaceKind::Mount, NamespaceKind::Pid] {
        let (Ok(theirs), Ok(ours)) = (first.namespace(kind), process.namespace(kind)) else {
            continue;
        };
        let of_host = source.open(1).and_then(|init| init.namespace(kind));
        if of_host.is_ok_and(|of_host| of_host == theirs) {
            continue;
        }
        if theirs == ours {
            return Agreement::Yes;
        }
        agreement = Agreement::No;
    }
    agreement
}

/// Adds what the runtime's files tell.
fn describe(
    shared: &Shared,
    found: InPath,
    state: Option<Arc<Candidate>>,
    identity: &mut Identity,
    notes: &mut Notes,
) {
    let host = Arc::clone(&shared.host);
    let roots = Arc::clone(&shared.roots);
    let (id, claimed_by) = (found.id.clone(), found.claimed_by);
    let facts = shared.patience.wait(shared.settings.files_deadline, move || {
        let state = state.as_deref();
        match claimed_by {
            None => runtime::describe(&host, &roots, Owner::Any, &id, state),
            Some(uid) => {
                let home = users::by_uid(&host, uid).map(|user| user.home).unwrap_or_default();
                let roots = RuntimeRoots::of_user(uid, &home);
                runtime::describe(&host, &roots, Owner::User(uid), &id, state)
            }
        }
    });
    let (facts, trouble) = match facts {
        Ok(facts) => (facts, None),
        Err(reason) => (Facts::default(), Some(reason)),
    };
    identity.container = Some(merge(found, facts, trouble, notes));
}

fn merge(found: InPath, facts: Facts, trouble: Option<Reason>, notes: &mut Notes) -> Container {
    let runtime = match found.runtime {
        // Podman and CRI-O run crun and runc; only their own files tell that it is they.
        Runtime::Oci | Runtime::Crun | Runtime::Runc => facts.runtime.unwrap_or(found.runtime),
        known => known,
    };
    let id_is_name = matches!(
        runtime,
        Runtime::Crun
            | Runtime::Runc
            | Runtime::Lxc
            | Runtime::Nspawn
            | Runtime::Garden
            | Runtime::Buildkit
    );
    let is_digest = found.id.len() == 64 && found.id.bytes().all(|b| b.is_ascii_hexdigit());
    let name = facts.name.or_else(|| (id_is_name && !is_digest).then(|| found.id.clone()));
    let pod_uid = found.pod_uid.or(facts.pod_uid);
    let has_no_pod = pod_uid.is_some() && facts.pod.is_none();
    let absent = [
        (Field::ContainerName, name.is_none()),
        (Field::ContainerImage, facts.image.is_none()),
        (Field::ContainerPod, has_no_pod),
    ];
    let problem = |field: Field| {
        // A file that could not be used could have told any of them.
        let own = facts.problems.iter().find(|remark| remark.field == field);
        let any = facts.problems.iter().find(|remark| remark.field == Field::ContainerName);
        own.or(any).map(|remark| remark.reason.clone()).or_else(|| trouble.clone())
    };
    for (field, _) in absent.into_iter().filter(|(_, is_absent)| *is_absent) {
        notes.missing(field, problem(field).unwrap_or(Reason::NoRuntimeFile));
    }
    for remark in &facts.problems {
        if notes.missing.iter().all(|missing| missing.field != remark.field) {
            notes.doubt(remark.field, remark.reason.clone());
        }
    }
    if let Some(runtime) = facts.labels_kept_by {
        notes.doubt(Field::ContainerLabels, Reason::RuntimeDatabase(runtime));
    }
    Container {
        id: found.id,
        runtime,
        name,
        image: facts.image,
        pod: facts.pod,
        pod_uid,
        namespace: facts.namespace,
        labels: facts.labels,
        evidence: found.evidence,
        claimed_by: found.claimed_by,
        nested: found.nested,
        sandbox: facts.sandbox,
    }
}
