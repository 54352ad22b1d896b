//! Every kind of record, read back.

use std::collections::BTreeSet;

use pgward_verify::cbor;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::samples::*;
use super::schema::{ENTRY, EventKind, Field, Kind};
use super::*;

/// An entry as JSON.
fn shown(entry: &[u8]) -> Json {
    Json::Object(view::object(entry).expect("an entry"))
}

/// A record of the session as JSON.
fn read<'r>(record: impl Into<Record<'r>>) -> Json {
    shown(&entry(&stamp(3), record))
}

/// The first sample of a kind.
fn sample(samples: &[Sample], kind: EventKind) -> Json {
    let found = samples.iter().find(|sample| sample.kind == kind);
    shown(&found.expect("every kind has one").entry)
}

#[test]
fn a_small_outcome_is_these_bytes() {
    let entry = entry(&stamp(3), &done(Of::Intent(2, None)));
    let expected = [
        "b0",                                    // a map of 16
        "0001 0107",                             // v 1, event 7
        "0250 07070707070707070707070707070707", // salt
        "031b 18988e8f2f94362a",                 // time
        "04184d 0503",                           // boot_ns 77, clock 3
        "0650 feed000000000001000000000000002a", // session
        "0703",                                  // seq 3
        "0d00 0f48 53454c4543542031 1001 110b",  // outcome, tag, rows 1, row_bytes 11
        "1202 131864 14185a 1500",               // intent 2, duration 100, first 90, transaction
    ];
    assert_eq!(hex::encode(&entry), expected.concat().replace(' ', ""));
}

#[test]
fn an_entry_is_canonical_whatever_is_in_it() {
    for samples in [full(), minimal()] {
        for sample in samples {
            let name = sample.kind.name();
            let read = cbor::Entry::decode(&sample.entry);
            let read = read.unwrap_or_else(|fault| panic!("{name}: {fault}"));
            assert_eq!(read.event(), sample.kind.number());
            assert_eq!(read.salt(), &[7; SALT_BYTES]);
            assert_eq!(read.time_ns(), NOW.wall.0);
            assert_eq!(view::kind(&sample.entry), Some(sample.kind));
        }
    }
}

#[test]
fn every_kind_has_samples() {
    let all: BTreeSet<EventKind> = EventKind::ALL.iter().copied().collect();
    for samples in [full(), minimal()] {
        let kinds: BTreeSet<EventKind> = samples.iter().map(|sample| sample.kind).collect();
        assert_eq!(kinds, all);
    }
}

/// What the table says of an event and no code writes yet. Each is here with what will write it.
const UNWRITTEN: &[(&str, &str, &str)] = &[("outcome", "masked", "the policy masks columns")];

/// Events and the fields that they were seen with.
fn written() -> BTreeSet<(String, String)> {
    let mut written = BTreeSet::new();
    for sample in full().into_iter().chain(minimal()) {
        let map = cbor::Map::decode(&sample.entry).expect("canonical");
        for (number, _) in map.iter() {
            let field = schema::by_number(ENTRY, number).expect("in the table");
            written.insert((sample.kind.name().to_owned(), field.name.to_owned()));
        }
    }
    written
}

#[test]
fn the_table_of_fields_is_the_code() {
    let mut promised = BTreeSet::new();
    for field in ENTRY {
        for event in EventKind::ALL {
            let in_a_session = ["session", "seq"].contains(&field.name);
            let all = field.events == "all" && (field.name != "clock" || is_of_session(*event));
            if all || field.events.split(' ').any(|name| name == event.name()) {
                assert!(!in_a_session || is_of_session(*event), "{}", event.name());
                promised.insert((event.name().to_owned(), field.name.to_owned()));
            }
        }
    }
    for (event, field, _) in UNWRITTEN {
        let pair = ((*event).to_owned(), (*field).to_owned());
        assert!(promised.remove(&pair), "`{field}` of `{event}` is not in the table");
    }
    let written = written();
    let missing: Vec<_> = promised.difference(&written).collect();
    let unknown: Vec<_> = written.difference(&promised).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:?}, unknown {unknown:?}");
}

/// Samples of these are made with a stamp of the session, and name a state of the clock.
fn is_of_session(event: EventKind) -> bool {
    full().iter().any(|sample| sample.kind == event && shown(&sample.entry)["seq"] == 3)
}

