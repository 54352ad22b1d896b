//! What the agent's memory holds stays in memory: no swap, no core dump, no other process that reads
//! it.

use std::io;

use nix::{
    errno::Errno,
    libc,
    sys::{
        mman::{MlockAllFlags, mlockall},
        prctl::set_dumpable,
        resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
    },
};

/// What took effect. An error is for the record of the start and for a warning: the agent runs on.
#[derive(Debug)]
pub struct Hardening {
    /// No page goes to swap (mlockall(2)). Pages are locked when they are first touched.
    pub no_swap: io::Result<()>,
    /// No core dump, and no ptrace(2) by processes of the same user (`PR_SET_DUMPABLE`).
    pub no_dump: io::Result<()>,
    /// No core dump, even if a program that is started later makes itself dumpable again.
    pub no_core_limit: io::Result<()>,
}

impl Hardening {
    /// What did not take effect, with the reason.
    pub fn gaps(&self) -> impl Iterator<Item = (&'static str, &io::Error)> {
        [
            ("memory may go to swap", &self.no_swap),
            ("memory may be dumped or traced", &self.no_dump),
            ("core dumps are not limited", &self.no_core_limit),
        ]
        .into_iter()
        .filter_map(|(what, result)| Some((what, result.as_ref().err()?)))
    }
}

/// Hardens this process, for good. To be called at the start, before any key is read.
pub fn harden() -> Hardening {
    Hardening {
        no_swap: lock_memory().map_err(io::Error::from),
        no_dump: set_dumpable(false).map_err(io::Error::from),
        no_core_limit: setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(io::Error::from),
    }
}

/// Locks what is mapped now and later.
///
/// Only where the limit on locked memory does not hold: under one every later mapping beyond it would
/// fail, and with that the agent.
fn lock_memory() -> Result<(), Errno> {
    let memlock = Resource::RLIMIT_MEMLOCK;
    if getrlimit(memlock)?.0 != RLIM_INFINITY && !may_lock() {
        setrlimit(memlock, RLIM_INFINITY, RLIM_INFINITY)?;
    }
    // `MCL_ONFAULT` (Linux 4.4): else stacks and arenas would be filled in as a whole.
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    mlockall(MlockAllFlags::from_bits_retain(flags))
}

/// Whether the limit means nothing to this process, by capability (capabilities(7)).
fn may_lock() -> bool {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.capeff & CAP_IPC_LOCK != 0)
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process::Command};

    use nix::sys::prctl::get_dumpable;

    use super::*;

    /// Set in the process that hardens itself: nobody else of these tests may be.
    const CHILD: &str = "PGWARD_TEST_HARDEN";

    #[test]
    fn a_hardened_process_is_locked_and_not_dumpable() {
        if env::var_os(CHILD).is_some() {
            return child();
        }
        let this = env::current_exe().expect("the test program");
        let name = "audit::keys::harden::tests::a_hardened_process_is_locked_and_not_dumpable";
        let output = Command::new(this)
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("the test program");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("hardened"), "{said}");
    }

    fn child() {
        assert_eq!((locked_kib(), get_dumpable()), (0, Ok(true)));
        let hardening = harden();
        assert!(hardening.no_dump.is_ok() && hardening.no_core_limit.is_ok(), "{hardening:?}");
        assert_eq!(get_dumpable(), Ok(false));
        assert_eq!(getrlimit(Resource::RLIMIT_CORE), Ok((0, 0)));
        match &hardening.no_swap {
            Ok(()) => {
                let before = locked_kib();
                assert!(before > 0);
                let later = vec![1_u8; 64 << 20];
                assert!(locked_kib() >= before + (later.len() as u64 >> 10), "mapped later");
                assert_eq!(hardening.gaps().count(), 0);
            }
            // Without the privilege to lift the limit it says so, and locks nothing.
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EPERM));
                assert_eq!((locked_kib(), hardening.gaps().count()), (0, 1));
                assert!(!may_lock());
            }
        }
        println!("hardened");
    }

    fn locked_kib() -> u64 {
        let status = fs::read_to_string("/proc/self/status").expect("procfs");
        let line = status.lines().find_map(|l| l.strip_prefix("VmLck:")).expect("Linux has it");
        line.trim_end_matches("kB").trim().parse().expect("a number")
    }
}
