//! Drives a real server with random orders of messages and checks the session against it.
//!
//! `live <host:port> <seeds> [first seed] [user] [database]`: the server must trust the user. Each
//! statement selects a number of its own, so the rows that come back say which statement the
//! server ran; the session must name that one or say that it does not know. The session must
//! neither refuse what the server sends nor wait for what it does not send.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pgward::pg::error::SequenceFault;
use pgward::pg::handshake::{Event::Ready, Terms, course::Accepted};
use pgward::pg::session::{Event, Gate, Kind, Outcome, Session, Statement, TextState};
use pgward::pg::startup::write_startup;
use pgward::pg::{Error, Limits, startup};
use pgward_fuzz::{handshake, terms};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let argument = |index: usize, default: &str| {
        arguments.get(index).cloned().unwrap_or_else(|| default.to_owned())
    };
    let address = argument(1, "127.0.0.1:5432");
    let seeds: u64 = argument(2, "100").parse().expect("number of seeds");
    let first: u64 = argument(3, "1").parse().expect("first seed");
    let (user, database) = (argument(4, "postgres"), argument(5, "postgres"));
    prepare(&address, &user, &database);
    let mut sums = Sums::default();
    for seed in first..first + seeds {
        let mut run = Run::new(&address, &user, &database, seed);
        run.script();
        sums.refused += u64::from(run.refused);
        run.check(&mut sums);
    }
    println!("{seeds} seeds: {sums:?}");
}

#[derive(Debug, Default)]
struct Sums {
    messages: u64,
    statements: u64,
    completed: u64,
    failed: u64,
    skipped: u64,
    unfinished: u64,
    unknown_text: u64,
    rows_checked: u64,
    fatal: u64,
    /// Sessions refused because of a request inside a COPY.
    refused: u64,
}

fn prepare(address: &str, user: &str, database: &str) {
    let mut run = Run::new(address, user, database, 0);
    run.send(&query(
        "drop table if exists live_rows, live_triggered, live_deferred; \
         create table live_rows (n int); \
         create table live_triggered (n int); \
         create table live_deferred (n int unique deferrable initially deferred); \
         create or replace function live_fail() returns trigger language plpgsql \
         as 'begin raise exception $x$no$x$; end'; \
         create trigger t before insert on live_triggered \
         for each statement execute function live_fail(); \
         insert into live_deferred values (1)",
    ));
    run.finish();
}

/// A small generator with a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}

struct Run {
    seed: u64,
    random: Random,
    stream: TcpStream,
    session: Session,
    from_server: Vec<u8>,
    sent: Vec<String>,
    number: u64,
    /// First column of each row, as text.
    rows: Vec<String>,
    /// Bytes of the server's messages read by this program's own framing.
    frames: Vec<u8>,
    done: Vec<Statement>,
    ended: bool,
    closed: bool,
    refused: bool,
    /// Client bytes not forwarded yet.
    held: Vec<u8>,
}

const END: &str = "rollback /* end */";

impl Run {
    fn new(address: &str, user: &str, database: &str, seed: u64) -> Self {
        let mut stream = TcpStream::connect(address).expect("server listens");
        stream.set_nodelay(true).expect("TCP");
        let parameters: startup::Parameters =
            [("user", user), ("database", database)].into_iter().collect();
        let mut hello = Vec::new();
        write_startup(&mut hello, 0, &parameters).expect("short");
        stream.write_all(&hello).expect("server listens");
        let mut handshake = handshake(Terms { accepted: Accepted::ANY, ..terms() });
        let mut from_server = Vec::new();
        let mut chunk = [0; 4096];
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("TCP");
        while !std::iter::from_fn(|| handshake.poll_event()).any(|event| event == Ready) {
            let count = stream.read(&mut chunk).expect("server gets ready");
            assert!(count > 0, "server closed");
            from_server.extend_from_slice(&chunk[..count]);
            let taken = handshake.handle_backend(&from_server).expect("server is in order");
            from_server.drain(..taken);
        }
        let authenticated = handshake.finish().expect("it is accepted");
        let session = Session::new(Limits::default(), Gate::Pass, 0, authenticated);
        Self {
            seed,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            stream,
            session,
            from_server,
            sent: Vec::new(),
            number: seed % 1_000 * 1_000_000,
            rows: Vec::new(),
            frames: Vec::new(),
            done: Vec::new(),
            ended: false,
            closed: false,
            refused: false,
            held: Vec::new(),
        }
    }

    fn script(&mut self) {
        for _ in 0..self.random.below(30) + 2 {
            let message = self.message();
            self.send(&message);
            match self.random.below(12) {
                0 => self.receive(Duration::from_millis(15)),
                1..=3 => self.receive(Duration::from_millis(1)),
                _ => {}
            }
        }
        self.finish();
    }

