//! One key file: its header and its slots. The format is drawn in the parent module.

use aws_lc_rs::digest;

use super::super::key::{Key, NONCE_BYTES, NotOurs, SEALED_KEY_BYTES, Wrapped};
use super::super::random::NoRandom;
use super::Day;

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 512;
/// Bytes of a slot: a divisor of every sector size, so that a slot never lies in two sectors.
pub(super) const SLOT_BYTES: usize = 128;
/// Most slots of a file; the next one goes to another part.
pub(super) const SLOTS_MAX: u32 = 1 << 20;
/// Most parts of a day.
pub(super) const PARTS_MAX: u32 = 9999;

const MAGIC: &[u8; 16] = b"pgward keyring 1";
const DAY_LABEL: &[u8] = b"pgward-keyring-day-v1";
const SLOT_LABEL: &[u8] = b"pgward-keyring-slot-v1";
const HOST_LABEL: &[u8] = b"pgward-keyring-host-v1";
const NAME_END: &str = ".keys";

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    pub(super) day: Day,
    /// From 1.
    pub(super) number: u32,
}

/// Whether a key is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Present(Wrapped),
    Erased,
}

/// The head of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) part: Part,
    /// Which host key the day key is wrapped with.
    pub(super) host: [u8; 8],
    /// When it was written, in nanoseconds since 1970: made, or erased.
    pub(super) time: u64,
    pub(super) key: State,
}

/// What a key is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) enum Owner {
    Session([u8; 16]),
    Subject([u8; 32]),
}

/// One key of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Its place in the file, from 0.
    pub(super) number: u32,
    pub(super) owner: Owner,
    /// As in [`Header`].
    pub(super) time: u64,
    pub(super) key: State,
}

/// What is found at the place of a slot.
pub(super) enum Found {
    /// Nothing was written here.
    Empty,
    /// Something was, but not to its end.
    Torn,
    Slot(Slot),
}

impl Part {
    pub(super) fn name(self) -> String {
        format!("{}-{:04}{NAME_END}", self.day, self.number)
    }

    /// `None`: the name is of another kind.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (day, number) = name.strip_suffix(NAME_END)?.rsplit_once('-')?;
        let part = Self { day: day.parse().ok()?, number: number.parse().ok()? };
        (part.name() == name).then_some(part)
    }

    fn aad(self) -> Vec<u8> {
        [DAY_LABEL, &self.day.0.to_be_bytes(), &self.number.to_be_bytes()].concat()
    }
}

/// By what a host key is known in headers.
pub(super) fn host_id(host: &Key) -> [u8; 8] {
    let digest = digest::digest(&digest::SHA256, host.derive(HOST_LABEL).bytes());
    let mut id = [0; 8];
    id.copy_from_slice(&digest.as_ref()[..8]);
    id
}

impl Header {
    /// For a new file.
    pub(super) fn new(part: Part, time: u64, host: &Key, day: &Key) -> Result<Self, NoRandom> {
        let key = State::Present(host.wrap(day, &part.aad())?);
        Ok(Self { part, host: host_id(host), time, key })
    }

    /// The day key. `None`: erased.
    pub(super) fn day_key(&self, host: &Key) -> Result<Option<Key>, NotOurs> {
        match &self.key {
            State::Present(wrapped) => host.unwrap(wrapped, &self.part.aad()).map(Some),
            State::Erased => Ok(None),
        }
    }

    pub(super) fn erased(self, time: u64) -> Self {
        Self { time, key: State::Erased, ..self }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[16..20].copy_from_slice(&self.part.day.0.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.part.number.to_be_bytes());
        bytes[24] = self.key.number();
        bytes[32..40].copy_from_slice(&self.host);
        bytes[40..48].copy_from_slice(&self.time.to_be_bytes());
        self.key.write(&mut bytes[48..108]);
        sign(&mut bytes);
        bytes
    }

    /// `None`: this is no header.
    pub(super) fn read(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        if &bytes[..16] != MAGIC || !is_signed(bytes) {
            return None;
        }
        let part = Part { day: Day(u32_at(bytes, 16)), number: u32_at(bytes, 20) };
        let key = State::read(bytes[24], &bytes[48..108])?;
        let mut host = [0; 8];
        host.copy_from_slice(&bytes[32..40]);
        Some(Self { part, host, time: u64_at(bytes, 40), key })
    }
}

