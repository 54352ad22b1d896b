//! A small C2SP tlog-witness: it is strict with logs, and misbehaves where a test wants it to.
//!
//! It knows one key for each log by the name of its host, and takes every origin `<name>/<epoch>` of that host. Its state is a
//! folder with the newest note that it cosigned of each origin; a note is durable before its cosignature goes out. Whether the
//! old size is the newest, and the writing of the new one, happen under one lock: it never goes back.

mod http;
pub mod note;
pub mod tree;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rustls::ServerConfig;
use sha2::{Digest, Sha256};

use self::http::{Request, Response};
use self::note::{COSIGNATURE, Note, Signed, Signer};
use self::tree::Hash;
use crate::pki::Files;
use crate::tls;

/// Most hashes of a proof.
const PROOF_MAX: usize = 63;

/// How a witness answers `add-checkpoint`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// As the specification says.
    #[default]
    Good,
    /// With this status and nothing else.
    Status(u16),
    /// With 409 and this size, right or wrong, always.
    Conflict(u64),
    /// With 409 and the right size, but not the right type.
    UntypedConflict,
    /// With 200 and something that is no signature line.
    Garbage,
    /// With bytes that are no HTTP.
    NoHttp,
    /// With 200, and then one byte now and then, for ever.
    Slow,
    /// Not at all: it takes the request and holds the connection.
    Silent,
    /// With 200 and megabytes.
    Huge,
    /// With a cosignature that has its own name and key id, and is another key's.
    WrongKey,
    /// With a good cosignature of a key that nobody knows.
    UnknownKey,
    /// With a cosignature of next year.
    Future,
    /// With a redirection to itself.
    Redirect,
}

/// What a witness was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The old size.
    pub old: u64,
    /// Hashes of the proof.
    pub proof: usize,
    /// Size of the checkpoint.
    pub size: u64,
    /// Status of the answer; 0 where it was none.
    pub status: u16,
}

/// A running witness. Dropping it stops it.
pub struct Witness {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
}

struct Shared {
    signer: Signer,
    folder: PathBuf,
    state: Mutex<State>,
    tls: Option<Arc<ServerConfig>>,
    stop: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Public keys by the name of the host.
    logs: BTreeMap<String, Vec<u8>>,
    /// The newest of each origin.
    newest: BTreeMap<String, Newest>,
    mood: Mood,
    asked: Vec<Asked>,
}

struct Newest {
    size: u64,
    root: Hash,
    /// The note with our cosignature.
    note: String,
}

impl Witness {
    /// Starts a witness on `address` that keeps its state in `folder`.
    pub fn start(address: &str, signer: Signer, folder: &Path) -> Result<Self> {
        Self::start_with(address, signer, folder, None)
    }

    /// The same over TLS, with this certificate.
    pub fn start_tls(address: &str, signer: Signer, folder: &Path, files: &Files) -> Result<Self> {
        Self::start_with(address, signer, folder, Some(tls::server(files)?))
    }

