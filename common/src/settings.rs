//! What the agent tells the programs.

/// Settings of the programs, one per attachment. Layout: 32 bytes, alignment 8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// [`crate::ABI_VERSION`] of the agent that wrote this.
    pub abi_version: u32,
    /// One of [`on_agent_down`].
    pub on_agent_down: u32,
    /// The agents' own note, of no use to the programs: how many of [`Counter::EventsLost`] are in the log. It stays with the
    /// counter over restarts, so that each loss is recorded once.
    pub events_lost_recorded: u64,
    /// First SYN timer of a held connection, in jiffies (`BPF_SOCK_OPS_TIMEOUT_INIT`); 0 leaves the kernel's.
    pub hold_syn_jiffies: u32,
    /// Port of the agent's listeners in namespaces that are not open yet, network order.
    pub listen_port: [u8; 2],
    /// 1 to ask for transmit-timestamp callbacks on redirected sockets (attribution tier T1).
    pub tx_timestamp: u8,
    /// Zero.
    pub pad: u8,
    /// Zero.
    pub pad2: u64,
}

/// Byte offsets of kernel structure members, taken from the running kernel's BTF by the loader and put into the programs'
/// read-only data. 0 means "this kernel does not tell": the code that needs it is then dead and the verifier drops it.
///
/// Layout: 48 bytes, alignment 4.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.group_leader`
    pub task_group_leader: u32,
    /// `task_struct.start_boottime`
    pub task_start_boottime: u32,
    /// `task_struct.self_exec_id`
    pub task_self_exec_id: u32,
    /// `task_struct.mm`
    pub task_mm: u32,
    /// `mm_struct.exe_file`
    pub mm_exe_file: u32,
    /// `file.f_inode`
    pub file_f_inode: u32,
    /// `inode.i_ino`
    pub inode_i_ino: u32,
    /// `inode.i_sb`
    pub inode_i_sb: u32,
    /// `super_block.s_dev`
    pub super_block_s_dev: u32,
    /// `tcp_sock.write_seq`
    pub tcp_write_seq: u32,
    /// 1 where `bpf_set_retval` exists (5.18): refusals carry their own errno, else `EPERM`.
    pub have_set_retval: u32,
    /// 1 where the transmit-timestamp callback is to be served (6.15).
    pub have_tx_timestamp: u32,
}

/// Name of the read-only variable that holds [`Offsets`].
pub const OFFSETS: &str = "OFFSETS";

/// Values of [`Settings::on_agent_down`].
pub mod on_agent_down {
    /// Refuse with `ECONNREFUSED`.
    pub const BLOCK: u32 = 0;
    /// Let the connection go where the application wanted, and record it.
    pub const ALLOW: u32 = 1;
}

/// Key of the destinations trie. Layout: 24 bytes, alignment 4; `prefix_len` counts bits of `port` and `address` together,
/// so 16 means "this port, any address".
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetKey {
    /// Network order.
    pub port: [u8; 2],
    /// Network order, IPv4 as IPv4-mapped.
    pub address: [u8; 16],
}

/// Values of the destinations trie.
pub mod action {
    /// Leave the connection alone.
    pub const PASS: u32 = 0;
    /// Redirect it to the agent.
    pub const INTERCEPT: u32 = 1;
}

/// What the programs know of a network namespace. Layout: 24 bytes, alignment 8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetnsState {
    /// When the namespace was first seen, nanoseconds since boot; 0 once the agent has set a state.
    pub since_boottime_ns: u64,
    /// One of [`netns_state`].
    pub state: u32,
    /// Port of the agent's listeners there, network order.
    pub port: [u8; 2],
    /// 1 when the agent listens on `::1` there too.
    pub v6: u8,
    /// Zero.
    pub pad: u8,
    /// Zero.
    pub pad2: u64,
}

/// Values of [`NetnsState::state`].
pub mod netns_state {
    /// Reported to the agent, no listener yet: SYNs are held.
    pub const HELD: u32 = 1;
    /// The agent listens: SYNs go.
    pub const READY: u32 = 2;
    /// The agent can't listen there: connects are refused.
    pub const REFUSED: u32 = 3;
}

