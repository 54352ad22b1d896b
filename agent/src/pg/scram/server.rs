//! The server's side, towards the application.

use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::error::{BindingFault, Fault, ScramError};
use super::keys::{ClientKey, Key};
use super::message::{Attributes, Gs2Flag, decode_key, encode, limit};
use super::{EndPoint, NONCE_BYTES_MAX, Nonce, PLAIN, PLUS, Verifier};
use crate::pg::error::Side;

/// What the application was offered, which decides what its flag may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// Only `SCRAM-SHA-256`: no TLS, or channel binding is not wanted.
    Plain,
    /// `SCRAM-SHA-256-PLUS` for our own certificate, or without. An application that knows
    /// channel binding and took the other had its list of mechanisms cut, and is refused.
    Plus(EndPoint),
    /// Only `SCRAM-SHA-256-PLUS`.
    PlusRequired(EndPoint),
}

/// An exchange of which nothing was said but the offer.
#[derive(Debug)]
pub struct Server {
    verifier: Arc<Verifier>,
    offer: Offer,
    nonce: Nonce,
}

/// What the application's first message led to. Both are sent as `AuthenticationSASLContinue`.
#[derive(Debug)]
pub enum Initial {
    /// It held the first SCRAM message, to which these bytes are the answer.
    Challenged(AwaitingFinal, Vec<u8>),
    /// It only named the mechanism: the answer is an empty challenge, and the first SCRAM message
    /// comes in the next.
    Empty(AwaitingFirst),
}

/// An exchange whose mechanism is known, and nothing else.
#[derive(Debug)]
pub struct AwaitingFirst {
    server: Server,
    mechanism: Mechanism,
}

/// An exchange whose challenge is sent.
pub struct AwaitingFinal {
    verifier: Arc<Verifier>,
    client_first_bare: Box<[u8]>,
    server_first: Vec<u8>,
    /// Both halves.
    nonce: Box<[u8]>,
    channel: Channel,
    /// What must stand behind `c=`.
    binding: String,
}

/// Whether the two ends of an exchange saw the same TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Not known.
    Unbound,
    /// Proven, by `tls-server-end-point`.
    Bound,
}

/// Proof that the application knows the password. Only [`AwaitingFinal::handle_final`] makes it.
pub struct Proven {
    server_final: Vec<u8>,
    client_key: ClientKey,
    channel: Channel,
}

#[derive(Debug)]
enum Mechanism {
    Plain,
    Plus(EndPoint),
}

impl Server {
    /// Begins an exchange. `nonce` must be new for each.
    pub fn new(verifier: Arc<Verifier>, offer: Offer, nonce: Nonce) -> Self {
        Self { verifier, offer, nonce }
    }

    /// Names of the mechanisms to be sent in `AuthenticationSASL`, in the server's own order.
    pub fn mechanisms(offer: &Offer) -> &'static [&'static [u8]] {
        match offer {
            Offer::Plain => &[PLAIN],
            Offer::Plus(_) => &[PLUS, PLAIN],
            Offer::PlusRequired(_) => &[PLUS],
        }
    }

    /// Handles a `SASLInitialResponse`; `data` is `None` where its length is -1.
    ///
    /// Errors: [`ScramError::Mechanism`], and those of [`AwaitingFirst::handle_first`].
    pub fn handle_initial(
        self,
        mechanism: &[u8],
        data: Option<&[u8]>,
    ) -> Result<Initial, ScramError> {
        let mechanism = match (mechanism, &self.offer) {
            (PLAIN, Offer::Plain | Offer::Plus(_)) => Mechanism::Plain,
            (PLUS, Offer::Plus(end_point) | Offer::PlusRequired(end_point)) => {
                Mechanism::Plus(end_point.clone())
            }
            (_, Offer::Plain | Offer::Plus(_) | Offer::PlusRequired(_)) => {
                return Err(ScramError::Mechanism);
            }
        };
        let awaiting = AwaitingFirst { server: self, mechanism };
        let Some(data) = data else { return Ok(Initial::Empty(awaiting)) };
        let (awaiting, server_first) = awaiting.handle_first(data)?;
        Ok(Initial::Challenged(awaiting, server_first))
    }
}

