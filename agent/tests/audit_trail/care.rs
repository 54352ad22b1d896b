//! Care of the trail: what may be pruned, held, shredded and eased, and a trail that was.

use std::fs;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use pgward::audit::anchors::AnchorStatus;
use pgward::audit::index::Index;
use pgward::audit::keep::glass::{Asked, GlassError, Token, allowed, token};
use pgward::audit::keep::holds::{HoldError, Holds};
use pgward::audit::keep::prune::{
    Limits, Segment, Stays, anchored, before, may_go, plan, pressure,
};
use pgward::audit::keep::{Care, CareError, index_finished};
use pgward::audit::store::Finished;
use pgward::audit::values::{Day, Party, Scope, SessionValues};
use pgward::audit::{SessionId, Trail, WallNanos};
use pgward::config::Audit;
use pgward::control::{BreakGlass, Hold, HoldAction, HoldScope, Prune, Pruned, Shred, ShredScope};
use pgward_verify::Verdict;

use crate::rig::{self, Result, assert_untampered, settings, verify, wait};

fn segment() -> Segment {
    Segment {
        first: 0,
        end: 512,
        packed: true,
        sound: true,
        oldest_ns: 10,
        newest_ns: 20,
        bytes: 100,
        held_by: Vec::new(),
    }
}

const LIMITS: Limits = Limits { before_ns: 21, anchored: None, tiles: 2 };

#[test]
fn a_segment_goes_only_when_nothing_speaks_against_it() {
    assert_eq!(may_go(&segment(), &LIMITS), Ok(()));
    let held = vec!["case".to_owned()];
    let cases = [
        (Segment { packed: false, ..segment() }, LIMITS, Stays::Raw),
        (Segment { sound: false, ..segment() }, LIMITS, Stays::Damaged),
        (segment(), Limits { before_ns: 20, ..LIMITS }, Stays::Young),
        (segment(), Limits { anchored: Some(511), ..LIMITS }, Stays::Unanchored),
        (segment(), Limits { tiles: 1, ..LIMITS }, Stays::Untiled),
        (Segment { end: 513, ..segment() }, LIMITS, Stays::Untiled),
        (Segment { held_by: held.clone(), ..segment() }, LIMITS, Stays::Held(held)),
    ];
    for (segment, limits, stays) in cases {
        assert_eq!(may_go(&segment, &limits), Err(stays), "{segment:?} {limits:?}");
    }
    assert_eq!(may_go(&segment(), &Limits { anchored: Some(512), ..LIMITS }), Ok(()));
}

#[test]
fn the_oldest_go_without_a_gap_and_no_more_than_is_enough() {
    let young = Segment { newest_ns: 21, ..segment() };
    let all = || [segment(), segment(), young.clone(), segment()];
    let planned = plan(all(), &LIMITS, u64::MAX);
    assert_eq!((planned.goes.len(), planned.stays), (2, Some(Stays::Young)));
    let planned = plan(all(), &LIMITS, 100);
    assert_eq!((planned.goes.len(), planned.stays), (1, None));
    assert_eq!(plan([], &LIMITS, u64::MAX).goes, []);
}

#[test]
fn nothing_younger_than_configured_is_pruned_whoever_asks() {
    let (now, hour) = (WallNanos(10_000_000_000_000), Duration::from_secs(3600));
    assert_eq!(before(u64::MAX, None, now), None);
    assert_eq!(before(u64::MAX, Some(hour), now), Some(6_400_000_000_000));
    assert_eq!(before(5, Some(hour), now), Some(5));
    assert_eq!(before(5, Some(hour), WallNanos(1)), Some(0));
}

#[test]
fn the_quota_presses_from_its_alarm_on() {
    assert_eq!(pressure(899, 1_000), None);
    assert_eq!(pressure(900, 1_000), Some(1));
    assert_eq!(pressure(1_000, 1_000), Some(101));
}

