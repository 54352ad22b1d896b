//! Walks over the files of a segment and hands their entries to the checks of the epoch.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::epoch::Check;
use crate::findings::{Class, Finding, Severity};
use crate::frame::{Frame, Frames, HEADER_BYTES, Kind, SegmentHeader, Step, Trailer, decode_end};
use crate::merkle::Hash;
use crate::pack::{Pack, split};
use crate::segment::{Segment, read_header};
use crate::store::{Epoch, Piece, ReadError};
use crate::tree::{Claim, Spot, Who};
use crate::values::ValuesFile;

/// Bytes of what a disk writes as a whole.
const SECTOR_BYTES: usize = 512;
/// Most bytes between two sound frames that are taken for one damaged frame.
const DAMAGED_BYTES_MAX: u64 = 65_535 + 9;

/// Bytes behind the last good trailer of a segment that was not the last.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    pub(crate) path: std::path::PathBuf,
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Index at which the next segment begins.
    pub(crate) index: u64,
    /// They follow the frame that ends the segment.
    pub(crate) ended: bool,
}

/// Where the walk over a raw segment is.
struct Raw {
    file: u32,
    /// First index of the next segment: entries from here on are there again.
    limit: u64,
    last: bool,
    /// Behind a trailer, with nothing in between.
    at_trailer: bool,
    /// End of the last good trailer: what lies behind it is a tail.
    good_end: u64,
    /// A frame that ends the segment was read.
    ended: bool,
}

