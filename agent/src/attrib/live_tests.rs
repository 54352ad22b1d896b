//! The resolver on processes of this machine. No privilege needed.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use pgward_common::Actor;

use super::exe::ExeFile;
use super::*;

/// What the kernel would tell of a process.
fn actor(pid: u32) -> Actor {
    let source = RootedProc::new("/proc");
    let handle = source.open(pid).expect("it lives");
    let start_ticks = handle.stat().expect("it lives").start_ticks;
    let exe = ExeFile::new(handle.open_exe().expect("ours")).expect("a file").id;
    Actor {
        start_boottime_ns: start_ticks * (1_000_000_000 / source.ticks_per_second()) + 1,
        exec_id: 1,
        tgid: pid,
        tid: pid,
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
        exe_inode: exe.inode,
        exe_dev: exe.dev,
        ..Actor::default()
    }
}

fn resolver() -> Resolver {
    Resolver::new(AttribSettings::default()).expect("there is a root")
}

fn kill(mut child: Child) {
    child.kill().expect("it lives");
    child.wait().expect("ours");
}

#[test]
fn this_process() {
    let resolver = resolver();
    let identity = resolver.resolve(&actor(std::process::id()));
    assert_eq!(identity.confidence, Confidence::Confirmed, "{identity:?}");
    let exe = std::env::current_exe().expect("a program");
    assert_eq!(identity.exe.as_deref(), exe.to_str());
    let args: Vec<String> = std::env::args().take(ARGS_MAX).collect();
    assert_eq!(identity.cmdline.as_ref(), Some(&args));
    let cwd = std::env::current_dir().expect("there is one");
    assert_eq!(identity.cwd.as_deref(), cwd.to_str());
    assert!(identity.exe_sha256.is_some(), "{:?}", identity.missing);
    assert!(identity.cgroup.is_some());
    let ppid = nix::unistd::getppid().as_raw().unsigned_abs();
    assert_eq!(identity.parents.first().map_or(0, |parent| parent.pid), ppid);
    assert_eq!(resolver.boot_id(), identity.boot_id.as_deref());
}

#[test]
fn the_digest_is_that_of_the_file() {
    let program = std::fs::canonicalize("/bin/sh").expect("a shell");
    let mut child = Command::new(&program)
        .args(["-c", "echo ready; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    ready(&mut child);
    let identity = resolver().resolve(&actor(child.id()));
    let expected = sha2::Digest::finalize(sha2::Digest::chain_update(
        <sha2::Sha256 as sha2::Digest>::new(),
        std::fs::read(&program).expect("readable"),
    ));
    assert_eq!(identity.exe_sha256, Some(Sha256(expected.into())));
    assert_eq!(identity.exe.as_deref(), program.to_str());
    let args = ["-c", "echo ready; read line"].map(str::to_owned);
    assert_eq!(identity.cmdline.as_deref().and_then(|args| args.get(1..)), Some(&args[..]));
    assert_eq!(identity.parents.first().map(|parent| parent.pid), Some(std::process::id()));
    kill(child);
}

#[test]
fn a_child_that_has_exited() {
    let mut child = Command::new("/bin/sh")
        .args(["-c", "echo ready; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    ready(&mut child);
    let event = actor(child.id());
    drop(child.stdin.take());
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("pids are small"));
    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).expect("ours");
    let zombie = resolver().resolve(&event);
    for field in [Field::Exe, Field::ExeSha256, Field::Cmdline, Field::Cwd] {
        assert_eq!(zombie.missing(field), Some(&Reason::Zombie), "{field:?}");
    }
    assert_eq!(zombie.confidence, Confidence::Confirmed);
    child.wait().expect("ours");
    let gone = resolver().resolve(&event);
    let reason = gone.missing(Field::Exe).expect("gone");
    assert!(matches!(reason, Reason::Ended | Reason::PidReused { .. }), "{reason}");
    assert_eq!((gone.confidence, gone.pid), (Confidence::KernelOnly, event.tgid));
}

#[test]
fn a_child_that_runs_another_program_since() {
    let mut child = Command::new("/bin/sh")
        .args(["-c", "echo ready; read line; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut output = ready(&mut child);
    let event = actor(child.id());
    let input = child.stdin.as_mut().expect("piped");
    input.write_all(b"go\necho\n").expect("it reads");
    let mut line = String::new();
    output.read_line(&mut line).expect("cat answers");
    assert_eq!(line, "echo\n");
    let identity = resolver().resolve(&event);
    for field in [Field::Exe, Field::ExeSha256, Field::Cmdline] {
        let reason = identity.missing(field).expect("of another program");
        assert!(matches!(reason, Reason::ProgramChanged { .. }), "{reason}");
    }
    let now = resolver().resolve(&Actor { exec_id: 2, ..actor(child.id()) });
    assert_eq!(now.cmdline, Some(vec!["cat".to_owned()]));
    kill(child);
}

#[test]
fn a_program_whose_file_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("copy");
    std::fs::copy(std::fs::canonicalize("/bin/cat").expect("there"), &program).expect("copied");
    let mut child = loop {
        let spawned = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        match spawned {
            // A child forked by another test at the wrong moment holds the copy open for writing
            // until its own exec.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                std::thread::yield_now();
            }
            spawned => break spawned.expect("a program"),
        }
    };
    let inode = std::fs::metadata(&program).expect("there").ino();
    std::fs::remove_file(&program).expect("there");
    // An answer says that the exec is over.
    child.stdin.as_mut().expect("piped").write_all(b"ready\n").expect("it reads");
    ready(&mut child);
    let event = actor(child.id());
    let identity = resolver().resolve(&event);
    assert!(identity.exe_deleted);
    assert_eq!(identity.exe.as_deref(), program.to_str(), "without the kernel's ` (deleted)`");
    assert!(identity.exe_sha256.is_some());
    assert!(event.exe_inode == inode || identity.doubts.is_empty());
    kill(child);
}

#[test]
fn a_huge_command_line() {
    let long = "x".repeat(100_000);
    let mut child = Command::new("/bin/sh")
        .args(["-c", "echo ready; read line", &long, &long])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    ready(&mut child);
    let identity = resolver().resolve(&actor(child.id()));
    let args = identity.cmdline.as_ref().expect("it has one");
    assert!(args.iter().map(String::len).sum::<usize>() <= ARG_BYTES_MAX);
    let full = identity.cmdline_full.expect("it was cut");
    assert_eq!((full.args, full.at_least), (5, false));
    assert!(full.bytes > 200_000, "{full:?}");
    kill(child);
}

/// Waits until the child says that it runs.
fn ready(child: &mut Child) -> BufReader<std::process::ChildStdout> {
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("it speaks");
    assert_eq!(line, "ready\n");
    output
}
