//! Names for the processes of kernel events, looked up off the data path.
//!
//! Reading `/proc` and hashing a program file block; a few threads do it, and each answer is kept for the next session of the
//! same process.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use pgward_common::Actor;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::{
    attrib::{Identity, Resolver},
    audit::Json,
};

/// Threads that look up.
const THREADS: usize = 2;
/// Questions waiting. Beyond, a session asks again in a moment.
const QUESTIONS_MAX: usize = 1024;
/// Processes remembered; when it is reached everything is forgotten, and looked up again from [`Resolver`]'s own cache.
const KNOWN_MAX: usize = 4096;

/// A process, as it is written into records.
#[derive(Debug)]
pub struct Who {
    /// All that is known, and what is not.
    pub identity: Arc<Identity>,
    /// [`Identity`] as JSON, for records of sessions.
    pub full: Json,
    /// The part that each statement carries.
    pub compact: Json,
}

/// The part of an identity that each statement carries: enough to find the process in the session records.
#[derive(Serialize)]
struct Compact<'a> {
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exec: Option<u64>,
    comm: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<&'a str>,
    uid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
}

type Key = (u32, u64, u64);
type Question = (Actor, oneshot::Sender<Arc<Who>>);

/// Looks processes up. Shared by all workers.
pub struct Identifier {
    questions: SyncSender<Question>,
    known: Arc<Mutex<HashMap<Key, Arc<Who>>>>,
}

impl Identifier {
    /// Starts the threads.
    pub fn start(resolver: Resolver) -> io::Result<Arc<Self>> {
        let (questions, waiting) = sync_channel(QUESTIONS_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let resolver = Arc::new(resolver);
        let known = Arc::<Mutex<HashMap<Key, Arc<Who>>>>::default();
        for number in 0..THREADS {
            let (resolver, waiting, known) = (resolver.clone(), waiting.clone(), known.clone());
            thread::Builder::new()
                .name(format!("identify-{number}"))
                .spawn(move || serve(&resolver, &waiting, &known))?;
        }
        Ok(Arc::new(Self { questions, known }))
    }

    /// The process behind an event. Ask early: a process takes most of its facts with it when it ends.
    pub async fn who(&self, actor: Actor) -> Arc<Who> {
        self.ask(actor).answered(&actor).await
    }

    /// Asks at once; the answer may be awaited later.
    pub fn ask(&self, actor: Actor) -> Answer {
        if let Some(who) = known(&self.known).get(&key(&actor)) {
            return Answer::Known(who.clone());
        }
        let (reply, answer) = oneshot::channel();
        match self.questions.try_send((actor, reply)) {
            Ok(()) => {}
            // Hundreds of new processes at once. Blocking here would stall a worker: a thread of its own waits instead.
            Err(TrySendError::Full(question)) => {
                let questions = self.questions.clone();
                let waiting = thread::Builder::new()
                    .name("identify-wait".into())
                    .spawn(move || questions.send(question));
                drop(waiting); // without a thread the question is dropped, and answered from the event alone
            }
            Err(TrySendError::Disconnected(_)) => {}
        }
        Answer::Later(answer)
    }
}

/// What [`Identifier::ask`] gives.
pub enum Answer {
    /// The process was known.
    Known(Arc<Who>),
    /// It is being looked up; an error means that nobody will answer.
    Later(oneshot::Receiver<Arc<Who>>),
}

impl Answer {
    /// Waits for it. Should nobody answer (a fault of the looking-up thread), the event itself tells what it can.
    pub async fn answered(self, actor: &Actor) -> Arc<Who> {
        match self {
            Answer::Known(who) => who,
            Answer::Later(answer) => answer.await.unwrap_or_else(|_| Arc::new(Who::told(actor))),
        }
    }

    /// The same, for threads outside of a runtime.
    pub fn answered_blocking(self, actor: &Actor) -> Arc<Who> {
        match self {
            Answer::Known(who) => who,
            Answer::Later(answer) => {
                answer.blocking_recv().unwrap_or_else(|_| Arc::new(Who::told(actor)))
            }
        }
    }
}

impl Who {
    fn told(actor: &Actor) -> Self {
        Self::of(Arc::new(Identity::from_kernel(actor)))
    }

    fn of(identity: Arc<Identity>) -> Self {
        let container = identity.container.as_ref();
        let compact = Compact {
            pid: identity.pid,
            start_ns: identity.start_ns,
            exec: identity.exec,
            comm: &identity.comm,
            exe: identity.exe.as_deref(),
            uid: identity.uid,
            container: container.map(|c| c.name.as_deref().unwrap_or(&c.id)),
        };
        // Every text in an identity is bounded, so it can't be too long for a record.
        let full = Json::render(&*identity).expect("bounded texts make bounded JSON");
        let compact = Json::render(&compact).expect("bounded texts make bounded JSON");
        Self { full, compact, identity }
    }
}

fn serve(
    resolver: &Resolver,
    waiting: &Mutex<Receiver<Question>>,
    known_to_all: &Mutex<HashMap<Key, Arc<Who>>>,
) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((actor, reply)) = next else { return };
        let found = known(known_to_all).get(&key(&actor)).cloned();
        let who = found.unwrap_or_else(|| {
            let who = Arc::new(Who::of(resolver.resolve(&actor)));
            let mut known = known(known_to_all);
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(key(&actor), who.clone());
            who
        });
        let _ = reply.send(who); // the session may be gone
    }
}

fn key(actor: &Actor) -> Key {
    (actor.tgid, actor.start_boottime_ns, actor.exec_id)
}

fn known<'a>(
    known: &'a Mutex<HashMap<Key, Arc<Who>>>,
) -> std::sync::MutexGuard<'a, HashMap<Key, Arc<Who>>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
