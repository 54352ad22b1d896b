//! A real OCI container, run by Debian's `crun`.
//!
//! `crun` 1.8 refuses hybrid hosts (cgroup v1 at `/sys/fs/cgroup`, v2 in a folder of it): it is started in a mount
//! namespace of its own where a cgroup v2 mount covers `/sys/fs/cgroup`. The root file system is a busybox plus
//! read-only views of the host's `/usr` and `/etc`, so that the host's clients run inside.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::cgroup::Cgroup;
use crate::host;
use crate::kernel;
use crate::netns::NetNs;
use crate::wait::{self, PATIENCE};

/// Debian's statically linked busybox, from package `busybox-static`.
const BUSYBOX: [&str; 2] = ["/usr/bin/busybox", "/bin/busybox"];

/// What to run; see [`Container::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    network: Option<PathBuf>,
    own_network: bool,
    binds: Vec<(PathBuf, PathBuf)>,
    annotations: Map<String, Value>,
    environment: Vec<String>,
    user: (u32, u32),
    state_root: Option<PathBuf>,
}

/// A container whose first process has been started. Dropping it kills and deletes the container and its files.
#[derive(Debug)]
pub struct Container {
    // `crun run`, which lives as long as the container's first process.
    runner: Option<Child>,
    id: String,
    state_root: PathBuf,
    cgroup: String,
    folder: TempDir,
}

impl Container {
    /// A container with the host's network namespace; its id is `<name>-<random>`.
    pub fn builder(name: &str) -> Builder {
        Builder {
            name: format!("{name}-{:08x}", host::random() & 0xffff_ffff),
            network: None,
            own_network: false,
            binds: Vec::new(),
            annotations: Map::new(),
            environment: vec![
                "PATH=/usr/local/bin:/usr/bin:/bin".to_owned(),
                "HOME=/tmp".to_owned(),
            ],
            user: (0, 0),
            state_root: None,
        }
    }

    /// Container id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `crun --root`: below it, `<id>/config.json` is the container's configuration.
    pub fn state_root(&self) -> &Path {
        &self.state_root
    }

    /// Cgroup of the container, relative to the hierarchy's root.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Pid of the container's first process in this pid namespace.
    pub fn pid(&self) -> Result<u32> {
        wait::until("the container to run", PATIENCE, || {
            let output = host::output(self.crun().args(["state", &self.id]))?;
            let state: Value = match serde_json::from_slice(&output.stdout) {
                Ok(state) => state,
                Err(_) => return Ok(None),
            };
            let pid = state["pid"].as_u64().filter(|pid| *pid > 0);
            Ok(pid.and_then(|pid| u32::try_from(pid).ok()))
        })
    }

    /// Waits for the first process to end and returns what it wrote and its status.
    pub fn wait(&mut self) -> Result<Output> {
        let runner = self.runner.take().context("the container was waited for already")?;
        runner.wait_with_output().context("waiting for crun")
    }

    /// Runs another program inside, to its end.
    pub fn exec(&self, arguments: &[&str]) -> Result<Output> {
        host::output(self.crun().arg("exec").arg(&self.id).args(arguments))
    }

    fn crun(&self) -> Command {
        crun(&self.state_root)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Fails when the container has ended and `crun run` deleted it: then nothing is left to do.
        let _ = host::output(self.crun().args(["delete", "--force", &self.id]));
        if let Some(mut runner) = self.runner.take() {
            let _ = runner.kill();
            let _ = runner.wait();
        }
        let left = self.folder.path().join("state").join(&self.id);
        if left.exists() {
            eprintln!("container {} was not deleted", self.id);
        }
    }
}

impl Builder {
    /// The container id that [`Builder::run`] will use.
    pub fn id(&self) -> &str {
        &self.name
    }

    /// A network namespace made by the runtime: loopback only, and up.
    #[must_use]
    pub fn own_network(mut self) -> Self {
        self.own_network = true;
        self.network = None;
        self
    }

    /// Joins an existing network namespace.
    #[must_use]
    pub fn network(mut self, netns: &NetNs) -> Self {
        self.own_network = false;
        self.network = Some(netns.path());
        self
    }

    /// Shows a file or folder of the host inside, read-only.
    #[must_use]
    pub fn bind(mut self, host: &Path, inside: &Path) -> Self {
        self.binds.push((host.to_owned(), inside.to_owned()));
        self
    }

