//! Names for the processes of kernel events, looked up off the data path.
//!
//! Reading `/proc` and hashing a program file block; a few threads do it, and each answer is kept for the next session of the
//! same process.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Instant,
};

use pgward_common::Actor;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{
    attrib::{Identity, RETRY_AFTER, Resolver},
    audit::{Encoded, schema::ACTOR},
    policy::{Container, Subject},
};

/// Threads that look up.
const THREADS: usize = 2;
/// Questions waiting. Beyond, the kernel's event has to do: pid, user and name of the task, and no program file.
const QUESTIONS_MAX: usize = 8192;
/// Processes remembered; when it is reached everything is forgotten, and looked up again from [`Resolver`]'s own cache.
const KNOWN_MAX: usize = 4096;

/// A process, as it is written into records.
#[derive(Debug)]
pub struct Who {
    /// All that is known, and what is not, for records of sessions.
    pub full: Encoded,
    /// The same without arguments that may hold data: for records of sessions whose values are not held in clear.
    pub guarded: Encoded,
    /// The part that tables show.
    pub brief: Brief,
    /// The part that policies ask for; its login is that of the session.
    pub subject: Subject,
}

/// Two are the same when their records say the same of them.
impl PartialEq for Who {
    fn eq(&self, other: &Self) -> bool {
        self.brief == other.brief
    }
}

/// The part of an identity that tables show: enough to find the process again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Brief {
    /// Process id.
    pub pid: u32,
    /// Start, nanoseconds since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_ns: Option<u64>,
    /// Exec generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<u64>,
    /// Name of the task.
    pub comm: String,
    /// Path of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// User id.
    pub uid: u32,
    /// Name of the container, or its id.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_container")]
    pub container: Option<String>,
}

fn as_container<S: Serializer>(name: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(name.iter().map(|name| ("name", name)))
}

type Key = (u32, u64, u64);
type Question = (Actor, oneshot::Sender<Arc<Who>>);

struct Known {
    identity: Arc<Identity>,
    who: Arc<Who>,
    seen: Instant,
}

/// Looks processes up. Shared by all workers.
pub struct Identifier {
    questions: SyncSender<Question>,
    known: Arc<Mutex<HashMap<Key, Known>>>,
}

impl Identifier {
    /// Starts the threads.
    pub fn start(resolver: Resolver) -> io::Result<Arc<Self>> {
        let (questions, waiting) = sync_channel(QUESTIONS_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let resolver = Arc::new(resolver);
        let known = Arc::<Mutex<HashMap<Key, Known>>>::default();
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
        if let Some(known) = locked(&self.known).get(&key(&actor))
            && known.seen.elapsed() < RETRY_AFTER
        {
            return Answer::Known(known.who.clone());
        }
        let (reply, answer) = oneshot::channel();
        // Without room the question is dropped, and answered from the event alone. Waiting for room would stall a worker.
        let _ = self.questions.try_send((actor, reply));
        Answer::Later(answer)
    }
}

/// What [`Identifier::ask`] gives.
pub enum Answer {
    /// The process was known.
    Known(Arc<Who>),
    /// It is being looked up; an error means that nobody will answer: too many ask, or a thread failed.
    Later(oneshot::Receiver<Arc<Who>>),
}

impl Answer {
    /// Waits for it. Should nobody answer, the event itself tells what it can.
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
    fn of(identity: &Identity) -> Self {
        let container = identity.container.as_ref();
        let brief = Brief {
            pid: identity.pid,
            start_ns: identity.start_ns,
            exec: identity.exec,
            comm: identity.comm.clone(),
            exe: identity.exe.clone(),
            uid: identity.uid,
            container: container.map(|c| c.name.clone().unwrap_or_else(|| c.id.clone())),
        };
        let full = encoded(identity).unwrap_or_else(|| brief.encoded());
        let guarded = match identity.cmdline.as_deref().and_then(guard) {
            Some(cmdline) => {
                let guarded = Identity { cmdline: Some(cmdline), ..identity.clone() };
                encoded(&guarded).unwrap_or_else(|| brief.encoded())
            }
            None => full.clone(),
        };
        Self { full, guarded, brief, subject: subject(identity) }
    }