#[test]
fn the_tables_of_objects_are_the_code() {
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for sample in full() {
        let map = cbor::Map::decode(&sample.entry).expect("canonical");
        for (number, value) in map.iter() {
            let field = schema::by_number(ENTRY, number).expect("in the table");
            let maps = match (field.kind, value) {
                (Kind::Object(table), cbor::Value::Map(map)) => vec![(table, map)],
                (Kind::Objects(table), cbor::Value::Array(list)) => {
                    let map = |value| match value {
                        cbor::Value::Map(map) => (table, map),
                        other => panic!("`{}` has {other:?}", field.name),
                    };
                    list.iter().map(map).collect()
                }
                _ => continue,
            };
            for (table, map) in maps {
                for (number, _) in map.iter() {
                    let inner = schema::by_number(table, number).expect("in the table");
                    seen.insert((field.name, inner.name));
                }
            }
        }
    }
    // An identity is encoded from what attribution serialises, and tested there.
    let promised = ENTRY.iter().filter(|field| field.name != "actor");
    let promised: BTreeSet<(&str, &str)> = promised
        .flat_map(|field| match field.kind {
            Kind::Object(table) | Kind::Objects(table) => names(field, table),
            Kind::Uint
            | Kind::Uints
            | Kind::Flag
            | Kind::Text
            | Kind::Texts
            | Kind::Peer
            | Kind::Value
            | Kind::Hex
            | Kind::Wall
            | Kind::Word(_)
            | Kind::Words(_)
            | Kind::Pairs => Vec::new(),
        })
        .collect();
    seen.retain(|(field, _)| *field != "actor");
    assert_eq!(seen, promised);
}

fn names(field: &Field, table: &'static [Field]) -> Vec<(&'static str, &'static str)> {
    let of = schema::by_number(ENTRY, field.number.into()).expect("in the table").name;
    table.iter().map(|inner| (of, inner.name)).collect()
}

#[test]
fn records_of_sessions_come_back_as_given() {
    let full = full();
    let start = sample(&full, EventKind::SessionStart);
    assert_eq!(start["time"], "2026-02-28T23:59:59.000000042Z");
    assert_eq!(
        (&start["v"], &start["boot_ns"], &start["clock"]),
        (&json!(1), &json!(77), &json!(3))
    );
    assert_eq!(start["session"], ID.to_string());
    assert_eq!(start["destination"], "10.0.0.5:5432");
    assert_eq!(start["source"], "[fd00::9]:40000");
    assert_eq!((&start["protocol"], &start["audit_mode"]), (&json!("3.0"), &json!("default")));
    assert_eq!((&start["tier"], &start["confidence"]), (&json!("T2"), &json!("exact")));
    assert_eq!(start["connect"], 12);
    assert_eq!(
        (&start["actor"]["pid"], &start["actor"]["exe"]),
        (&json!(7), &json!("/usr/bin/psql"))
    );
    let login = sample(&full, EventKind::Authentication);
    assert_eq!((&login["handshake"], &login["login"]), (&json!("mapped"), &json!("svc")));
    assert_eq!(
        (&login["bound"], &login["backend_pid"]),
        (&json!(["client", "server"]), &json!(11))
    );
    assert_eq!((&login["sqlstate"], &login["protocol"]), (&json!("28P01"), &json!("3.2")));
    let cancel = sample(&full, EventKind::Cancel);
    assert_eq!(cancel["target_session"], ID.to_string());
    assert_eq!(cancel["cancel_outcome"], "forwarded");
    let end = sample(&full, EventKind::SessionEnd);
    assert_eq!((&end["reason"], &end["entries"]), (&json!("server_closed"), &json!(4)));
    assert_eq!(end["digest"], hex::encode([1; 32]));
}