    fn start_with(
        address: &str,
        signer: Signer,
        folder: &Path,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("binding {address}"))?;
        let address = listener.local_addr()?;
        let mut state = State::default();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "note") {
                let text = fs::read_to_string(&path)?;
                let note = Note::parse(&text)?;
                let newest = Newest { size: note.size, root: note.root, note: text };
                state.newest.insert(note.origin, newest);
            }
        }
        let shared = Shared {
            signer,
            folder: folder.to_owned(),
            state: Mutex::new(state),
            tls,
            stop: AtomicBool::new(false),
        };
        let shared = Arc::new(shared);
        let own = shared.clone();
        let acceptor = thread::Builder::new().name("witness".to_owned()).spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if own.stop.load(Ordering::SeqCst) {
                    break;
                }
                let shared = own.clone();
                // Who asked sees what went wrong: a connection that ends.
                thread::spawn(move || drop(serve(&shared, stream)));
            }
        })?;
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// Knows a log from now on, with all its epochs.
    pub fn trust(&self, host: &str, public: &[u8]) {
        self.shared.state().logs.insert(host.to_owned(), public.to_vec());
    }

    /// Behaves so from now on.
    pub fn be(&self, mood: Mood) {
        self.shared.state().mood = mood;
    }

    /// Submission and monitoring prefix.
    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Its verifier key.
    pub fn vkey(&self) -> String {
        self.shared.signer.vkey(COSIGNATURE)
    }

    /// Size of the newest checkpoint of an origin that it cosigned.
    pub fn size(&self, origin: &str) -> Option<u64> {
        self.shared.state().newest.get(origin).map(|newest| newest.size)
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.state().asked.clone()
    }

    /// Waits until it ends, which it does not by itself.
    pub fn join(mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// `add-checkpoint`, as the specification has it.
    fn add(&self, body: &str) -> Response {
        let Ok(parsed) = Submission::parse(body) else { return Response::status(400) };
        let Submission { old, proof, note, text } = &parsed;
        // Checking and writing are one step.
        let mut state = self.state();
        let response = self.decide(&mut state, *old, proof, note, text);
        let status = response.status;
        state.asked.push(Asked { old: *old, proof: proof.len(), size: note.size, status });
        response
    }

    fn decide(
        &self,
        state: &mut State,
        old: u64,
        proof: &[Hash],
        note: &Note,
        text: &str,
    ) -> Response {
        let log = state.logs.iter().find(|(host, _)| {
            let epoch = note.origin.strip_prefix(host.as_str()).and_then(|e| e.strip_prefix('/'));
            epoch.is_some_and(|epoch| note::decimal(epoch).is_ok())
        });
        let Some((_, public)) = log else { return Response::status(404) };
        match note.signed(&note.origin, public) {
            Signed::Yes => {}
            Signed::No | Signed::Wrong => return Response::status(403),
        }
        if old > note.size {
            return Response::status(400);
        }
        let (size, root) = state
            .newest
            .get(&note.origin)
            .map_or((0, [0; 32]), |newest| (newest.size, newest.root));
        if old != size {
            return Response::conflict(size);
        }
        let empty = note.size == 0 && note.root != tree::root(&[]);
        if empty || !tree::is_consistent((old, root), (note.size, note.root), proof) {
            return Response::status(422);
        }
        let line = self.signer.cosign(&note.body, now());
        let newest = Newest { size: note.size, root: note.root, note: format!("{text}{line}") };
        if self.keep(&note.origin, &newest.note).is_err() {
            return Response::status(500);
        }
        state.newest.insert(note.origin.clone(), newest);
        Response::text(line)
    }

    fn keep(&self, origin: &str, note: &str) -> Result<()> {
        let path = self.folder.join(format!("{}.note", hashed(origin)));
        let temporary = path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        Ok(File::open(&self.folder)?.sync_all()?)
    }

    fn checkpoint(&self, path: &str) -> Response {
        let hash = path.strip_prefix('/').and_then(|p| p.strip_suffix("/checkpoint"));
        let state = self.state();
        let found = state.newest.iter().find(|(origin, _)| Some(hashed(origin).as_str()) == hash);
        found.map_or(Response::status(404), |(_, newest)| Response::text(newest.note.clone()))
    }

    /// What a mood other than good does with a submission. `None`: nothing more is to be sent.
    fn misbehave(
        &self,
        mood: Mood,
        body: &str,
        tcp: &TcpStream,
        stream: &mut (impl Read + Write),
    ) -> Option<Response> {
        let note = Submission::parse(body).ok().map(|submission| submission.note);
        let signed = note.as_ref().map(|note| note.body.clone()).unwrap_or_default();
        let response = match mood {
            Mood::Good => self.add(body),
            Mood::Status(status) => Response::status(status),
            Mood::Conflict(size) => Response::conflict(size),
            Mood::UntypedConflict => {
                let size = note.and_then(|note| self.size_of(&note.origin)).unwrap_or(0);
                Response { kind: "text/plain", ..Response::conflict(size) }
            }
            Mood::Garbage => Response::text("— \u{fffd}\n\n\0signature".to_owned()),
            Mood::Huge => Response::text("— w AAAA\n".repeat(1 << 20)),
            Mood::Redirect => Response { status: 307, ..Response::text(String::new()) },
            Mood::WrongKey => {
                let line = self.signer.cosign("another body", now());
                Response::text(line)
            }
            Mood::UnknownKey => {
                let other = Signer::new("stranger.example/w", &[9; 32]).expect("a seed");
                Response::text(other.cosign(&signed, now()))
            }
            Mood::Future => Response::text(self.signer.cosign(&signed, now() + 31_536_000)),
            Mood::NoHttp => {
                let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n");
                return None;
            }
            Mood::Silent => {
                self.until_closed(tcp, stream, b"");
                return None;
            }
            Mood::Slow => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
                self.until_closed(tcp, stream, b"x");
                return None;
            }
        };
        if mood != Mood::Good
            && let Some(asked) = Submission::parse(body).ok()
        {
            let Submission { old, proof, note, .. } = asked;
            let asked = Asked { old, proof: proof.len(), size: note.size, status: response.status };
            self.state().asked.push(asked);
        }
        Some(response)
    }

    /// Writes `drip` again and again, until the other end closes or this one stops.
    fn until_closed(&self, tcp: &TcpStream, stream: &mut (impl Read + Write), drip: &[u8]) {
        let _ = tcp.set_read_timeout(Some(Duration::from_millis(20)));
        while !self.stopped() {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(0) => return,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
                Ok(_) => {}
            }
            if stream.write_all(drip).is_err() {
                return;
            }
        }
    }

    fn size_of(&self, origin: &str) -> Option<u64> {
        self.state().newest.get(origin).map(|newest| newest.size)
    }
}

