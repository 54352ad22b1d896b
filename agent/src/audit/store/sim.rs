//! A disk in memory that loses power and breaks on purpose.
//!
//! What was written and not synced may be on the surface after a power loss or not, sector by
//! sector, in any combination; so may the growth of a file. Names change in the order in which they
//! were changed, up to some point (as a journal keeps them); after a sync of the folder all are
//! there. Every operation that changes something counts, and power can be cut before each, and in
//! the middle of a write.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::errno::Errno;

use super::disk::{Disk, DiskFile};

const SECTOR: usize = 512;

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct SimDisk(Arc<Mutex<State>>);

/// A file of it.
#[derive(Debug)]
pub(super) struct SimFile {
    disk: SimDisk,
    inode: usize,
}

/// Which operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Create,
    Write,
    Sync,
    Rename,
    SyncFolder,
}

/// What survives a power loss of that which was not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Survival {
    Nothing,
    Everything,
    /// Only the sector of this number, counted over all that were not synced.
    Only(usize),
    /// All but that.
    AllBut(usize),
    /// As a random number of this seed says.
    Random(u64),
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since the folder was synced.
    name_changes: Vec<Change>,
    /// Operations so far.
    operations: usize,
    /// Power is cut before the operation of this number.
    cut_at: Option<usize>,
    dead: bool,
    /// Operations that fail: how many of the kind pass before, how many fail, with what.
    faults: Vec<Fault>,
    /// Bytes that files may have together.
    bytes_max: Option<u64>,
    moved: bool,
}

#[derive(Debug)]
struct Fault {
    op: Op,
    name: Option<String>,
    pass: usize,
    fail: usize,
    errno: Errno,
}

#[derive(Clone, Debug)]
enum Change {
    Add(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// As a process sees it.
    content: Vec<u8>,
    /// As it is on the surface.
    durable: Vec<u8>,
    /// An `fdatasync` failed: these sectors were dropped, and the next one will not say so.
    syncs: usize,
    failed_syncs: usize,
}

impl Inode {
    /// Sectors that differ between memory and surface.
    fn dirty(&self) -> Vec<usize> {
        let sectors = self.content.len().max(self.durable.len()).div_ceil(SECTOR);
        let sector = |bytes: &[u8], at: usize| {
            let from = (at * SECTOR).min(bytes.len());
            bytes[from..((at + 1) * SECTOR).min(bytes.len())].to_vec()
        };
        let differs = |at: &usize| sector(&self.content, *at) != sector(&self.durable, *at);
        (0..sectors).filter(differs).collect()
    }

    fn persist(&mut self, sector: usize) {
        let from = sector * SECTOR;
        let to = (from + SECTOR).min(self.content.len());
        if self.durable.len() < to {
            self.durable.resize(to, 0);
        }
        self.durable[from..to].copy_from_slice(&self.content[from..to]);
    }
}

impl SimDisk {
    /// Cuts power before the operation of this number, counted from now.
    pub(super) fn cut_power_after(&self, operations: usize) {
        let mut state = self.state();
        state.cut_at = Some(state.operations + operations);
    }

    /// Operations so far.
    pub(super) fn operations(&self) -> usize {
        self.state().operations
    }

    /// Has `fail` operations fail, after `pass` of the kind.
    pub(super) fn fail(&self, op: Op, pass: usize, fail: usize, errno: Errno) {
        self.state().faults.push(Fault { op, name: None, pass, fail, errno });
    }

    /// The same for a file of that name only.
    pub(super) fn fail_file(&self, op: Op, name: &str, errno: Errno) {
        let name = Some(name.to_owned());
        self.state().faults.push(Fault { op, name, pass: 0, fail: usize::MAX, errno });
    }

    /// Nothing fails any more.
    pub(super) fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.bytes_max = None;
        state.moved = false;
    }

    /// Limits the bytes that files may have together.
    pub(super) fn limit(&self, bytes_max: u64) {
        self.state().bytes_max = Some(bytes_max);
    }

    /// Bytes that files have together.
    pub(super) fn bytes(&self) -> u64 {
        self.state().bytes()
    }

    /// Somebody puts another folder in its place.
    pub(super) fn replace_folder(&self) {
        self.state().moved = true;
    }

    /// Sectors that a power loss would put at risk.
    pub(super) fn dirty_sectors(&self) -> usize {
        self.state().inodes.iter().map(|inode| inode.dirty().len()).sum()
    }

    /// The disk after a power loss.
    pub(super) fn after_power_loss(&self, survival: Survival) -> Self {
        let state = self.state();
        let mut random = Random(match survival {
            Survival::Random(seed) => seed,
            _ => 0,
        });
        let mut number = 0;
        let mut survives = |random: &mut Random| {
            number += 1;
            match survival {
                Survival::Nothing => false,
                Survival::Everything => true,
                Survival::Only(one) => number - 1 == one,
                Survival::AllBut(one) => number - 1 != one,
                Survival::Random(_) => random.next().is_multiple_of(2),
            }
        };
        let inodes = state.inodes.iter().cloned().map(|mut inode| {
            for sector in inode.dirty() {
                if survives(&mut random) {
                    inode.persist(sector);
                }
            }
            Inode { content: inode.durable.clone(), durable: inode.durable, ..Inode::default() }
        });
        let inodes = inodes.collect();
        let changes = match survival {
            Survival::Nothing | Survival::Only(_) => 0,
            Survival::Everything | Survival::AllBut(_) => state.name_changes.len(),
            Survival::Random(_) => random.next() as usize % (state.name_changes.len() + 1),
        };
        let mut names = state.durable_names.clone();
        state.name_changes[..changes].iter().for_each(|change| change.apply(&mut names));
        let durable_names = names.clone();
        Self(Arc::new(Mutex::new(State { inodes, names, durable_names, ..State::default() })))
    }

