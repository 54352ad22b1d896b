use super::*;

/// The least that an entry has: version, event, salt, time.
fn entry(extra: impl FnOnce(&mut Writer), fields: usize) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.map(4 + fields).uint(0).uint(1).uint(1).uint(6).uint(2).bytes(&[7; 16]);
    writer.uint(3).uint(1_700_000_000_000_000_000);
    extra(&mut writer);
    writer.into_bytes()
}

/// Decodes an entry with field 300 (unknown) written as given.
fn with_field(value: &[u8]) -> Result<(), Malformed> {
    let mut bytes = entry(|_| {}, 0);
    bytes[0] += 1;
    bytes.extend_from_slice(&[0x19, 0x01, 0x2c]);
    bytes.extend_from_slice(value);
    Entry::decode(&bytes).map(drop)
}

#[test]
fn reads_known_fields_and_keeps_unknown_ones() {
    let bytes = entry(
        |writer| {
            writer.uint(6).bytes(&[9; 16]).uint(7).uint(3).uint(10).text("select 1");
            writer.uint(70_000).array(2).uint(1).map(1).uint(4).text("ü");
        },
        4,
    );
    let entry = Entry::decode(&bytes).expect("canonical");
    assert_eq!((entry.version(), entry.event(), entry.seq()), (1, 6, Some(3)));
    assert_eq!((entry.session(), entry.salt()), (Some(&[9; 16]), &[7; 16]));
    assert_eq!(entry.text(10), Some("select 1"));
    assert_eq!((entry.boot_ns(), entry.get(8)), (None, None));
    let numbers: Vec<u64> = entry.fields().map(|(number, _)| number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 6, 7, 10, 70_000]);
    let Some(Value::Array(items)) = entry.get(70_000) else { panic!("an array") };
    let items: Vec<_> = items.iter().collect();
    assert_eq!(items[0], Value::Uint(1));
    let Value::Map(map) = items[1] else { panic!("a map") };
    assert_eq!(map.get(4), Some(Value::Text("ü")));
}

#[test]
fn refuses_each_spelling_that_is_not_canonical() {
    let cases: &[(&[u8], Fault)] = &[
        (&[0x18, 0x17], Fault::LongHead),
        (&[0x19, 0x00, 0xff], Fault::LongHead),
        (&[0x1a, 0, 0, 0xff, 0xff], Fault::LongHead),
        (&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], Fault::LongHead),
        (&[0x58, 0x01, 0], Fault::LongHead),
        (&[0x20], Fault::Negative),
        (&[0xc0, 0], Fault::Tag),
        (&[0xf7], Fault::Simple),
        (&[0xf8, 0xf4], Fault::Simple),
        (&[0xf9, 0, 0], Fault::Simple),
        (&[0xfb, 0, 0, 0, 0, 0, 0, 0, 0], Fault::Simple),
        (&[0x1c], Fault::Simple),
        (&[0x5f, 0xff], Fault::Indefinite),
        (&[0x9f, 0xff], Fault::Indefinite),
        (&[0xbf, 0xff], Fault::Indefinite),
        (&[0x42, 0], Fault::Truncated),
        (&[0x19, 0], Fault::Truncated),
        (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Fault::Truncated),
        (&[0x61, 0xff], Fault::NotUtf8),
        (&[0xa2, 2, 0, 1, 0], Fault::KeyOrder),
        (&[0xa2, 2, 0, 2, 0], Fault::KeyTwice),
        (&[0xa1, 0x61, b'a', 0], Fault::KeyType),
        (&[0, 0], Fault::Trailing),
    ];
    for (value, expected) in cases {
        let found = with_field(value).expect_err("not canonical");
        assert_eq!(found.what, *expected, "{value:02x?}");
    }
    for good in [&[0x18, 0x18][..], &[0xf4], &[0xf6], &[0x60], &[0x80], &[0xa0], &[0x40]] {
        with_field(good).expect("canonical");
    }
}

#[test]
fn refuses_unsorted_and_doubled_fields_of_the_entry() {
    let unsorted = entry(
        |writer| {
            writer.uint(9).uint(0).uint(8).uint(0);
        },
        2,
    );
    assert_eq!(Entry::decode(&unsorted).expect_err("unsorted").what, Fault::KeyOrder);
    let doubled = entry(
        |writer| {
            writer.uint(9).uint(0).uint(9).uint(0);
        },
        2,
    );
    assert_eq!(Entry::decode(&doubled).expect_err("doubled").what, Fault::KeyTwice);
}

