//! The store without its threads, on a disk in memory, beside a model of what it must hold.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::committer::Committer;
use super::disk::Disk as _;
use super::frame::{FRAME_BYTES, HEADER_BYTES, Head};
use super::keeper::Keeper;
use super::names::{self, Form};
use super::open::{OpenError, parts};
use super::recover::{Corrupt, TornTail, recover};
use super::scan::{Part, scan};
use super::shared::{Settings, Shared};
use super::sim::SimDisk;
use super::sink::{Class, NotRecorded, Put, Sink, Ticket};
use super::watch::{Finished, Notice, Unsealed, Watch};
use crate::audit::chain::{Hash, Tree};
use crate::config::OnFull;

pub(super) const ORIGIN: &str = "test/00000000-0000-4000-8000-000000000000/1";

/// Small enough that a few records fill a segment.
pub(super) fn settings() -> Settings {
    Settings {
        segment_bytes: 8 << 10,
        reserve_bytes: 8 << 10,
        quota_bytes: 1 << 30,
        on_full: OnFull::Block,
        async_bytes_max: 1 << 20,
        async_delay_max: Duration::from_secs(1),
        hangs_after: Duration::from_secs(5),
    }
}

/// Keeps what it hears.
#[derive(Debug, Default)]
pub(super) struct Heard(pub(super) Mutex<Vec<Notice>>, pub(super) Mutex<Vec<Finished>>);

impl Heard {
    pub(super) fn notices(&self) -> Vec<Notice> {
        self.0.lock().expect("no test panics under it").clone()
    }

    pub(super) fn finished(&self) -> Vec<Finished> {
        self.1.lock().expect("no test panics under it").clone()
    }
}

impl Watch for Heard {
    fn notice(&self, notice: Notice) {
        self.0.lock().expect("no test panics under it").push(notice);
    }

    fn finished(&self, segment: &Finished) {
        self.1.lock().expect("no test panics under it").push(segment.clone());
    }
}

/// What was put, and what of it was said to be durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    sinks: Vec<Vec<Hash>>,
    /// How many of each sink are durable.
    durable: Vec<usize>,
    /// Values of the records that have some.
    values: HashMap<Hash, Vec<u8>>,
}

impl Model {
    /// Checks a log that was read back.
    pub(super) fn check(&self, found: &ReadBack, case: &str) {
        let (leaves, tree) = (&found.leaves, &found.tree);
        for (index, leaf) in leaves.iter().enumerate() {
            let values = found.values.get(&(index as u64));
            assert_eq!(values, self.values.get(leaf), "{case}: values of {index}");
        }
        let known: HashMap<Hash, (usize, usize)> = self
            .sinks
            .iter()
            .enumerate()
            .flat_map(|(sink, puts)| puts.iter().enumerate().map(move |(at, l)| (*l, (sink, at))))
            .collect();
        let mut found = vec![0; self.sinks.len()];
        let mut rebuilt = Tree::new();
        for leaf in leaves {
            let (sink, at) = *known.get(leaf).unwrap_or_else(|| panic!("{case}: a phantom"));
            assert_eq!(at, found[sink], "{case}: order of sink {sink}");
            found[sink] += 1;
            rebuilt.append(*leaf);
        }
        for (sink, (found, durable)) in found.iter().zip(&self.durable).enumerate() {
            assert!(found >= durable, "{case}: sink {sink} lost {durable} - {found} records");
        }
        assert_eq!(rebuilt, *tree, "{case}: another tree");
    }
}

/// The store in one thread.
pub(super) struct Rig {
    pub(super) shared: Arc<Shared>,
    pub(super) committer: Committer<SimDisk>,
    pub(super) keeper: Keeper<SimDisk>,
    pub(super) heard: Arc<Heard>,
    pub(super) torn: Option<TornTail>,
    pub(super) crashed: bool,
    pub(super) sinks: Vec<Tracked>,
}

/// A sink, and where the model has it.
pub(super) struct Tracked {
    pub(super) sink: Sink,
    number: usize,
    tickets: Vec<Ticket>,
}

/// What was read back.
pub(super) struct ReadBack {
    pub(super) leaves: Vec<Hash>,
    pub(super) tree: Tree,
    pub(super) corrupt: Option<Corrupt>,
    /// By index.
    values: HashMap<u64, Vec<u8>>,
}

