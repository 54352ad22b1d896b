//! Identities of processes of a made-up host.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use pgward_common::Actor;

use super::fake::{BOOT_ID, FakeHost, TICK_NS, UID, link};
use super::*;

#[test]
fn tells_all_of_a_living_process() {
    let host = FakeHost::new();
    host.process(1).with(|p| p.comm = "systemd").start();
    let actor = host.process(50).with(|p| p.ppid = 1).start();
    let identity = host.resolver().resolve(&actor);
    let exe = host.path("programs/50").display().to_string();
    let parent = host.path("programs/1").display().to_string();
    let got = serde_json::to_value(&*identity).expect("plain data");
    assert_eq!(
        got,
        serde_json::json!({
            "pid": 50,
            "start_ns": 100_050 * TICK_NS + 7_654_321,
            "exec": 3,
            "boot_id": BOOT_ID,
            "confidence": "confirmed",
            "comm": "psql",
            "exe": exe,
            // printf program | sha256sum
            "exe_sha256": "1310ca2c8932dbd118668bd97442558a3e1f546b5e15c69699dfbd6024f548d8",
            "cmdline": ["psql", "-h", "db"],
            "cwd": "/srv/app",
            "uid": UID,
            "gid": UID,
            "user": "alice",
            "loginuid": 1000,
            "parents": [{
                "pid": 1, "start_ns": 100_001 * TICK_NS, "exe": parent, "comm": "systemd",
            }],
            "cgroup": "/system.slice/app.service",
            "cgroup_hierarchy": "v2",
            "unit": "app.service",
            "slice": "system.slice",
        })
    );
    assert_eq!(identity.summary(), format!("psql[50] alice unit=app.service {exe}"));
}

#[test]
fn a_reused_pid_is_not_taken_for_the_process() {
    let host = FakeHost::new();
    let mut actor = host.process(50).start();
    actor.start_boottime_ns -= 2 * TICK_NS;
    let identity = host.resolver().resolve(&actor);
    assert_eq!(identity.confidence, Confidence::KernelOnly);
    let reason =
        Reason::PidReused { found_ns: 100_050 * TICK_NS, expected_ns: actor.start_boottime_ns };
    for field in
        [Field::Exe, Field::ExeSha256, Field::Cmdline, Field::Cwd, Field::LoginUid, Field::Parents]
    {
        assert_eq!(identity.missing(field), Some(&reason), "{field:?}");
    }
    assert!(reason.to_string().starts_with("process ended, its pid was reused"));
    assert_eq!((identity.exe.as_ref(), identity.cmdline.as_ref()), (None, None));
    assert_eq!(identity.unit.as_deref(), Some("app.service"), "the cgroup id still tells");
}

#[test]
fn start_times_agree_within_a_tick() {
    let host = FakeHost::new();
    let actor = host.process(50).start();
    let resolver = host.resolver();
    for (shift, expected) in [
        (-2, Confidence::KernelOnly),
        (-1, Confidence::Confirmed),
        (0, Confidence::Confirmed),
        (1, Confidence::Confirmed),
        (2, Confidence::KernelOnly),
    ] {
        let start = actor.start_boottime_ns.saturating_add_signed(shift * TICK_NS as i64);
        let identity = resolver.resolve(&Actor { start_boottime_ns: start, ..actor });
        assert_eq!(identity.confidence, expected, "shifted by {shift} ticks");
    }
}

