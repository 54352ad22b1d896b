//! Facts about texts, made off the data path where they take long.
//!
//! A worker's thread has the stack that the parser may need, so short texts are analysed where they are met: that takes less
//! time than handing them over. Long ones go to a few threads of their own, so that the sessions of a worker do not wait for the
//! text of one of them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use tokio::sync::oneshot;

use crate::sql::facts::{self, Facts, Limits, Reading, STACK_BYTES, Unknown};

/// Threads for long texts.
const THREADS: usize = 2;
/// Long texts that wait for a thread. Beyond, a text counts as not analysed: that is unknown, and policies say what becomes of it.
const WAITING_MAX: usize = 64;
/// Longest text that is analysed where it is met, in bytes: some milliseconds at worst.
const SHORT_BYTES_MAX: usize = 8 << 10;
/// Texts of one worker whose facts are kept; when it is reached all are forgotten.
const KEPT_MAX: usize = 4096;

/// Facts by text.
type Known = HashMap<Box<[u8]>, Arc<Analysed>>;

/// What is known of a text.
#[derive(Debug)]
pub struct Analysed {
    /// What it would do.
    pub facts: Result<Facts, Unknown>,
    /// Tags of its comment.
    pub tags: Tags,
}

/// Tags of a statement's comment.
pub(super) type Tags = BTreeMap<Box<str>, Box<str>>;

/// Analyses texts. Shared by all workers.
#[derive(Debug)]
pub struct Analysts {
    waiting: mpsc::SyncSender<Job>,
    limits: Limits,
}

#[derive(Debug)]
struct Job {
    text: Arc<[u8]>,
    reading: Reading,
    reply: oneshot::Sender<Arc<Analysed>>,
}

/// What [`Analysts::analyse`] gives.
pub enum Analysis {
    /// It is there.
    Done(Arc<Analysed>),
    /// It is being made.
    Later(oneshot::Receiver<Arc<Analysed>>),
}

thread_local! {
    /// Facts of texts that this worker met, by how they are read.
    static KEPT: RefCell<Vec<(Reading, Known)>> = RefCell::default();
}

impl Analysts {
    /// Starts the threads.
    pub fn start(limits: Limits) -> io::Result<Arc<Self>> {
        let (waiting, jobs) = mpsc::sync_channel::<Job>(WAITING_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..THREADS {
            let (jobs, limits) = (jobs.clone(), limits);
            let thread = thread::Builder::new().name(format!("analyst-{number}"));
            thread.stack_size(STACK_BYTES).spawn(move || {
                loop {
                    let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(Job { text, reading, reply }) = next else { return };
                    let _ = reply.send(analyse(&text, reading, &limits)); // the session may be gone
                }
            })?;
        }
        Ok(Arc::new(Self { waiting, limits }))
    }

    /// Facts of a text. The calling thread has [`STACK_BYTES`] of stack.
    pub fn analyse(&self, text: &Arc<[u8]>, reading: Reading) -> Analysis {
        if let Some(known) = kept(text, reading) {
            return Analysis::Done(known);
        }
        if text.len() <= SHORT_BYTES_MAX {
            let analysed = analyse(text, reading, &self.limits);
            keep(text, reading, &analysed);
            return Analysis::Done(analysed);
        }
        let (reply, answer) = oneshot::channel();
        match self.waiting.try_send(Job { text: text.clone(), reading, reply }) {
            Ok(()) => Analysis::Later(answer),
            Err(_) => Analysis::Done(Arc::new(unanalysed())),
        }
    }
}

fn kept(text: &[u8], reading: Reading) -> Option<Arc<Analysed>> {
    KEPT.with_borrow(|kept| {
        let (_, known) = kept.iter().find(|(read, _)| *read == reading)?;
        known.get(text).cloned()
    })
}

fn keep(text: &[u8], reading: Reading, analysed: &Arc<Analysed>) {
    KEPT.with_borrow_mut(|kept| {
        let at = kept.iter().position(|(read, _)| *read == reading).unwrap_or_else(|| {
            kept.push((reading, Known::new()));
            kept.len() - 1
        });
        let known = &mut kept[at].1;
        if known.len() >= KEPT_MAX {
            known.clear();
        }
        known.insert(text.into(), analysed.clone());
    });
}

/// A text that nobody looked at.
pub(super) fn unanalysed() -> Analysed {
    Analysed { facts: Err(Unknown::Unanalysed), tags: Tags::default() }
}

fn analyse(text: &[u8], reading: Reading, limits: &Limits) -> Arc<Analysed> {
    // A fault of the analysis is no reason to let a text pass, nor to end the session.
    let analysed = catch_unwind(AssertUnwindSafe(|| Analysed {
        facts: facts::analyse(text, reading, limits),
        tags: facts::tags(text),
    }));
    Arc::new(analysed.unwrap_or_else(|_| unanalysed()))
}
