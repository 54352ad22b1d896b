//! Disks that are full or report errors, without a crash.

use nix::errno::Errno;

use super::names::{self, Form, NEXT};
use super::open::OpenError;
use super::rig::{Model, Rig, read_back, settings};
use super::shared::{Health, Level, Settings};
use super::sim::{Op, SimDisk, Survival};
use super::sink::{Class, NotRecorded, SINK_BYTES_MAX};
use super::watch::Notice;
use crate::config::{AuditMode, OnFull};

/// A store with one durable record and everything prepared.
fn started(disk: &SimDisk, model: &mut Model) -> Rig {
    started_with(disk, model, settings())
}

fn started_with(disk: &SimDisk, model: &mut Model, settings: Settings) -> Rig {
    let mut rig = Rig::open_with(disk, model, settings).expect("opens");
    assert!(rig.keeper.round());
    put(&mut rig, model).expect("put");
    rig.round(model).expect("durable");
    rig
}

fn put(rig: &mut Rig, model: &mut Model) -> Result<super::Put, NotRecorded> {
    rig.put(model, 0, Class::Ordinary, 300, b"")
}

/// What is on the surface holds the model, and a file that failed was never synced again.
fn check(disk: &SimDisk, model: &Model) {
    let surface = disk.after_power_loss(Survival::Nothing);
    let found = read_back(&surface).expect("reads");
    assert_eq!(found.corrupt, None);
    model.check(&found, "on the surface");
    let found = read_back(disk).expect("reads");
    assert_eq!(found.corrupt, None);
    model.check(&found, "as it is");
    assert_eq!(disk.syncs_after_failure(), 0, "synced again after an error");
}

#[test]
fn an_error_moves_the_batch_to_a_new_segment_and_nobody_is_refused() {
    for (op, errno) in [
        (Op::Write, Errno::EIO),
        (Op::Write, Errno::ENOSPC),
        (Op::Write, Errno::EROFS),
        (Op::Sync, Errno::EIO),
        (Op::Sync, Errno::EDQUOT),
    ] {
        let disk = SimDisk::default();
        let mut model = Model::default();
        let mut rig = started(&disk, &mut model);
        disk.fail(op, 0, 1, errno);
        let failing = put(&mut rig, &mut model).expect("put");
        rig.round(&mut model).expect("durable elsewhere");
        assert_eq!(rig.sinks[0].ends(failing.ticket), Ok(true), "{op:?} {errno}");
        assert_eq!(rig.shared.health(), Health::Good);
        let operation = if op == Op::Write { "write" } else { "fdatasync" };
        let expected = [
            Notice::WriteFailed { operation, errno: errno as i32 },
            Notice::SegmentAbandoned { first: 0, size: 1 },
        ];
        assert_eq!(rig.heard.notices(), expected);
        check(&disk, &model);

        // Later batches go on there, and the abandoned segment is packed without the attempt.
        put(&mut rig, &mut model).expect("put");
        rig.round(&mut model).expect("durable");
        assert!(rig.keeper.round());
        assert_eq!(rig.heard.finished().len(), 1);
        assert!(disk.content(&names::segment(0, Form::Raw)).is_none(), "packed");
        check(&disk, &model);
    }
}

