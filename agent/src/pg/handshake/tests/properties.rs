//! Whatever the two sides say.

use proptest::prelude::*;

use super::*;

fn any_client_message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"Q\0\0\0\x0dselect 1\0".to_vec()),
        Just(b"X\0\0\0\x04".to_vec()),
        Just(response(b"secret\0")),
        Just(initial(scram::PLAIN, b"n,,n=,r=abc")),
        Just(initial(scram::PLAIN, b"y,,n=,r=abc")),
        Just(initial(scram::PLUS, b"p=tls-server-end-point,,n=,r=abc")),
        Just(response(b"c=biws,r=abc,p=AAAA")),
        prop::collection::vec(any::<u8>(), 0..30),
    ]
}

fn any_server_message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(ok()),
        Just(ready()),
        Just(sasl(&[scram::PLUS, scram::PLAIN])),
        Just(ask(Authentication::SaslContinue(b"r=abc,s=QQ==,i=4096"))),
        Just(ask(Authentication::SaslFinal(b"v=AAAA"))),
        Just(ask(Authentication::CleartextPassword)),
        Just(ask(Authentication::Md5Password { salt: [1; 4] })),
        Just(error("28P01")),
    ]
}

proptest! {
    /// Whatever the two say: where the application has to prove itself to us, nothing of what it sends reaches the server
    /// before it did; and there is no `Authenticated` without the server's word.
    #[test]
    fn nothing_of_an_application_reaches_the_server_before_it_is_proven(
        steps in prop::collection::vec(
            prop_oneof![
                any_client_message().prop_map(|m| (true, m)),
                any_server_message().prop_map(|m| (false, m)),
            ],
            0..24,
        ),
        account in any::<bool>(),
        upgrade in any::<bool>(),
    ) {
        let mut scene = Scene::new(|terms| {
            terms.mode = Mode::Terminate;
            terms.upgrade = if upgrade { Upgrade::Yes } else { Upgrade::No };
        });
        // The beginning of our own exchange is all that may go.
        let (_, mechanism, first) = scram::Client::new(ClientBinding::NotOverTls, nonce(2));
        let own = initial(mechanism, &first);
        for (from_client, message) in steps {
            let went = match from_client {
                true => scene.try_client(&message),
                false => scene.try_server(&[&message]),
            };
            let wanted = [Event::CredentialsWanted, Event::VerifierStale];
            let asked = scene.events.last().is_some_and(|event| wanted.contains(event));
            let given = match (went, asked) {
                (Ok(()), true) if account => scene.handshake.handle_credentials(mapped()),
                (Ok(()), true) => {
                    scene.handshake.handle_credentials(Credentials::Shared(verifier()))
                }
                (went, _) => went,
            };
            scene.take();
            prop_assert!(scene.to_server.is_empty() || scene.to_server == own);
            if given.is_err() {
                break;
            }
        }
        prop_assert_eq!(scene.how(), None);
        prop_assert_eq!(scene.handshake.finish(), None);
    }
}
