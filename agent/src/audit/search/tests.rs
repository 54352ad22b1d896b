//! Searches by index against a look at everything.

use std::collections::BTreeSet;
use std::path::Path;

use pgward_verify::Trail;
use proptest::prelude::*;

use super::*;
use crate::audit::index::synthetic::{self, BEGIN_NS, STEP_NS, Shape};

fn shape(seed: u64) -> Shape {
    Shape {
        entries: 3_000,
        segment_entries: 700,
        processes: 12,
        sessions: 9,
        statements: 12,
        texts: 15,
        seed,
    }
}

/// A trail in a folder, of which some indices are gone.
fn trail(folder: &Path, shape: Shape, without: &[u64]) -> Segments {
    synthetic::write(folder, shape, |_| {}).expect("a trail");
    for at in without {
        let first = at * shape.segment_entries;
        let path = folder.join(format!("epoch-1/segment-{first:020}.index"));
        std::fs::remove_file(path).expect("an index");
    }
    reopened(folder)
}

fn reopened(folder: &Path) -> Segments {
    let trail = Trail::open(folder).expect("a trail");
    Segments::open(trail.newest().expect("an epoch"), |_| {}).expect("segments")
}

/// Everything, by looking at each entry.
fn all(shape: Shape) -> Vec<Found> {
    let mut assembler = Assembler::default();
    let mut found = Vec::new();
    for (index, entry) in (0..).zip(synthetic::Entries::new(shape)) {
        found.extend(assembler.push(index, &entry).expect("an entry"));
    }
    found.extend(assembler.finish(shape.entries));
    found
}

/// What is compared. Where something stands does not matter: an unfinished statement has its own
/// place by index, and that of the end of its session in a look at everything.
fn shown(found: &Found) -> String {
    let session = found.session.as_ref().map(|session| session.start.clone());
    format!("{:?} {:?}", found.object, session.map(|start| start.get("database_user").cloned()))
}

fn queries() -> Vec<(&'static str, Query)> {
    let query = Query::default;
    let moment = |entry: u64| Some(BEGIN_NS + entry * STEP_NS);
    vec![
        ("everything", query()),
        ("user", Query { user: Some("report".to_owned()), ..query() }),
        ("database", Query { database: Some("shop".to_owned()), ..query() }),
        ("exe", Query { process: "/usr/bin/app-3".parse().ok(), ..query() }),
        ("name", Query { process: "app-4".parse().ok(), ..query() }),
        ("pid", Query { process: "pid=1005".parse().ok(), ..query() }),
        ("container", Query { container: Some("web-6".to_owned()), ..query() }),
        ("container id", Query { container: Some("00".to_owned()), ..query() }),
        ("relation", Query { relation: "public.table_7".parse().ok(), ..query() }),
        ("words", Query { text: "kind_3 WHERE".parse().ok(), ..query() }),
        ("error", Query { sqlstate: "42p01".parse().ok(), ..query() }),
        ("login error", Query { sqlstate: "28P01".parse().ok(), ..query() }),
        ("session", Query { session: "feed:5".parse().ok(), ..query() }),
        ("refusals", Query { events: vec!["refused".to_owned()], ..query() }),
        ("logins", Query { events: vec!["session_start".to_owned()], ..query() }),
        ("time", Query { since: moment(650), until: moment(1500), ..query() }),
        (
            "several",
            Query {
                database: Some("ledger".to_owned()),
                sqlstate: "42P01".parse().ok(),
                since: moment(300),
                text: "select".parse().ok(),
                ..query()
            },
        ),
        ("nothing", Query { user: Some("nobody".to_owned()), ..query() }),
        ("no such word", Query { text: "table_99".parse().ok(), ..query() }),
    ]
}

/// Gives the names of the questions that find nothing, and whether a statement has no outcome.
fn agrees(seed: u64, without: &[u64]) -> (Vec<&'static str>, bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let shape = shape(seed);
    let mut segments = trail(folder.path(), shape, without);
    assert_eq!(segments.len(), 5);
    assert_eq!(segments.end(), shape.entries);
    let everything = all(shape);
    let (mut nothing, mut unfinished) = (Vec::new(), false);
    for (name, query) in queries() {
        let expected: BTreeSet<String> =
            everything.iter().filter(|found| query.fits(found)).map(shown).collect();
        let answer = search(&mut segments, &query, usize::MAX, |_| {});
        assert!(answer.unread.is_empty(), "{name}: {:?}", answer.unread);
        let found: BTreeSet<String> = answer.found.iter().map(shown).collect();
        assert_eq!(found.len(), answer.found.len(), "{name}: nothing is shown twice");
        let missing: Vec<_> = expected.difference(&found).take(2).collect();
        let wrong: Vec<_> = found.difference(&expected).take(2).collect();
        assert!(missing.is_empty() && wrong.is_empty(), "{name}: {missing:?} {wrong:?}");
        assert!(answer.found.is_sorted_by_key(|found| found.index), "{name}");
        nothing.extend(found.is_empty().then_some(name));
        unfinished |= answer
            .found
            .iter()
            .any(|found| found.object.get("outcome").is_some_and(|o| o == "unknown"));
    }
    (nothing, unfinished)
}

