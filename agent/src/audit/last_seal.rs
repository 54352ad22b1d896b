//! The last seal of a log, which says how the next one is signed.

use pgward_verify::{Entry, Epoch, ReadError};

use super::{
    chain::{LastSeal, SealKind},
    schema::{EventKind, f},
};

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
    use super::{
        super::{
            AgentStop,
            chain::{Origin, Tree, leaf_hash},
            maintenance,
            record::{Record, Stamp},
            salt::salt,
            schema::words,
            time::Now,
        },
        *,
    };

    fn origin() -> Origin {
        Origin::new("pgward", "6f1c0b6e-8a55-4d6e-9f0a-2f8f5a3c1d2e", 1).expect("a good name")
    }

    fn entry<'r>(record: impl Into<Record<'r>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.into().write(&Stamp::agent(Now::read()), &salt(), &mut bytes);
        bytes
    }

    fn seal(number: u64) -> Vec<u8> {
        let (root, next, signature) = (&[1; 32], &[number as u8; 32], &[0; 64]);
        let kind = SealKind::Handover.number();
        entry(&maintenance::Seal { number, size: 0, root, kind, next, signature })
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
        let other = entry(&AgentStop { reason: "", sessions: 0, statements: 0 });
        let guard = tempfile::tempdir().expect("a temporary folder");
        let find = |size| {
            let epoch = Epoch::open(guard.path().to_owned(), 1).expect("a folder");
            let last = last_seal(&epoch, size).expect("good segments")?;
            assert_eq!((last.kind, last.next), (SealKind::Handover, [last.number as u8; 32]));
            Some(last.number)
        };
        assert_eq!(find(0), None);
        let mut tree = Tree::new();
        let first = [other.clone(), seal(0), seal(1), other.clone()];
        segment(guard.path(), &mut tree, 0, &first);
        segment(guard.path(), &mut tree, 1, &[other.clone(), other.clone()]);
        assert_eq!((find(6), find(5), find(4), find(3)), (Some(1), Some(1), Some(1), Some(1)));
        assert_eq!((find(2), find(1)), (Some(0), None));
        segment(guard.path(), &mut tree, 2, &[seal(2), other]);
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