#[test]
fn a_disk_that_takes_nothing_fails_every_ticket_and_keeps_every_record() {
    for (errno, expected, health) in [
        (Errno::EIO, NotRecorded::Io, Health::Broken),
        (Errno::EROFS, NotRecorded::Io, Health::Broken),
        (Errno::ENOSPC, NotRecorded::DiskFull, Health::Full),
        (Errno::EDQUOT, NotRecorded::DiskFull, Health::Full),
    ] {
        let disk = SimDisk::default();
        let mut model = Model::default();
        let mut rig = started(&disk, &mut model);
        disk.fail(Op::Write, 0, usize::MAX, errno);
        disk.fail(Op::Create, 0, usize::MAX, errno);
        let failed = put(&mut rig, &mut model).expect("put");
        assert_eq!(rig.round(&mut model), Err(expected), "{errno}");
        assert_eq!(rig.sinks[0].ends(failed.ticket), Err(expected));
        assert_eq!(rig.shared.health(), health);
        assert_eq!(put(&mut rig, &mut model), Err(expected), "no further statement");
        assert_eq!(rig.sinks[0].sink.check(), Err(expected));
        let closing = rig.put(&mut model, 0, Class::Closing, 10, b"").expect("kept in memory");
        assert_eq!(rig.round(&mut model), Err(expected));
        assert_eq!(rig.sinks[0].ends(closing.ticket), Err(expected));
        assert!(!rig.keeper.round(), "nothing can be prepared");

        disk.heal();
        assert!(rig.keeper.round());
        rig.round(&mut model).expect("written after all");
        assert_eq!(rig.shared.health(), Health::Good);
        assert_eq!(rig.sinks[0].ends(failed.ticket), Err(expected), "too late");
        assert_eq!(rig.heard.notices().last(), Some(&Notice::Recovered));
        let later = put(&mut rig, &mut model).expect("put");
        rig.round(&mut model).expect("durable");
        assert_eq!(rig.sinks[0].ends(later.ticket), Ok(true));
        check(&disk, &model);
        assert_eq!(read_back(&disk).expect("reads").leaves.len(), 4, "in their places");
    }
}

#[test]
fn an_error_of_the_folder_or_of_a_name_is_not_taken_for_success() {
    for op in [Op::Rename, Op::SyncFolder] {
        let disk = SimDisk::default();
        let mut model = Model::default();
        let mut rig = started(&disk, &mut model);
        disk.fail(Op::Sync, 0, 1, Errno::EIO); // a new segment is needed
        disk.fail(op, 0, usize::MAX, Errno::EIO);
        let failed = put(&mut rig, &mut model).expect("put");
        assert_eq!(rig.round(&mut model), Err(NotRecorded::Io), "{op:?}");
        assert_eq!(rig.sinks[0].ends(failed.ticket), Err(NotRecorded::Io));
        let surface = disk.after_power_loss(Survival::Nothing);
        let found = read_back(&surface).expect("reads");
        model.check(&found, "the surface");
        disk.heal();
        rig.keeper.round();
        rig.round(&mut model).expect("written after all");
        check(&disk, &model);
    }
}

#[test]
fn without_inodes_the_reserve_is_used_for_closing_records_only() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    let mut rig = started(&disk, &mut model);
    disk.fail(Op::Create, 0, usize::MAX, Errno::ENOSPC);
    while rig.shared.health() == Health::Good {
        put(&mut rig, &mut model).expect("put");
        rig.round(&mut model).expect("durable, in the reserve at last");
        rig.keeper.round();
    }
    assert_eq!(rig.shared.health(), Health::Full);
    assert!(rig.heard.notices().contains(&Notice::ReserveInUse));
    assert_eq!(put(&mut rig, &mut model), Err(NotRecorded::DiskFull));
    let mut taken = 0;
    loop {
        let closing = rig.put(&mut model, 1, Class::Closing, 300, b"").expect("put");
        if rig.round(&mut model).is_err() {
            assert_eq!(rig.sinks[1].ends(closing.ticket), Err(NotRecorded::DiskFull));
            break;
        }
        assert_eq!(rig.sinks[1].ends(closing.ticket), Ok(true));
        taken += 1;
    }
    assert!(taken > 10, "the reserve took {taken}");
    check(&disk, &model);

    disk.heal();
    assert!(rig.keeper.round());
    rig.round(&mut model).expect("written after all");
    assert_eq!(rig.shared.health(), Health::Good);
    put(&mut rig, &mut model).expect("statements again");
    rig.round(&mut model).expect("durable");
    check(&disk, &model);
}

#[test]
fn space_that_comes_back_ends_the_emergency_without_a_record() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    let mut rig = started(&disk, &mut model);
    disk.limit(disk.bytes());
    while rig.shared.health() == Health::Good {
        put(&mut rig, &mut model).expect("put");
        rig.round(&mut model).expect("durable");
        rig.keeper.prepare();
    }
    disk.heal();
    assert!(rig.keeper.round());
    rig.round(&mut model).expect("nothing to write");
    assert_eq!(rig.shared.health(), Health::Good);
    check(&disk, &model);
}

