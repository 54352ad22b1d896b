//! Row 31: many statements at once, and long ones: all recorded, cuts marked with the full length, memory bounded.

use std::fs;
use std::io::Write;
use std::thread;

use anyhow::{Context, ensure};
use pgward_tests::agent::Agent;
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::{Scene, mark};
use pgward_tests::visitor::Visitor;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire;
use serde_json::Value;

use crate::{Client, Result, gate, options, untampered};

/// Statements that are sent before the first answer is read.
const PIPELINED: usize = 10_000;
/// What a text may have before it is cut (`audit.statement_bytes_max`).
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Bytes of a parameter: with what is around it, just below the longest statement that is carried.
const PARAMETER_BYTES: usize = 60 << 20;
/// Bytes that COPY brings.
const COPIED_BYTES: usize = 200 << 20;
/// Bytes of one `CopyData` message.
const PIECE_BYTES: usize = 64 << 10;
/// The most that the agent may ever have in memory: the message with the long parameter is held whole, once as it is read and
/// once as it waits for its record to go; a debug build of the agent has 60 MiB of its own.
const MEMORY_KIB_MAX: u64 = 400 << 10;

struct Stage {
    cluster: Cluster,
    scene: Scene,
}

impl Stage {
    fn new(label: &str) -> Result<Self> {
        let cluster = Cluster::start()?;
        Ok(Self { scene: Scene::with(label, Agent::builder().intercept(cluster.port()))?, cluster })
    }

    fn client(&self) -> Result<Client> {
        let address = ([127, 0, 0, 1], self.cluster.port()).into();
        Client::start(Visitor::connect(address, Some(&self.scene.cgroup))?)
    }

    /// Statements with this mark as they are joined from text, intent and outcome.
    fn statements(&self, mark: &str) -> Result<Vec<Value>> {
        let records = self.scene.agent.records()?;
        let marked = |record: &Value| {
            record["event"] == "statement"
                && record["text"].as_str().is_some_and(|text| text.contains(mark))
        };
        Ok(records.into_iter().filter(marked).collect())
    }

    fn wait_for(&self, mark: &str, count: usize) -> Result<Vec<Value>> {
        wait::until("all statements to be recorded", PATIENCE * 3, || {
            let found = self.statements(mark)?;
            Ok((found.len() >= count).then_some(found))
        })
    }

    /// Ends the agent and verifies its trail.
    fn finish(self) -> Result {
        let peak = peak_kib(self.scene.agent.pid()?)?;
        let options = options(self.scene.agent.audit_directory())?;
        untampered(&options)?;
        self.scene.agent.finish()?;
        ensure!(peak < MEMORY_KIB_MAX, "the agent had {peak} KiB, expected < {MEMORY_KIB_MAX}");
        Ok(())
    }
}

/// The most memory that a process has had, in KiB.
fn peak_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// Sends from a thread of its own, so that answers can be read meanwhile.
fn send(
    client: &Client,
    messages: impl Iterator<Item = Vec<u8>> + Send + 'static,
) -> Result<thread::JoinHandle<Result>> {
    let mut stream = client.stream.stream.try_clone()?;
    Ok(thread::spawn(move || {
        for message in messages {
            stream.write_all(&message)?;
        }
        Ok(())
    }))
}

fn sent(sender: thread::JoinHandle<Result>) -> Result {
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?
}

#[test]
fn statements_sent_all_at_once_have_each_an_intent_and_an_outcome() -> Result {
    gate!();
    let stage = Stage::new("pipelined")?;
    let mut client = stage.client()?;
    let mark = mark("pipelined");
    let parse = wire::parse("s", &format!("select $1::text -- {mark}"));
    let each = (0..PIPELINED).map(|number| {
        [wire::bind("", "s", &[Some(&number.to_string())]), wire::execute("", 0)].concat()
    });
    let sender = send(&client, [parse].into_iter().chain(each).chain([wire::sync()]))?;
    let frames = wire::read_until_ready(&mut client.stream)?;
    sent(sender)?;
    assert_eq!(frames.iter().filter(|frame| frame.tag == b'C').count(), PIPELINED);
    drop(client);
    let recorded = stage.wait_for(&mark, PIPELINED)?;
    assert_eq!(recorded.len(), PIPELINED);
    ensure!(recorded.iter().all(|s| s["outcome"] == "completed"), "{:?}", recorded.first());
    let mut numbers: Vec<usize> = recorded
        .iter()
        .map(|s| Ok(s["params"][0]["value"].as_str().context("a value")?.parse()?))
        .collect::<Result<_>>()?;
    numbers.sort_unstable();
    ensure!(numbers.iter().copied().eq(0..PIPELINED), "another number of parameters");
    stage.finish()
}

