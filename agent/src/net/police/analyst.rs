//! Facts about texts, made off the data path where they take long.
//!
//! A worker's thread has the stack that the parser may need, so short texts are analysed where they are met: that takes less
//! time than handing them over. Long ones go to a few threads of their own, so that the sessions of a worker do not wait for the
//! text of one of them.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use tokio::sync::oneshot;

use crate::sql::{
    facts::{self, Facts, Limits, STACK_BYTES, Unknown},
    lex::{Encoding, Strings},
};

/// Threads for long texts.
const THREADS: usize = 2;
/// Long texts that wait for a thread. Beyond, a text counts as not analysed: that is unknown, and policies say what becomes of it.
const WAITING_MAX: usize = 64;
/// Longest text that is analysed where it is met, in bytes: some milliseconds at worst.
const SHORT_BYTES_MAX: usize = 8 << 10;
/// Texts of one worker whose facts are kept.
const KEPT_MAX: usize = 4096;
/// Longest text among them, in bytes.
const KEPT_BYTES_MAX: usize = 8 << 10;

/// What is known of a text.
#[derive(Debug)]
pub struct Analysed {
    /// What it would do.
    pub facts: Result<Facts, Unknown>,
    /// Tags of its comment.
    pub tags: facts::Tags,
}

/// How the server reads a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lexis {
    /// Encoding of the client.
    pub encoding: Encoding,
    /// Whether backslashes are special in plain strings.
    pub strings: Strings,
}

/// Analyses texts. Shared by all workers.
#[derive(Debug)]
pub struct Analysts {
    waiting: mpsc::SyncSender<Job>,
    limits: Limits,
}

#[derive(Debug)]
struct Job {
    text: Arc<[u8]>,
    lexis: Lexis,
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
    /// Facts of texts that this worker met.
    static KEPT: RefCell<HashMap<(Lexis, Box<[u8]>), Arc<Analysed>>> = RefCell::default();
}

impl Analysts {
    /// Starts the threads.
    pub fn start(limits: Limits) -> io::Result<Arc<Self>> {
        let (waiting, jobs) = mpsc::sync_channel::<Job>(WAITING_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..THREADS {
            let (jobs, limits) = (jobs.clone(), limits.clone());
            let thread = thread::Builder::new().name(format!("analyst-{number}"));
            thread.stack_size(STACK_BYTES).spawn(move || {
                loop {
                    let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(Job { text, lexis, reply }) = next else { return };
                    let _ = reply.send(analyse(&text, lexis, &limits)); // the session may be gone
                }
            })?;
        }
        Ok(Arc::new(Self { waiting, limits }))
    }

    /// Facts of a text. The calling thread has [`STACK_BYTES`] of stack.
    pub fn analyse(&self, text: &Arc<[u8]>, lexis: Lexis) -> Analysis {
        let key = (lexis, Box::<[u8]>::from(&**text));
        if let Some(known) = KEPT.with_borrow(|kept| kept.get(&key).cloned()) {
            return Analysis::Done(known);
        }
        if text.len() <= SHORT_BYTES_MAX {
            let analysed = analyse(text, lexis, &self.limits);
            if text.len() <= KEPT_BYTES_MAX {
                KEPT.with_borrow_mut(|kept| {
                    if kept.len() >= KEPT_MAX {
                        kept.clear();
                    }
                    kept.insert(key, analysed.clone());
                });
            }
            return Analysis::Done(analysed);
        }
        let (reply, answer) = oneshot::channel();
        match self.waiting.try_send(Job { text: text.clone(), lexis, reply }) {
            Ok(()) => Analysis::Later(answer),
            Err(_) => Analysis::Done(Arc::new(unanalysed())),
        }
    }
}

/// A text that nobody looked at.
pub fn unanalysed() -> Analysed {
    Analysed { facts: Err(Unknown::Unanalysed), tags: facts::Tags::default() }
}

fn analyse(text: &[u8], lexis: Lexis, limits: &Limits) -> Arc<Analysed> {
    // A fault of the analysis is no reason to let a text pass, nor to end the session.
    let analysed = catch_unwind(AssertUnwindSafe(|| Analysed {
        facts: facts::analyse(text, lexis.encoding, lexis.strings, limits),
        tags: facts::tags(text),
    }));
    Arc::new(analysed.unwrap_or_else(|_| unanalysed()))
}
