//! Entries as they are shown, one by one and joined.

use serde_json::json;

use super::{Item, Joined, Value, ViewError, kind, object};
use crate::audit::samples::*;
use crate::audit::schema::{ACTOR, EventKind};
use crate::audit::{
    Authentication, BoundLeg, Denied, Done, Encoded, EndReason, Handshake, HandshakeKind, Intent,
    Introduced, Now, Of, Outcome, Parameter, Parameters, Record, SessionEnd, SessionId,
    SessionMark, Stamp, StatementKind, Text, TextState, Tier, WallNanos, What, Writer, Writers,
};

/// Takes entries one after the other and keeps what they come to.
#[derive(Default)]
struct Reader {
    joined: Joined,
    index: u64,
    items: Vec<Item>,
}

impl Reader {
    fn take<'r>(&mut self, seq: u64, record: impl Into<Record<'r>>) {
        self.push(&entry(&stamp(seq), record));
    }

    fn push(&mut self, entry: &[u8]) {
        self.items.extend(self.joined.push(self.index, entry).expect("an entry"));
        self.index += 1;
    }

    /// A session with its login, as entries 0 and 1.
    fn session(&mut self) {
        self.take(0, &session_start(&identity(7)));
        self.take(1, &authentication());
    }

    fn finish(mut self) -> Vec<Value> {
        let rest = self.joined.finish(self.index);
        self.items.extend(rest);
        self.items.into_iter().map(|item| Value::Object(item.object)).collect()
    }

    /// What became of the statements.
    fn statements(self) -> Vec<Value> {
        self.finish().into_iter().filter(|object| object["event"] == "statement").collect()
    }
}

fn end() -> SessionEnd<'static> {
    SessionEnd {
        reason: EndReason::ClientTerminated,
        detail: None,
        sqlstate: None,
        statements: 1,
        client_bytes: 2,
        server_bytes: 3,
        duration_us: 4,
        entries: 5,
        digest: [0; 32],
    }
}

/// The stamp of the session's `seq`-th record, made so many nanoseconds later.
fn later(seq: u64, nanos: u64) -> Stamp {
    let now = Now { wall: WallNanos(NOW.wall.0 + nanos), ..NOW };
    Stamp { now, ..stamp(seq) }
}

#[test]
fn a_statement_is_its_intent_and_its_outcome() {
    let mut reader = Reader::default();
    reader.session();
    let parameter = Parameter { type_oid: 23, ..parameter(clear(b"42")) };
    let asked = What {
        kind: StatementKind::Extended,
        name: b"s",
        portal: b"p",
        parameters: Parameters::Listed(&[parameter], None),
        ..what(b"select $1")
    };
    reader.push(&entry(&later(2, 5), &Intent { judged: None, what: asked }));
    assert_eq!(reader.items.len(), 1, "nothing is known of it yet");
    reader.push(&entry(&later(3, 9), &done(Of::Intent(2, None))));
    let item = reader.items.last().expect("it is known").clone();
    assert_eq!(item.index, 3, "the entry that completed it");
    let statement = Value::Object(item.object);
    assert_eq!(
        statement,
        json!({
            "v": 1, "event": "statement", "salt": "07".repeat(16),
            "time": "2026-02-28T23:59:59.000000051Z", "boot_ns": 77, "clock": 3,
            "session": ID.to_string(), "seq": 2,
            "kind": "extended", "text": "select $1", "name": "s", "portal": "p",
            "params": [{"format": "text", "type_oid": 23, "value": "42"}],
            "tier": "T2",
            "writer": {"pid": 7, "exe": "/usr/bin/psql"},
            "outcome": "completed", "tag": "SELECT 1", "rows": 1, "row_bytes": 11,
            "started": "2026-02-28T23:59:59.000000047Z",
            "first_response_us": 90, "duration_us": 100, "transaction": "idle",
        })
    );
}

