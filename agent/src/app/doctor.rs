//! `pgward doctor`: what works here, what does not, and what to do about it. Changes nothing.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::MetadataExt,
    path::Path,
};

use serde::Serialize;

use crate::{
    bpf::{self, Cgroup, KernelTypes, PinFolder},
    config::{self, Config, Verdict, Warning, warnings},
    net::error::chain,
    secrets::examine_places,
};

/// Result of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Works.
    Ok,
    /// Works with less than everything.
    Warn,
    /// Does not work.
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// How it looks.
    pub verdict: Health,
    /// What was found.
    pub found: String,
    /// What to do, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Check {
    fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Health::Ok, found: found.into(), hint: None }
    }

    fn warn(what: impl Into<String>, found: impl Into<String>, hint: &str) -> Self {
        let hint = Some(hint.to_owned());
        Self { what: what.into(), verdict: Health::Warn, found: found.into(), hint }
    }

    fn fail(what: impl Into<String>, found: impl Into<String>, hint: &str) -> Self {
        let hint = Some(hint.to_owned());
        Self { what: what.into(), verdict: Health::Fail, found: found.into(), hint }
    }
}

/// Each Linux capability that the agent uses, its bit, and the operation that needs it.
pub const CAPABILITIES: [(&str, u32, &str); 6] = [
    ("CAP_BPF", 39, "loading programs and making maps"),
    ("CAP_NET_ADMIN", 12, "attaching to cgroups, SO_MARK, bringing lo up"),
    ("CAP_PERFMON", 38, "reading task fields in programs, the tracepoint of tier T2"),
    ("CAP_SYS_ADMIN", 21, "setns into network namespaces, mounting bpffs"),
    ("CAP_SYS_PTRACE", 19, "reading /proc/PID/exe, cwd and ns of other users' processes"),
    ("CAP_DAC_READ_SEARCH", 2, "reading container runtimes' state and program files"),
];

/// A configuration and the file it was read from.
pub type Configured<'c> = (&'c Config, &'c Path);

/// Looks at the host, at the configuration where one is given, and at a process where one is named.
pub fn examine(configured: Option<Configured<'_>>, pid: Option<u32>) -> Vec<Check> {
    let config = configured.map(|(config, _)| config);
    let mut checks = Vec::new();
    capabilities(&mut checks);
    kernel(&mut checks);
    let programs_load = programs(&mut checks);
    places(config, &mut checks);
    if let Some((config, file)) = configured {
        destinations(config, file, &mut checks);
    }
    if let Some(pid) = pid {
        process(pid, config, programs_load, &mut checks);
    }
    checks
}

fn capabilities(checks: &mut Vec<Check>) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    // Before Linux 5.8 CAP_SYS_ADMIN stood for CAP_BPF and CAP_PERFMON; it still does.
    let admin = effective & (1 << 21) != 0;
    for (name, bit, operation) in CAPABILITIES {
        let stands_in = admin && matches!(name, "CAP_BPF" | "CAP_PERFMON");
        checks.push(if effective & (1 << bit) != 0 || stands_in {
            Check::ok(name, operation)
        } else {
            let hint =
                "run as root, or give the service this capability (see config/pgward.service)";
            Check::fail(name, format!("missing, needed for {operation}"), hint)
        });
    }
}

fn kernel(checks: &mut Vec<Check>) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    checks.push(Check::ok("kernel", release.trim()));
    checks.push(match KernelTypes::of_running_kernel() {
        Ok(types) => {
            let o = types.offsets();
            if o.task_start_boottime != 0 && o.mm_exe_file != 0 {
                Check::ok("kernel type information", "task, file and socket members found")
            } else {
                let hint = "processes are told apart by pid alone; expect `unconfirmed` identities";
                Check::warn("kernel type information", "some members are missing", hint)
            }
        }
        Err(error) => Check::warn(
            "kernel type information",
            chain(&error),
            "tier T0 only: a kernel with CONFIG_DEBUG_INFO_BTF tells who writes",
        ),
    });
}