#[test]
fn only_places_that_keep_a_checkpoint_count_as_anchors() {
    let anchor = |kind: &str, size| AnchorStatus {
        name: "a".to_owned(),
        kind: kind.to_owned(),
        size,
        copied: None,
        lag_ms: 0,
        error: None,
        failures: 0,
        busy_ms: None,
        alarm: None,
    };
    assert_eq!(anchored(&[]), None);
    assert_eq!(anchored(&[anchor("print", Some(9))]), None);
    assert_eq!(anchored(&[anchor("witness", None)]), Some(0));
    assert_eq!(anchored(&[anchor("file", Some(7)), anchor("witness", Some(9))]), Some(9));
}

const SESSION: &str = "00000000000000070000000000000001";

fn hold(action: HoldAction, name: &str, scope: HoldScope) -> Hold {
    let text = |text: &str| text.to_owned();
    Hold { action, name: text(name), scope, reason: text("lawsuit"), approver: text("counsel") }
}

fn set(scope: HoldScope) -> std::result::Result<Holds, HoldError> {
    Holds::default().after(&hold(HoldAction::Set, "case", scope), WallNanos(1))
}

#[test]
fn holds_keep_what_they_name() -> Result {
    let kept = |holds: &Holds, oldest, newest, of| {
        !holds.keeping(oldest, newest, |session| session == of).is_empty()
    };
    assert!(!kept(&Holds::default(), 0, u64::MAX, SESSION));
    assert!(kept(&set(HoldScope::All)?, 1, 2, ""));
    let time = set(HoldScope::Time { since_ns: 10, until_ns: 20 })?;
    for ((oldest, newest), expected) in
        [((0, 9), false), ((0, 10), true), ((19, 30), true), ((20, 30), false), ((0, 99), true)]
    {
        assert_eq!(kept(&time, oldest, newest, ""), expected, "{oldest} to {newest}");
    }
    let session = set(HoldScope::Session(SESSION.to_owned()))?;
    assert!(kept(&session, 0, 0, SESSION) && !kept(&session, 0, 0, "another"));
    Ok(())
}

#[test]
fn holds_forbid_to_shred_what_may_be_theirs() -> Result {
    const DAY: u64 = 86_400_000_000_000;
    let subject = || Scope::Subject(b"somebody".to_vec().into());
    let forbids = |holds: &Holds, scope| !holds.forbidding(&scope).is_empty();
    let session = set(HoldScope::Session(SESSION.to_owned()))?;
    let id = SessionId { epoch: 7, counter: 1 }.bytes();
    assert!(forbids(&session, Scope::Session(id)) && !forbids(&session, Scope::Session([1; 16])));
    assert!(forbids(&session, subject()) && forbids(&session, Scope::Day(Day(3))));
    let time = set(HoldScope::Time { since_ns: 0, until_ns: 3 * DAY })?;
    assert!(forbids(&time, Scope::Day(Day(2))) && !forbids(&time, Scope::Day(Day(3))));
    assert!(forbids(&time, subject()) && forbids(&time, Scope::Session(id)));
    for scope in [Scope::Session(id), subject(), Scope::Day(Day(0))] {
        assert!(forbids(&set(HoldScope::All)?, scope.clone()));
        assert!(!forbids(&Holds::default(), scope));
    }
    Ok(())
}

#[test]
fn holds_are_set_once_and_lifted_by_name() -> Result {
    let all = set(HoldScope::All)?;
    let again = all.after(&hold(HoldAction::Set, "case", HoldScope::All), WallNanos(2));
    assert_eq!(again, Err(HoldError::Taken("case".to_owned())));
    let other = all.after(&hold(HoldAction::Lift, "other", HoldScope::All), WallNanos(2));
    assert_eq!(other, Err(HoldError::Unknown("other".to_owned())));
    let lifted = all.after(&hold(HoldAction::Lift, "case", HoldScope::All), WallNanos(2))?;
    assert_eq!(lifted, Holds::default());
    assert_eq!(set(HoldScope::Time { since_ns: 2, until_ns: 2 }), Err(HoldError::Time));
    for text in ["", "xyz", &SESSION[1..], &SESSION.replace('7', "F")] {
        assert_eq!(set(HoldScope::Session(text.to_owned())), Err(HoldError::Session), "{text}");
    }
    Ok(())
}