#[test]
fn watermarks_are_told_and_stop_sessions_then_statements() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    let quota = Settings { quota_bytes: 64 << 10, ..settings() };
    let mut rig = started_with(&disk, &mut model, quota);
    let mut levels = Vec::new();
    let mut number = 0_u64;
    while rig.sinks[0].sink.check().is_ok() {
        let stopped = rig.sinks[0].sink.check_session();
        let level = rig.shared.level();
        let expected =
            if level >= Level::NoSessions { Err(NotRecorded::SessionsStopped) } else { Ok(()) };
        assert_eq!(stopped, expected, "{level:?}");
        // Values that nothing compresses, so that packing frees little.
        number += 1;
        let mut random = super::sim::Random(number);
        let noise: Vec<u8> = (0..300).map(|_| random.next() as u8).collect();
        rig.put(&mut model, 0, Class::Ordinary, 10, &noise).expect("put");
        rig.round(&mut model).expect("durable");
        rig.keeper.round();
        assert!(number < 10_000, "the quota holds nobody up");
    }
    for notice in rig.heard.notices() {
        if let Notice::Watermark { level, quota_bytes, .. } = notice {
            assert_eq!(quota_bytes, 64 << 10);
            levels.push(level);
        }
    }
    levels.dedup();
    let up = [Level::Warn, Level::Alarm, Level::NoSessions, Level::NoStatements];
    let mut expected = up.iter().peekable();
    for level in &levels {
        expected.next_if_eq(&level);
    }
    assert_eq!(expected.next(), None, "{levels:?}");
    assert_eq!(rig.sinks[0].sink.check(), Err(NotRecorded::DiskFull));
    assert_eq!(put(&mut rig, &mut model), Err(NotRecorded::DiskFull));
    let closing = rig.put(&mut model, 0, Class::Closing, 10, b"").expect("closing records go on");
    rig.round(&mut model).expect("durable");
    assert_eq!(rig.sinks[0].ends(closing.ticket), Ok(true));
    assert!(disk.bytes() < (64 << 10) + 3 * (8 << 10), "{} bytes", disk.bytes());
    check(&disk, &model);

    // Somebody removes old segments.
    for name in disk.names().iter().filter(|name| name.ends_with(".values")) {
        super::disk::Disk::remove(&disk, name).expect("removed");
    }
    assert!(rig.keeper.round());
    put(&mut rig, &mut model).expect("statements again");
}

/// Fills the quota, and the reserve with closing records, and gives how many of those it took.
fn use_up(rig: &mut Rig, model: &mut Model) -> usize {
    let noise = |number: u64| -> Vec<u8> {
        let mut random = super::sim::Random(number);
        (0..300).map(|_| random.next() as u8).collect()
    };
    // Values that nothing compresses, so that packing frees little.
    for number in 1.. {
        assert!(number < 10_000, "the quota holds nobody up");
        match rig.put(model, 0, Class::Ordinary, 10, &noise(number)) {
            Ok(_) => rig.round(model).expect("durable"),
            Err(error) => {
                assert_eq!(error, NotRecorded::DiskFull);
                break;
            }
        }
        rig.keeper.round();
    }
    for taken in 0.. {
        assert!(taken < 10_000, "the quota does not hold for closing records");
        rig.put(model, 1, Class::Closing, 10, &noise(10_000 + taken)).expect("kept in memory");
        if rig.round(model).is_err() {
            return taken as usize;
        }
        let full = rig.shared.level() == Level::NoStatements;
        let in_reserve = rig.shared.in_reserve.load(std::sync::atomic::Ordering::Relaxed);
        let expected = if full && in_reserve { Health::Full } else { Health::Good };
        assert_eq!(rig.shared.health(), expected, "what is kept back is no room");
        rig.keeper.round();
    }
    unreachable!("it ends with an error")
}

