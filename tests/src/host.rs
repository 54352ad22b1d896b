//! Small facts about the host: random names, free ports, mounts, running a tool to its end.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Ports of servers are picked here: below the usual range of ephemeral ports, so that no outgoing connection holds one.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Tries before a port is called impossible to find.
const PORT_TRIES: u32 = 200;

/// A random number; good for names and ports, not for secrets.
pub fn random() -> u64 {
    // Each `RandomState` has keys of its own, taken from the system.
    RandomState::new().hash_one(std::process::id())
}

/// A name that no other run uses: `pgward-<label>-<8 hex digits>`.
pub fn random_name(label: &str) -> String {
    format!("pgward-{label}-{:08x}", random() & 0xffff_ffff)
}

/// A TCP port on which nobody listens in this namespace, IPv4 and IPv6. Between the answer and its use another program
/// may take it: callers that bind it retry.
pub fn free_port() -> Result<u16> {
    let span = u64::from(PORTS.end - PORTS.start);
    for _ in 0..PORT_TRIES {
        let port = PORTS.start + u16::try_from(random() % span).context("port range")?;
        let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port));
        if v4.is_ok() && (v6.is_ok() || !has_ipv6()) {
            return Ok(port);
        }
    }
    bail!("no free port after {PORT_TRIES} tries");
}

/// Whether this namespace has an IPv6 loopback.
pub fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// One line of `/proc/self/mounts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub target: PathBuf,
    /// Type of the file system, such as `cgroup2`.
    pub kind: String,
}

/// What is mounted in this mount namespace, in order.
pub fn mounts() -> Result<Vec<Mount>> {
    let text = std::fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let target = PathBuf::from(fields.next()?.replace("\\040", " "));
            Some(Mount { target, kind: fields.next()?.to_owned() })
        })
        .collect())
}

/// Runs a command to its end and returns its standard output as text.
///
/// Errors: when it can't be started or does not exit with 0; the error carries the command and both outputs.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}\nstdout: {stdout}\nstderr: {stderr}", output.status);
    }
    Ok(stdout.into_owned())
}

/// Runs a command to its end with nothing on standard input, whatever its exit status.
pub fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))
}
