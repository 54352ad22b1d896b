//! Seals as entries of the store's log: [`Seals`] and the keys, driven by the thread that commits.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use pgward_verify::{Entry, Epoch, ReadError};
use tracing::error;

use super::{
    chain::{Ending, Hash, LastSeal, Origin, Seal, SealKind, Seals},
    keys::{HostKey, SealKey, SealKeyMaker},
    maintenance,
    publish::Publisher,
    record::{Record, Stamp},
    salt::salt,
    schema::{EventKind, f},
    store::{Chain, Moment},
    time::Now,
};

/// How a run's seals begin.
#[derive(Debug)]
pub struct Beginning {
    /// The log.
    pub origin: Origin,
    /// Its last seal, see [`last_seal`].
    pub last: Option<LastSeal>,
    /// The key that the run before passed on.
    pub passed_on: Option<SealKey>,
    /// Time between two seals.
    pub every: Duration,
    /// Size of the log from which on it is sealed: its size at the start, and the entries of the
    /// start itself, at least one. Those say why the chain begins anew and must come before it.
    pub from: u64,
}

/// Makes the seals of a run. Given to the store; [`Sealing`] is the end of it that others hold.
pub struct Sealer {
    seals: Seals<SealKeyMaker>,
    host: Arc<HostKey>,
    publisher: Arc<Publisher>,
    from: u64,
    durable: u64,
    /// Index of the seal that is on its way to the disk.
    pending: Option<(u64, Now)>,
    sealing: Arc<Sealing>,
}

/// What others know of the seals, and say to them.
#[derive(Debug)]
pub struct Sealing {
    begins_with: SealKind,
    state: Mutex<SealingState>,
}

#[derive(Debug)]
struct SealingState {
    ending: Ending,
    last: Option<Now>,
}

impl Sealing {
    /// Kind of the run's first seal. [`SealKind::Restart`] needs a `recovery` entry before it, unless
    /// the run before ended with a final seal.
    pub fn begins_with(&self) -> SealKind {
        self.begins_with
    }

    /// When the newest durable seal was made, in this run.
    pub fn last(&self) -> Option<Now> {
        self.state().last
    }

    /// Says how the last seal is to end the run. Before the store is closed; without it, it is final.
    pub fn end_with(&self, ending: Ending) {
        self.state().ending = ending;
    }

    fn state(&self) -> MutexGuard<'_, SealingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sealer {
    /// Begins a run.
    pub fn new(beginning: Beginning, host: Arc<HostKey>, publisher: Arc<Publisher>) -> Self {
        let Beginning { origin, last, passed_on, every, from } = beginning;
        let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        let now = Now::read().boot.0;
        let seals = Seals::begin(origin, last, passed_on, SealKeyMaker, every, now);
        let sealing = Sealing {
            begins_with: seals.next_kind().expect("a run that begins is not sealed"),
            state: Mutex::new(SealingState { ending: Ending::Final, last: None }),
        };
        let sealing = Arc::new(sealing);
        Self { seals, host, publisher, from, durable: 0, pending: None, sealing }
    }

    /// The other end.
    pub fn sealing(&self) -> Arc<Sealing> {
        self.sealing.clone()
    }

    fn next(&mut self, size: u64, root: &Hash, moment: Moment, now: Now) -> Option<Seal> {
        if size < self.from {
            return None;
        }
        let (host, time, boot) = (&self.host, now.wall.0, now.boot.0);
        let seal = match moment {
            Moment::Regular if !self.seals.due(boot) => return None,
            Moment::Regular => self.seals.next(size, *root, time, boot, host),
            Moment::Closing => {
                let ending = self.sealing.state().ending;
                self.seals.finish(size, *root, time, ending, host)
            }
        };
        seal.inspect_err(|error| error!(%error, "the log is not sealed")).ok()
    }
}

