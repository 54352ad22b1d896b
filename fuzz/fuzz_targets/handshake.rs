//! Any bytes of both sides of a handshake, in turns, with any settings: nothing of an application that has to prove itself
//! reaches the server before it did, and what is taken is never more than was given.
#![no_main]

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use pgward::pg::handshake::{
    Binding, Channel, Credentials, Event, HandshakeError, ServerLeg, Terms,
    course::{Accepted, CertificateGiven, Mode, Upgrade},
};
use pgward::pg::scram::{EndPoint, Keys, Verifier};
use pgward_fuzz::{handshake, terms};

fn verifier() -> Arc<Verifier> {
    static VERIFIER: OnceLock<Arc<Verifier>> = OnceLock::new();
    let make = || Arc::new(Verifier::from_password(b"secret", b"salt", 4096).expect("in bounds"));
    VERIFIER.get_or_init(make).clone()
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys::derive(b"secret", b"salt", 4096))
}

fuzz_target!(|data: &[u8]| {
    let Some((&[settings, secrets], mut data)) = data.split_first_chunk::<2>() else { return };
    let end_point = || EndPoint::from_hash(&[9; 32]);
    let channel = |bit| if settings & bit == 0 { Channel::Clear } else { Channel::Tls(end_point()) };
    let binding = |bit| if settings & bit == 0 { Binding::Prefer } else { Binding::Require };
    let mode = [Mode::Auto, Mode::Terminate, Mode::Relay][usize::from(secrets & 3).min(2)];
    let given = if settings & 64 == 0 { CertificateGiven::No } else { CertificateGiven::Yes };
    let mut handshake = handshake(Terms {
        client_leg: channel(1),
        client_binding: binding(2),
        server_leg: ServerLeg { channel: channel(4), certificate: given },
        server_binding: binding(8),
        upgrade: if settings & 16 == 0 { Upgrade::No } else { Upgrade::Yes },
        accepted: if settings & 32 == 0 { Accepted::default() } else { Accepted::ANY },
        mode,
        ..terms()
    });
    let credentials = || match secrets >> 2 & 3 {
        0 => Credentials::Absent,
        1 | 2 => Credentials::Shared(verifier()),
        _ => Credentials::Account { application: verifier() },
    };
    let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
    let mut client_bytes = Vec::new();
    while let Some((&head, rest)) = data.split_first() {
        let count = usize::from(head & 127).min(rest.len());
        let (bytes, behind) = rest.split_at(count);
        data = behind;
        if head & 128 == 0 {
            from_client.extend_from_slice(bytes);
            client_bytes.extend_from_slice(bytes);
        } else {
            from_server.extend_from_slice(bytes);
        }
        loop {
            let Ok(answered) = handshake.handle_backend(&from_server) else { return };
            assert!(answered <= from_server.len());
            from_server.drain(..answered);
            let Ok(taken) = handshake.handle_frontend(&from_client) else { return };
            assert!(taken <= from_client.len());
            from_client.drain(..taken);
            let mut wanted = false;
            while let Some(event) = handshake.poll_event() {
                let answer: Result<(), HandshakeError> = match event {
                    Event::CredentialsWanted | Event::VerifierStale => {
                        handshake.handle_credentials(credentials())
                    }
                    Event::KeysWanted { .. } => {
                        handshake.handle_keys(keys());
                        Ok(())
                    }
                    Event::PasswordWanted => handshake.handle_password(Some(b"secret")),
                    Event::AccountRefused => {
                        handshake.give_up();
                        Ok(())
                    }
                    _ => continue,
                };
                wanted = true;
                if answer.is_err() {
                    return;
                }
            }
            let to_server = handshake.for_server();
            if mode == Mode::Terminate && settings & 32 == 0 {
                // Our own first message, or nothing: a proof that fits the nonce cannot be found by chance.
                let own = to_server.is_empty() || to_server.windows(5).any(|w| w == b"SCRAM");
                assert!(own, "{} bytes went to the server", to_server.len());
            }
            let _ = handshake.for_client();
            if answered + taken == 0 && !wanted {
                break;
            }
        }
    }
    if mode == Mode::Terminate && settings & 32 == 0 {
        assert!(handshake.finish().is_none(), "nobody was proven");
    }
});