fn programs(checks: &mut Vec<Check>) -> bool {
    let (probes, have_tx) = match bpf::probe() {
        Ok(found) => found,
        Err(error) => {
            let hint = "without programs nothing is intercepted";
            checks.push(Check::fail("programs", chain(&error), hint));
            return false;
        }
    };
    let mut all = true;
    let mut traced = false;
    let mut probes: Vec<_> = probes;
    probes.sort_by(|a, b| a.name.cmp(&b.name));
    for probe in probes {
        let what = format!("program `{}`", probe.name);
        let optional = probe.name == "sendmsg_locked";
        match probe.result {
            Ok(()) => {
                traced |= optional;
                checks.push(Check::ok(what, format!("loads for {}", bpf::hook(&probe.name))));
            }
            Err(reason) if optional => {
                checks.push(Check::warn(what, reason, "tier T2 is not available (Linux 6.16)"));
            }
            Err(reason) => {
                all = false;
                checks.push(Check::fail(what, reason, "the agent can't start on this kernel"));
            }
        }
    }
    checks.push(Check::ok("tier T0", "the opener of each connection is known"));
    checks.push(if have_tx {
        Check::ok("tier T1", "transmit-timestamp callback is there")
    } else {
        Check::warn("tier T1", "no transmit-timestamp callback", "Linux 6.15 has it")
    });
    checks.push(if traced {
        Check::ok("tier T2", "writers are known to the byte")
    } else {
        Check::warn("tier T2", "`tcp_sendmsg_locked` can't be traced", "Linux 6.16 can")
    });
    all
}

fn places(config: Option<&Config>, checks: &mut Vec<Check>) {
    let subtree = match config.map(|c| &c.bpf.cgroup) {
        Some(config::Cgroup::Subtree(path)) => Some(path.as_path()),
        Some(config::Cgroup::Root) | None => None,
    };
    checks.push(match Cgroup::open(subtree) {
        Ok(cgroup) if cgroup.is_root() => {
            Check::ok("cgroup", format!("`{}` is the root", cgroup.path().display()))
        }
        Ok(cgroup) => Check::warn(
            "cgroup",
            format!("`{}` is a subtree", cgroup.path().display()),
            "only what runs inside is intercepted",
        ),
        Err(error @ bpf::AttachError::AlreadyAttached { .. }) => {
            Check::ok("cgroup", first_line(&error.to_string()))
        }
        Err(error @ bpf::AttachError::AgentOutside { .. }) => {
            let hint = "start the agent inside of the cgroup that it intercepts";
            Check::warn("cgroup", first_line(&error.to_string()), hint)
        }
        Err(error) => {
            let hint = "see `bpf.cgroup` in the example configuration";
            Check::fail("cgroup", first_line(&chain(&error)), hint)
        }
    });
    let Some(config) = config else { return };
    let pins = PinFolder::existing(&config.bpf.pin_path);
    checks.push(match pins.attached_to() {
        Some(id) => Check::ok("hooks", format!("attached to cgroup id {id}")),
        None => Check::ok("hooks", "none attached: no agent has run, or `pgward detach` was used"),
    });
    checks.push(trail_folder(&config.audit.directory));
}

/// Whether the agent can keep its trail in `folder`: one that is its own alone, or is still to be made.
fn trail_folder(folder: &Path) -> Check {
    const WHAT: &str = "audit trail";
    let shown = folder.display().to_string();
    let hint = "a folder of the agent's user with mode 0700; only its parent has to exist";
    match fs::symlink_metadata(folder) {
        Ok(found) if !found.is_dir() => Check::fail(WHAT, format!("`{shown}` is no folder"), hint),
        Ok(found) if found.mode() & 0o077 != 0 => {
            Check::fail(WHAT, format!("`{shown}` has mode {:04o}", found.mode() & 0o7777), hint)
        }
        Ok(_) => Check::ok(WHAT, shown),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match folder.parent().map(Path::is_dir) {
                Some(true) => Check::ok(WHAT, format!("{shown}, made at the start")),
                Some(false) | None => {
                    Check::fail(WHAT, format!("the folder of `{shown}` does not exist"), hint)
                }
            }
        }
        Err(error) => Check::fail(WHAT, format!("`{shown}`: {error}"), hint),
    }
}