#[test]
fn a_process_that_is_gone_leaves_what_the_kernel_told() {
    let host = FakeHost::new();
    let actor = host.process(50).start();
    host.remove(50);
    let identity = host.resolver().resolve(&actor);
    assert_eq!(identity.confidence, Confidence::KernelOnly);
    assert_eq!((identity.pid, identity.uid, identity.comm.as_str()), (50, UID, "psql"));
    assert_eq!(identity.start_ns, Some(actor.start_boottime_ns));
    assert_eq!(identity.missing(Field::Exe), Some(&Reason::Ended));
    assert_eq!(identity.cgroup.as_deref(), Some("/system.slice/app.service"));
    assert!(identity.summary().ends_with("(gone)"));
    let unknown = host.resolver().resolve(&Actor { cgroup_id: u64::MAX, ..actor });
    let reason = Reason::UnknownCgroup(u64::MAX);
    assert_eq!(unknown.missing(Field::Cgroup), Some(&reason));
    assert_eq!(unknown.missing(Field::Container), Some(&reason));
    let json = serde_json::to_value(&*unknown).expect("plain data");
    assert_eq!(json["missing"][0]["field"], "exe");
    assert_eq!(json["missing"][0]["reason"], "process ended before it was read");
    let none = host.resolver().resolve(&Actor { cgroup_id: 0, ..actor });
    assert_eq!(none.missing(Field::Cgroup), Some(&Reason::NoKernelCgroup));
}

#[test]
fn the_cgroup_of_a_process_seen_alive_is_known_after_both_are_gone() {
    let host = FakeHost::new();
    let actor = host.process(50).cgroup("0::/batch/job-7\n").start();
    let resolver = host.resolver();
    resolver.resolve(&actor);
    host.remove(50);
    fs::remove_dir_all(host.path("cgroup/batch")).expect("was there");
    let other = Actor { tgid: 51, start_boottime_ns: 1, ..actor };
    assert_eq!(resolver.resolve(&other).cgroup.as_deref(), Some("/batch/job-7"));
}

#[test]
fn the_root_cgroup_says_nothing_of_a_process_that_is_gone() {
    let host = FakeHost::new();
    let actor = host.process(50).cgroup("4:memory:/docker/x\n0::/\n").start();
    host.remove(50);
    let identity = host.resolver().resolve(&actor);
    assert_eq!(identity.cgroup.as_deref(), Some("/"));
    assert_eq!(identity.missing(Field::Container), Some(&Reason::RootCgroup));
}

#[test]
fn without_btf_the_identity_is_unconfirmed_and_never_kept() {
    let host = FakeHost::new();
    let actor = host.process(50).start();
    let actor = Actor { start_boottime_ns: 0, exec_id: 0, exe_inode: 0, exe_dev: 0, ..actor };
    let resolver = host.resolver();
    let identity = resolver.resolve(&actor);
    assert_eq!(identity.confidence, Confidence::Unconfirmed);
    assert_eq!(identity.start_ns, Some(100_050 * TICK_NS));
    assert_eq!(identity.doubt(Field::StartNs), Some(&Reason::NoKernelStart));
    assert_eq!(identity.doubt(Field::Exe), Some(&Reason::NoKernelExe));
    assert_eq!(identity.missing(Field::Exec), Some(&Reason::NoKernelExec));
    assert!(identity.exe_sha256.is_some());
    assert_eq!(resolver.lookup(&actor), None);
    // Another process gets the pid: nothing of the first may be told of it.
    host.remove(50);
    host.process(50).with(|p| (p.comm, p.start_ticks) = ("other", 999_999)).start();
    assert_eq!(resolver.resolve(&actor).comm, "other");
    host.remove(50);
    let gone = resolver.resolve(&actor);
    assert_eq!(gone.missing(Field::StartNs), Some(&Reason::NoKernelStart));
}

#[test]
fn a_program_changed_since_the_event_is_said() {
    let host = FakeHost::new();
    let actor = host.process(50).start();
    host.write("programs/other", "another program");
    link(&host.path("programs/other"), &host.path("proc/50/exe"));
    let identity = host.resolver().resolve(&actor);
    for field in [Field::Exe, Field::ExeSha256, Field::Cmdline] {
        let reason = identity.missing(field).expect("not of this program");
        assert!(
            matches!(reason, Reason::ProgramChanged { expected_inode, .. }
                if *expected_inode == actor.exe_inode),
            "{reason}"
        );
    }
    assert_eq!((identity.exe.as_ref(), identity.cmdline.as_ref()), (None, None));
    assert_eq!(identity.cwd.as_deref(), Some("/srv/app"), "this outlives an exec");
    assert_eq!(identity.confidence, Confidence::Confirmed);
}

