//! Thin wrappers over helpers that aya-ebpf does not offer for our program types: socket storage by any socket pointer,
//! errno of a refusal, listener lookup.

use core::{ffi::c_void, marker::PhantomData, mem::size_of, ptr};

use aya_ebpf::{
    bindings::{
        BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_sock_addr, bpf_sock_tuple,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
    },
    helpers::generated::{bpf_set_retval, bpf_sk_lookup_tcp, bpf_sk_release, bpf_sk_storage_get},
};

use crate::{maps::AGENT_SOCKETS, task};

/// `BPF_F_NO_PREALLOC`: socket storage demands it.
pub const NO_PREALLOC: usize = 1;
/// `BPF_F_CLONE`: an accepted socket inherits the value of its listener.
pub const CLONE: usize = 1 << 9;

const SK_STORAGE: usize = 24; // BPF_MAP_TYPE_SK_STORAGE

/// Socket storage with chosen map flags; the loader reads the definition from BTF.
#[repr(C)]
pub struct SocketStorage<T, const FLAGS: usize> {
    r#type: *const [i32; SK_STORAGE],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
    _value: PhantomData<T>,
}

// SAFETY: the fields are placeholders that the loader replaces; nothing in this crate dereferences them.
unsafe impl<T, const FLAGS: usize> Sync for SocketStorage<T, FLAGS> {}

impl<T, const FLAGS: usize> SocketStorage<T, FLAGS> {
    pub const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
            _value: PhantomData,
        }
    }

    #[inline(always)]
    const fn map(&self) -> *mut c_void {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// The value of `sk`, null when there is none. `sk` must be a socket pointer that the verifier knows and must not be null.
    #[inline(always)]
    pub fn get<S>(&self, sk: *mut S) -> *mut T {
        // SAFETY: the verifier checks the type of `sk` and of the map.
        unsafe { bpf_sk_storage_get(self.map(), sk.cast(), ptr::null_mut(), 0) }.cast()
    }

    /// The value of `sk`, made with zeroes when there is none; null when there is no memory.
    #[inline(always)]
    pub fn get_or_create<S>(&self, sk: *mut S) -> *mut T {
        let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        // SAFETY: as in `get`.
        unsafe { bpf_sk_storage_get(self.map(), sk.cast(), ptr::null_mut(), flags) }.cast()
    }
}

/// Sets the errno of a refusal, where the kernel can (5.18).
#[inline(always)]
pub fn set_errno(errno: i32) {
    if task::offsets().have_set_retval != 0 {
        // SAFETY: a helper without pointers.
        unsafe { bpf_set_retval(-errno) };
    }
}

/// Who listens on a loopback port of the caller's namespace.
pub enum Listener {
    Ours,
    Other,
    Nobody,
}

/// Looks for the listener that a connection to `127.0.0.1:port` (or `[::1]:port`) of the caller's namespace would meet.
/// `port` is in network order.
#[inline(always)]
pub fn loopback_listener(ctx: *mut bpf_sock_addr, port: [u8; 2], v6: bool) -> Listener {
    const BPF_F_CURRENT_NETNS: u64 = -1i32 as u32 as u64;
    // SAFETY: all-zero is a valid value of this union of integers.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let port = u16::from_ne_bytes(port);
    let size = if v6 {
        tuple.__bindgen_anon_1.ipv6.daddr = [0, 0, 0, 1u32.to_be()];
        tuple.__bindgen_anon_1.ipv6.dport = port;
        size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2>()
    } else {
        tuple.__bindgen_anon_1.ipv4.daddr = 0x7f00_0001u32.to_be();
        tuple.__bindgen_anon_1.ipv4.dport = port;
        size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>()
    };
    // SAFETY: the tuple lives on our stack for the length given; the verifier checks the rest.
    let sk: *mut bpf_sock = unsafe {
        bpf_sk_lookup_tcp(ctx.cast(), &raw mut tuple, size as u32, BPF_F_CURRENT_NETNS, 0)
    };
    if sk.is_null() {
        return Listener::Nobody;
    }
    let ours = !AGENT_SOCKETS.get(sk).is_null();
    // SAFETY: `sk` is the reference that the lookup gave us.
    unsafe { bpf_sk_release(sk.cast()) };
    if ours { Listener::Ours } else { Listener::Other }
}

/// IPv4 address (network order, as the context holds it) in IPv4-mapped form.
#[inline(always)]
pub fn mapped(v4: u32) -> [u8; 16] {
    let b = v4.to_ne_bytes();
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, b[0], b[1], b[2], b[3]]
}

/// Four 32-bit words in network order as bytes.
#[inline(always)]
pub fn bytes(words: [u32; 4]) -> [u8; 16] {
    let [a, b, c, d] = words.map(u32::to_ne_bytes);
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}

/// Whether the address is IPv4-mapped.
#[inline(always)]
pub fn is_mapped(words: [u32; 4]) -> bool {
    words[0] == 0 && words[1] == 0 && words[2] == 0x0000_ffffu32.to_be()
}

/// Reads one field of a context: the verifier wants each access as it is written, not merged with its neighbour.
macro_rules! ctx_read {
    ($ptr:expr, $($field:tt)+) => {
        {
            let field = $ptr;
            #[allow(unused_unsafe, reason = "some callers are in an unsafe block already")]
            // SAFETY: a field of the context that the kernel passed.
            unsafe { core::ptr::read_volatile(&raw const (*field).$($field)+) }
        }
    };
}

/// Writes one field of a context, see [`ctx_read`].
macro_rules! ctx_write {
    ($ptr:expr, $value:expr, $($field:tt)+) => {
        // SAFETY: a field of the context that the kernel passed.
        unsafe { core::ptr::write_volatile(&raw mut (*$ptr).$($field)+, $value) }
    };
}

pub(crate) use {ctx_read, ctx_write};