impl Owner {
    fn kind(self) -> u8 {
        match self {
            Self::Session(_) => 1,
            Self::Subject(_) => 2,
        }
    }

    fn id(self) -> [u8; 32] {
        match self {
            Self::Session(session) => {
                let mut id = [0; 32];
                id[..16].copy_from_slice(&session);
                id
            }
            Self::Subject(id) => id,
        }
    }

    fn read(kind: u8, id: &[u8]) -> Option<Self> {
        match kind {
            1 if id[16..].iter().all(|&byte| byte == 0) => {
                Some(Self::Session(id[..16].try_into().ok()?))
            }
            2 => Some(Self::Subject(id.try_into().ok()?)),
            _ => None,
        }
    }

    fn aad(self, day: Day) -> Vec<u8> {
        [SLOT_LABEL, &[self.kind()], &day.0.to_be_bytes(), &self.id()].concat()
    }

    pub(super) fn wrap(self, key: &Key, day: Day, day_key: &Key) -> Result<Wrapped, NoRandom> {
        day_key.wrap(key, &self.aad(day))
    }
}

impl Slot {
    pub(super) fn offset(number: u32) -> u64 {
        HEADER_BYTES as u64 + u64::from(number) * SLOT_BYTES as u64
    }

    /// The key. `None`: erased.
    pub(super) fn key(&self, day: Day, day_key: &Key) -> Result<Option<Key>, NotOurs> {
        match &self.key {
            State::Present(wrapped) => day_key.unwrap(wrapped, &self.owner.aad(day)).map(Some),
            State::Erased => Ok(None),
        }
    }

    pub(super) fn erased(self, time: u64) -> Self {
        Self { time, key: State::Erased, ..self }
    }

    pub(super) fn to_bytes(self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[0] = self.key.number();
        bytes[1] = self.owner.kind();
        bytes[4..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.time.to_be_bytes());
        bytes[16..48].copy_from_slice(&self.owner.id());
        self.key.write(&mut bytes[48..108]);
        sign(&mut bytes);
        bytes
    }
}

impl Found {
    pub(super) fn read(bytes: &[u8; SLOT_BYTES], number: u32) -> Self {
        if bytes.iter().all(|&byte| byte == 0) {
            return Self::Empty;
        }
        let slot = is_signed(bytes).then(|| {
            let owner = Owner::read(bytes[1], &bytes[16..48])?;
            let key = State::read(bytes[0], &bytes[48..108])?;
            Some(Slot { number: u32_at(bytes, 4), owner, time: u64_at(bytes, 8), key })
        });
        match slot.flatten() {
            // A slot that was copied from another place is none.
            Some(slot) if slot.number == number => Self::Slot(slot),
            Some(_) | None => Self::Torn,
        }
    }
}

impl State {
    fn number(&self) -> u8 {
        match self {
            Self::Present(_) => 1,
            Self::Erased => 2,
        }
    }

    fn write(&self, bytes: &mut [u8]) {
        if let Self::Present(wrapped) = self {
            bytes[..NONCE_BYTES].copy_from_slice(&wrapped.nonce);
            bytes[NONCE_BYTES..].copy_from_slice(&wrapped.sealed);
        }
    }

    fn read(number: u8, bytes: &[u8]) -> Option<Self> {
        match number {
            1 => {
                let nonce = bytes[..NONCE_BYTES].try_into().ok()?;
                let sealed = bytes[NONCE_BYTES..][..SEALED_KEY_BYTES].try_into().ok()?;
                Some(Self::Present(Wrapped { nonce, sealed }))
            }
            2 if bytes.iter().all(|&byte| byte == 0) => Some(Self::Erased),
            _ => None,
        }
    }
}

fn sign(bytes: &mut [u8]) {
    let (covered, sum) = bytes.split_at_mut(bytes.len() - 4);
    sum.copy_from_slice(&crc32c::crc32c(covered).to_be_bytes());
}

fn is_signed(bytes: &[u8]) -> bool {
    let (covered, sum) = bytes.split_at(bytes.len() - 4);
    crc32c::crc32c(covered).to_be_bytes() == sum
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |n, &byte| n << 8 | u32::from(byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}
