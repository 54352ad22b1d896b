//! Probes of the first bytes of a connection.

use std::io::Write;

use anyhow::Result;
use pgward_tests::wait;
use pgward_tests::wire::{
    self, GSSENC_REQUEST, SSL_REQUEST, Session, query, startup, startup_version, untyped,
};

use crate::connect;
use crate::probes::{Probe, Script};

const USER: [(&str, &str); 2] = [("user", "postgres"), ("database", "postgres")];

/// Probes of an unstarted connection, by name.
pub(crate) const SCRIPTS: [(&str, Script); 14] = [
    ("plain-start", |p| p.ask(&startup(&USER))),
    ("ssl-request", |p| encryption_requests(p, &[SSL_REQUEST])),
    ("start-with-options", start_with_options),
    ("start-pipelined-with-query", start_pipelined_with_query),
    ("newer-minor-version", |p| p.ask(&startup_version((3 << 16) | 9999, &USER))),
    ("unknown-protocol-options", unknown_protocol_options),
    ("unknown-database", |p| {
        p.ask_to_the_end(&startup(&[("user", "postgres"), ("database", "no")]))
    }),
    ("unknown-user", |p| p.ask_to_the_end(&startup(&[("user", "nobody here")]))),
    ("no-user", |p| p.ask_to_the_end(&startup(&[("database", "postgres")]))),
    ("bad-setting", |p| p.ask_to_the_end(&startup(&[USER[0], ("work_mem", "lots")]))),
    ("replication", replication),
    ("close-at-once", close_at_once),
    ("cancel-of-nobody", |p| p.ask_to_the_end(&wire::cancel(1, &[1, 2, 3, 4]))),
    ("cancel-of-a-query", cancel_of_a_query),
];

/// Probes whose answer depends on build and version of the server, or that the agent answers for its own leg: not to be
/// compared, only to be looked at.
pub(crate) const ALONE: [(&str, Script); 4] = [
    ("ssl-then-gss", |p| encryption_requests(p, &[SSL_REQUEST, GSSENC_REQUEST])),
    ("old-major-version", |p| p.ask_to_the_end(&startup_version(2 << 16, &USER))),
    ("future-major-version", |p| p.ask_to_the_end(&startup_version(4 << 16, &USER))),
    ("gss-then-ssl", |p| encryption_requests(p, &[GSSENC_REQUEST, SSL_REQUEST])),
];

fn encryption_requests(probe: &mut Probe, codes: &[u32]) -> Result<()> {
    for code in codes {
        probe.stream.write_all(&untyped(&code.to_be_bytes()))?;
        probe.note_bytes(1);
    }
    probe.ask(&startup(&USER))
}

fn start_with_options(probe: &mut Probe) -> Result<()> {
    let options = [
        USER[0],
        USER[1],
        ("options", "-c work_mem=7MB -c search_path=a,b"),
        ("DateStyle", "German"),
        ("client_encoding", "LATIN1"),
        ("application_name", "a probe"),
    ];
    probe.ask(&startup(&options))?;
    probe.ask(&query("show work_mem; show search_path; show datestyle; show client_encoding"))?;
    probe.ask(&query("select '\u{e4}'; reset all; show work_mem"))
}

fn start_pipelined_with_query(probe: &mut Probe) -> Result<()> {
    probe.stream.write_all(&[startup(&USER), query("select 'early'")].concat())?;
    probe.note_until(b'Z')?;
    probe.note_until(b'Z')
}

fn unknown_protocol_options(probe: &mut Probe) -> Result<()> {
    let options = [USER[0], USER[1], ("_pq_.test_protocol_negotiation", "")];
    probe.ask(&startup_version((3 << 16) | 2, &options))
}

fn replication(probe: &mut Probe) -> Result<()> {
    probe.ask(&startup(&[USER[0], USER[1], ("replication", "database")]))?;
    probe.ask(&query("SHOW wal_level"))?;
    probe.ask(&query("select 1"))
}

fn close_at_once(probe: &mut Probe) -> Result<()> {
    probe.stream.shutdown(std::net::Shutdown::Write)?;
    probe.note_to_the_end();
    Ok(())
}

fn cancel_of_a_query(probe: &mut Probe) -> Result<()> {
    let mut session = Session::start(probe.stream.try_clone()?)?;
    session.stream.write_all(&query("select pg_sleep(100)"))?;
    // A cancel before the statement sleeps would find nothing to cancel, or find it elsewhere.
    let mut watch = Session::start(connect::blocking(probe.address())?)?;
    let state = format!(
        "select count(*) from pg_stat_activity where pid = {} and wait_event = 'PgSleep'",
        session.backend
    );
    wait::until_true("the statement to sleep", wait::PATIENCE, || Ok(watch.value(&state)? == "1"))?;
    let mut other = connect::blocking(probe.address())?;
    other.write_all(&wire::cancel(session.backend, &session.secret))?;
    // The server closes without an answer.
    anyhow::ensure!(wire::read_frame(&mut other)?.is_none(), "an answer to a cancel request");
    probe.note_until(b'Z')?;
    probe.ask(&query("select 'alive'"))
}
