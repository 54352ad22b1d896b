//! The file, whole and in pieces.

use super::synthetic::{Entries, Shape};
use super::*;

const SHAPE: Shape = Shape {
    entries: 900,
    segment_entries: 900,
    processes: 5,
    sessions: 4,
    statements: 30,
    texts: 8,
    seed: 7,
};

fn entries() -> Vec<Vec<u8>> {
    Entries::new(SHAPE).collect()
}

fn built(previous: Option<&Index>, first: u64, entries: &[Vec<u8>]) -> Vec<u8> {
    build(previous, first, entries.iter().map(Vec::as_slice)).expect("an index")
}

#[test]
fn the_same_entries_give_the_same_bytes() {
    let entries = entries();
    assert_eq!(built(None, 0, &entries), built(None, 0, &entries));
    assert!(built(None, 0, &entries).len() < 10 * entries.len(), "a few bytes an entry");
}

#[test]
fn no_prefix_and_no_flipped_bit_is_taken() {
    let bytes = built(None, 0, &entries());
    Index::parse(bytes.clone()).expect("whole");
    for length in 0..bytes.len() {
        assert!(Index::parse(bytes[..length].to_vec()).is_err(), "{length} bytes");
    }
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        assert!(Index::parse(bytes).is_err(), "byte {at}");
    }
}

/// With check sums made right again, so that what is behind them is tried.
#[test]
fn nothing_in_an_index_leads_astray() {
    let whole = built(None, 0, &entries());
    let mut taken = 0;
    for at in 16..whole.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let crc = crc32c::crc32c(&bytes[HEADER_BYTES..]);
            bytes[120..124].copy_from_slice(&crc.to_be_bytes());
            let crc = crc32c::crc32c(&bytes[..124]);
            bytes[124..128].copy_from_slice(&crc.to_be_bytes());
            let Ok(index) = Index::parse(bytes) else { continue };
            taken += 1;
            for session in index.sessions() {
                let _ = index.seqs_of(session);
                let _ = index.entries_of(session);
                let _ = index.facts_of(session).count();
            }
            let _ = index.entries_with(&index.facts_where(|_| true));
            let _ = index.statements_with(&[word_hash(b"select"), word_hash(b"table_3")]);
            let _ = Builder::new(Some(&index), index.zone().end);
        }
    }
    assert!(taken > 100, "some are taken: {taken}");
}

#[test]
fn what_is_open_is_carried_over() {
    let entries = entries();
    let (first, second) = entries.split_at(400);
    let before = Index::parse(built(None, 0, first)).expect("an index");
    let after = Index::parse(built(Some(&before), 400, second)).expect("an index");
    let open: Vec<&SessionRow> = before.sessions().iter().filter(|row| row.open).collect();
    assert_eq!(open.len(), SHAPE.sessions, "as many as are open at a time");
    for row in open {
        let here = after.session(&row.id).expect("it is known in the next segment");
        assert_eq!(here.previous, Some(0));
        let facts: Vec<&Fact> = after.facts_of(here).collect();
        assert!(before.facts_of(row).all(|fact| facts.contains(&fact)));
    }
    assert_eq!((after.zone().first, after.zone().end), (400, 900));
    assert!(after.zone().time_min <= before.zone().time_max + synthetic::STEP_NS);
    // A session without entries here keeps its place.
    let idle = Index::parse(built(Some(&before), 400, &[])).expect("an index");
    let row = idle.sessions().first().expect("sessions are open");
    assert_eq!((row.open, row.previous), (true, Some(0)));
    assert!(idle.entries_of(row).expect("a list").is_empty());
}

#[test]
fn what_is_no_entry_counts_all_the_same() {
    let mut entries = entries();
    entries[3] = b"nothing".to_vec();
    let index = Index::parse(built(None, 0, &entries)).expect("an index");
    assert_eq!(index.zone().end, 900);
    let all: usize =
        index.sessions().iter().map(|row| index.entries_of(row).expect("a list").len()).sum();
    let alone = index.facts_where(|fact| fact.value == "refused");
    let alone = index.entries_with(&alone).expect("a list").len();
    assert_eq!(all + alone, 899);
}