#[test]
fn a_session_begins_with_its_login() {
    let mut reader = Reader::default();
    reader.take(0, &session_start(&identity(7)));
    assert!(reader.items.is_empty(), "how the login went is not known yet");
    reader.push(&entry(
        &later(1, 5),
        &Authentication {
            authentication: "scram-sha-256",
            handshake: Some(Handshake {
                kind: HandshakeKind::Terminated,
                login: None,
                bound: &[BoundLeg::Client],
                exception: None,
            }),
            protocol: (3, 2),
            backend_pid: Some(11),
            ..authentication()
        },
    ));
    let start = Value::Object(reader.items[0].object.clone());
    assert_eq!((&start["event"], &start["seq"]), (&json!("session_start"), &json!(0)));
    assert_eq!(start["time"], "2026-02-28T23:59:59.000000042Z", "when it began");
    assert_eq!((&start["database_user"], &start["backend_pid"]), (&json!("app"), &json!(11)));
    assert_eq!((&start["handshake"], &start["bound"]), (&json!("terminated"), &json!(["client"])));
    assert_eq!(start["protocol"], "3.2", "what was agreed on");
    assert_eq!(start["actor"]["pid"], 7);
}

#[test]
fn a_session_whose_login_is_not_recorded_is_given_at_its_end() {
    let mut reader = Reader::default();
    reader.take(0, &session_start(&identity(7)));
    reader.take(1, &end());
    let shown = reader.finish();
    let events: Vec<_> = shown.iter().map(|object| object["event"].clone()).collect();
    assert_eq!(events, ["session_start", "session_end"]);
}

#[test]
fn texts_are_put_where_they_are_referred_to() {
    let mut reader = Reader::default();
    reader.session();
    reader.take(
        2,
        &Introduced {
            kind: StatementKind::Parse,
            text: Text { commitment: Some([4; 32]), full_bytes: Some(13), ..held(b"select 'ab") },
            text_state: TextState::Exact,
            client_encoding: Some(b"LATIN1"),
            name: b"s",
            beside: None,
        },
    );
    let by_ref = |seq| What { text: referred(seq), ..what(b"") };
    reader.take(3, &Intent { judged: None, what: by_ref(2) });
    reader.take(4, &done(Of::Intent(3, None)));
    // Of another name than it was introduced with.
    reader.take(5, &Intent { judged: None, what: What { name: b"t", ..by_ref(2) } });
    reader.take(6, &done(Of::Intent(5, None)));
    // The text of an intent can be referred to as well, also when it has an outcome.
    reader.take(7, &Intent { judged: None, what: what(b"select 7") });
    reader.take(8, &done(Of::Intent(7, None)));
    reader.take(9, &Intent { judged: None, what: by_ref(7) });
    reader.take(10, &done(Of::Intent(9, None)));
    // Of an outcome without an intent, too.
    let closed = What { kind: StatementKind::Close, ..what(b"select 11") };
    reader.take(11, &done(Of::Message(&closed)));
    reader.take(12, &Intent { judged: None, what: by_ref(11) });
    reader.take(13, &done(Of::Intent(12, None)));
    // What it refers to is not there: it stays as it is.
    reader.take(14, &Intent { judged: None, what: by_ref(99) });
    reader.take(15, &done(Of::Intent(14, None)));
    let statements = reader.statements();
    let texts: Vec<_> = statements.iter().map(|s| s["text"].as_str()).collect();
    let expected = [
        Some("select 'ab"),
        Some("select 'ab"),
        Some("select 7"),
        Some("select 7"),
        Some("select 11"),
        Some("select 11"),
        None,
    ];
    assert_eq!(texts, expected);
    let first = &statements[0];
    assert_eq!((&first["text_bytes"], &first["client_encoding"]), (&json!(13), &json!("LATIN1")));
    assert_eq!(first["text_commitment"], "04".repeat(32));
    assert_eq!((first.get("name"), &statements[1]["name"]), (None, &json!("t")), "its own");
    assert_eq!(statements[6]["text_ref"], 99, "so that the loss is seen");
}

