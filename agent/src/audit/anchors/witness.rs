//! `witness`: a client of C2SP tlog-witness.
//!
//! ```text
//!   POST <url>/add-checkpoint      "old <size>" LF, proof lines, LF, note
//!     200  cosignature lines       verified before anything is believed
//!     409  the size it knows       ours is larger: once more, with the proof from there
//!                                  ours is smaller: an alarm
//!     422  our log does not continue what it saw: an alarm
//!   GET <url>/<SHA-256 of the origin>/checkpoint      at start: what it knows
//! ```
//!
//! Nothing that it says is trusted but its signature: the worst that a witness, or somebody on the way to
//! it, can do is to raise an alarm or to be silent. It has to know each origin with the key of the host:
//! a new epoch is a new origin, and one that only knows the old one answers 404.

use std::{io, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::crypto::aws_lc_rs::default_provider;
use thiserror::Error;
use ureq::{
    Agent, Body,
    config::Config,
    http::{Response, header::CONTENT_TYPE},
    tls::{Certificate, RootCerts, TlsConfig, TlsProvider},
};

use super::{
    Alarm, Checkpoint, CopyError, Cosignature, CosignatureError, Cosigned, Known, NOTE_BYTES_MAX,
    Place, ProofSource, Question, WitnessKey, checkpoint::decimal, own,
};
use crate::{audit::Now, config::AnchorWitness, net::dial::Dialer};

/// How long one request may take, from the name of the witness to the last byte of its answer.
pub const WITNESS_LIMIT: Duration = Duration::from_secs(10);
/// Most hashes of a consistency proof.
const PROOF_MAX: usize = 63;
/// Most bytes of an answer's header.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// Type of an answer that holds a size.
const SIZE_TYPE: &str = "text/x.tlog.size";

/// A witness.
pub struct Witness {
    agent: Agent,
    url: String,
    key: WitnessKey,
    proofs: Arc<dyn ProofSource>,
    cosigned: Arc<Cosigned>,
    /// The log that it was asked about last, and the size that it has of it.
    known: Option<(String, u64)>,
}

/// Why a witness did not cosign.
#[derive(Debug, Error)]
pub enum WitnessError {
    /// No certificate is there to verify it with.
    #[error("the system's certificates")]
    Roots(#[source] io::Error),
    /// The runtime of its connections.
    #[error("starting a runtime")]
    Runtime(#[source] io::Error),
    /// It could not be asked, or did not answer in time.
    #[error("no answer from the witness")]
    Unanswered(#[source] Box<ureq::Error>),
    /// It does not know this log.
    #[error("the witness does not know `{origin}` (404)")]
    UnknownLog {
        /// The log.
        origin: String,
    },
    /// It does not accept our signature.
    #[error("the witness does not accept the signature of `{origin}` (403)")]
    Signature {
        /// The log.
        origin: String,
    },
    /// It does not understand what we sent.
    #[error("the witness calls the request malformed (400)")]
    Malformed,
    /// Another status.
    #[error("the witness answered with status {0}")]
    Status(u16),
    /// The answer is none.
    #[error("the witness's answer is not understood: expected {expected}")]
    Answer {
        /// What should have come.
        expected: &'static str,
    },
    /// It says a size, and then that this is wrong.
    #[error("the witness contradicts itself: it knows size {first}, and then size {second}")]
    Contradiction {
        /// Size of the first answer.
        first: u64,
        /// Size of the second.
        second: u64,
    },
    /// The log has no proof.
    #[error("no consistency proof from size {from} to size {to}")]
    NoProof {
        /// Size that the witness knows.
        from: u64,
        /// Size to cosign.
        to: u64,
    },
    /// What it signed does not count.
    #[error(transparent)]
    Cosignature(#[from] CosignatureError),
    /// It was cosigned, and could not be kept.
    #[error("the file `cosigned`")]
    Kept(#[source] io::Error),
}

enum Answered {
    Cosigned(Cosignature),
    Conflict(u64),
}

impl Witness {
    /// A client of the witness. Certificates are verified with the system's roots. Without a `dialer` its
    /// sockets are not marked as the agent's own.
    pub fn new(
        settings: &AnchorWitness,
        proofs: Arc<dyn ProofSource>,
        cosigned: Arc<Cosigned>,
        dialer: Option<Dialer>,
    ) -> Result<Self, WitnessError> {
        let roots = if settings.url.starts_with("https:") { system_roots()? } else { Vec::new() };
        let config = config(&roots, WITNESS_LIMIT);
        let agent = match dialer {
            Some(dialer) => own::agent(config, dialer).map_err(WitnessError::Runtime)?,
            None => config.new_agent(),
        };
        Ok(Self::asking(agent, settings, proofs, cosigned))
    }

    /// The same with other roots, another limit for one request, and no dialer.
    pub fn with_limit(
        settings: &AnchorWitness,
        proofs: Arc<dyn ProofSource>,
        cosigned: Arc<Cosigned>,
        roots: &[Certificate<'static>],
        limit: Duration,
    ) -> Self {
        Self::asking(config(roots, limit).new_agent(), settings, proofs, cosigned)
    }

    fn asking(
        agent: Agent,
        settings: &AnchorWitness,
        proofs: Arc<dyn ProofSource>,
        cosigned: Arc<Cosigned>,
    ) -> Self {
        let AnchorWitness { url, key } = settings.clone();
        Self { agent, url, key, proofs, cosigned, known: None }
    }

    fn ask(&self, old: u64, checkpoint: &Checkpoint) -> Result<Answered, CopyError> {
        let to = checkpoint.size();
        // The empty tree, and the same one, need no proof.
        let proof = if old == 0 || old == to {
            Vec::new()
        } else {
            let proof = self.proofs.consistency(old, to).filter(|proof| proof.len() <= PROOF_MAX);
            proof.ok_or(WitnessError::NoProof { from: old, to })?
        };
        let mut request = format!("old {old}\n");
        for hash in proof {
            request.push_str(&STANDARD.encode(hash));
            request.push('\n');
        }
        request.push('\n');
        request.push_str(checkpoint.note());
        let url = format!("{}/add-checkpoint", self.url);
        let mut response =
            self.agent.post(url).content_type("text/plain").send(request).map_err(unanswered)?;
        let origin = || checkpoint.origin().to_owned();
        let error = match response.status().as_u16() {
            200 => {
                let lines = text(&mut response)?;
                let now = Now::read().wall.0 / 1_000_000_000;
                let found = self.key.find(&lines, checkpoint.body(), now);
                return Ok(Answered::Cosigned(found.map_err(WitnessError::from)?));
            }
            409 => return Ok(Answered::Conflict(conflict(&mut response)?)),
            422 => {
                return Err(Alarm::Inconsistent { origin: origin(), known: old, size: to }.into());
            }
            404 => WitnessError::UnknownLog { origin: origin() },
            403 => WitnessError::Signature { origin: origin() },
            400 => WitnessError::Malformed,
            other => WitnessError::Status(other),
        };
        Err(error.into())
    }

    /// What it hands out of a log, if it does.
    fn fetch(&self, origin: &str) -> Result<Option<Known>, WitnessError> {
        let hash = hex::encode(digest(&SHA256, origin.as_bytes()));
        let url = format!("{}/{hash}/checkpoint", self.url);
        let mut response = self.agent.get(url).call().map_err(unanswered)?;
        // It need not hand out anything.
        if response.status().as_u16() != 200 {
            return Ok(None);
        }
        let note = text(&mut response)?;
        let expected = WitnessError::Answer { expected: "the checkpoint of this log" };
        let checkpoint = Checkpoint::parse(&note).ok().filter(|c| c.origin() == origin);
        let checkpoint = checkpoint.ok_or(expected)?;
        let now = Now::read().wall.0 / 1_000_000_000;
        // Lines of the log itself and of other witnesses are passed over.
        self.key.find(checkpoint.signatures(), checkpoint.body(), now)?;
        Ok(Some(checkpoint.into()))
    }
}

impl Place for Witness {
    fn copy(&mut self, checkpoint: &Checkpoint) -> Result<(), CopyError> {
        let origin = checkpoint.origin();
        let known = self.known.take().filter(|(log, _)| log == origin);
        let mut old = known.map_or(0, |(_, size)| size).min(checkpoint.size());
        let mut answered = self.ask(old, checkpoint)?;
        if let Answered::Conflict(theirs) = answered {
            if theirs > checkpoint.size() {
                let (origin, ours) = (origin.to_owned(), checkpoint.size());
                return Err(Alarm::Ahead { origin, ours, theirs }.into());
            }
            if theirs == old {
                return Err(WitnessError::Contradiction { first: old, second: theirs }.into());
            }
            old = theirs;
            answered = self.ask(old, checkpoint)?;
        }
        match answered {
            Answered::Cosigned(cosignature) => {
                self.known = Some((origin.to_owned(), checkpoint.size()));
                let kept = self.cosigned.add(checkpoint, &self.key, &cosignature);
                Ok(kept.map_err(WitnessError::Kept)?)
            }
            // Somebody else was faster, with more than we have.
            Answered::Conflict(theirs) if theirs > checkpoint.size() => {
                let (origin, ours) = (origin.to_owned(), checkpoint.size());
                Err(Alarm::Ahead { origin, ours, theirs }.into())
            }
            Answered::Conflict(second) => {
                Err(WitnessError::Contradiction { first: old, second }.into())
            }
        }
    }

    fn newest_known(&mut self, question: &Question) -> Result<Vec<Known>, CopyError> {
        let mut known = Vec::new();
        for origin in question.origins() {
            let mut found = self.fetch(&origin)?;
            let ours = question.newest.as_ref().filter(|newest| newest.origin() == origin);
            if let (None, Some(ours)) = (&found, ours) {
                // Asked for what we have already published, it tells the size that it has.
                found = match self.ask(ours.size(), ours) {
                    Ok(Answered::Cosigned(_)) => Some(ours.clone().into()),
                    Ok(Answered::Conflict(0)) => None,
                    Ok(Answered::Conflict(size)) => {
                        Some(Known { origin: origin.clone(), size, root: None, note: None })
                    }
                    // It was never told of this epoch.
                    Err(CopyError::Witness(WitnessError::UnknownLog { .. })) => None,
                    Err(error) => return Err(error),
                };
            }
            known.extend(found);
        }
        Ok(known)
    }
}

/// How a witness is asked: certificates are verified with `roots`, one request takes `limit` at most.
fn config(roots: &[Certificate<'static>], limit: Duration) -> Config {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
        .root_certs(RootCerts::new_with_certs(roots))
        .build();
    Config::builder()
        .tls_config(tls)
        .proxy(None)
        .http_status_as_error(false)
        // Nobody else is meant.
        .max_redirects(0)
        .max_response_header_size(HEADER_BYTES_MAX)
        .timeout_global(Some(limit))
        .user_agent("pgward")
        .accept_encoding("identity")
        .build()
}

fn unanswered(error: ureq::Error) -> WitnessError {
    WitnessError::Unanswered(Box::new(error))
}

/// The body of an answer, of a note's length at most.
fn text(response: &mut Response<Body>) -> Result<String, WitnessError> {
    let body = response.body_mut().with_config().limit(NOTE_BYTES_MAX as u64);
    body.read_to_string().map_err(|error| match error {
        ureq::Error::BodyExceedsLimit(_) => WitnessError::Answer { expected: "a short one" },
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            WitnessError::Answer { expected: "UTF-8" }
        }
        other => unanswered(other),
    })
}

/// The size in a 409.
fn conflict(response: &mut Response<Body>) -> Result<u64, WitnessError> {
    let expected = || WitnessError::Answer { expected: "a size, as `text/x.tlog.size`" };
    let content = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content != Some(SIZE_TYPE) {
        return Err(expected());
    }
    let text = text(response)?;
    text.strip_suffix('\n').and_then(decimal).ok_or_else(expected)
}

/// The certificates that the system trusts.
fn system_roots() -> Result<Vec<Certificate<'static>>, WitnessError> {
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() {
        let none = || io::Error::new(io::ErrorKind::NotFound, "there are none");
        let error = loaded.errors.into_iter().next().map_or_else(none, io::Error::other);
        return Err(WitnessError::Roots(error));
    }
    Ok(loaded.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
}
