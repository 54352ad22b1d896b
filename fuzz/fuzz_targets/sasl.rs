//! Any bytes in the place of every SASL message and of what surrounds it: nothing proves itself
//! that does not know the keys, and whatever one side reads, the other's rules hold for it.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use pgward::pg::scram::{
    AwaitingFinal, Client, ClientBinding, EndPoint, Gs2Flag, Initial, Keys, MESSAGE_BYTES_MAX,
    Nonce, Offer, Server, Verifier,
};
use pgward::pg::startup::{OPTIONS_MAX, StartupOption, options};
use pgward_fuzz::Bytes;
use secrecy::ExposeSecret;

const SALT: &[u8] = b"0123456789abcdef";
static VERIFIER: LazyLock<Arc<Verifier>> =
    LazyLock::new(|| Arc::new(Verifier::from_password(b"secret", SALT, 4096).expect("in limits")));
static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::derive(b"secret", SALT, 4096));

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    match bytes.u8().unwrap_or(0) % 6 {
        0 => verifier(bytes.0),
        1 => startup_options(bytes.0),
        2 => client_first(&mut bytes),
        3 => client_final(&mut bytes),
        4 => server(&mut bytes),
        _ => changed(&mut bytes),
    }
});

fn verifier(text: &[u8]) {
    let Ok(verifier) = Verifier::parse(text) else { return };
    // One value has one spelling.
    assert_eq!(verifier.expose().expose_secret().as_bytes(), text);
}

fn startup_options(value: &[u8]) {
    let Ok(items) = options(value) else { return };
    assert!(items.len() <= OPTIONS_MAX);
    // Written in the plainest way, settings are read as they were.
    for item in items {
        let StartupOption::Setting { name, value } = item else { continue };
        let mut written = b"-c ".to_vec();
        for byte in [&name[..], b"=", &value].concat() {
            written.extend([b'\\', byte]);
        }
        assert_eq!(options(&written), Ok(vec![StartupOption::Setting { name, value }]));
    }
}

fn end_point() -> EndPoint {
    EndPoint::from_hash(&[9; 32]).expect("length of a hash")
}

fn offer(choice: u8) -> Offer {
    match choice % 3 {
        0 => Offer::Plain,
        1 => Offer::Plus(end_point()),
        _ => Offer::PlusRequired(end_point()),
    }
}

/// What was offered, and what a client makes of it.
fn pair(choice: u8) -> (Offer, ClientBinding) {
    match choice % 4 {
        0 => (Offer::Plain, ClientBinding::NotOverTls),
        1 => (Offer::Plain, ClientBinding::NotOffered),
        2 => (Offer::Plus(end_point()), ClientBinding::EndPoint(end_point())),
        _ => (Offer::Plus(end_point()), ClientBinding::Disabled),
    }
}

fn challenged(offer: Offer, mechanism: &[u8], first: &[u8]) -> Option<(AwaitingFinal, Vec<u8>)> {
    let verifier = Arc::clone(&VERIFIER);
    let server = Server::new(verifier, offer, Nonce::from_random([2; 18]));
    match server.handle_initial(mechanism, Some(first)) {
        Ok(Initial::Challenged(awaiting, first)) => Some((awaiting, first)),
        Ok(Initial::Empty(_)) => unreachable!("there was an initial response"),
        Err(error) => {
            error.reply(b"user");
            None
        }
    }
}

/// A first message of any bytes, and a last one of any others.
fn client_first(bytes: &mut Bytes<'_>) {
    let offer = offer(bytes.u8().unwrap_or(0));
    let mechanism = match bytes.u8().unwrap_or(0) & 1 {
        0 => "SCRAM-SHA-256",
        _ => "SCRAM-SHA-256-PLUS",
    };
    let last = bytes.few().to_vec();
    let flag = Gs2Flag::of(bytes.0);
    let Some((awaiting, challenge)) = challenged(offer, mechanism.as_bytes(), bytes.0) else {
        return;
    };
    assert_eq!(matches!(flag, Ok(Gs2Flag::Used(_))), mechanism.ends_with("PLUS"));
    assert!(challenge.len() <= MESSAGE_BYTES_MAX);
    awaiting.handle_final(&last).expect_err("nobody proved anything");
}

/// A last message of any bytes, behind a good beginning or not.
fn client_final(bytes: &mut Bytes<'_>) {
    let (offer, binding) = pair(bytes.u8().unwrap_or(0));
    let (client, mechanism, first) = Client::new(binding, Nonce::from_random([1; 18]));
    let (awaiting, server_first) =
        challenged(offer, mechanism, &first).expect("our own first message");
    let challenge = client.handle_first(&server_first).expect("our own challenge");
    let (_, answer) = challenge.answer(&KEYS);
    let good = answer.expose_secret();
    let kept = usize::from(bytes.u8().unwrap_or(0)).min(good.len());
    let message = [&good[..kept], bytes.0].concat();
    assert_eq!(awaiting.handle_final(&message).is_ok(), message == good);
}

/// Challenges and last messages of any bytes.
fn server(bytes: &mut Bytes<'_>) {
    let (_, binding) = pair(bytes.u8().unwrap_or(0));
    let (client, _, first) = Client::new(binding, Nonce::from_random([1; 18]));
    let nonce = &first[first.len() - 24..];
    let kept = bytes.u8().unwrap_or(0);
    let last = bytes.few().to_vec();
    let beginning = [b"r=", nonce].concat();
    let kept = usize::from(kept).min(beginning.len());
    let Ok(challenge) = client.handle_first(&[&beginning[..kept], bytes.0].concat()) else {
        return;
    };
    assert!((1..=256).contains(&challenge.salt().len()));
    assert!((4096..=2_000_000).contains(&challenge.iterations()));
    challenge.is_of(&VERIFIER);
    let (awaiting, answer) = challenge.answer(&KEYS);
    assert!(answer.expose_secret().starts_with(b"c="));
    awaiting.handle_final(&last).expect_err("nobody knows the server's key");
}

/// A good exchange in which bytes of one message are replaced.
fn changed(bytes: &mut Bytes<'_>) {
    let (offer, binding) = pair(bytes.u8().unwrap_or(0));
    let which = bytes.u8().unwrap_or(0) % 4;
    let at = usize::from(bytes.u8().unwrap_or(0));
    let removed = usize::from(bytes.u8().unwrap_or(0));
    let put = bytes.0;
    let mut differs = false;
    let mut pass = |now: u8, message: Vec<u8>| {
        if now != which {
            return message;
        }
        let at = at.min(message.len());
        let end = (at + removed).min(message.len());
        let new = [&message[..at], put, &message[end..]].concat();
        differs = new != message;
        new
    };
    let (client, mechanism, first) = Client::new(binding, Nonce::from_random([1; 18]));
    let whole = || {
        let (server, first) = challenged(offer, mechanism, &pass(0, first))?;
        let challenge = client.handle_first(&pass(1, first)).ok()?;
        let (client, answer) = challenge.answer(&KEYS);
        let proven = server.handle_final(&pass(2, answer.expose_secret().to_vec())).ok()?;
        // Optional extensions behind the signature are signed by nothing, and ignored.
        let last = pass(3, proven.server_final().to_vec());
        client.handle_final(&last).ok()?;
        last.starts_with(proven.server_final()).then_some(last == proven.server_final())
    };
    let done = whole();
    assert_eq!(done == Some(true), !differs);
}
