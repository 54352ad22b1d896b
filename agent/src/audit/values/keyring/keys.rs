//! The folder of keys, read.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use super::super::key::{KEY_BYTES, Key};
use super::super::random::NoRandom;
use super::file::{Found, HEADER_BYTES, Header, Owner, Part, SLOT_BYTES, SLOTS_MAX, Slot};
use super::{Day, index_key};

const HOST_KEY: &str = "host.key";
const HOST_KEY_NEW: &str = "host.key.new";
/// Owners whose keys are remembered by one reader.
const REMEMBERED_MAX: usize = 4096;
/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// The keys of a trail, to read with. Needs the host's key; holds no lock, and may be used beside
/// the agent that writes.
pub struct Keys {
    folder: PathBuf,
    host: Key,
    /// What was looked for before. Filled for the one record after another of a session.
    remembered: Mutex<HashMap<Owner, Answer>>,
}

/// Why keys cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Something about a file.
    #[error("{doing} `{}`", path.display())]
    File {
        /// What failed: `open`, `read`, …
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are keys, but not the one that they are wrapped with.
    #[error(
        "`{}` is missing, but there are keys that it wraps\n\
         hint: restore it, or move the folder away; values sealed so far stay unreadable without it",
        path.display()
    )]
    HostKeyMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Others may read it.
    #[error("`{}` has mode {mode:04o}, expected 0600", path.display())]
    HostKeyOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It has a second name: who holds that one has the key.
    #[error("`{}` has {links} names, expected 1", path.display())]
    HostKeyLinked {
        /// The file.
        path: PathBuf,
        /// Its names.
        links: u64,
    },
    /// It holds something else.
    #[error("`{}` does not hold 64 hexadecimal digits", path.display())]
    HostKeyMalformed {
        /// The file.
        path: PathBuf,
    },
    /// No random bytes for a new one.
    #[error(transparent)]
    Random(#[from] NoRandom),
}

/// What was found of an owner's keys.
#[derive(Clone)]
pub(in super::super) enum Answer {
    /// At least one. A person may have several on one day.
    Keys(Vec<Key>),
    /// There were some.
    Erased,
    /// None was ever here, or its file is gone.
    Missing,
}

/// A slot and where it is.
pub(super) struct Placed {
    pub(super) part: Part,
    pub(super) slot: Slot,
}

impl Keys {
    /// Opens the folder (`keys/values` of a trail) for reading.
    pub fn open(folder: &Path) -> Result<Self, KeysError> {
        let host = read_host_key(&folder.join(HOST_KEY))?;
        Ok(Self::with(folder, host))
    }