#[test]
fn recording_is_eased_only_for_root_with_a_token_that_nobody_can_make() {
    let asked = Asked { uid: 0, minutes: 240, reason: "r", approver: "a" };
    let four_hours = Duration::from_secs(4 * 3600);
    assert_eq!(allowed(&asked, Token::ReadOnly, false), Ok(four_hours));
    assert_eq!(allowed(&asked, Token::ReadOnly, true), Err(GlassError::Already));
    for (token, error) in [
        (Token::Unset, GlassError::Unset),
        (Token::Missing, GlassError::Missing),
        (Token::NotAFile, GlassError::NotAFile),
        (Token::Writable, GlassError::Writable),
    ] {
        assert_eq!(allowed(&asked, token, false), Err(error));
    }
    let reason = GlassError::Text { what: "reason", found: 0 };
    for (asked, error) in [
        (Asked { uid: 1000, ..asked }, GlassError::NotRoot(1000)),
        (Asked { minutes: 0, ..asked }, GlassError::Minutes(0)),
        (Asked { minutes: 241, ..asked }, GlassError::Minutes(241)),
        (Asked { reason: "", ..asked }, reason),
    ] {
        assert_eq!(allowed(&asked, Token::ReadOnly, false), Err(error));
    }
}

#[test]
fn a_token_on_a_writable_file_system_is_none() -> Result {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("allowed");
    assert_eq!(token(None), Token::Unset);
    assert_eq!(token(Some(&file)), Token::Missing);
    fs::write(&file, "")?;
    assert_eq!(token(Some(&file)), Token::Writable);
    assert_eq!(token(Some(folder.path())), Token::NotAFile);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&file, &link)?;
    assert_eq!(token(Some(&link)), Token::NotAFile);
    Ok(())
}

/// Opens a trail whose finished segments are indexed, and told.
fn open(audit: &Audit) -> Result<(Arc<Trail>, Receiver<Finished>)> {
    let (tell, told) = channel();
    let directory = audit.directory.clone();
    let trail = rig::open_with(audit, move |epoch, finished| {
        let folder = directory.join(format!("epoch-{epoch}"));
        index_finished(&folder, epoch, finished).expect("an index");
        // Nobody may listen any more.
        let _ = tell.send(finished.clone());
    })?;
    Ok((trail, told))
}

/// Waits until so many segments may be pruned: their tiles are written in the background.
fn prunable(care: &Care, prune: Prune, segments: u64) -> Pruned {
    let would = || care.prune(0, Prune { dry_run: true, ..prune }).expect("nothing is recorded");
    wait(&format!("{segments} segments may be pruned"), || would().segments >= segments);
    would()
}

/// Records so much that `segments` of a mebibyte are finished.
fn fill(trail: &Trail, told: &Receiver<Finished>, segments: usize) -> Result {
    for _ in 0..segments {
        rig::fill(&trail.sink(), 1100, 1000)?;
    }
    for _ in 0..segments {
        told.recv_timeout(Duration::from_secs(120))?;
    }
    Ok(())
}

