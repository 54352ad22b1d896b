//! What goes in comes out, at all sizes; what was changed on the way does not.

use proptest::prelude::*;

use super::*;

#[test]
fn texts_and_parameters_come_back_at_all_sizes() {
    let trail = Trail::new();
    let keys = trail.keys();
    const KIB: usize = 1024;
    let sizes = [0, 1, 23, 24, 255, 256, 4 * KIB, 4 * KIB + 1]
        .into_iter()
        .chain([16, 64, 1024].into_iter().flat_map(|k| [k * KIB - 1, k * KIB, k * KIB + 1]));
    for (counter, size) in (1..).zip(sizes) {
        // NUL bytes, and bytes that are no UTF-8.
        let value: Vec<u8> = (0..size).map(|at| (at * 7) as u8).collect();
        let text = [b"SELECT '", &vec![b'x'; size][..], b"', $1, $2"].concat();
        for mode in [ValueMode::Sealed, ValueMode::Clear] {
            let mut session = trail.begin(counter, &audit(mode, &[]));
            let recorded = session.statement(&text, &[text_parameter(&value), NULL]);
            assert!(recorded.text.shown().len() <= TEXT_INLINE_MAX);
            assert_eq!(recorded.text.full_bytes(), text.len() as u64);
            assert_eq!(recorded.values()[1], ShownValue::Null);
            let in_record = recorded.values()[0] == ShownValue::Clear;
            assert_eq!(in_record, mode == ValueMode::Clear && size <= PARAMETER_INLINE_MAX);
            let text_in_record = mode == ValueMode::Clear && text.len() <= TEXT_INLINE_MAX;
            if in_record && text_in_record {
                assert_eq!(recorded.shown.beside, None);
                assert_eq!(recorded.text.shown(), text);
                continue;
            }
            let disclosed = recorded.disclose(&keys).expect("disclosed");
            assert_eq!(disclosed.text, (!text_in_record).then(|| text.clone()), "{size}");
            let parameters = if in_record { vec![] } else { vec![(0, Some(value.clone()))] };
            assert!(disclosed.parameters == parameters, "{mode:?} {size}");
        }
    }
}

#[test]
fn a_statement_without_literals_is_shown_as_it_is() {
    let trail = Trail::new();
    let mut session = trail.begin(1, &Audit::default());
    let recorded = session.statement(b"SELECT a FROM b WHERE c = $1", &[]);
    assert_eq!(recorded.text.form(), TextForm::Exact);
    assert_eq!(recorded.text.shown(), b"SELECT a FROM b WHERE c = $1");
    assert!(!recorded.text.has_more() && recorded.shown.payload.is_empty());
    assert_eq!(recorded.shown.beside, None);
}

#[test]
fn texts_that_are_shown_alike_have_one_key() {
    let trail = Trail::new();
    let session = trail.begin(1, &Audit::default());
    let key =
        |text: Excerpt<'_>| *session.values.text(text, Encoding::Safe, Strings::Standard).key();
    let whole = |text: &'static str| key(Excerpt::whole(text.as_bytes()));
    assert_eq!(whole("SELECT 'a'"), whole("SELECT 'bcd'"));
    assert!(whole("SELECT 'a'") != whole("SELECT  'a'"));
    assert!(whole("SELECT 'a'") != whole("SELECT $1"), "exact, and normalised");
    assert!(key(Excerpt::beginning(b"SELECT $1", 99)) != whole("SELECT $1"), "cut, and whole");
}

#[test]
fn many_parameters_are_committed_together() {
    let trail = Trail::new();
    let mut session = trail.begin(1, &Audit::default());
    let values: Vec<Vec<u8>> = (0..1000_u32).map(|n| n.to_string().into_bytes()).collect();
    let mut parameters: Vec<_> = values.iter().map(|value| text_parameter(value)).collect();
    parameters[500] = NULL;
    let recorded = session.statement(b"INSERT", &parameters);
    assert_eq!(recorded.shown.parameters.len(), PARAMETERS_LISTED_MAX);
    let unlisted = recorded.shown.unlisted.expect("some are not listed");
    assert_eq!((unlisted.count, unlisted.left_out), (936, 0));
    let disclosed = recorded.disclose(&trail.keys()).expect("disclosed");
    let expected = parameters.iter().map(|p| p.value.map(|value| value.kept.to_vec()));
    assert!(disclosed.parameters.into_iter().map(|(_, value)| value).eq(expected));
}

