//! The application answers the server through us.

use super::*;

#[test]
fn mechanism_that_was_taken_out_of_the_offer_is_refused() {
    for demand in [sasl(&[scram::PLAIN, OAUTHBEARER]), sasl(&[OAUTHBEARER, b"X-UNKNOWN"])] {
        for mechanism in [OAUTHBEARER, scram::PLUS, b"X-UNKNOWN"] {
            let mut scene = Scene::new(|terms| terms.accepted.oauthbearer = demand[9] == b'O');
            scene.server(&[&demand]);
            if scene.events.last() == Some(&Event::CredentialsWanted) {
                scene.credentials(Credentials::Absent);
            }
            let chosen = scene.try_client(&initial(mechanism, b"n,,auth=Bearer x"));
            match demand[9] == b'O' && mechanism == OAUTHBEARER {
                true => assert_eq!(chosen, Ok(())),
                false => {
                    let no_such = HandshakeError::Application(ScramError::Mechanism);
                    assert_eq!(chosen, Err(no_such));
                    assert!(scene.to_server.is_empty());
                }
            }
        }
    }
}

#[test]
fn relayed_exchange_may_begin_without_data() {
    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Absent);
    let mut first = Vec::new();
    SaslInitialResponse { mechanism: scram::PLAIN, data: None }.write(&mut first).expect("short");
    scene.client(&first);
    let _ = scene.told();
    scene.server(&[&ask(Authentication::SaslContinue(b""))]);
    assert_eq!(scene.told(), ask(Authentication::SaslContinue(b"")));
    scene.client(&response(b"n,,n=,r=abc"));
    scene.server(&[&ask(Authentication::SaslContinue(b"r=abcd,s=QQ==,i=4096"))]);
    scene.client(&response(b"c=biws,r=abcd,p=..."));
    scene.server(&[&error("28P01")]);
    let blamed = Event::ServerError { sqlstate: Some(*b"28P01"), blame: Blame::Application };
    assert_eq!(scene.events.last(), Some(&blamed));
}

#[test]
fn weak_methods_are_refused_before_the_application_is_asked() {
    for demand in [
        ok(),
        ask(Authentication::CleartextPassword),
        ask(Authentication::Md5Password { salt: [0; 4] }),
        ask(Authentication::Gss),
        ask(Authentication::Sspi),
        sasl(&[OAUTHBEARER]),
        sasl(&[b"X-UNKNOWN"]),
    ] {
        let mut scene = Scene::new(|_| {});
        let refused = scene.try_server(&[&demand]).expect_err("not accepted");
        assert!(matches!(refused, HandshakeError::Refused(Refusal::Method(_))), "{refused:?}");
        assert_eq!((&scene.to_client[..], &scene.to_server[..]), (&b""[..], &b""[..]));
    }
}

#[test]
fn relayed_scram_loses_what_binds_and_passes_byte_for_byte() {
    let mut scene = Scene::new(|terms| terms.server_leg = tls_server());
    scene.server(&[&sasl(&[scram::PLUS, scram::PLAIN])]);
    scene.credentials(Credentials::Absent);
    assert_eq!(scene.told(), sasl(&[scram::PLAIN]));
    let first = initial(scram::PLAIN, b"n,,n=,r=abc");
    scene.client(&first);
    assert_eq!(scene.asked(), first);
    scene.server(&[&ask(Authentication::SaslContinue(b"r=abcd,s=QQ==,i=4096"))]);
    assert_eq!(scene.told(), ask(Authentication::SaslContinue(b"r=abcd,s=QQ==,i=4096")));
    scene.client(&response(b"c=biws,r=abcd,p=..."));
    assert_eq!(scene.asked(), response(b"c=biws,r=abcd,p=..."));
    scene.server(&[&ask(Authentication::SaslFinal(b"v=...")), &ok(), &ready()]);
    assert!(matches!(scene.how(), Some(How::Relayed { .. })));
}

#[test]
fn relayed_challenge_that_is_cheap_or_dear_is_refused() {
    for iterations in ["1", "4095", "2000001", "x"] {
        let mut scene = Scene::new(|_| {});
        scene.server(&[&sasl(&[scram::PLAIN])]);
        scene.credentials(Credentials::Absent);
        scene.client(&initial(scram::PLAIN, b"n,,n=,r=abc"));
        let _ = scene.told();
        let challenge = format!("r=abcd,s=QQ==,i={iterations}");
        let refused = scene.try_server(&[&ask(Authentication::SaslContinue(challenge.as_bytes()))]);
        assert!(matches!(refused, Err(HandshakeError::Server(_))), "{iterations}: {refused:?}");
        assert!(scene.to_client.is_empty());
    }
}

#[test]
fn relayed_over_two_channels_is_refused_with_the_setting_to_add() {
    let mut scene = Scene::new(|terms| {
        terms.client_leg = tls(1);
        terms.server_leg = tls_server();
    });
    scene.server(&[&sasl(&[scram::PLUS, scram::PLAIN])]);
    scene.credentials(Credentials::Absent);
    let refused = scene.try_client(&initial(scram::PLAIN, b"y,,n=,r=abc")).expect_err("impossible");
    assert_eq!(refused, Refusal::RelayedOverTwoChannels.into());
    let reply = refused.reply(USER).expect("said");
    assert_eq!(reply.sqlstate, *b"28000", "at which clients that may go on in clear text do");
    assert!(reply.hint.is_some_and(|hint| hint.contains("destination.auth.lookup")));
    assert!(scene.to_server.is_empty());
    // Who does not bind passes.
    let mut scene = Scene::new(|terms| {
        terms.client_leg = tls(1);
        terms.server_leg = tls_server();
    });
    scene.server(&[&sasl(&[scram::PLUS, scram::PLAIN])]);
    scene.credentials(Credentials::Absent);
    scene.client(&initial(scram::PLAIN, b"n,,n=,r=abc"));
}

#[test]
fn method_cannot_change_under_way() {
    for second in [
        ask(Authentication::CleartextPassword),
        ask(Authentication::Md5Password { salt: [0; 4] }),
        sasl(&[scram::PLAIN]),
    ] {
        let mut scene = Scene::new(|_| {});
        scene.server(&[&sasl(&[scram::PLAIN])]);
        scene.credentials(Credentials::Absent);
        scene.client(&initial(scram::PLAIN, b"n,,n=,r=abc"));
        assert!(matches!(scene.try_server(&[&second]), Err(HandshakeError::Protocol(_))));
    }
}