#[test]
fn writers_are_shown_by_who_they_are() {
    let mut reader = Reader::default();
    reader.session();
    let container = json!({"id": "0123", "name": "web"});
    let other = json!({"pid": 8, "exe": "/usr/bin/perl", "uid": 33, "comm": "perl", "cwd": "/",
        "container": container});
    let other = Encoded::object(ACTOR, &other).expect("short");
    reader.take(2, &Writer { actor: &other, tier: Tier::T2 });
    reader.take(3, &Writer { actor: &identity(9), tier: Tier::T2 });
    let by = |writer, shared_with| Writers { writer, tier: Tier::T2, shared_with };
    reader.take(
        4,
        &Intent { judged: None, what: What { writer: by(2, &[0, 3]), ..what(b"select 4") } },
    );
    reader.take(5, &done(Of::Intent(4, None)));
    // By the time of the outcome more is known.
    reader.take(6, &Intent { judged: None, what: what(b"select 6") });
    reader.take(7, &done(Of::Intent(6, Some(by(3, &[2])))));
    let known_now_that_it_was_the_opener = Some(by(0, &[]));
    reader
        .take(8, &Intent { judged: None, what: What { writer: by(2, &[3]), ..what(b"select 8") } });
    reader.take(9, &done(Of::Intent(8, known_now_that_it_was_the_opener)));
    let statements = reader.statements();
    let (opener, nine) =
        (json!({"pid": 7, "exe": "/usr/bin/psql"}), json!({"pid": 9, "exe": "/usr/bin/psql"}));
    let eight =
        json!({"pid": 8, "exe": "/usr/bin/perl", "uid": 33, "comm": "perl", "container": "web"});
    assert_eq!(statements[0]["writer"], eight);
    assert_eq!(statements[0]["shared_with"], json!([opener, nine]));
    assert_eq!((&statements[1]["writer"], &statements[1]["shared_with"]), (&nine, &json!([eight])));
    assert_eq!(statements[2]["writer"], opener);
    assert_eq!(statements[2]["shared_with"], Value::Null);
    for statement in &statements {
        assert!(statement.get("writer_ref").is_none(), "{statement}");
    }
}

#[test]
fn an_outcome_without_an_intent_is_a_statement_of_its_own() {
    let mut reader = Reader::default();
    reader.session();
    let parse = What { kind: StatementKind::Parse, ..what(b"selec") };
    reader.take(
        2,
        &Done { outcome: Outcome::Failed, sqlstate: Some(*b"42601"), ..done(Of::Message(&parse)) },
    );
    // Its intent is in a part of the log that is not there.
    reader.take(4, &done(Of::Intent(3, None)));
    let statements = reader.statements();
    assert_eq!((&statements[0]["text"], &statements[0]["seq"]), (&json!("selec"), &json!(2)));
    assert_eq!(statements[0]["writer"]["pid"], 7);
    assert_eq!(statements[0]["outcome"], "failed");
    assert_eq!(statements[0]["started"], "2026-02-28T23:59:58.999900042Z", "its end, less 100 us");
    assert_eq!((&statements[1]["seq"], &statements[1]["intent"]), (&json!(4), &json!(3)));
}

#[test]
fn an_intent_without_an_outcome_is_given_when_none_can_come() {
    let intents = |reader: &mut Reader| {
        reader.session();
        reader.take(2, &Intent { judged: None, what: what(b"select 2") });
        reader.take(3, &Intent { judged: None, what: what(b"select 3") });
        reader.take(4, &done(Of::Intent(3, None)));
    };
    let unknown = |shown: &[Value]| {
        let found: Vec<_> = shown.iter().filter(|s| s["outcome"] == "unknown").collect();
        assert_eq!(found.len(), 1, "{shown:?}");
        assert_eq!(
            (&found[0]["event"], &found[0]["text"]),
            (&json!("statement"), &json!("select 2"))
        );
        assert_eq!(found[0]["started"], "2026-02-28T23:59:59.000000042Z");
        assert_eq!(found[0]["writer"]["pid"], 7);
    };
    let mut at_the_end = Reader::default();
    intents(&mut at_the_end);
    at_the_end.take(5, &end());
    assert_eq!(at_the_end.items.last().map(|item| item.index), Some(5));
    let shown = at_the_end.finish();
    unknown(&shown);
    assert_eq!(shown.last().map(|last| &last["event"]), Some(&json!("session_end")));

    let mut when_the_agent_starts = Reader::default();
    intents(&mut when_the_agent_starts);
    let start = full().into_iter().find(|sample| sample.kind == EventKind::AgentStart);
    when_the_agent_starts.push(&start.expect("every kind has one").entry);
    let count = when_the_agent_starts.items.len();
    let shown = when_the_agent_starts.finish();
    assert_eq!(shown.len(), count, "given before the start");
    unknown(&shown);
    assert_eq!(shown.last().map(|last| &last["event"]), Some(&json!("agent_start")));

    let mut by_finish = Reader::default();
    intents(&mut by_finish);
    unknown(&by_finish.finish());
}

