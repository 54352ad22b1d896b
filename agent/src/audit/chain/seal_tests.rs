//! Seals: bytes, order, and whose key signs which.

use std::{cell::Cell, convert::Infallible, rc::Rc};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use super::{
    note_tests::{TestKey, origin},
    *,
};

const EVERY: u64 = 10_000;
const ROOT: Hash = [3; 32];

/// A key that says when it is gone.
struct Counted {
    key: TestKey,
    alive: Rc<Cell<i32>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

impl Signer for Counted {
    fn public_key(&self) -> [u8; 32] {
        self.key.public_key()
    }

    fn sign(&self, message: &[u8]) -> Signature {
        self.key.sign(message)
    }
}

/// Keys with the seeds 1, 2, 3…
#[derive(Default)]
struct Numbered {
    last: u8,
    alive: Rc<Cell<i32>>,
}

impl SealKeys for Numbered {
    type Key = Counted;
    type Error = Infallible;

    fn fresh(&mut self) -> Result<Counted, Infallible> {
        self.last += 1;
        self.alive.set(self.alive.get() + 1);
        Ok(Counted { key: numbered(self.last), alive: self.alive.clone() })
    }
}

fn numbered(seed: u8) -> TestKey {
    TestKey::from_seed(&[seed; 32])
}

fn begin(last: Option<LastSeal>, passed_on: Option<Counted>) -> (Seals<Numbered>, Rc<Cell<i32>>) {
    let keys = Numbered::default();
    let alive = keys.alive.clone();
    (Seals::begin(origin(), last, passed_on, keys, EVERY, 0), alive)
}

fn passed_on(seed: u8) -> Counted {
    Counted { key: numbered(seed), alive: Rc::new(Cell::new(1)) }
}

fn signed_by(seal: &Seal, key: &TestKey) -> bool {
    let message = seal.message(&origin());
    UnparsedPublicKey::new(&ED25519, key.public_key())
        .verify(message.as_bytes(), &seal.signature)
        .is_ok()
}

#[test]
fn what_is_signed_is_fixed() {
    let seal = Seal {
        number: 3,
        size: 4711,
        root: sha256(b""),
        time: 1_772_323_199_999_999_999,
        kind: SealKind::Restart,
        next: [7; 32],
        signature: [0; 64],
    };
    let message = "pgward-seal-v1\n\
                   pgward/6f1c0b6e-8a55-4d6e-9f0a-2f8f5a3c1d2e/1\n\
                   3\n\
                   4711\n\
                   47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\
                   1772323199999999999\n\
                   restart\n\
                   BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n";
    assert_eq!(seal.message(&origin()), message);
    // Signed with another implementation of Ed25519.
    let signature = "c4c6102bf2c5551f638dd182a7d31e2b47e77a54130dd14cf9f907b3035cf8b1593d52defb38a34d\
                     ae1555909110c275aba06f8c97c6e6da2e4f40afac0a960d";
    assert_eq!(hex::encode(TestKey::rfc_8032().sign(message.as_bytes())), signature);
}

#[test]
fn kinds_keep_their_numbers_and_names() {
    let all = [
        (SealKind::Regular, 0, "regular"),
        (SealKind::First, 1, "first"),
        (SealKind::Restart, 2, "restart"),
        (SealKind::Final, 3, "final"),
        (SealKind::Handover, 4, "handover"),
    ];
    for (kind, number, name) in all {
        assert_eq!((kind.number(), kind.name()), (number, name));
        assert_eq!(SealKind::of_number(number), Some(kind));
    }
    assert_eq!(SealKind::of_number(5), None);
}

#[test]
fn each_seal_is_signed_with_the_key_that_the_one_before_names() {
    let host = TestKey::rfc_8032();
    let (mut seals, alive) = begin(None, None);
    assert!(seals.due(0), "a run begins with a seal");
    let mut now = 0;
    for number in 0..5_u8 {
        assert!(seals.due(now));
        assert!(number == 0 || !seals.due(now - 1));
        let seal = seals.next(u64::from(number) * 10, ROOT, 77, now, &host).expect("due");
        assert_eq!((seal.number, seal.size, seal.root), (number.into(), seal.number * 10, ROOT));
        assert_eq!(seal.time, 77);
        assert_eq!(seal.next, numbered(number + 1).public_key());
        let (kind, key) = match number {
            0 => (SealKind::First, TestKey::rfc_8032()),
            _ => (SealKind::Regular, numbered(number)),
        };
        assert_eq!(seal.kind, kind);
        assert!(signed_by(&seal, &key), "seal {number}");
        assert!(!seals.due(u64::MAX), "one at a time");
        assert_eq!(seals.next_due(), None);
        seals.durable();
        assert_eq!(alive.get(), 1, "only the key of the next seal is left");
        now += EVERY;
        assert_eq!(seals.next_due(), Some(now));
    }
}

#[test]
fn a_seal_that_could_not_be_written_is_made_anew() {
    let host = TestKey::rfc_8032();
    let (mut seals, alive) = begin(None, None);
    for number in 0..3 {
        for attempt in 0..2 {
            let seal = seals.next(100 + attempt, ROOT, 0, 500, &host).expect("due");
            assert_eq!(seal.number, number);
            assert_eq!(seal.kind == SealKind::First, number == 0);
            let again = seals.next(100, ROOT, 0, 500, &host);
            assert_eq!(again, Err(SealError::Pending(number)));
            match attempt {
                0 => seals.undo(),
                _ => seals.durable(),
            }
            assert_eq!(seals.due(500), attempt == 0, "tried again at once");
        }
        assert_eq!(alive.get(), 1);
    }
}

#[test]
fn a_run_that_is_sealed_makes_no_more() {
    let host = TestKey::rfc_8032();
    for ending in [Ending::Final, Ending::Handover([9; 32])] {
        let (mut seals, alive) = begin(None, None);
        let first = seals.finish(0, ROOT, 0, ending, &host).expect("none was made");
        assert_eq!(first.kind, SealKind::First, "a run has a first seal even so");
        seals.durable();
        assert!(!seals.ended());
        let last = seals.finish(1, ROOT, 0, ending, &host).expect("the last");
        let expected = match ending {
            Ending::Final => (SealKind::Final, [0; 32]),
            Ending::Handover(next) => (SealKind::Handover, next),
        };
        assert_eq!((last.kind, last.next, last.number), (expected.0, expected.1, 1));
        assert!(signed_by(&last, &numbered(1)));
        seals.durable();
        assert!(seals.ended() && !seals.due(u64::MAX));
        assert_eq!(alive.get(), 0);
        assert_eq!(seals.next(2, ROOT, 0, 0, &host), Err(SealError::Ended));
        assert_eq!(seals.finish(2, ROOT, 0, ending, &host), Err(SealError::Ended));
        seals.durable();
        seals.undo();
        assert!(seals.ended());
    }
}

#[test]
fn a_run_goes_on_with_the_key_that_was_passed_on_and_no_other() {
    let host = TestKey::rfc_8032();
    let named = numbered(42).public_key();
    let cases = [
        (SealKind::Handover, named, Some(42), SealKind::Regular),
        (SealKind::Handover, named, Some(43), SealKind::Restart),
        (SealKind::Handover, named, None, SealKind::Restart),
        // A key whose handover seal did not reach the disk.
        (SealKind::Regular, named, Some(42), SealKind::Restart),
        (SealKind::Final, [0; 32], Some(42), SealKind::Restart),
        (SealKind::First, named, None, SealKind::Restart),
    ];
    for (kind, next, key, expected) in cases {
        let last = LastSeal { number: 6, kind, next };
        let (mut seals, _) = begin(Some(last), key.map(passed_on));
        let seal = seals.next(9, ROOT, 0, 0, &host).expect("due");
        assert_eq!((seal.kind, seal.number), (expected, 7), "{kind} {key:?}");
        let key = if expected == SealKind::Regular { numbered(42) } else { TestKey::rfc_8032() };
        assert!(signed_by(&seal, &key), "{kind} {key:?}", key = expected);
    }
    let (mut seals, _) = begin(None, Some(passed_on(42)));
    let seal = seals.next(1, ROOT, 0, 0, &host).expect("due");
    assert_eq!((seal.kind, seal.number), (SealKind::First, 0));
}

#[test]
fn debug_tells_the_state_alone() {
    let last = LastSeal { number: 0, kind: SealKind::Handover, next: numbered(42).public_key() };
    let (mut seals, _) = begin(Some(last), Some(passed_on(42)));
    assert!(format!("{seals:?}").contains("state: Key,"));
    seals.next(1, ROOT, 0, 0, &TestKey::rfc_8032()).expect("due");
    assert!(format!("{seals:?}").contains("state: Pending(Key to Key),"));
}