#[test]
fn a_program_that_changes_while_it_is_read_is_said() {
    let host = Arc::new(FakeHost::new());
    let actor = host.process(50).start();
    let actor = Actor { exe_inode: 0, ..actor };
    host.write("programs/other", "another program");
    let changing = Arc::clone(&host);
    let resolver = host.hooked(host.settings(), move || {
        link(&changing.path("programs/other"), &changing.path("proc/50/exe"));
    });
    let identity = resolver.resolve(&actor);
    assert!(matches!(identity.missing(Field::Exe), Some(Reason::ProgramChanged { .. })));
    assert!(matches!(identity.missing(Field::Cmdline), Some(Reason::ProgramChanged { .. })));
}

#[test]
fn the_device_of_the_program_counts_too() {
    let host = FakeHost::new();
    let actor = host.process(50).start();
    let actor = Actor { exe_dev: actor.exe_dev ^ 0x0010_0000, ..actor };
    let identity = host.resolver().resolve(&actor);
    assert_eq!(identity.doubt(Field::Exe), Some(&Reason::DeviceNotCompared));
    assert!(identity.exe.is_some());
    // The mount's device decides, where the kernel names the mount.
    let exe = fs::File::open(host.path("programs/50")).expect("there");
    let Some(mount) = exe::ExeFile::new(exe).expect("a file").id.mount_id else { return };
    let mounts = |major: u32, minor: u32| format!("{mount} 1 {major}:{minor} / / rw - x x rw\n");
    let (major, minor) = (actor.exe_dev >> 20, actor.exe_dev & 0xf_ffff);
    host.write("proc/50/mountinfo", mounts(major, minor));
    let identity = host.resolver().resolve(&actor);
    assert_eq!((identity.doubt(Field::Exe), identity.exe.is_some()), (None, true));
    host.write("proc/50/mountinfo", mounts(major, minor + 1));
    let identity = host.resolver().resolve(&actor);
    assert!(matches!(identity.missing(Field::Exe), Some(Reason::ProgramChanged { .. })));
}

#[test]
fn a_process_that_ends_while_it_is_read() {
    let host = Arc::new(FakeHost::new());
    let actor = host.process(50).start();
    let ending = Arc::clone(&host);
    let resolver = host.hooked(host.settings(), move || ending.remove(50));
    let identity = resolver.resolve(&actor);
    assert!(identity.exe.is_some() && identity.exe_sha256.is_some(), "read before the end");
    for field in [Field::Cmdline, Field::Cwd, Field::LoginUid] {
        assert_eq!(identity.missing(field), Some(&Reason::Ended), "{field:?}");
    }
    assert_eq!(identity.unit.as_deref(), Some("app.service"), "by the cgroup's id");
}

#[test]
fn arguments_that_hang_hide_nothing_else() {
    let host = FakeHost::new();
    let actor = host.process(50).start();
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = std::sync::Mutex::new(blocked);
    let settings = AttribSettings { read_deadline: Duration::from_millis(200), ..host.settings() };
    let resolver = host.hooked(settings, move || {
        // Until the other end is dropped.
        let _ = blocked.lock().map(|blocked| blocked.recv());
    });
    let identity = resolver.resolve(&actor);
    assert_eq!(identity.missing(Field::Cmdline), Some(&Reason::TimedOut { ms: 200 }));
    assert_eq!(identity.cwd.as_deref(), Some("/srv/app"));
    assert_eq!(identity.unit.as_deref(), Some("app.service"));
    assert!(identity.exe.is_some());
    drop(release);
}

