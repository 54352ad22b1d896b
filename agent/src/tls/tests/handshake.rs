//! What is agreed on.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::SystemTime,
};

use rustls::{
    AlertDescription,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::super::{test_support::*, *};
use crate::net::leg::Leg;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Sends some bytes there and back.
async fn exchange(one: &mut Leg, other: &mut Leg) {
    let mut got = [0; 4];
    one.write_all(b"ping").await.expect("written");
    other.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"ping");
    other.write_all(b"pong").await.expect("written");
    one.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"pong");
}

/// Sessions are tasks of a runtime that may move them.
#[test]
fn handshakes_and_legs_can_move_between_threads() {
    fn movable<T: Send>(_: fn() -> T) {}
    fn accepting() -> impl Future {
        async {
            let leg = ClientLeg::new(None);
            let tcp = connection().await.0;
            let address = std::net::Ipv4Addr::LOCALHOST.into();
            leg.accept(tcp, 0, Vec::new(), None, address, Alpn::Optional).await
        }
    }
    fn connecting() -> impl Future {
        async {
            let leg = ServerLeg::new(settings(Verification::Nothing, "none".as_ref()))?;
            let tcp = connection().await.0;
            let address = std::net::Ipv4Addr::LOCALHOST.into();
            leg.connect(tcp, 0, None, address, Alpn::Optional).await
        }
    }
    movable(accepting);
    movable(connecting);
    movable(|| -> Leg { unreachable!("only its type is looked at") });
}

#[tokio::test]
async fn legs_agree_on_the_best_they_have() {
    let folder = folder();
    let (roots, client_leg) = client_leg(folder.path(), &[]);
    let server_leg = ServerLeg::new(settings(Verification::Full, &roots)).expect("settings");
    let name = Some("DB.example.org");
    let (accepted, connected) =
        handshake(&client_leg, None, &server_leg, name, Alpn::Required).await;
    let (mut far, accepted) = accepted.expect("accepted");
    let (mut near, connected) = connected.expect("connected");
    exchange(&mut near, &mut far).await;
    assert_eq!(accepted.server_name.as_deref(), Some("db.example.org"));
    assert_eq!(Some(&accepted.endpoint), connected.endpoint.as_ref());
    assert_eq!(accepted.parameters, connected.parameters);
    assert_eq!(
        accepted.parameters,
        Parameters {
            version: "TLSv1.3",
            cipher: accepted.parameters.cipher,
            group: Some("X25519MLKEM768"),
            resumed: false,
            alpn: true,
        }
    );
    assert!(accepted.parameters.cipher.starts_with("TLS_AES_"), "{accepted:?}");
}

#[tokio::test]
async fn without_a_name_the_certificate_is_for_the_address() {
    let folder = folder();
    let (roots, client_leg) = client_leg(folder.path(), &[]);
    let server_leg = ServerLeg::new(settings(Verification::Full, &roots)).expect("settings");
    let (accepted, connected) =
        handshake(&client_leg, None, &server_leg, None, Alpn::Optional).await;
    assert_eq!(accepted.expect("accepted").1.server_name, None);
    connected.expect("verified for 127.0.0.1");
}

#[tokio::test]
async fn sessions_are_resumed_with_the_certificate_they_began_with() {
    for version in [&TLS12, &TLS13] {
        let folder = folder();
        let (roots, leg) = client_leg(folder.path(), &[]);
        let connector = TlsConnector::from(Arc::new(plain_client(&[version], &roots, OFFERED)));
        let mut endpoints = Vec::new();
        for round in 0..2 {
            let (near, far) = connection().await;
            let address = "127.0.0.1".parse().expect("an address");
            let (accepted, connected) = tokio::join!(
                leg.accept(far, 0, Vec::new(), None, address, Alpn::Optional),
                connector.connect(dns("db.example.org"), near),
            );
            let (mut far, accepted) = accepted.expect("accepted");
            assert_eq!(accepted.parameters.resumed, round == 1, "{version:?} {round}");
            // The ticket comes in front of what is read.
            far.write_all(b"x").await.expect("written");
            connected.expect("connected").read_u8().await.expect("read");
            endpoints.push(accepted.endpoint);
        }
        assert_eq!(endpoints[0], endpoints[1]);
        // Another name is another certificate, and no session of it is known.
        let (near, far) = connection().await;
        let address = "127.0.0.1".parse().expect("an address");
        let (accepted, _connected) = tokio::join!(
            leg.accept(far, 0, Vec::new(), None, address, Alpn::Optional),
            connector.connect(dns("other.example.org"), near),
        );
        let accepted = accepted.expect("accepted").1;
        assert!(!accepted.parameters.resumed);
        assert_ne!(accepted.endpoint, endpoints[0]);
    }
}

