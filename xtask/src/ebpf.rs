//! Builds the kernel side: finds a toolchain, compiles, and puts the object where the agent's build script looks.
//!
//! Two toolchains work:
//!
//! - rustup's nightly with `rust-src`, which compiles `core` for the BPF target itself, and `bpf-linker`;
//! - Debian's `rustc-web` with `libstd-rust-web-dev-bpf`, which brings `core` for BPF ready made, `llvm-22-dev`, and a
//!   `bpf-linker` built against that LLVM. Needs no rustup component and no nightly.
//!
//! A linker must read the bitcode of the compiler, so its LLVM may not be older than the compiler's: a nightly moves to a
//! new LLVM months before a packaged linker does, and is passed over then.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, command, probe, root, run, say, target, tools, which};

/// Target triple of the programs: BPF of a little-endian machine.
const TRIPLE: &str = "bpfel-unknown-none";

/// Version of `bpf-linker` that is known to link the programs with LLVM 22.
const LINKER: &str = "0.13.0";

/// Major version of the LLVM that Debian's compiler and linker are built with.
const LLVM: u32 = 22;

/// Where Debian's `llvm-22-dev` puts LLVM.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// Where Debian's `rustc-web` puts the compiler.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Debian packages that together make the second toolchain.
pub(crate) const DEBIAN_PACKAGES: [&str; 3] =
    ["rustc-web", "libstd-rust-web-dev-bpf", "llvm-22-dev"];

/// Bounded loops and all of ALU32 and the wide jumps: BPF v3 is in kernel 5.1, below the agent's floor of 5.8.
const CPU: &str = "v3";

/// `e_machine` of BPF in an ELF header.
const EM_BPF: u16 = 247;

/// The object that the agent embeds.
pub(crate) fn object() -> PathBuf {
    target().join("ebpf/pgward.bpf.o")
}

/// A way to compile the programs.
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// rustup's nightly; `core` is compiled along.
    Rustup { linker: PathBuf },
    /// Debian's compiler with its ready-made `core`.
    Debian { linker: PathBuf },
}

/// What is missing for a toolchain, and the command that mends it.
#[derive(Debug)]
pub(crate) struct Missing {
    what: String,
    mend: String,
}

/// What `build-ebpf` does when there is no toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenMissing {
    /// Fail.
    Fail,
    /// Say what is left out and succeed.
    LeaveOut,
}

/// Builds the programs and copies the object to [`object`], unless it is the same as the one there.
pub(crate) fn build(when_missing: WhenMissing) -> Result<()> {
    let toolchain = match find() {
        Ok(toolchain) => toolchain,
        Err(missing) => {
            for Missing { what, mend } in &missing {
                say(format_args!("missing for the kernel side: {what}; mend it with: {mend}"));
            }
            if when_missing == WhenMissing::Fail {
                bail!("no toolchain for the kernel side");
            }
            say("left out: the eBPF programs; pgward builds without them and intercepts nothing");
            return Ok(());
        }
    };
    if let Err(error) = compile(&toolchain) {
        // A linker that hides which LLVM it has may turn out too old for nightly.
        let Toolchain::Rustup { .. } = toolchain else { return Err(error) };
        let Ok(linker) = debian() else { return Err(error) };
        say(format_args!("kernel side: nightly failed ({error:#}), trying Debian's rustc-web"));
        compile(&Toolchain::Debian { linker })?;
    }
    let built = target().join("ebpf").join(TRIPLE).join("bpf/pgward-ebpf");
    install(&built, &object())
}

/// Whether Debian's packages are the way to get a toolchain here, that is, whether rustup's is not complete.
pub(crate) fn needs_debian_packages() -> bool {
    rustup().is_err() && !(debian_core().is_some() && Path::new(LLVM_PREFIX).join("lib").is_dir())
}

fn find() -> Result<Toolchain, Vec<Missing>> {
    let not_rustup = match rustup() {
        Ok(linker) => {
            say(format_args!(
                "kernel side: rustup's nightly with rust-src and {}, all there",
                linker.display()
            ));
            return Ok(Toolchain::Rustup { linker });
        }
        Err(missing) => missing,
    };
    let lacking: Vec<_> = not_rustup.iter().map(|missing| missing.what.as_str()).collect();
    match debian() {
        Ok(linker) => {
            say(format_args!(
                "kernel side: Debian's rustc-web with its ready-made core and {}, because rustup lacks {}",
                linker.display(),
                lacking.join(", ")
            ));
            Ok(Toolchain::Debian { linker })
        }
        Err(missing) => Err(missing),
    }
}