#[test]
fn zombies_and_kernel_threads_are_called_so() {
    let host = FakeHost::new();
    let zombie = host.process(50).with(|p| p.state = 'Z').start();
    let identity = host.resolver().resolve(&zombie);
    assert_eq!(identity.missing(Field::Exe), Some(&Reason::Zombie));
    assert_eq!(identity.missing(Field::Cmdline), Some(&Reason::Zombie));
    assert_eq!(identity.unit.as_deref(), Some("app.service"));
    let thread = host.process(51).with(|p| p.flags = 0x0020_0000).start();
    let identity = host.resolver().resolve(&thread);
    assert_eq!(identity.missing(Field::ExeSha256), Some(&Reason::KernelThread));
}

#[test]
fn what_is_not_there_has_its_reason() {
    let host = FakeHost::new();
    let actor = host.process(50).with(|p| p.loginuid = "4294967295").start();
    fs::remove_file(host.path("proc/50/cwd")).expect("was there");
    host.write("proc/50/cmdline", "");
    let settings = AttribSettings { exe_hash_bytes_max: 6, ..host.settings() };
    let resolver = Resolver::new(settings).expect("the root is there");
    let identity = resolver.resolve(&Actor { uid: 77, ..actor });
    let expected = [
        (Field::User, Reason::UnknownUid(77)),
        (Field::LoginUid, Reason::LoginUnset),
        (Field::Cwd, Reason::NotProvided),
        (Field::Cmdline, Reason::EmptyCmdline),
        (Field::ExeSha256, Reason::TooLarge { found: 7, max: 6 }),
    ];
    for (field, reason) in &expected {
        assert_eq!(identity.missing(*field), Some(reason));
    }
    assert_eq!(identity.missing.len(), expected.len(), "{:?}", identity.missing);
    fs::remove_file(host.path("proc/50/loginuid")).expect("was there");
    let identity = host.resolver().resolve(&actor);
    assert_eq!(identity.missing(Field::LoginUid), Some(&Reason::NotProvided));
}

#[test]
fn deep_parents_are_cut_and_said() {
    let host = FakeHost::new();
    for pid in 1..60 {
        host.process(pid).with(|p| p.ppid = pid - 1).start();
    }
    let resolver = host.resolver();
    let identity = resolver.resolve(&host.actor(59));
    assert_eq!(identity.parents.len(), PARENTS_MAX);
    assert_eq!(identity.parents[0].pid, 58);
    assert_eq!(identity.doubt(Field::Parents), Some(&Reason::MoreParents(PARENTS_MAX)));
    let identity = resolver.resolve(&host.actor(5));
    assert_eq!((identity.parents.len(), identity.doubt(Field::Parents)), (4, None));
}

#[test]
fn broken_chains_of_parents_end() {
    let host = FakeHost::new();
    let same_age = |p: &mut super::fake::FakeProcess<'_>| p.start_ticks = 5;
    host.process(10).with(same_age).with(|p| p.ppid = 11).start();
    host.process(11).with(same_age).with(|p| p.ppid = 10).start();
    let ring = host.process(12).with(same_age).with(|p| p.ppid = 10).start();
    let resolver = host.resolver();
    let identity = resolver.resolve(&ring);
    assert_eq!(identity.parents.iter().map(|p| p.pid).collect::<Vec<_>>(), [10, 11]);
    assert_eq!(identity.doubt(Field::Parents), Some(&Reason::ParentsBroken(11)));
    let own = host.process(13).with(|p| p.ppid = 13).start();
    let identity = resolver.resolve(&own);
    assert_eq!(identity.missing(Field::Parents), Some(&Reason::ParentsBroken(13)));
    host.process(20).with(|p| p.start_ticks = 900_000).start();
    let older = host.process(21).with(|p| p.ppid = 20).start();
    let identity = resolver.resolve(&older);
    assert_eq!(identity.missing(Field::Parents), Some(&Reason::ParentsBroken(21)));
    let orphan = host.process(22).with(|p| p.ppid = 4_000_000).start();
    let identity = resolver.resolve(&orphan);
    assert_eq!(identity.missing(Field::Parents), Some(&Reason::ParentsBroken(22)));
}