impl Chain for Sealer {
    fn due(&self) -> Option<Instant> {
        let due = self.seals.next_due().filter(|_| self.durable >= self.from)?;
        let wait = due.saturating_sub(Now::read().boot.0);
        Instant::now().checked_add(Duration::from_nanos(wait))
    }

    fn entry(&mut self, size: u64, root: &Hash, moment: Moment, out: &mut Vec<u8>) -> bool {
        let now = Now::read();
        let Some(seal) = self.next(size, root, moment, now) else { return false };
        let record = maintenance::Seal {
            number: seal.number,
            size: seal.size,
            root: &seal.root,
            kind: seal.kind.number(),
            next: &seal.next,
            signature: &seal.signature,
        };
        Record::Seal(&record).write(&Stamp::agent(now), &salt(), out);
        self.pending = Some((size, now));
        true
    }

    fn committed(&mut self, leaves: &[Hash], size: u64, root: &Hash) {
        self.durable = size;
        if let Some((_, now)) = self.pending.take_if(|(index, _)| *index < size) {
            self.seals.durable();
            self.sealing.state().last = Some(now);
        }
        self.publisher.durable(leaves, size, *root);
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("seals", &self.seals).finish_non_exhaustive()
    }
}

/// The last seal of an epoch's first `size` entries. Reads from the newest segment back to the first
/// that has one. Whether it is a good seal is not checked: that is for who verifies the log.
pub fn last_seal(epoch: &Epoch, size: u64) -> Result<Option<LastSeal>, ReadError> {
    let mut end = size;
    for piece in epoch.pieces().iter().rev().filter(|piece| piece.first < size) {
        let (mut last, mut entries) = (None, epoch.entries_from(piece.first));
        while let Some(record) = entries.next()?.filter(|record| record.index < end) {
            last = seal_of(record.bytes).or(last);
        }
        if last.is_some() {
            return Ok(last);
        }
        end = piece.first;
    }
    Ok(None)
}

