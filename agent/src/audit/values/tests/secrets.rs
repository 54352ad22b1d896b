//! What is not stored, and what cannot be guessed.

use std::collections::HashSet;

use super::*;

fn never(numbers: &[u16]) -> Audit {
    let rule = AuditRule {
        values: Some(ValueMode::Never),
        numbers: numbers.to_vec(),
        ..AuditRule::default()
    };
    audit(ValueMode::Sealed, &[rule])
}

/// All bytes of a record and what is beside it that come from values, decrypted too.
fn all_bytes(trail: &Trail, recorded: &Recorded) -> Vec<u8> {
    let mut all = recorded.text.shown().to_vec();
    all.extend_from_slice(&recorded.shown.payload);
    if recorded.shown.beside.is_some() {
        let disclosed = recorded.disclose(&trail.keys()).expect("disclosed");
        all.extend(disclosed.text.unwrap_or_default());
        all.extend(disclosed.parameters.into_iter().flat_map(|(_, v)| v.unwrap_or_default()));
    }
    all
}

#[test]
fn passwords_are_stored_nowhere() {
    let trail = Trail::new();
    let verifier = "SCRAM-SHA-256$4096:c2FsdA==$Hunter2Stored:Hunter2Server";
    for (counter, mode) in (1..).zip([ValueMode::Sealed, ValueMode::Clear, ValueMode::Hash]) {
        let mut session = trail.begin(counter, &audit(mode, &[]));
        for text in [
            "ALTER ROLE a PASSWORD 'Hunter2'; SELECT 'other'",
            "ALTER ROLE a PASSWORD 'Hunter2",
            "ALTER ROLE a PASSWORD Hunter2",
            "DO $$ BEGIN ALTER ROLE a PASSWORD 'Hunter2'; END $$",
            "SELECT dblink_connect('host=h password=Hunter2')",
            "SELECT 'x' -- password Hunter2",
            &format!("UPDATE pg_authid SET rolpassword = '{verifier}'"),
        ] {
            let recorded = session.statement(text.as_bytes(), &[]);
            assert!(!contains(&all_bytes(&trail, &recorded), b"Hunter2"), "{mode:?} {text}");
        }
        // By parameters: of a statement that names a password, and by their looks.
        let bound = session.statement(b"ALTER ROLE a PASSWORD $1", &[text_parameter(b"Hunter2")]);
        let looks = session.statement(
            b"SELECT f($1, $2)",
            &[text_parameter(verifier.as_bytes()), text_parameter(b"open")],
        );
        assert_eq!(bound.values(), [ShownValue::Never(Never::Secret)]);
        assert_eq!(looks.values()[0], ShownValue::Never(Never::Secret));
        assert!(!matches!(looks.values()[1], ShownValue::Never(_)));
        for recorded in [bound, looks] {
            assert!(!contains(&all_bytes(&trail, &recorded), b"Hunter2"), "{mode:?}");
        }
    }
    assert!(!contains(&stored_bytes(trail.path()), b"Hunter2"));
}

#[test]
fn text_that_hides_a_password_is_withheld_as_a_whole() {
    let trail = Trail::new();
    let mut session = trail.begin(1, &Audit::default());
    let recorded = session.statement(b"ALTER ROLE a PASSWORD 'Hunter2", &[]);
    assert_eq!(recorded.text.form(), TextForm::Withheld);
    assert_eq!((recorded.text.shown(), recorded.text.full_bytes()), (&b""[..], 30));
    assert_eq!(recorded.shown.text_commitment, None);
}

#[test]
fn numbers_named_by_a_rule_are_stored_nowhere() {
    let trail = Trail::new();
    let mut session = trail.begin(1, &never(&[2]));
    let parameters = [text_parameter(b"4111"), text_parameter(b"737")];
    let bound = session.statement(b"INSERT INTO c VALUES ($1, $2)", &parameters);
    assert_eq!(bound.values()[1], ShownValue::Never(Never::Rule));
    assert!(contains(&all_bytes(&trail, &bound), b"4111"));
    assert!(!contains(&all_bytes(&trail, &bound), b"737"));
    // The same by the simple protocol: nobody can tell which literal it is.
    let simple = session.statement(b"INSERT INTO c VALUES ('4111', '737')", &[]);
    assert!(!contains(&all_bytes(&trail, &simple), b"737"));
    assert_eq!(simple.text.shown(), b"INSERT INTO c VALUES ($1, $2)");
}