#[tokio::test]
async fn our_own_client_side_resumes() {
    let folder = folder();
    let (roots, client_leg) = client_leg(folder.path(), &[]);
    let server_leg = ServerLeg::new(settings(Verification::Full, &roots)).expect("settings");
    for round in 0..2 {
        let name = Some("db.example.org");
        let (accepted, connected) =
            handshake(&client_leg, None, &server_leg, name, Alpn::Optional).await;
        let (mut far, accepted) = accepted.expect("accepted");
        let (mut near, connected) = connected.expect("connected");
        exchange(&mut near, &mut far).await;
        assert_eq!(connected.parameters.resumed, round == 1);
        assert_eq!(connected.endpoint, Some(accepted.endpoint));
    }
}

#[tokio::test]
async fn version_1_2_is_spoken_with_forward_secrecy() {
    let folder = folder();
    let (roots, leg) = client_leg(folder.path(), &[]);
    let connector = TlsConnector::from(Arc::new(plain_client(&[&TLS12], &roots, OFFERED)));
    let (near, far) = connection().await;
    let address = "127.0.0.1".parse().expect("an address");
    let (accepted, _connected) = tokio::join!(
        leg.accept(far, 0, Vec::new(), None, address, Alpn::Required),
        connector.connect(dns("db.example.org"), near),
    );
    let parameters = accepted.expect("accepted").1.parameters;
    assert_eq!(parameters.version, "TLSv1.2");
    assert!(parameters.cipher.starts_with("TLS_ECDHE_ECDSA_WITH_"), "{parameters:?}");
}

