//! Sends attempts, and keeps all that comes back.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pgward_tests::visitor::Visitor;
use pgward_tests::wire::{self, Frame};

use crate::attempt::{Attempt, Form};
use crate::world::{ADVERSARY, DATABASE, World};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// All that came back.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Every byte, of all connections of the attempt.
    pub(crate) bytes: Vec<u8>,
    /// The same as messages.
    pub(crate) frames: Vec<Frame>,
}

/// One connection of the adversary.
struct Line<'h> {
    visitor: Visitor,
    heard: &'h mut Heard,
    ended: bool,
}

/// Makes an attempt in one form.
///
/// Errors: when something takes longer than [`ANSWER`], or what comes back is no protocol.
pub(crate) fn attempt(world: &mut World, attempt: &Attempt, form: Form) -> Result<Heard> {
    let mut heard = Heard::default();
    let mut line = Line::open(world, attempt, &mut heard)?;
    match form {
        Form::Simple | Form::Extended => {
            for step in &attempt.steps {
                if step == b"\\reconnect" {
                    line.hang_up()?;
                    line = Line::open(world, attempt, &mut heard)?;
                    continue;
                }
                line.send(&statement(step, form, attempt.data.as_deref()))?;
                line.read_until(b"Z")?;
            }
        }
        Form::Pipeline => {
            let statement = |step: &Vec<u8>| unsynced(step, attempt.data.as_deref());
            let all: Vec<u8> = attempt.steps.iter().flat_map(statement).collect();
            line.send(&[all, wire::sync()].concat())?;
            line.read_until(b"Z")?;
        }
        Form::Raw | Form::Rush => line.script(world, attempt, form)?,
    }
    line.hang_up()?;
    Ok(heard)
}

impl<'h> Line<'h> {
    fn open(world: &World, attempt: &Attempt, heard: &'h mut Heard) -> Result<Self> {
        let address = (std::net::Ipv4Addr::LOCALHOST, world.cluster.port()).into();
        let visitor = Visitor::connect(address, Some(&world.scene.cgroup))?;
        visitor.stream.set_read_timeout(Some(ANSWER))?;
        let mut line = Self { visitor, heard, ended: false };
        let own = [("user", ADVERSARY), ("database", DATABASE)];
        let others = attempt.startup.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        line.send(&wire::startup(&own.into_iter().chain(others).collect::<Vec<_>>()))?;
        line.read_until(b"Z")?;
        Ok(line)
    }

    /// A peer that hung up is noticed when it is read from.
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self.visitor.write_all(bytes) {
            Err(error) if !is_end(&error) => Err(error).context("sending"),
            _ => Ok(()),
        }
    }

    /// Reads up to a message of one of these types, or the end; the type.
    fn read_until(&mut self, tags: &[u8]) -> Result<Option<u8>> {
        while !self.ended {
            let frame = match wire::read_frame(&mut self.visitor) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) if error.downcast_ref().is_some_and(is_end) => break,
                Err(error) => {
                    let so_far = wire::outline(&self.heard.frames);
                    let so_far = so_far.chars().take(200).collect::<String>();
                    return Err(error).with_context(|| format!("after {so_far}"));
                }
            };
            let tag = frame.tag;
            self.heard.bytes.push(tag);
            self.heard.bytes.extend_from_slice(&frame.body);
            self.heard.frames.push(frame);
            if tags.contains(&tag) {
                return Ok(Some(tag));
            }
        }
        self.ended = true;
        Ok(None)
    }

    /// Says goodbye and reads to the end.
    fn hang_up(mut self) -> Result<()> {
        self.send(&wire::terminate())?;
        self.read_until(b"")?;
        Ok(())
    }

    fn script(&mut self, world: &mut World, attempt: &Attempt, form: Form) -> Result<()> {
        let mut waiting = Vec::new();
        // Whether a Query asked for COPY data: its ReadyForQuery comes after them.
        let mut copying = false;
        // Behind an error nothing is answered up to the next Sync.
        let (mut refused, mut unsynced) = (false, false);
        for step in &attempt.steps {
            let (word, rest) = split(step, b" ");
            if word == b"wait" {
                self.send(&std::mem::take(&mut waiting))?;
                if !refused {
                    refused = self.read_until(&[rest, b"Z"].concat())? == Some(b'E');
                }
                continue;
            }
            waiting.extend(message(world, word, rest)?);
            unsynced |= matches!(word, b"P" | b"B" | b"D" | b"E" | b"C");
            let answered = match word {
                b"Q" | b"S" | b"F" => true,
                b"c" | b"f" => std::mem::take(&mut copying),
                _ => false,
            };
            if answered && form == Form::Raw {
                self.send(&std::mem::take(&mut waiting))?;
                // A Query behind an error of the same pipeline is discarded like all else.
                let pipelined = unsynced && word != b"S";
                let ends: &[u8] = if pipelined { b"ZGE" } else { b"ZG" };
                if !(pipelined && refused) {
                    let end = self.read_until(ends)?;
                    copying = end == Some(b'G');
                    refused = pipelined && end == Some(b'E');
                }
                unsynced &= word != b"S";
            }
        }
        self.send(&waiting)
    }
}

