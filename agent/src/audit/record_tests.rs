//! Every kind of record, read back.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const ID: SessionId = SessionId { epoch: 0xfeed_0000_0000_0001, counter: 42 };
const NOW: Now = Now { wall: WallNanos(1_772_323_199_000_000_042), boot: BootNanos(77) };

fn line<'r>(stamp: &Stamp, record: impl Into<Record<'r>>) -> String {
    let mut out = b"before\n".to_vec();
    record.into().write(stamp, &mut out);
    let text = String::from_utf8(out).expect("JSON is UTF-8");
    let line = text.strip_prefix("before\n").expect("appended").to_owned();
    assert_eq!(line.matches('\n').count(), 1, "one line: {line}");
    line
}

fn read<'r>(record: impl Into<Record<'r>>) -> Value {
    let stamp = Stamp { now: NOW, session: Some((ID, 3)) };
    serde_json::from_str(&line(&stamp, record)).expect("valid JSON")
}

fn actor() -> Json {
    Json::render(&json!({"pid": 7, "exe": "/usr/bin/psql"})).expect("short")
}

/// A statement with nothing special about it.
fn plain<'a>(text: &'a [u8], writer: &'a Json) -> Statement<'a> {
    Statement {
        kind: StatementKind::Simple,
        text: Excerpt::whole(text),
        text_state: TextState::Exact,
        client_encoding: None,
        name: b"",
        portal: b"",
        function_oid: None,
        parameters: Parameters::NONE,
        tag: b"SELECT 1",
        rows: 1,
        row_bytes: 11,
        results: &[],
        results_total: 1,
        copy_in: None,
        copy_out: None,
        outcome: Outcome::Completed,
        sqlstate: None,
        commit_sqlstate: None,
        started: NOW.wall,
        first_response_us: Some(90),
        duration_us: 100,
        transaction: Some(Transaction::Idle),
        writer,
        tier: Tier::T2,
        shared_with: &[],
    }
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_small_statement_is_one_known_line() {
    let writer = actor();
    let stamp = Stamp { now: NOW, session: Some((ID, 3)) };
    assert_eq!(
        line(&stamp, &plain(b"select 1", &writer)),
        "{\"v\":1,\"event\":\"statement\",\"time\":\"2026-02-28T23:59:59.000000042Z\",\"boot_ns\":77,\
         \"session\":\"feed000000000001000000000000002a\",\"seq\":3,\"kind\":\"simple\",\
         \"text\":\"select 1\",\"outcome\":\"completed\",\"tag\":\"SELECT 1\",\"rows\":1,\
         \"row_bytes\":11,\"started\":\"2026-02-28T23:59:59.000000042Z\",\"first_response_us\":90,\
         \"duration_us\":100,\"transaction\":\"idle\",\
         \"writer\":{\"exe\":\"/usr/bin/psql\",\"pid\":7},\"tier\":\"T2\"}\n"
    );
}

#[test]
fn session_numbers_have_no_gaps_and_agent_records_none() {
    let ids = SessionIds::new(ID.epoch);
    assert_eq!((ids.next().counter, ids.next().counter), (1, 2));
    let mut seq = SessionSeq::new(ID);
    let numbers = [seq.stamp(NOW), seq.stamp(NOW), seq.stamp(NOW)].map(|s| s.session);
    assert_eq!(numbers, [Some((ID, 0)), Some((ID, 1)), Some((ID, 2))]);
    assert_eq!(ID.to_string(), "feed000000000001000000000000002a");
    let stop = AgentStop { reason: "SIGTERM", sessions: 1, statements: 2 };
    let value: Value = serde_json::from_str(&line(&Stamp::agent(NOW), &stop)).expect("valid JSON");
    assert_eq!(keys(&value).len(), 7, "{value}");
}

#[test]
fn texts_that_are_not_utf8_say_so() {
    let writer = actor();
    let value = read(&Statement {
        client_encoding: Some(b"LATIN1"),
        name: b"\xe9",
        ..plain(b"select '\xe9'", &writer)
    });
    assert_eq!(value["text"], "c2VsZWN0ICfpJw==");
    assert_eq!(value["text_encoding"], "base64");
    assert_eq!((&value["name"], &value["name_encoding"]), (&json!("6Q=="), &json!("base64")));
    assert_eq!(value["client_encoding"], "LATIN1");
}

#[test]
fn what_was_cut_says_how_long_it_was() {
    let writer = actor();
    let long = "é".repeat(10);
    let statement = Statement { text: Excerpt::of(long.as_bytes(), 5), ..plain(b"", &writer) };
    let value = read(&statement);
    assert_eq!((&value["text"], &value["text_bytes"]), (&json!("éé"), &json!(20)));
    let digest = Cut::of(long.as_bytes()).sha256.map(hex::encode);
    assert_eq!(value["text_sha256"].as_str(), digest.as_deref());

    let unheld = Statement { text: Excerpt::beginning(b"ab", 9), ..statement };
    let value = read(&unheld);
    assert_eq!((&value["text_bytes"], &value["text_sha256"]), (&json!(9), &Value::Null));
}

#[test]
fn parameters_keep_format_type_and_null() {
    let writer = actor();
    let list = [
        Parameter { format: 0, type_oid: 25, value: Some(Excerpt::whole(b"o'hara\0")) },
        Parameter { format: 1, type_oid: 23, value: Some(Excerpt::whole(&[0, 0, 0, 42])) },
        Parameter { format: 0, type_oid: 0, value: None },
        Parameter { format: 9, type_oid: 0, value: Some(Excerpt::of(b"abc", 1)) },
    ];
    let list: &[Parameter<'_>] = &list;
    let value = read(&Statement { parameters: Parameters::Listed(&list), ..plain(b"", &writer) });
    let digest = hex::encode(Cut::of(b"abc").sha256.expect("known"));
    assert_eq!(
        value["params"],
        json!([
            {"format": "text", "type_oid": 25, "value": "o'hara\0"},
            {"format": "binary", "type_oid": 23, "value": "AAAAKg==", "value_encoding": "base64"},
            {"format": "text", "type_oid": 0, "value": null},
            {"format": 9, "type_oid": 0, "value": "YQ==", "value_encoding": "base64",
             "value_bytes": 3, "value_sha256": digest},
        ])
    );
    let value = read(&Statement { parameters: Parameters::Omitted(4), ..plain(b"", &writer) });
    assert_eq!((&value["params"], &value["params_omitted"]), (&Value::Null, &json!(4)));
    let empty: &[Parameter<'_>] = &[];
    let value = read(&Statement { parameters: Parameters::Listed(&empty), ..plain(b"", &writer) });
    assert!(!keys(&value).iter().any(|key| key.starts_with("params")));
}

#[test]
fn a_record_is_bounded_whatever_is_in_it() {
    let writer = actor();
    let large = vec![b'x'; 1 << 19];
    let one = Parameter { format: 0, type_oid: 25, value: Some(Excerpt::whole(&large)) };
    let list = vec![one; 70_000];
    let list: &[Parameter<'_>] = &list;
    let results = vec![ResultPart { tag: b"SELECT 0", rows: 0 }; RESULTS_MAX + 5];
    let writers = vec![actor(); WRITERS_MAX + 2];
    let value = read(&Statement {
        parameters: Parameters::Listed(&list),
        results: &results,
        results_total: results.len() as u64 + 100,
        shared_with: &writers,
        ..plain(b"", &writer)
    });
    let params = value["params"].as_array().expect("listed");
    assert_eq!(
        (params.len(), &value["params_more"]),
        (PARAMETERS_MAX, &json!(70_000 - PARAMETERS_MAX))
    );
    assert_eq!(params.iter().filter(|p| p["value"].is_string()).count(), 2);
    let omitted =
        json!({"format": "text", "type_oid": 25, "omitted": true, "value_bytes": 1 << 19});
    assert_eq!(params[2], omitted);
    assert_eq!(value["results"].as_array().map(Vec::len), Some(RESULTS_MAX));
    assert_eq!(value["results_more"], 105);
    assert_eq!(value["shared_with"].as_array().map(Vec::len), Some(WRITERS_MAX));
    assert_eq!(value["shared_with_more"], 2);
}

#[test]
fn names_in_the_log_are_distinct() {
    fn distinct<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str) {
        let names: BTreeSet<_> = all.iter().map(|item| name(*item)).collect();
        assert_eq!(names.len(), all.len(), "{names:?}");
    }
    distinct(EndReason::ALL, EndReason::name);
    distinct(Outcome::ALL, Outcome::name);
    distinct(StatementKind::ALL, StatementKind::name);
    distinct(LostSource::ALL, LostSource::name);
    distinct(CancelOutcome::ALL, CancelOutcome::name);
    distinct(NamespaceChange::ALL, NamespaceChange::name);
    distinct(Tier::ALL, Tier::name);
    distinct(Confidence::ALL, Confidence::name);
    distinct(TextState::ALL, TextState::name);
    distinct(Transaction::ALL, Transaction::name);
}

/// One record of each kind with every field set, except those that exclude each other.
fn samples() -> Vec<Value> {
    let identity = actor();
    let actor = Some(&identity);
    let destination = "10.0.0.5:5432".parse().expect("an address");
    let source = "[fd00::9]:40000".parse().expect("an address");
    let seven: &[Parameter<'_>] = &[
        Parameter { format: 0, type_oid: 25, value: Some(Excerpt::of(b"abc", 2)) },
        Parameter { format: 0, type_oid: 25, value: Some(Excerpt::whole(&[b'x'; (1 << 20) + 1])) },
    ];
    struct More<'a>(&'a [Parameter<'a>]);
    impl ParameterSource for More<'_> {
        fn count(&self) -> usize {
            7
        }
        fn each(&self, take: &mut dyn FnMut(Parameter<'_>)) {
            self.0.each(take);
        }
    }
    let copied = Some(Copied { bytes: 5, rows: Some(1) });
    let writers = vec![identity.clone(); WRITERS_MAX + 1];
    let full = Statement {
        kind: StatementKind::FunctionCall,
        text_state: TextState::Malformed,
        client_encoding: Some(b"LATIN1"),
        name: b"s",
        portal: b"p",
        function_oid: Some(1),
        parameters: Parameters::Listed(&More(seven)),
        results: &[ResultPart { tag: b"SELECT 1", rows: 1 }],
        results_total: 2,
        copy_in: copied,
        copy_out: copied,
        outcome: Outcome::Failed,
        sqlstate: Some(*b"42601"),
        commit_sqlstate: Some(*b"40001"),
        shared_with: &writers,
        ..plain(b"\xff", &identity)
    };
    let omitted = Statement { parameters: Parameters::Omitted(2), ..plain(b"", &identity) };
    let session = [
        read(&SessionStart {
            actor: &identity,
            tier: Tier::T1,
            confidence: Confidence::OpenerOrLater,
            destination,
            source,
            netns_cookie: 9,
            database_user: b"app",
            database: b"shop",
            application_name: Some(b"psql"),
            client_encoding: Some(b"UTF8"),
            server_version: Some(b"18.4"),
            protocol: (3, 2),
            authentication: "scram-sha-256",
            handshake: Some(Handshake {
                kind: HandshakeKind::Mapped,
                login: Some(b"svc"),
                bound: &[BoundLeg::Client, BoundLeg::Server],
                exception: Some("e"),
            }),
            client_tls: Some("TLSv1.3"),
            server_tls: Some("TLSv1.3"),
            server_verified: Some("verify-full"),
            server_name: Some("db"),
            destination_name: "default",
            options: Some(b"-c x=1"),
            backend_pid: Some(11),
        }),
        read(&full),
        read(&omitted),
        read(&Cancel {
            actor: &identity,
            destination,
            target_pid: 11,
            target_session: Some(ID),
            outcome: CancelOutcome::Forwarded,
        }),
        read(&SessionEnd {
            reason: EndReason::ServerClosed,
            detail: Some("reset"),
            sqlstate: Some(*b"57P01"),
            statements: 2,
            client_bytes: 3,
            server_bytes: 4,
            duration_us: 5,
        }),
    ];
    let agent = |record: Record<'_>| {
        serde_json::from_str(&line(&Stamp::agent(NOW), record)).expect("valid JSON")
    };
    let mut all = session.to_vec();
    all.extend([
        agent(Record::AgentStart(&AgentStart {
            version: "0.1.0",
            host: "db-client-1",
            boot_id: "b",
            pid: 1,
            config_sha256: Some([1; 32]),
            tiers: &[Tier::T0, Tier::T2],
            cgroup: "root",
            torn_tail_bytes: 3,
        })),
        agent(Record::AgentStop(&AgentStop { reason: "SIGTERM", sessions: 1, statements: 2 })),
        agent(Record::Refused(&Refused {
            reason: "refused_storage",
            detail: Some("d"),
            sqlstate: Some(*b"53300"),
            actor,
            destination: Some(destination),
            count: 1,
        })),
        agent(Record::AllowedUnseen(&AllowedUnseen {
            actor,
            destination: Some(destination),
            since: Some(NOW.wall),
            count: 3,
        })),
        agent(Record::EventsLost(&EventsLost {
            source: LostSource::WriterEvents,
            count: 2,
            since: Some(NOW.wall),
            detail: Some("d"),
        })),
        agent(Record::Namespace(&Namespace {
            change: NamespaceChange::Failed,
            netns_cookie: 9,
            inode: Some(8),
            port: Some(15_432),
            held_us: Some(7),
            actor,
            detail: Some("d"),
        })),
    ]);
    all
}

#[test]
fn values_come_back_as_given() {
    let all = samples();
    let start = &all[0];
    assert_eq!(start["destination"], "10.0.0.5:5432");
    assert_eq!(start["source"], "[fd00::9]:40000");
    assert_eq!((&start["protocol"], &start["backend_pid"]), (&json!("3.2"), &json!(11)));
    assert_eq!(start["actor"], json!({"pid": 7, "exe": "/usr/bin/psql"}));
    let statement = &all[1];
    assert_eq!(statement["sqlstate"], "42601");
    assert_eq!(statement["copy_in"], json!({"bytes": 5, "rows": 1}));
    assert_eq!((&statement["params_more"], &statement["results_more"]), (&json!(5), &json!(1)));
    assert_eq!(all[3]["target_session"], ID.to_string());
    assert_eq!(all[4]["reason"], "server_closed");
    assert_eq!(all[5]["tiers"], json!(["T0", "T2"]));
}

#[test]
fn the_table_of_fields_is_the_code() {
    let mut documented = BTreeSet::new();
    let samples = samples();
    let events: BTreeSet<&str> =
        samples.iter().map(|value| value["event"].as_str().expect("named")).collect();
    for row in include_str!("mod.rs").lines().filter_map(|line| line.strip_prefix("//! | `")) {
        let (field, rest) = row.split_once("` | ").expect("a field and its events");
        let (named, _) = rest.split_once(" |").expect("events and a meaning");
        for event in named.split(' ') {
            assert!(event == "all" || events.contains(event), "{event}");
            let of = if event == "all" { events.clone() } else { BTreeSet::from([event]) };
            documented.extend(of.into_iter().map(|event| (event.to_owned(), field.to_owned())));
        }
    }
    let mut written = BTreeSet::new();
    for value in &samples {
        let event = value["event"].as_str().expect("named");
        collect(event, "", value, &mut written);
    }
    assert_eq!(written, documented);
}

/// The fields of `value` as the table names them, without the three endings that it explains once.
fn collect(event: &str, prefix: &str, value: &Value, fields: &mut BTreeSet<(String, String)>) {
    for (key, value) in value.as_object().expect("an object") {
        if key.ends_with("_encoding") && value == "base64"
            || ["text_", "value_"].iter().any(|p| key.starts_with(p)) && key != "text_state"
        {
            continue;
        }
        let path = format!("{prefix}{key}");
        if !matches!(key.as_str(), "actor" | "writer" | "shared_with") {
            match value {
                Value::Object(_) => collect(event, &format!("{path}."), value, fields),
                Value::Array(items) if items.iter().all(Value::is_object) => {
                    for item in items {
                        collect(event, &format!("{path}[]."), item, fields);
                    }
                }
                _ => {}
            }
        }
        fields.insert((event.to_owned(), path));
    }
}

proptest! {
    #[test]
    fn any_statement_is_one_line_that_comes_back(
        text in proptest::collection::vec(any::<u8>(), 0..200),
        name in proptest::collection::vec(any::<u8>(), 0..20),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50)),
        max in 0_usize..100,
    ) {
        let writer = actor();
        let parameter = Parameter {
            format: 0,
            type_oid: 1,
            value: value.as_deref().map(|value| Excerpt::of(value, max)),
        };
        let list: &[Parameter<'_>] = &[parameter];
        let read = read(&Statement {
            text: Excerpt::of(&text, max),
            name: &name,
            parameters: Parameters::Listed(&list),
            ..plain(b"", &writer)
        });
        let decoded = |value: &Value, key: &str| {
            use base64::Engine as _;
            let text = value[key].as_str().expect("a string");
            match value[format!("{key}_encoding")].as_str() {
                None => text.as_bytes().to_vec(),
                Some(_) => base64::engine::general_purpose::STANDARD.decode(text).expect("base64"),
            }
        };
        prop_assert_eq!(&decoded(&read, "text")[..], Excerpt::of(&text, max).kept);
        prop_assert_eq!(read["text_bytes"].is_null(), text.len() <= max);
        if !name.is_empty() {
            prop_assert_eq!(decoded(&read, "name"), name);
        }
        match &value {
            None => prop_assert!(read["params"][0]["value"].is_null()),
            Some(value) => {
                let kept = Excerpt::of(value, max).kept;
                prop_assert_eq!(&decoded(&read["params"][0], "value")[..], kept);
            }
        }
    }
}