#[test]
fn a_start_has_a_segment_also_when_quota_and_reserve_are_used_up() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    let quota = Settings { quota_bytes: 64 << 10, ..settings() };
    let mut rig = started_with(&disk, &mut model, quota.clone());
    assert!(use_up(&mut rig, &mut model) > 10, "the reserve takes closing records");
    assert_eq!(rig.shared.health(), Health::Full);
    assert!(rig.heard.notices().contains(&Notice::ReserveInUse));
    assert!(disk.content(NEXT).is_some(), "one is kept back");
    drop(rig);
    for start in 0..5 {
        let mut rig = Rig::open_with(&disk, &mut model, quota.clone()).expect("starts");
        assert_eq!(rig.shared.health(), Health::Good);
        assert_eq!(rig.shared.level(), Level::NoStatements);
        assert_eq!(rig.sinks[0].sink.check_session(), Err(NotRecorded::DiskFull));
        assert_eq!(put(&mut rig, &mut model), Err(NotRecorded::DiskFull));
        for _ in 0..2 {
            let closing = rig.put(&mut model, 0, Class::Closing, 300, b"").expect("put");
            rig.round(&mut model).expect("durable");
            assert_eq!(rig.sinks[0].ends(closing.ticket), Ok(true), "start {start}");
            rig.keeper.round();
        }
        assert!(disk.bytes() < (64 << 10) + 4 * (8 << 10), "{} bytes", disk.bytes());
        check(&disk, &model);
    }
    // Somebody removes old segments.
    let mut rig = Rig::open_with(&disk, &mut model, quota).expect("starts");
    for name in disk.names().iter().filter(|name| name.ends_with(".values")) {
        super::disk::Disk::remove(&disk, name).expect("removed");
    }
    assert!(rig.keeper.round());
    put(&mut rig, &mut model).expect("statements again");
    rig.round(&mut model).expect("durable");
}

#[test]
fn room_that_is_made_ends_the_emergency_of_a_used_up_quota() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    let quota = Settings { quota_bytes: 64 << 10, ..settings() };
    let mut rig = started_with(&disk, &mut model, quota);
    use_up(&mut rig, &mut model);
    for name in disk.names().iter().filter(|name| name.ends_with(".values")) {
        super::disk::Disk::remove(&disk, name).expect("removed");
    }
    rig.keeper.round();
    rig.committer.round().expect("what waited is written");
    assert_eq!(rig.shared.health(), Health::Good);
    assert_eq!(rig.heard.notices().last(), Some(&Notice::Recovered));
    put(&mut rig, &mut model).expect("statements again");
    rig.round(&mut model).expect("durable");
}

#[test]
fn a_start_on_a_full_disk_takes_the_reserve_and_is_refused_without_one() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    drop(started(&disk, &mut model));
    super::disk::Disk::remove(&disk, NEXT).expect("removed");
    disk.limit(disk.bytes());
    let mut rig = Rig::open(&disk, &mut model).expect("starts in the reserve");
    assert_eq!(rig.shared.health(), Health::Full);
    assert_eq!(put(&mut rig, &mut model), Err(NotRecorded::DiskFull));
    let closing = rig.put(&mut model, 0, Class::Closing, 10, b"").expect("put");
    rig.round(&mut model).expect("durable");
    assert_eq!(rig.sinks[0].ends(closing.ticket), Ok(true));
    check(&disk, &model);
    drop(rig);

    disk.limit(disk.bytes());
    let refused = Rig::open(&disk, &mut model).err().expect("nothing is left");
    assert!(matches!(refused, OpenError::Begin(NotRecorded::DiskFull)), "{refused}");
    disk.heal();
    let mut rig = Rig::open(&disk, &mut model).expect("opens");
    put(&mut rig, &mut model).expect("put");
    rig.round(&mut model).expect("durable");
    check(&disk, &model);
}