    /// Ends whatever is under way and waits for the server to have said so.
    fn finish(&mut self) {
        self.send(&frame(b'f', &[b"end\0"]));
        self.send(&frame(b'S', &[]));
        self.send(&query(END));
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.ended && !self.closed {
            self.receive(Duration::from_millis(100));
            if Instant::now() > deadline {
                self.fail("the session waits for what the server does not send");
            }
        }
    }

    fn message(&mut self) -> Vec<u8> {
        self.number += 1;
        let n = self.number;
        let statement = match self.random.below(24) {
            0..=6 => format!("select {n}"),
            7..=8 => format!("select {n} from generate_series(1,3)"),
            9 => format!("select {n}; select {n}"),
            10 => "selec".to_owned(),
            11 => format!("select {n}/0"),
            12 => "copy live_rows from stdin".to_owned(),
            13 => format!("select {n}; copy live_rows from stdin; copy live_rows from stdin"),
            14 => format!("copy (select {n}) to stdout; select {n}"),
            15 => "copy live_triggered from stdin".to_owned(),
            16 => "insert into live_deferred values (1)".to_owned(),
            17 => "begin".to_owned(),
            18 => (*self.random.pick(&["commit", "rollback", "", "deallocate all"])).to_owned(),
            19 => format!("copy (select {n}) to stdout"),
            20 => {
                let name = self.random.pick(&["a", "b"]);
                format!("prepare {name} as select {n}")
            }
            21 => (*self.random.pick(&["deallocate a", "deallocate b", "close a"])).to_owned(),
            22 => {
                let name = self.random.pick(&["a", "b"]);
                format!("declare {name} cursor for select {n} from generate_series(1,4)")
            }
            _ => "set client_min_messages = warning; reset client_min_messages".to_owned(),
        };
        const LONG: &str = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";
        let long: [String; 2] = [format!("{LONG}x"), format!("{LONG}y")];
        let names = ["", "", "", "a", "b", &long[0], &long[1]];
        let name = [self.random.pick(&names).as_bytes(), b"\0"].concat();
        let other = [self.random.pick(&names).as_bytes(), b"\0"].concat();
        let text = [statement.as_bytes(), b"\0"].concat();
        let prepare = || frame(b'P', &[&name, &text, b"\0\0"]);
        let bind = frame(b'B', &[&other, &name, &[0; 6]]);
        let rows = self.random.below(3) as u8;
        let execute = frame(b'E', &[&other, &[0, 0, 0, rows]]);
        let sync = frame(b'S', &[]);
        match self.random.below(40) {
            0..=5 => frame(b'Q', &[&text]),
            6..=9 => [prepare(), bind, execute, sync].concat(),
            10..=12 => [prepare(), bind, execute].concat(),
            13..=14 => prepare(),
            15..=17 => bind,
            18..=20 => execute,
            21 => [bind, execute].concat(),
            22..=23 => frame(b'D', &[&[*self.random.pick(b"SP")], &name]),
            24..=26 => frame(b'C', &[&[*self.random.pick(b"SP")], &name]),
            27..=29 => sync,
            30 => frame(b'H', &[]),
            31..=32 => frame(b'd', &[b"1\n2\n"]),
            33 => frame(b'd', &[b"bad\n"]),
            34..=35 => frame(b'c', &[]),
            36 => frame(b'f', &[b"why\0"]),
            // int4pl(40, n)
            37 => frame(
                b'F',
                &[
                    &177_u32.to_be_bytes(),
                    &[0, 1, 0, 1, 0, 2, 0, 0, 0, 4, 0, 0, 0, 40, 0, 0, 0, 4, 0, 0, 0, 2, 0, 1],
                ],
            ),
            38 => self.malformed(),
            _ => [frame(b'd', &[b"7\n"]), frame(b'c', &[]), sync].concat(),
        }
    }

    fn malformed(&mut self) -> Vec<u8> {
        let bad: &[&[u8]] = &[
            b"Q\0\0\0\x0fselect 1\0x\0",
            b"P\0\0\0\x07a\0b",
            b"P\0\0\0\x0aa\0b\0\xff\xff",
            b"B\0\0\0\x08\0\0\0\x09",
            b"D\0\0\0\x06X\0",
            b"C\0\0\0\x06X\0",
            b"E\0\0\0\x06\0\0",
        ];
        self.random.pick(bad).to_vec()
    }