    /// The same, and makes folder and host key if this is the first time.
    pub(super) fn open_or_make(folder: &Path) -> Result<Self, KeysError> {
        let at = |doing| move |source| KeysError::File { doing, path: folder.into(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at("create"))?;
        if !fs::symlink_metadata(folder).map_err(at("look at"))?.is_dir() {
            return Err(at("use")(io::ErrorKind::NotADirectory.into()));
        }
        let path = folder.join(HOST_KEY);
        match read_host_key(&path) {
            Ok(host) => return Ok(Self::with(folder, host)),
            Err(KeysError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let host = Key::random()?;
        let keys = Self::with(folder, host);
        if !keys.parts().map_err(at("read"))?.is_empty() {
            return Err(KeysError::HostKeyMissing { path });
        }
        keys.write_host_key().map_err(|source| KeysError::File { doing: "write", path, source })?;
        Ok(keys)
    }

    fn with(folder: &Path, host: Key) -> Self {
        Self { folder: folder.into(), host, remembered: Mutex::default() }
    }

    pub(super) fn host(&self) -> &Key {
        &self.host
    }

    /// Written beside, then renamed: it is whole or not there.
    fn write_host_key(&self) -> io::Result<()> {
        let new = self.folder.join(HOST_KEY_NEW);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = options().write(true).create_new(true).mode(0o600).open(&new)?;
        let text = Zeroizing::new(hex::encode(self.host.bytes()) + "\n");
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.folder.join(HOST_KEY))?;
        self.sync_folder()
    }

    pub(super) fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    pub(super) fn path(&self, part: Part) -> PathBuf {
        self.folder.join(part.name())
    }

    /// All files, oldest first.
    pub(super) fn parts(&self) -> io::Result<Vec<Part>> {
        let mut parts = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            parts.extend(entry?.file_name().to_str().and_then(Part::named));
        }
        parts.sort_unstable();
        Ok(parts)
    }

    /// Opens a file, never through a link.
    pub(super) fn file(&self, part: Part, write: bool) -> io::Result<File> {
        options().read(true).write(write).open(self.path(part))
    }

    /// The header of a file. `None`: torn, or of another file.
    pub(super) fn header(&self, file: &File, part: Part) -> io::Result<Option<Header>> {
        let mut bytes = [0; HEADER_BYTES];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(Header::read(&bytes).filter(|header| header.part == part)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Goes through the slots of a file. What is torn is left out; bytes behind the last whole slot
    /// are none.
    pub(super) fn slots(&self, file: &File, take: &mut dyn FnMut(u32, Found)) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let (mut number, mut filled) = (0, 0);
        let mut offset = Slot::offset(0);
        while number < SLOTS_MAX {
            let read = match file.read_at(&mut chunk[filled..], offset) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            (filled, offset) = (filled + read, offset + read as u64);
            let (slots, _) = chunk[..filled].as_chunks::<SLOT_BYTES>();
            for slot in slots.iter().take((SLOTS_MAX - number) as usize) {
                take(number, Found::read(slot, number));
                number += 1;
            }
            let whole = slots.len() * SLOT_BYTES;
            chunk.copy_within(whole..filled, 0);
            filled -= whole;
            if read == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Files of one day, or all, whose day key is at hand, with it.
    pub(super) fn readable(&self, parts: &[Part]) -> io::Result<Vec<(Part, File, Key)>> {
        let mut readable = Vec::new();
        for &part in parts {
            let file = self.file(part, false)?;
            let Some(header) = self.header(&file, part)? else { continue };
            if let Ok(Some(key)) = header.day_key(&self.host) {
                readable.push((part, file, key));
            }
        }
        Ok(readable)
    }

    /// Slots of one owner in a file.
    pub(super) fn slots_of(
        &self,
        file: &File,
        part: Part,
        owner: Owner,
    ) -> io::Result<Vec<Placed>> {
        let mut placed = Vec::new();
        self.slots(file, &mut |_, found| match found {
            Found::Slot(slot) if slot.owner == owner => placed.push(Placed { part, slot }),
            Found::Slot(_) | Found::Torn | Found::Empty => {}
        })?;
        Ok(placed)
    }

    /// Keys of an owner. Looks at files of `day` first, then at those before, then at others.
    pub(in super::super) fn find(&self, owner: Owner, day: Day) -> Result<Answer, KeysError> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = remembered.get(&owner) {
            return Ok(answer.clone());
        }
        let answer = self.search(owner, day).map_err(|source| KeysError::File {
            doing: "read",
            path: self.folder.clone(),
            source,
        })?;
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(owner, answer.clone());
        Ok(answer)
    }

    fn search(&self, owner: Owner, day: Day) -> io::Result<Answer> {
        let mut parts = self.parts()?;
        parts.sort_by_key(|part| (part.day > day, day.0.abs_diff(part.day.0)));
        let mut erased = false;
        let (mut keys, mut of_day) = (Vec::new(), None);
        for part in parts {
            // All keys of a person are of one day; those of a session are one.
            if of_day.is_some_and(|found| found != part.day) {
                break;
            }
            let file = self.file(part, false)?;
            let placed = self.slots_of(&file, part, owner)?;
            if placed.is_empty() {
                continue;
            }
            of_day = Some(part.day);
            let header = self.header(&file, part)?;
            let day_key = match header.map(|header| header.day_key(&self.host)) {
                Some(Ok(Some(key))) => key,
                Some(Ok(None)) => {
                    erased = true;
                    continue;
                }
                // Torn, or wrapped with another host's key.
                Some(Err(_)) | None => continue,
            };
            for Placed { part, slot } in placed {
                match slot.key(part.day, &day_key) {
                    Ok(Some(key)) => keys.push(key),
                    Ok(None) => erased = true,
                    // Not wrapped by this day's key: no slot of ours.
                    Err(_) => {}
                }
            }
        }
        Ok(match (keys.is_empty(), erased) {
            (false, _) => Answer::Keys(keys),
            (true, true) => Answer::Erased,
            (true, false) => Answer::Missing,
        })
    }

    /// The hash that [`crate::config::ValueMode::Hash`] gives a value on each day whose key is
    /// there, for a search.
    pub fn hashes(&self, value: &[u8]) -> Result<Vec<(Day, [u8; 32])>, KeysError> {
        let read = || {
            let mut hashes: Vec<(Day, [u8; 32])> = Vec::new();
            for (part, _, key) in self.readable(&self.parts()?)? {
                let hash = (part.day, index_key(&key).hmac(value));
                if !hashes.contains(&hash) {
                    hashes.push(hash);
                }
            }
            Ok(hashes)
        };
        let failed = |source| KeysError::File { doing: "read", path: self.folder.clone(), source };
        read().map_err(failed)
    }
}

/// Never through a link.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    options
}

fn read_host_key(path: &Path) -> Result<Key, KeysError> {
    let at = |doing| move |source| KeysError::File { doing, path: path.into(), source };
    let file = options().read(true).open(path).map_err(at("open"))?;
    let found = file.metadata().map_err(at("look at"))?;
    let mode = found.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeysError::HostKeyOpen { path: path.into(), mode });
    }
    if found.nlink() != 1 {
        return Err(KeysError::HostKeyLinked { path: path.into(), links: found.nlink() });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES + 2));
    file.take(2 * KEY_BYTES as u64 + 2).read_to_end(&mut text).map_err(at("read"))?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let digits = text.strip_suffix(b"\n").unwrap_or(&text);
    hex::decode_to_slice(digits, &mut *key)
        .map_err(|_| KeysError::HostKeyMalformed { path: path.into() })?;
    Ok(Key::new(*key))
}
