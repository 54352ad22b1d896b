//! The table: one line for each tamper or fault.

use std::path::Path;

use pgward_verify::{Class, Options, Report, Verdict, verify_dir};

use crate::scene::{Scene, scene, sessions, three_segments};
use crate::{cuts, entries, events, notes, values};

/// What is expected of the verifier: the finding, the records it names if that is checked, the
/// exit code.
struct Case {
    /// Number of the row in the table of tampers and faults.
    row: u32,
    name: &'static str,
    make: fn() -> Scene,
    class: Class,
    records: Option<(u64, u64)>,
    exit: u8,
}

const fn case(
    row: u32,
    name: &'static str,
    make: fn() -> Scene,
    class: Class,
    records: Option<(u64, u64)>,
    exit: u8,
) -> Case {
    Case { row, name, make, class, records, exit }
}

const CASES: &[Case] = &[
    case(
        2,
        "an entry is edited, its check sum made to fit",
        entries::edited_small,
        Class::RootMismatch,
        Some((40, 41)),
        1,
    ),
    case(
        2,
        "the same where a tile covers it",
        entries::edited_tiled,
        Class::EntryAltered,
        Some((40, 41)),
        1,
    ),
    case(
        2,
        "the same in a packed segment",
        entries::edited_packed,
        Class::EntryAltered,
        Some((40, 41)),
        1,
    ),
    case(
        2,
        "an entry is edited, its check sum is not",
        entries::rotten_tiled,
        Class::EntryAltered,
        Some((40, 41)),
        1,
    ),
    case(
        3,
        "entry and level-0 hash are forged together",
        entries::forged_small,
        Class::RootMismatch,
        Some((40, 41)),
        1,
    ),
    case(3, "the same at size 65,536", entries::forged_65536, Class::RootMismatch, None, 1),
    case(3, "the same at size 70,000, left", entries::forged_70000, Class::RootMismatch, None, 1),
    case(
        3,
        "the same at size 70,000, right edge",
        entries::forged_70000_right,
        Class::RootMismatch,
        None,
        1,
    ),
    case(3, "the same in a pack", entries::forged_packed, Class::Rewritten, None, 1),
    case(4, "all is rebuilt but the seals", entries::rebuilt, Class::Rewritten, None, 1),
    case(
        5,
        "all is rebuilt and signed with the stolen host key",
        entries::resigned,
        Class::Fork,
        None,
        1,
    ),
    case(5, "the same: the chain of seals", entries::resigned, Class::Rewritten, None, 1),
    case(
        6,
        "an entry is deleted",
        entries::deleted_tiled,
        Class::EntriesMissing,
        Some((40, 41)),
        1,
    ),
    case(
        6,
        "the same without a tile",
        entries::deleted_small,
        Class::EntriesMissing,
        Some((40, 41)),
        1,
    ),
    case(6, "an entry is duplicated", entries::duplicated, Class::EntriesAdded, Some((41, 42)), 1),
    case(6, "an entry is inserted", entries::inserted, Class::EntriesAdded, Some((41, 42)), 1),
    case(6, "two entries are exchanged", entries::swapped, Class::EntriesMoved, None, 1),
    case(
        6,
        "two entries of one batch are exchanged",
        entries::swapped_in_batch,
        Class::EntriesMoved,
        Some((2, 4)),
        1,
    ),
    case(
        7,
        "the end is removed, a witness knows more",
        cuts::cut_witnessed,
        Class::Truncated,
        None,
        1,
    ),
    case(
        7,
        "the end is removed with all that knows of it",
        cuts::cut_silently,
        Class::Silence,
        None,
        2,
    ),
    case(8, "cut to an earlier seal and continued", cuts::continued, Class::SealKey, None, 1),
    case(9, "idle seals are removed", cuts::seals_removed, Class::SealGap, None, 1),
    case(9, "silence without a stop", cuts::silent, Class::Silence, None, 2),
    case(10, "a frame is hidden between batches", cuts::hidden_frame, Class::ExtraBytes, None, 1),
    case(
        10,
        "bytes behind the end of a segment",
        cuts::slack_behind_end,
        Class::ExtraBytes,
        None,
        1,
    ),
    case(10, "bytes behind the end of the log", cuts::slack_behind_log, Class::ExtraBytes, None, 1),
    case(10, "bytes in the file kept for later", cuts::slack_in_next, Class::ExtraBytes, None, 1),
    case(10, "bytes behind the last bundle", cuts::slack_in_pack, Class::ExtraBytes, None, 1),
    case(10, "an unknown file", cuts::extra_file, Class::ExtraFile, None, 1),
    case(11, "the key of another host", cuts::other_host, Class::WrongKey, None, 1),
    case(11, "another key of this host", cuts::other_key, Class::WrongKey, None, 1),
    case(11, "no seals", cuts::no_seals, Class::SealMissing, None, 1),
    case(11, "an empty folder", cuts::empty, Class::SealMissing, None, 1),
    case(12, "a segment is removed", cuts::segment_removed, Class::EntriesMissing, None, 1),
    case(12, "the first segment is removed", cuts::first_removed, Class::EntriesMissing, None, 1),
    case(
        12,
        "a session is removed, the rest renumbered",
        cuts::session_removed,
        Class::Rewritten,
        None,
        1,
    ),
    case(12, "an epoch is removed", cuts::epoch_removed, Class::EpochMissing, None, 1),
    case(
        12,
        "the newest epoch is removed",
        cuts::newest_epoch_removed,
        Class::EpochMissing,
        None,
        1,
    ),
    case(13, "a segment of another host", cuts::spliced, Class::WrongOrigin, None, 1),
    case(13, "a segment of another epoch", cuts::spliced_epoch, Class::WrongOrigin, None, 1),
    case(14, "two checkpoints of one size", cuts::split_view, Class::Fork, None, 1),
    case(19, "no signature of the witness", notes::witness_missing, Class::NotAnchored, None, 2),
    case(
        19,
        "a cosignature of an unknown key",
        notes::witness_unknown,
        Class::NotAnchored,
        None,
        2,
    ),
    case(19, "a cosignature that is wrong", notes::witness_wrong, Class::BadCosignature, None, 1),
    case(
        19,
        "a cosignature from the future",
        notes::witness_future,
        Class::FutureCosignature,
        None,
        1,
    ),
    case(
        20,
        "a checkpoint with line ends of another system",
        notes::checkpoint_crlf,
        Class::CheckpointMalformed,
        None,
        1,
    ),
    case(
        20,
        "a checkpoint with a second empty line",
        notes::checkpoint_lines,
        Class::CheckpointMalformed,
        None,
        1,
    ),
    case(
        20,
        "a checkpoint of a mebibyte",
        notes::checkpoint_huge,
        Class::CheckpointMalformed,
        None,
        1,
    ),
    case(
        22,
        "an entry in the tree is not canonical",
        notes::not_canonical,
        Class::EntryMalformed,
        None,
        1,
    ),
    case(24, "a torn end", events::torn, Class::TornTail, None, 2),
    case(
        25,
        "a bad frame, a good trailer behind it",
        events::corrupt,
        Class::FrameDamaged,
        Some((40, 41)),
        1,
    ),
    case(
        32,
        "the clock is set back, no record says so",
        events::clock_back,
        Class::ClockBackwards,
        None,
        2,
    ),
    case(
        32,
        "the clock is an hour ahead of the witness",
        events::clock_ahead,
        Class::ClockAhead,
        None,
        2,
    ),
    case(
        32,
        "the clock is set back by an hour, a record says so",
        events::clock_set_back,
        Class::ClockStep,
        None,
        2,
    ),
    case(
        32,
        "the same: what came before claims to be later than the witness saw it",
        events::clock_set_back,
        Class::ClockAhead,
        Some((0, 6)),
        2,
    ),
    case(
        32,
        "the clock is set forward by an hour, a record says so",
        events::clock_set_forward,
        Class::ClockStep,
        None,
        0,
    ),
    case(
        32,
        "a start in 1970 and the time that comes later, a record says so",
        events::clock_from_1970,
        Class::ClockStep,
        None,
        0,
    ),
    case(34, "a key is erased without a record", values::shredded, Class::KeyErased, None, 1),
    case(34, "the key of a day is erased", values::day_shredded, Class::KeyErased, None, 1),
    case(34, "the key of a person is erased", values::person_shredded, Class::KeyErased, None, 1),
    case(34, "another day has a record", values::other_day_shredded, Class::KeyErased, None, 1),
    case(34, "its file names the other day", values::day_forged, Class::KeyErased, None, 1),
    case(34, "a key is not there at all", values::keys_deleted, Class::KeyErased, None, 1),
    case(
        33,
        "a session is shredded, a record says so",
        values::session_redacted,
        Class::Redacted,
        None,
        0,
    ),
    case(33, "a day is shredded, a record says so", values::day_redacted, Class::Redacted, None, 0),
    case(
        33,
        "a person is shredded, a record says so",
        values::person_redacted,
        Class::Redacted,
        None,
        0,
    ),
    case(
        34,
        "another session has a record",
        values::other_session_shredded,
        Class::KeyErased,
        None,
        1,
    ),
    case(
        34,
        "values are deleted without a record",
        values::values_deleted,
        Class::ValuesMissing,
        None,
        1,
    ),
    case(36, "a frame of values is altered", values::values_altered, Class::ValuesAltered, None, 1),
    case(36, "a frame of values is removed", values::values_removed, Class::ValuesMissing, None, 1),
    case(43, "unknown version, event and field", events::unknown, Class::Unknown, None, 0),
    case(
        46,
        "a crash that no anchor saw on both sides",
        events::crashed,
        Class::RecoveryUnwitnessed,
        None,
        2,
    ),
    case(46, "a crash between two anchors", events::crashed_anchored, Class::Recovered, None, 0),
    case(
        46,
        "the chain of seals begins anew without a reason",
        events::restarted,
        Class::SealRestart,
        None,
        1,
    ),
    case(
        46,
        "sessions of a crash have no end",
        events::crashed_anchored,
        Class::SessionUnfinished,
        None,
        0,
    ),
    case(
        9,
        "a connect with two records",
        events::connect_twice,
        Class::ConnectUnexplained,
        None,
        1,
    ),
    case(
        9,
        "a connect that was not seen",
        events::connect_unseen,
        Class::ConnectUnexplained,
        None,
        1,
    ),
    case(
        9,
        "connects that nothing explains",
        events::unexplained,
        Class::ConnectUnexplained,
        None,
        1,
    ),
    case(10, "a tile is altered", events::tile_altered, Class::TileAltered, Some((40, 41)), 1),
    case(10, "a trailer is altered", events::trailer_altered, Class::MarkAltered, None, 1),
    case(10, "sessions have gaps", events::session_gap, Class::SessionGap, None, 1),
    case(
        10,
        "the digest of a session is wrong",
        events::session_digest,
        Class::SessionDigest,
        None,
        1,
    ),
    case(10, "an outcome without an intent", events::outcome_alone, Class::OutcomeAlone, None, 1),
    case(10, "the same, and other losses", events::intent_removed, Class::OutcomeAlone, None, 1),
    case(
        27,
        "a lost intent, as records say",
        events::intent_lost_on_record,
        Class::OutcomeAlone,
        None,
        2,
    ),
    case(
        3,
        "statements went before they were durable",
        events::asynchronous,
        Class::AsyncWindow,
        None,
        2,
    ),
    case(12, "entries are pruned, a record says so", events::pruned, Class::Pruned, None, 0),
    case(
        24,
        "the record of a torn tail is pruned",
        events::pruned_recovery,
        Class::ExtraFile,
        None,
        0,
    ),
    case(24, "bytes put aside by nobody", events::unexplained_recovery, Class::ExtraFile, None, 1),
    case(39, "a second copy tells the bytes", events::copied, Class::CopyDiffers, None, 1),
];

