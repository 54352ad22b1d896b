//! What the programs tell the agent, through ring buffers.

use crate::flow::{Actor, Flow};

/// Header of every event. Layout: 16 bytes, alignment 8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventHeader {
    /// One of [`event_kind`].
    pub kind: u32,
    /// A [`crate::Counter`] that names the reason of a refusal or of an end before the hand-over, else 0.
    pub reason: u32,
    /// Nanoseconds since boot, suspend included.
    pub boottime_ns: u64,
}

/// An event about a connection or a namespace. Layout: 184 bytes, alignment 8; fields of `flow` that an event kind does not
/// know are zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Kind, reason, time.
    pub header: EventHeader,
    /// The connection; for [`event_kind::NAMESPACE_SEEN`] only `opener` is filled.
    pub flow: Flow,
}

/// Values of [`EventHeader::kind`].
pub mod event_kind {
    /// A namespace without a listener was seen: open one there.
    pub const NAMESPACE_SEEN: u32 = 1;
    /// A connect was refused, see `reason`.
    pub const CONNECT_REFUSED: u32 = 2;
    /// A connect was let through because the agent was down.
    pub const ALLOWED_UNSEEN: u32 = 3;
    /// A redirected connect came to nothing before the agent had it, see `reason`.
    pub const ABANDONED: u32 = 4;
}

/// Another process writes to a redirected socket from here on. Emitted only when the writer changes: silence means the
/// opener, exclusively. Layout: 104 bytes, alignment 8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterChanged {
    /// Cookie of the client socket ([`Flow::cookie`]).
    pub cookie: u64,
    /// The writer.
    pub actor: Actor,
    /// TCP sequence number of the first byte this writer sends; exact for tier T2, an estimate (`snd_nxt`) for T1.
    pub seq: u32,
    /// 1 for the transmit-timestamp callback (T1), 2 for the `tcp_sendmsg_locked` tracepoint (T2).
    pub tier: u32,
    /// Nanoseconds since boot, suspend included.
    pub boottime_ns: u64,
}

const _: () = {
    use core::mem::size_of;
    assert!(
        size_of::<EventHeader>() == 16
            && size_of::<Event>() == 184
            && size_of::<WriterChanged>() == 104
    );
};

#[cfg(feature = "user")]
mod pod {
    #[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
    // SAFETY: `repr(C)`, integers and byte arrays only, no padding (size asserted above), `Copy`.
    unsafe impl aya::Pod for super::Event {}
    #[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
    // SAFETY: as above.
    unsafe impl aya::Pod for super::WriterChanged {}
}