#[test]
fn records_of_statements_come_back_as_given() {
    let full = full();
    let text = sample(&full, EventKind::Statement);
    assert_eq!((&text["text"], &text["text_encoding"]), (&json!("/2E="), &json!("base64")));
    assert_eq!((&text["text_bytes"], &text["text_hash"]), (&json!(4), &json!("03".repeat(32))));
    assert_eq!(text["text_commitment"], hex::encode([4; 32]));
    assert_eq!((&text["text_never"], &text["values"]), (&json!("secret"), &json!("session")));
    assert_eq!(text["values_sha256"], hex::encode([5; 32]));
    let intent = sample(&full, EventKind::Intent);
    assert_eq!((&intent["writer_ref"], &intent["tier"]), (&json!(2), &json!("T1")));
    assert_eq!(intent["shared_with"], json!((2..2 + WRITERS_MAX).collect::<Vec<_>>()));
    assert_eq!((&intent["shared_with_more"], &intent["params_more"]), (&json!(1), &json!(5)));
    assert_eq!(
        (&intent["kind"], &intent["text_state"]),
        (&json!("function_call"), &json!("malformed"))
    );
    assert_eq!(
        (&intent["params_left_out"], &intent["params_commitment"]),
        (&json!(2), &json!("06".repeat(32)))
    );
    let denied = sample(&full, EventKind::Denied);
    assert_eq!(
        (&denied["rules"], &denied["sqlstate"]),
        (&json!(["first", "second"]), &json!("42501"))
    );
    let outcome = sample(&full, EventKind::Outcome);
    assert_eq!((&outcome["outcome"], &outcome["sqlstate"]), (&json!("failed"), &json!("42601")));
    assert_eq!(outcome["copy_in"], json!({"bytes": 5, "rows": 1}));
    assert_eq!(
        (&outcome["results_more"], &outcome["commit_sqlstate"]),
        (&json!(1), &json!("40001"))
    );
}

#[test]
fn records_of_the_agent_come_back_as_given() {
    let full = full();
    let start = sample(&full, EventKind::AgentStart);
    assert_eq!((&start["tiers"], &start["memory_locked"]), (&json!(["T0", "T2"]), &json!(true)));
    let lost = sample(&full, EventKind::EventsLost);
    assert_eq!((&lost["lost"], &lost["count"]), (&json!("writer_events"), &json!(2)));
    assert_eq!(lost["since"], "2026-02-28T23:59:59.000000042Z");
    let coverage = sample(&full, EventKind::Coverage);
    assert_eq!(coverage["failures"], json!([{"name": "no_socket", "count": 2}]));
    assert_eq!(coverage["refusals"], json!([{"name": "no_identity", "count": 1}]));
    let clock = sample(&full, EventKind::Clock);
    assert_eq!((&clock["offset_ns"], &clock["offset_back"]), (&json!(5), &json!(true)));
    assert_eq!((&clock["step_ns"], &clock["step_back"]), (&json!(8), &json!(true)));
    assert_eq!((&clock["step_before"], &clock["reason"]), (&clock["time"], &json!("step")));
    let seal = sample(&full, EventKind::Seal);
    assert_eq!((&seal["seal_kind"], &seal["seal_size"]), (&json!("restart"), &json!(2)));
    assert_eq!(seal["seal_signature"], hex::encode([3; 64]));
    let recovery = sample(&full, EventKind::Recovery);
    assert_eq!((&recovery["reason"], &recovery["bytes"]), (&json!("torn_tail"), &json!(9)));
    let hold = sample(&full, EventKind::Hold);
    assert_eq!((&hold["hold"], &hold["by_uid"]), (&json!("n"), &json!(0)));
    let kill = sample(&full, EventKind::Kill);
    assert_eq!((&kill["action"], &kill["sessions"]), (&json!("terminate"), &json!(2)));
    assert_eq!(
        (&kill["scope"], &kill["target"]),
        (&json!("exe,role"), &json!("/usr/bin/psql,app"))
    );
    let grant = sample(&full, EventKind::Grant);
    assert_eq!((&grant["grant"], &grant["role"]), (&json!("g"), &json!("support")));
    assert_eq!((&grant["until"], &grant["approver"]), (&grant["time"], &json!("a")));
}

#[test]
fn what_is_not_known_is_left_out() {
    let minimal = minimal();
    let keys = |kind| -> BTreeSet<String> {
        let value = sample(&minimal, kind);
        value.as_object().expect("an object").keys().cloned().collect()
    };
    let of_all = ["v", "event", "salt", "time", "boot_ns"];
    let of_session = ["clock", "session", "seq"];
    let expect = |kind, own: &[&str], in_session: bool| {
        let mut expected: BTreeSet<String> = of_all.iter().map(|n| (*n).to_owned()).collect();
        expected.extend(of_session.iter().filter(|_| in_session).map(|n| (*n).to_owned()));
        expected.extend(own.iter().map(|n| (*n).to_owned()));
        assert_eq!(keys(kind), expected, "{}", kind.name());
    };
    expect(EventKind::Intent, &["kind", "tier"], true);
    expect(EventKind::Statement, &["kind"], true);
    expect(EventKind::Outcome, &["outcome", "rows", "row_bytes", "intent", "duration_us"], true);
    expect(EventKind::Refused, &["reason", "count"], false);
    expect(EventKind::Kill, &["sessions", "by_uid", "action", "scope", "target"], false);
    expect(EventKind::Grant, &["reason", "by_uid", "action", "target", "grant", "role"], false);
    expect(EventKind::Recovery, &["boot_id", "reason", "last_size", "last_root"], false);
}

