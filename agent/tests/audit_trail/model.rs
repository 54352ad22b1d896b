//! Row 50: a trail that is written, crashes, is pruned and shredded, beside a list in memory and a
//! tree of somebody else's making.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use pgward::audit::chain::Tree;
use pgward::audit::keep::Care;
use pgward::audit::schema::f;
use pgward::audit::{SessionId, Trail};
use pgward::config::Audit;
use pgward::control::{Prune, Shred, ShredScope};
use pgward_verify::Entry;
use pgward_verify::merkle::{Edge, Hash, leaf_hash};
use proptest::prelude::*;
use sha2_oracle::Sha256;
use tempfile::TempDir;

use crate::rig::{
    Session, assert_untampered, care, copy, entries, fill, open, settings, settle, verify,
};

/// One thing that happens to a trail.
#[derive(Clone, Debug)]
enum Step {
    Append {
        count: usize,
    },
    /// A session with sealed values.
    Session,
    /// An orderly stop and a start.
    Restart,
    /// A start with what was on disk at one moment; with `torn`, half of a batch behind it.
    Crash {
        torn: bool,
    },
    Prune,
    /// Of the newest session.
    Shred,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..400_usize).prop_map(|count| Step::Append { count }),
        2 => Just(Step::Session),
        2 => Just(Step::Restart),
        2 => any::<bool>().prop_map(|torn| Step::Crash { torn }),
        2 => Just(Step::Prune),
        2 => Just(Step::Shred),
    ];
    proptest::collection::vec(step, 1..14)
}

