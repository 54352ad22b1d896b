//! What comes around authentication: versions, names, errors, order.

use super::*;

#[test]
fn version_and_options_are_negotiated_with_each_side_alone() {
    let parameters: Parameters =
        [("user", "app"), ("_pq_.test_protocol_negotiation", "")].into_iter().collect();
    for (asked, server, told) in [
        (9999, None, Some((3, 2))),
        (9999, Some(0x0003_0000), Some((3, 0))),
        (2, None, Some((3, 2))),
        (0, None, Some((3, 0))),
    ] {
        let mut scene = Scene::new(|terms| {
            terms.hello = Hello::new(asked, &parameters, USER, None);
            terms.accepted = Accepted::ANY;
        });
        let mut hello = Vec::new();
        scene.handshake.terms.hello.write(&mut hello).expect("short");
        assert_eq!(hello[4..8], [0, 3, 0, asked.min(2) as u8]);
        assert!(!hello.windows(4).any(|w| w == b"_pq_"), "options are not passed on");
        if let Some(newest) = server {
            let options = Vec::new();
            scene.server(&[&back(&Backend::NegotiateProtocolVersion { newest, options })]);
            assert!(scene.to_client.is_empty());
        }
        scene.server(&[&ok(), &ready()]);
        let expected = told.map(|(major, minor): (u32, u32)| {
            let options = vec![&b"_pq_.test_protocol_negotiation"[..]];
            back(&Backend::NegotiateProtocolVersion { newest: major << 16 | minor, options })
        });
        assert_eq!(scene.to_client, [expected.unwrap_or_default(), ok(), ready()].concat());
    }
    let mut scene = Scene::new(|terms| terms.accepted = Accepted::ANY);
    scene.server(&[&ok(), &ready()]);
    assert_eq!(scene.to_client, [ok(), ready()].concat(), "nothing to negotiate");
}

#[test]
fn application_name_is_stamped_and_its_own_again_for_the_application() {
    let parameters: Parameters =
        [("user", "app"), ("application_name", "report")].into_iter().collect();
    let stamp = Stamp::new(b"report", "python3/42@web");
    let mut scene = Scene::new(|terms| {
        terms.hello = Hello::new(0, &parameters, USER, Some(stamp));
        terms.accepted = Accepted::ANY;
    });
    let mut hello = Vec::new();
    scene.handshake.terms.hello.write(&mut hello).expect("short");
    let text = String::from_utf8_lossy(&hello).into_owned();
    assert!(text.contains("report [python3/42@web]"), "{text}");
    let status =
        |value: &[u8]| back(&Backend::ParameterStatus { name: b"application_name", value });
    scene.server(&[&ok(), &status(b"report [python3/42@web]"), &ready()]);
    assert_eq!(scene.to_client, [ok(), status(b"report"), ready()].concat());
    for (name, origin) in [("x".repeat(200), "y/1".to_owned()), ("é".to_owned(), "z".repeat(99))] {
        let stamp = Stamp::new(name.as_bytes(), &origin);
        let hello = Hello::new(0, &parameters, USER, Some(stamp));
        let mut out = Vec::new();
        hello.write(&mut out).expect("short");
        let at = out.windows(17).position(|w| w == b"application_name\0").expect("there") + 17;
        let value = out[at..].split(|b| *b == 0).next().expect("a value");
        assert_eq!(value.len(), hello::APPLICATION_NAME_BYTES_MAX);
        // The name is cut, and the origin only where it alone is too long.
        let end = format!("[{}]", &origin[..origin.len().min(61)]);
        assert!(value.ends_with(end.as_bytes()), "{}", String::from_utf8_lossy(value));
        assert!(value.iter().all(|b| (b' '..=b'~').contains(b)));
    }
}

#[test]
fn error_of_the_server_passes_at_any_time() {
    let mut scene = Scene::new(|_| {});
    scene.server(&[&error("3D000")]);
    assert_eq!(scene.to_client, error("3D000"));
    assert!(scene.handshake.is_over());

    let mut scene = Scene::new(|_| {});
    scene.server(&[&sasl(&[scram::PLAIN])]);
    scene.credentials(Credentials::Shared(verifier()));
    let _awaiting = scene.challenge(&verifier(), Offer::Plain);
    let _ = scene.told();
    scene.server(&[&error("57014")]);
    assert_eq!(scene.told(), error("57014"));
}

#[test]
fn error_of_protocol_2_passes_unread() {
    let mut scene = Scene::new(|_| {});
    let refusal = b"Ecould not fork new process for connection: no memory\n\0";
    scene.server(&[refusal]);
    assert_eq!(scene.to_client, refusal);
    assert!(scene.handshake.is_over());
}

#[test]
fn request_instead_of_an_answer_is_refused_in_the_servers_words() {
    let mut scene = Scene::new(|terms| terms.accepted = Accepted::ANY);
    scene.server(&[&ask(Authentication::CleartextPassword)]);
    let refused = scene.try_client(b"Q\0\0\0\x0dselect 1\0").expect_err("not an answer");
    assert!(matches!(refused, HandshakeError::Protocol(Error::Sequence { .. })), "{refused:?}");
    assert!(scene.to_server.is_empty());
}

#[test]
fn answer_sent_ahead_waits_until_it_is_asked_for() {
    let mut scene = Scene::new(|terms| terms.accepted = Accepted::ANY);
    scene.client(&response(b"hunter2\0"));
    assert!(scene.to_server.is_empty());
    scene.server(&[&ask(Authentication::CleartextPassword)]);
    assert_eq!(scene.to_server, response(b"hunter2\0"));
    assert!(!format!("{:?}", scene.events).contains("hunter2"));
}

#[test]
fn session_setup_out_of_order_ends_the_handshake() {
    let key = back(&Backend::BackendKeyData { pid: 1, key: &[0; 4] });
    for message in [ready(), key, b"T\0\0\0\x06\0\0".to_vec()] {
        let mut scene = Scene::new(|_| {});
        assert!(scene.try_server(&[&message]).is_err());
    }
    let mut scene = Scene::new(|terms| terms.accepted = Accepted::ANY);
    scene.server(&[&ok()]);
    assert!(scene.try_server(&[&ok()]).is_err());
}
