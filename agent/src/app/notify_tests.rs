//! A manager that keeps descriptors, played by the test: what one process leaves another one gets.

use std::{
    fs::{self, File},
    io::{IoSliceMut, Read as _},
    os::unix::net::UnixDatagram,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, recvmsg},
};

use super::*;
use crate::audit::{
    chain::Signer as _,
    keys::{HANDOVER_NAME, SealKey, offer, take},
};

/// One message, with the descriptors that came along.
fn receive(socket: &UnixDatagram) -> (String, Vec<OwnedFd>) {
    let mut bytes = [0; 4096];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut space = cmsg_space!([RawFd; 4]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)
        .expect("a message");
    let mut numbers = Vec::new();
    for control in message.cmsgs().expect("room for all") {
        if let ControlMessageOwned::ScmRights(rights) = control {
            numbers.extend(rights);
        }
    }
    let length = message.bytes;
    let descriptors = numbers.into_iter().filter_map(|n| adopt(n).ok()).collect();
    (String::from_utf8(bytes[..length].to_vec()).expect("text"), descriptors)
}

/// A manager that reads until it has been asked to remove something. Gives what it was told, and what
/// it keeps.
fn manager() -> (tempfile::TempDir, Manager, mpsc::Receiver<(String, Vec<OwnedFd>)>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let (sender, receiver) = mpsc::sync_channel(16);
    thread::spawn(move || {
        loop {
            let (state, mut descriptors) = receive(&socket);
            if state == "BARRIER=1" {
                descriptors.clear();
            }
            let last = state.starts_with("FDSTOREREMOVE=1");
            if sender.send((state, descriptors)).is_err() || last {
                return;
            }
        }
    });
    (folder, Manager::at(&path).expect("a path"), receiver)
}

#[test]
fn a_key_left_with_the_manager_reaches_the_next_process() {
    const CHILD: &str = "PGWARD_TEST_PASSED";
    if env::var_os(CHILD).is_some() {
        let pipe = passed(HANDOVER_NAME).expect("the shell passed it");
        let number = fs::read_link("/proc/self/fd/4");
        let left = number.is_ok_and(|target| target.to_string_lossy().starts_with("pipe:"));
        assert!(!left, "not left open under the number that is inherited");
        let key = take(pipe).expect("a key");
        println!("public key: {}", hex::encode(key.public_key()));
        return;
    }
    let (_folder, manager, told) = manager();
    let key = SealKey::fresh().expect("random");
    let public = hex::encode(key.public_key());
    let pipe = offer(&key).expect("a pipe");
    manager.store(HANDOVER_NAME, pipe.as_fd()).expect("the manager reads");
    drop((key, pipe));
    let (state, mut kept) = told.recv().expect("told");
    assert_eq!(state, "FDSTORE=1\nFDNAME=pgward-seal");
    let kept = kept.pop().expect("one descriptor");
    assert_eq!(told.recv().expect("told").0, "BARRIER=1");

    // The next run, as a manager starts it: 3 is something else, 4 the key.
    let name = "app::notify::tests::a_key_left_with_the_manager_reaches_the_next_process";
    let script =
        r#"exec 3</dev/null 4<&0 0</dev/null; LISTEN_PID=$$ exec "$0" --exact "$1" --nocapture"#;
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(env::current_exe().expect("the test program"))
        .arg(name)
        .env(CHILD, "1")
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", "other:pgward-seal")
        .stdin(Stdio::from(kept.try_clone().expect("a descriptor")))
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(&format!("public key: {public}")), "{said}");

    manager.remove(HANDOVER_NAME).expect("the manager reads");
    assert_eq!(told.recv().expect("told").0, "FDSTOREREMOVE=1\nFDNAME=pgward-seal");
    let left = File::from(kept).read(&mut [0; 1]);
    assert!(matches!(left, Ok(0)), "what the manager kept is empty: {left:?}");
}

#[test]
fn tells_that_the_agent_is_ready() {
    let (_folder, manager, told) = manager();
    manager.ready();
    assert_eq!(told.recv().expect("told").0, "READY=1");
    manager.remove("x").expect("the manager reads");
}

#[test]
fn a_manager_that_takes_nothing_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("notify");
    let (read, _write) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
    let gone = Manager::at(&path).expect("a path");
    assert_eq!(gone.store("x", read.as_fd()).expect_err("none").kind(), io::ErrorKind::NotFound);
    gone.ready();
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let deaf = gone.wait_until_read(Duration::from_millis(1)).expect_err("it reads nothing");
    assert_eq!(deaf.kind(), io::ErrorKind::TimedOut);
    drop(socket);
    assert!(Manager::at(Path::new(&"x".repeat(200))).is_err());
    let named = UnixAddr::new_abstract(b"pgward").expect("short");
    assert_eq!(Manager::at(Path::new("@pgward")).expect("short").address, named);
}

#[test]
fn only_descriptors_meant_for_this_process_are_looked_at() {
    const NONE: [RawFd; 0] = [];
    let of = |pid: &str, count: &str, names: &str| passed_as("k", 7, pid, count, names);
    assert_eq!(of("7", "1", "k"), [3]);
    assert_eq!(of("7", "3", "a:k:k"), [4, 5]);
    assert_eq!(of("7", "2", "a:b:k"), NONE, "not counted");
    assert_eq!(of("8", "1", "k"), NONE, "another process");
    assert_eq!(of("", "1", "k"), NONE);
    assert_eq!(of("7", "-1", "k"), NONE);
    assert_eq!(of("7", "1", ""), NONE);
    let many = "k:".repeat(100_000);
    assert_eq!(of("7", &usize::MAX.to_string(), &many).len(), PASSED_MAX);
}