    /// An annotation of the OCI configuration.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.into());
        self
    }

    /// An environment variable of the first process.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// User and group of the first process.
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = (uid, gid);
        self
    }

    /// Folder for the runtime's state, so that it can be named in a configuration before the container runs.
    #[must_use]
    pub fn state_root(mut self, folder: &Path) -> Self {
        self.state_root = Some(folder.to_owned());
        self
    }

    /// Starts `arguments` in the container, in a cgroup below `cgroup`. Standard output and error are captured for
    /// [`Container::wait`].
    pub fn run(self, cgroup: &Cgroup, arguments: &[&str]) -> Result<Container> {
        let folder = tempfile::Builder::new().prefix("pgward-container-").tempdir()?;
        let inside = format!("{}/{}", cgroup.in_hierarchy(), self.name);
        root_file_system(&folder.path().join("rootfs"))?;
        for (_, inside) in &self.binds {
            let inside = inside.strip_prefix("/").context("a bind target is absolute")?;
            let target = folder.path().join("rootfs").join(inside);
            fs::create_dir_all(target.parent().context("a bind target has a folder")?)?;
        }
        let config = self.config(&inside, arguments);
        fs::write(folder.path().join("config.json"), serde_json::to_vec_pretty(&config)?)?;
        let state_root = self.state_root.unwrap_or_else(|| folder.path().join("state"));
        fs::create_dir_all(&state_root)?;
        let mut command = crun(&state_root);
        command.args(["run", "--bundle"]).arg(folder.path()).arg(&self.name);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let runner = command.spawn().context("starting crun")?;
        Ok(Container { runner: Some(runner), id: self.name, state_root, cgroup: inside, folder })
    }

    /// Configuration after the OCI runtime specification 1.0, "Configuration" and "Linux Container Configuration".
    fn config(&self, cgroup: &str, arguments: &[&str]) -> Value {
        let mut namespaces: Vec<Value> =
            ["pid", "mount", "ipc", "uts", "cgroup"].map(|kind| json!({ "type": kind })).into();
        if let Some(path) = &self.network {
            namespaces.push(json!({ "type": "network", "path": path }));
        } else if self.own_network {
            namespaces.push(json!({ "type": "network" }));
        }
        let mut mounts = vec![
            json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
            json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }),
            json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs" }),
        ];
        let shared = [("/usr".into(), "/usr".into()), ("/etc".into(), "/etc".into())];
        for (source, destination) in shared.iter().chain(&self.binds) {
            let options = ["rbind", "ro"];
            mounts.push(json!({
                "destination": destination, "type": "bind", "source": source, "options": options
            }));
        }
        json!({
            "ociVersion": "1.0.0",
            "process": {
                "terminal": false,
                "user": { "uid": self.user.0, "gid": self.user.1 },
                "args": arguments,
                "env": self.environment,
                "cwd": "/",
                "noNewPrivileges": true
            },
            "root": { "path": "rootfs", "readonly": false },
            "hostname": "pgward-test",
            "mounts": mounts,
            "annotations": self.annotations,
            "linux": { "namespaces": namespaces, "cgroupsPath": cgroup }
        })
    }
}

/// `crun` in a mount namespace where `/sys/fs/cgroup` is the cgroup v2 hierarchy.
fn crun(state_root: &Path) -> Command {
    let mut command = Command::new("crun");
    command.arg("--root").arg(state_root).arg("--cgroup-manager=cgroupfs");
    kernel::before_exec(&mut command, || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(none, "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), none)?;
        Ok(())
    });
    command
}

fn root_file_system(root: &Path) -> Result<()> {
    for folder in ["usr", "etc", "proc", "tmp", "dev", "busybox"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for folder in ["bin", "sbin", "lib", "lib64"] {
        // Debian 12 merged these into /usr.
        symlink(Path::new("usr").join(folder), root.join(folder))?;
    }
    let Some(busybox) = BUSYBOX.iter().find(|path| Path::new(path).is_file()) else {
        bail!("no busybox at any of {BUSYBOX:?}: package busybox-static");
    };
    fs::copy(busybox, root.join("busybox/busybox"))?;
    Ok(())
}
