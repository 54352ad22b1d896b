//! The thread that writes keys: many with one sync, each told when it is on disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot;

use super::super::key::Wrapped;
use super::file::{Found, Header, Owner, PARTS_MAX, Part, SLOT_BYTES, SLOTS_MAX, Slot, State};
use super::keys::{Keys, options};
use super::{Day, DayKey, Erased, KeyringError, Scope, Shared, index_key};

/// Slots that space is made for at once: a sync behind a write that lengthens the file costs more.
const SLOTS_AT_ONCE: u32 = 512;
/// Files that are kept open: sessions that began on an earlier day still bring new persons.
const OPEN_MAX: usize = 4;

/// What the thread is asked for.
pub(super) enum Job {
    Store(NewSlot),
    Shred { scope: Scope, reply: oneshot::Sender<Result<Erased, KeyringError>> },
}

/// A key to be written.
pub(super) struct NewSlot {
    pub(super) day: Arc<DayKey>,
    pub(super) owner: Owner,
    pub(super) time: u64,
    pub(super) wrapped: Wrapped,
    pub(super) reply: oneshot::Sender<Result<(), KeyringError>>,
}

pub(super) struct Writer {
    keys: Keys,
    shared: Arc<Shared>,
    /// The one used last is the last.
    open: Vec<Open>,
    /// Files that a write failed in: what the disk has of them is not known. At most
    /// [`PARTS_MAX`] a day.
    failed: Vec<Part>,
}

/// A file that is being written.
struct Open {
    day: Arc<DayKey>,
    part: Part,
    file: File,
    /// Slots that are used.
    used: u32,
    /// Slots that there is space for.
    space: u32,
}

impl Writer {
    pub(super) fn new(keys: Keys, shared: Arc<Shared>) -> Self {
        Self { keys, shared, open: Vec::new(), failed: Vec::new() }
    }

    /// Until the keyring is closed and nothing waits.
    pub(super) fn run(mut self) {
        loop {
            let jobs = {
                let mut state = self.shared.lock();
                while state.jobs.is_empty() && !state.closed {
                    let woken = self.shared.wake.wait(state);
                    state = woken.unwrap_or_else(PoisonError::into_inner);
                }
                std::mem::take(&mut state.jobs)
            };
            if jobs.is_empty() {
                return;
            }
            let mut batch: Vec<NewSlot> = Vec::new();
            for job in jobs {
                match job {
                    Job::Store(new) => {
                        if batch.last().is_some_and(|last| !Arc::ptr_eq(&last.day, &new.day)) {
                            self.store(std::mem::take(&mut batch));
                        }
                        batch.push(new);
                    }
                    Job::Shred { scope, reply } => {
                        self.store(std::mem::take(&mut batch));
                        let erased = self.shred(&scope);
                        // Whoever asked may have gone.
                        let _ = reply.send(erased.map_err(|e| KeyringError::Disk(e.kind())));
                    }
                }
            }
            self.store(batch);
        }
    }

    /// Writes keys of one day and tells their owners.
    fn store(&mut self, batch: Vec<NewSlot>) {
        let Some(day) = batch.first().map(|new| new.day.clone()) else {
            return;
        };
        let mut written = 0;
        let mut fault = None;
        while written < batch.len() && fault.is_none() {
            let left = &batch[written..];
            // What a failed sync left in a file is not known: the same keys go to another one.
            let stored = self.try_store(&day, left).or_else(|_| self.try_store(&day, left));
            match stored {
                Ok(count) => written += count,
                Err(error) => fault = Some(error),
            }
        }
        for (at, new) in batch.into_iter().enumerate() {
            let stored = match fault {
                Some(fault) if at >= written => Err(fault),
                Some(_) | None => Ok(()),
            };
            if let (Err(_), Owner::Subject(id)) = (stored, new.owner) {
                self.forget_person(id);
            }
            // Whoever asked may have gone.
            let _ = new.reply.send(stored);
        }
    }

    /// The key of a person is not on disk: the next statement about them gets another.
    fn forget_person(&self, id: [u8; 32]) {
        self.shared.lock().persons.remove(&id);
        self.shared.generation.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
    }

    /// Writes as many as the file has room for, durably. Gives how many.
    fn try_store(&mut self, day: &Arc<DayKey>, batch: &[NewSlot]) -> Result<usize, KeyringError> {
        let mut open = self.take_open(day)?;
        let stored = open.write(batch).map_err(|error| KeyringError::Disk(error.kind()));
        match stored {
            Err(_) => self.failed.push(open.part),
            Ok(_) if open.used >= SLOTS_MAX => {}
            Ok(_) => self.open.push(open),
        }
        stored
    }

    fn take_open(&mut self, day: &Arc<DayKey>) -> Result<Open, KeyringError> {
        if let Some(at) = self.open.iter().position(|open| Arc::ptr_eq(&open.day, day)) {
            return Ok(self.open.remove(at));
        }
        if self.open.len() >= OPEN_MAX {
            self.open.remove(0);
        }
        let parts = self.parts_of(day.day).map_err(disk)?;
        if let Some(&part) = parts.last().filter(|part| !self.failed.contains(part))
            && let Some(open) = self.continued(part, day).map_err(disk)?
        {
            return Ok(open);
        }
        let number = parts.last().map_or(1, |part| part.number + 1);
        if number > PARTS_MAX {
            return Err(KeyringError::Parts);
        }
        self.made(Part { day: day.day, number }, day)
    }

    /// Oldest first.
    fn parts_of(&self, day: Day) -> io::Result<Vec<Part>> {
        let mut parts = self.keys.parts()?;
        parts.retain(|part| part.day == day);
        Ok(parts)
    }