fn seal_of(entry: &[u8]) -> Option<LastSeal> {
    let entry = Entry::decode(entry).ok()?;
    let field = u64::from;
    if entry.event() != EventKind::Seal.number() {
        return None;
    }
    Some(LastSeal {
        number: entry.uint(field(f::SEAL_NUMBER))?,
        kind: SealKind::of_number(entry.uint(field(f::SEAL_KIND))?)?,
        next: *entry.array(field(f::SEAL_NEXT))?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::{
        super::{
            chain::{Signer as _, Tree, leaf_hash},
            keys::test_folder,
            publish::Published,
            schema::words,
        },
        *,
    };

    fn origin() -> Origin {
        Origin::new("pgward", "6f1c0b6e-8a55-4d6e-9f0a-2f8f5a3c1d2e", 1).expect("a good name")
    }

    fn host() -> Arc<HostKey> {
        Arc::new(HostKey::from_seed(&[9; 32]))
    }

    /// Plays the store: entries become durable at once.
    struct Log {
        _guard: tempfile::TempDir,
        published: mpsc::Receiver<Published>,
        sealer: Sealer,
        tree: Tree,
        seals: Vec<(LastSeal, Vec<u8>)>,
    }

    impl Log {
        fn begin(every: Duration, from: u64, last: Option<LastSeal>, key: Option<SealKey>) -> Self {
            let (guard, folder) = test_folder();
            let (sender, published) = mpsc::sync_channel(16);
            let hand_on = move |new| sender.send(new).expect("the test listens");
            let publisher = Publisher::start(folder, origin(), host(), None, hand_on);
            let beginning = Beginning { origin: origin(), last, passed_on: key, every, from };
            let sealer = Sealer::new(beginning, host(), Arc::new(publisher.expect("ours")));
            Self { _guard: guard, published, sealer, tree: Tree::new(), seals: Vec::new() }
        }

        fn append(&mut self, entry: &[u8]) {
            let leaf = leaf_hash(entry);
            self.tree.append(leaf);
            self.sealer.committed(&[leaf], self.tree.size(), &self.tree.root());
        }

        /// Asks for a seal. `false`: there was none.
        fn ask(&mut self, moment: Moment) -> bool {
            let (size, root, mut entry) = (self.tree.size(), self.tree.root(), Vec::new());
            if !self.sealer.entry(size, &root, moment, &mut entry) {
                assert!(entry.is_empty());
                return false;
            }
            assert_eq!(self.sealer.due(), None, "one at a time");
            let read = Entry::decode(&entry).expect("canonical");
            assert_eq!(read.uint(u64::from(f::SEAL_SIZE)), Some(size));
            assert_eq!(read.array(u64::from(f::SEAL_ROOT)), Some(&root));
            let last = seal_of(&entry).expect("a seal");
            self.append(&entry);
            self.seals.push((last, entry));
            true
        }

        fn kinds(&self) -> Vec<SealKind> {
            self.seals.iter().map(|(seal, _)| seal.kind).collect()
        }

        /// Whether each seal is signed over its own fields by the key that it must be signed with.
        fn is_signed(&self, first: [u8; 32]) -> bool {
            let mut key = first;
            self.seals.iter().all(|(last, entry)| {
                let entry = Entry::decode(entry).expect("canonical");
                let seal = Seal {
                    number: last.number,
                    size: entry.uint(u64::from(f::SEAL_SIZE)).expect("there"),
                    root: *entry.array(u64::from(f::SEAL_ROOT)).expect("there"),
                    time: entry.time_ns(),
                    kind: last.kind,
                    next: last.next,
                    signature: *entry.array(u64::from(f::SEAL_SIGNATURE)).expect("there"),
                };
                let by = std::mem::replace(&mut key, last.next);
                let verifier = aws_lc_rs::signature::UnparsedPublicKey::new(
                    &aws_lc_rs::signature::ED25519,
                    by,
                );
                verifier.verify(seal.message(&origin()).as_bytes(), &seal.signature).is_ok()
            })
        }
    }

    #[test]
    fn a_run_is_sealed_from_its_first_entries_to_its_end() {
        let mut log = Log::begin(Duration::ZERO, 2, None, None);
        assert_eq!(log.sealer.sealing().begins_with(), SealKind::First);
        for _ in 0..2 {
            assert_eq!(log.sealer.due(), None, "not before why the log begins");
            assert!(!log.ask(Moment::Regular) && !log.ask(Moment::Closing));
            log.append(b"entry of the start");
        }
        assert!(log.sealer.due().is_some_and(|due| due <= Instant::now()));
        assert!(log.sealer.sealing().last().is_none());
        assert!(log.ask(Moment::Regular) && log.ask(Moment::Regular));
        assert!(log.sealer.sealing().last().is_some());
        assert!(log.ask(Moment::Closing));
        assert!(!log.ask(Moment::Regular), "the run is sealed");
        assert_eq!(log.kinds(), [SealKind::First, SealKind::Regular, SealKind::Final]);
        assert!(log.is_signed(host().public_key()));
        assert!(!log.is_signed([0; 32]));
        let (size, root) = (log.tree.size(), log.tree.root());
        drop(log.sealer);
        let last = log.published.iter().last().map(|new| (new.size, new.root));
        assert_eq!(last, Some((size, root)), "the end is published");
    }

    #[test]
    fn the_next_run_goes_on_with_the_key_it_was_given() {
        let mut log = Log::begin(Duration::ZERO, 0, None, None);
        assert!(log.ask(Moment::Regular));
        let successor = SealKey::fresh().expect("random");
        log.sealer.sealing().end_with(Ending::Handover(successor.public_key()));
        assert!(log.ask(Moment::Closing));
        assert_eq!(log.kinds(), [SealKind::First, SealKind::Handover]);
        let (last, _) = log.seals.pop().expect("two");
        let public = successor.public_key();

        let mut next = Log::begin(Duration::ZERO, 0, Some(last), Some(successor));
        assert_eq!(next.sealer.sealing().begins_with(), SealKind::Regular);
        assert!(next.ask(Moment::Regular));
        assert_eq!(next.seals[0].0.number, 2);
        assert!(next.is_signed(public));
        let mut without = Log::begin(Duration::ZERO, 0, Some(last), None);
        assert_eq!(without.sealer.sealing().begins_with(), SealKind::Restart);
        assert!(without.ask(Moment::Regular) && without.is_signed(host().public_key()));
    }

    #[test]
    fn seals_wait_for_their_time() {
        let mut log = Log::begin(Duration::from_secs(3600), 0, None, None);
        assert!(log.ask(Moment::Regular), "the first comes at once");
        assert!(!log.ask(Moment::Regular));
        let due = log.sealer.due().expect("in an hour");
        assert!(due > Instant::now() + Duration::from_secs(3500));
    }

    /// A segment of one batch, as the format has it.
    fn segment(folder: &std::path::Path, tree: &mut Tree, trailer: u64, entries: &[Vec<u8>]) {
        let first = tree.size();
        let name = origin().to_string();
        let mut file = b"pgward segment 1".to_vec();
        file.extend(first.to_be_bytes());
        file.extend(tree.root());
        file.extend(trailer.to_be_bytes());
        file.extend((name.len() as u16).to_be_bytes());
        file.extend(name.as_bytes());
        file.resize(508, 0);
        file.extend(crc32c::crc32c(&file).to_be_bytes());
        let mut frame = |kind: u8, payload: &[u8]| {
            let checked = [&[kind], payload].concat();
            file.extend((payload.len() as u32).to_be_bytes());
            file.extend(crc32c::crc32c(&checked).to_be_bytes());
            file.extend(checked);
        };
        for entry in entries {
            frame(1, entry);
            tree.append(leaf_hash(entry));
        }
        let end = [&tree.size().to_be_bytes()[..], &tree.root()].concat();
        frame(3, &[&end[..], &trailer.to_be_bytes()].concat());
        frame(4, &end);
        std::fs::write(folder.join(format!("segment-{first:020}.log")), file).expect("ours");
    }

    #[test]
    fn the_last_seal_is_found_in_an_earlier_segment() {
        let mut log = Log::begin(Duration::ZERO, 0, None, None);
        assert!((0..3).all(|_| log.ask(Moment::Regular)));
        let seals: Vec<_> = log.seals.iter().map(|(_, entry)| entry.clone()).collect();
        let mut other = Vec::new();
        let stop = super::super::AgentStop { reason: "", sessions: 0, statements: 0 };
        Record::AgentStop(&stop).write(&Stamp::agent(Now::read()), &salt(), &mut other);

        let guard = tempfile::tempdir().expect("a temporary folder");
        let find = |size| {
            let epoch = Epoch::open(guard.path().to_owned(), 1).expect("a folder");
            last_seal(&epoch, size).expect("good segments").map(|seal| seal.number)
        };
        assert_eq!(find(0), None);
        let mut tree = Tree::new();
        let first = [other.clone(), seals[0].clone(), seals[1].clone(), other.clone()];
        segment(guard.path(), &mut tree, 0, &first);
        segment(guard.path(), &mut tree, 1, &[other.clone(), other.clone()]);
        assert_eq!((find(6), find(5), find(4), find(3)), (Some(1), Some(1), Some(1), Some(1)));
        assert_eq!((find(2), find(1)), (Some(0), None));
        segment(guard.path(), &mut tree, 2, &[seals[2].clone(), other]);
        assert_eq!((find(8), find(7), find(6)), (Some(2), Some(2), Some(1)));
    }

    #[test]
    fn kinds_are_those_of_the_schema() {
        for (number, name) in words::SEALS.iter().enumerate() {
            let kind = SealKind::of_number(number as u64).expect("as many");
            assert_eq!(kind.name(), *name);
        }
        assert_eq!(SealKind::of_number(words::SEALS.len() as u64), None);
    }
}