    fn send(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        self.sent.push(bytes.escape_ascii().to_string());
        let mut held = std::mem::take(&mut self.held);
        let mut rest = bytes;
        while !rest.is_empty() {
            let (part, behind) =
                rest.split_at((self.random.below(60) as usize + 1).min(rest.len()));
            held.extend_from_slice(part);
            rest = behind;
            self.held = held;
            self.forward();
            held = std::mem::take(&mut self.held);
        }
        self.held = held;
    }

    /// Forwards what may pass of the client's bytes.
    fn forward(&mut self) {
        while !self.closed {
            match self.session.handle_frontend(0, &self.held) {
                Ok(passed) if passed.is_nothing() => break,
                Ok(passed) => {
                    let written = self.stream.write_all(passed.output(&self.held));
                    self.closed |= written.is_err();
                    self.held.drain(..passed.taken);
                }
                Err(Error::Sequence { side: _, fault: SequenceFault::InCopy { tag: _ } }) => {
                    (self.refused, self.closed) = (true, true);
                }
                Err(error) => self.fail(&format!("client refused: {error:?}")),
            }
            self.events();
        }
        self.events();
    }

    fn receive(&mut self, wait: Duration) {
        self.stream.set_read_timeout(Some(wait)).expect("TCP");
        let mut buffer = [0; 16_384];
        let most = self.random.below(300) as usize + 1;
        match self.stream.read(&mut buffer[..most]) {
            Ok(0) => self.closed = true,
            Ok(count) => {
                self.from_server.extend_from_slice(&buffer[..count]);
                self.frames.extend_from_slice(&buffer[..count]);
                loop {
                    match self.session.handle_backend(0, &self.from_server) {
                        Ok(passed) if passed.is_nothing() => break,
                        Ok(passed) => drop(self.from_server.drain(..passed.taken)),
                        Err(error) => self.fail(&format!("server refused: {error:?}")),
                    }
                    self.events();
                }
                self.read_rows();
                self.forward();
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => self.closed = true,
        }
    }

    /// First column of each complete `DataRow`, by framing of its own.
    fn read_rows(&mut self) {
        while let Some(field) = self.frames.get(1..5) {
            let field: [u8; 4] = field.try_into().expect("four bytes");
            let end = 1 + u32::from_be_bytes(field) as usize;
            if self.frames.len() < end {
                return;
            }
            let frame: Vec<u8> = self.frames.drain(..end).collect();
            if frame[0] == b'D' {
                self.rows.push(String::from_utf8_lossy(&frame[11..]).into_owned());
            }
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            if let Event::StatementDone(statement) = event {
                self.ended |=
                    &*statement.text == END.as_bytes() && statement.outcome == Outcome::Completed;
                self.done.push(*statement);
            }
        }
    }

    fn check(&mut self, sums: &mut Sums) {
        if self.ended && self.session.answers_owed() > 0 {
            self.fail("the session still waits");
        }
        self.session.handle_close(0);
        self.events();
        let mut done = std::mem::take(&mut self.done);
        done.sort_by_key(|statement| statement.id);
        let mut rows = self.rows.iter();
        for statement in &done {
            sums.statements += 1;
            match statement.outcome {
                Outcome::Completed | Outcome::Suspended => sums.completed += 1,
                Outcome::Failed | Outcome::Refused => sums.failed += 1,
                Outcome::Skipped => sums.skipped += 1,
                Outcome::Unfinished | Outcome::Unsent => sums.unfinished += 1,
            }
            let text = String::from_utf8_lossy(&statement.text).into_owned();
            for _ in 0..statement.rows {
                let Some(row) = rows.next() else {
                    // A row counts by its header; the connection may have ended inside of it.
                    if self.closed {
                        break;
                    }
                    self.fail("more rows told than came")
                };
                if statement.text_state == TextState::Unknown && statement.kind == Kind::Execute {
                    sums.unknown_text += 1;
                    continue;
                }
                sums.rows_checked += 1;
                if !text.contains(row.as_str()) {
                    self.fail(&format!("row `{row}` is said to come from `{text}`"));
                }
            }
        }
        if rows.next().is_some() && !self.closed {
            self.fail("more rows came than told");
        }
        sums.messages += self.sent.len() as u64;
        sums.fatal += u64::from(self.closed);
    }

    fn fail(&self, what: &str) -> ! {
        for sent in &self.sent {
            eprintln!("  {sent}");
        }
        eprintln!("  {:?}", self.session);
        panic!("seed {}: {what}", self.seed);
    }
}

fn query(text: &str) -> Vec<u8> {
    frame(b'Q', &[text.as_bytes(), b"\0"])
}

fn frame(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>() as u32;
    let mut frame = vec![tag];
    frame.extend(length.to_be_bytes());
    frame.extend(parts.concat());
    frame
}