#[test]
fn a_number_of_four_digits_cannot_be_tried() {
    // 10,000 values are tried in no time. What stands between is the secret: 32 random bytes for
    // each record, in no place but the sealed payload.
    let trail = Trail::new();
    let mut session = trail.begin(1, &Audit::default());
    let (mut commitments, mut secrets) = (HashSet::new(), HashSet::new());
    for _ in 0..200 {
        let recorded = session.statement(b"SELECT '1234', $1", &[text_parameter(b"1234")]);
        let ShownValue::Committed { commitment, beside: true } = recorded.values()[0] else {
            panic!("not committed");
        };
        assert!(commitments.insert(commitment));
        assert!(commitments.insert(recorded.shown.text_commitment.expect("committed")));
        let parsed = payload::Parsed::read(&recorded.shown.payload).expect("payload");
        let keys = trail.keys();
        let found = keys.find(keyring::Owner::Session(session.id), Day(0)).expect("read");
        let keyring::Answer::Keys(found) = found else { panic!("no key") };
        let opened = parsed.open(&found[0], recorded.seq).ok().flatten().expect("opens");
        assert!(opened.secret.bytes().iter().any(|&byte| byte != 0));
        assert!(secrets.insert(*opened.secret.bytes()));
        assert!(!contains(&recorded.shown.payload, opened.secret.bytes()));
        assert!(!contains(&recorded.shown.payload, b"1234"));
    }
}

#[test]
fn no_nonce_comes_twice_with_a_key() {
    let trail = Trail::new();
    let rule = AuditRule { subject: Some(1), ..AuditRule::default() };
    let mut session = trail.begin(1, &audit(ValueMode::Sealed, &[rule]));
    let mut nonces = HashSet::new();
    for n in 0..50 {
        let person = [b'0' + n % 3];
        // The same number of a record twice, as after a record that was not taken.
        session.seq = u64::from(n / 2);
        let recorded = session.statement(b"SELECT $1", &[text_parameter(&person)]);
        let mut reader = cbor::Reader(&recorded.shown.payload);
        assert_eq!((reader.map(), reader.uint(), reader.uint()), (Some(5), Some(0), Some(2)));
        reader.uint().and_then(|_| reader.bytes()).expect("session");
        reader.uint().and_then(|_| reader.bytes()).expect("subject");
        let nonce = reader.uint().and_then(|_| reader.array::<12>()).expect("nonce");
        assert!(nonces.insert(nonce));
    }
}

#[test]
fn equal_values_have_equal_hashes_on_one_day_and_nothing_is_beside() {
    let trail = Trail::new();
    let audit = audit(ValueMode::Hash, &[]);
    let (mut one, mut other) = (trail.begin(1, &audit), trail.begin(2, &audit));
    let first = one.statement(b"SELECT $1, 'x'", &[text_parameter(b"4111")]);
    let second = other.statement(b"SELECT $1, 'x'", &[text_parameter(b"4111")]);
    assert_eq!(first.values(), second.values());
    assert_eq!(first.shown.text_hash, second.shown.text_hash);
    assert!(first.shown.text_hash.is_some() && first.shown.payload.is_empty());
    let ShownValue::Hash(hash) = first.values()[0] else { panic!("no hash") };
    let hashes = trail.keys().hashes(b"4111").expect("read");
    assert!(hashes.iter().any(|(_, of_day)| *of_day == hash), "a search finds it");
    let elsewhere = Trail::new().begin(1, &audit).statement(b"", &[text_parameter(b"4111")]);
    assert!(elsewhere.values()[0] != first.values()[0], "keyed");
}

#[test]
fn debug_shows_no_value() {
    let trail = Trail::new();
    let mut session = trail.begin(1, &Audit::default());
    let recorded = session.statement(b"SELECT secret_column, 'x'", &[text_parameter(b"4111")]);
    let disclosed = recorded.disclose(&trail.keys()).expect("disclosed");
    let scope = Scope::Subject(b"secret_column".to_vec().into());
    let all = format!("{:?} {:?} {disclosed:?} {scope:?}", recorded.text, recorded.shown);
    assert!(!all.contains("secret_column") && !all.contains("4111"), "{all}");
}