impl AwaitingFirst {
    /// Handles the first SCRAM message; the bytes are the challenge.
    ///
    /// Layout: `flag "," [ authzid ] "," "n=" name ",r=" nonce [ "," extensions ]`. The name is
    /// not looked at: the user is that of the startup packet.
    /// Errors: all of the client's side but those of a proof.
    pub fn handle_first(self, data: &[u8]) -> Result<(AwaitingFinal, Vec<u8>), ScramError> {
        let mut attributes = Attributes::new(Side::Client, data)?;
        let flag = attributes.flag()?;
        let end_point = match (flag, &self.mechanism, &self.server.offer) {
            (Gs2Flag::NotSupported, Mechanism::Plain, _)
            | (Gs2Flag::NotOffered, Mechanism::Plain, Offer::Plain) => None,
            (Gs2Flag::NotOffered, Mechanism::Plain, Offer::Plus(_) | Offer::PlusRequired(_)) => {
                return Err(ScramError::Binding(BindingFault::Downgrade));
            }
            (Gs2Flag::Used(_), Mechanism::Plain, _) => {
                return Err(ScramError::Binding(BindingFault::Unexpected));
            }
            (Gs2Flag::NotSupported | Gs2Flag::NotOffered, Mechanism::Plus(_), _) => {
                return Err(ScramError::Binding(BindingFault::Missing));
            }
            (Gs2Flag::Used(name), Mechanism::Plus(end_point), _) => {
                Gs2Flag::check_type(name)?;
                Some(end_point)
            }
        };
        attributes.header_end()?;
        let header = &data[..attributes.offset()];
        let (channel, hash) = match end_point {
            Some(end_point) => (Channel::Bound, end_point.as_bytes()),
            None => (Channel::Unbound, &[][..]),
        };
        let binding = encode(&[header, hash].concat());

        let client_first_bare = attributes.rest().into();
        attributes.no_extension()?;
        attributes.value(b'n')?;
        let client_nonce = attributes.nonce()?;
        attributes.extensions()?;

        let Server { verifier, offer: _, nonce } = self.server;
        let nonce = [client_nonce, nonce.as_bytes()].concat();
        if nonce.len() > NONCE_BYTES_MAX {
            return Err(limit(Side::Client, "nonce", nonce.len(), NONCE_BYTES_MAX));
        }
        let mut server_first = Vec::with_capacity(nonce.len() + verifier.salt().len() * 2 + 32);
        server_first.extend_from_slice(b"r=");
        server_first.extend_from_slice(&nonce);
        let salt = encode(verifier.salt());
        server_first.extend_from_slice(format!(",s={salt},i={}", verifier.iterations()).as_bytes());
        let awaiting = AwaitingFinal {
            verifier,
            client_first_bare,
            server_first: server_first.clone(),
            nonce: nonce.into(),
            channel,
            binding,
        };
        Ok((awaiting, server_first))
    }
}

impl AwaitingFinal {
    /// Handles the last message of the client.
    ///
    /// Layout: `"c=" binding ",r=" nonce [ "," extensions ] ",p=" proof`.
    /// Errors: [`ScramError::NotAuthenticated`] for a wrong proof and, after the same work, for
    /// every proof when the verifier is that of an unknown user; those of the message else.
    pub fn handle_final(self, data: &[u8]) -> Result<Proven, ScramError> {
        let mut attributes = Attributes::new(Side::Client, data)?;
        self.check_binding(attributes.value(b'c')?)?;
        let nonce = attributes.nonce()?;
        let (without_proof, proof) = loop {
            let end = attributes.offset().saturating_sub(1);
            match attributes.any()? {
                Some((b'p', value)) => break (&data[..end], value),
                Some((attribute, _)) => attributes.check_unknown(attribute)?,
                None => return Err(attributes.fault(Fault::Letter { found: None })),
            }
        };
        let mut client_proof = Key::ZERO;
        if !decode_key(proof, &mut client_proof.0) {
            return Err(attributes.fault(Fault::Proof));
        }
        if !attributes.at_end() {
            return Err(attributes.fault(Fault::Trailing));
        }
        if !bool::from(nonce.ct_eq(&self.nonce)) {
            return Err(ScramError::Nonce { side: Side::Client });
        }

        let auth_message = [&self.client_first_bare[..], &self.server_first, without_proof];
        let client_signature = self.verifier.stored_key.sign(auth_message);
        let client_key = client_proof.xor(&client_signature);
        if !bool::from(self.verifier.accepts(&client_key)) {
            return Err(ScramError::NotAuthenticated);
        }
        let server_signature = self.verifier.server_key.sign(auth_message);
        Ok(Proven {
            server_final: format!("v={}", encode(&server_signature.0)).into_bytes(),
            client_key: ClientKey(client_key),
            channel: self.channel,
        })
    }

    fn check_binding(&self, found: &[u8]) -> Result<(), ScramError> {
        if bool::from(found.ct_eq(self.binding.as_bytes())) {
            return Ok(());
        }
        Err(ScramError::Binding(match self.channel {
            Channel::Unbound => BindingFault::Changed,
            Channel::Bound => BindingFault::Mismatch,
        }))
    }
}

impl std::fmt::Debug for AwaitingFinal {
    /// Without the messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwaitingFinal").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Proven {
    /// Without the messages and the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proven").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl Proven {
    /// Data of `AuthenticationSASLFinal`: the server's own proof.
    pub fn server_final(&self) -> &[u8] {
        &self.server_final
    }

    /// The key that the proof gave away, with which we can log in where the same verifier is.
    pub fn client_key(&self) -> &ClientKey {
        &self.client_key
    }

    /// Whether the proof was bound to the TLS connection.
    pub fn channel(&self) -> Channel {
        self.channel
    }
}
