//! Threads, their mailboxes and what they tell.

use std::sync::{
    Mutex,
    mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
};

use super::*;

/// Generous: a test that passes never waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A place that says what it was given, and does what it is told.
struct Told {
    given: Sender<u64>,
    results: Mutex<Receiver<Result<(), CopyError>>>,
}

impl Place for Told {
    fn copy(&mut self, checkpoint: &Checkpoint) -> Result<(), CopyError> {
        self.given.send(checkpoint.size()).expect("the test listens");
        let results = self.results.lock().expect("one thread");
        results.recv().unwrap_or(Ok(()))
    }

    fn newest_known(&mut self, _: &Question) -> Result<Vec<Known>, CopyError> {
        Ok(vec![checkpoint(7, 7).into()])
    }
}

struct Scene {
    anchors: Anchors,
    given: Receiver<u64>,
    results: SyncSender<Result<(), CopyError>>,
    notices: Receiver<Notice>,
}

impl Scene {
    fn new(every: Duration) -> Self {
        let (given_by, given) = channel();
        let (results, take) = sync_channel(16);
        let (heard, notices) = channel();
        let place = Box::new(Told { given: given_by, results: Mutex::new(take) });
        let ready = Ready { name: "a".to_owned(), kind: "file", every, place };
        let hear: Hear = Arc::new(move |notice| drop(heard.send(notice)));
        let anchors = Anchors::start(vec![ready], &hear).expect("a thread");
        Self { anchors, given, results, notices }
    }

    fn offer(&self, size: u64) {
        self.anchors.offer(&Arc::new(checkpoint(size, 1)));
    }

    fn given(&self) -> u64 {
        self.given.recv_timeout(PATIENCE).expect("something is copied")
    }

    fn answer(&self, result: Result<(), CopyError>) {
        self.results.send(result).expect("the thread listens");
    }

    fn heard(&self) -> Notice {
        self.notices.recv_timeout(PATIENCE).expect("a notice")
    }

    fn status(&self) -> AnchorStatus {
        self.anchors.status().remove(0)
    }

    /// The thread is idle once it answers a question.
    fn settle(&self) {
        let answers = self.anchors.newest_known(&question(), PATIENCE);
        assert_eq!(answers[0].known, Ok(vec![checkpoint(7, 7).into()]));
    }
}

fn broken() -> CopyError {
    DatabaseError::Row { expected: "something" }.into()
}

#[test]
fn only_the_newest_is_copied_and_none_twice() {
    let scene = Scene::new(Duration::ZERO);
    scene.offer(1);
    assert_eq!(scene.given(), 1);
    // While that is under way, time passes.
    (2..=5).for_each(|size| scene.offer(size));
    scene.answer(Ok(()));
    assert_eq!(scene.given(), 5);
    scene.answer(Ok(()));
    scene.settle();
    scene.offer(5);
    scene.settle();
    assert!(scene.given.try_recv().is_err(), "the same again");
    assert_eq!(scene.status().size, Some(5));
    assert!(scene.notices.try_recv().is_err());
}

#[test]
fn a_second_copy_waits_for_its_time() {
    let scene = Scene::new(Duration::from_secs(3600));
    scene.offer(1);
    assert_eq!(scene.given(), 1);
    scene.answer(Ok(()));
    scene.settle();
    scene.offer(2);
    scene.settle();
    assert!(scene.given.try_recv().is_err(), "not before an hour has gone");
    let status = scene.status();
    assert_eq!((status.size, status.error), (Some(1), None));
}

#[test]
fn failing_is_told_once_and_so_is_the_end_of_it() {
    let scene = Scene::new(Duration::ZERO);
    scene.offer(1);
    for _ in 0..2 {
        assert_eq!(scene.given(), 1);
        scene.answer(Err(broken()));
    }
    let error = "a row of `pgward.checkpoint` is not understood: expected something".to_owned();
    let failing = Notice::Failing { anchor: "a".to_owned(), error: error.clone() };
    assert_eq!(scene.heard(), failing);
    // Under way once more: both failures are counted.
    assert_eq!(scene.given(), 1);
    let status = scene.status();
    assert_eq!((status.size, status.failures, status.error), (None, 2, Some(error)));
    assert!(status.busy_ms.is_some());
    scene.answer(Ok(()));
    match scene.heard() {
        Notice::Restored { anchor, failures: 2, .. } => assert_eq!(anchor, "a"),
        other => panic!("{other:?}"),
    }
    scene.settle();
    let status = scene.status();
    assert_eq!((status.size, status.failures, status.error), (Some(1), 0, None));
}

