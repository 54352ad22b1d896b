//! Raw messages in orders that broke proxies before. A probe notes every message that comes back; the notes must not depend
//! on whether an agent is in the way.

use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pgward_tests::wire::{
    self, Frame, Session, bind, describe, execute, flush, parse, query, sync,
};
use serde_json::Value;

use crate::{Arguments, connect, probes_startup};

pub(crate) type Script = fn(&mut Probe) -> Result<()>;

/// Bodies up to this length are noted in full, longer ones by length and hash.
const SHOWN_BYTES: usize = 160;

/// How long a probe waits for a message before it notes that nothing came.
const PATIENCE: Duration = Duration::from_secs(20);

/// Probes of a started session, by name.
const SCRIPTS: [(&str, Script); 33] = [
    ("simple-query", |p| p.ask(&query("select 1, null, 'x'"))),
    ("empty-query", |p| p.ask(&query(""))),
    ("several-statements", |p| p.ask(&query("select 1; select 2; create temp table t(a int)"))),
    ("error-between-statements", |p| p.ask(&query("select 1; select 1/0; select 3"))),
    ("syntax-error", |p| p.ask(&query("selec 1"))),
    ("notice", |p| p.ask(&query("do $$begin raise notice 'hello'; end$$"))),
    ("parameter-status", |p| p.ask(&query("set application_name = 'changed'"))),
    ("transaction-states", transaction_states),
    ("extended-query", extended_query),
    ("binary-results", binary_results),
    ("error-before-sync", error_before_sync),
    ("query-behind-failed-message", query_behind_failed_message),
    ("several-syncs", |p| p.ask_all(&[sync(), sync(), sync()].concat(), 3)),
    ("flush-in-the-middle", flush_in_the_middle),
    ("portal-in-steps", portal_in_steps),
    ("names-used-again", names_used_again),
    ("copy-in", copy_in),
    ("copy-in-failed-by-client", copy_in_failed_by_client),
    ("copy-in-refused-by-server", copy_in_refused_by_server),
    ("copy-in-with-early-sync", copy_in_with_early_sync),
    ("copy-out-between-statements", |p| {
        p.ask(&query("select 1; copy (values (1),(2)) to stdout; select 2"))
    }),
    ("function-call", function_call),
    ("half-close-behind-query", half_close_behind_query),
    ("terminate", |p| p.ask_to_the_end(&wire::terminate())),
    ("unknown-message", |p| p.ask_to_the_end(&wire::message(b'y', b"what"))),
    ("zero-inside-query", |p| p.ask(&wire::message(b'Q', b"select 1\0select 2\0"))),
    ("query-without-zero", |p| p.ask(&wire::message(b'Q', b"select 1"))),
    ("length-too-small", |p| p.ask_to_the_end(&[b'Q', 0, 0, 0, 3])),
    ("length-too-large", |p| p.ask_to_the_end(&[b'S', 0x10, 0, 0, 0, 1, 2])),
    ("byte-by-byte", byte_by_byte),
    ("large-values", large_values),
    ("large-pipeline", large_pipeline),
    ("notification-while-idle", notification_while_idle),
];

/// One connection and what was noted.
pub(crate) struct Probe {
    address: SocketAddr,
    pub(crate) stream: TcpStream,
    lines: Vec<String>,
}

