//! Handshakes with fixed terms.

use std::sync::Arc;

use pgward::pg::handshake::{
    Authenticated, Binding, Channel, Handshake, Hello, Random, ServerLeg, Terms,
    course::{Accepted, CertificateGiven, Mode, Upgrade},
};
use pgward::pg::startup::Parameters;
use zeroize::Zeroizing;

/// What a session needs to exist: a server that lets anyone in, where that is accepted.
pub fn authenticated() -> Authenticated {
    let mut handshake = handshake(Terms { accepted: Accepted::ANY, ..terms() });
    let ready = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    let taken = handshake.handle_backend(ready).expect("a server in order");
    assert_eq!(taken, ready.len());
    handshake.finish().expect("it is accepted")
}

/// A handshake whose startup packet is with the server.
pub fn handshake(terms: Terms) -> Handshake {
    Handshake::new(terms)
}

/// Clear text on both legs, nothing weaker than SCRAM accepted.
pub fn terms() -> Terms {
    let parameters: Parameters = [("user", "app")].into_iter().collect();
    Terms {
        user: b"app"[..].into(),
        hello: Hello::new(0, &parameters, b"app", None),
        client_leg: Channel::Clear,
        client_binding: Binding::Prefer,
        server_leg: ServerLeg { channel: Channel::Clear, certificate: CertificateGiven::No },
        server_binding: Binding::Prefer,
        mode: Mode::Auto,
        upgrade: Upgrade::No,
        accepted: Accepted::default(),
        random: Random {
            client_nonce: [1; 18],
            server_nonce: [2; 18],
            cancel_key: Zeroizing::new([7; 256]),
            mock_seed: Arc::new(Zeroizing::new([3; 32])),
        },
    }
}
