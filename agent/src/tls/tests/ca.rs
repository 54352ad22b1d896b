//! The authority's files and what it issues.

use std::{fs, os::unix::fs::PermissionsExt as _, time::SystemTime};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

use super::super::{ca::*, test_support::*, *};

#[test]
fn files_have_their_modes_and_are_never_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let (paths, _) = authority(&folder.path().join("made"), &[]);
    let mode = |path| fs::metadata(path).expect("a file").permissions().mode() & 0o7777;
    assert_eq!((mode(&paths.key), mode(&paths.certificate)), (0o600, 0o644));
    let before = fs::read(&paths.key).expect("a key");
    let now = SystemTime::now();
    let error = Authority::init(&paths, &[], now).expect_err("there is one");
    assert!(matches!(error, CaError::Exists(_)), "{error:?}");
    fs::remove_file(&paths.certificate).expect("removed");
    let error = Authority::init(&paths, &[], now).expect_err("there is a key");
    assert!(matches!(error, CaError::Exists(ref path) if *path == paths.key), "{error:?}");
    assert_eq!(fs::read(&paths.key).expect("a key"), before);
    assert!(!paths.certificate.exists());
}

#[test]
fn loading_says_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let (paths, authority) = authority(folder.path(), &[]);
    let now = SystemTime::now();
    let late = authority.description().not_after + days(1);
    let error = Authority::load(&paths, late).expect_err("expired").to_string();
    assert!(error.contains("expired on 2") && error.contains("`pgward ca rotate`"), "{error}");
    let error = Authority::load(&paths, now - days(3)).expect_err("too new");
    assert!(matches!(error, CaError::NotYetValid { .. }), "{error:?}");
    fs::set_permissions(&paths.key, std::fs::Permissions::from_mode(0o644)).expect("opened");
    let error = Authority::load(&paths, now).expect_err("open").to_string();
    assert!(error.contains("found mode 0644") && error.contains("expected 0600"), "{error}");
    fs::set_permissions(&paths.key, std::fs::Permissions::from_mode(0o600)).expect("closed");
    let (other, _) = super::super::test_support::authority(&folder.path().join("other"), &[]);
    let mixed = Paths { key: other.key, certificate: paths.certificate.clone() };
    let error = Authority::load(&mixed, now).expect_err("two pairs");
    assert!(matches!(error, CaError::Mismatch { .. }), "{error:?}");
    let pki = Pki::new(folder.path(), "a");
    let (certificate, key) = pki.issue(&["db"], |_| {});
    let error = Authority::load(&Paths { certificate, key }, now).expect_err("a server's");
    assert!(matches!(error, CaError::NoAuthority(_)), "{error:?}");
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    write_key(&paths.key, &ed25519.serialize_pem());
    let error = Authority::load(&paths, now).expect_err("no channel binding");
    assert!(matches!(error, CaError::KeyKind(_)), "{error:?}");
}

#[test]
fn rotation_keeps_the_certificate_before_and_the_constraints() {
    let folder = tempfile::tempdir().expect("a folder");
    let (paths, first) = authority(folder.path(), &["db.example.org", "10.0.0.0/8", "::1"]);
    let was = fs::read(&paths.certificate).expect("a certificate");
    let now = SystemTime::now();
    // Left by one that was interrupted.
    fs::write(folder.path().join("ca.key.new"), "half").expect("written");
    let made = Authority::rotate(&paths, now).expect("rotated");
    assert_eq!(paths.previous(), folder.path().join("ca.previous.pem"));
    let previous = CertificateDer::from_pem_file(paths.previous()).expect("a certificate");
    assert_eq!(previous, CertificateDer::from_pem_slice(&was).expect("a certificate"));
    let second = Authority::load(&paths, now).expect("a pair");
    assert_eq!(second.description(), &made);
    assert_eq!(made.constraints, first.description().constraints);
    let constraints: Vec<_> = made.constraints.iter().map(ToString::to_string).collect();
    assert_eq!(constraints, ["db.example.org", "10.0.0.0/8", "::1/128"]);
    assert_ne!(made.fingerprint, first.description().fingerprint);
    assert_ne!(made.subject, first.description().subject);
    let mut left: Vec<_> = fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    left.sort();
    assert_eq!(left, ["ca.key", "ca.pem", "ca.previous.pem"]);
    let mode = fs::metadata(&paths.key).expect("a key").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    // One that stopped between its two renames is mended by the next.
    fs::copy(paths.previous(), &paths.certificate).expect("copied");
    Authority::load(&paths, now).expect_err("two pairs");
    Authority::rotate(&paths, now).expect("rotated");
    Authority::load(&paths, now).expect("a pair");
}