#[test]
fn a_process_moved_since_is_placed_where_it_was() {
    let host = FakeHost::new();
    let actor = host.process(50).start();
    host.cgroup_id("/system.slice/innocent.service");
    host.write("proc/50/cgroup", "0::/system.slice/innocent.service\n");
    let identity = host.resolver().resolve(&actor);
    assert_eq!(identity.unit.as_deref(), Some("app.service"));
    let now = "/system.slice/innocent.service".to_owned();
    assert_eq!(identity.doubt(Field::Cgroup), Some(&Reason::Moved { now }));
}

#[test]
fn hybrid_hosts_name_units_and_containers_in_v1() {
    let id = "ab".repeat(32);
    let host = FakeHost::new();
    let cgroup =
        format!("9:name=systemd:/system.slice/docker.service\n4:memory:/docker/{id}\n0::/\n");
    let actor = host.process(50).cgroup(&cgroup).start();
    let identity = host.resolver().resolve(&actor);
    assert_eq!(identity.cgroup.as_deref(), Some("/system.slice/docker.service"));
    assert_eq!(identity.cgroup_hierarchy.as_deref(), Some("v1:name=systemd"));
    assert_eq!(identity.unit.as_deref(), Some("docker.service"));
    assert_eq!(identity.container.as_ref().map(|c| c.id.as_str()), Some(id.as_str()));
    assert_eq!(identity.doubt(Field::Cgroup), None);
}

#[test]
fn paths_above_the_agents_cgroup_namespace_are_marked() {
    let host = FakeHost::new();
    let actor = host.process(50).start();
    host.write("proc/50/cgroup", "0::/../other.slice/x.service\n");
    let identity = host.resolver().resolve(&actor);
    assert_eq!(identity.doubt(Field::Cgroup), Some(&Reason::CgroupNamespace));
    host.write("proc/50/cgroup", "nonsense");
    let identity = host.resolver().resolve(&actor);
    assert!(matches!(identity.missing(Field::Cgroup), Some(Reason::Malformed(_))));
}

#[test]
fn identities_are_kept_by_process_and_exec() {
    let host = Arc::new(FakeHost::new());
    let actor = host.process(50).start();
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reads);
    let settings = AttribSettings { identities_max: 2, ..host.settings() };
    let resolver = host.hooked(settings, move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(resolver.lookup(&actor), None);
    let first = resolver.resolve(&actor);
    assert!(Arc::ptr_eq(&first, &resolver.resolve(&actor)));
    assert_eq!(reads.load(Ordering::Relaxed), 1);
    // Dead processes stay known.
    host.remove(50);
    let kept = resolver.lookup(&Actor { tid: 55, ..actor }).expect("threads are the process");
    assert!(Arc::ptr_eq(&first, &kept));
    // Another program, other credentials: another identity.
    assert_eq!(resolver.lookup(&Actor { exec_id: 4, ..actor }), None);
    assert_eq!(resolver.lookup(&Actor { uid: 0, ..actor }), None);
    for tgid in [51, 52] {
        resolver.resolve(&Actor { tgid, ..actor });
    }
    assert_eq!(resolver.lookup(&actor), None, "used longest ago");
}

#[test]
fn summaries_do_not_steer_terminals() {
    let host = FakeHost::new();
    let actor = host.process(50).with(|p| p.comm = "a\u{1b}[2J\u{202e}b").start();
    let identity = host.resolver().resolve(&actor);
    let summary = identity.to_string();
    assert!(summary.starts_with("a\\u{1b}[2J\\u{202e}b[50]"), "{summary}");
    assert!(!summary.contains(['\u{1b}', '\u{202e}']), "{summary}");
    let long = Identity { comm: "é".repeat(1000), ..(*identity).clone() };
    assert_eq!(long.summary().chars().count(), 241);
}
