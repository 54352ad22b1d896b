//! What is accepted of servers, and what is said otherwise.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SerialNumber};

use super::super::{ca::set_validity, test_support::*, *};

const NAME: &str = "db.example.org";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// How our two legs get along when the server shows these files.
async fn outcome(
    files: &(PathBuf, PathBuf),
    settings: Settings,
    name: &str,
) -> Result<(), TlsError> {
    let own = Presented::load(&files.0, &files.1).expect("a pair");
    let server_leg = ServerLeg::new(settings).expect("settings");
    let leg = ClientLeg::new(None);
    let (accepted, connected) =
        handshake(&leg, Some(&own), &server_leg, Some(name), Alpn::Optional).await;
    // The server's side of 1.3 hears of a refusal at the latest when it reads.
    drop(accepted);
    connected.map(drop)
}

/// The same for every mode: what `Chain` and `Full` find. `Nothing` must find nothing.
async fn outcomes(
    files: &(PathBuf, PathBuf),
    settings: &Settings,
    name: &str,
) -> [Result<(), TlsError>; 2] {
    let of = |verification| Settings { verification, ..settings.clone() };
    outcome(files, of(Verification::Nothing), name).await.expect("nothing is verified");
    [
        outcome(files, of(Verification::Chain), name).await,
        outcome(files, of(Verification::Full), name).await,
    ]
}

fn told(result: Result<(), TlsError>) -> (String, String) {
    let told = result.expect_err("refused").told();
    (told.message, told.hint.unwrap_or_default())
}