    /// What the event itself tells.
    pub fn told(actor: &Actor) -> Self {
        let comm = actor.comm.split(|b| *b == 0).next().unwrap_or_default();
        let brief = Brief {
            pid: actor.tgid,
            start_ns: Some(actor.start_boottime_ns),
            exec: Some(actor.exec_id),
            comm: String::from_utf8_lossy(comm).into_owned(),
            exe: None,
            uid: actor.uid,
            container: None,
        };
        let full = brief.encoded();
        let subject = Subject { uid: Some(actor.uid), gid: Some(actor.gid), ..Subject::default() };
        Self { guarded: full.clone(), full, brief, subject }
    }
}

/// What policies may ask about a process. Not among it is what a user could have made up: a program's path whose file is gone, and
/// a container of which only an unprivileged user says that it is one. Rules that name them do not match then.
fn subject(identity: &Identity) -> Subject {
    let text = |text: &Option<String>| text.as_deref().map(Into::into);
    let container = identity.container.as_ref().filter(|c| c.claimed_by.is_none());
    let container = container.map(|container| Container {
        id: container.id.as_str().into(),
        name: text(&container.name),
        image: text(&container.image),
        pod: text(&container.pod),
        namespace: text(&container.namespace),
        labels: container
            .labels
            .iter()
            .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
            .collect(),
    });
    let parents = identity.parents.iter().filter_map(|parent| parent.exe.as_deref());
    Subject {
        exe: text(&identity.exe).filter(|_| !identity.exe_deleted),
        exe_sha256: identity.exe_sha256.map(|digest| digest.to_string().into()),
        parents: parents.map(Into::into).collect(),
        uid: Some(identity.uid),
        gid: Some(identity.gid),
        user: text(&identity.user),
        loginuid: identity.loginuid,
        cgroup: text(&identity.cgroup),
        unit: text(&identity.unit),
        container,
        ..Subject::default()
    }
}

/// Longest argument that is taken for a name, a path or an option, in bytes.
const PLAIN_ARGUMENT_BYTES_MAX: usize = 256;

/// Replaces arguments that may hold data, such as a statement for `psql -c`: those with blanks or quotes, and long ones. `None`
/// where there are none.
fn guard(arguments: &[String]) -> Option<Vec<String>> {
    let plain = |argument: &String| {
        argument.len() <= PLAIN_ARGUMENT_BYTES_MAX
            && !argument.contains(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '$'))
    };
    if arguments.iter().all(plain) {
        return None;
    }
    let guarded = arguments.iter().map(|argument| match plain(argument) {
        true => argument.clone(),
        false => format!("[{} bytes]", argument.len()),
    });
    Some(guarded.collect())
}

impl Brief {
    fn encoded(&self) -> Encoded {
        Encoded::object(ACTOR, self).expect("a path and two names are within the limit of a record")
    }
}

/// All that is known. Each text is bounded, but not all together: where they are too long for a record, what others than
/// the process can choose goes first, and `missing` says so.
fn encoded(identity: &Identity) -> Option<Encoded> {
    if let Ok(full) = Encoded::object(ACTOR, identity) {
        return Some(full);
    }
    let mut identity = serde_json::to_value(identity).ok()?;
    for (field, pointer) in [("container.labels", "/container/labels"), ("parents", "/parents")] {
        let Some(list) = identity.pointer_mut(pointer) else { continue };
        *list = if list.is_array() { json!([]) } else { json!({}) };
        let remark = json!({"field": field, "reason": "not all of it fits into a record"});
        match &mut identity["missing"] {
            Value::Array(missing) => missing.push(remark),
            none => *none = json!([remark]),
        }
        if let Ok(cut) = Encoded::object(ACTOR, &identity) {
            return Some(cut);
        }
    }
    None
}

fn serve(
    resolver: &Resolver,
    waiting: &Mutex<Receiver<Question>>,
    known_to_all: &Mutex<HashMap<Key, Known>>,
) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((actor, reply)) = next else { return };
        // The resolver knows when to look again for what it missed; an unchanged identity is not rendered twice.
        let identity = resolver.resolve(&actor);
        let now = Instant::now();
        let mut known = locked(known_to_all);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let entry = match known.remove(&key(&actor)) {
            Some(entry) if Arc::ptr_eq(&entry.identity, &identity) => Known { seen: now, ..entry },
            _ => Known { who: Arc::new(Who::of(&identity)), identity, seen: now },
        };
        let who = entry.who.clone();
        known.insert(key(&actor), entry);
        drop(known);
        let _ = reply.send(who); // the session may be gone
    }
}

fn key(actor: &Actor) -> Key {
    (actor.tgid, actor.start_boottime_ns, actor.exec_id)
}

fn locked(known: &Mutex<HashMap<Key, Known>>) -> MutexGuard<'_, HashMap<Key, Known>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "identify_tests.rs"]
mod tests;
