//! Searches what the agent leaves behind for secrets.

use std::sync::Mutex;

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Shorter secrets would be found by chance.
const SECRET_BYTES_MIN: usize = 4;

/// Secrets that must not occur in any text. Neither this type nor what it finds shows one.
#[derive(Default)]
pub struct Secrets {
    known: Mutex<Vec<Secret>>,
}

struct Secret {
    label: String,
    /// Name of the way of writing it, and the bytes to look for.
    written: Vec<(&'static str, Vec<u8>)>,
    /// The same, where large and small letters are the same.
    written_anyhow: Vec<(&'static str, Vec<u8>)>,
}

impl Secrets {
    /// From now on looks for `secret` as it is, in base64 (with and without padding, also behind a colon as in a verifier),
    /// in hexadecimal and as a Rust or JSON list of numbers. `label` says which one it is when it is found.
    ///
    /// Panics when it is shorter than 4 bytes: such a secret proves nothing.
    pub fn add(&self, label: &str, secret: &[u8]) {
        assert!(secret.len() >= SECRET_BYTES_MIN, "`{label}` is too short to be searched for");
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let spaced: Vec<_> = secret.iter().map(u8::to_string).collect();
        let written = vec![
            ("as it is", secret.to_vec()),
            ("base64", STANDARD.encode(secret).into_bytes()),
            ("base64 without padding", STANDARD_NO_PAD.encode(secret).into_bytes()),
            ("base64 for URLs", URL_SAFE_NO_PAD.encode(secret).into_bytes()),
            ("numbers", spaced.join(", ").into_bytes()),
            ("numbers", spaced.join(",").into_bytes()),
        ];
        let written_anyhow = vec![("hexadecimal", hex.into_bytes())];
        let secret = Secret { label: label.to_owned(), written, written_anyhow };
        self.known.lock().expect("no thread panics with the lock").push(secret);
    }

    /// Adds a verifier: the whole of it, and each of its two keys by itself.
    ///
    /// Panics when it is none.
    pub fn add_verifier(&self, label: &str, verifier: &str) {
        self.add(label, verifier.as_bytes());
        let keys = verifier.rsplit('$').next().expect("a last part");
        for (name, key) in ["StoredKey", "ServerKey"].into_iter().zip(keys.split(':')) {
            let key = STANDARD.decode(key).expect("keys of a verifier are base64");
            self.add(&format!("{name} of {label}"), &key);
        }
    }

    /// How many are known.
    pub fn count(&self) -> usize {
        self.known.lock().expect("no thread panics with the lock").len()
    }

    /// One line for each secret and way of writing that occurs in `text`, which is called `place`, with the number of the
    /// first line it is on.
    ///
    /// Panics when there are more secrets than an automaton takes, which is more than memory holds.
    pub fn search(&self, place: &str, text: &[u8]) -> Vec<String> {
        let known = self.known.lock().expect("no thread panics with the lock");
        let exact = known.iter().flat_map(|secret| secret.each(&secret.written));
        let anyhow = known.iter().flat_map(|secret| secret.each(&secret.written_anyhow));
        let mut found = occurrences(text, exact.collect(), Case::Same);
        found.extend(occurrences(text, anyhow.collect(), Case::Any));
        found.sort();
        let line = |at: usize| text[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        let found = found.into_iter();
        found.map(|(at, label)| format!("secret in {place}, line {}: {label}", line(at))).collect()
    }
}

impl Secret {
    fn each<'s>(
        &'s self,
        written: &'s [(&'static str, Vec<u8>)],
    ) -> impl Iterator<Item = (String, &'s [u8])> {
        written.iter().map(|(how, bytes)| (format!("{}, {how}", self.label), &bytes[..]))
    }
}

/// Whether large and small letters differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Same,
    Any,
}

/// Where each of these texts occurs first, in one pass: there are hundreds of them, and logs have many megabytes.
fn occurrences(text: &[u8], wanted: Vec<(String, &[u8])>, case: Case) -> Vec<(usize, String)> {
    let patterns = wanted.iter().map(|(_, bytes)| bytes);
    let automaton =
        AhoCorasick::builder().ascii_case_insensitive(case == Case::Any).build(patterns);
    let automaton = automaton.expect("few and short enough");
    let mut first = vec![None; wanted.len()];
    for found in automaton.find_overlapping_iter(text) {
        first[found.pattern().as_usize()].get_or_insert(found.start());
    }
    let both = first.into_iter().zip(wanted);
    both.filter_map(|(at, (label, _))| at.map(|at| (at, label))).collect()
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_secret_however_it_is_written() {
        let secrets = Secrets::default();
        secrets.add("key", &[0xde, 0xad, 0xbe, 0xef, 0x01]);
        secrets.add("password", b"correct horse");
        let places: [(&[u8], &str); 7] = [
            (b"x\ny \xde\xad\xbe\xef\x01", "line 2: key, as it is"),
            (b"3q2+7wE=", "line 1: key, base64"),
            (b"3q2-7wE", "line 1: key, base64 for URLs"),
            (b"0xDEADBEEF01", "line 1: key, hexadecimal"),
            (b"[222, 173, 190, 239, 1]", "line 1: key, numbers"),
            (b"\n\npassword=correct horse!", "line 3: password, as it is"),
            (b"Y29ycmVjdCBob3JzZQ", "line 1: password, base64 without padding"),
        ];
        for (text, expected) in places {
            let found = secrets.search("log", text);
            assert!(found.iter().any(|line| line.ends_with(expected)), "{expected}: {found:?}");
        }
        assert_eq!(secrets.search("log", b"deadbeef 00 correct_horse 3q2+"), Vec::<String>::new());
    }

    #[test]
    fn knows_the_keys_of_a_verifier() {
        let secrets = Secrets::default();
        let verifier = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVkIGtleQ==:c2VydmVyIGtleQ==";
        secrets.add_verifier("alice", verifier);
        assert_eq!(secrets.count(), 3);
        let found = secrets.search("log", b"stored key");
        assert_eq!(found, ["secret in log, line 1: StoredKey of alice, as it is"]);
        assert!(!format!("{secrets:?}").contains("key"));
    }
}