#[tokio::test]
async fn good_certificates_are_accepted() {
    let folder = folder();
    let pki = Pki::new(folder.path(), "a");
    let good = settings(Verification::Full, &pki.roots());
    for names in [&[NAME][..], &["*.example.org"], &["other", NAME]] {
        let files = pki.issue(names, |_| {});
        let [chain, full] = outcomes(&files, &good, NAME).await;
        chain.expect("chain");
        full.expect("full");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_now_is_refused_with_its_date() {
    let folder = folder();
    let pki = Pki::new(folder.path(), "a");
    let settings = settings(Verification::Full, &pki.roots());
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let files = pki.issue(&[NAME], |params| {
        set_validity(params, at(1_600_000_000), at(1_700_000_000));
    });
    for result in outcomes(&files, &settings, NAME).await {
        let (message, hint) = told(result);
        assert_eq!(
            message,
            "the server's certificate was not accepted: it expired on 2023-11-14T22:13:20Z"
        );
        assert!(hint.starts_with("Renew the server's certificate"), "{hint}");
    }
    let files = pki.issue(&[NAME], |params| {
        set_validity(params, at(4_000_000_000), at(4_100_000_000));
    });
    for result in outcomes(&files, &settings, NAME).await {
        let (message, _) = told(result);
        assert!(message.ends_with("it is valid from 2096-10-02T07:06:40Z on only"), "{message}");
    }
}

#[tokio::test]
async fn names_matter_in_full_verification_only() {
    let folder = folder();
    let pki = Pki::new(folder.path(), "a");
    let settings = settings(Verification::Full, &pki.roots());
    let six = ["a.b", "b.b", "c.b", "d.b", "e.b", "10.0.0.1"];
    for (names, found) in [
        (&["db2.example.org"][..], "`db2.example.org`"),
        (&["10.1.2.3"], "`10.1.2.3`"),
        (&[], "no name (it has no subject alternative names)"),
        (&six, "`a.b`, `b.b`, `c.b`, `d.b` and 2 more"),
    ] {
        let files = pki.issue(names, |_| {});
        let [chain, full] = outcomes(&files, &settings, NAME).await;
        chain.expect("names are not looked at");
        let (message, hint) = told(full);
        assert_eq!(
            message,
            format!(
                "the server's certificate was not accepted: it is for {found}, expected `{NAME}`"
            )
        );
        let key = if names.is_empty() { "`server.tls`" } else { "`server.name`" };
        assert!(hint.contains(key), "{hint}");
    }
}

#[tokio::test]
async fn an_unknown_authority_is_named_as_such() {
    let folder = folder();
    let (ours, theirs) = (Pki::new(folder.path(), "a"), Pki::new(folder.path(), "b"));
    let files = theirs.issue(&[NAME], |_| {});
    for result in outcomes(&files, &settings(Verification::Full, &ours.roots()), NAME).await {
        let (message, hint) = told(result);
        assert!(message.ends_with("issued by an authority that is not trusted here"), "{message}");
        assert!(hint.contains("`server.roots`") && !hint.contains('/'), "{hint}");
    }
}

#[tokio::test]
async fn certificates_of_the_wrong_kind_are_refused() {
    let folder = folder();
    let pki = Pki::new(folder.path(), "a");
    let settings = settings(Verification::Full, &pki.roots());
    let client = pki.issue(&[NAME], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    for result in outcomes(&client, &settings, NAME).await {
        assert!(told(result).0.contains("extended key usage"));
    }
    let authority = pki.issue(&[NAME], |params| {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    for result in outcomes(&authority, &settings, NAME).await {
        assert!(told(result).0.ends_with("it is the certificate of an authority, not of a server"));
    }
}

#[tokio::test]
async fn a_server_may_show_the_root_itself() {
    // `openssl req -new -x509` of PostgreSQL's documentation: self-signed, and an authority.
    let folder = folder();
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).expect("names");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).expect("a certificate");
    let files = (folder.path().join("c.pem"), folder.path().join("c.key"));
    std::fs::write(&files.0, certificate.pem()).expect("written");
    write_key(&files.1, &key.serialize_pem());
    let trusted = settings(Verification::Full, &files.0);
    let [chain, full] = outcomes(&files, &trusted, NAME).await;
    chain.expect("chain");
    full.expect("full");
    let [chain, full] = outcomes(&files, &trusted, "db2.example.org").await;
    chain.expect("names are not looked at");
    assert!(told(full).0.ends_with("it is for `db.example.org`, expected `db2.example.org`"));
    set_validity(&mut params, SystemTime::UNIX_EPOCH, SystemTime::now() - days(1));
    std::fs::write(&files.0, params.self_signed(&key).expect("a certificate").pem())
        .expect("written");
    for result in outcomes(&files, &trusted, NAME).await {
        assert!(told(result).0.contains("it expired on"));
    }
}

#[tokio::test]
async fn revoked_certificates_are_refused() {
    let folder = folder();
    let (pki, other) = (Pki::new(folder.path(), "a"), Pki::new(folder.path(), "b"));
    let numbered = |number: u8| {
        pki.issue(&[NAME], |params| {
            params.serial_number = Some(SerialNumber::from_slice(&[number]));
        })
    };
    let (revoked, good) = (numbered(7), numbered(8));
    let now = SystemTime::now();
    let file = folder.path().join("crl");
    let mut settings = settings(Verification::Full, &pki.roots());
    settings.crl = Some(file.clone());
    let (pem, der) = pki.crl(&[7], now + days(1));
    let (of_other, _) = other.crl(&[8], now + days(1));
    for content in [pem.clone().into_bytes(), der, [of_other.as_bytes(), pem.as_bytes()].concat()] {
        std::fs::write(&file, content).expect("written");
        for result in outcomes(&revoked, &settings, NAME).await {
            assert!(told(result).0.ends_with("it was revoked"));
        }
        let [chain, full] = outcomes(&good, &settings, NAME).await;
        chain.expect("chain");
        full.expect("full");
    }
    std::fs::write(&file, pki.crl(&[7], now - days(1)).0).expect("written");
    for result in outcomes(&good, &settings, NAME).await {
        let (message, hint) = told(result);
        assert!(message.contains("the revocation list of its issuer expired on"), "{message}");
        assert!(hint.contains("`server.crl`"), "{hint}");
    }
    std::fs::write(&file, of_other).expect("written");
    for result in outcomes(&good, &settings, NAME).await {
        assert!(told(result).0.ends_with("no revocation list of its issuer is there"));
    }
}

#[tokio::test]
async fn a_new_list_takes_effect_and_a_broken_one_does_not() {
    let folder = folder();
    let pki = Pki::new(folder.path(), "a");
    let files = pki.issue(&[NAME], |params| {
        params.serial_number = Some(SerialNumber::from_slice(&[7]));
    });
    let own = Presented::load(&files.0, &files.1).expect("a pair");
    let leg = ClientLeg::new(None);
    let crl = folder.path().join("crl");
    let soon = SystemTime::now() + days(1);
    let mut settings = settings(Verification::Full, &pki.roots());
    settings.crl = Some(crl.clone());
    std::fs::write(&crl, pki.crl(&[1], soon).0).expect("written");
    let server_leg = ServerLeg::new(settings).expect("settings");
    let mut found = Vec::new();
    for content in [None, Some("nothing".to_owned()), Some(pki.crl(&[1, 7], soon).0)] {
        if let Some(content) = content {
            std::fs::write(&crl, content).expect("written");
        }
        let (_, connected) =
            handshake(&leg, Some(&own), &server_leg, Some(NAME), Alpn::Optional).await;
        found.push(connected.is_ok());
    }
    assert_eq!(found, [true, true, false]);
}

#[tokio::test]
async fn constraints_of_the_authority_bind_what_it_certifies() {
    for (constraints, name, good) in [
        (&["example.org"][..], Some("db.example.org"), true),
        (&["example.org"], Some("example.org"), true),
        (&["example.org"], Some("example.com"), false),
        (&["example.org"], None, false),
        (&["127.0.0.0/8"], None, true),
        (&["127.0.0.1"], None, true),
        (&["10.0.0.0/8"], None, false),
        (&["127.0.0.1"], Some("example.org"), false),
        (&["127.0.0.1", "example.org"], Some("example.org"), true),
        (&["127.0.0.1", "example.org"], None, true),
        (&["::1"], None, false),
    ] {
        let folder = folder();
        let (roots, leg) = client_leg(folder.path(), constraints);
        let server_leg = ServerLeg::new(settings(Verification::Full, &roots)).expect("settings");
        let (_, connected) = handshake(&leg, None, &server_leg, name, Alpn::Optional).await;
        match connected {
            Ok(_) => assert!(good, "{constraints:?} {name:?}"),
            Err(error) => {
                assert!(!good, "{constraints:?} {name:?} {error:?}");
                let message = error.told().message;
                assert!(
                    message.ends_with("outside of what its authority may certify"),
                    "{message}"
                );
            }
        }
    }
}

#[test]
fn files_that_cannot_serve_are_refused_when_they_are_loaded() {
    let folder = folder();
    let pki = Pki::new(folder.path(), "a");
    let (certificate, key) = pki.issue(&[NAME], |_| {});
    let (other, _) = pki.issue(&[NAME], |_| {});
    let error = Presented::load(&other, &key).expect_err("two pairs");
    assert!(matches!(error, ConfigurationError::Pair { .. }), "{error:?}");
    let error = Presented::load(&key, &key).expect_err("no certificate");
    assert!(error.to_string().ends_with("holds no certificates in PEM form"), "{error}");
    let error = Presented::load(&certificate, &certificate).expect_err("no key");
    assert!(matches!(error, ConfigurationError::OpenKey { .. }), "{error:?}");
    for (mode, good) in [(0o600, true), (0o400, true), (0o644, false), (0o602, false)] {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("changed");
        assert_eq!(Presented::load(&certificate, &key).is_ok(), good, "{mode:o}");
    }
    let gone = folder.path().join("gone");
    let error = ServerLeg::new(settings(Verification::Full, &gone)).expect_err("no file");
    let told = error.told();
    assert!(!told.message.contains('/'), "{told:?}");
    assert!(error.to_string().contains("gone"), "{error}");
    // Ed25519: its own signature is what the hash would be taken from.
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let params = CertificateParams::new(vec![NAME.to_owned()]).expect("names");
    let paths = (folder.path().join("ed.pem"), folder.path().join("ed.key"));
    std::fs::write(&paths.0, params.self_signed(&key).expect("a certificate").pem())
        .expect("written");
    write_key(&paths.1, &key.serialize_pem());
    let error = Presented::load(&paths.0, &paths.1).expect_err("no channel binding");
    assert!(matches!(error, ConfigurationError::NoEndPoint { .. }), "{error:?}");
}