/// The linker to use with rustup's nightly.
fn rustup() -> Result<PathBuf, Vec<Missing>> {
    let nightly = |arguments: &[&str]| {
        probe(command("rustup").args(["run", "nightly", "rustc"]).args(arguments))
    };
    let Some(sysroot) = nightly(&["--print", "sysroot"]) else {
        return Err(vec![Missing {
            what: "a nightly toolchain".into(),
            mend: "rustup toolchain install nightly --component rust-src".into(),
        }]);
    };
    let mut missing = Vec::new();
    if !Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir() {
        missing.push(Missing {
            what: "rust-src of nightly".into(),
            mend: "rustup component add rust-src --toolchain nightly".into(),
        });
    }
    let llvm = nightly(&["-vV"]).and_then(|text| compiler_llvm(&text)).unwrap_or_default();
    match linker(llvm) {
        Some(linker) if missing.is_empty() => return Ok(linker),
        Some(_) => {}
        None => missing.push(Missing {
            what: format!("bpf-linker {LINKER} with LLVM {llvm} or later for nightly"),
            mend: format!(
                "cargo install bpf-linker --version {LINKER} --no-default-features \
                 --features llvm-{llvm}"
            ),
        }),
    }
    Err(missing)
}

/// The linker to use with Debian's compiler; builds it when only that is missing.
fn debian() -> Result<PathBuf, Vec<Missing>> {
    let mut missing = Vec::new();
    let mut lacks = |package: &str, what: &str| {
        missing.push(Missing {
            what: what.into(),
            mend: format!("apt-get install {package}  (or all at once: cargo xtask setup)"),
        });
    };
    let [rustc, core, llvm] = DEBIAN_PACKAGES;
    if !Path::new(DEBIAN_RUSTC).exists() {
        lacks(rustc, "Debian's rustc");
    }
    if debian_core().is_none() {
        lacks(core, "core for the BPF target");
    }
    if !Path::new(LLVM_PREFIX).join("lib").is_dir() {
        lacks(llvm, "LLVM 22 for bpf-linker");
    }
    if !missing.is_empty() {
        return Err(missing);
    }
    linker(LLVM).map_or_else(install_linker, Ok).map_err(|error| {
        let what = format!("bpf-linker {LINKER} ({error:#})");
        vec![Missing { what, mend: linker_recipe() }]
    })
}

/// `core` for BPF in the sysroot of Debian's compiler.
fn debian_core() -> Option<PathBuf> {
    let sysroot = probe(command(DEBIAN_RUSTC).args(["--print", "sysroot"]))?;
    let folder = Path::new(&sysroot).join("lib/rustlib").join(TRIPLE).join("lib");
    folder.is_dir().then_some(folder)
}

/// A linker of the right version whose LLVM is `llvm` or later: the project's own, else one on `PATH`.
fn linker(llvm: u32) -> Option<PathBuf> {
    let own = tools().join("bin/bpf-linker");
    [Some(own), which("bpf-linker")].into_iter().flatten().find(|file| {
        let version = probe(command(file).arg("--version"));
        // One without the library has its LLVM built in, and does not say which.
        let libraries = probe(command("ldd").arg(file)).unwrap_or_default();
        version.is_some_and(|text| fits(&text))
            && linked_llvm(&libraries).is_none_or(|found| found >= llvm)
    })
}

/// Major version in the line `LLVM version: 22.1.8` of `rustc -vV`.
fn compiler_llvm(version: &str) -> Option<u32> {
    let line = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.parse().ok()
}

