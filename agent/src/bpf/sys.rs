//! System calls that no crate wraps: BPF links by hand, namespace cookie, bringing `lo` up, the kernel's clock.
//!
//! aya 0.14 has no link update, hides link descriptors and detaches on drop; our links must outlive the process and be
//! swapped in place.
#![expect(
    unsafe_code,
    reason = "raw bpf(2), getsockopt, ioctl and adjtimex; each block says why it is sound"
)]

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use crate::audit::clock::{KernelClock, Leap};

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

/// `BPF_F_PREORDER` (Linux 6.15): run before the programs of child cgroups.
pub const BPF_F_PREORDER: u32 = 1 << 6;

/// Where a cgroup program hooks in (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum AttachType {
    /// `BPF_CGROUP_INET_EGRESS`
    Egress = 1,
    /// `BPF_CGROUP_INET_SOCK_CREATE`
    SockCreate = 2,
    /// `BPF_CGROUP_SOCK_OPS`
    SockOps = 3,
    /// `BPF_CGROUP_INET4_CONNECT`
    Connect4 = 10,
    /// `BPF_CGROUP_INET6_CONNECT`
    Connect6 = 11,
    /// `BPF_CGROUP_INET4_GETPEERNAME`
    Getpeername4 = 29,
    /// `BPF_CGROUP_INET6_GETPEERNAME`
    Getpeername6 = 30,
    /// `BPF_CGROUP_INET_SOCK_RELEASE`
    SockRelease = 34,
}

/// What the kernel says of a cgroup link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Link id.
    pub id: u32,
    /// Program id.
    pub program_id: u32,
    /// Cgroup id; 0 once the link is defunct (detached by force, or its cgroup is gone).
    pub cgroup_id: u64,
}

/// Attaches a program to a cgroup (`BPF_LINK_CREATE`). The link lives as long as the descriptor or a pin.
pub fn link_create(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: AttachType,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = Attr::new();
    attr.u32(0, program.as_raw_fd() as u32);
    attr.u32(4, cgroup.as_raw_fd() as u32);
    attr.u32(8, attach_type as u32);
    attr.u32(12, flags);
    let fd = bpf(BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: the call succeeded and gave us a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts another program into a link (`BPF_LINK_UPDATE`), atomically. `ENOLINK`: the link is defunct.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attr::new();
    attr.u32(0, link.as_raw_fd() as u32);
    attr.u32(4, program.as_raw_fd() as u32);
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Detaches a link, whoever holds it (`BPF_LINK_DETACH`, Linux 5.9).
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attr::new();
    attr.u32(0, link.as_raw_fd() as u32);
    bpf(BPF_LINK_DETACH, &mut attr).map(drop)
}

/// What a cgroup link is attached to (`BPF_OBJ_GET_INFO_BY_FD`, `struct bpf_link_info`).
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = [0u64; 32];
    let mut attr = Attr::new();
    attr.u32(0, link.as_raw_fd() as u32);
    attr.u32(4, mem::size_of_val(&info) as u32);
    attr.u64(8, info.as_mut_ptr() as u64);
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // struct bpf_link_info { u32 type, id, prog_id; pad; struct { u64 cgroup_id; u32 attach_type } }
    Ok(LinkInfo { id: (info[0] >> 32) as u32, program_id: info[1] as u32, cgroup_id: info[2] })
}

/// Pins a program, map or link in bpffs.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Attr::new();
    attr.u64(0, path.as_ptr() as u64);
    attr.u32(8, object.as_raw_fd() as u32);
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens a pinned object.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Attr::new();
    attr.u64(0, path.as_ptr() as u64);
    let fd = bpf(BPF_OBJ_GET, &mut attr)?;
    // SAFETY: the call succeeded and gave us a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Cookie of the network namespace of a socket (`SO_NETNS_COOKIE`, Linux 5.14).
pub fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0u64;
    let mut len = mem::size_of::<u64>() as libc::socklen_t;
    // SAFETY: the option value is ours and `len` is its size.
    let rc = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if rc == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Brings the loopback device of the socket's network namespace up, if it is down (netdevice(7)). True when it was down.