    /// Goes on with a file, if it has this very day key and room.
    fn continued(&self, part: Part, day: &Arc<DayKey>) -> io::Result<Option<Open>> {
        let file = self.keys.file(part, true)?;
        let header = self.keys.header(&file, part)?;
        let key = header.and_then(|header| header.day_key(self.keys.host()).ok().flatten());
        if key.is_none_or(|key| key.bytes() != day.key.bytes()) {
            return Ok(None);
        }
        let (mut used, mut space) = (0, 0);
        self.keys.slots(&file, &mut |number, found| {
            space = number + 1;
            match found {
                Found::Empty => {}
                // A torn slot is left behind.
                Found::Torn | Found::Slot(_) => used = number + 1,
            }
        })?;
        let open = Open { day: day.clone(), part, file, used, space };
        Ok((used < SLOTS_MAX).then_some(open))
    }

    fn made(&self, part: Part, day: &Arc<DayKey>) -> Result<Open, KeyringError> {
        let now = (self.shared.clock)();
        let header = Header::new(part, now.0, self.keys.host(), &day.key)?;
        let make = || {
            let mut options = options();
            options.read(true).write(true).create_new(true).mode(0o600);
            let file = options.open(self.keys.path(part))?;
            file.write_all_at(&header.to_bytes(), 0)?;
            file.sync_all()?;
            self.keys.sync_folder()?;
            Ok(file)
        };
        let file = make().map_err(disk)?;
        Ok(Open { day: day.clone(), part, file, used: 0, space: 0 })
    }

    fn shred(&mut self, scope: &Scope) -> io::Result<Erased> {
        let mut erased = Erased::default();
        match scope {
            Scope::Session(id) => {
                for part in self.keys.parts()? {
                    erased.sessions += self.erase_slots(part, Owner::Session(*id))?;
                }
            }
            Scope::Subject(value) => {
                let parts = self.keys.parts()?;
                for (part, _, day_key) in self.keys.readable(&parts)? {
                    let id = index_key(&day_key).hmac(value);
                    erased.subjects += self.erase_slots(part, Owner::Subject(id))?;
                }
            }
            Scope::Day(day) => {
                self.open.retain(|open| open.day.day != *day);
                for part in self.parts_of(*day)? {
                    erased = erased.and(self.erase_header(part)?);
                }
            }
        }
        Ok(erased)
    }

    /// Overwrites the slots of one owner in a file. Gives how many were present.
    fn erase_slots(&self, part: Part, owner: Owner) -> io::Result<u64> {
        let file = self.keys.file(part, true)?;
        let mut placed = self.keys.slots_of(&file, part, owner)?;
        placed.retain(|placed| placed.slot.key != State::Erased);
        for placed in &placed {
            let erased = placed.slot.erased((self.shared.clock)().0);
            file.write_all_at(&erased.to_bytes(), Slot::offset(placed.slot.number))?;
        }
        if !placed.is_empty() {
            file.sync_all()?;
        }
        Ok(placed.len() as u64)
    }

    /// Overwrites the day key of a file, and with it all that its slots hold.
    fn erase_header(&self, part: Part) -> io::Result<Erased> {
        let file = self.keys.file(part, true)?;
        let Some(header) = self.keys.header(&file, part)? else {
            // Torn: nobody can read its slots.
            return Ok(Erased::default());
        };
        if header.key == State::Erased {
            return Ok(Erased::default());
        }
        let mut erased = Erased { days: 1, ..Erased::default() };
        self.keys.slots(&file, &mut |_, found| match found {
            Found::Slot(Slot { owner, key: State::Present(_), .. }) => match owner {
                Owner::Session(_) => erased.sessions += 1,
                Owner::Subject(_) => erased.subjects += 1,
            },
            Found::Slot(_) | Found::Torn | Found::Empty => {}
        })?;
        file.write_all_at(&header.erased((self.shared.clock)().0).to_bytes(), 0)?;
        file.sync_all()?;
        Ok(erased)
    }
}

impl Open {
    /// Appends keys and syncs. Gives how many there was room for; at least one.
    fn write(&mut self, batch: &[NewSlot]) -> io::Result<usize> {
        let count = batch.len().min((SLOTS_MAX - self.used) as usize);
        let mut bytes = Vec::with_capacity(count * SLOT_BYTES);
        for (number, new) in (self.used..).zip(&batch[..count]) {
            let key = State::Present(new.wrapped);
            let slot = Slot { number, owner: new.owner, time: new.time, key };
            bytes.extend_from_slice(&slot.to_bytes());
        }
        let end = self.used + count as u32;
        if end > self.space {
            let space = (end + SLOTS_AT_ONCE).min(SLOTS_MAX);
            let zeros = vec![0; (space - self.space) as usize * SLOT_BYTES];
            self.file.write_all_at(&zeros, Slot::offset(self.space))?;
            self.space = space;
        }
        self.file.write_all_at(&bytes, Slot::offset(self.used))?;
        self.file.sync_data()?;
        self.used = end;
        Ok(count)
    }
}

/// The key of a day that a run before this one made, if its newest file can go on.
pub(super) fn newest_key_of(keys: &Keys, day: Day) -> io::Result<Option<DayKey>> {
    let mut parts = keys.parts()?;
    parts.retain(|part| part.day == day);
    let Some(&newest) = parts.last() else {
        return Ok(None);
    };
    let file = keys.file(newest, false)?;
    let header = keys.header(&file, newest)?;
    let key = header.and_then(|header| header.day_key(keys.host()).ok().flatten());
    Ok(key.map(|key| DayKey::new(day, key)))
}

fn disk(error: io::Error) -> KeyringError {
    KeyringError::Disk(error.kind())
}