#[test]
fn an_index_finds_what_a_look_at_everything_finds() {
    assert_eq!(agrees(1, &[]), (vec!["nothing", "no such word"], true));
}

#[test]
fn segments_without_an_index_are_searched_all_the_same() {
    agrees(2, &[0, 1, 2, 3, 4]);
    agrees(3, &[2]);
    agrees(4, &[1, 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn any_trail_is_searched_alike(seed in 5_u64..1 << 40) {
        agrees(seed, &[]);
    }
}

#[test]
fn the_newest_are_found_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let shape = shape(1);
    let mut segments = trail(folder.path(), shape, &[]);
    let query = Query { database: Some("shop".to_owned()), ..Query::default() };
    let all = search(&mut segments, &query, usize::MAX, |_| {}).found;
    for rows in [1, 7, 100] {
        let mut read = 0;
        let last = search(&mut segments, &query, rows, |_| read += 1).found;
        assert_eq!(last.len(), rows);
        assert_eq!(last, all[all.len() - rows..]);
        assert!(read < 3 || rows == 100, "{read} segments for {rows} rows");
    }
}

#[test]
fn an_index_that_is_damaged_is_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let shape = shape(1);
    let expected = search(&mut trail(folder.path(), shape, &[]), &Query::default(), 9_999, |_| {});
    for (at, byte) in [(0_u64, 40_usize), (1, 200), (2, 0), (4, 127)] {
        let first = at * shape.segment_entries;
        let path = folder.path().join(format!("epoch-1/segment-{first:020}.index"));
        let mut bytes = std::fs::read(&path).expect("an index");
        bytes[byte] ^= 1;
        std::fs::write(&path, bytes).expect("written");
    }
    let mut segments = reopened(folder.path());
    let found = search(&mut segments, &Query::default(), 9_999, |_| {});
    assert_eq!(found.found, expected.found);
    assert!(segments.without_index() >= 2);
    assert_eq!(segments.write_made(|_| {}).expect("written"), 4);
    assert_eq!(reopened(folder.path()).without_index(), 0);
}

#[test]
fn what_a_damaged_segment_had_is_said_to_be_unread() {
    let folder = tempfile::tempdir().expect("a folder");
    let shape = shape(1);
    drop(trail(folder.path(), shape, &[]));
    let path = folder.path().join("epoch-1/segment-00000000000000000700.pack");
    let mut bytes = std::fs::read(&path).expect("a segment");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let mut segments = reopened(folder.path());
    let answer = search(&mut segments, &Query::default(), 9_999, |_| {});
    assert!(!answer.unread.is_empty());
    let text = answer.unread[0].to_string();
    assert!(
        text.contains("segment-00000000000000000700.pack") && text.contains("check sum"),
        "{text}"
    );
    assert!(answer.found.len() > 500, "the rest was searched");
}

#[test]
fn questions_are_checked() {
    for bad in ["", "xyz", "feedfeedfeedfeedf:1", "feed:x", &"0".repeat(33)] {
        assert!(bad.parse::<Session>().is_err(), "{bad}");
    }
    let whole = "FEED000000000001000000000000002A";
    assert_eq!(whole.parse::<Session>().expect("an id").whole(), Some(&*whole.to_lowercase()));
    let short: Session = "feed:42".parse().expect("an id");
    assert!(short.fits_text(&whole.to_lowercase()) && short.whole().is_none());
    assert!(!short.fits_text("feed000000000001000000000000002b"));
    for (text, process) in [
        ("pid=7", Process::Pid(7)),
        ("/usr/bin/psql", Process::Path("/usr/bin/psql".to_owned())),
        ("psql", Process::Name("psql".to_owned())),
    ] {
        assert_eq!(text.parse(), Ok(process));
    }
    assert!("pid=x".parse::<Process>().is_err() && "".parse::<Process>().is_err());
    assert!("42P0".parse::<SqlState>().is_err() && "42P-1".parse::<SqlState>().is_err());
    assert!(" ;".parse::<Words>().is_err() && "$1".parse::<Relation>().is_err());
}
