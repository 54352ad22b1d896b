//! What the kernel side and the agent both see: map names, map keys and values, events, the ABI version.
//!
//! Every type is `repr(C)`, of fixed width, without implicit padding; addresses and ports are byte arrays in network
//! order. IPv4 addresses are held in IPv4-mapped form (`::ffff:a.b.c.d`) so that one key shape serves both families: the
//! client side of an IPv4-mapped connection reports family 10 in `sock_ops` while the accepted socket is plain IPv4.

#![no_std]

mod event;
mod flow;
mod settings;

pub use event::*;
pub use flow::*;
pub use settings::*;

/// Layout version of everything in this crate. Loader and programs compare it before attaching; it changes with any change
/// of a shared type.
pub const ABI_VERSION: u32 = 2;

/// Entries of the destinations trie: at least as many as the configuration allows.
pub const TARGETS_MAX: u32 = 16_384;

/// Network namespaces that are known at once. Beyond, connects from further ones are refused.
pub const NAMESPACES_MAX: u32 = 16_384;

/// Names of the maps, as in the programs' object file and in the pin folder.
pub mod maps {
    /// Array of one [`crate::Settings`].
    pub const SETTINGS: &str = "SETTINGS";
    /// LPM trie [`crate::TargetKey`] to action: which destinations are intercepted.
    pub const TARGETS: &str = "TARGETS";
    /// Socket storage [`crate::AgentTag`]: sockets that belong to the agent.
    pub const AGENT_SOCKETS: &str = "AGENT_SOCKETS";
    /// Socket storage [`crate::Flow`] of redirected client sockets, and of the sockets accepted for them.
    pub const FLOWS: &str = "FLOWS";
    /// Socket storage [`crate::Writer`] of redirected client sockets.
    pub const WRITERS: &str = "WRITERS";
    /// Hash [`crate::HandoverKey`] to [`crate::Flow`]: from SYN to handshake.
    pub const HANDOVER: &str = "HANDOVER";
    /// Hash of network namespace cookie to [`crate::NetnsState`].
    pub const NAMESPACES: &str = "NAMESPACES";
    /// Ring buffer of [`crate::Event`]s about connections and namespaces.
    pub const EVENTS: &str = "EVENTS";
    /// Ring buffer of [`crate::WriterChanged`].
    pub const WRITER_EVENTS: &str = "WRITER_EVENTS";
    /// Per-CPU array of counters, indexed by [`crate::Counter`].
    pub const COUNTERS: &str = "COUNTERS";
    /// Array of numbers for the ledger of connects, indexed by [`crate::ledger`].
    pub const LEDGER: &str = "LEDGER";
    /// Program array of `connect4_redirect`, never pinned: the kernel empties it when the agent's last descriptor goes,
    /// and that is how the connect hook knows at once that the agent is gone.
    pub const AGENT_ALIVE4: &str = "AGENT_ALIVE4";
    /// The same for `connect6_redirect`.
    pub const AGENT_ALIVE6: &str = "AGENT_ALIVE6";
}
