//! Who runs: the calling task, read through BTF pointers at offsets that the loader took from the running kernel.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
    generated::{bpf_get_current_cgroup_id, bpf_get_current_task_btf},
};
use pgward_common::{Actor, Offsets, Writer};

#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets {
    task_group_leader: 0,
    task_start_boottime: 0,
    task_self_exec_id: 0,
    task_mm: 0,
    mm_exe_file: 0,
    file_f_inode: 0,
    inode_i_ino: 0,
    inode_i_sb: 0,
    super_block_s_dev: 0,
    tcp_write_seq: 0,
    have_set_retval: 0,
    have_tx_timestamp: 0,
};

/// The loader's offsets; constants to the verifier.
#[inline(always)]
pub fn offsets() -> Offsets {
    // Volatile, since the compiler would otherwise take the zeroes above for the truth.
    // SAFETY: a static of plain integers.
    unsafe {
        Offsets {
            task_group_leader: ptr::read_volatile(&raw const OFFSETS.task_group_leader),
            task_start_boottime: ptr::read_volatile(&raw const OFFSETS.task_start_boottime),
            task_self_exec_id: ptr::read_volatile(&raw const OFFSETS.task_self_exec_id),
            task_mm: ptr::read_volatile(&raw const OFFSETS.task_mm),
            mm_exe_file: ptr::read_volatile(&raw const OFFSETS.mm_exe_file),
            file_f_inode: ptr::read_volatile(&raw const OFFSETS.file_f_inode),
            inode_i_ino: ptr::read_volatile(&raw const OFFSETS.inode_i_ino),
            inode_i_sb: ptr::read_volatile(&raw const OFFSETS.inode_i_sb),
            super_block_s_dev: ptr::read_volatile(&raw const OFFSETS.super_block_s_dev),
            tcp_write_seq: ptr::read_volatile(&raw const OFFSETS.tcp_write_seq),
            have_set_retval: ptr::read_volatile(&raw const OFFSETS.have_set_retval),
            have_tx_timestamp: ptr::read_volatile(&raw const OFFSETS.have_tx_timestamp),
        }
    }
}

/// Identity of the calling process, without the parts that only a report needs.
#[inline(always)]
pub fn current() -> Writer {
    let mut writer = Writer {
        start_boottime_ns: 0,
        exec_id: 0,
        tgid: (bpf_get_current_pid_tgid() >> 32) as u32,
        changes: 0,
    };
    let o = offsets();
    if o.task_start_boottime != 0 {
        // SAFETY: BTF pointers from the kernel, read at offsets of its own BTF; the verifier checks each load.
        unsafe {
            let task: *mut c_void = bpf_get_current_task_btf().cast();
            let leader: *mut c_void = member(task, o.task_group_leader);
            writer.start_boottime_ns = member(leader, o.task_start_boottime);
            writer.exec_id = member::<u64>(task, o.task_self_exec_id);
        }
    }
    writer
}

/// Whether the caller has no memory of its own: a kernel thread, never a worker of io_uring. False where the kernel does not
/// tell.
#[inline(always)]
pub fn is_kernel_thread() -> bool {
    let o = offsets();
    if o.task_mm == 0 {
        return false;
    }
    // SAFETY: as in `current`.
    unsafe {
        let task: *mut c_void = bpf_get_current_task_btf().cast();
        let mm: *mut c_void = member(task, o.task_mm);
        mm.is_null()
    }
}

/// Fills `actor` with the calling task. `actor` points into map memory or a ring buffer entry.
///
/// # Safety
///
/// `actor` must be valid for writes.
#[inline(always)]
pub unsafe fn fill_actor(actor: *mut Actor, netns_cookie: u64) {
    let ids = bpf_get_current_pid_tgid();
    let owner = bpf_get_current_uid_gid();
    let who = current();
    // SAFETY: `actor` is valid by contract; helpers as in `current`.
    unsafe {
        (*actor).start_boottime_ns = who.start_boottime_ns;
        (*actor).exec_id = who.exec_id;
        (*actor).cgroup_id = bpf_get_current_cgroup_id();
        (*actor).netns_cookie = netns_cookie;
        (*actor).tgid = (ids >> 32) as u32;
        (*actor).tid = ids as u32;
        (*actor).uid = owner as u32;
        (*actor).gid = (owner >> 32) as u32;
        (*actor).comm = bpf_get_current_comm().unwrap_or([0; 16]);
        (*actor).exe_inode = 0;
        (*actor).exe_dev = 0;
        (*actor).pad = 0;
        let o = offsets();
        if o.mm_exe_file != 0 {
            let task: *mut c_void = bpf_get_current_task_btf().cast();
            let mm: *mut c_void = member(task, o.task_mm);
            if mm.is_null() {
                return;
            }
            let file: *mut c_void = member(mm, o.mm_exe_file);
            if file.is_null() {
                return;
            }
            let inode: *mut c_void = member(file, o.file_f_inode);
            if inode.is_null() {
                return;
            }
            (*actor).exe_inode = member(inode, o.inode_i_ino);
            let sb: *mut c_void = member(inode, o.inode_i_sb);
            if sb.is_null() {
                return;
            }
            (*actor).exe_dev = member(sb, o.super_block_s_dev);
        }
    }
}

/// Member of a kernel structure at a byte offset.
///
/// # Safety
///
/// `base` must be a BTF pointer and `offset` that of a member of type `T`; the verifier checks both.
#[inline(always)]
pub unsafe fn member<T: Copy>(base: *mut c_void, offset: u32) -> T {
    // SAFETY: by contract.
    unsafe { ptr::read_volatile(base.byte_add(offset as usize).cast::<T>()) }
}