/// What will happen on each leg, one line per destination, then what is likely not meant, there or
/// in the trail.
fn destinations(config: &Config, file: &Path, checks: &mut Vec<Check>) {
    for destination in config.destinations_in_use() {
        let what = format!("destination `{}`", destination.name);
        checks.push(Check::ok(what, destination.describe()));
    }
    for Warning { about, message, hint } in
        warnings(config).into_iter().chain(examine_places(config, Some(file)))
    {
        checks.push(Check { what: about, verdict: Health::Warn, found: message, hint });
    }
}

fn process(pid: u32, config: Option<&Config>, programs_load: bool, checks: &mut Vec<Check>) {
    let what = format!("process {pid}");
    let Ok(cgroups) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
        let hint = "name a process that runs";
        return checks.push(Check::fail(what, "there is no such process", hint));
    };
    let path = cgroups.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/");
    let inside = match config.map(|c| &c.bpf.cgroup) {
        None | Some(config::Cgroup::Root) => true,
        Some(config::Cgroup::Subtree(root)) => within(path, root),
    };
    let attached = config
        .map(|c| PinFolder::existing(&c.bpf.pin_path))
        .and_then(|pins| pins.attached_to())
        .is_some();
    checks.push(match (inside, programs_load, attached) {
        (true, true, true) => {
            Check::ok(&what, format!("in cgroup `{path}`: its new connections are intercepted"))
        }
        (true, true, false) => Check::warn(
            &what,
            format!("in cgroup `{path}`: its new connections would be intercepted"),
            "no hooks are attached now: start the agent, or name its configuration by --config",
        ),
        (true, false, _) => {
            Check::fail(&what, "would not be intercepted: programs do not load", "see above")
        }
        (false, _, _) => Check::fail(
            &what,
            format!("in cgroup `{path}`, outside of what is attached: not intercepted"),
            "set `bpf.cgroup = \"root\"`, or move the process",
        ),
    });
    namespace(pid, checks);
    if let Some(config) = config {
        earlier_connections(pid, config, checks);
    }
}

fn within(path: &str, root: &Path) -> bool {
    // The attach point is named by its place in the file system, the process by its place in the hierarchy.
    let Ok(wanted) = fs::metadata(root).map(|m| m.ino()) else { return false };
    let Ok(mounts) = fs::read_to_string("/proc/mounts") else { return false };
    let mount = mounts
        .lines()
        .map(|l| l.split(' ').collect::<Vec<_>>())
        .find(|f| f.get(2) == Some(&"cgroup2"));
    let Some(mount) = mount.and_then(|f| f.get(1).copied()) else { return false };
    let mut at = Path::new(mount).join(path.trim_start_matches('/'));
    loop {
        if fs::metadata(&at).is_ok_and(|m| m.ino() == wanted) {
            return true;
        }
        if !at.pop() {
            return false;
        }
    }
}

fn namespace(pid: u32, checks: &mut Vec<Check>) {
    let own = fs::read_link("/proc/self/ns/net");
    let its = fs::read_link(format!("/proc/{pid}/ns/net"));
    checks.push(match (own, its) {
        (Ok(own), Ok(its)) if own == its => Check::ok("network namespace", "the agent's own"),
        (Ok(_), Ok(its)) => Check::ok(
            "network namespace",
            format!("{}: its first connect waits until the agent listens there", its.display()),
        ),
        _ => Check::warn(
            "network namespace",
            "can't be read",
            "CAP_SYS_PTRACE is needed to enter namespaces of other users' processes",
        ),
    });
}

/// Connections that were there before the hooks: they go on unseen until they end.
fn earlier_connections(pid: u32, config: &Config, checks: &mut Vec<Check>) {
    let own = sockets_of(pid);
    let mut direct = 0;
    for (file, parse) in [("tcp", parse_v4 as fn(&str) -> Option<IpAddr>), ("tcp6", parse_v6)] {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(remote), Some(&state), Some(&inode)) =
                (fields.get(2), fields.get(3), fields.get(9))
            else {
                continue;
            };
            let Some((address, port)) = remote.split_once(':') else { continue };
            let (Some(address), Ok(port)) = (parse(address), u16::from_str_radix(port, 16)) else {
                continue;
            };
            if state == "01" && own.contains(inode) && intercepted(config, address, port) {
                direct += 1;
            }
        }
    }
    checks.push(if direct == 0 {
        Check::ok("earlier connections", "none to intercepted destinations")
    } else {
        Check::warn(
            "earlier connections",
            format!("{direct} to intercepted destinations, opened before the hooks were attached"),
            "they go on unseen until they end: restart the application",
        )
    });
}

