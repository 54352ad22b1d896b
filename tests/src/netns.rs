//! A network namespace of one's own.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};

use crate::host;
use crate::kernel;

/// Whether a new namespace has its loopback device up. Container runtimes bring it up, `ip netns add` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loopback {
    /// `127.0.0.1` and `::1` work.
    Up,
    /// As the kernel made it.
    Down,
}

/// A network namespace, held open by a descriptor and nothing else: no name, no mount. It ends when the guard and the
/// last process and socket inside are gone, even if this process is killed.
#[derive(Debug)]
pub struct NetNs {
    handle: Arc<File>,
    cables: Vec<String>,
}

/// The two ends of a virtual cable made by [`NetNs::connect_to_host`] or [`NetNs::connect_to`]. The network is a /30.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cable {
    /// Address at the far end: the host, or the other namespace.
    pub outside: Ipv4Addr,
    /// Address inside this namespace.
    pub inside: Ipv4Addr,
    /// Name of the device inside this namespace.
    pub device: String,
}

impl NetNs {
    /// Makes a namespace, child of the caller's user namespace.
    pub fn new(loopback: Loopback) -> Result<Self> {
        let handle = std::thread::spawn(|| -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare(CLONE_NEWNET)")?;
            File::open("/proc/thread-self/ns/net").context("opening the new namespace")
        });
        let handle = handle.join().map_err(|_| anyhow!("the namespace thread panicked"))??;
        let this = Self { handle: Arc::new(handle), cables: Vec::new() };
        if loopback == Loopback::Up {
            this.ip(&["link", "set", "lo", "up"])?;
        }
        Ok(this)
    }

    /// A path that opens to this namespace as long as this process holds the guard: for `nsenter`, `ip`, OCI bundles.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.handle.as_raw_fd()).into()
    }

    /// Inode, as in the target of `/proc/PID/ns/net`.
    pub fn inode(&self) -> Result<u64> {
        Ok(self.handle.metadata()?.ino())
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Makes `command` enter this namespace before it runs the program. Combines with `Cgroup::enter`.
    pub fn enter(&self, command: &mut Command) {
        let handle = Arc::clone(&self.handle);
        kernel::before_exec(command, move || {
            setns(handle.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(())
        });
    }

    /// Runs a closure on a thread of its own inside this namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(self.handle.as_fd(), CloneFlags::CLONE_NEWNET).context("setns")?;
                work()
            });
            thread.join().map_err(|_| anyhow!("the thread inside the namespace panicked"))?
        })
    }

    /// Joins this namespace to the caller's with a virtual cable that has an address on each end, and makes the host
    /// the default route inside.
    pub fn connect_to_host(&mut self) -> Result<Cable> {
        let (far, cable) = self.plug(None)?;
        host::run(Command::new("ip").args(["addr", "add", &network(cable.outside), "dev", &far]))?;
        host::run(Command::new("ip").args(["link", "set", &far, "up"]))?;
        self.finish(&cable)?;
        Ok(cable)
    }

    /// Joins this namespace to another one.
    pub fn connect_to(&mut self, other: &NetNs) -> Result<Cable> {
        let (far, cable) = self.plug(Some(other))?;
        other.ip(&["addr", "add", &network(cable.outside), "dev", &far])?;
        other.ip(&["link", "set", &far, "up"])?;
        self.finish(&cable)?;
        Ok(cable)
    }

    /// Runs iproute2's `ip` inside.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("ip");
        command.args(arguments);
        self.enter(&mut command);
        host::run(&mut command)
    }

    /// Makes both devices: `near` inside this namespace, `far` in the other or the host's.
    fn plug(&mut self, other: Option<&NetNs>) -> Result<(String, Cable)> {
        // Device names hold 15 bytes. Addresses come from a corner of 10/8 that is rarely used; a collision between
        // two runs is a chance of one in four million pairs and shows as an error.
        let number = host::random();
        let (near, far) =
            (format!("pgwi{:08x}", number >> 32), format!("pgwo{:08x}", number >> 32));
        let network = u32::try_from(number % (1 << 20))?;
        let base = u32::from(Ipv4Addr::new(10, 192, 0, 0)) | (network << 2);
        let cable = Cable {
            outside: Ipv4Addr::from(base | 1),
            inside: Ipv4Addr::from(base | 2),
            device: near.clone(),
        };
        let inside = self.path();
        let mut command = Command::new("ip");
        command.args(["link", "add", &far]);
        let elsewhere = other.map(NetNs::path);
        if let Some(path) = &elsewhere {
            command.arg("netns").arg(path);
        }
        command.args(["type", "veth", "peer", "name", &near, "netns"]).arg(&inside);
        host::run(&mut command)?;
        if elsewhere.is_none() {
            self.cables.push(far.clone());
        }
        Ok((far, cable))
    }

    fn finish(&self, cable: &Cable) -> Result<()> {
        let near = cable.device.as_str();
        self.ip(&["addr", "add", &network(cable.inside), "dev", near])?;
        self.ip(&["link", "set", near, "up"])?;
        let gateway = cable.outside.to_string();
        let added = self.ip(&["route", "add", "default", "via", &gateway, "dev", near]);
        // A second cable leaves the first one's default route alone.
        match added {
            Err(error) if !error.to_string().contains("File exists") => bail!(error),
            _ => Ok(()),
        }
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        // The devices would go with the namespace, which somebody may still hold; names on the host go now.
        for cable in &self.cables {
            if let Err(error) = host::run(Command::new("ip").args(["link", "del", cable])) {
                eprintln!("{cable}: {error:#}");
            }
        }
    }
}

fn network(address: Ipv4Addr) -> String {
    format!("{address}/30")
}