#[test]
fn session_numbers_have_no_gaps_and_agent_records_none() {
    let ids = SessionIds::new(ID.epoch);
    assert_eq!((ids.next().counter, ids.next().counter), (1, 2));
    let mut seq = SessionSeq::new(ID);
    assert_eq!(seq.stamp(NOW).session, Some((ID, 0)));
    assert_eq!(seq.stamp(NOW).session, Some((ID, 0)), "the first was not recorded");
    for number in 0..3 {
        assert_eq!(seq.stamp(NOW).session, Some((ID, number)));
        seq.recorded(&[0; 32]);
    }
    assert_eq!(ID.to_string(), "feed000000000001000000000000002a");
    assert_eq!(Stamp::agent(NOW).session, None);
}

#[test]
fn the_summary_of_a_session_is_over_the_leaves_before_it() {
    let mut seq = SessionSeq::new(ID);
    assert_eq!(seq.summary(), (1, pgward_verify::merkle::sha256(b"")));
    let leaves = [[1; 32], [2; 32], [3; 32]];
    for leaf in &leaves {
        seq.recorded(leaf);
    }
    let digest = pgward_verify::merkle::sha256(&leaves.concat());
    assert_eq!(seq.summary(), (4, digest));
    assert_eq!(seq.summary(), (4, digest), "asking changes nothing");
}

#[test]
fn texts_that_are_not_utf8_say_so() {
    let value = read(&Intent {
        judged: None,
        what: What { client_encoding: Some(b"LATIN1"), name: b"\xe9", ..what(b"select '\xe9'") },
    });
    assert_eq!(value["text"], "c2VsZWN0ICfpJw==");
    assert_eq!(value["text_encoding"], "base64");
    assert_eq!((&value["name"], &value["name_encoding"]), (&json!("6Q=="), &json!("base64")));
    assert_eq!(value["client_encoding"], "LATIN1");
}

#[test]
fn what_is_not_held_says_how_long_it_was() {
    let text = Text { full_bytes: Some(20), ..held(b"sel") };
    let value = read(&Intent { judged: None, what: What { text, ..what(b"") } });
    assert_eq!((&value["text"], &value["text_bytes"]), (&json!("sel"), &json!(20)));
    assert!(value.get("text_commitment").is_none(), "{value}");
    let text = Text { commitment: Some([1; 32]), full_bytes: Some(20), ..Text::default() };
    let value = read(&Intent { judged: None, what: What { text, ..what(b"") } });
    assert_eq!((value.get("text"), &value["text_bytes"]), (None, &json!(20)));
    assert_eq!(value["text_commitment"], hex::encode([1; 32]));
}

#[test]
fn parameters_keep_format_type_and_null() {
    let list = [
        parameter(Value::Clear(b"o'hara\0")),
        Parameter { format: 1, type_oid: 23, ..parameter(Value::Clear(&[0, 0, 0, 42])) },
        Parameter { format: 1, ..parameter(Value::Clear(b"text")) },
        parameter(Value::Null),
        Parameter { format: 9, full_bytes: Some(3), ..parameter(Value::Clear(b"a")) },
        Parameter { full_bytes: Some(5), ..parameter(Value::Committed([1; 32])) },
        Parameter { full_bytes: Some(6), ..parameter(Value::CommittedOnly([1; 32])) },
        parameter(Value::Hashed([2; 32])),
        parameter(Value::Never(0)),
    ];
    let with = |parameters| read(&Intent { judged: None, what: What { parameters, ..what(b"") } });
    let value = with(Parameters::Listed(&list, None));
    let (commitment, hash) = (hex::encode([1; 32]), hex::encode([2; 32]));
    assert_eq!(
        value["params"],
        json!([
            {"format": "text", "type_oid": 25, "value": "o'hara\0"},
            {"format": "binary", "type_oid": 23, "value": "AAAAKg==", "value_encoding": "base64"},
            {"format": "binary", "type_oid": 25, "value": "dGV4dA==", "value_encoding": "base64"},
            {"format": "text", "type_oid": 25, "value": null},
            {"format": 9, "type_oid": 25, "value": "a", "value_bytes": 3},
            {"format": "text", "type_oid": 25, "commitment": commitment, "value_bytes": 5},
            {"format": "text", "type_oid": 25, "commitment": commitment, "value_bytes": 6,
             "omitted": true},
            {"format": "text", "type_oid": 25, "hash": hash},
            {"format": "text", "type_oid": 25, "never": "rule"},
        ])
    );
    let value = with(Parameters::Omitted(4));
    assert_eq!((&value["params"], &value["params_omitted"]), (&Json::Null, &json!(4)));
    let value = with(Parameters::Listed(&[], None));
    let keys: Vec<_> = value.as_object().expect("an object").keys().collect();
    assert!(!keys.iter().any(|key| key.starts_with("params")), "{keys:?}");
}