/// Counters of the programs, index into the per-CPU array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Connects toward an intercepted destination.
    ConnectSeen = 0,
    /// Connects of the agent itself, passed.
    ConnectOwn = 1,
    /// Connects redirected to the agent.
    Redirected = 2,
    /// Refused: the agent is down and `on_agent_down = "block"`.
    RefusedAgentDown = 3,
    /// Passed unseen: the agent is down and `on_agent_down = "allow"`.
    AllowedAgentDown = 4,
    /// Refused: the identity could not be stored with the socket.
    RefusedStorage = 5,
    /// Refused: a listener that is not the agent's holds the port.
    RefusedImpostor = 6,
    /// Refused: the namespace could not be noted or is marked as refused.
    RefusedNamespace = 7,
    /// Refused: socket is of a kind that can't be redirected.
    RefusedSocket = 8,
    /// The hand-over could not be written: the agent closes the connection for lack of identity.
    HandoverFull = 9,
    /// The accepted socket found no hand-over.
    HandoverMissing = 10,
    /// Hand-overs completed.
    HandedOver = 11,
    /// SYNs held back for a namespace.
    SynHeld = 12,
    /// MPTCP sockets refused.
    MptcpRefused = 13,
    /// Events lost because the ring buffer was full.
    EventsLost = 14,
    /// Writer changes lost because the ring buffer was full.
    WriterEventsLost = 15,
    /// Writer changes reported.
    WriterChanged = 16,
    /// Redirected sockets closed, or connected anew, with their hand-over still waiting.
    Abandoned = 17,
    /// Redirected connects that ended before their SYN was made: no port was free, the caller was killed.
    NotSent = 18,
    /// SYNs of redirected connects, each counted once; its retries are not.
    SynMade = 19,
    /// A waiting hand-over was overwritten by that of another socket with the same local address and port.
    HandoverDisplaced = 20,
    /// The accepted socket had no memory for the hand-over: the agent closes the connection for lack of identity.
    HandoverUnkept = 21,
}

/// Number of [`Counter`]s.
pub const COUNTERS: u32 = 22;

/// Index into the array [`crate::maps::LEDGER`]. The array lives as long as the counters do: both are pinned in one folder.
pub mod ledger {
    /// The last number given to a connect ([`crate::Flow::number`]); 0 before the first. Written by the programs.
    pub const LAST: u32 = 0;
    /// What tells this ledger from others: a random number other than 0, written by the agent that made the array.
    pub const ID: u32 = 1;
    /// Length of the array.
    pub const LEN: u32 = 2;
}

impl Counter {
    /// All of them, in the order of their index, with the name used in reports.
    pub const ALL: [(Counter, &'static str); COUNTERS as usize] = [
        (Counter::ConnectSeen, "connect_seen"),
        (Counter::ConnectOwn, "connect_own"),
        (Counter::Redirected, "redirected"),
        (Counter::RefusedAgentDown, "refused_agent_down"),
        (Counter::AllowedAgentDown, "allowed_agent_down"),
        (Counter::RefusedStorage, "refused_storage"),
        (Counter::RefusedImpostor, "refused_impostor"),
        (Counter::RefusedNamespace, "refused_namespace"),
        (Counter::RefusedSocket, "refused_socket"),
        (Counter::HandoverFull, "handover_full"),
        (Counter::HandoverMissing, "handover_missing"),
        (Counter::HandedOver, "handed_over"),
        (Counter::SynHeld, "syn_held"),
        (Counter::MptcpRefused, "mptcp_refused"),
        (Counter::EventsLost, "events_lost"),
        (Counter::WriterEventsLost, "writer_events_lost"),
        (Counter::WriterChanged, "writer_changed"),
        (Counter::Abandoned, "abandoned"),
        (Counter::NotSent, "not_sent"),
        (Counter::SynMade, "syn_made"),
        (Counter::HandoverDisplaced, "handover_displaced"),
        (Counter::HandoverUnkept, "handover_unkept"),
    ];
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(
        size_of::<Settings>() == 32
            && offset_of!(Settings, events_lost_recorded) == 8
            && offset_of!(Settings, listen_port) == 20
            && size_of::<TargetKey>() == 18
            && size_of::<NetnsState>() == 24
    );
    let mut i = 0;
    while i < Counter::ALL.len() {
        assert!(Counter::ALL[i].0 as usize == i, "counters are listed in the order of their index");
        i += 1;
    }
};