#[test]
fn bounds_nesting_and_names_the_byte() {
    let nested = |levels: usize| {
        let mut value = vec![0x81; levels];
        value.push(0);
        with_field(&value)
    };
    nested(DEPTH_MAX - 1).expect("within the bound");
    assert_eq!(nested(DEPTH_MAX + 1).expect_err("too deep").what, Fault::Deep);
    assert_eq!(nested(60_000).expect_err("too deep").what, Fault::Deep);
}

#[test]
fn every_prefix_is_refused_and_no_field_may_be_missing() {
    let bytes = entry(
        |writer| {
            writer.uint(10).text("select");
        },
        1,
    );
    for end in 0..bytes.len() {
        assert!(Entry::decode(&bytes[..end]).is_err(), "prefix of {end}");
    }
    let mut writer = Writer::default();
    writer.map(1).uint(0).uint(1);
    let found = Entry::decode(&writer.into_bytes()).expect_err("no event");
    assert_eq!(found.what, Fault::Missing(1));
    let wrong = Entry::decode(&[0xa1, 0, 0x60]).expect_err("text as version");
    assert_eq!(wrong.what, Fault::FieldType(0));
    assert_eq!(Entry::decode(&[0x80]).expect_err("an array").what, Fault::NotMap);
}

#[test]
fn every_flipped_bit_changes_the_value_or_is_refused() {
    let bytes = entry(
        |writer| {
            writer.uint(10).text("select").uint(16).uint(300);
        },
        2,
    );
    let seen = |bytes: &[u8]| {
        Entry::decode(bytes).map(|entry| format!("{:?}", entry.fields().collect::<Vec<_>>()))
    };
    let original = seen(&bytes).expect("canonical");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(found) = seen(&flipped) {
            assert_ne!(found, original, "bit {bit}");
        }
    }
}

proptest::proptest! {
    /// What decodes is what an independent encoder writes for the same values.
    #[test]
    fn what_decodes_is_written_the_same_by_another_encoder(bytes: Vec<u8>) {
        if let Ok(map) = Map::decode(&bytes) {
            let mut again = minicbor::Encoder::new(Vec::new());
            encode(&mut again, Value::Map(map));
            proptest::prop_assert_eq!(again.into_writer(), bytes);
        }
    }

    #[test]
    fn maps_written_by_another_encoder_are_read(
        fields in proptest::collection::btree_map(
            proptest::num::u64::ANY,
            (proptest::num::u64::ANY, ".{0,40}"),
            0..20,
        )
    ) {
        let mut encoder = minicbor::Encoder::new(Vec::new());
        encoder.map(fields.len() as u64).expect("memory");
        for (key, (number, text)) in &fields {
            encoder.u64(*key).and_then(|e| e.array(2)).and_then(|e| e.u64(*number))
                .and_then(|e| e.str(text)).expect("memory");
        }
        let bytes = encoder.into_writer();
        let map = Map::decode(&bytes).expect("canonical");
        proptest::prop_assert_eq!(map.iter().map(|(key, _)| key).collect::<Vec<_>>(),
            fields.keys().copied().collect::<Vec<_>>());
    }
}

fn encode(to: &mut minicbor::Encoder<Vec<u8>>, value: Value<'_>) {
    match value {
        Value::Uint(value) => drop(to.u64(value).map(|_| ())),
        Value::Bytes(value) => drop(to.bytes(value).map(|_| ())),
        Value::Text(value) => drop(to.str(value).map(|_| ())),
        Value::Bool(value) => drop(to.bool(value).map(|_| ())),
        Value::Null => drop(to.null().map(|_| ())),
        Value::Array(array) => {
            drop(to.array(array.len()).map(|_| ()));
            array.iter().for_each(|value| encode(to, value));
        }
        Value::Map(map) => {
            drop(to.map(map.len()).map(|_| ()));
            for (key, value) in map.iter() {
                drop(to.u64(key).map(|_| ()));
                encode(to, value);
            }
        }
    }
}