fn intercepted(config: &Config, address: IpAddr, port: u16) -> bool {
    let bits = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
    .to_bits();
    let matching = config.targets().into_iter().filter(|t| {
        let mask = if t.prefix == 0 { 0 } else { u128::MAX << (128 - t.prefix) };
        t.port.get() == port && (bits & mask) == (t.addr.to_bits() & mask)
    });
    matching.max_by_key(|t| t.prefix).is_some_and(|t| t.verdict == Verdict::Intercept)
}

fn sockets_of(pid: u32) -> BTreeSet<String> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .filter_map(|to| to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(Into::into))
        .collect()
}

/// `/proc/net/tcp` prints each 32-bit word of an address in the machine's byte order.
fn parse_v4(hex: &str) -> Option<IpAddr> {
    let word = u32::from_str_radix(hex, 16).ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(word.to_ne_bytes())))
}

fn parse_v6(hex: &str) -> Option<IpAddr> {
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    let mut bytes = [0u8; 16];
    for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
        let word = u32::from_str_radix(&hex[index * 8..index * 8 + 8], 16).ok()?;
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    Some(Ipv6Addr::from(bytes).to_canonical())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_net_addresses_are_read_in_machine_order() {
        let v4 = u32::from_ne_bytes([127, 0, 0, 1]);
        assert_eq!(parse_v4(&format!("{v4:08X}")), Some("127.0.0.1".parse().expect("an address")));
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
        let hex: String = mapped
            .chunks(4)
            .map(|c| format!("{:08X}", u32::from_ne_bytes(c.try_into().expect("four bytes"))))
            .collect();
        assert_eq!(parse_v6(&hex), Some("127.0.0.1".parse().expect("an address")));
        assert_eq!(parse_v6("short"), None);
    }

    #[test]
    fn destinations_have_a_line_each_and_their_warnings() {
        let text = "intercept = [{ ports = [1] }]\n\
                    [[destination]]\nname = 'a'\nclient.tls = 'off'\nserver.tls = 'require'\n\
                    server.certificate = '/nowhere/c'\nserver.key = '/nowhere/k'\n";
        let config = Config::parse("t.toml", text).expect("a good configuration");
        let mut checks = Vec::new();
        destinations(&config, Path::new("t.toml"), &mut checks);
        checks.retain(|check| check.what != "`audit`");
        assert!(checks.iter().all(|check| check.what == "destination `a`"), "{checks:?}");
        let seen: Vec<_> = checks.iter().map(|check| (check.verdict, &check.found[..7])).collect();
        let warn = Health::Warn;
        assert_eq!(
            seen,
            [(Health::Ok, "clients"), (warn, "`server"), (warn, "server."), (warn, "server.")]
        );
        assert!(checks[1].hint.is_some());
    }

    #[test]
    fn the_folder_of_the_trail_is_there_for_the_agent_alone_or_can_be_made() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("audit");
        assert_eq!(trail_folder(&folder).verdict, Health::Ok, "made at the start");
        assert_eq!(trail_folder(&folder.join("below")).verdict, Health::Fail);
        fs::create_dir(&folder).expect("made");
        let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode));
        mode(0o700).expect("closed");
        assert_eq!(trail_folder(&folder).verdict, Health::Ok);
        mode(0o750).expect("opened");
        let check = trail_folder(&folder);
        assert_eq!(check.verdict, Health::Fail);
        assert!(check.found.ends_with("has mode 0750"), "{check:?}");
        fs::remove_dir(&folder).expect("removed");
        fs::write(&folder, "").expect("a file");
        assert_eq!(trail_folder(&folder).verdict, Health::Fail, "a file");
    }

    #[test]
    fn a_process_that_does_not_exist_is_a_failure() {
        let mut checks = Vec::new();
        process(u32::MAX, None, true, &mut checks);
        assert_eq!(checks[0].verdict, Health::Fail);
    }
}