/// Major version in the name of the shared library, as in `libLLVM.so.22.1` or `libLLVM-14.so.1`.
fn linked_llvm(libraries: &str) -> Option<u32> {
    let (_, name) = libraries.split_once("libLLVM")?;
    let name = name.strip_prefix('-').or_else(|| name.strip_prefix(".so."))?;
    name.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Whether `bpf-linker --version` names the version we know to work. Patch releases are taken too.
fn fits(version: &str) -> bool {
    let minor = |text: &str| text.rsplit_once('.').map(|(minor, _)| minor.to_owned());
    let found = version.split_whitespace().last().and_then(minor);
    found.is_some() && found == minor(LINKER)
}

/// Builds the linker into the project's own folder of tools.
fn install_linker() -> Result<PathBuf> {
    say(format_args!("kernel side: no bpf-linker {LINKER} here, building one into target/tools"));
    // The linker has dependencies of its own: they are built apart and their folder is dropped by cargo.
    run(cargo()
        .env("LLVM_PREFIX", LLVM_PREFIX)
        .args(["install", "bpf-linker", "--locked", "--version", LINKER, "--root"])
        .arg(tools())
        .args(["--no-default-features", "--features", "llvm-22"]))?;
    linker(LLVM).context("cargo install succeeded, but the linker does not run")
}

fn linker_recipe() -> String {
    format!(
        "LLVM_PREFIX={LLVM_PREFIX} cargo install bpf-linker --version {LINKER} --root target/tools \
         --no-default-features --features llvm-22"
    )
}

fn compile(toolchain: &Toolchain) -> Result<()> {
    let (mut build, linker) = match toolchain {
        Toolchain::Rustup { linker } => {
            let mut build = command("rustup");
            // Set by rustup for the toolchain that runs this program.
            build.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC").env_remove("CARGO");
            build.args(["run", "nightly", "cargo", "build", "-Z", "build-std=core"]);
            (build, linker)
        }
        Toolchain::Debian { linker } => {
            let mut build = cargo();
            build.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", DEBIAN_RUSTC).arg("build");
            (build, linker)
        }
    };
    let flags = format!(
        "-C linker={} -C debuginfo=2 -C link-arg=--btf -C target-cpu={CPU}",
        linker.display()
    );
    run(build
        .env("RUSTFLAGS", flags)
        .env_remove("RUSTC_WRAPPER")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .args(["--profile", "bpf", "--package", "pgward-ebpf", "--target", TRIPLE])
        .arg("--target-dir")
        .arg("target/ebpf"))
}

/// Copies the object, keeping the old file and its times when nothing changed: cargo rebuilds the agent by them.
fn install(built: &Path, object: &Path) -> Result<()> {
    let bytes = fs::read(built).with_context(|| format!("reading {}", built.display()))?;
    check_elf(&bytes).with_context(|| built.display().to_string())?;
    let shown = object.strip_prefix(root()).unwrap_or(object).display();
    if fs::read(object).is_ok_and(|old| old == bytes) {
        say(format_args!("{shown}: unchanged, {} bytes", bytes.len()));
        return Ok(());
    }
    // Whole or not at all: a build of the agent may read it at this moment.
    let fresh = object.with_extension("new");
    fs::write(&fresh, &bytes).with_context(|| format!("writing {}", fresh.display()))?;
    fs::rename(&fresh, object).with_context(|| format!("renaming to {}", object.display()))?;
    say(format_args!("{shown}: {} bytes", bytes.len()));
    Ok(())
}

/// Checks that the bytes are an ELF object for BPF: magic, 64 bits, little-endian, machine.
fn check_elf(bytes: &[u8]) -> Result<()> {
    let Some(head) = bytes.get(..20) else { bail!("too short: {} bytes", bytes.len()) };
    if &head[..6] != b"\x7fELF\x02\x01" {
        bail!("not a little-endian 64-bit ELF file");
    }
    let machine = u16::from_le_bytes([head[18], head[19]]);
    if machine != EM_BPF {
        bail!("found an object for machine {machine}, expected BPF, {EM_BPF}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_patch_releases_of_the_known_linker_only() {
        assert!(fits("bpf-linker 0.13.0"));
        assert!(fits("bpf-linker 0.13.4\n"));
        for other in ["bpf-linker 0.12.9", "bpf-linker 0.14.0", "bpf-linker 1.13.0", "nothing", ""]
        {
            assert!(!fits(other), "{other}");
        }
    }

    #[test]
    fn reads_the_llvm_of_compilers_and_linkers() {
        let version =
            "rustc 1.96.0 (ac68faa20 2026-05-25)\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(compiler_llvm(version), Some(22));
        assert_eq!(compiler_llvm("rustc 1.96.0"), None);
        assert_eq!(linked_llvm("\tlibLLVM.so.22.1 => /usr/lib/libLLVM.so.22.1 (0x7f)"), Some(22));
        assert_eq!(linked_llvm("\tlibLLVM-14.so.1 => /lib/libLLVM-14.so.1 (0x7f)"), Some(14));
        assert_eq!(linked_llvm("\tlibc.so.6 => /lib/libc.so.6 (0x7f)"), None);
    }

    #[test]
    fn refuses_objects_that_are_not_for_bpf() {
        let mut object = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\xf7\0".to_vec();
        assert!(check_elf(&object).is_ok());
        object[18] = 62;
        let error = check_elf(&object).expect_err("x86-64").to_string();
        assert_eq!(error, "found an object for machine 62, expected BPF, 247");
        assert!(check_elf(&object[..19]).is_err());
        assert!(check_elf(&[b'x'; 64]).is_err());
    }

    #[test]
    fn an_unchanged_object_keeps_its_file() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().expect("folder");
        let (built, object) = (folder.path().join("built"), folder.path().join("pgward.bpf.o"));
        let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\xf7\0".to_vec();
        fs::write(&built, &bytes).expect("write");
        install(&built, &object).expect("first");
        let inode = fs::metadata(&object).expect("there").ino();
        install(&built, &object).expect("again");
        assert_eq!(fs::metadata(&object).expect("there").ino(), inode);
        bytes.push(1);
        fs::write(&built, &bytes).expect("write");
        install(&built, &object).expect("changed");
        assert_eq!(fs::read(&object).expect("there"), bytes);
    }
}