impl Check<'_> {
    /// Reads one segment. `next` is the first index of the one behind it.
    pub(crate) fn piece(
        &mut self,
        epoch: &Epoch,
        piece: &Piece,
        next: Option<u64>,
    ) -> Result<(), ReadError> {
        if !piece.log {
            return self.pack(epoch, piece);
        }
        let (log, pack) = (epoch.file(piece.first, "log"), epoch.file(piece.first, "pack"));
        match self.raw(&log, piece.first, next) {
            // It was packed since the folder was listed: this fails before anything is read of it.
            Err(error) if error.is_not_found() && pack.is_file() => {
                let values = epoch.file(piece.first, "values").is_file();
                self.pack(epoch, &Piece { log: false, pack: true, values, ..piece.clone() })
            }
            Err(error) => Err(error),
            Ok(()) => {
                if piece.pack {
                    self.same(&log, &pack);
                }
                Ok(())
            }
        }
    }

    fn raw(&mut self, path: &Path, first: u64, next: Option<u64>) -> Result<(), ReadError> {
        let name = self.name(path);
        let file = self.tree.file(name);
        let header = match read_header(path) {
            Ok(header) => Some(header),
            Err(ReadError::Damaged { what, .. }) => {
                let finding = Finding::new(
                    Class::MarkAltered,
                    format!("the header of the segment is damaged: {what}"),
                );
                self.at(finding, file, 0, HEADER_BYTES as u64);
                None
            }
            Err(error) => return Err(error),
        };
        let mut frames =
            Frames::open(path, HEADER_BYTES as u64).map_err(ReadError::io("open", path))?;
        let io = || ReadError::io("read", path);
        let mut edge = None;
        if frames.next_kind().map_err(io())? == Some(Kind::Edge)
            && let Step::Frame(frame) = frames.step().map_err(io())?
        {
            edge = self.edge(&frame, file);
        }
        self.arrive(first, edge.as_deref());
        if let Some(header) = &header {
            self.header(header, first, file);
        }
        if let (Some(edge), Some(header)) = (&edge, &header) {
            self.check_edge(edge, header, file);
        }
        let mut raw = Raw {
            file,
            limit: next.unwrap_or(u64::MAX),
            last: next.is_none(),
            at_trailer: false,
            good_end: frames.offset(),
            ended: false,
        };
        // Entries behind the last trailer are not part of the log.
        let stop = if raw.last { last_mark(path).map_err(io())? } else { u64::MAX };
        while frames.offset() < stop {
            let broken = match frames.step().map_err(io())? {
                Step::Frame(frame) => {
                    if !self.frame(&frame, &mut raw) {
                        break;
                    }
                    continue;
                }
                Step::End { .. } => break,
                Step::Broken { offset, .. } => offset,
            };
            let Some(found) = frames.find_sound().map_err(io())? else { break };
            if !self.broken(path, &mut frames, broken, found, &mut raw)? {
                break;
            }
        }
        self.values_due();
        self.tail(path, &raw)
    }

    /// Roots of subtrees in the frame behind the header.
    fn edge(&mut self, frame: &Frame<'_>, file: u32) -> Option<Vec<Hash>> {
        let whole = frame.payload.len().is_multiple_of(32);
        if !frame.sound || !whole {
            let finding = Finding::new(
                Class::FrameDamaged,
                "the check sum of the subtrees behind the header is wrong: bit rot or a careless \
                 edit; no record is concerned",
            );
            self.at(finding, file, frame.offset, frame.length());
            return None;
        }
        let hashes = frame.payload.as_chunks::<32>().0;
        Some(hashes.to_vec())
    }

    /// The subtrees must lead to the root in the header.
    fn check_edge(&mut self, edge: &[Hash], header: &SegmentHeader, file: u32) {
        let mut folded = edge.iter().rev().copied();
        let root = folded
            .next()
            .map(|last| folded.fold(last, |root, left| crate::merkle::node_hash(&left, &root)));
        if root != Some(header.root) || edge.len() != header.first.count_ones() as usize {
            let finding = Finding::new(
                Class::MarkAltered,
                "the subtrees behind the header do not lead to the root in the header",
            );
            self.at(finding, file, HEADER_BYTES as u64, 9 + 32 * edge.len() as u64);
        }
    }

    fn header(&mut self, header: &SegmentHeader, first: u64, file: u32) {
        self.origin_of(&header.origin, file);
        if header.first != first {
            let finding = Finding::new(
                Class::MarkAltered,
                format!("the file is called {first}, its header says {}", header.first),
            );
            self.at(finding, file, 16, 8);
            return;
        }
        self.trailer_number(header.next_trailer, file, 56);
        let spot = Spot { file, offset: 24, length: 32 };
        self.claim(Claim { who: Who::Header, root: header.root, number: 0, spot: Some(spot) });
    }

    /// One frame. False: the segment ends here.
    fn frame(&mut self, frame: &Frame<'_>, raw: &mut Raw) -> bool {
        let spot = Spot { file: raw.file, offset: frame.offset, length: frame.length() };
        // A type byte that was altered is found by trying the others.
        let kind = if frame.sound { frame.kind } else { probable_kind(frame) };
        if kind != Kind::Values {
            self.values_due();
        }
        let repeated = match kind {
            Kind::Entry | Kind::Edge | Kind::Unknown(_) => true,
            Kind::Trailer => raw.at_trailer,
            Kind::Values | Kind::End => false,
        };
        if repeated && self.tree.index() >= raw.limit {
            // What follows is there again in the next segment.
            return false;
        }
        let after_trailer = std::mem::replace(&mut raw.at_trailer, false);
        match kind {
            Kind::Entry => self.entry(frame.payload, spot, !frame.sound),
            Kind::Values => self.values(frame.payload, spot, frame.sound),
            Kind::Trailer => match Trailer::decode(frame.payload).filter(|_| frame.sound) {
                Some(trailer) => {
                    self.trailer(&trailer, spot);
                    raw.at_trailer = true;
                    raw.good_end = frame.end();
                }
                None => {
                    self.next_trailer = self.next_trailer.map(|number| number.saturating_add(1));
                    let finding = Finding::new(
                        Class::FrameDamaged,
                        "a trailer is damaged: bit rot or a careless edit; the records before it \
                         are checked by those that follow",
                    );
                    self.spot(finding, spot);
                    raw.good_end = frame.end();
                }
            },
            Kind::End => {
                match decode_end(frame.payload).filter(|_| frame.sound && after_trailer) {
                    Some((size, root)) if size == self.tree.index() => {
                        self.claim(Claim { who: Who::End, root, number: 0, spot: Some(spot) });
                    }
                    Some(_) | None => {
                        let finding = Finding::new(
                            Class::MarkAltered,
                            "the frame that ends the segment does not fit what is before it",
                        );
                        self.spot(finding, spot);
                    }
                }
                (raw.good_end, raw.ended) = (frame.end(), true);
                return false;
            }
            Kind::Edge | Kind::Unknown(_) => {
                let finding = Finding::new(
                    Class::ExtraBytes,
                    format!("a frame of kind {kind:?} lies where none belongs"),
                );
                self.spot(finding, spot);
            }
        }
        true
    }

    fn trailer(&mut self, trailer: &Trailer, spot: Spot) {
        self.trailer_number(trailer.number, spot.file, spot.offset + 9 + 40);
        self.next_trailer = Some(trailer.number.saturating_add(1));
        let Trailer { size, root, number } = *trailer;
        let claim = Claim { who: Who::Trailer, root, number, spot: Some(spot) };
        if size == self.tree.index() {
            self.claim(claim);
        } else {
            self.tree.claim_of_other_size(size, claim, self.findings);
            self.claims_passed();
        }
    }

    fn trailer_number(&mut self, number: u64, file: u32, offset: u64) {
        if let Some(expected) = self.next_trailer
            && number != expected
        {
            let what = if number > expected {
                format!("{} batches before it were removed", number - expected)
            } else {
                "a batch is there twice".to_owned()
            };
            let finding = Finding::new(
                Class::MarkAltered,
                format!("trailer {number} follows trailer {}: {what}", expected.wrapping_sub(1)),
            );
            self.at(finding, file, offset, 8);
        }
        self.next_trailer = Some(number);
    }

    /// Bytes that are no frame, with a sound frame behind them. False: they are a tail.
    fn broken(
        &mut self,
        path: &Path,
        frames: &mut Frames,
        from: u64,
        to: u64,
        raw: &mut Raw,
    ) -> Result<bool, ReadError> {
        if self.tree.index() >= raw.limit {
            return Ok(false);
        }
        let spot = Spot { file: raw.file, offset: from, length: to - from };
        let mut bytes = vec![0; spot.length.min(DAMAGED_BYTES_MAX) as usize];
        let file = File::open(path).map_err(ReadError::io("open", path))?;
        file.read_exact_at(&mut bytes, from).map_err(ReadError::io("read", path))?;
        if raw.last
            && torn_sector(&bytes, from)
            && frames.next_kind().ok() == Some(Some(Kind::Trailer))
        {
            // A disk may write the end of a batch before its middle: nothing may follow then.
            let mut rest = Frames::open(path, to).map_err(ReadError::io("open", path))?;
            let trailer = matches!(rest.step(), Ok(Step::Frame(_)));
            if trailer && rest.first_nonzero().map_err(ReadError::io("read", path))?.is_none() {
                return Ok(false);
            }
        }
        let index = self.tree.index();
        let sentence = format!(
            "the frame of record {index} is broken: bytes {from} to {} are no frame, and a sound one \
             follows: corruption, not a torn end",
            to - 1
        );
        let finding = Finding::new(Class::FrameDamaged, sentence).entries(index, index + 1);
        self.spot(finding, spot);
        raw.at_trailer = false;
        self.values_due();
        // Most likely its length was altered: what lies up to the next frame is its payload.
        if spot.length <= DAMAGED_BYTES_MAX && bytes.len() > 9 && bytes[8] == 1 {
            self.entry(&bytes[9..], spot, true);
        }
        Ok(true)
    }

    /// What lies behind the last good trailer, or behind the end.
    fn tail(&mut self, path: &Path, raw: &Raw) -> Result<(), ReadError> {
        let io = || ReadError::io("read", path);
        let mut rest = match Frames::open(path, raw.good_end) {
            Ok(rest) => rest,
            // It was packed while it was read: its records were taken, and what lay behind them is gone with it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(ReadError::io("read", path)(error)),
        };
        let Some(start) = rest.first_nonzero().map_err(io())? else { return Ok(()) };
        let mut end = start;
        rest.skip((start - rest.offset()) as usize).map_err(io())?;
        while let Some(found) = rest.first_nonzero().map_err(io())? {
            rest.skip((found + 1 - rest.offset()) as usize).map_err(io())?;
            end = found + 1;
        }
        let length = end - raw.good_end;
        if !raw.last {
            let file = self.name(path);
            let (path, offset, index) = (path.to_owned(), raw.good_end, self.tree.index());
            self.tails.push(Tail { path, file, offset, length, index, ended: raw.ended });
            return Ok(());
        }
        if self.writer_lives && !raw.ended {
            // The agent is writing a batch.
            return Ok(());
        }
        let finding = if raw.ended || self.seals.ended() {
            Finding::new(
                Class::ExtraBytes,
                "there are bytes behind the end of the log: something was hidden there, or it was \
                 continued by something other than pgward",
            )
        } else {
            Finding::new(
                Class::TornTail,
                format!(
                    "{length} bytes behind the last trailer are no whole batch: one that a crash \
                     cut off, or bytes that were put there"
                ),
            )
        };
        self.at(finding, raw.file, raw.good_end, length);
        Ok(())
    }

    fn pack(&mut self, epoch: &Epoch, piece: &Piece) -> Result<(), ReadError> {
        let path = epoch.file(piece.first, "pack");
        let name = self.name(&path);
        let file = self.tree.file(name);
        self.arrive(piece.first, None);
        let mut pack = match Pack::open(&path) {
            Ok(pack) => pack,
            Err(ReadError::Damaged { offset, what, .. }) => {
                let finding = Finding::new(
                    Class::FrameDamaged,
                    format!("the packed segment cannot be read: {what}"),
                );
                self.at(finding, file, offset, HEADER_BYTES as u64);
                return Ok(());
            }
            Err(ReadError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::UnexpectedEof =>
            {
                let finding =
                    Finding::new(Class::FrameDamaged, "the packed segment is cut off in its table");
                self.at(finding, file, 0, 0);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let header = pack.header().clone();
        self.origin_of(&header.origin, file);
        if header.first != piece.first {
            let finding = Finding::new(
                Class::MarkAltered,
                format!("the file is called {}, its header says {}", piece.first, header.first),
            );
            self.at(finding, file, 16, 8);
            return Ok(());
        }
        self.trailer_number(header.first_trailer, file, 96);
        let mark = |offset| Some(Spot { file, offset, length: 32 });
        let before =
            Claim { who: Who::PackBefore, root: header.root_before, number: 0, spot: mark(32) };
        self.claim(before);
        self.layout(&pack, file);
        let mut values = self.open_values(epoch, piece);
        for number in 0..pack.lines().len() {
            self.bundle(&mut pack, number, file, &mut values)?;
        }
        if let Some(values) = values {
            self.end_of_values(values);
        }
        self.next_trailer = Some(header.next_trailer);
        let behind =
            Claim { who: Who::PackAfter, root: header.root_after, number: 0, spot: mark(64) };
        self.claim(behind);
        Ok(())
    }

    /// Bundles lie back to back and fill the file.
    fn layout(&mut self, pack: &Pack, file: u32) {
        let mut end = (HEADER_BYTES + 20 * pack.lines().len() + 4) as u64;
        let lines = pack.lines().to_vec();
        for (number, line) in lines.iter().enumerate() {
            if line.offset != end {
                let finding = Finding::new(
                    Class::ExtraBytes,
                    format!(
                        "bundle {number} begins at {}, the one before ends at {end}",
                        line.offset
                    ),
                );
                self.at(finding, file, end.min(line.offset), end.abs_diff(line.offset));
            }
            end = line.offset.saturating_add(u64::from(line.compressed));
        }
        if pack.file_bytes() > end {
            let finding = Finding::new(Class::ExtraBytes, "there are bytes behind the last bundle");
            self.at(finding, file, end, pack.file_bytes() - end);
        }
    }

    fn bundle(
        &mut self,
        pack: &mut Pack,
        number: usize,
        file: u32,
        values: &mut Option<ValuesFile>,
    ) -> Result<(), ReadError> {
        let range = pack.range(number);
        let line = pack.lines()[number];
        let spot = Spot { file, offset: line.offset, length: u64::from(line.compressed) };
        let read = pack
            .bundle(number)
            .and_then(|(plain, sound)| Ok((split(plain, range.end - range.start)?, sound)));
        let (entries, sound) = match read {
            Ok(read) => read,
            Err(bad) => {
                let sentence = format!(
                    "the bundle of records {} to {} is damaged: {bad}",
                    range.start,
                    range.end - 1
                );
                let finding =
                    Finding::new(Class::FrameDamaged, sentence).entries(range.start, range.end);
                self.spot(finding, spot);
                self.lose(range.end);
                return Ok(());
            }
        };
        if !sound {
            let finding = Finding::new(
                Class::FrameDamaged,
                "the check sum of a bundle is wrong: bit rot or a careless edit",
            )
            .entries(range.start, range.end);
            self.findings.add(self.tree.place(finding, spot));
        }
        for entry in entries {
            self.entry(entry, spot, false);
            self.values_of(values);
        }
        Ok(())
    }

    /// Both forms of a segment must hold the same entries.
    fn same(&mut self, log: &Path, pack: &Path) {
        let compared = (|| {
            let (mut raw, mut packed) = (Segment::open(log)?, Pack::open(pack)?);
            loop {
                match (raw.advance()?, packed.advance()?) {
                    (true, true) if raw.record().bytes == packed.entry() => {}
                    (false, false) => return Ok(None),
                    (true | false, true | false) => return Ok(Some(packed.index())),
                }
            }
        })();
        let sentence = match compared {
            Ok(None) => return,
            // Its raw form, which was read, is gone by now.
            Err(error) if error.is_not_found() && !log.exists() => return,
            Ok(Some(index)) => format!("the raw and the packed form differ from record {index} on"),
            Err(error @ (ReadError::Damaged { .. } | ReadError::Io { .. })) => {
                format!("the packed form beside a raw one cannot be read: {error}")
            }
            Err(ReadError::Missing { .. } | ReadError::Crowded { .. }) => return,
        };
        let name = self.name(pack);
        self.findings.add(
            Finding::new(Class::CopyDiffers, sentence).file(name).weighing(Severity::Tampering),
        );
    }
}

/// Place behind the last sound trailer or end of a segment, also behind damage.
fn last_mark(path: &Path) -> std::io::Result<u64> {
    let mut frames = Frames::open(path, HEADER_BYTES as u64)?;
    let mut end = HEADER_BYTES as u64;
    loop {
        match frames.step()? {
            Step::Frame(frame) => {
                if frame.sound && matches!(frame.kind, Kind::Trailer | Kind::End) {
                    end = frame.end();
                }
            }
            Step::End { .. } => return Ok(end),
            Step::Broken { .. } => {
                if frames.find_sound()?.is_none() {
                    return Ok(end);
                }
            }
        }
    }
}

/// The kind whose check sum fits, if the type byte of an unsound frame was altered.
fn probable_kind(frame: &Frame<'_>) -> Kind {
    match frame.kind {
        Kind::Unknown(_) => Kind::Entry,
        Kind::Edge => Kind::Entry,
        kind @ (Kind::Trailer | Kind::End | Kind::Values | Kind::Entry) => kind,
    }
}

/// Whether damaged bytes at a place of a file contain a whole sector of zeros.
fn torn_sector(bytes: &[u8], offset: u64) -> bool {
    let lead = (SECTOR_BYTES as u64 - offset % SECTOR_BYTES as u64) as usize % SECTOR_BYTES;
    bytes
        .get(lead..)
        .unwrap_or_default()
        .chunks_exact(SECTOR_BYTES)
        .any(|sector| sector.iter().all(|byte| *byte == 0))
}