#[test]
fn words_are_distinct_and_numbered_by_their_place() {
    fn distinct<T: Copy>(all: &[T], names: &[&str], number: impl Fn(T) -> u64) {
        assert_eq!(all.len(), names.len());
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), all.len(), "{names:?}");
        assert!(all.iter().map(|item| number(*item)).eq(0..all.len() as u64), "{names:?}");
    }
    distinct(EndReason::ALL, EndReason::NAMES, EndReason::number);
    distinct(Outcome::ALL, Outcome::NAMES, Outcome::number);
    distinct(StatementKind::ALL, StatementKind::NAMES, StatementKind::number);
    distinct(LostSource::ALL, LostSource::NAMES, LostSource::number);
    distinct(CancelOutcome::ALL, CancelOutcome::NAMES, CancelOutcome::number);
    distinct(NamespaceChange::ALL, NamespaceChange::NAMES, NamespaceChange::number);
    distinct(Tier::ALL, Tier::NAMES, Tier::number);
    distinct(Confidence::ALL, Confidence::NAMES, Confidence::number);
    distinct(TextState::ALL, TextState::NAMES, TextState::number);
    distinct(Transaction::ALL, Transaction::NAMES, Transaction::number);
    distinct(HandshakeKind::ALL, HandshakeKind::NAMES, HandshakeKind::number);
    distinct(BoundLeg::ALL, BoundLeg::NAMES, BoundLeg::number);
}

#[test]
fn what_exceeds_a_list_is_counted() {
    let results = vec![ResultPart { tag: b"SELECT 0", rows: 0 }; RESULTS_MAX + 5];
    let many = Done {
        results: &results,
        results_total: results.len() as u64 + 100,
        ..done(Of::Intent(2, None))
    };
    let value = read(&many);
    assert_eq!(value["results"].as_array().map(Vec::len), Some(RESULTS_MAX));
    assert_eq!(value["results_more"], 105);
}