/// The trail, and what it must hold.
struct World {
    folder: TempDir,
    audit: Audit,
    trail: Arc<Trail>,
    care: Care,
    /// Each entry that was ever read, by index: none may change, and none may go but by pruning.
    known: Vec<Vec<u8>>,
    /// First entry that is there.
    minimum: u64,
    /// Leaves that were said to be durable.
    durable: Vec<Hash>,
    sessions: u64,
    shredded: HashSet<u64>,
    crashes: usize,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let audit = settings(folder.path());
        let trail = open(&audit).expect("opens");
        let care = care(&trail, &audit).expect("opens");
        Self {
            folder,
            audit,
            trail,
            care,
            known: Vec::new(),
            minimum: 0,
            durable: Vec::new(),
            sessions: 0,
            shredded: HashSet::new(),
            crashes: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append { count } => {
                let puts = fill(&self.trail.sink(), *count, 10).expect("durable");
                self.durable.extend(puts.iter().map(|put| put.leaf));
            }
            Step::Session => {
                self.sessions += 1;
                let id = self.session();
                let mut session = Session::begin(&self.trail, &self.audit, id).expect("begins");
                session.statement(b"SELECT 'x', $1", &[b"42"]).expect("durable");
                session.end().expect("durable");
            }
            Step::Restart => {
                self.trail.close().expect("all is written");
                self.start();
            }
            Step::Crash { torn } => self.crash(*torn),
            Step::Prune => {
                settle(&self.trail);
                self.learn();
                let all = Prune { before_ns: u64::MAX, dry_run: false };
                let pruned = self.care.prune(0, all).expect("recorded");
                assert!(pruned.minimum_index >= self.minimum);
                self.minimum = pruned.minimum_index;
            }
            Step::Shred if self.sessions > 0 => {
                let shred = Shred {
                    scope: ShredScope::Session,
                    target: hex::encode(self.session().bytes()),
                    reason: "asked to be forgotten".to_owned(),
                    approver: "counsel".to_owned(),
                };
                let erased = self.care.shred(0, &shred).expect("recorded");
                assert_eq!(erased, u64::from(self.shredded.insert(self.sessions)));
            }
            Step::Shred => {}
        }
        self.learn();
    }

    /// The newest session.
    fn session(&self) -> SessionId {
        SessionId { epoch: 7, counter: self.sessions }
    }

    fn start(&mut self) {
        self.trail = open(&self.audit).expect("opens");
        self.care = care(&self.trail, &self.audit).expect("opens");
        assert_eq!(self.trail.origin().epoch(), 1, "a crash was taken for damage");
    }

    /// Goes on with a copy of the folder as it is now; the run before goes on with the old one, and
    /// nobody sees what it does.
    fn crash(&mut self, torn: bool) {
        settle(&self.trail);
        self.learn();
        self.crashes += 1;
        let name = format!("{}/audit", self.crashes);
        let copied = self.folder.path().join(name);
        fs::create_dir(copied.parent().expect("a folder above")).expect("a new folder");
        copy(&self.audit.directory, &copied);
        self.trail.close().expect("written where nobody looks");
        self.audit.directory = copied;
        if torn {
            tear(&self.audit.directory.join("epoch-1"));
        }
        self.start();
    }

    /// Reads all entries and compares them with what was known of them.
    fn learn(&mut self) {
        let mut next = self.minimum;
        for kept in entries(&self.audit.directory) {
            assert_eq!(kept.index, next, "entries are missing");
            next += 1;
            match self.known.get(kept.index as usize) {
                Some(before) => assert!(kept.bytes == *before, "entry {} changed", kept.index),
                None => self.known.push(kept.bytes),
            }
        }
        assert_eq!(next, self.known.len() as u64, "entries were forgotten");
        let there: HashSet<Hash> = self.known.iter().map(|entry| leaf_hash(entry)).collect();
        assert!(self.durable.iter().all(|leaf| there.contains(leaf)), "a durable entry is lost");
    }

    /// The end: all roots, of all sizes, of three trees, and what the verifier says.
    fn finish(mut self) {
        self.trail.close().expect("all is written");
        self.learn();
        let mut oracle = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        let (mut edge, mut tree) = (Edge::default(), Tree::new());
        let mut roots = vec![edge.root()];
        for (index, bytes) in self.known.iter().enumerate() {
            let entry = Entry::decode(bytes).expect("an entry");
            if let (Some(size), Some(root)) =
                (entry.uint(f::SEAL_SIZE.into()), entry.array::<32>(f::SEAL_ROOT.into()))
            {
                assert_eq!(*root, roots[size as usize], "the seal at {index}");
            }
            edge.push(leaf_hash(bytes));
            tree.append(leaf_hash(bytes));
            oracle.push(bytes.clone());
            let root = oracle.root();
            assert_eq!(edge.root()[..], root.as_bytes()[..], "the verifier's at {}", index + 1);
            assert_eq!(tree.root()[..], root.as_bytes()[..], "the agent's at {}", index + 1);
            roots.push(edge.root());
        }
        let report = verify(&self.audit, Vec::new()).expect("checked");
        assert_untampered(&report, "the model");
        let whole = roots.last().map(hex::encode);
        assert_eq!(report.epochs[0].root, whole, "{:?}", report.classes);
    }
}

/// Half a frame behind the last byte of the newest segment.
fn tear(epoch: &Path) {
    let trail = pgward_verify::store::Epoch::open(epoch.to_owned(), 1).expect("an epoch");
    let first = trail.pieces().last().expect("a segment").first;
    let path = trail.file(first, "log");
    let bytes = fs::read(&path).expect("a segment");
    // Frame by frame: a trailer may end with zeros.
    let length = |at: usize| bytes[at..].first_chunk().map(|n| u32::from_be_bytes(*n));
    let mut end = 512;
    while let Some(payload @ 1..) = length(end) {
        end += 9 + payload as usize;
    }
    let file = fs::OpenOptions::new().write(true).open(&path).expect("writable");
    file.write_all_at(&[0, 0, 4, 0, 1, 2, 3, 4, 1, 0xa5, 0xa5], end as u64).expect("written");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 8,
        max_shrink_iters: 20,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_trail_agrees_with_a_model_whatever_happens(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.finish();
    }
}
