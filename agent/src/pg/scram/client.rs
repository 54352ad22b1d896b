//! The client's side, towards the database, which may be hostile: nothing it sends is trusted
//! before its signature, and nothing of it makes us hold or compute more than named limits.

use secrecy::SecretSlice;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::error::{Fault, ScramError, ServerError};
use super::keys::{Key, Keys};
use super::message::{Attributes, decode, decode_key, encode, limit, number};
use super::{
    EndPoint, ITERATIONS_MAX, ITERATIONS_MIN, KEY_BYTES, Nonce, PLAIN, PLUS, SALT_BYTES_MAX,
    TLS_SERVER_END_POINT, Verifier,
};
use crate::pg::error::Side;

/// What is said of channel binding, from what is known of the connection and the server's offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientBinding {
    /// The connection has no TLS: `n`.
    NotOverTls,
    /// Configuration wants none: `n`.
    Disabled,
    /// The server offered it, but its certificate's signature defines no hash: `n`.
    NoHash,
    /// Over TLS, and the server did not offer it: `y`. A server that did, to which the list came
    /// cut, refuses this.
    NotOffered,
    /// The server offered it, and this is its certificate: `p`.
    EndPoint(EndPoint),
}

/// An exchange whose first message is sent.
#[derive(Debug)]
pub struct Client {
    header: Vec<u8>,
    binding: ClientBinding,
    first_bare: Vec<u8>,
    nonce: Nonce,
}

/// The server's challenge, for which keys are wanted.
#[derive(Debug)]
pub struct Challenge {
    client: Client,
    server_first: Box<[u8]>,
    /// Both halves.
    nonce: Box<[u8]>,
    salt: Vec<u8>,
    iterations: u32,
}

/// An exchange whose proof is sent.
pub struct AwaitingServer {
    signature: Key,
}

impl Client {
    /// Begins an exchange: the mechanism to choose, and the data of `SASLInitialResponse`.
    /// `nonce` must be new for each.
    pub fn new(binding: ClientBinding, nonce: Nonce) -> (Self, &'static [u8], Vec<u8>) {
        // The server takes the user from the startup packet and ignores the name here.
        Self::with_name(binding, nonce, "")
    }

    pub(super) fn with_name(
        binding: ClientBinding,
        nonce: Nonce,
        name: &str,
    ) -> (Self, &'static [u8], Vec<u8>) {
        let (mechanism, header) = match &binding {
            ClientBinding::NotOverTls | ClientBinding::Disabled | ClientBinding::NoHash => {
                (PLAIN, "n,,".to_owned())
            }
            ClientBinding::NotOffered => (PLAIN, "y,,".to_owned()),
            ClientBinding::EndPoint(_) => (PLUS, format!("p={TLS_SERVER_END_POINT},,")),
        };
        let header = header.into_bytes();
        let first_bare = [b"n=", name.as_bytes(), b",r=", nonce.as_bytes()].concat();
        let first = [&header[..], &first_bare].concat();
        (Self { header, binding, first_bare, nonce }, mechanism, first)
    }

    /// Handles the data of the first `AuthenticationSASLContinue`.
    ///
    /// Layout: `"r=" nonce ",s=" salt ",i=" iterations [ "," extensions ]`.
    /// Limits: a nonce that is longer than ours and begins with it, a salt of 1 to
    /// [`SALT_BYTES_MAX`] bytes, [`ITERATIONS_MIN`] to [`ITERATIONS_MAX`] iterations.
    /// Errors: all of the server's side but those of a signature.
    pub fn handle_first(self, server_first: &[u8]) -> Result<Challenge, ScramError> {
        let ServerFirst { nonce, salt, iterations } = ServerFirst::read(server_first)?;
        match nonce.split_at_checked(self.nonce.as_bytes().len()) {
            Some((ours, theirs))
                if bool::from(ours.ct_eq(self.nonce.as_bytes())) && !theirs.is_empty() => {}
            Some(_) | None => return Err(ScramError::Nonce { side: Side::Server }),
        }
        let (nonce, server_first) = (nonce.into(), server_first.into());
        Ok(Challenge { client: self, server_first, nonce, salt, iterations })
    }
}

