//! Both sides against the published example, against each other, and against attackers.

mod hostile_client;
mod hostile_server;
mod properties;
mod replies;
mod vectors;

use std::sync::Arc;

use secrecy::ExposeSecret;

use super::*;

/// Few: tests are about the messages. Where a server's count is checked, it is one within limits.
pub(super) const SALT: &[u8] = b"0123456789abcdef";

pub(super) fn end_point(byte: u8) -> EndPoint {
    EndPoint::from_hash(&[byte; 32]).expect("length of a hash")
}

pub(super) fn nonce(byte: u8) -> Nonce {
    Nonce::from_random([byte; 18])
}

pub(super) fn text(nonce: &str) -> Nonce {
    Nonce(nonce.to_owned())
}

/// The verifier of `secret`, derived once for all tests.
pub(super) fn verifier() -> Arc<Verifier> {
    static VERIFIER: std::sync::OnceLock<Arc<Verifier>> = std::sync::OnceLock::new();
    let make = || {
        let verifier = Verifier::from_password(b"secret", SALT, ITERATIONS_MIN);
        Arc::new(verifier.expect("within limits"))
    };
    Arc::clone(VERIFIER.get_or_init(make))
}

/// The keys of `secret`, derived once for all tests.
pub(super) fn keys() -> Keys {
    static KEYS: std::sync::OnceLock<Keys> = std::sync::OnceLock::new();
    KEYS.get_or_init(|| Keys::derive(b"secret", SALT, ITERATIONS_MIN)).clone()
}

pub(super) fn challenged(
    verifier: Arc<Verifier>,
    offer: Offer,
    mechanism: &[u8],
    first: &[u8],
) -> Result<(AwaitingFinal, Vec<u8>), ScramError> {
    match Server::new(verifier, offer, nonce(2)).handle_initial(mechanism, Some(first))? {
        Initial::Challenged(awaiting, server_first) => Ok((awaiting, server_first)),
        Initial::Empty(_) => panic!("there was an initial response"),
    }
}

/// The four messages of an exchange, each as the other side gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) client_first: Vec<u8>,
    pub(super) server_first: Vec<u8>,
    pub(super) client_final: Vec<u8>,
    pub(super) server_final: Vec<u8>,
}

/// A whole exchange, in which `change` may change messages on their way.
pub(super) fn exchange(
    verifier: &Arc<Verifier>,
    offer: &Offer,
    binding: ClientBinding,
    keys: &Keys,
    change: impl Fn(usize, &mut Vec<u8>),
) -> Result<(Proven, Script), ScramError> {
    let (client, mechanism, mut client_first) = Client::new(binding, nonce(1));
    change(0, &mut client_first);
    let (server, mut server_first) =
        challenged(Arc::clone(verifier), offer.clone(), mechanism, &client_first)?;
    change(1, &mut server_first);
    let challenge = client.handle_first(&server_first)?;
    let (client, answer) = challenge.answer(keys);
    let mut client_final = answer.expose_secret().to_vec();
    change(2, &mut client_final);
    let proven = server.handle_final(&client_final)?;
    let mut server_final = proven.server_final().to_vec();
    change(3, &mut server_final);
    client.handle_final(&server_final)?;
    Ok((proven, Script { client_first, server_first, client_final, server_final }))
}

/// The messages of an exchange in which nothing goes wrong.
pub(super) fn script(offer: &Offer, binding: ClientBinding) -> Script {
    exchange(&verifier(), offer, binding, &keys(), |_, _| {}).expect("nothing goes wrong").1
}
