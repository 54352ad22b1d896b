//! The kernel side as the agent sees it: load, attach, read events, tag sockets.
//!
//! This is the only module of the agent with `unsafe` code: a few system calls that no crate wraps ([`sys`]).
//!
//! # Attachment
//!
//! Programs are attached by BPF links only (Linux 5.7), pinned under `bpf.pin_path`, so that the end of the agent detaches
//! nothing. A new agent loads its programs against the pinned maps and swaps each link with `BPF_LINK_UPDATE`, which is
//! atomic: no connect goes past. Order of attaching and swapping: whoever carries identity first, whoever redirects last.
//!
//! # Life
//!
//! The program arrays are not pinned: the kernel empties them when the agent's process ends, and the connect hooks fall
//! through to their agent-down path at once.

mod attach;
mod btf;
mod loader;
mod maps;
pub mod sys;

pub use attach::{AttachError, Cgroup, Links, PinFolder, Undo, detach, hook};
pub use btf::{BtfError, KernelTypes};
pub use loader::{
    Alive, LoadError, Loaded, Options, Probe, ProgramLog, Requirement, Tier, load, probe,
};
pub use maps::{Counters, Events, MapError, Maps, WriterEvents};

/// The programs' object file; absent in a build without eBPF toolchain.
#[cfg(not(pgward_no_ebpf))]
pub(crate) fn object() -> Option<&'static [u8]> {
    Some(aya::include_bytes_aligned!(env!("PGWARD_EBPF_OBJECT_PATH")))
}

/// The programs' object file; absent in a build without eBPF toolchain.
#[cfg(pgward_no_ebpf)]
pub(crate) fn object() -> Option<&'static [u8]> {
    None
}
