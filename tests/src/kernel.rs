//! The few system calls that no safe wrapper offers. The only module of the library with unsafe code.

#![expect(unsafe_code, reason = "raw system calls, and code between fork and exec")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Attach types that the agent may use, with the number the kernel gives them (`enum bpf_attach_type`).
pub const ATTACH_TYPES: [(&str, u32); 12] = [
    ("cgroup_inet_ingress", 0),
    ("cgroup_inet_egress", 1),
    ("cgroup_inet_sock_create", 2),
    ("cgroup_sock_ops", 3),
    ("cgroup_inet4_connect", 10),
    ("cgroup_inet6_connect", 11),
    ("cgroup_getsockopt", 21),
    ("cgroup_setsockopt", 22),
    ("cgroup_inet4_getpeername", 29),
    ("cgroup_inet6_getpeername", 30),
    ("cgroup_inet_sock_release", 34),
    ("cgroup_unix_connect", 49),
];

/// `BPF_PROG_QUERY` of `enum bpf_cmd`.
const BPF_PROG_QUERY: libc::c_long = 16;

/// Head of `union bpf_attr` for `BPF_PROG_QUERY`; what follows in newer kernels may be left out.
#[repr(C)]
#[derive(Default)]
struct ProgQuery {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_count: u32,
    pad: u32,
}

/// Number of programs attached to exactly this cgroup (parents not counted) for one attach type.
///
/// Errors: of `bpf(BPF_PROG_QUERY)`; an attach type that the kernel does not know counts as none.
pub fn attached(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<u32> {
    let mut attr = ProgQuery {
        target_fd: u32::try_from(cgroup.as_raw_fd()).map_err(io::Error::other)?,
        attach_type,
        ..ProgQuery::default()
    };
    // SAFETY: `attr` lives through the call, its size is passed, and `prog_ids` is null, so that the kernel writes only
    // the count and the flags back.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_QUERY,
            std::ptr::from_mut(&mut attr),
            size_of::<ProgQuery>(),
        )
    };
    if result >= 0 {
        return Ok(attr.prog_count);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EINVAL) { Ok(0) } else { Err(error) }
}

/// A descriptor that came with a message and belongs to nobody yet.
pub(crate) fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: every caller passes what the kernel just put into this process for it, once.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// `connect` with `AF_UNSPEC`: drops the connection of a TCP socket, with a reset when linger is on and zero.
pub(crate) fn disconnect(socket: &impl AsFd) -> io::Result<()> {
    let address = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let length =
        libc::socklen_t::try_from(size_of::<libc::sockaddr>()).map_err(io::Error::other)?;
    // SAFETY: `address` is a whole `sockaddr` of the length passed, and lives through the call.
    let result = unsafe { libc::connect(socket.as_fd().as_raw_fd(), &raw const address, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `EXT4_IOC_SHUTDOWN` without flushing anything: from now on every write to the file system of `file` fails with `EIO`, and
/// so does `fsync`.
pub(crate) fn shut_down_ext4(file: &impl AsFd) -> io::Result<()> {
    const EXT4_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587d;
    let no_log_flush: u32 = 2;
    // SAFETY: the kernel reads four bytes from the pointer, which lives through the call.
    let result = unsafe {
        libc::ioctl(file.as_fd().as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const no_log_flush)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs `step` in the child between fork and exec. `step` may only make system calls: no allocation, no locks.
pub(crate) fn before_exec(
    command: &mut Command,
    step: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: every caller in this crate passes a closure that makes plain system calls on descriptors opened before
    // the fork, which are async-signal-safe.
    unsafe { command.pre_exec(step) };
}