/// `probe ADDRESS name=NAME`, or `name=list`. Reports the notes.
pub(crate) fn run(arguments: &Arguments) -> Result<Value> {
    let name = arguments.option("name")?;
    if name == "list" {
        let names = SCRIPTS.iter().chain(&probes_startup::SCRIPTS);
        return Ok(names.map(|(name, _)| *name).collect());
    }
    let find = |scripts: &[(&str, Script)]| {
        scripts.iter().find(|(known, _)| *known == name).map(|(_, script)| *script)
    };
    let unstarted = find(&probes_startup::SCRIPTS).or_else(|| find(&probes_startup::ALONE));
    let mut stream = connect::blocking(arguments.address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let script = match (find(&SCRIPTS), unstarted) {
        (Some(script), _) => {
            stream = Session::start(stream)?.stream;
            script
        }
        (None, Some(script)) => script,
        (None, None) => bail!("no probe `{name}`"),
    };
    let mut probe = Probe { address: arguments.address, stream, lines: Vec::new() };
    script(&mut probe).with_context(|| format!("after {:?}", probe.lines))?;
    Ok(probe.lines.into())
}

impl Probe {
    /// Sends, and notes everything up to `ReadyForQuery`.
    pub(crate) fn ask(&mut self, bytes: &[u8]) -> Result<()> {
        self.ask_all(bytes, 1)
    }

    /// Sends, and notes everything up to the given number of `ReadyForQuery`.
    fn ask_all(&mut self, bytes: &[u8], ready: usize) -> Result<()> {
        self.stream.write_all(bytes)?;
        for _ in 0..ready {
            self.note_until(b'Z')?;
        }
        Ok(())
    }

    /// Sends, and notes everything up to the end of the connection.
    pub(crate) fn ask_to_the_end(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        self.note_to_the_end();
        Ok(())
    }

    pub(crate) fn note_to_the_end(&mut self) {
        while let Some(frame) = self.next() {
            self.note(&frame);
        }
    }

    /// Notes messages up to one of this type, or to the end.
    pub(crate) fn note_until(&mut self, tag: u8) -> Result<()> {
        loop {
            let Some(frame) = self.next() else { return Ok(()) };
            self.note(&frame);
            if frame.tag == tag {
                return Ok(());
            }
        }
    }

    /// Next message; `None` when the connection ended or nothing came, which is noted.
    fn next(&mut self) -> Option<Frame> {
        match wire::read_frame(&mut self.stream) {
            Ok(Some(frame)) => Some(frame),
            Ok(None) => {
                self.lines.push("end".to_owned());
                None
            }
            Err(error) => {
                let root = error.root_cause().downcast_ref::<std::io::Error>();
                self.lines.push(format!("broken: {:?}", root.map(std::io::Error::kind)));
                None
            }
        }
    }

    /// Notes a message, with what differs from run to run left out.
    pub(crate) fn note(&mut self, frame: &Frame) {
        let tag = char::from(frame.tag);
        let body = match frame.tag {
            b'K' => &b"(backend and secret)"[..],
            b'E' | b'N' => &without_source(&frame.body),
            // The process id of the notifying backend comes first.
            b'A' => frame.body.get(4..).unwrap_or_default(),
            _ => &frame.body,
        };
        if body.len() <= SHOWN_BYTES {
            self.lines.push(format!("{tag} {}", body.escape_ascii()));
        } else {
            let mut hasher = DefaultHasher::new();
            hasher.write(body);
            self.lines.push(format!("{tag} {} bytes {:016x}", body.len(), hasher.finish()));
        }
    }

    /// Notes raw bytes, as many as these.
    pub(crate) fn note_bytes(&mut self, count: usize) {
        let mut bytes = vec![0; count];
        let line = match self.stream.read_exact(&mut bytes) {
            Ok(()) => format!("bytes {}", bytes.escape_ascii()),
            Err(error) => format!("instead of {count} bytes: {:?}", error.kind()),
        };
        self.lines.push(line);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Fields of an error without file, line and routine: they tell where in the server's source it arose, and where the agent
/// must speak in the server's place it has no such place to tell.
fn without_source(body: &[u8]) -> Vec<u8> {
    let fields = body.split(|byte| *byte == 0);
    let kept = fields.filter(|field| !matches!(field.first(), Some(b'F' | b'L' | b'R') | None));
    kept.collect::<Vec<_>>().join(&0)
}

fn transaction_states(probe: &mut Probe) -> Result<()> {
    for sql in ["begin", "select 1", "select 1/0", "select 2", "rollback", "select 3"] {
        probe.ask(&query(sql))?;
    }
    Ok(())
}

fn extended_query(probe: &mut Probe) -> Result<()> {
    let messages = [
        parse("s1", "select $1::int + 1, $2::text"),
        describe(b'S', "s1"),
        bind("p1", "s1", &[Some("41"), None]),
        describe(b'P', "p1"),
        execute("p1", 0),
        wire::close(b'P', "p1"),
        wire::close(b'S', "never made"),
        sync(),
    ];
    probe.ask(&messages.concat())
}

fn binary_results(probe: &mut Probe) -> Result<()> {
    // One binary parameter (int4 7), all results binary.
    let mut body = [wire::text(""), wire::text("b")].concat();
    body.extend([0, 1, 0, 1, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7, 0, 1, 0, 1]);
    let mut declared = [wire::text("b"), wire::text("select $1, 2.5::float8")].concat();
    declared.extend([0, 1, 0, 0, 0, 23]);
    let messages =
        [wire::message(b'P', &declared), wire::message(b'B', &body), execute("", 0), sync()];
    probe.ask(&messages.concat())
}

/// The server tells of the error at once; clients wait for it before they send anything more.
fn error_before_sync(probe: &mut Probe) -> Result<()> {
    probe.stream.write_all(&parse("", "select nothing from nowhere"))?;
    probe.note_until(b'E')?;
    probe.ask(&[bind("", "", &[]), execute("", 0), sync()].concat())?;
    probe.ask(&query("select 1"))
}

fn query_behind_failed_message(probe: &mut Probe) -> Result<()> {
    let messages = [parse("", "selec"), query("select 'skipped'"), flush(), sync()];
    probe.ask(&messages.concat())?;
    probe.ask(&query("select 'not skipped'"))
}

fn flush_in_the_middle(probe: &mut Probe) -> Result<()> {
    probe.stream.write_all(&[parse("f", "select 5"), describe(b'S', "f"), flush()].concat())?;
    probe.note_until(b'T')?;
    probe.stream.write_all(&[bind("", "f", &[]), execute("", 0), flush()].concat())?;
    probe.note_until(b'C')?;
    probe.ask(&sync())
}

fn portal_in_steps(probe: &mut Probe) -> Result<()> {
    let start = [parse("", "select generate_series(1, 5)"), bind("p", "", &[])].concat();
    let steps = [start, execute("p", 2), execute("p", 2), execute("p", 2), execute("p", 2), sync()];
    probe.ask(&steps.concat())
}

fn names_used_again(probe: &mut Probe) -> Result<()> {
    probe.ask(&[parse("n", "select 1"), sync()].concat())?;
    probe.ask(&[parse("n", "select 2"), sync()].concat())?;
    let again =
        [wire::close(b'S', "n"), parse("n", "select 3"), bind("", "n", &[]), execute("", 0)];
    probe.ask(&[again.concat(), sync()].concat())?;
    probe.ask(&[bind("", "gone", &[]), sync()].concat())
}

fn copy_in(probe: &mut Probe) -> Result<()> {
    probe.ask(&query("create temp table c(a int, b text)"))?;
    probe.stream.write_all(&query("copy c from stdin"))?;
    probe.note_until(b'G')?;
    // Flush and Sync mean nothing inside of COPY; rows may be cut anywhere.
    let data = [
        wire::copy_data(b"1\tone\n2\tt"),
        flush(),
        sync(),
        wire::copy_data(b"wo\n3\t\\N\n"),
        wire::copy_done(),
    ];
    probe.ask(&data.concat())?;
    // Plain columns would show the number of the table, which differs each time.
    probe.ask(&query("select a + 0, b || '' from c; copy c to stdout"))
}

fn copy_in_failed_by_client(probe: &mut Probe) -> Result<()> {
    probe.ask(&query("create temp table c(a int)"))?;
    probe.stream.write_all(&query("copy c from stdin"))?;
    probe.note_until(b'G')?;
    probe.ask(&[wire::copy_data(b"1\n"), wire::copy_fail("changed my mind")].concat())?;
    probe.ask(&query("select count(*) from c"))
}

fn copy_in_refused_by_server(probe: &mut Probe) -> Result<()> {
    probe.ask(&query("create temp table c(a int)"))?;
    probe.stream.write_all(&query("copy c from stdin"))?;
    probe.note_until(b'G')?;
    // The error comes with the first row; the rest is dropped, as is a late CopyDone.
    let mut data = wire::copy_data(b"no number\n");
    for _ in 0..500 {
        data.extend(wire::copy_data(b"1\n"));
    }
    data.extend(wire::copy_done());
    probe.ask(&data)?;
    probe.ask(&query("select count(*) from c"))
}

/// Some drivers send `Sync` right behind `Execute` of a COPY: the server takes it as part of the data.
fn copy_in_with_early_sync(probe: &mut Probe) -> Result<()> {
    probe.ask(&query("create temp table c(a int)"))?;
    let start = [parse("", "copy c from stdin"), bind("", "", &[]), execute("", 0), sync()];
    probe.stream.write_all(&start.concat())?;
    probe.note_until(b'G')?;
    let data = [wire::copy_data(b"1\n2\n"), wire::copy_done(), sync()];
    probe.ask(&data.concat())?;
    probe.ask(&query("select count(*) from c"))
}

fn function_call(probe: &mut Probe) -> Result<()> {
    // int4pl, function 177: text arguments 40 and 2, text result.
    let mut body = vec![0, 0, 0, 177, 0, 1, 0, 0, 0, 2];
    body.extend([0, 0, 0, 2, b'4', b'0', 0, 0, 0, 1, b'2', 0, 0]);
    probe.ask(&wire::message(b'F', &body))?;
    // A function that does not exist.
    probe.ask(&wire::message(b'F', &[0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
}

fn half_close_behind_query(probe: &mut Probe) -> Result<()> {
    probe.stream.write_all(&query("select generate_series(1, 2000)"))?;
    probe.stream.shutdown(Shutdown::Write)?;
    probe.note_to_the_end();
    Ok(())
}

fn byte_by_byte(probe: &mut Probe) -> Result<()> {
    let messages = [query("select 'slow'"), parse("", "select 1"), bind("", "", &[])].concat();
    probe.stream.set_nodelay(true)?;
    for byte in [messages, execute("", 0), sync()].concat() {
        probe.stream.write_all(&[byte])?;
    }
    probe.note_until(b'Z')?;
    probe.note_until(b'Z')
}

fn large_values(probe: &mut Probe) -> Result<()> {
    let value = "v".repeat(20 << 20);
    let ask = [parse("", "select md5($1), length($1)"), bind("", "", &[Some(&value)])].concat();
    probe.ask(&[ask, execute("", 0), sync()].concat())?;
    probe.ask(&query("select repeat('w', 30000000)"))
}

/// The client writes without reading until everything is sent, with both directions full on the way; then it reads.
fn large_pipeline(probe: &mut Probe) -> Result<()> {
    const ROUNDS: usize = 20_000;
    let filler = "f".repeat(1000);
    let mut reader = probe.stream.try_clone()?;
    reader.set_read_timeout(Some(PATIENCE))?;
    let mut writer = probe.stream.try_clone()?;
    let written = std::thread::spawn(move || -> std::io::Result<()> {
        for _ in 0..ROUNDS / 100 {
            let mut batch = Vec::new();
            for _ in 0..100 {
                let ask = [parse("", "select $1::text"), bind("", "", &[Some(&filler)])].concat();
                batch.extend([ask, execute("", 0), sync()].concat());
            }
            writer.write_all(&batch)?;
        }
        Ok(())
    });
    // Both sides are full when the writer makes no progress any more: its queue stays as it is.
    wait_until_stuck(&probe.stream, &written)?;
    let mut hasher = DefaultHasher::new();
    for round in 0..ROUNDS {
        let frames =
            wire::read_until_ready(&mut reader).with_context(|| format!("round {round}"))?;
        frames.iter().for_each(|frame| hasher.write(&frame.body));
    }
    written.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    probe.lines.push(format!("{ROUNDS} rounds {:016x}", hasher.finish()));
    Ok(())
}

fn wait_until_stuck<T>(stream: &TcpStream, writer: &std::thread::JoinHandle<T>) -> Result<()> {
    let mut before = None;
    for _ in 0..400 {
        std::thread::sleep(Duration::from_millis(25));
        let queued = crate::raw::unsent_bytes(stream)?;
        if writer.is_finished() || (queued > 0 && before == Some(queued)) {
            return Ok(());
        }
        before = Some(queued);
    }
    bail!("the pipeline neither ended nor filled up")
}

fn notification_while_idle(probe: &mut Probe) -> Result<()> {
    probe.ask(&query("listen news"))?;
    let mut other = Session::start(connect::blocking(probe.address())?)?;
    other.simple("notify news, 'extra'")?;
    probe.note_until(b'A')
}