pub fn loopback_up(socket: impl AsFd) -> io::Result<bool> {
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `SIOCGIFFLAGS` reads the name and writes the flags of the request.
    if unsafe { libc::ioctl(fd, libc::SIOCGIFFLAGS, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above filled this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    if i32::from(flags) & libc::IFF_UP != 0 {
        return Ok(false);
    }
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    // SAFETY: `SIOCSIFFLAGS` only reads the request.
    if unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(true)
}

/// Timer frequency of the kernel (`CONFIG_HZ`): the coarse clock ticks with it.
pub fn kernel_hz() -> u64 {
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the structure we pass.
    let rc = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut resolution) };
    if rc != 0 || resolution.tv_nsec <= 0 { 250 } else { 1_000_000_000 / resolution.tv_nsec as u64 }
}

/// What the kernel knows of the wall clock (adjtimex(2), reading only).
pub fn kernel_clock() -> io::Result<KernelClock> {
    // SAFETY: all-zero is a valid `timex`; with no mode the call changes nothing.
    let mut timex: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: writes the structure we pass.
    if unsafe { libc::adjtimex(&raw mut timex) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let has = |flag: libc::c_int| timex.status & flag != 0;
    let unit = if has(libc::STA_NANO) { 1 } else { 1000 };
    let leap = match (has(libc::STA_INS), has(libc::STA_DEL)) {
        (true, _) => Leap::Insert,
        (false, true) => Leap::Delete,
        (false, false) => Leap::None,
    };
    Ok(KernelClock {
        offset_ns: timex.offset * unit,
        max_error_us: u64::try_from(timex.maxerror).unwrap_or(0),
        unsynchronised: has(libc::STA_UNSYNC),
        tai_offset: u64::try_from(timex.tai).unwrap_or(0),
        leap,
    })
}

/// `union bpf_attr` as bytes, for commands whose fields we lay out ourselves.
struct Attr([u64; 16]);

impl Attr {
    fn new() -> Self {
        Self([0; 16])
    }

    fn u32(&mut self, offset: usize, value: u32) {
        let word = &mut self.0[offset / 8];
        let shift = if cfg!(target_endian = "little") == offset.is_multiple_of(8) { 0 } else { 32 };
        *word |= u64::from(value) << shift;
    }

    fn u64(&mut self, offset: usize, value: u64) {
        self.0[offset / 8] = value;
    }
}

fn bpf(command: libc::c_long, attr: &mut Attr) -> io::Result<i32> {
    let size = mem::size_of_val(&attr.0);
    // SAFETY: the attribute buffer is ours, its size is given, and pointers in it outlive the call (callers hold them).
    let rc =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.0.as_mut_ptr(), size as libc::c_uint) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc as i32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_words_land_at_their_byte_offsets() {
        let mut attr = Attr::new();
        attr.u32(0, 1);
        attr.u32(4, 2);
        attr.u64(8, 3);
        attr.u32(20, 4);
        let bytes: Vec<u8> = attr.0.iter().flat_map(|w| w.to_ne_bytes()).collect();
        assert_eq!(bytes[0..4], 1u32.to_ne_bytes());
        assert_eq!(bytes[4..8], 2u32.to_ne_bytes());
        assert_eq!(bytes[8..16], 3u64.to_ne_bytes());
        assert_eq!(bytes[20..24], 4u32.to_ne_bytes());
    }

    #[test]
    fn the_kernel_tells_of_its_clock() {
        let clock = kernel_clock().expect("reading needs no privilege");
        // The kernel bounds both (`MAXPHASE` of include/linux/timex.h, `NTP_PHASE_LIMIT` of kernel/time/ntp.c).
        assert!(
            clock.offset_ns.abs() <= 500_000_000 && clock.max_error_us <= 16_000_000,
            "{clock:?}"
        );
    }

    #[test]
    fn kernel_hz_is_one_of_the_configurable_values() {
        assert!([100, 250, 300, 1000].contains(&kernel_hz()), "{}", kernel_hz());
    }
}