/// Reads a log, as a start does.
pub(super) fn read_back(disk: &SimDisk) -> io::Result<ReadBack> {
    let recovered = recover(Arc::new(disk.clone()), ORIGIN)?;
    let mut leaves = Vec::new();
    let (tree, corrupt) = (recovered.tree.clone(), recovered.corrupt.clone());
    if corrupt.is_none() {
        recovered.leaves(0, |_, leaf| leaves.push(leaf))?;
    }
    Ok(ReadBack { leaves, tree, corrupt, values: values(disk)? })
}

/// Values of raw and packed segments, by index.
fn values(disk: &SimDisk) -> io::Result<HashMap<u64, Vec<u8>>> {
    let mut values = HashMap::new();
    for name in disk.names() {
        match names::parse(&name) {
            Some((_, Form::Raw)) => {
                let _damaged = scan(&disk.open(&name)?, ORIGIN, None, |part| {
                    if let Part::Values { index, bytes } = part {
                        values.insert(index, bytes.to_vec());
                    }
                    Ok(())
                })?;
            }
            Some((_, Form::Values)) => {
                let content = disk.content(&name).unwrap_or_default();
                let mut rest = content.get(HEADER_BYTES..).unwrap_or_default();
                while let Some((head, behind)) = rest.split_first_chunk::<FRAME_BYTES>() {
                    let Some(head) = Head::decode(head) else { break };
                    let (payload, behind) = behind.split_at(head.payload_bytes.min(behind.len()));
                    if !head.fits(payload) {
                        break;
                    }
                    let (index, bytes) = payload.split_first_chunk().expect("an index");
                    values.insert(u64::from_be_bytes(*index), bytes.to_vec());
                    rest = behind;
                }
            }
            Some((_, Form::Pack)) | None => {}
        }
    }
    Ok(values)
}

impl Rig {
    /// Starts, with two sinks.
    pub(super) fn open(disk: &SimDisk, model: &mut Model) -> Result<Self, OpenError> {
        Self::open_with(disk, model, settings())
    }

    pub(super) fn open_with(
        disk: &SimDisk,
        model: &mut Model,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Disk { operation: "read", source };
        let recovered = recover(Arc::new(disk.clone()), ORIGIN).map_err(failed)?;
        let (torn, crashed) = (recovered.torn.clone(), recovered.crashed);
        let heard = Arc::new(Heard::default());
        let watch = Arc::clone(&heard) as Arc<dyn Watch>;
        let (shared, committer, keeper) = parts(recovered, settings, Box::new(Unsealed), watch, 0)?;
        let mut rig = Self { shared, committer, keeper, heard, torn, crashed, sinks: vec![] };
        rig.add_sink(model);
        rig.add_sink(model);
        Ok(rig)
    }

    fn add_sink(&mut self, model: &mut Model) {
        let sink = Sink::new(Arc::clone(&self.shared));
        self.sinks.push(Tracked { sink, number: model.sinks.len(), tickets: Vec::new() });
        model.sinks.push(Vec::new());
        model.durable.push(0);
    }

    /// Puts a record of about `bytes` that is like no other.
    pub(super) fn put(
        &mut self,
        model: &mut Model,
        sink: usize,
        class: Class,
        bytes: usize,
        values: &[u8],
    ) -> Result<Put, NotRecorded> {
        let tracked = &mut self.sinks[sink];
        let puts = &mut model.sinks[tracked.number];
        let text = format!("{}-{}-", tracked.number, puts.len());
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(text.as_bytes());
            out.resize(out.len() + bytes, b'x');
        };
        let put = tracked.sink.put(class, write, values)?;
        puts.push(put.leaf);
        if !values.is_empty() {
            model.values.insert(put.leaf, values.to_vec());
        }
        tracked.tickets.push(put.ticket);
        Ok(put)
    }

    /// Commits, and notes what is durable by now.
    pub(super) fn round(&mut self, model: &mut Model) -> Result<(), NotRecorded> {
        let result = self.committer.round();
        self.note(model);
        result
    }

    /// Notes what is durable. Nothing may be said to be durable behind something that is not.
    pub(super) fn note(&mut self, model: &mut Model) {
        for tracked in &self.sinks {
            let durable = tracked.tickets.iter().take_while(|t| tracked.ends(**t) == Ok(true));
            let durable = durable.count();
            let before = model.durable[tracked.number];
            model.durable[tracked.number] = before.max(durable);
        }
    }
}

impl Tracked {
    /// Whether a ticket is durable by now.
    pub(super) fn ends(&self, ticket: Ticket) -> Result<bool, NotRecorded> {
        match self.sink.poll_durable(ticket, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(_recorded)) => Ok(true),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(false),
        }
    }
}