    /// The disk as a process that starts after a crash of the one before sees it.
    pub(super) fn after_crash(&self) -> Self {
        let mut state = self.state();
        state.faults.clear();
        state.dead = false;
        state.cut_at = None;
        drop(state);
        self.clone()
    }

    /// What a file holds.
    pub(super) fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).map(|inode| state.inodes[*inode].content.clone())
    }

    /// Changes a file behind everybody's back.
    pub(super) fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = state.names[name];
        let inode = &mut state.inodes[inode];
        change(&mut inode.content);
        inode.durable = inode.content.clone();
    }

    /// How often files were synced after a sync of them had failed.
    pub(super) fn syncs_after_failure(&self) -> usize {
        self.state().inodes.iter().map(|inode| inode.failed_syncs).sum()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics under it")
    }

    /// Counts an operation and says whether it happens.
    fn step(&self, op: Op, name: &str) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.alive()?;
        if state.cut_at == Some(state.operations) {
            state.dead = true;
            return Err(Errno::EIO.into());
        }
        state.operations += 1;
        state.fault(op, name)?;
        Ok(state)
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(Errno::EIO.into()) } else { Ok(()) }
    }

    fn fault(&mut self, op: Op, name: &str) -> io::Result<()> {
        for fault in self.faults.iter_mut().filter(|fault| fault.op == op) {
            if fault.name.as_ref().is_some_and(|only| !name.starts_with(only.as_str())) {
                continue;
            }
            if fault.pass > 0 {
                fault.pass -= 1;
            } else if fault.fail > 0 {
                fault.fail -= 1;
                return Err(fault.errno.into());
            }
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn name_of(&self, inode: usize) -> String {
        let found = self.names.iter().find(|(_, there)| **there == inode);
        found.map(|(name, _)| name.clone()).unwrap_or_default()
    }

    fn bytes(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[*inode].content.len() as u64).sum()
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Add(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename(from, to) => {
                let inode = names.remove(from).expect("renamed files are there");
                names.insert(to.clone(), inode);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        state.alive()?;
        let length = |inode: &usize| state.inodes[*inode].content.len() as u64;
        Ok(state.names.iter().map(|(name, inode)| (name.clone(), length(inode))).collect())
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut state = self.step(Op::Create, name)?;
        if state.names.contains_key(name) {
            return Err(Errno::EEXIST.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.change(Change::Add(name.to_owned(), inode));
        Ok(SimFile { disk: self.clone(), inode })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let state = self.state();
        state.alive()?;
        let inode = *state.names.get(name).ok_or(Errno::ENOENT)?;
        Ok(SimFile { disk: self.clone(), inode })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.step(Op::Rename, from)?;
        if !state.names.contains_key(from) {
            return Err(Errno::ENOENT.into());
        }
        state.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.step(Op::Rename, name)?;
        if !state.names.contains_key(name) {
            return Err(Errno::ENOENT.into());
        }
        state.change(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.step(Op::SyncFolder, "")?;
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }

    fn is_in_place(&self) -> io::Result<bool> {
        Ok(!self.state().moved)
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.alive()?;
        Ok(state.inodes[self.inode].content.len() as u64)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let name = self.disk.state().name_of(self.inode);
        let mut state = self.disk.step(Op::Write, &name)?;
        let end = offset as usize + bytes.len();
        let grows = end.saturating_sub(state.inodes[self.inode].content.len()) as u64;
        if grows > 0 && state.bytes_max.is_some_and(|max| state.bytes() + grows > max) {
            return Err(Errno::ENOSPC.into());
        }
        let inode = &mut state.inodes[self.inode];
        if inode.content.len() < end {
            inode.content.resize(end, 0);
        }
        inode.content[offset as usize..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        state.alive()?;
        let content = &state.inodes[self.inode].content;
        let from = (offset as usize).min(content.len());
        let count = bytes.len().min(content.len() - from);
        bytes[..count].copy_from_slice(&content[from..from + count]);
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        let name = self.disk.state().name_of(self.inode);
        let result = self.disk.step(Op::Sync, &name).map(drop);
        let mut state = self.disk.state();
        let dead = state.dead;
        let inode = &mut state.inodes[self.inode];
        if inode.syncs > 0 && !dead {
            inode.failed_syncs += 1;
        }
        match result {
            Ok(()) => inode.durable = inode.content.clone(),
            // As Linux has it: what could not be written is clean from now on, and lost when it
            // leaves memory. Here it is kept apart until power goes.
            Err(_) => inode.syncs += 1,
        }
        result
    }
}

/// A small generator (xorshift), so that a seed names a case.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
