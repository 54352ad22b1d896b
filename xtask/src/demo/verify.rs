//! Looks for everything that the demo made, after it was put away.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use pgward_tests::cgroup::Cgroup;
use pgward_tests::host;

use crate::run::say;

/// What was made, by name.
pub(super) struct Traces {
    folder: PathBuf,
    cgroups: Vec<PathBuf>,
    addresses: Vec<Ipv4Addr>,
    processes: Vec<(&'static str, u32)>,
    agent: AgentTrace,
}

/// What became of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AgentTrace {
    /// It was not started, or its guard reported an error of its own.
    Unknown,
    /// It ended, detached, and its guard found neither pin nor attached program, and no secret in what it wrote.
    Detached,
}

impl Traces {
    /// Nothing but the folder of the run.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            cgroups: Vec::new(),
            addresses: Vec::new(),
            processes: Vec::new(),
            agent: AgentTrace::Unknown,
        }
    }

    /// Notes cgroups.
    pub(super) fn cgroups<'a>(&mut self, cgroups: impl IntoIterator<Item = &'a Cgroup>) {
        self.cgroups.extend(cgroups.into_iter().map(|cgroup| cgroup.path().to_owned()));
    }

    /// Notes addresses of the host's ends of cables.
    pub(super) fn addresses(&mut self, addresses: impl IntoIterator<Item = Ipv4Addr>) {
        self.addresses.extend(addresses);
    }

    /// Notes a long-lived process.
    pub(super) fn process(&mut self, name: &'static str, pid: u32) {
        self.processes.push((name, pid));
    }

    /// Notes that the agent's guard found nothing left.
    pub(super) fn detached(&mut self) {
        self.agent = AgentTrace::Detached;
    }

    /// What is still there: one line each.
    fn left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for path in self.cgroups.iter().chain([&self.folder]).filter(|path| path.exists()) {
            left.push(path.display().to_string());
        }
        for (name, pid) in &self.processes {
            // A pid may be another process's by now; ours had that name.
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if comm.trim() == *name {
                left.push(format!("process {pid}, {name}"));
            }
        }
        for mount in host::mounts()?.iter().filter(|mount| mount.target.starts_with(&self.folder)) {
            left.push(format!("mount {}", mount.target.display()));
        }
        if !self.addresses.is_empty() {
            let devices = host::run(Command::new("ip").args(["-o", "-4", "address"]))?;
            let there = |address: &&Ipv4Addr| devices.contains(&format!(" {address}/"));
            let found = self.addresses.iter().filter(there);
            left.extend(found.map(|address| format!("network device with {address}")));
        }
        Ok(left)
    }
}

/// Prints what was looked for; fails when something is still there.
pub(super) fn report(traces: &Traces) -> Result<()> {
    let left = traces.left()?;
    if !left.is_empty() {
        bail!("left behind:\n  {}", left.join("\n  "));
    }
    let names: Vec<_> =
        traces.processes.iter().map(|(name, pid)| format!("{name} {pid}")).collect();
    say("\nLeft behind: nothing. Looked for:");
    say(format_args!("  processes: {}", names.join(", ")));
    say(format_args!("  cgroups with all that ran in them: {}", traces.cgroups.len()));
    say(format_args!("  network devices of {} namespaces", traces.addresses.len()));
    say(format_args!("  files and mounts below {}", traces.folder.display()));
    say(match traces.agent {
        AgentTrace::Detached => {
            "  pinned and attached BPF programs, after `pgward detach`\n  \
             passwords and verifiers in what the agent wrote: log, records, `status`, `sessions`"
        }
        AgentTrace::Unknown => "  (BPF programs go with their cgroup and the mount of their pins)",
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_still_there() {
        let folder = tempfile::tempdir().expect("folder");
        let mut traces = Traces::new(folder.path());
        let name = std::fs::read_to_string("/proc/self/comm").expect("comm");
        let name: &'static str = name.trim().to_owned().leak();
        traces.process(name, std::process::id());
        traces.process("other", std::process::id());
        let left = traces.left().expect("looked");
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
