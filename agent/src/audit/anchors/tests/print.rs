//! The system's log.

use std::os::unix::net::UnixDatagram;

use super::*;

#[test]
fn a_line_holds_the_whole_note() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    let log = UnixDatagram::bind(&path).expect("bound");
    let mut printer = Printer::syslog(path);
    printer.copy(&checkpoint(42, 0)).expect("printed");
    let mut line = [0; 1024];
    let count = log.recv(&mut line).expect("a line");
    let expected = format!(
        "<29>pgward[{}]: checkpoint origin={HOST}/1 size=42 \
         root=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= signature=c2lnbmVk",
        std::process::id()
    );
    assert_eq!(String::from_utf8_lossy(&line[..count]), expected);
}

#[test]
fn a_log_that_nobody_reads_is_an_error_and_not_a_wait() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    let mut printer = Printer::syslog(path.clone());
    let error = printer.copy(&checkpoint(1, 0)).expect_err("nobody is there");
    assert!(error.to_string().ends_with("connect"), "{error}");
    drop(UnixDatagram::bind(&path).expect("bound"));
    assert!(printer.copy(&checkpoint(1, 0)).is_err(), "the socket is dead");
}