#[test]
fn when_losses_are_allowed_they_are_counted_and_told() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    let allow = Settings { on_full: OnFull::Allow, ..settings() };
    let mut rig = started_with(&disk, &mut model, allow);
    disk.fail(Op::Write, 0, usize::MAX, Errno::ENOSPC);
    disk.fail(Op::Create, 0, usize::MAX, Errno::ENOSPC);
    let failed = put(&mut rig, &mut model).expect("put");
    rig.round(&mut model).expect_err("nothing can be written");
    assert_eq!(rig.sinks[0].ends(failed.ticket), Ok(true), "goes on");
    let unknown = put(&mut rig, &mut model).expect("kept in memory");
    assert_eq!(rig.sinks[0].ends(unknown.ticket), Ok(true), "nobody waits for such a disk");
    assert_eq!((rig.sinks[0].sink.check(), rig.sinks[0].sink.check_session()), (Ok(()), Ok(())));
    let sink = rig.sinks[0].sink.clone();
    let mut kept = 0;
    let refused = loop {
        match sink.put(Class::Ordinary, |out| out.extend_from_slice(b"x"), &[0; 1 << 20]) {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 100, "memory is bounded");
    };
    assert_eq!(refused, NotRecorded::Overflow);
    assert!(kept >= SINK_BYTES_MAX >> 20, "{kept}");
    assert!(sink.without(refused).is_ok());
    assert_eq!(rig.shared.status().lost, 1);
    disk.heal();
    rig.keeper.round();
    rig.committer.round().expect("what had failed");
    rig.committer.round().expect("what came later");
    let told = rig.heard.notices();
    assert!(matches!(told.last(), Some(Notice::Lost { count: 1, .. })), "{told:?}");
    assert_eq!(read_back(&disk).expect("reads").leaves.len(), 3 + kept);
}

#[test]
fn a_hanging_disk_never_holds_up_a_put_and_memory_stays_bounded() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    let rig = started(&disk, &mut model);
    let sink = &rig.sinks[0].sink;
    // The committer does nothing: as when it waits for the disk.
    let refused =
        (0..100).find_map(|_| sink.put(Class::Ordinary, |out| out.push(1), &[0; 1 << 20]).err());
    assert_eq!(refused, Some(NotRecorded::Overflow));
    assert!(sink.saturated());
    sink.put(Class::Closing, |out| out.push(1), b"").expect("closing records still fit");
    assert_eq!(sink.without(NotRecorded::Overflow).err(), Some(NotRecorded::Overflow));
}

#[test]
fn nobody_waits_for_ever_for_a_hanging_disk_where_losses_are_allowed() {
    for (on_full, goes_on) in [(OnFull::Allow, true), (OnFull::Block, false)] {
        let disk = SimDisk::default();
        let mut model = Model::default();
        let hangs_after = std::time::Duration::from_nanos(1);
        let settings = Settings { on_full, hangs_after, ..settings() };
        let mut rig = started_with(&disk, &mut model, settings);
        let put = put(&mut rig, &mut model).expect("put");
        let woken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let waker = std::task::Waker::from(std::sync::Arc::new(Woken(woken.clone())));
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(rig.sinks[0].sink.poll_durable(put.ticket, &mut cx).is_pending());
        rig.shared.set_behind(Some(std::time::Instant::now()));
        rig.keeper.look_at_committer();
        assert_eq!(woken.load(std::sync::atomic::Ordering::Relaxed), goes_on, "{on_full:?}");
        let poll = rig.sinks[0].sink.poll_durable(put.ticket, &mut cx);
        assert_eq!(poll.is_ready(), goes_on, "{on_full:?}");
    }
}

/// Notes that it was woken.
struct Woken(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_folder_that_is_replaced_stops_the_log() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    let mut rig = started(&disk, &mut model);
    disk.replace_folder();
    rig.committer.look_now();
    let failed = put(&mut rig, &mut model).expect("put");
    assert_eq!(rig.round(&mut model), Err(NotRecorded::Io));
    assert_eq!(rig.sinks[0].ends(failed.ticket), Err(NotRecorded::Io));
    assert_eq!(put(&mut rig, &mut model), Err(NotRecorded::Io));
    assert_eq!(rig.round(&mut model), Err(NotRecorded::Io));
    assert_eq!(rig.heard.notices(), [Notice::DirectoryReplaced], "told once");
    disk.heal();
    rig.round(&mut model).expect("put back");
    check(&disk, &model);
}

