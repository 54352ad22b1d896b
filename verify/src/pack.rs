//! A packed segment: entry bundles of 256, each compressed by itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::frame::{HEADER_BYTES, PackHeader, SEGMENT_ENTRIES, be32, be64};
use crate::store::{Place, ReadError};

/// Entries of a full bundle.
pub const BUNDLE_ENTRIES: u64 = 256;
/// Most plain bytes of a bundle: 256 times a length of two bytes and the largest entry.
pub const BUNDLE_BYTES_MAX: usize = 256 * (2 + 65_535);
/// Most compressed bytes of a bundle.
const COMPRESSED_BYTES_MAX: usize = BUNDLE_BYTES_MAX + (BUNDLE_BYTES_MAX >> 8) + 1024;
/// Bytes of a line of the table.
const LINE_BYTES: usize = 20;

/// Where a bundle lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Place of its first byte.
    pub offset: u64,
    /// Compressed bytes.
    pub compressed: u32,
    /// Plain bytes.
    pub plain: u32,
    /// CRC32C of the compressed bytes.
    pub crc: u32,
}

/// Why a bundle cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadBundle {
    /// The file could not be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Sizes beyond what a bundle can have.
    #[error("its sizes are impossible: {compressed} bytes that hold {plain}")]
    Sizes {
        /// Compressed bytes.
        compressed: u32,
        /// Plain bytes.
        plain: u32,
    },
    /// The check sum does not fit.
    #[error("its check sum is wrong")]
    Crc,
    /// It does not decompress to what its line says.
    #[error("it does not decompress to the {0} bytes that the table says")]
    Zstd(u32),
    /// It does not hold the entries it must.
    #[error("byte {offset} of its plain text: {expected} entries expected, {found} found")]
    Entries {
        /// Byte of the plain text where reading stopped.
        offset: usize,
        /// Entries that were read.
        found: u64,
        /// Entries that it must hold.
        expected: u64,
    },
}

/// An opened `.pack`.
pub struct Pack {
    path: PathBuf,
    file: File,
    header: PackHeader,
    lines: Vec<Line>,
    file_bytes: u64,
    decoder: zstd::bulk::Decompressor<'static>,
    compressed: Vec<u8>,
    plain: Vec<u8>,
    /// Bundle that is in `plain`.
    loaded: Option<usize>,
    /// Index of the next entry.
    next: u64,
    /// Place in `plain` of the next entry, once its bundle is loaded.
    at: usize,
    /// The entry that was read last: its index and its bytes in `plain`.
    current: (u64, std::ops::Range<usize>),
}

impl std::fmt::Debug for Pack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pack").field("path", &self.path).field("header", &self.header).finish()
    }
}