#[test]
fn certificates_are_for_one_name_of_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, authority) = authority(folder.path(), &[]);
    let now = SystemTime::now();
    let long = format!("{}.example.org", "a".repeat(60));
    let mut serials = Vec::new();
    for (name, common) in [
        ("db.example.org", "db.example.org"),
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8::1", "2001:db8::1"),
        (long.as_str(), "pgward"),
    ] {
        let issued = authority.issue(&dns(name), now).expect("issued");
        let der = issued.pair.end_entity_cert().expect("a certificate");
        assert_eq!(EndPointHash::of(der).as_ref(), Some(&issued.endpoint));
        let (_, parsed) = X509Certificate::from_der(der).expect("DER");
        let san = parsed.subject_alternative_name().expect("one").expect("one").value;
        match san.general_names.as_slice() {
            [GeneralName::DNSName(dns)] => assert_eq!(*dns, name),
            [GeneralName::IPAddress(bytes)] => assert!([4, 16].contains(&bytes.len())),
            other => panic!("{other:?}"),
        }
        let found = parsed.subject().iter_common_name().next().expect("a name").as_str();
        assert_eq!(found, Ok(common));
        let usage = parsed.extended_key_usage().expect("one").expect("one").value;
        assert!(usage.server_auth && !usage.client_auth && !usage.any);
        assert!(!parsed.is_ca());
        let days =
            parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp();
        assert_eq!(days, 90 * 24 * 3600);
        assert!(parsed.validity().is_valid());
        let left = issued.renew_at.duration_since(now).expect("later");
        assert_eq!(left.as_secs() / (24 * 3600), 59 - 1 + u64::from(left.subsec_nanos() == 0));
        serials.push(parsed.raw_serial().to_vec());
    }
    serials.sort();
    serials.dedup();
    assert!(serials.len() == 4 && serials.iter().all(|serial| serial.len() == 16), "{serials:?}");
    // Never longer than the authority itself.
    let end = authority.description().not_after;
    let issued = authority.issue(&dns("db"), end - days(10)).expect("issued");
    assert!(issued.renew_at < end);
    let der = issued.pair.end_entity_cert().expect("a certificate");
    let (_, parsed) = X509Certificate::from_der(der).expect("DER");
    let until = SystemTime::UNIX_EPOCH
        + std::time::Duration::from_secs(parsed.validity().not_after.timestamp() as u64);
    assert_eq!(until, end);
}

#[test]
fn the_certificate_is_constrained_as_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let (paths, authority) = authority(folder.path(), &["example.org"]);
    let der = CertificateDer::from_pem_file(&paths.certificate).expect("a certificate");
    let (_, parsed) = X509Certificate::from_der(&der).expect("DER");
    let basic = parsed.basic_constraints().expect("one").expect("one");
    assert!(basic.critical && basic.value.ca);
    assert_eq!(basic.value.path_len_constraint, Some(0));
    let usage = parsed.key_usage().expect("one").expect("one").value;
    assert!(usage.key_cert_sign() && !usage.digital_signature());
    assert!(parsed.name_constraints().expect("one").expect("one").critical);
    assert_eq!(parsed.subject(), parsed.issuer());
    assert!(authority.description().days_left(SystemTime::now()) > 3640);
    for bad in ["", "a b", "10.0.0.1/8", "-", "*.example.org", "a..b"] {
        assert!(bad.parse::<Constraint>().is_err(), "{bad}");
    }
}

#[test]
fn nothing_of_a_key_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let (paths, authority) = authority(folder.path(), &[]);
    let text = fs::read_to_string(&paths.key).expect("a key");
    let shown = format!("{authority:?}");
    for line in text.lines().filter(|line| !line.starts_with("-----")) {
        assert!(!shown.contains(line), "{shown}");
    }
    assert!(shown.starts_with("Authority { description:") && shown.ends_with(".. }"), "{shown}");
}