/// Checks the data of the first `AuthenticationSASLContinue` of an exchange that others carry out, except its nonce: a server
/// that asks for few iterations makes the proof easy to guess from, one that asks for many keeps its client busy.
///
/// Errors: as of [`Client::handle_first`].
pub fn check_server_first(server_first: &[u8]) -> Result<(), ScramError> {
    ServerFirst::read(server_first).map(|_| ())
}

struct ServerFirst<'a> {
    nonce: &'a [u8],
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> ServerFirst<'a> {
    fn read(server_first: &'a [u8]) -> Result<Self, ScramError> {
        let mut attributes = Attributes::new(Side::Server, server_first)?;
        attributes.no_extension()?;
        let nonce = attributes.nonce()?;
        let salt = decode(attributes.value(b's')?).unwrap_or_default();
        if salt.is_empty() {
            return Err(attributes.fault(Fault::Salt));
        }
        if salt.len() > SALT_BYTES_MAX {
            return Err(limit(Side::Server, "salt", salt.len(), SALT_BYTES_MAX));
        }
        let iterations = number(attributes.value(b'i')?);
        let iterations = iterations.ok_or_else(|| attributes.fault(Fault::Iterations))?;
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(ScramError::Iterations { found: iterations });
        }
        attributes.extensions()?;
        Ok(Self { nonce, salt, iterations })
    }
}

impl Challenge {
    /// Salt of the keys.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Iterations of the keys, within [`ITERATIONS_MIN`] and [`ITERATIONS_MAX`].
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Whether keys made for this verifier answer it: the same salt and iterations.
    pub fn is_of(&self, verifier: &Verifier) -> bool {
        self.iterations == verifier.iterations() && self.salt == verifier.salt()
    }

    /// The last message of the client, which holds the proof: data of `SASLResponse`.
    pub fn answer(self, keys: &Keys) -> (AwaitingServer, SecretSlice<u8>) {
        let Self { client, server_first, nonce, salt: _, iterations: _ } = self;
        let data = match &client.binding {
            ClientBinding::EndPoint(end_point) => end_point.as_bytes(),
            ClientBinding::NotOverTls
            | ClientBinding::Disabled
            | ClientBinding::NoHash
            | ClientBinding::NotOffered => &[],
        };
        let binding = encode(&[&client.header[..], data].concat());
        let without_proof = [b"c=", binding.as_bytes(), b",r=", &nonce[..]].concat();
        let auth_message = [&client.first_bare[..], &server_first, &without_proof];
        let signature = keys.client.hash().sign(auth_message);
        let proof = Zeroizing::new(encode(&keys.client.xor(&signature).0));
        let length = without_proof.len() + 3 + proof.len();
        let mut message = Vec::with_capacity(length);
        for part in [&without_proof[..], b",p=", proof.as_bytes()] {
            message.extend_from_slice(part);
        }
        debug_assert_eq!(message.len(), message.capacity(), "becomes a box without a copy");
        let awaiting = AwaitingServer { signature: keys.server.sign(auth_message) };
        (awaiting, SecretSlice::from(message))
    }
}

impl AwaitingServer {
    /// Handles the data of `AuthenticationSASLFinal`. Until this returns `Ok`, nothing says that
    /// the server is the one that knows the user: an `AuthenticationOk` without it is to be
    /// refused.
    ///
    /// Layout: `"v=" signature [ "," extensions ]`, or `"e=" error [ "," extensions ]`.
    /// Errors: [`ScramError::ServerSignature`], [`ScramError::Refused`], those of the message.
    pub fn handle_final(self, server_final: &[u8]) -> Result<(), ScramError> {
        let mut attributes = Attributes::new(Side::Server, server_final)?;
        if attributes.peek() == Some(b'e') {
            let error = ServerError::of(attributes.value(b'e')?);
            attributes.extensions()?;
            return Err(ScramError::Refused(error));
        }
        let mut found = [0; KEY_BYTES];
        if !decode_key(attributes.value(b'v')?, &mut found) {
            return Err(attributes.fault(Fault::Signature));
        }
        attributes.extensions()?;
        if bool::from(self.signature.same(&Key(found))) {
            Ok(())
        } else {
            Err(ScramError::ServerSignature)
        }
    }
}

impl std::fmt::Debug for AwaitingServer {
    /// Without the signature.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwaitingServer").finish_non_exhaustive()
    }
}
