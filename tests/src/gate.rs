//! What a test needs from the host, and what happens when the host does not have it.
//!
//! A test that cannot run fails. Only `PGWARD_SKIP_KERNEL=1` (kernel tests) or `PGWARD_SKIP_CLIENTS=1` (client drivers)
//! turns that into a line `NOT RUN: <test>: <reason>`, so that nothing is left out silently.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::agent::Agent;
use crate::cgroup::Cgroup;

/// Set to 1 to leave out kernel tests that cannot run here.
pub const SKIP_KERNEL: &str = "PGWARD_SKIP_KERNEL";

/// Set to 1 to leave out client drivers that are not installed.
pub const SKIP_CLIENTS: &str = "PGWARD_SKIP_CLIENTS";

/// Whether kernel tests can run: root, a cgroup v2 hierarchy seen from its root, a BPF file system, and the binary.
///
/// Returns false, after printing the reason, when they cannot and [`SKIP_KERNEL`] is set; panics when it is not.
#[must_use]
pub fn kernel(test: &str) -> bool {
    pass(test, privileges().and_then(|()| binary()).err(), SKIP_KERNEL)
}

/// [`kernel`], and a program of that name in the path.
#[must_use]
pub fn kernel_with(test: &str, program: &str) -> bool {
    kernel(test) && pass(test, find_program(program).err(), SKIP_KERNEL)
}

/// [`kernel`] without the binary: for tests of the guards.
#[must_use]
pub fn privileged(test: &str) -> bool {
    pass(test, privileges().err(), SKIP_KERNEL)
}

/// [`privileged`], and a program of that name in the path.
#[must_use]
pub fn privileged_with(test: &str, program: &str) -> bool {
    privileged(test) && pass(test, find_program(program).err(), SKIP_KERNEL)
}

/// A kernel test found out on its way that it cannot run: fails it, or says so where that is allowed.
pub fn unable(test: &str, reason: anyhow::Error) {
    pass(test, Some(reason), SKIP_KERNEL);
}

/// The Python of `cargo xtask`'s tool folder when it can import `module`; `None`, after printing the reason, when not and
/// [`SKIP_CLIENTS`] is set. Panics when it is not set.
#[must_use]
pub fn python(test: &str, module: &str) -> Option<PathBuf> {
    match find_python(module) {
        Ok(path) => Some(path),
        Err(error) => {
            pass(test, Some(error), SKIP_CLIENTS);
            None
        }
    }
}

/// The folder of JavaScript modules among `cargo xtask`'s tools when `node` is in the path and it holds `module`; else as
/// [`python`].
#[must_use]
pub fn node(test: &str, module: &str) -> Option<PathBuf> {
    match find_node(module) {
        Ok(path) => Some(path),
        Err(error) => {
            pass(test, Some(error), SKIP_CLIENTS);
            None
        }
    }
}

/// Whether `java` is in the path, can run source files, and the `library` exists; else as [`python`].
#[must_use]
pub fn java(test: &str, library: &Path) -> bool {
    pass(test, find_java(library).err(), SKIP_CLIENTS)
}

/// The folder of PostgreSQL's own regression SQL of a major version among `cargo xtask`'s tools; else as [`python`].
#[must_use]
pub fn regression_sql(test: &str, version: &str) -> Option<PathBuf> {
    match find_regression_sql(version) {
        Ok(folder) => Some(folder),
        Err(error) => {
            pass(test, Some(error), SKIP_CLIENTS);
            None
        }
    }
}

fn pass(test: &str, problem: Option<anyhow::Error>, variable: &str) -> bool {
    let Some(problem) = problem else { return true };
    let skip = std::env::var(variable).is_ok_and(|value| value == "1");
    assert!(skip, "{test} cannot run: {problem:#} (set {variable}=1 to leave such tests out)");
    // Past the capture of libtest: a name that was not run must be seen.
    let line = format!("NOT RUN: {test}: {problem:#}\n");
    let _ = nix::unistd::write(std::io::stderr(), line.as_bytes());
    false
}

fn privileges() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("not root");
    }
    Cgroup::mount_point()?;
    let known = std::fs::read_to_string("/proc/filesystems")?;
    if !known.lines().any(|line| line.ends_with("\tbpf")) {
        bail!("the kernel has no BPF file system");
    }
    Ok(())
}

fn binary() -> Result<()> {
    let path = Agent::binary()?;
    if !path.is_file() {
        bail!("no binary at {}: `cargo build -p pgward` makes it", path.display());
    }
    Ok(())
}

fn find_program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").context("no PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("no program `{name}` in the path"))
}

fn find_python(module: &str) -> Result<PathBuf> {
    let folder = target_folder()?;
    let python = folder.join("tools/venv/bin/python");
    if !python.is_file() {
        bail!("no {}: `cargo xtask test` makes it", python.display());
    }
    let mut command = std::process::Command::new(&python);
    crate::host::run(command.args(["-c", &format!("import {module}")]))
        .with_context(|| format!("python module `{module}`"))?;
    Ok(python)
}

fn find_regression_sql(version: &str) -> Result<PathBuf> {
    let folder = target_folder()?.join("tools/regression").join(version);
    if !folder.join("complete").is_file() {
        bail!("no regression SQL in {}: `cargo xtask test` fetches it", folder.display());
    }
    Ok(folder)
}

fn find_node(module: &str) -> Result<PathBuf> {
    find_program("node")?;
    let modules = target_folder()?.join("tools/node/node_modules");
    if !modules.join(module).is_dir() {
        bail!("no `{module}` in {}: `cargo xtask test` installs it", modules.display());
    }
    Ok(modules)
}

fn find_java(library: &Path) -> Result<()> {
    find_program("java")?;
    // The compiler is beside it in a development kit only.
    find_program("javac")?;
    if !library.is_file() {
        bail!("no {}", library.display());
    }
    Ok(())
}

/// The build folder that holds the running executable.
pub fn target_folder() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let mut folder: &Path = &executable;
    while let Some(parent) = folder.parent() {
        if parent.join("CACHEDIR.TAG").is_file() {
            return Ok(parent.to_owned());
        }
        folder = parent;
    }
    bail!("{} is not inside a build folder", executable.display());
}

/// Name of the test it stands in.
#[macro_export]
macro_rules! here {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        name.strip_suffix("::here").unwrap_or(name)
    }};
}

/// Leaves a test that cannot run, with its name: fails, or says `NOT RUN` where that is allowed.
#[macro_export]
macro_rules! needs_kernel {
    () => {{
        if !$crate::gate::kernel($crate::here!()) {
            return Ok(());
        }
    }};
    (with $program:literal) => {{
        if !$crate::gate::kernel_with($crate::here!(), $program) {
            return Ok(());
        }
    }};
}