fn serve(shared: &Shared, mut stream: TcpStream) -> Result<()> {
    let tcp = stream.try_clone()?;
    http::be_patient(&tcp)?;
    match &shared.tls {
        None => answer(shared, &tcp, &mut stream),
        Some(config) => {
            let mut encrypted = tls::accept(config, stream)?;
            answer(shared, &tcp, &mut encrypted)?;
            encrypted.conn.send_close_notify();
            Ok(encrypted.flush()?)
        }
    }
}

fn answer(shared: &Shared, tcp: &TcpStream, stream: &mut (impl Read + Write)) -> Result<()> {
    let Ok(request) = Request::read(stream) else {
        return Ok(Response::status(400).write(stream)?);
    };
    let mood = shared.state().mood;
    let response = match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/add-checkpoint") => shared.misbehave(mood, &request.body, tcp, stream),
        ("GET", path) => Some(shared.checkpoint(path)),
        ("POST", _) => Some(Response::status(404)),
        _ => Some(Response::status(405)),
    };
    match response {
        Some(response) => Ok(response.write(stream)?),
        None => Ok(()),
    }
}

struct Submission {
    old: u64,
    proof: Vec<Hash>,
    note: Note,
    text: String,
}

impl Submission {
    fn parse(body: &str) -> Result<Self> {
        let (head, text) = body.split_once("\n\n").context("no empty line")?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).context("no old size")?;
        let old = note::decimal(old)?;
        let proof = lines.map(note::hash).collect::<Result<Vec<_>>>()?;
        ensure!(proof.len() <= PROOF_MAX, "proof too long");
        Ok(Self { old, proof, note: Note::parse(text)?, text: text.to_owned() })
    }
}

fn hashed(origin: &str) -> String {
    Sha256::digest(origin).iter().map(|b| format!("{b:02x}")).collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