#[test]
fn long_texts_are_held_up_to_the_limit_and_say_how_long_they_were() -> Result {
    gate!();
    let stage = Stage::new("texts")?;
    let mut client = stage.client()?;
    for bytes in [TEXT_BYTES_MAX - 1, TEXT_BYTES_MAX, TEXT_BYTES_MAX + 1, 1 << 20] {
        let mark = mark("text");
        let mut sql = format!("select 1 -- {mark} ");
        sql.extend(std::iter::repeat_n('x', bytes - sql.len()));
        assert_eq!(client.value(&sql)?, "1");
        let statement = stage.wait_for(&mark, 1)?.remove(0);
        let held = statement["text"].as_str().context("a text")?;
        // An entry has less room than the limit: the rest lies beside it, bound by a commitment.
        assert_eq!(statement["text_bytes"], bytes, "{bytes}");
        ensure!(held.len() < bytes && sql.starts_with(held), "{} of {bytes}", held.len());
        ensure!(statement["text_commitment"].is_string(), "{bytes}: no commitment");
        let entries = stage.scene.agent.entries()?;
        let intent = entries.iter().find(|entry| {
            entry.is("intent") && entry.fields["text"].as_str().is_some_and(|t| t.contains(&mark))
        });
        let beside = intent.and_then(|intent| intent.values.as_deref()).context("values")?;
        let kept = &sql.as_bytes()[..bytes.min(TEXT_BYTES_MAX)];
        ensure!(beside.windows(kept.len()).any(|part| part == kept), "{bytes}: not all is kept");
        ensure!(beside.len() < kept.len() + 512, "{bytes}: {} bytes beside", beside.len());
    }
    drop(client);
    stage.finish()
}

#[test]
fn a_long_parameter_and_a_long_copy_are_recorded_with_their_lengths() -> Result {
    gate!();
    let stage = Stage::new("long")?;
    let mut client = stage.client()?;
    let word = mark("parameter");
    let value = "v".repeat(PARAMETER_BYTES);
    let messages = [
        wire::parse("", &format!("select length($1::text) -- {word}")),
        wire::bind("", "", &[Some(&value)]),
        wire::execute("", 0),
        wire::sync(),
    ];
    drop(value);
    let sender = send(&client, messages.into_iter())?;
    let frames = wire::read_until_ready(&mut client.stream)?;
    sent(sender)?;
    assert_eq!(wire::first_value(&frames), Some(PARAMETER_BYTES.to_string()));
    let statement = stage.wait_for(&word, 1)?.remove(0);
    assert_eq!(statement["params"][0]["value_bytes"], PARAMETER_BYTES);

    client.simple("create temp table pieces (x text)")?;
    let word = mark("copy");
    client.stream.write_all(&wire::query(&format!("copy pieces from stdin -- {word}")))?;
    let opened = wire::read_frame(&mut client.stream)?.context("an answer")?;
    assert_eq!(opened.tag, b'G', "{opened:?}");
    let mut line = "c".repeat(PIECE_BYTES - 1);
    line.push('\n');
    let piece = wire::copy_data(line.as_bytes());
    let pieces = COPIED_BYTES / PIECE_BYTES;
    let all = std::iter::repeat_n(piece, pieces).chain([wire::copy_done()]);
    let sender = send(&client, all)?;
    let frames = wire::read_until_ready(&mut client.stream)?;
    sent(sender)?;
    ensure!(frames.iter().any(|frame| frame.tag == b'C'), "{}", wire::outline(&frames));
    let statement = stage.wait_for(&word, 1)?.remove(0);
    assert_eq!(statement["copy_in"]["bytes"], COPIED_BYTES, "{statement}");
    assert_eq!(statement["copy_in"]["rows"], pieces, "{statement}");
    drop(client);
    stage.finish()
}
