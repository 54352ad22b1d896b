//! Finds the eBPF object that the agent embeds.
//!
//! The object is `PGWARD_EBPF_OBJECT` when that is set, else `target/ebpf/pgward.bpf.o` of the workspace, which
//! `cargo xtask build-ebpf` writes. The crate sees its absolute path as `env!("PGWARD_EBPF_OBJECT_PATH")`. Without an
//! object everything else is built, with `cfg(pgward_no_ebpf)` set, and a warning says what is left out.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Names the object, for builds that make it elsewhere.
const VARIABLE: &str = "PGWARD_EBPF_OBJECT";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-check-cfg=cfg(pgward_no_ebpf)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");

    if let Some(named) = env::var_os(VARIABLE) {
        let named = PathBuf::from(named);
        let path = named.canonicalize().map_err(|error| {
            format!("{VARIABLE} names `{}`, which can't be used: {error}", named.display())
        })?;
        return embed(&path);
    }
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let workspace = manifest.parent().ok_or("the package is not inside a workspace")?;
    let folder = workspace.join("target/ebpf");
    let object = folder.join("pgward.bpf.o");
    if object.is_file() {
        return embed(&object);
    }

    // Cargo takes a watched file that is missing as changed and would rebuild the crate each time; a folder that is there
    // is looked through and found unchanged until something appears in it.
    fs::create_dir_all(&folder)?;
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rustc-cfg=pgward_no_ebpf");
    println!(
        "cargo::warning=the eBPF programs are left out: this pgward can't intercept connections; \
         build them with `cargo xtask build-ebpf`"
    );
    Ok(())
}

fn embed(object: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", object.display());
    println!("cargo::rustc-env=PGWARD_EBPF_OBJECT_PATH={}", object.display());
    Ok(())
}