#[test]
fn a_value_of_another_kind_than_the_table_says_is_shown_by_its_number() {
    // 0 version, 10 bytes as a number, 12 a word as bytes, 23 a word.
    let entry =
        [&[0xa4, 0x00, 0x01, 0x0a, 0x07, 0x0c, 0x42, 0xca, 0xfe][..], &[0x17, 0x01]].concat();
    let shown = object(&entry).expect("it is CBOR of the kind");
    assert_eq!(
        Value::Object(shown),
        json!({ "v": 1, "field_10": 7, "field_12": "cafe", "values": "session" })
    );
}

#[test]
fn an_end_without_a_start_leaves_nothing_behind() {
    let mut reader = Reader::default();
    // A reader that begins in the middle of the log.
    reader.take(7, &Intent { judged: None, what: what(b"select 7") });
    reader.take(8, &end());
    assert_eq!(reader.items.len(), 2);
    assert!(reader.joined.finish(9).is_empty());
    let statement = &reader.items[0].object;
    assert_eq!((&statement["outcome"], statement.get("writer")), (&json!("unknown"), None));
}

#[test]
fn a_session_of_which_only_the_middle_is_there_is_given_at_the_end() {
    let mut reader = Reader::default();
    reader.take(7, &Intent { judged: None, what: what(b"select 7") });
    let statements = reader.statements();
    assert_eq!(statements.len(), 1, "its intent is not lost");
    assert_eq!(statements[0]["outcome"], "unknown");
}

#[test]
fn what_a_denied_statement_was_is_shown() {
    let mut reader = Reader::default();
    reader.session();
    reader.take(2, &Intent { judged: None, what: what(b"select secret") });
    reader.take(3, &done(Of::Intent(2, None)));
    let what = What { text: referred(2), ..what(b"") };
    reader.take(
        4,
        &Denied { what, sqlstate: *b"42501", reason: "r", rules: &["first"], policy: None },
    );
    let shown = reader.finish();
    let denied = shown.last().expect("it is given at once");
    assert_eq!((&denied["event"], &denied["text"]), (&json!("denied"), &json!("select secret")));
    assert_eq!((&denied["writer"]["pid"], &denied["rules"]), (&json!(7), &json!(["first"])));
}

#[test]
fn sessions_do_not_mix() {
    let mut reader = Reader::default();
    let other = SessionId { counter: 43, ..ID };
    let of_other = |seq| Stamp { session: Some((other, seq)), ..stamp(seq) };
    reader.session();
    reader.push(&entry(&of_other(0), &session_start(&identity(8))));
    reader.push(&entry(&of_other(1), &authentication()));
    reader.take(2, &Intent { judged: None, what: what(b"select 'first'") });
    reader.push(&entry(&of_other(2), &Intent { judged: None, what: what(b"select 'second'") }));
    reader.push(&entry(&of_other(3), &done(Of::Intent(2, None))));
    reader.take(3, &done(Of::Intent(2, None)));
    let statements = reader.statements();
    let told: Vec<_> = statements.iter().map(|s| (&s["text"], &s["writer"]["pid"])).collect();
    assert_eq!(
        told,
        [(&json!("select 'second'"), &json!(8)), (&json!("select 'first'"), &json!(7))]
    );
}

#[test]
fn entries_of_the_agent_are_given_at_once_and_as_they_are() {
    for sample in full() {
        let shown = object(&sample.entry).expect("an entry");
        if shown.contains_key("session") || sample.kind == EventKind::AgentStart {
            continue;
        }
        let mut joined = Joined::default();
        let items = joined.push(9, &sample.entry).expect("an entry");
        assert_eq!(items, [Item { index: 9, object: shown }], "{}", sample.kind.name());
    }
}