#[test]
fn every_row_is_found_as_the_table_says() {
    let failed: Vec<String> = CASES
        .iter()
        .filter_map(|case| {
            let scene = (case.make)();
            let report = scene.verify();
            judge(case, &report).err().map(|why| format!("row {}, {}: {why}", case.row, case.name))
        })
        .collect();
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), CASES.len(), failed.join("\n"));
}

/// The canary: a verifier that always passes is not taken for one.
#[test]
fn a_verifier_that_always_passes_fails_every_case() {
    let empty = Scene::new(sessions(0));
    let passes = empty.verify();
    assert_eq!(passes.verdict, Verdict::Intact);
    for case in CASES {
        assert!(judge(case, &passes).is_err(), "row {}, {}", case.row, case.name);
    }
}

fn judge(case: &Case, report: &Report) -> Result<(), String> {
    let list: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let list = list.join("\n  ");
    let exit = report.verdict.exit_code();
    if exit != case.exit {
        return Err(format!("exit {exit}, expected {}\n  {list}", case.exit));
    }
    let of_class = report.findings.iter().filter(|finding| finding.class == case.class);
    let ranges: Vec<_> = of_class.map(|finding| (finding.from_index, finding.to_index)).collect();
    let covers = |(from, to): &(Option<u64>, Option<u64>)| match case.records {
        Some((first, end)) => {
            from.is_some_and(|from| from <= first)
                && to.is_some_and(|to| to >= end && to <= end + 10)
        }
        None => true,
    };
    if ranges.iter().any(covers) {
        Ok(())
    } else {
        Err(format!("no {} for {:?}\n  {list}", case.class, case.records))
    }
}