#[test]
fn more_parameters_than_the_wire_has_are_counted() {
    let trail = Trail::new();
    let mut session = trail.begin(1, &Audit::default());
    let parameters = vec![text_parameter(b"x"); 65_540];
    let recorded = session.statement(b"INSERT", &parameters);
    let unlisted = recorded.shown.unlisted.expect("some are not listed");
    assert_eq!((unlisted.count, unlisted.left_out), (65_540 - 64, 5));
    let disclosed = recorded.disclose(&trail.keys()).expect("disclosed");
    assert_eq!(disclosed.parameters.last(), Some(&(65_534, Some(b"x".to_vec()))));
}

#[test]
fn what_there_is_no_room_for_is_committed_to_and_marked() {
    let trail = Trail::new();
    let mut session = trail.begin(1, &Audit::default());
    let large = vec![b'x'; 9 << 20];
    let recorded = session.statement(b"INSERT", &[text_parameter(&large), text_parameter(&large)]);
    assert!(recorded.shown.payload.len() <= (16 << 20) + (64 << 10));
    let second = recorded.shown.parameters[1];
    assert!(matches!(second.value, ShownValue::Committed { beside: false, .. }));
    assert_eq!(second.cut_of, Some(9 << 20));
    let disclosed = recorded.disclose(&trail.keys()).expect("disclosed");
    assert_eq!(disclosed.parameters.len(), 1);
}

#[test]
fn values_in_clear_leave_room_in_the_record() {
    let trail = Trail::new();
    let mut session = trail.begin(1, &audit(ValueMode::Clear, &[]));
    let value = [b'x'; PARAMETER_INLINE_MAX];
    let recorded = session.statement(b"INSERT", &[text_parameter(&value); 5]);
    let clear = recorded.values().iter().filter(|v| **v == ShownValue::Clear).count();
    assert_eq!(clear, PARAMETERS_INLINE_MAX / PARAMETER_INLINE_MAX);
    assert_eq!(recorded.shown.beside, Some(Held::Clear));
    assert_eq!(recorded.shown.parameters[4].cut_of, Some(PARAMETER_INLINE_MAX as u64));
}

#[test]
fn cuts_keep_the_full_length() {
    let trail = Trail::new();
    for (counter, mode) in (1..).zip([ValueMode::Sealed, ValueMode::Clear, ValueMode::Hash]) {
        let mut session = trail.begin(counter, &audit(mode, &[]));
        let value = Some(Excerpt::beginning(b"begin", u64::MAX));
        let cut = Parameter { format: 1, type_oid: 17, value };
        let recorded = session.statement(b"INSERT", &[cut]);
        assert_eq!(recorded.shown.parameters[0].cut_of, Some(u64::MAX), "{mode:?}");
    }
}

#[test]
fn changed_payloads_are_refused() {
    let trail = Trail::new();
    let keys = trail.keys();
    let long = [b'v'; PARAMETER_INLINE_MAX + 1];
    for (counter, mode) in [(1, ValueMode::Sealed), (2, ValueMode::Clear)] {
        let mut session = trail.begin(counter, &audit(mode, &[]));
        let recorded = session.statement(b"SELECT $1", &[text_parameter(&long)]);
        let payload = &recorded.shown.payload;
        assert!(recorded.disclose(&keys).is_ok());
        for cut in (0..payload.len()).step_by(7).chain([payload.len() - 1]) {
            assert!(recorded.disclose_payload(&keys, &payload[..cut]).is_err(), "{mode:?} {cut}");
        }
        for at in (0..payload.len()).step_by(13).chain(0..100) {
            let mut changed = payload.clone();
            changed[at] ^= 0x10;
            assert!(recorded.disclose_payload(&keys, &changed).is_err(), "{mode:?} {at}");
        }
        let longer = [&payload[..], b"x"].concat();
        assert!(recorded.disclose_payload(&keys, &longer).is_err());
    }
}

