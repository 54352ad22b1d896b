//! Notes and names of keys, byte for byte.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::*;

/// Section 7.1, TEST 1 of RFC 8032.
pub(super) const RFC_8032_SEED: &str =
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

const HOST: &str = "6f1c0b6e-8a55-4d6e-9f0a-2f8f5a3c1d2e";

/// A key of a test.
pub(super) struct TestKey(pub(super) Ed25519KeyPair);

impl TestKey {
    pub(super) fn from_seed(seed: &[u8]) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(seed).expect("32 bytes"))
    }

    pub(super) fn rfc_8032() -> Self {
        Self::from_seed(&hex::decode(RFC_8032_SEED).expect("hexadecimal"))
    }
}

impl Signer for TestKey {
    fn public_key(&self) -> [u8; 32] {
        self.0.public_key().as_ref().try_into().expect("32 bytes")
    }

    fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message).as_ref().try_into().expect("64 bytes")
    }
}

pub(super) fn origin() -> Origin {
    Origin::new("pgward", HOST, 1).expect("a good name")
}

#[test]
fn signs_as_rfc_8032_does() {
    let key = TestKey::rfc_8032();
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    assert_eq!(hex::encode(key.public_key()), public);
    let signature = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bac\
                     c61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
    assert_eq!(hex::encode(key.sign(b"")), signature);
}

#[test]
fn a_checkpoint_is_a_signed_note() {
    let root = sha256(b"");
    let checkpoint = Checkpoint { origin: origin(), size: 4711, root };
    // Signed with another implementation of Ed25519; the key id computed by hand.
    let expected = "\
pgward/6f1c0b6e-8a55-4d6e-9f0a-2f8f5a3c1d2e/1
4711
47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=

— pgward/6f1c0b6e-8a55-4d6e-9f0a-2f8f5a3c1d2e/1 \
        XHPoKVqm0i7HqKK5cUPg7zhKi7Omv4YvfqLGlWhTIfxXXKfLqHkbUEssWg/EwI+Bz31r4D74A+j0lQ27zkmb4BGWwgg=
";
    assert_eq!(checkpoint.note(&TestKey::rfc_8032()), expected);
    let id = key_id(origin().as_str(), ED25519, &TestKey::rfc_8032().public_key());
    assert_eq!(id, [0x5c, 0x73, 0xe8, 0x29]);
}

#[test]
fn names_of_keys_are_those_of_other_implementations() {
    let host = vkey(origin().host_name(), &TestKey::rfc_8032().public_key());
    let expected = "pgward/6f1c0b6e-8a55-4d6e-9f0a-2f8f5a3c1d2e+4b67d1c2+\
                    AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    assert_eq!(host, expected);
    // Keys that other projects publish as examples.
    for published in [
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    ] {
        let (name, rest) = published.split_once('+').expect("a name");
        let (_, key) = rest.split_once('+').expect("an id");
        let key = BASE64.decode(key).expect("base64");
        assert_eq!(vkey(name, key[1..].try_into().expect("32 bytes")), published);
    }
}

#[test]
fn names_of_logs_are_checked() {
    let longest = "a".repeat(FLEET_BYTES_MAX);
    assert!(Origin::new(&longest, HOST, EPOCH_MAX).is_ok_and(|o| o.as_str().len() == 118));
    assert_eq!(origin().to_string(), format!("pgward/{HOST}/1"));
    assert_eq!((origin().host_name(), origin().epoch()), (&*format!("pgward/{HOST}"), 1));
    for fleet in ["", "Fleet", "a/b", "a b", "a+b", "a\n", "\u{fc}", &"a".repeat(65)] {
        let error = OriginError::Fleet(fleet.to_owned());
        assert_eq!(Origin::new(fleet, HOST, 1), Err(error));
    }
    for host in ["", "6f1c0b6e", &HOST.to_uppercase(), &HOST.replace('-', "0"), &format!("{HOST}0")]
    {
        let error = OriginError::Host(host.to_owned());
        assert_eq!(Origin::new("pgward", host, 1), Err(error));
    }
    for epoch in [0, EPOCH_MAX + 1] {
        assert_eq!(Origin::new("pgward", HOST, epoch), Err(OriginError::Epoch(epoch)));
    }
}