fn is_end(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    matches!(error.kind(), Kind::BrokenPipe | Kind::ConnectionReset | Kind::UnexpectedEof)
}

/// A statement with what makes the server answer it.
fn statement(text: &[u8], form: Form, data: Option<&str>) -> Vec<u8> {
    match form {
        Form::Simple => [wire::message(b'Q', &ended(text)), copied(data)].concat(),
        Form::Extended | Form::Pipeline | Form::Raw | Form::Rush => {
            [unsynced(text, data), wire::sync()].concat()
        }
    }
}

fn unsynced(text: &[u8], data: Option<&str>) -> Vec<u8> {
    let parse = wire::message(b'P', &[b"\0", &ended(text)[..], b"\0\0"].concat());
    let describe = wire::describe(b'P', "");
    [parse, wire::bind("", "", &[]), describe, wire::execute("", 0), copied(data)].concat()
}

/// Ignored by a server that asked for none.
fn copied(data: Option<&str>) -> Vec<u8> {
    let messages = |data: &str| [wire::copy_data(data.as_bytes()), wire::copy_done()].concat();
    data.map(messages).unwrap_or_default()
}

/// The message of a line of a script.
fn message(world: &mut World, word: &[u8], rest: &[u8]) -> Result<Vec<u8>> {
    let fields = fields(rest);
    let field = |number: usize| ended(fields.get(number).copied().unwrap_or_default());
    let rows = |number: usize| -> Result<u32> {
        let text = fields.get(number).copied().unwrap_or_default();
        if text.is_empty() { Ok(0) } else { Ok(std::str::from_utf8(text)?.parse()?) }
    };
    let values = |from: usize| {
        let given = fields.get(from..).unwrap_or_default();
        let count = u16::try_from(given.len()).expect("a line holds few values");
        let each = given.iter().flat_map(|value| {
            let length = u32::try_from(value.len()).expect("a line is short");
            [&length.to_be_bytes(), *value].concat()
        });
        [&[0, 0][..], &count.to_be_bytes()].concat().into_iter().chain(each).collect::<Vec<u8>>()
    };
    Ok(match word {
        b"Q" => wire::message(b'Q', &ended(rest)),
        b"P" => wire::message(b'P', &[field(0), field(1), vec![0, 0]].concat()),
        b"B" => wire::message(b'B', &[field(0), field(1), values(2), vec![0, 0]].concat()),
        b"E" => wire::message(b'E', &[field(0), rows(1)?.to_be_bytes().to_vec()].concat()),
        b"D" | b"C" => {
            let (kind, name) = split(rest, b" ");
            wire::message(word[0], &[kind, &ended(name)].concat())
        }
        b"H" => wire::flush(),
        b"S" => wire::sync(),
        b"X" => wire::terminate(),
        b"F" => {
            let signature = std::str::from_utf8(fields[0])?;
            let oid = world.ask(&format!("select '{signature}'::regprocedure::oid"))?;
            let oid: u32 = oid.parse().context("number of a function")?;
            wire::message(b'F', &[&oid.to_be_bytes(), &values(1)[..], &[0, 0]].concat())
        }
        b"d" => wire::copy_data(&[rest, b"\n"].concat()),
        b"c" => wire::copy_done(),
        b"f" => wire::copy_fail("no more"),
        _ => bail!("no such message: `{}`", String::from_utf8_lossy(word)),
    })
}

/// The fields of a line, without the blanks around them.
fn fields(line: &[u8]) -> Vec<&[u8]> {
    line.split(|byte| *byte == b'|').map(<[u8]>::trim_ascii).collect()
}

fn split<'l>(line: &'l [u8], at: &[u8; 1]) -> (&'l [u8], &'l [u8]) {
    let place = line.iter().position(|byte| *byte == at[0]).unwrap_or(line.len());
    (&line[..place], line.get(place + 1..).unwrap_or_default())
}

fn ended(text: &[u8]) -> Vec<u8> {
    [text, &[0]].concat()
}