/// What the agent puts into a record at most, with everything else at its own limit.
#[test]
fn no_entry_is_too_long_for_a_bundle() {
    const TAG_BYTES: usize = 63;
    const NAME_BYTES: usize = 255;
    const STARTUP_BYTES: usize = 10_000;
    let long = vec![b'\xff'; values::TEXT_INLINE_MAX];
    let (name, tag) = ([b'n'; NAME_BYTES], [b't'; TAG_BYTES]);
    // Values in clear, and in the rest of the list what takes most without.
    let value = |value| Parameter {
        format: u16::MAX,
        type_oid: u32::MAX,
        value,
        full_bytes: Some(u64::MAX),
    };
    let inline = vec![b'v'; values::PARAMETER_INLINE_MAX];
    let count = values::PARAMETERS_INLINE_MAX / values::PARAMETER_INLINE_MAX;
    let mut parameters = vec![value(Value::Clear(&inline)); count];
    parameters.resize(PARAMETERS_MAX, value(Value::CommittedOnly([1; 32])));
    let unlisted =
        values::Unlisted { count: u64::MAX, left_out: u64::MAX, commitment: Some([1; 32]) };
    let shared_with = [u64::MAX; WRITERS_MAX + 1];
    let full_text = Text {
        clear: Clear::Held(&long),
        commitment: Some([1; 32]),
        hash: Some([1; 32]),
        full_bytes: Some(u64::MAX),
        never: Some(1),
    };
    let what = What {
        kind: StatementKind::Extended,
        text: full_text,
        text_state: TextState::Malformed,
        client_encoding: Some(&name),
        name: &name,
        portal: &name,
        function_oid: Some(u32::MAX),
        parameters: Parameters::Listed(&parameters, Some(unlisted)),
        beside: Some(Beside { key_kind: 2, sha256: Some([1; 32]) }),
        writer: Writers { writer: u64::MAX, tier: Tier::T1, shared_with: &shared_with },
    };
    let results = vec![ResultPart { tag: &tag, rows: u64::MAX }; RESULTS_MAX];
    let done = |of| Done {
        outcome: Outcome::Failed,
        sqlstate: Some(*b"42601"),
        commit_sqlstate: Some(*b"40001"),
        tag: &tag,
        rows: u64::MAX,
        row_bytes: u64::MAX,
        results: &results,
        results_total: u64::MAX,
        copy_in: Some(Copied { bytes: u64::MAX, rows: Some(u64::MAX) }),
        copy_out: Some(Copied { bytes: u64::MAX, rows: Some(u64::MAX) }),
        first_response_us: Some(u64::MAX),
        duration_us: u64::MAX,
        ..super::samples::done(of)
    };
    let rules = vec!["r".repeat(64); 32];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let actor = longest_identity();
    let startup = vec![b'u'; STARTUP_BYTES];
    let longest = Stamp {
        now: Now { wall: WallNanos(u64::MAX), boot: BootNanos(u64::MAX) },
        session: Some((SessionId { epoch: u64::MAX, counter: u64::MAX }, u64::MAX)),
        clock: u64::MAX,
    };
    let denied = Denied { what, sqlstate: *b"42501", reason: "", rules: &rules, policy: None };
    let (message, intent) =
        (done(Of::Message(&what)), done(Of::Intent(u64::MAX, Some(what.writer))));
    // A role that is not named otherwise is the name of the database too.
    let start =
        SessionStart { database_user: &startup, database: &startup, ..session_start(&actor) };
    let before = Intent { judged: None, what };
    let records: [Record<'_>; 5] =
        [(&before).into(), (&denied).into(), (&message).into(), (&intent).into(), (&start).into()];
    for record in records {
        let entry = entry(&longest, record);
        let name = record.kind().name();
        assert!(entry.len() <= ENTRY_BYTES_MAX, "{name}: {} bytes", entry.len());
        cbor::Entry::decode(&entry).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    }
}

#[test]
fn texts_of_the_agent_are_cut_between_characters() {
    let detail = "é".repeat(4_000);
    let refused = |detail| {
        let refused = Refused {
            reason: "r",
            detail: Some(detail),
            sqlstate: None,
            actor: None,
            destination: None,
            count: 1,
            connect: None,
        };
        shown(&entry(&outside(), &refused))["detail"].as_str().expect("a text").to_owned()
    };
    let (fits, long) = (refused(&detail[..4_096]), refused(&detail));
    assert_eq!(fits, detail[..4_096]);
    assert!(long.len() <= 4_096 && long.ends_with("é…"), "{} bytes", long.len());
}

/// An identity as long as one may be.
fn longest_identity() -> Encoded {
    let of = |bytes: usize| {
        Encoded::object(schema::ACTOR, &json!({"exe": "x".repeat(bytes), "pid": u64::MAX}))
    };
    let longest = of(ENCODED_BYTES_MAX - 16).expect("just fits");
    assert!(longest.as_bytes().len() >= ENCODED_BYTES_MAX - 8);
    assert!(matches!(of(ENCODED_BYTES_MAX), Err(EncodeError::TooLong(_))));
    longest
}

proptest! {
    #[test]
    fn any_statement_comes_back(
        text in proptest::collection::vec(any::<u8>(), 0..200),
        name in proptest::collection::vec(any::<u8>(), 0..20),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50)),
    ) {
        let parameter = parameter(value.as_deref().map_or(Value::Null, Value::Clear));
        let entry = entry(&stamp(3), &Intent {
            judged: None,
            what: What {
                name: &name,
                parameters: Parameters::Listed(&[parameter], None),
                ..what(&text)
            },
        });
        prop_assert!(cbor::Entry::decode(&entry).is_ok());
        let read = shown(&entry);
        let decoded = |value: &Json, key: &str| {
            use base64::Engine as _;
            let text = value[key].as_str().expect("a string");
            match value[format!("{key}_encoding")].as_str() {
                None => text.as_bytes().to_vec(),
                Some(_) => base64::engine::general_purpose::STANDARD.decode(text).expect("base64"),
            }
        };
        prop_assert_eq!(decoded(&read, "text"), text);
        if !name.is_empty() {
            prop_assert_eq!(decoded(&read, "name"), name);
        }
        match value {
            None => prop_assert!(read["params"][0]["value"].is_null()),
            Some(value) => prop_assert_eq!(decoded(&read["params"][0], "value"), value),
        }
    }
}
