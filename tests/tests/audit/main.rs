//! What the audit trail promises, from outside: nothing goes without a durable record, whatever happens to agent and disk.

mod before;
mod disk;
mod killed;
mod secrets;

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, OnceLock};

use pgward_tests::needs_kernel as gate;
use pgward_tests::scene::Scene;
use pgward_tests::script::ScriptedServer;
use pgward_tests::trail;
use pgward_tests::visitor::Visitor;
use pgward_tests::wire;

/// What a test returns.
type Result<T = ()> = anyhow::Result<T>;

/// A session of a process that is intercepted, driven by the test.
type Client = wire::Session<Visitor>;

/// Whether the trail holds an intent with exactly this text.
fn intended(folder: &Path, text: &str) -> Result<bool> {
    Ok(trail::entries(folder)?.iter().any(|e| e.is("intent") && e.fields["text"] == text))
}

/// What a server saw: each text, and whether its intent could be read from the trail at that moment.
#[derive(Clone, Default)]
struct Seen(Arc<Notes>);

#[derive(Default)]
struct Notes {
    texts: Mutex<Vec<(String, bool)>>,
    /// The server does not answer now.
    holds: Mutex<bool>,
    changed: Condvar,
}

impl Seen {
    fn note(&self, text: &str, found: bool) {
        let mut texts = self.0.texts.lock().expect("no thread panics with the lock");
        texts.push((text.to_owned(), found));
        drop(texts);
        let holds = self.0.holds.lock().expect("no thread panics with the lock");
        drop(self.0.changed.wait_while(holds, |holds| *holds).expect("nor with this one"));
    }

    /// From now on the server takes statements and does not answer, or answers again.
    fn hold(&self, holds: bool) {
        *self.0.holds.lock().expect("no thread panics with the lock") = holds;
        self.0.changed.notify_all();
    }

    fn all(&self) -> Vec<(String, bool)> {
        self.0.texts.lock().expect("no thread panics with the lock").clone()
    }

    fn has(&self, text: &str) -> bool {
        self.all().iter().any(|(seen, _)| seen == text)
    }
}

/// A server that looks into the trail whenever a statement arrives, before it answers. The folder is known later.
fn watching() -> Result<(ScriptedServer, Seen, Arc<OnceLock<std::path::PathBuf>>)> {
    let (seen, folder) = (Seen::default(), Arc::<OnceLock<std::path::PathBuf>>::default());
    let (notes, place) = (seen.clone(), folder.clone());
    let server = ScriptedServer::watched(move |text| {
        let found = place.get().is_some_and(|folder| intended(folder, text).unwrap_or(false));
        notes.note(text, found);
    })?;
    Ok((server, seen, folder))
}

/// A client in the scene's cgroup, logged in.
fn client(scene: &Scene, server: &ScriptedServer) -> Result<Client> {
    Client::start(Visitor::connect(server.address(), Some(&scene.cgroup))?)
}