/// `{0: 1, 1: 200, 60: .., 255: ..}` and whatever else a later version may write.
const FUTURE: &str = "a7 0001 01 18c8 0c 1863 18fa f5 18fb 8201 4102 18fc a1 01 6161 18fd f6";

#[test]
fn what_a_later_version_writes_is_shown_and_kept() {
    let entry = hex::decode(FUTURE.replace(' ', "")).expect("hexadecimal");
    let shown = object(&entry).expect("an entry");
    assert_eq!(
        Value::Object(shown.clone()),
        json!({
            "v": 1, "event": "event_200", "kind": 99, "field_250": true, "field_251": [1, "02"],
            "field_252": {"field_1": "a"}, "field_253": null,
        })
    );
    assert_eq!(kind(&entry), None);
    let items = Joined::default().push(0, &entry).expect("an entry");
    assert_eq!(items, [Item { index: 0, object: shown }]);
    let decoded = pgward_verify::cbor::Map::decode(&entry).expect("canonical");
    assert_eq!(decoded.len(), 7, "and it is canonical");
}

#[test]
fn an_event_of_a_later_version_in_a_session_is_given_at_once() {
    let mut reader = Reader::default();
    reader.session();
    let mut later = entry(&stamp(2), &SessionMark { entries: 3, digest: [0; 32] });
    let event = later.windows(2).position(|pair| pair == [0x01, 0x18]).expect("field 1, 30");
    later[event + 2] = 200;
    reader.push(&later);
    let last = reader.items.last().expect("given");
    assert_eq!((&last.object["event"], &last.object["entries"]), (&json!("event_200"), &json!(3)));
}

#[test]
fn binary_and_bytes_that_are_no_text_are_base64() {
    let parameters =
        [Parameter { format: 1, ..parameter(clear(b"text")) }, parameter(clear(b"\xff"))];
    let mut reader = Reader::default();
    reader.session();
    let asked =
        What { parameters: Parameters::Listed(&parameters, None), ..what(b"select '\xe9'") };
    reader.take(2, &Intent { judged: None, what: asked });
    reader.take(3, &done(Of::Intent(2, None)));
    reader.take(4, &Intent { judged: None, what: What { text: referred(2), ..what(b"") } });
    reader.take(5, &done(Of::Intent(4, None)));
    let statements = reader.statements();
    assert_eq!(
        statements[0]["params"],
        json!([
            {"format": "binary", "type_oid": 25, "value": "dGV4dA==", "value_encoding": "base64"},
            {"format": "text", "type_oid": 25, "value": "/w==", "value_encoding": "base64"},
        ])
    );
    for statement in &statements {
        assert_eq!(statement["text"], "c2VsZWN0ICfpJw==");
        assert_eq!(statement["text_encoding"], "base64");
    }
}

#[test]
fn what_is_no_entry_is_refused() {
    let good = entry(&stamp(0), &session_start(&identity(7)));
    for end in 0..good.len() {
        assert!(object(&good[..end]).is_err(), "cut at {end}");
        let _ = kind(&good[..end]);
    }
    let with_more = [&good[..], &[0]].concat();
    assert!(matches!(object(&with_more), Err(ViewError::Shape(_))));
    // [[[[...]]]] as an unknown field; an endless array; an endless map.
    let deep = [&[0xa1, 0x18, 0xfa][..], &[0x81; 40], &[0x00]].concat();
    assert!(matches!(object(&deep), Err(ViewError::Deep)));
    for bad in ["bf00ff", "a118fa9f00ff", "a118fac100", "a118fa20", "8100", "a101"] {
        assert!(object(&hex::decode(bad).expect("hexadecimal")).is_err(), "{bad}");
    }
    // A count without what it counts must not make anybody reserve room for it.
    let huge = hex::decode("a118fa9bffffffffffffffff").expect("hexadecimal");
    assert!(object(&huge).is_err());
}

/// The value of a parameter, held in clear.
fn clear(bytes: &[u8]) -> crate::audit::Value<'_> {
    crate::audit::Value::Clear(bytes)
}
