//! Files of an audit trail made of any bytes.

use std::fs;
use std::path::{Path, PathBuf};

use pgward_verify::{Options, VerifierKey};

/// Key of the host in the seeds; its private half is `[1; 32]` there and nowhere else.
pub const HOST_KEY: &str = "pgward/6f1c0d9e-0000-4000-8000-000000000001+31e7197e+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
/// Key of the witness in the seeds; its private half is `[2; 32]`.
pub const WITNESS_KEY: &str =
    "witness.example/one+5aa9b808+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";

const HEADER_BYTES: usize = 512;
const FRAME_HEAD_BYTES: usize = 9;
/// One line of the table of a pack: offset, sizes, check sum.
const LINE_BYTES: usize = 20;

/// Options of the verifier with those keys, at a time behind the seeds.
pub fn options(directory: PathBuf) -> Options {
    let key = |line| VerifierKey::parse(line).expect("written here");
    let mut options = Options::new(directory);
    options.keys.push(key(HOST_KEY));
    options.witnesses.push(key(WITNESS_KEY));
    options.now_ns = 1_800_000_000_000_000_000;
    options
}

/// Cuts bytes into pieces, each behind its length as two bytes.
pub fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        let (piece, behind) = behind.split_at(length);
        rest = behind;
        Some(piece)
    })
}

/// Whether check sums are made to fit, so that what lies behind them is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mended {
    /// They are.
    Yes,
    /// Bytes are as they came.
    No,
}

/// A trail's folder in memory, with one epoch. Gone when this is dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty epoch.
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        // Targets run one input at a time; several processes may run.
        let path = base.join(format!("pgward-fuzz-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("epoch-1")).expect("memory has room");
        Self(path)
    }

    /// The trail.
    pub fn path(&self) -> PathBuf {
        self.0.clone()
    }

    /// Its epoch.
    pub fn epoch(&self) -> PathBuf {
        self.0.join("epoch-1")
    }

    /// Writes a file of a segment, named as its header says, and gives its path.
    pub fn segment(&self, form: &str, bytes: &[u8], mended: Mended) -> PathBuf {
        let mut bytes = bytes.to_vec();
        if mended == Mended::Yes {
            mend(form, &mut bytes);
        }
        let first = bytes.get(16..24).map_or(0, be);
        let path = self.epoch().join(format!("segment-{first:020}.{form}"));
        fs::write(&path, bytes).expect("memory has room");
        path
    }

    /// All files of the epoch.
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.epoch()).expect("the folder is there");
        entries.flatten().map(|entry| entry.path()).collect()
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Makes every check sum fit that can be found.
fn mend(form: &str, bytes: &mut [u8]) {
    let put = |bytes: &mut [u8], at: usize, crc: u32| {
        bytes[at..at + 4].copy_from_slice(&crc.to_be_bytes());
    };
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let crc = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
    put(bytes, HEADER_BYTES - 4, crc);
    if form == "pack" {
        let lines = be(&bytes[28..32]) as usize;
        let Some(end) = lines.checked_mul(LINE_BYTES).and_then(|n| n.checked_add(HEADER_BYTES))
        else {
            return;
        };
        if end.checked_add(4).is_none_or(|end| end > bytes.len()) {
            return;
        }
        for line in (HEADER_BYTES..end).step_by(LINE_BYTES) {
            let from = be(&bytes[line..line + 8]) as usize;
            let to = from.saturating_add(be(&bytes[line + 8..line + 12]) as usize);
            if let Some(bundle) = bytes.get(from..to) {
                let crc = crc32c::crc32c(bundle);
                put(bytes, line + 16, crc);
            }
        }
        let crc = crc32c::crc32c(&bytes[HEADER_BYTES..end]);
        put(bytes, end, crc);
        return;
    }
    let mut at = HEADER_BYTES;
    while at + FRAME_HEAD_BYTES <= bytes.len() {
        let end = at + FRAME_HEAD_BYTES + be(&bytes[at..at + 4]) as usize;
        if end > bytes.len() {
            return;
        }
        let crc = crc32c::crc32c(&bytes[at + 8..end]);
        put(bytes, at + 4, crc);
        at = end;
    }
}
