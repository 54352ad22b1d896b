//! Packs finished segments: entries compressed in bundles of 256, as tlog-tiles has them, and sealed
//! values in a file of their own, which may be deleted before the entries.
//!
//! ```text
//!   pack     header (512) | table: for each bundle offset (u64), compressed and plain bytes and
//!            CRC32C of the compressed bytes (u32 each) | CRC32C of the table (u32) | bundles
//!   header   magic (16) | first index (u64) | entries, bundles (u32 each) | root before, root
//!            after (32 each) | number of the first trailer, of the next behind (u64 each) |
//!            length of the origin (u16) | origin | zeros | CRC32C (u32)
//!   values   header (512): magic (16) | first index (u64) | length of the origin (u16) | origin |
//!            zeros | CRC32C (u32); then frames of values, each payload behind its index (u64)
//! ```
//!
//! The raw file is removed only when what replaces it was read back from the disk and gave the same
//! tree and the same values.

use std::io;

use aws_lc_rs::digest::{Context, SHA256};

use super::disk::{Disk, DiskFile, UNFINISHED, read_full, write_all};
use super::frame::{
    self, ENTRY_BYTES_MAX, Fields, HEADER_BYTES, Kind, checked_header, sealed_header,
};
use super::names::{self, Form};
use super::scan::{Damage, Part, Tail, scan};
use super::watch::Finished;
use crate::audit::chain::{Hash, leaf_hash};

const PACK_MAGIC: &[u8; 16] = b"pgward packed 01";
const VALUES_MAGIC: &[u8; 16] = b"pgward values 01";
/// Entries of a bundle.
const BUNDLE_ENTRIES: u64 = 256;
/// Longest plain text of a bundle, in bytes.
const BUNDLE_BYTES_MAX: usize = BUNDLE_ENTRIES as usize * (2 + ENTRY_BYTES_MAX);
/// Length of a row of the table, in bytes.
const ROW_BYTES: usize = 20;
/// Most bundles of a pack.
const BUNDLES_MAX: u32 = (frame::SEGMENT_ENTRIES / BUNDLE_ENTRIES) as u32 + 1;
const LEVEL: i32 = 3;