#[test]
fn a_payload_opens_beside_its_own_record_only() {
    let trail = Trail::new();
    let (keys, audit) = (trail.keys(), Audit::default());
    let (mut one, mut other) = (trail.begin(1, &audit), trail.begin(2, &audit));
    let first = one.statement(b"SELECT $1", &[text_parameter(b"x")]);
    let second = one.statement(b"SELECT $1", &[text_parameter(b"x")]);
    let foreign = other.statement(b"SELECT $1", &[text_parameter(b"x")]);
    let of = |payload: &Recorded| first.disclose_payload(&keys, &payload.shown.payload);
    assert!(of(&first).is_ok());
    assert!(matches!(of(&second), Err(DiscloseError::Changed)));
    assert!(matches!(of(&foreign), Err(DiscloseError::OtherRecord)));
}

#[test]
fn values_that_the_record_is_not_about_are_refused() {
    let trail = Trail::new();
    let mut session = trail.begin(1, &Audit::default());
    let text = b"SELECT 'x', $1";
    let parameters = vec![text_parameter(b"y"); 70];
    let take = |recorded: &Recorded| recorded.disclose(&trail.keys());
    let mut recorded = session.statement(text, &parameters);
    recorded.shown.text_commitment = Some([0; 32]);
    assert!(matches!(take(&recorded), Err(DiscloseError::Mismatch(Value::Text))));
    let mut recorded = session.statement(text, &parameters);
    recorded.shown.parameters.swap(3, 4);
    assert!(matches!(take(&recorded), Err(DiscloseError::Mismatch(Value::Parameter(3)))));
    let mut recorded = session.statement(text, &parameters);
    recorded.shown.unlisted = None;
    assert!(matches!(take(&recorded), Err(DiscloseError::Mismatch(Value::Unlisted))));
}

#[test]
fn another_hosts_key_opens_nothing() {
    let (trail, other) = (Trail::new(), Trail::new());
    let mut session = trail.begin(1, &Audit::default());
    let recorded = session.statement(b"SELECT $1", &[text_parameter(b"x")]);
    let missing = recorded.disclose(&other.keys());
    assert!(matches!(missing, Err(DiscloseError::NoKey(KeyOf::Session))));
    std::fs::copy(other.path().join("host.key"), trail.path().join("host.key")).expect("copied");
    let wrong = recorded.disclose(&trail.keys());
    assert!(matches!(wrong, Err(DiscloseError::NoKey(KeyOf::Session))));
}

proptest! {
    #[test]
    fn any_bytes_are_taken_apart_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        content in proptest::collection::vec(0_u8..6, 0..40),
    ) {
        prop_assert!(payload::Parsed::read(&bytes).is_none_or(|parsed| parsed.in_clear().is_none()));
        // A payload in clear whose content begins well.
        let mut inner = vec![0xa0 | content.first().copied().unwrap_or(1), 0, 0x58, 32];
        inner.extend_from_slice(&[7; 32]);
        inner.extend(content.iter().map(|byte| [0x01, 0x02, 0x40, 0x41, 0xa1, 0xf6][*byte as usize]));
        let mut payload = vec![0xa3, 0, 0, 1, 0x50];
        payload.extend_from_slice(&[9; 16]);
        cbor::uint(4, &mut payload);
        cbor::bytes(&inner, &mut payload);
        let parsed = payload::Parsed::read(&payload).expect("a payload in clear");
        if let Some(opened) = parsed.in_clear() {
            // What is read is written the same.
            let mut pairs = Vec::new();
            for (ordinal, value) in &opened.parameters {
                payload::pair(*ordinal, value.as_deref(), &mut pairs);
            }
            let written = payload::Content {
                secret: &opened.secret,
                text: opened.text.as_deref(),
                pairs: &pairs,
                pairs_count: opened.parameters.len(),
            };
            let again = payload::clear(&[9; 16], &written);
            prop_assert!(again == payload || (pairs.is_empty() && again.len() < payload.len()));
        }
    }
}
