//! Keys of witnesses, and what is accepted as theirs.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use super::*;

const NAME: &str = "witness.example/w1";
const NOW: u64 = 1_800_000_000;

struct Signer(Ed25519KeyPair);

impl Signer {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed"))
    }

    fn key(&self) -> WitnessKey {
        let public = self.0.public_key().as_ref().try_into().expect("32 bytes");
        WitnessKey::new(NAME, public).expect("a good name")
    }

    /// The bytes of a signature line.
    fn bytes(&self, time: u64, body: &str) -> Vec<u8> {
        let signature = self.0.sign(format!("cosignature/v1\ntime {time}\n{body}").as_bytes());
        let vkey = self.key().to_string();
        let id = hex::decode(vkey.split('+').nth(1).expect("an id")).expect("hex");
        [&id[..], &time.to_be_bytes(), signature.as_ref()].concat()
    }

    fn line(&self, time: u64, body: &str) -> String {
        line(NAME, &self.bytes(time, body))
    }
}

fn line(name: &str, bytes: &[u8]) -> String {
    format!("— {name} {}\n", STANDARD.encode(bytes))
}

/// The key and the cosigned note in the specification of tlog-cosignature, whose key is not given: only its form
/// counts. The key of signed-note is one of another type.
#[test]
fn keys_are_read_strictly() {
    let text = "witness.example/w1+a5b1519f+BA0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0N";
    let key = WitnessKey::parse(text).expect("a key");
    assert_eq!((key.name(), key.to_string().as_str()), (NAME, text));
    let note = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    assert_eq!(WitnessKey::parse(note), Err(WitnessKeyError::Type { found: 1 }));
    for (text, expected) in [
        ("", WitnessKeyError::Parts),
        ("name+a5b1519f", WitnessKeyError::Parts),
        ("w+a5b1519f+", WitnessKeyError::Key),
        ("w+a5b1519f+!", WitnessKeyError::Key),
        ("w+a5b1519f+BA0N", WitnessKeyError::Key),
    ] {
        assert_eq!(WitnessKey::parse(text), Err(expected), "{text}");
    }
    for name in ["", "a b", "a\u{2003}b", "a\nb"] {
        let text = text.replace(NAME, name);
        assert_eq!(WitnessKey::parse(&text), Err(WitnessKeyError::Name), "{name:?}");
    }
    let found = "A5B1519F".to_owned();
    let expected = "a5b1519f".to_owned();
    let wrong = WitnessKey::parse(&text.replace("a5b1519f", "A5B1519F"));
    assert_eq!(wrong, Err(WitnessKeyError::Id { found, expected }));
}

#[test]
fn a_good_line_is_found_among_those_of_others() {
    let (signer, body) = (Signer::new(1), checkpoint(5, 1).body().to_owned());
    let key = signer.key();
    let good = signer.line(NOW, &body);
    // The same name with another key, and the same key with another name, are unknown keys.
    let others = Signer::new(2).line(NOW, &body) + &line("other", &signer.bytes(NOW, &body));
    let found = key.find(&format!("{others}{good}{others}"), &body, NOW);
    assert_eq!(found, Ok(Cosignature { time: NOW, line: good.clone() }));
    let older = signer.line(NOW - 60, &body);
    for lines in [format!("{older}{good}"), format!("{good}{older}")] {
        let found = key.find(&lines, &body, NOW).expect("a cosignature");
        assert_eq!(found.time, NOW, "the newest counts");
    }
    assert_eq!(key.find(&others, &body, NOW), Err(CosignatureError::Absent(NAME.to_owned())));
}

#[test]
fn what_does_not_verify_does_not_count() {
    let (signer, body) = (Signer::new(1), checkpoint(5, 1).body().to_owned());
    let key = signer.key();
    let wrong = Err(CosignatureError::Wrong(NAME.to_owned()));
    let bytes = signer.bytes(NOW, &body);
    assert_eq!(key.find(&signer.line(NOW, "another\n"), &body, NOW), wrong);
    for bit in 32..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(key.find(&line(NAME, &bytes), &body, NOW), wrong, "bit {bit}");
    }
    for length in 4..bytes.len() {
        assert_eq!(key.find(&line(NAME, &bytes[..length]), &body, NOW), wrong, "{length} bytes");
    }
    // A good line does not make up for a bad one.
    let good = signer.line(NOW, &body);
    let both = format!("{good}{}", signer.line(NOW, "another\n"));
    assert_eq!(key.find(&both, &body, NOW), wrong);
    // Signed, and without a time.
    assert_eq!(key.find(&signer.line(0, &body), &body, NOW), wrong);
    assert_eq!(key.find(&signer.line(u64::MAX, &body), &body, u64::MAX), wrong);
}

#[test]
fn times_that_have_not_come_are_refused() {
    let (signer, body) = (Signer::new(1), checkpoint(5, 1).body().to_owned());
    let find = |time| signer.key().find(&signer.line(time, &body), &body, NOW);
    assert!(find(NOW + AHEAD_SECONDS_MAX).is_ok());
    let ahead = AHEAD_SECONDS_MAX + 1;
    assert_eq!(find(NOW + ahead), Err(CosignatureError::Future { ahead }));
    assert!(find(1).is_ok(), "an old one is no error: it is old");
}

#[test]
fn answers_that_are_no_lines_are_refused() {
    let (signer, body) = (Signer::new(1), checkpoint(5, 1).body().to_owned());
    let good = signer.line(NOW, &body);
    for lines in [
        String::new(),
        "\n".to_owned(),
        "garbage\n".to_owned(),
        good.trim_end().to_owned(),
        format!("{good}\n"),
        good.replace("— ", "- "),
        format!("— {NAME}\n"),
        format!("— {NAME} !\n"),
        good.repeat(65),
    ] {
        let found = signer.key().find(&lines, &body, NOW);
        assert_eq!(found, Err(CosignatureError::Malformed), "{lines:?}");
    }
}