#[test]
fn modes_differ_in_what_they_wait_for() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    let delay = std::time::Duration::from_nanos(1);
    let bounds = Settings { async_bytes_max: 1_000, async_delay_max: delay, ..settings() };
    let mut rig = started_with(&disk, &mut model, bounds);
    let ticket = put(&mut rig, &mut model).expect("put").ticket;
    let goes = |rig: &Rig, mode| {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        rig.sinks[0].sink.poll_may_go(mode, ticket, &mut cx).is_ready()
    };
    for mode in [AuditMode::Strict, AuditMode::Group, AuditMode::Default] {
        assert!(!goes(&rig, mode), "{mode:?} waits");
    }
    assert!(goes(&rig, AuditMode::Overlap) && goes(&rig, AuditMode::Async));
    rig.put(&mut model, 0, Class::Ordinary, 800, b"").expect("put");
    assert!(goes(&rig, AuditMode::Overlap) && !goes(&rig, AuditMode::Async), "too much waits");
    rig.round(&mut model).expect("durable");
    for mode in [AuditMode::Strict, AuditMode::Group, AuditMode::Default, AuditMode::Async] {
        assert!(goes(&rig, mode), "{mode:?} goes");
    }
    rig.shared.set_behind(Some(std::time::Instant::now()));
    let ticket = put(&mut rig, &mut model).expect("put").ticket;
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let sink = &rig.sinks[0].sink;
    assert!(sink.poll_may_go(AuditMode::Async, ticket, &mut cx).is_pending(), "the disk is late");
}

#[test]
fn a_segment_that_changed_before_it_is_packed_stays_and_is_told() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    let mut rig = started(&disk, &mut model);
    disk.fail(Op::Sync, 0, 1, Errno::EIO);
    put(&mut rig, &mut model).expect("put");
    rig.round(&mut model).expect("durable");
    let raw = names::segment(0, Form::Raw);
    disk.tamper(&raw, |bytes| bytes[540] ^= 1);
    rig.keeper.round();
    rig.keeper.round();
    let damaged = |notice: &&Notice| matches!(notice, Notice::SegmentDamaged { first: 0, .. });
    assert_eq!(rig.heard.notices().iter().filter(damaged).count(), 1);
    assert!(disk.content(&raw).is_some(), "evidence stays");
}

#[test]
fn an_error_while_packing_keeps_the_raw_segment() {
    for op in [Op::Write, Op::Sync, Op::Rename] {
        let disk = SimDisk::default();
        let mut model = Model::default();
        let mut rig = started(&disk, &mut model);
        while rig.shared.current.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            put(&mut rig, &mut model).expect("put");
            rig.round(&mut model).expect("durable");
        }
        rig.keeper.prepare();
        let name = if op == Op::Rename {
            "segment-00000000000000000000.pack.tmp"
        } else {
            "segment-00000000000000000000.pack"
        };
        disk.fail_file(op, name, Errno::ENOSPC);
        rig.keeper.round();
        let failed = |notice: &Notice| matches!(notice, Notice::PackFailed { first: 0, .. });
        assert!(rig.heard.notices().iter().any(failed), "{op:?}");
        assert!(disk.content(&names::segment(0, Form::Raw)).is_some());
        assert!(disk.content(&names::segment(0, Form::Pack)).is_none());
        check(&disk, &model);
    }
}

#[test]
fn what_was_prepared_is_taken_over_only_when_nothing_was_written_to_it() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    drop(started(&disk, &mut model));
    disk.tamper(NEXT, |bytes| bytes[4_000] = 1);
    let mut rig = Rig::open(&disk, &mut model).expect("opens");
    for _ in 0..60 {
        put(&mut rig, &mut model).expect("put");
        rig.round(&mut model).expect("durable");
        rig.keeper.round();
    }
    check(&disk, &model);
}