#[tokio::test]
async fn direct_tls_needs_alpn() {
    let folder = folder();
    let (roots, leg) = client_leg(folder.path(), &[]);
    let address = "127.0.0.1".parse().expect("an address");
    let other: &[&[u8]] = &[b"h2"];
    for (offered, alpn, good) in [
        (&[][..], Alpn::Required, false),
        (&[][..], Alpn::Optional, true),
        (other, Alpn::Required, false),
        // As PostgreSQL since 17: who names protocols must name ours.
        (other, Alpn::Optional, false),
        (OFFERED, Alpn::Required, true),
        (OFFERED, Alpn::Optional, true),
    ] {
        let connector =
            TlsConnector::from(Arc::new(plain_client(&[&TLS12, &TLS13], &roots, offered)));
        let (near, far) = connection().await;
        let (accepted, connected) = tokio::join!(
            leg.accept(far, 0, Vec::new(), None, address, alpn),
            connector.connect(dns("db.example.org"), near),
        );
        match (good, accepted) {
            (true, Ok((_, accepted))) => {
                assert_eq!(accepted.parameters.alpn, offered == OFFERED, "{offered:?}");
                connected.expect("connected");
            }
            (false, Err(error)) => {
                assert!(matches!(error, TlsError::NoAlpn(Side::Client)), "{error:?}");
                let told = connected.expect_err("refused").to_string();
                assert!(told.contains("NoApplicationProtocol"), "{told}");
            }
            (_, accepted) => panic!("{offered:?} {alpn:?}: {accepted:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_without_alpn_is_no_server_for_direct_tls() {
    let folder = folder();
    let pki = Pki::new(folder.path(), "a");
    let (certificate, key) = pki.issue(&["db.example.org"], |_| {});
    let server_leg = ServerLeg::new(settings(Verification::Full, &pki.roots())).expect("settings");
    let (pair, _) = files::certified_key(&certificate, &key).expect("a pair");
    let config = rustls::ServerConfig::builder_with_provider(provider().clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(pair.cert.clone(), files::key(&key).expect("a key"))
        .expect("a server");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    for (alpn, good) in [(Alpn::Optional, true), (Alpn::Required, false)] {
        let (near, far) = connection().await;
        let address = far.local_addr().expect("an address").ip();
        let name = dns("db.example.org");
        let (_far, connected) = tokio::join!(
            acceptor.accept(far),
            server_leg.connect(near, 0, Some(&name), address, alpn)
        );
        match connected {
            Ok((_, connected)) => assert!(good && !connected.parameters.alpn),
            Err(TlsError::NoAlpn(Side::Server)) => assert!(!good),
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_hello_that_was_read_already_is_not_lost() {
    let folder = folder();
    let (roots, leg) = client_leg(folder.path(), &[]);
    let connector = TlsConnector::from(Arc::new(plain_client(&[&TLS13], &roots, OFFERED)));
    let (near, mut far) = connection().await;
    let address = "127.0.0.1".parse().expect("an address");
    let server = async {
        let mut early = vec![0; 100];
        far.read_exact(&mut early).await.expect("the beginning of a hello");
        leg.accept(far, 100, early, None, address, Alpn::Required).await
    };
    let (accepted, connected) =
        tokio::join!(server, connector.connect(dns("db.example.org"), near));
    let (far, accepted) = accepted.expect("accepted");
    connected.expect("connected");
    assert_eq!(accepted.server_name.as_deref(), Some("db.example.org"));
    assert!(far.raw_read() > 200, "{}", far.raw_read());
}

/// Keeps a copy of all that is read.
struct Tap(TcpStream, Arc<Mutex<Vec<u8>>>);

impl AsyncRead for Tap {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        std::task::ready!(Pin::new(&mut this.0).poll_read(cx, into))?;
        this.1.lock().expect("no panic").extend_from_slice(&into.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn records_towards_clients_carry_eight_kibibytes_at_most() {
    // Type of the content and authentication tag; explicit nonce and tag.
    for (version, added) in [(&TLS13, 1 + 16), (&TLS12, 8 + 16)] {
        let folder = folder();
        let (roots, leg) = client_leg(folder.path(), &[]);
        let mut config = plain_client(&[version], &roots, OFFERED);
        config.resumption = rustls::client::Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(config));
        let (near, far) = connection().await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let address = "127.0.0.1".parse().expect("an address");
        let (accepted, connected) = tokio::join!(
            leg.accept(far, 0, Vec::new(), None, address, Alpn::Required),
            connector.connect(dns("db.example.org"), Tap(near, seen.clone())),
        );
        let mut far = accepted.expect("accepted").0;
        let mut near = connected.expect("connected");
        let sent = vec![7; 100_000];
        let mut got = vec![0; sent.len()];
        let (written, read) = tokio::join!(far.write_all(&sent), near.read_exact(&mut got));
        written.expect("written");
        read.expect("read");
        assert_eq!(got, sent);
        let seen = seen.lock().expect("no panic");
        let mut rest = &seen[..];
        let mut largest = 0;
        while let [kind, _, _, high, low, body @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if *kind == 23 {
                largest = largest.max(length);
            }
            rest = body.get(length..).unwrap_or_default();
        }
        let nonce = if near.get_ref().1.negotiated_cipher_suite().is_some_and(|suite| {
            suite.suite().as_str().is_some_and(|name| name.contains("CHACHA20"))
        }) {
            8
        } else {
            0
        };
        assert_eq!(largest, 8192 + added - nonce * usize::from(added == 24), "{version:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_given_to_who_asks() {
    use rustls::server::WebPkiClientVerifier;
    let folder = folder();
    let pki = Pki::new(folder.path(), "a");
    let (certificate, key) = pki.issue(&["db.example.org"], |_| {});
    let (own_certificate, own_key) = pki.issue(&["agent"], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(files::certificates(&pki.roots()).expect("roots"));
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider().clone())
        .build()
        .expect("a verifier");
    for version in [&TLS12, &TLS13] {
        let config = rustls::ServerConfig::builder_with_provider(provider().clone())
            .with_protocol_versions(&[version])
            .expect("versions")
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(
                files::certificates(&certificate).expect("a chain"),
                files::key(&key).expect("a key"),
            )
            .expect("a server");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        for identity in [true, false] {
            let mut settings = settings(Verification::Full, &pki.roots());
            settings.identity = identity
                .then(|| Identity { certificate: own_certificate.clone(), key: own_key.clone() });
            let server_leg = ServerLeg::new(settings).expect("settings");
            let (near, far) = connection().await;
            let address = far.local_addr().expect("an address").ip();
            let name = dns("db.example.org");
            let (accepted, connected) = tokio::join!(
                acceptor.accept(far),
                server_leg.connect(near, 0, Some(&name), address, Alpn::Optional)
            );
            if identity {
                let accepted = accepted.expect("accepted");
                let shown = accepted.get_ref().1.peer_certificates().expect("a certificate");
                assert_eq!(shown, files::certificates(&own_certificate).expect("a chain"));
                connected.expect("connected");
                continue;
            }
            accepted.expect_err("no certificate");
            // With 1.3 the server's answer comes only behind what is a whole handshake for the client.
            let error = match connected {
                Err(error) => error,
                Ok((mut leg, _)) => {
                    let error = leg.read_u8().await.expect_err("refused");
                    TlsError::of_io(Side::Server, &error).expect("a reason")
                }
            };
            assert!(
                matches!(
                    error,
                    TlsError::Alert {
                        side: Side::Server,
                        alert: AlertDescription::CertificateRequired
                            | AlertDescription::HandshakeFailure
                    }
                ),
                "{error:?}"
            );
            let hint = error.told().hint.expect("a hint");
            assert!(hint.contains("`server.certificate`"), "{hint}");
        }
    }
}

#[tokio::test]
async fn own_files_are_presented_whatever_name_is_asked_for() {
    let folder = folder();
    let pki = Pki::new(folder.path(), "a");
    let (certificate, key) = pki.issue(&["db.example.org"], |_| {});
    let own = Presented::load(&certificate, &key).expect("a pair");
    let leg = ClientLeg::new(None);
    assert!(leg.has_certificate(Some(&own)) && !leg.has_certificate(None));
    let server_leg = ServerLeg::new(settings(Verification::Full, &pki.roots())).expect("settings");
    let name = Some("db.example.org");
    let (accepted, connected) =
        handshake(&leg, Some(&own), &server_leg, name, Alpn::Required).await;
    assert_eq!(&accepted.expect("accepted").1.endpoint, own.endpoint());
    assert_eq!(connected.expect("connected").1.endpoint.as_ref(), Some(own.endpoint()));
    let (accepted, _) = handshake(&leg, None, &server_leg, name, Alpn::Required).await;
    let error = accepted.expect_err("no certificate");
    assert!(matches!(error, TlsError::NoCertificate), "{error:?}");
}

#[test]
fn names_at_hand_are_bounded_and_renewed() {
    let folder = folder();
    let (_, leg) = client_leg(folder.path(), &[]);
    let now = SystemTime::now();
    let first = leg.minted_for("a.example.org", now);
    assert_eq!(leg.minted_for("a.example.org", now).endpoint(), first.endpoint());
    assert_eq!(leg.minted_for("a.example.org", now + days(58)).endpoint(), first.endpoint());
    let renewed = leg.minted_for("a.example.org", now + days(60));
    assert_ne!(renewed.endpoint(), first.endpoint(), "a third of its time is left");
    for number in 0..1_030 {
        leg.minted_for(&format!("n{number}.example.org"), now);
        leg.minted_for("a.example.org", now);
    }
    assert_eq!(leg.names(), 1024);
    assert_eq!(leg.minted_for("a.example.org", now).endpoint(), renewed.endpoint());
}
