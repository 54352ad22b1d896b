//! The application proves itself to us.

use super::*;

#[test]
fn shared_verifier_logs_both_sides_in_each_bound_to_its_own_channel() {
    let mut scene = Scene::new(|terms| {
        terms.client_leg = tls(1);
        terms.server_leg = tls_server();
    });
    scene.server(&[&sasl(&[scram::PLUS, scram::PLAIN])]);
    assert_eq!(scene.events.last(), Some(&Event::CredentialsWanted));
    assert!(scene.to_client.is_empty(), "the application is asked when it is known what for");
    scene.credentials(Credentials::Shared(verifier()));
    assert!(scene.to_client.is_empty());
    let Channel::Tls(Some(hash)) = tls(2) else { unreachable!() };
    let awaiting = scene.challenge(&verifier(), Offer::Plus(hash));
    assert_eq!(scene.told(), sasl(&[scram::PLUS, scram::PLAIN]));
    let Channel::Tls(Some(hash)) = tls(1) else { unreachable!() };
    scene.prove(PASSWORD, ClientBinding::EndPoint(hash)).expect("proven");
    assert!(scene.to_client.is_empty(), "the application hears of it when the server is content");
    scene.conclude(awaiting);
    let key = back(&Backend::BackendKeyData { pid: 9, key: &[5; 32] });
    scene.server(&[&key, &ready()]);
    let how = How::Terminated {
        demand: Demand::Scram { plain: Offered::Yes, plus: Offered::Yes },
        login: Login::Own,
        client_bound: Offered::Yes,
        server_bound: Offered::Yes,
    };
    assert_eq!(scene.how(), Some(how));
    let given = back(&Backend::BackendKeyData { pid: 9, key: &[7; 32] });
    assert!(scene.to_client.ends_with(&[given, ready()].concat()));
    assert_eq!(scene.handshake.finish().map(Authenticated::how), Some(how));
}

#[test]
fn wrong_password_reaches_the_server_in_no_form() {
    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Shared(verifier()));
    let _awaiting = scene.challenge(&verifier(), Offer::Plain);
    let _ = scene.told();
    let failed = scene.prove(b"wrong", ClientBinding::NotOverTls);
    assert_eq!(failed, Err(HandshakeError::Application(ScramError::NotAuthenticated)));
    assert!(scene.to_server.is_empty());
}

#[test]
fn unknown_role_hears_what_a_wrong_password_hears() {
    let (mut replies, mut challenges) = (Vec::new(), Vec::new());
    for credentials in [Credentials::Absent, Credentials::Shared(verifier())] {
        let mut scene = Scene::new(|terms| terms.mode = Mode::Terminate);
        scene.server(&[&sasl(&[scram::PLAIN])]);
        scene.credentials(credentials);
        assert!(scene.to_client.is_empty());
        let _awaiting = scene.challenge(&verifier(), Offer::Plain);
        assert_eq!(scene.told(), sasl(&[scram::PLAIN]));
        let failed = scene.prove(b"wrong", ClientBinding::NotOverTls).expect_err("not known");
        challenges.push(scene.heard.clone());
        assert!(scene.to_server.is_empty());
        replies.push(failed.reply(USER));
    }
    assert_eq!(replies[0], replies[1]);
    assert_eq!(challenges[0], challenges[1], "salt and count are the server's");
    assert_eq!(replies[0].as_ref().map(|reply| reply.sqlstate), Some(*b"28P01"));
}

#[test]
fn verifier_that_is_not_the_servers_is_asked_for_again_before_the_application_is() {
    let old = Arc::new(Verifier::from_password(b"old", b"another salt....", 4096).expect("fits"));
    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Shared(old.clone()));
    let awaiting = scene.challenge(&verifier(), Offer::Plain);
    assert_eq!(scene.events.last(), Some(&Event::VerifierStale));
    assert!(scene.to_client.is_empty());
    scene.credentials(Credentials::Shared(verifier()));
    let _ = scene.told();
    scene.prove(PASSWORD, ClientBinding::NotOverTls).expect("proven");
    scene.conclude(awaiting);
    assert!(scene.how().is_some());

    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Shared(old.clone()));
    let _awaiting = scene.challenge(&verifier(), Offer::Plain);
    let failed = scene.handshake.handle_credentials(Credentials::Shared(old));
    assert_eq!(failed, Err(Refusal::StaleVerifier.into()));
}

#[test]
fn account_logs_in_behind_the_proof_and_is_tried_again_once() {
    let upstream = Arc::new(Verifier::from_password(b"theirs", b"salt", 5000).expect("fits"));
    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(mapped());
    let _ = scene.told();
    assert!(scene.to_server.is_empty(), "nothing before the proof");
    scene.prove(PASSWORD, ClientBinding::NotOverTls).expect("proven");
    let _awaiting = scene.challenge(&upstream, Offer::Plain);
    let wanted = Event::KeysWanted { salt: b"salt".to_vec(), iterations: 5000 };
    assert_eq!(scene.events.last(), Some(&wanted));
    scene.handshake.handle_keys(&Keys::derive(b"stale", b"salt", 5000));
    scene.server(&[&error("28P01")]);
    assert_eq!(scene.events.last(), Some(&Event::AccountRefused));
    assert!(scene.to_client.is_empty(), "the application does not hear of the first refusal");

    scene.from_server.clear();
    scene.to_server.clear();
    scene.handshake.restart(clear_server(), [6; 18]);
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(mapped());
    let awaiting = scene.challenge(&upstream, Offer::Plain);
    scene.handshake.handle_keys(&Keys::derive(b"theirs", b"salt", 5000));
    scene.pump().expect("in order");
    scene.conclude(awaiting);
    assert!(matches!(scene.how(), Some(How::Terminated { login: Login::Account, .. })));
}

