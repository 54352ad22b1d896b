//! The same, as OpenSSL sees it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::{test_support::*, *};

fn openssl(folder: &Path, line: &str) -> String {
    let output = Command::new("openssl")
        .args(line.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is there");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A self-signed certificate of a kind of key and signature, as `c.pem`.
fn certificate(folder: &Path, key: &str, signature: &str) -> CertificateDer<'static> {
    openssl(folder, &format!("genpkey -out c.key {key}"));
    openssl(folder, &format!("req -x509 -new -key c.key -subj /CN=db -out c.pem {signature}"));
    CertificateDer::from_pem_file(folder.join("c.pem")).expect("a certificate")
}

#[test]
fn hashes_are_those_of_openssl() {
    const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
    const EC: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
    const PSS: &str = "-sigopt rsa_padding_mode:pss";
    for (key, signature, function) in [
        (RSA, "-md5".to_owned(), "sha256"),
        (RSA, "-sha1".to_owned(), "sha256"),
        (RSA, "-sha224".to_owned(), "sha224"),
        (RSA, "-sha256".to_owned(), "sha256"),
        (RSA, "-sha384".to_owned(), "sha384"),
        (RSA, "-sha512".to_owned(), "sha512"),
        (RSA, format!("-sha1 {PSS}"), "sha256"),
        (RSA, format!("-sha256 {PSS}"), "sha256"),
        (RSA, format!("-sha384 {PSS}"), "sha384"),
        (RSA, format!("-sha512 {PSS}"), "sha512"),
        (EC, "-sha1".to_owned(), "sha256"),
        (EC, "-sha224".to_owned(), "sha224"),
        (EC, "-sha256".to_owned(), "sha256"),
        (EC, "-sha384".to_owned(), "sha384"),
        (EC, "-sha512".to_owned(), "sha512"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let certificate = certificate(folder.path(), key, &signature);
        openssl(folder.path(), "x509 -in c.pem -outform der -out c.der");
        let expected = openssl(folder.path(), &format!("dgst -r -{function} c.der"));
        let found = EndPointHash::of(&certificate).expect("a hash");
        assert_eq!(
            Some(hex::encode(found.as_bytes()).as_str()),
            expected.split(' ').next(),
            "{key} {signature}"
        );
        let text = openssl(folder.path(), "x509 -in c.pem -noout -text");
        assert!(text.contains("Signature Algorithm"), "{text}");
    }
    for key in ["-algorithm ED25519", "-algorithm ED448"] {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(EndPointHash::of(&certificate(folder.path(), key, "")), None, "{key}");
    }
    assert_eq!(EndPointHash::of(&CertificateDer::from(vec![0x30, 3, 1])), None);
    let folder = tempfile::tempdir().expect("a folder");
    let mut cut = certificate(folder.path(), EC, "-sha256").to_vec();
    while cut.pop().is_some() {
        assert_eq!(EndPointHash::of(&CertificateDer::from(cut.clone())), None);
    }
}

#[tokio::test]
async fn openssl_verifies_what_is_minted() {
    for (constraints, asked, good) in [
        (&[][..], "-servername db.example.org -verify_hostname db.example.org", true),
        (&[], "-servername db.example.org -verify_hostname db2.example.org", false),
        (&[], "-noservername -verify_ip 127.0.0.1", true),
        (&["example.org"], "-servername db.example.org -verify_hostname db.example.org", true),
        (&["example.com"], "-servername db.example.org -verify_hostname db.example.org", false),
        (&["127.0.0.1"], "-noservername -verify_ip 127.0.0.1", true),
        (&["127.0.0.1", "example.org"], "-noservername -verify_ip 127.0.0.1", true),
        (&["10.0.0.0/8"], "-noservername -verify_ip 127.0.0.1", false),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let folder = tempfile::tempdir().expect("a folder");
            let (roots, leg) = client_leg(folder.path(), constraints);
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let line = format!(
                "s_client -connect {address} -CAfile {} -verify_return_error -alpn postgresql \
                 {version} {asked}",
                roots.display()
            );
            let client = tokio::task::spawn_blocking(move || {
                Command::new("openssl").args(line.split_whitespace()).stdin(Stdio::null()).output()
            });
            let (far, _) = listener.accept().await.expect("a client");
            let accepted = leg.accept(far, 0, Vec::new(), None, address.ip(), Alpn::Required).await;
            match accepted {
                Ok((mut leg, accepted)) => {
                    assert!(accepted.parameters.alpn);
                    // In 1.3 it refuses only now. How it closes, with or without unread tickets, is its own affair.
                    let mut rest = Vec::new();
                    let _ = tokio::io::AsyncReadExt::read_to_end(&mut leg, &mut rest).await;
                    assert!(rest.is_empty());
                }
                Err(error) => {
                    assert!(!good, "{asked} {version} {error:?}");
                    assert!(matches!(error, TlsError::Alert { side: Side::Client, .. }));
                }
            }
            let output = client.await.expect("no panic").expect("openssl is there");
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(text.contains("Verification: OK"), good, "{asked} {version} {text}");
            assert_eq!(text.contains("Verification error: "), !good, "{asked} {version} {text}");
            if good {
                assert!(text.contains("ALPN protocol: postgresql"), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_with_a_version_1_certificate_serves_where_nothing_is_verified() {
    for (key, version) in [
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:2048", "-tls1_2"),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:2048", "-tls1_3"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "-tls1_2"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "-tls1_3"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        certificate(folder.path(), key, "");
        // As PostgreSQL's documentation makes a server's certificate.
        openssl(folder.path(), &format!("genpkey -out s.key {key}"));
        openssl(folder.path(), "req -new -key s.key -subj /CN=localhost -out s.csr");
        openssl(
            folder.path(),
            "x509 -req -in s.csr -CA c.pem -CAkey c.key -CAcreateserial -out s.pem",
        );
        let text = openssl(folder.path(), "x509 -in s.pem -noout -text");
        assert!(text.contains("Version: 1 "), "{text}");
        let line = format!("s_server -accept 127.0.0.1:0 -cert s.pem -key s.key {version}");
        let mut server = Command::new("openssl")
            .args(line.split_whitespace())
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is there");
        let mut lines = BufReader::new(server.stdout.take().expect("its output")).lines();
        let accepting =
            lines.find_map(|line| line.expect("text").strip_prefix("ACCEPT ").map(str::to_owned));
        let address: std::net::SocketAddr = accepting.expect("a line").parse().expect("an address");
        let roots = folder.path().join("c.pem");
        let mut found = Vec::new();
        for verification in [Verification::Nothing, Verification::Chain] {
            let leg = ServerLeg::new(settings(verification, &roots)).expect("settings");
            let tcp = TcpStream::connect(address).await.expect("connected");
            let name = dns("localhost");
            // It serves one at a time: the connection is closed before the next.
            let connected = leg.connect(tcp, 0, Some(&name), address.ip(), Alpn::Optional).await;
            found.push(connected.map(|(_, connected)| connected));
        }
        server.kill().expect("ended");
        server.wait().expect("gone");
        let [nothing, chain] = found.try_into().expect("two");
        let endpoint = nothing.expect("nothing is verified").endpoint.expect("a hash");
        let der = CertificateDer::from_pem_file(folder.path().join("s.pem")).expect("one");
        assert_eq!(Some(endpoint), EndPointHash::of(&der));
        let error = chain.expect_err("not verified");
        let TlsError::Verification(VerificationError::VersionOne) = error else {
            panic!("{error:?}")
        };
    }
}