#[test]
fn an_alarm_is_told_once_and_stays() {
    let scene = Scene::new(Duration::ZERO);
    let alarm = |ours| Alarm::Ahead { origin: "o".to_owned(), ours, theirs: 9 };
    scene.offer(1);
    for ours in 1..=2 {
        assert_eq!(scene.given(), 1);
        scene.answer(Err(alarm(ours).into()));
    }
    assert_eq!(scene.given(), 1);
    scene.answer(Ok(()));
    assert!(matches!(scene.heard(), Notice::Failing { .. }));
    assert_eq!(scene.heard(), Notice::Raised { anchor: "a".to_owned(), alarm: alarm(1) });
    assert!(matches!(scene.heard(), Notice::Restored { failures: 2, .. }));
    scene.settle();
    assert_eq!(scene.status().alarm, Some(alarm(2).to_string()));
}

#[test]
fn one_that_hangs_holds_up_nobody() {
    let (given_by, given) = channel();
    let (other_by, other) = channel();
    let (results, take) = sync_channel::<Result<(), CopyError>>(1);
    let place = |given, results| Box::new(Told { given, results: Mutex::new(results) });
    let every = Duration::ZERO;
    let ready = |name: &str, place| Ready { name: name.to_owned(), kind: "file", every, place };
    let hear: Hear = Arc::new(|_| {});
    let hanging: Box<dyn Place> = place(given_by, take);
    let good: Box<dyn Place> = place(other_by, sync_channel(1).1);
    let anchors = Anchors::start(vec![ready("hangs", hanging), ready("good", good)], &hear);
    let anchors = anchors.expect("threads");
    anchors.offer(&Arc::new(checkpoint(1, 1)));
    assert_eq!(given.recv_timeout(PATIENCE), Ok(1));
    for size in 1..=3 {
        anchors.offer(&Arc::new(checkpoint(size, 1)));
        assert_eq!(other.recv_timeout(PATIENCE), Ok(size));
    }
    let answers = anchors.newest_known(&question(), Duration::from_millis(50));
    assert_eq!(answers[0].known, Err("no answer within 50ms".to_owned()));
    assert!(anchors.status()[0].busy_ms.is_some());
    // Dropping the anchors does not wait for it either.
    drop(anchors);
    drop(results);
}

#[test]
fn lag_is_that_of_the_best_anchor_that_counts() {
    let status = |kind: &str, lag_ms| AnchorStatus {
        name: kind.to_owned(),
        kind: kind.to_owned(),
        size: None,
        copied: None,
        lag_ms,
        error: None,
        failures: 0,
        busy_ms: None,
        alarm: None,
    };
    assert_eq!(anchor_lag_ms(&[]), None);
    assert_eq!(anchor_lag_ms(&[status("print", 1)]), None);
    let all = [status("print", 1), status("witness", 70), status("database", 60)];
    assert_eq!(anchor_lag_ms(&all), Some(60));
}

/// The clock of the lag is that of the newest checkpoint which is held, not that of the copy.
#[test]
fn lag_ends_with_a_copy_and_stays_away_while_the_log_rests() {
    let scene = Scene::new(Duration::ZERO);
    assert_eq!((scene.status().lag_ms, scene.status().copied), (0, None));
    scene.offer(1);
    assert_eq!(scene.given(), 1);
    // It is under way: lag grows until it is done.
    let begun = Instant::now();
    while scene.status().lag_ms < 20 {
        assert!(begun.elapsed() < PATIENCE, "it does not grow");
        std::thread::yield_now();
    }
    scene.answer(Ok(()));
    scene.settle();
    assert!(scene.status().copied.is_some());
    let before = scene.status().lag_ms;
    assert!(before >= 20, "{before}");
    // The same checkpoint again, newest just now.
    let begun = Instant::now();
    loop {
        scene.offer(1);
        if scene.status().lag_ms < before {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it stays");
    }
}