/// Why a segment was not packed.
#[derive(Debug)]
pub(super) enum PackError {
    /// It is not what was written.
    Damaged(Damage),
    /// The disk, or what was read back from it.
    Failed(&'static str, io::Error),
}

/// Replaces the raw file of the segment that begins at `first` and ends at `end`.
pub(super) fn pack<D: Disk>(
    disk: &D,
    origin: &str,
    first: u64,
    end: u64,
) -> Result<Finished, PackError> {
    let failed = |operation| move |error| PackError::Failed(operation, error);
    let raw = names::segment(first, Form::Raw);
    let file = disk.open(&raw).map_err(failed("open"))?;
    let found = scan(&file, origin, Some(end), |_| Ok(())).map_err(failed("read"))?;
    let found = found.map_err(PackError::Damaged)?;
    if found.last.tree.size() != end {
        let missing = Damage { offset: found.last.offset, found: "fewer entries than expected" };
        return Err(PackError::Damaged(match found.tail {
            Tail::Damaged(damage) => damage,
            Tail::Zeros | Tail::Torn { .. } => missing,
        }));
    }
    let shape = Shape {
        first,
        entries: u32::try_from(end - first).map_err(|_| too_many())?,
        before: found.header.root,
        after: found.last.tree.root(),
        trailers: (found.header.next_trailer, found.last.next_trailer),
    };
    let (packed, values) = (names::segment(first, Form::Pack), names::segment(first, Form::Values));
    for name in [&packed, &values] {
        match disk.remove(&format!("{name}{UNFINISHED}")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(PackError::Failed("remove", error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let written = write(disk, origin, &file, &shape).map_err(failed("pack"))?;
    read_back(disk, origin, &shape, &written).map_err(failed("read back"))?;
    let place = || {
        if written.values.is_some() {
            disk.rename(&format!("{values}{UNFINISHED}"), &values)?;
        }
        disk.rename(&format!("{packed}{UNFINISHED}"), &packed)?;
        disk.sync()?;
        drop(file);
        disk.remove(&raw)?;
        disk.sync()
    };
    place().map_err(failed("replace"))?;
    Ok(Finished { first, end, root: shape.after })
}

fn too_many() -> PackError {
    PackError::Damaged(Damage { offset: 0, found: "more entries than a segment can have" })
}

/// What the header of a pack says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    first: u64,
    entries: u32,
    before: Hash,
    after: Hash,
    trailers: (u64, u64),
}

impl Shape {
    fn end(&self) -> u64 {
        self.first + u64::from(self.entries)
    }

    fn bundles(&self) -> u32 {
        if self.entries == 0 {
            return 0;
        }
        ((self.end() - 1) / BUNDLE_ENTRIES - self.first / BUNDLE_ENTRIES + 1) as u32
    }

    /// Where the first bundle lies.
    fn bundles_at(&self) -> u64 {
        (HEADER_BYTES + self.bundles() as usize * ROW_BYTES + 4) as u64
    }

    fn encode(&self, origin: &str) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(PACK_MAGIC);
        bytes.extend_from_slice(&self.first.to_be_bytes());
        bytes.extend_from_slice(&self.entries.to_be_bytes());
        bytes.extend_from_slice(&self.bundles().to_be_bytes());
        bytes.extend_from_slice(&self.before);
        bytes.extend_from_slice(&self.after);
        bytes.extend_from_slice(&self.trailers.0.to_be_bytes());
        bytes.extend_from_slice(&self.trailers.1.to_be_bytes());
        sealed_header(bytes, origin)
    }

    fn decode(bytes: &[u8], origin: &str) -> Option<Self> {
        let mut fields = Fields(checked_header(bytes, PACK_MAGIC)?);
        let (first, entries, bundles) = (fields.u64()?, fields.u32()?, fields.u32()?);
        let (before, after) = (fields.hash()?, fields.hash()?);
        let trailers = (fields.u64()?, fields.u64()?);
        let shape = Self { first, entries, before, after, trailers };
        let fits = first.checked_add(u64::from(entries)).is_some()
            && u64::from(entries) <= frame::SEGMENT_ENTRIES
            && shape.bundles() == bundles
            && bundles <= BUNDLES_MAX
            && fields.origin()? == origin;
        fits.then_some(shape)
    }
}

/// What was written, to compare with what is read back.
struct Written {
    leaves: [u8; 32],
    values: Option<[u8; 32]>,
}

fn write<D: Disk>(disk: &D, origin: &str, raw: &D::File, shape: &Shape) -> io::Result<Written> {
    let name = format!("{}{UNFINISHED}", names::segment(shape.first, Form::Pack));
    let mut packer = Packer {
        file: disk.create(&name)?,
        offset: shape.bundles_at(),
        table: Vec::with_capacity(shape.bundles() as usize * ROW_BYTES + 4),
        plain: Vec::new(),
        compressor: zstd::bulk::Compressor::new(LEVEL)?,
        leaves: Context::new(&SHA256),
    };
    let mut values: Option<ValuesFile<D::File>> = None;
    scan(raw, origin, Some(shape.end()), |part| match part {
        Part::Entry { index, .. } if index >= shape.end() => Ok(()),
        Part::Entry { index, leaf, bytes } => packer.entry(index, &leaf, bytes),
        Part::Values { index, .. } if index >= shape.end() => Ok(()),
        Part::Values { index, bytes } => {
            if values.is_none() {
                values = Some(ValuesFile::begin(disk, origin, shape.first)?);
            }
            values.as_mut().map_or(Ok(()), |values| values.add(index, bytes))
        }
    })?
    .map_err(|damage| io::Error::other(damage.found))?;
    let leaves = packer.finish(&shape.encode(origin))?;
    let values = values.map(ValuesFile::finish).transpose()?;
    Ok(Written { leaves, values })
}

/// Writes the bundles.
struct Packer<F> {
    file: F,
    offset: u64,
    table: Vec<u8>,
    plain: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
    leaves: Context,
}

impl<F: DiskFile> Packer<F> {
    fn entry(&mut self, index: u64, leaf: &Hash, bytes: &[u8]) -> io::Result<()> {
        let length = u16::try_from(bytes.len()).expect("a scan gives no longer entry");
        self.plain.extend_from_slice(&length.to_be_bytes());
        self.plain.extend_from_slice(bytes);
        self.leaves.update(leaf);
        if (index + 1).is_multiple_of(BUNDLE_ENTRIES) { self.bundle() } else { Ok(()) }
    }

    fn bundle(&mut self) -> io::Result<()> {
        let compressed = self.compressor.compress(&self.plain)?;
        write_all(&self.file, &compressed, self.offset)?;
        self.table.extend_from_slice(&self.offset.to_be_bytes());
        for number in [compressed.len(), self.plain.len()] {
            let number = u32::try_from(number).expect("a bundle is at most 16 MiB");
            self.table.extend_from_slice(&number.to_be_bytes());
        }
        self.table.extend_from_slice(&crc32c::crc32c(&compressed).to_be_bytes());
        self.offset += compressed.len() as u64;
        self.plain.clear();
        Ok(())
    }

    fn finish(mut self, header: &[u8]) -> io::Result<[u8; 32]> {
        if !self.plain.is_empty() {
            self.bundle()?;
        }
        let sum = crc32c::crc32c(&self.table).to_be_bytes();
        self.table.extend_from_slice(&sum);
        write_all(&self.file, header, 0)?;
        write_all(&self.file, &self.table, HEADER_BYTES as u64)?;
        self.file.sync()?;
        Ok(digest_of(self.leaves))
    }
}

/// Writes sealed values.
struct ValuesFile<F> {
    file: F,
    offset: u64,
    frame: Vec<u8>,
    content: Context,
}

impl<F: DiskFile> ValuesFile<F> {
    fn begin<D: Disk<File = F>>(disk: &D, origin: &str, first: u64) -> io::Result<Self> {
        let name = format!("{}{UNFINISHED}", names::segment(first, Form::Values));
        let file = disk.create(&name)?;
        write_all(&file, &values_header(origin, first), 0)?;
        let content = Context::new(&SHA256);
        Ok(Self { file, offset: HEADER_BYTES as u64, frame: Vec::new(), content })
    }

    fn add(&mut self, index: u64, bytes: &[u8]) -> io::Result<()> {
        self.frame.clear();
        let at = frame::begin(&mut self.frame);
        self.frame.extend_from_slice(&index.to_be_bytes());
        self.frame.extend_from_slice(bytes);
        frame::finish(&mut self.frame, at, Kind::Values);
        self.content.update(&self.frame);
        write_all(&self.file, &self.frame, self.offset)?;
        self.offset += self.frame.len() as u64;
        Ok(())
    }

    fn finish(self) -> io::Result<[u8; 32]> {
        self.file.sync()?;
        Ok(digest_of(self.content))
    }
}

fn values_header(origin: &str, first: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(VALUES_MAGIC);
    bytes.extend_from_slice(&first.to_be_bytes());
    sealed_header(bytes, origin)
}

fn digest_of(context: Context) -> [u8; 32] {
    context.finish().as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

/// Compares what is on the disk with what was to be written.
fn read_back<D: Disk>(disk: &D, origin: &str, shape: &Shape, written: &Written) -> io::Result<()> {
    let open = |form| disk.open(&format!("{}{UNFINISHED}", names::segment(shape.first, form)));
    let mut content = Context::new(&SHA256);
    let read = read_pack(&open(Form::Pack)?, origin, &mut |_, leaf| content.update(&leaf))?;
    if read != *shape || digest_of(content) != written.leaves {
        return Err(io::Error::other("the pack holds other entries than the segment"));
    }
    if let Some(expected) = written.values {
        let file = open(Form::Values)?;
        let mut header = [0; HEADER_BYTES];
        read_full(&file, &mut header, 0)?;
        let mut content = Context::new(&SHA256);
        let mut buffer = vec![0; 1 << 20];
        let mut offset = HEADER_BYTES as u64;
        loop {
            let count = read_full(&file, &mut buffer, offset)?;
            content.update(&buffer[..count]);
            offset += count as u64;
            if count < buffer.len() {
                break;
            }
        }
        if header != values_header(origin, shape.first) || digest_of(content) != expected {
            return Err(io::Error::other("the file of values holds others than the segment"));
        }
    }
    Ok(())
}

/// Tells the hash of each leaf of a pack, in order.
pub(super) fn leaves(
    file: &impl DiskFile,
    origin: &str,
    each: &mut impl FnMut(u64, Hash),
) -> io::Result<()> {
    read_pack(file, origin, each).map(|_| ())
}

fn read_pack(
    file: &impl DiskFile,
    origin: &str,
    each: &mut impl FnMut(u64, Hash),
) -> io::Result<Shape> {
    let damaged = |found: &'static str| io::Error::new(io::ErrorKind::InvalidData, found);
    let mut header = [0; HEADER_BYTES];
    read_full(file, &mut header, 0)?;
    let shape = Shape::decode(&header, origin).ok_or_else(|| damaged("no header of a pack"))?;
    let mut table = vec![0; shape.bundles() as usize * ROW_BYTES + 4];
    read_full(file, &mut table, HEADER_BYTES as u64)?;
    let (rows, sum) = table.split_last_chunk::<4>().ok_or_else(|| damaged("no table"))?;
    if crc32c::crc32c(rows) != u32::from_be_bytes(*sum) {
        return Err(damaged("a table with a wrong check sum"));
    }
    let mut decompressor = zstd::bulk::Decompressor::new()?;
    let mut index = shape.first;
    let mut expected_at = shape.bundles_at();
    for row in rows.chunks_exact(ROW_BYTES) {
        let row = Row::decode(row).ok_or_else(|| damaged("a row that cannot be"))?;
        if row.offset != expected_at {
            return Err(damaged("a bundle at another place"));
        }
        expected_at += row.compressed_bytes as u64;
        let mut compressed = vec![0; row.compressed_bytes];
        read_full(file, &mut compressed, row.offset)?;
        if crc32c::crc32c(&compressed) != row.sum {
            return Err(damaged("a bundle with a wrong check sum"));
        }
        let mut rest = &decompressor.decompress(&compressed, row.plain_bytes)?[..];
        let end = ((index / BUNDLE_ENTRIES + 1) * BUNDLE_ENTRIES).min(shape.end());
        while index < end {
            let (length, behind) =
                rest.split_first_chunk().ok_or_else(|| damaged("a bundle that is too short"))?;
            let (entry, behind) = behind
                .split_at_checked(usize::from(u16::from_be_bytes(*length)))
                .ok_or_else(|| damaged("a bundle that is too short"))?;
            each(index, leaf_hash(entry));
            rest = behind;
            index += 1;
        }
        if !rest.is_empty() {
            return Err(damaged("a bundle that is too long"));
        }
    }
    if file.len()? != expected_at {
        return Err(damaged("something behind the last bundle"));
    }
    Ok(shape)
}

/// A row of the table.
struct Row {
    offset: u64,
    compressed_bytes: usize,
    plain_bytes: usize,
    sum: u32,
}

impl Row {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (offset, compressed, plain, sum) =
            (fields.u64()?, fields.u32()? as usize, fields.u32()? as usize, fields.u32()?);
        // What does not get smaller by compression gets longer by some bytes only.
        let fits =
            plain <= BUNDLE_BYTES_MAX && compressed <= zstd::zstd_safe::compress_bound(plain);
        fits.then_some(Self { offset, compressed_bytes: compressed, plain_bytes: plain, sum })
    }
}

/// Tells the hash of each leaf of a raw segment, also of those that do not count.
pub(super) fn raw_leaves(
    file: &impl DiskFile,
    origin: &str,
    each: &mut impl FnMut(u64, Hash),
) -> io::Result<()> {
    let found = scan(file, origin, None, |part| {
        match part {
            Part::Entry { index, leaf, .. } => each(index, leaf),
            Part::Values { .. } => {}
        }
        Ok(())
    })?;
    found.map(|_| ()).map_err(|damage| io::Error::new(io::ErrorKind::InvalidData, damage.found))
}
