//! After shredding, nothing opens what was sealed before, and commitments are what they were.

use super::*;

fn subject_audit() -> Audit {
    let rule = AuditRule { subject: Some(1), ..AuditRule::default() };
    audit(ValueMode::Sealed, &[rule])
}

fn today() -> Day {
    Day::of(crate::audit::Now::read().wall)
}

#[test]
fn a_shredded_session_is_unreadable_and_others_are_not() {
    let trail = Trail::new();
    let audit = Audit::default();
    let (mut one, mut other) = (trail.begin(1, &audit), trail.begin(2, &audit));
    let shredded = one.statement(b"SELECT $1", &[text_parameter(b"x")]);
    let kept = other.statement(b"SELECT $1", &[text_parameter(b"x")]);
    let erased = trail.keyring.shred_blocking(Scope::Session(one.id)).expect("shredded");
    assert_eq!(erased, Erased { sessions: 1, ..Erased::default() });
    let keys = trail.keys();
    let gone = shredded.disclose(&keys);
    assert!(matches!(gone, Err(DiscloseError::Shredded(KeyOf::Session))), "{gone:?}");
    assert!(kept.disclose(&keys).is_ok());
    // What the session seals from now on is unreadable too, and the second time erases nothing.
    let later = one.statement(b"SELECT $1", &[text_parameter(b"x")]);
    assert!(later.disclose(&keys).is_err());
    let again = trail.keyring.shred_blocking(Scope::Session(one.id)).expect("shredded");
    assert_eq!(again.keys(), 0);
}

#[test]
fn a_shredded_person_is_unreadable_in_all_sessions() {
    let trail = Trail::new();
    let audit = subject_audit();
    let (mut one, mut other) = (trail.begin(1, &audit), trail.begin(2, &audit));
    // Number 42 as text, and as a binary integer.
    let binary = Some(Excerpt::whole(&[0, 0, 0, 42]));
    let binary = Parameter { format: 1, type_oid: 23, value: binary };
    let first = one.statement(b"SELECT $1", &[text_parameter(b"42")]);
    let second = other.statement(b"SELECT $1", &[binary]);
    let nobody = one.statement(b"SELECT $1, $2", &[NULL, text_parameter(b"x")]);
    let someone = other.statement(b"SELECT $1", &[text_parameter(b"43")]);
    assert_eq!(first.shown.beside, Some(Held::Subject));
    assert_eq!(nobody.shown.beside, Some(Held::Session));
    let keys = trail.keys();
    assert!([&first, &second, &nobody, &someone].iter().all(|r| r.disclose(&keys).is_ok()));

    let scope = Scope::Subject(b"42".to_vec().into());
    let erased = trail.keyring.shred_blocking(scope).expect("shredded");
    assert_eq!(erased, Erased { subjects: 1, ..Erased::default() });
    let keys = trail.keys();
    for gone in [&first, &second] {
        let gone = gone.disclose(&keys);
        assert!(matches!(gone, Err(DiscloseError::Shredded(KeyOf::Subject))), "{gone:?}");
    }
    assert!(nobody.disclose(&keys).is_ok() && someone.disclose(&keys).is_ok());
    // A statement about them after that is sealed under another key, also in a running session.
    let later = one.statement(b"SELECT $1", &[text_parameter(b"42")]);
    assert!(later.disclose(&trail.keys()).is_ok());
    assert!(first.disclose(&trail.keys()).is_err());
}

#[test]
fn a_shredded_day_is_unreadable_and_the_next_session_is_not() {
    let trail = Trail::new();
    let audit = subject_audit();
    let mut one = trail.begin(1, &audit);
    let of_person = one.statement(b"SELECT $1", &[text_parameter(b"42")]);
    let of_session = one.statement(b"SELECT $1, $2", &[NULL, text_parameter(b"x")]);
    let erased = trail.keyring.shred_blocking(Scope::Day(today())).expect("shredded");
    assert_eq!(erased, Erased { days: 1, sessions: 1, subjects: 1 });
    let keys = trail.keys();
    for gone in [of_person.disclose(&keys), of_session.disclose(&keys)] {
        assert!(matches!(gone, Err(DiscloseError::Shredded(_))), "{gone:?}");
    }
    let mut next = trail.begin(2, &audit);
    let later = next.statement(b"SELECT $1", &[text_parameter(b"42")]);
    assert!(later.disclose(&trail.keys()).is_ok());
    assert!(of_person.disclose(&trail.keys()).is_err());
}

#[test]
fn an_older_copy_of_the_payload_is_of_no_use() {
    let trail = Trail::new();
    let mut session = trail.begin(1, &Audit::default());
    let recorded = session.statement(b"SELECT $1", &[text_parameter(b"x")]);
    let copy = recorded.shown.payload.clone();
    let commitments = recorded.values();
    trail.keyring.shred_blocking(Scope::Session(session.id)).expect("shredded");
    assert!(recorded.disclose_payload(&trail.keys(), &copy).is_err());
    assert_eq!(recorded.values(), commitments, "the record stays as it was");
}