#[test]
fn an_untouched_trail_is_intact_and_anchored() {
    for log in
        [sessions(0), sessions(1), sessions(30), three_segments(), entries::packed(), values::log()]
    {
        let report = Scene::new(log).verify();
        assert_eq!((report.verdict, &*report.findings), (Verdict::Intact, &[][..]));
    }
}

#[test]
fn without_a_key_nothing_is_checked() {
    let scene = scene();
    let found = verify_dir(&Options::new(scene.trail())).expect_err("no key");
    assert!(found.to_string().contains("hint: copy `keys/host.vkey`"), "{found}");
    let nowhere = Options { directory: Path::new("/nowhere").into(), ..scene.options };
    verify_dir(&nowhere).expect_err("no folder");
}

/// What the entries contradict is not shown as what anchors them.
#[test]
fn a_forked_anchor_anchors_nothing() {
    let epochs = entries::resigned().verify().epochs;
    assert_eq!(epochs[0].anchored, None);
    assert!(scene().verify().epochs[0].anchored.is_some());
}

/// A Parse that failed was never going to run anything: its outcome stands alone.
#[test]
fn a_message_that_runs_nothing_has_an_outcome_and_no_intent() {
    let report = events::parse_failed().verify();
    assert_eq!((report.verdict, &*report.findings), (Verdict::Intact, &[][..]));
}

/// A statement that was refused, since its intent could not be recorded, went nowhere.
#[test]
fn a_statement_that_was_refused_has_an_outcome_and_no_intent() {
    let report = events::statement_refused().verify();
    assert_eq!((report.verdict, &*report.findings), (Verdict::Intact, &[][..]));
}