impl Pack {
    /// Opens a pack and checks its header and its table.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(ReadError::io("open", path))?;
        let file_bytes = file.metadata().map_err(ReadError::io("stat", path))?.len();
        let mut bytes = [0; HEADER_BYTES];
        read_at(&file, &mut bytes, 0).map_err(ReadError::io("read", path))?;
        let header = PackHeader::decode(&bytes)
            .map_err(|bad| ReadError::damaged(path, 0, bad.to_string()))?;
        let expected = bundles(header.first, u64::from(header.entries));
        if u64::from(header.entries) > SEGMENT_ENTRIES || u64::from(header.bundles) != expected {
            return Err(ReadError::damaged(
                path,
                24,
                format!("{} bundles for {} entries", header.bundles, header.entries),
            ));
        }
        let lines = read_table(path, &file, &header)?;
        let decoder =
            zstd::bulk::Decompressor::new().map_err(ReadError::io("starting zstd", path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            next: header.first,
            header,
            lines,
            file_bytes,
            decoder,
            compressed: Vec::new(),
            plain: Vec::new(),
            loaded: None,
            at: 0,
            current: (0, 0..0),
        })
    }

    /// Its header.
    pub fn header(&self) -> &PackHeader {
        &self.header
    }

    /// Its table: one line a bundle.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Index behind its last entry.
    pub fn end(&self) -> u64 {
        self.header.first + u64::from(self.header.entries)
    }

    /// Indices that bundle `number` holds.
    pub fn range(&self, number: usize) -> std::ops::Range<u64> {
        let base = BUNDLE_ENTRIES * (self.header.first / BUNDLE_ENTRIES + number as u64);
        base.max(self.header.first)..(base + BUNDLE_ENTRIES).min(self.end())
    }

    /// Reads bundle `number` and returns its plain text, whether or not its check sum is right:
    /// the second value says if it is. The text is not split yet.
    pub fn bundle(&mut self, number: usize) -> Result<(&[u8], bool), BadBundle> {
        let Line { offset, compressed, plain, crc } = self.lines[number];
        self.loaded = None;
        let (compressed_bytes, plain_bytes) = (compressed as usize, plain as usize);
        if compressed_bytes > COMPRESSED_BYTES_MAX || plain_bytes > BUNDLE_BYTES_MAX {
            return Err(BadBundle::Sizes { compressed, plain });
        }
        if offset.checked_add(u64::from(compressed)).is_none_or(|end| end > self.file_bytes) {
            return Err(BadBundle::Sizes { compressed, plain });
        }
        self.compressed.resize(compressed_bytes, 0);
        read_at(&self.file, &mut self.compressed, offset)?;
        let sound = crc32c::crc32c(&self.compressed) == crc;
        self.plain.resize(plain_bytes, 0);
        let written =
            self.decoder.decompress_to_buffer(&self.compressed, self.plain.as_mut_slice());
        match written {
            Ok(written) if written == plain_bytes => Ok((&self.plain, sound)),
            Ok(_) | Err(_) if !sound => Err(BadBundle::Crc),
            Ok(_) | Err(_) => Err(BadBundle::Zstd(plain)),
        }
    }

    pub(crate) fn seek(&mut self, index: u64) {
        self.next = index.clamp(self.header.first, self.end());
        self.loaded = None;
    }

    pub(crate) fn advance(&mut self) -> Result<bool, ReadError> {
        if self.next >= self.end() {
            return Ok(false);
        }
        let number = (self.next / BUNDLE_ENTRIES - self.header.first / BUNDLE_ENTRIES) as usize;
        let range = self.range(number);
        if self.loaded != Some(number) {
            let line = self.lines[number];
            match self.bundle(number) {
                Ok((plain, true)) => split(plain, range.end - range.start).map(drop),
                Ok((_, false)) => Err(BadBundle::Crc),
                Err(bad) => Err(bad),
            }
            .map_err(|bad| ReadError::damaged(&self.path, line.offset, bad.to_string()))?;
            self.loaded = Some(number);
            self.at = 0;
            // The text was split above, so the walk to the wanted entry stays inside it.
            for _ in range.start..self.next {
                self.at += 2 + self.length_at(self.at);
            }
        }
        let start = self.at + 2;
        self.at = start + self.length_at(self.at);
        self.current = (self.next, start..self.at);
        self.next += 1;
        Ok(true)
    }

    fn length_at(&self, at: usize) -> usize {
        usize::from(u16::from_be_bytes([self.plain[at], self.plain[at + 1]]))
    }

    pub(crate) fn index(&self) -> u64 {
        self.current.0
    }

    pub(crate) fn entry(&self) -> &[u8] {
        &self.plain[self.current.1.clone()]
    }

    pub(crate) fn place(&self) -> Place<'_> {
        let number = self.loaded.unwrap_or_default();
        let line = self.lines[number];
        Place {
            file: &self.path,
            offset: line.offset,
            length: u64::from(line.compressed),
            within: u32::try_from(self.current.1.start).ok(),
        }
    }
}

/// Splits the plain text of a bundle into its entries and checks that it holds `expected`.
pub fn split(plain: &[u8], expected: u64) -> Result<impl Iterator<Item = &[u8]>, BadBundle> {
    let (mut at, mut found) = (0, 0);
    while let Some(head) = plain.get(at..at + 2) {
        let end = at + 2 + usize::from(u16::from_be_bytes([head[0], head[1]]));
        if end > plain.len() || found == expected {
            break;
        }
        at = end;
        found += 1;
    }
    if at != plain.len() || found != expected {
        return Err(BadBundle::Entries { offset: at, found, expected });
    }
    let mut rest = plain;
    Ok(std::iter::from_fn(move || {
        let (head, tail) = rest.split_first_chunk::<2>()?;
        let (entry, behind) = tail.split_at_checked(usize::from(u16::from_be_bytes(*head)))?;
        rest = behind;
        Some(entry)
    }))
}

fn bundles(first: u64, entries: u64) -> u64 {
    if entries == 0 {
        return 0;
    }
    let Some(last) = first.checked_add(entries - 1) else { return 0 };
    last / BUNDLE_ENTRIES - first / BUNDLE_ENTRIES + 1
}

fn read_table(path: &Path, file: &File, header: &PackHeader) -> Result<Vec<Line>, ReadError> {
    let bytes = header.bundles as usize * LINE_BYTES;
    let mut table = vec![0; bytes + 4];
    read_at(file, &mut table, HEADER_BYTES as u64).map_err(ReadError::io("read", path))?;
    if crc32c::crc32c(&table[..bytes]) != be32(&table[bytes..]) {
        return Err(ReadError::damaged(
            path,
            HEADER_BYTES as u64,
            "the check sum of its table is wrong",
        ));
    }
    let lines = table[..bytes].chunks_exact(LINE_BYTES).map(|line| Line {
        offset: be64(line),
        compressed: be32(&line[8..]),
        plain: be32(&line[12..]),
        crc: be32(&line[16..]),
    });
    Ok(lines.collect())
}

/// Fills `buffer` from a place; an end of file is an error like any other.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}