#[test]
fn a_trail_that_was_held_shredded_and_pruned_verifies() -> Result {
    let folder = tempfile::tempdir()?;
    let audit = settings(folder.path());
    let (trail, told) = open(&audit)?;
    fill(&trail, &told, 3)?;
    trail.close()?; // publishes the last tiles
    drop(trail);

    let (trail, _told) = open(&audit)?;
    let mut care = rig::care(&trail, &audit)?;
    let everything = Prune { before_ns: u64::MAX, dry_run: false };
    let id = SessionId { epoch: 7, counter: 1 };
    let party = Party { destination: "d", database: b"b", user: b"u" };
    let (_values, stored) = SessionValues::begin(&trail.keyring(), &audit, id, &party)?;
    stored.ok_or("a key is needed")?.blocking()?;

    // While everything is held nothing goes.
    care.hold(0, &hold(HoldAction::Set, "case", HoldScope::All))?;
    let pruned = care.prune(0, everything)?;
    assert_eq!((pruned.segments, &*pruned.held_by), (0, &["case".to_owned()][..]));
    let shred = Shred {
        scope: ShredScope::Session,
        target: SESSION.to_owned(),
        reason: "asked to be forgotten".to_owned(),
        approver: "counsel".to_owned(),
    };
    assert!(matches!(care.shred(0, &shred), Err(CareError::Held(_))));
    // A restart forgets nothing, and neither does the loss of what is remembered.
    let held = care.holds()?;
    assert_eq!(held.len(), 1);
    for lost in [false, true] {
        drop(care);
        if lost {
            fs::remove_file(audit.directory.join("keep.json"))?;
        }
        care = rig::care(&trail, &audit)?;
        assert!(matches!(care.shred(0, &shred), Err(CareError::Held(_))), "lost: {lost}");
        let after = care.holds()?;
        assert_eq!(
            (after.len(), &after[0].name, &after[0].scope),
            (1, &held[0].name, &held[0].scope)
        );
    }
    care.hold(0, &hold(HoldAction::Lift, "case", HoldScope::All))?;

    assert_eq!(care.shred(0, &shred)?, 1);
    assert_eq!(care.shred(0, &shred)?, 0, "it is gone");

    let would = prunable(&care, everything, 3);
    let epoch = audit.directory.join("epoch-1");
    let oldest = epoch.join("segment-00000000000000000000");
    for form in ["pack", "index"] {
        assert!(oldest.with_extension(form).exists(), "{form}");
    }
    Index::read(&oldest.with_extension("index"))?;
    let pruned = care.prune(0, everything)?;
    assert_eq!((pruned.segments, pruned.minimum_index), (would.segments, would.minimum_index));
    for form in ["pack", "index"] {
        assert!(!oldest.with_extension(form).exists(), "{form}");
    }

    let eased = BreakGlass { minutes: 1, reason: "r".to_owned(), approver: "a".to_owned() };
    let refused = care.break_glass(0, &eased);
    assert!(matches!(refused, Err(CareError::Glass(GlassError::Unset))));
    assert_eq!(trail.status().eased_until, None);

    // Pruned again, after more was recorded: two records explain one gap.
    drop(care);
    trail.close()?;
    drop(trail);
    let (trail, told) = open(&audit)?;
    fill(&trail, &told, 3)?;
    trail.close()?; // publishes the last tiles
    drop(trail);
    let (trail, _told) = open(&audit)?;
    let care = rig::care(&trail, &audit)?;
    prunable(&care, everything, 1);
    let more = care.prune(0, everything)?;
    assert!(more.segments >= 1 && more.minimum_index > pruned.minimum_index, "{more:?}");
    drop(care);
    trail.close()?;
    drop(trail);

    let report = verify(&audit, Vec::new())?;
    assert_untampered(&report, "held, shredded and pruned");
    assert_eq!(report.classes.get("pruned"), Some(&1), "{:?}", report.classes);
    assert_eq!(report.classes.get("entries-missing"), None);
    // The record of the shredding was pruned as well: said, and no tampering.
    assert!(report.classes.contains_key("key-erased"), "{:?}", report.classes);

    // Without the record of a deletion it is tampering: the oldest that is left goes unsaid.
    let left = pgward_verify::Trail::open(&audit.directory)?;
    let piece = left.epochs()[0].pieces()[0].clone();
    let form = if piece.pack { "pack" } else { "log" };
    fs::remove_file(left.epochs()[0].file(piece.first, form))?;
    let report = verify(&audit, Vec::new())?;
    assert_eq!(report.verdict, Verdict::Tampered, "{:?}", report.classes);
    Ok(())
}