#[test]
fn second_refusal_of_an_account_is_the_applications_to_hear() {
    let mut scene = Scene::new(|terms| terms.upgrade = Upgrade::Yes);
    for attempt in 0..2 {
        scene.server(&[&ask(Authentication::CleartextPassword)]);
        scene.credentials(mapped());
        if attempt == 0 {
            let _ = scene.told();
            scene.prove(PASSWORD, ClientBinding::NotOverTls).expect("proven");
        }
        assert_eq!(scene.events.last(), Some(&Event::PasswordWanted));
        scene.handshake.handle_password(Some(b"theirs")).expect("a password");
        scene.pump().expect("in order");
        assert_eq!(scene.asked(), response(b"theirs\0"));
        scene.server(&[&error("28P01")]);
        if attempt == 0 {
            scene.handshake.restart(clear_server(), [6; 18]);
        }
    }
    assert_eq!(scene.told(), error("28P01"));
    assert!(scene.handshake.is_over());
}

#[test]
fn md5_is_answered_for_an_account() {
    let mut scene = Scene::new(|terms| terms.upgrade = Upgrade::Yes);
    scene.server(&[&ask(Authentication::Md5Password { salt: *b"abcd" })]);
    scene.credentials(mapped());
    let _ = scene.told();
    scene.prove(PASSWORD, ClientBinding::NotOverTls).expect("proven");
    scene.handshake.handle_password(Some(b"secret")).expect("a password");
    scene.pump().expect("in order");
    // md5(md5("secret" || "app") || "abcd"), computed with md5sum.
    assert_eq!(scene.asked(), response(b"md5883f61cc18cc4ae54ca301892bb10c29\0"));
}

#[test]
fn roles_without_a_secret_are_asked_where_others_would_be() {
    let mut scene = Scene::new(|terms| {
        terms.mode = Mode::Terminate;
        terms.upgrade = Upgrade::Yes;
    });
    scene.server(&[&ask(Authentication::CleartextPassword)]);
    scene.credentials(Credentials::Absent);
    let _ = scene.told();
    let failed = scene.prove(PASSWORD, ClientBinding::NotOverTls);
    assert_eq!(failed, Err(HandshakeError::Application(ScramError::NotAuthenticated)));
    assert!(scene.to_server.is_empty());
}

#[test]
fn server_that_accepts_before_it_proved_itself_is_left() {
    // Relayed.
    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Absent);
    scene.client(&initial(scram::PLAIN, b"n,,n=,r=abc"));
    let left = scene.try_server(&[&ok()]).expect_err("nothing was proven");
    assert_eq!(left, HandshakeError::Server(ScramError::NotAuthenticated));
    // Terminated.
    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Shared(verifier()));
    let _awaiting = scene.challenge(&verifier(), Offer::Plain);
    let _ = scene.told();
    scene.prove(PASSWORD, ClientBinding::NotOverTls).expect("proven");
    let left = scene.try_server(&[&ok()]).expect_err("nothing was proven");
    assert_eq!(left, HandshakeError::Server(ScramError::NotAuthenticated));
    assert!(scene.to_client.is_empty(), "the application was told nothing");
    // With a signature that is not the role's.
    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Shared(verifier()));
    let _awaiting = scene.challenge(&verifier(), Offer::Plain);
    let _ = scene.told();
    scene.prove(PASSWORD, ClientBinding::NotOverTls).expect("proven");
    let signature = b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let left = scene.try_server(&[&ask(Authentication::SaslFinal(signature))]);
    assert!(matches!(left, Err(HandshakeError::Server(_))), "{left:?}");
}

#[test]
fn binding_that_is_required_is_had_or_nothing() {
    let refused = |change: fn(&mut Terms), mechanisms: &[&[u8]], credentials| {
        let mut scene = Scene::new(change);
        scene.server(&[&sasl(mechanisms)]);
        scene.handshake.handle_credentials(credentials)
    };
    let (both, plain) = ([scram::PLUS, scram::PLAIN], [scram::PLAIN]);
    let client = |terms: &mut Terms| terms.client_binding = Binding::Require;
    let server = |terms: &mut Terms| {
        terms.server_binding = Binding::Require;
        terms.server_leg = tls_server();
    };
    let shared = || Credentials::Shared(verifier());
    assert_eq!(
        refused(client, &plain, Credentials::Absent),
        Err(Refusal::RelayedWithoutBinding.into())
    );
    assert_eq!(
        refused(server, &both, Credentials::Absent),
        Err(Refusal::RelayedWithoutBinding.into())
    );
    assert_eq!(refused(client, &plain, mapped()), Err(Refusal::ApplicationInClear.into()));
    assert_eq!(refused(server, &plain, shared()), Err(Refusal::ServerWithoutBinding.into()));
    assert_eq!(refused(server, &both, shared()), Ok(()));
    // What is no SCRAM binds nothing.
    let mut scene = Scene::new(|terms| {
        terms.client_binding = Binding::Require;
        terms.accepted = Accepted::ANY;
    });
    let weak = scene.try_server(&[&ask(Authentication::CleartextPassword)]);
    assert_eq!(weak, Err(Refusal::RelayedWithoutBinding.into()));
}

#[test]
fn server_that_offers_to_bind_a_channel_in_the_clear_is_left() {
    let mut scene = Scene::new(|_| {});
    let left = scene.try_server(&[&sasl(&[scram::PLUS, scram::PLAIN])]).expect_err("a lie");
    assert_eq!(left, HandshakeError::Server(ScramError::Mechanism));
    assert!(scene.to_client.is_empty());
}
