//! What others get of what was recorded.

use pgward_verify::cbor::{Entry, Value as Cbor};
use serde_json::{Value, json};

use super::*;
use crate::audit::samples::{NOW, entry, held, identity, session_start, stamp};
use crate::audit::schema::{ENTRY, EventKind, Kind, by_number, f};
use crate::audit::search::{Assembler, Found};
use crate::audit::{
    Authentication, Done, Intent, Of, Outcome, Parameter, Parameters, StatementKind, TextState,
    Tier, Value as Held, What, Writers, view,
};

const ORIGIN: &str = "pgward/6f1c/1";
/// What may be in a statement and steer something: lines, cells, quotes, formats, no UTF-8.
const TEXT: &[u8] = b"=select 'a|b\\c', \"d\"\n\r\x1b[2J \0, x=1 -- \xe2\x80\xa8";

fn what<'a>(text: &'a [u8], parameters: &'a [Parameter<'a>]) -> What<'a> {
    What {
        kind: StatementKind::Extended,
        text: held(text),
        text_state: TextState::Exact,
        client_encoding: None,
        name: b"",
        portal: b"",
        function_oid: None,
        parameters: Parameters::Listed(parameters, None),
        beside: None,
        writer: Writers { writer: 0, tier: Tier::T2, shared_with: &[] },
    }
}

fn done() -> Done<'static> {
    Done {
        of: Of::Intent(2, None),
        outcome: Outcome::Failed,
        sqlstate: Some(*b"42P01"),
        rows: u64::MAX,
        duration_us: 1_500,
        ..crate::audit::samples::done(Of::Intent(2, None))
    }
}

/// A login and a statement.
fn found(text: &[u8]) -> Vec<Found> {
    let actor = identity(7);
    let handshake: Authentication<'_> = crate::audit::samples::authentication();
    let mut assembler = Assembler::default();
    let mut all = Vec::new();
    let entries = [
        entry(&stamp(0), &session_start(&actor)),
        entry(&stamp(1), &handshake),
        entry(&stamp(2), &Intent { judged: None, what: what(text, &[]) }),
        entry(&stamp(3), &done()),
    ];
    for (index, entry) in (10..).zip(&entries) {
        all.extend(assembler.push(index, entry).expect("an entry"));
    }
    all
}

fn with<T>(text: &[u8], show: impl Fn(&Exported<'_>) -> T) -> Vec<T> {
    let leaf = [9; 32];
    let all = found(text);
    all.iter().map(|found| show(&Exported { found, origin: ORIGIN, leaf: Some(&leaf) })).collect()
}

#[test]
fn ocsf_has_what_its_class_requires_and_loses_nothing() {
    let events = with(b"select 1", ocsf);
    let event = &events[1];
    for (path, expected) in [
        ("/class_uid", json!(6005)),
        ("/category_uid", json!(6)),
        ("/activity_id", json!(4)),
        ("/type_uid", json!(600_504)),
        ("/time", json!(NOW.wall.0 / 1_000_000)),
        ("/status_id", json!(2)),
        ("/status_code", json!("42P01")),
        ("/severity_id", json!(2)),
        ("/duration", json!(1)),
        ("/query_info/query_string", json!("select 1")),
        ("/query_info/data_rows", json!(u64::MAX)),
        ("/actor/user/name", json!("app")),
        ("/actor/process/pid", json!(7)),
        ("/actor/process/file/path", json!("/usr/bin/psql")),
        ("/actor/process/cmd_line", json!("psql -c select 1")),
        ("/src_endpoint/ip", json!("fd00::9")),
        ("/dst_endpoint", json!({"ip": "10.0.0.5", "port": 5432})),
        ("/database/name", json!("shop")),
        ("/metadata/uid", json!("pgward/6f1c/1:13")),
        ("/metadata/profiles/3", json!("record_integrity")),
        ("/attestation/fingerprint/value", json!("09".repeat(32))),
        ("/attestation/chain_uid", json!(ORIGIN)),
        ("/unmapped/seq", json!(2)),
        ("/unmapped/duration_us", json!(1_500)),
    ] {
        assert_eq!(event.pointer(path), Some(&expected), "{path}: {event:#}");
    }
    assert_eq!((&events[0]["activity_id"], &events[0]["status_id"]), (&json!(3), &json!(2)));
    // Each field of each thing is somewhere.
    for (found, event) in found(b"select 1").iter().zip(&events) {
        let shown = event.to_string();
        for (name, value) in found
            .object
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "v" | "actor" | "writer" | "source"))
        {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let text = text.split(':').next().unwrap_or_default();
            assert!(shown.contains(text), "{name} {value}: {shown}");
        }
    }
}

#[test]
fn cef_is_one_line_whatever_is_in_it() {
    let lines = with(TEXT, cef);
    assert!(lines[0].starts_with("CEF:0|pgward|pgward|"), "{}", lines[0]);
    assert!(lines[0].contains("|session_start|session start|5|rt="), "{}", lines[0]);
    let line = &lines[1];
    assert!(!line.chars().any(char::is_control) && !line.contains('\u{2028}'), "{line}");
    let message = "msg=\\=select 'a|b\\\\c', \"d\"\\n\\r\\\\u001b[2J \\\\u0000, x\\=1 -- \\\\u2028";
    assert!(line.contains(message), "{line}");
    for part in [
        " suser=app ",
        " spid=7 ",
        " sproc=/usr/bin/psql ",
        " dst=10.0.0.5 dpt=5432 ",
        " reason=42P01 ",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let long = with(&[b'x'; 5_000], cef);
    assert!(long[1].len() < 2_000, "a long text is cut");
}

#[test]
fn csv_has_a_column_for_each_field() {
    let rows = with(TEXT, csv_row);
    let header = csv_header();
    let columns: Vec<&str> = header.trim_end().split(',').collect();
    assert_eq!(&columns[..4], ["origin", "index", "leaf", "started"]);
    for row in &rows {
        assert_eq!(cells(row).len(), columns.len(), "{row}");
    }
    let cells = cells(&rows[1]);
    let cell = |name: &str| {
        let at = columns.iter().position(|column| *column == name).expect("a column");
        cells[at].as_str()
    };
    let text = String::from_utf8(TEXT.to_vec()).expect("UTF-8");
    assert_eq!(cell("text"), format!("'{text}"), "an apostrophe keeps it from being a formula");
    assert_eq!((cell("rows"), cell("sqlstate")), ("18446744073709551615", "42P01"));
    assert_eq!((cell("index"), cell("outcome")), ("13", "failed"));
}

/// Cells of a line as RFC 4180 has them.
fn cells(row: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    let mut characters = row.strip_suffix("\r\n").expect("a line end").chars().peekable();
    while let Some(character) = characters.next() {
        let last = cells.last_mut().expect("there is one");
        match character {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => last.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            other => last.push(other),
        }
    }
    assert!(!quoted, "{row}");
    cells
}

/// JSON lines say all that an entry holds: text that is no UTF-8, the largest number, zeros.
#[test]
fn json_comes_back_to_what_was_hashed() {
    for text in [&b"select 1"[..], b"\xff\xfe", b"a\0b", "é🐘\u{2028}".as_bytes(), TEXT] {
        let parameter =
            Parameter { format: 1, type_oid: 17, value: Held::Clear(text), full_bytes: None };
        let intent = entry(&stamp(2), &Intent { judged: None, what: what(text, &[parameter]) });
        let outcome = entry(&stamp(3), &done());
        for bytes in [&intent, &outcome] {
            let line = view::line(&Value::Object(view::object(bytes).expect("an entry")));
            let back: Value = serde_json::from_str(&line).expect("JSON");
            let whole = Entry::decode(bytes).expect("an entry");
            for (number, value) in whole.fields() {
                let field = by_number(ENTRY, number).expect("a known field");
                let name = field.name;
                let shown = &back[name];
                match value {
                    Cbor::Uint(value) if name == "event" => {
                        let kind = EventKind::from_number(value).expect("a known event");
                        assert_eq!(shown, kind.name());
                    }
                    Cbor::Uint(value) => assert_eq!(number_of(shown, field.kind), value, "{name}"),
                    Cbor::Bytes(value) if number == u64::from(f::TEXT) => {
                        assert_eq!(bytes_of(&back, name), value, "{name}");
                    }
                    Cbor::Bytes(value) => {
                        let text = shown.as_str().expect("a text");
                        assert!(text == hex::encode(value) || text.as_bytes() == value, "{name}");
                    }
                    Cbor::Text(value) => assert_eq!(shown, value, "{name}"),
                    Cbor::Array(_) if name == "params" => {
                        assert_eq!(bytes_of(&shown[0], "value"), text, "{name}");
                    }
                    Cbor::Array(_) | Cbor::Map(_) | Cbor::Bool(_) | Cbor::Null => {}
                }
            }
        }
    }
}

/// The number that JSON shows, taken back exactly.
fn number_of(shown: &Value, kind: Kind) -> u64 {
    let text = || shown.as_str().expect("a text");
    match kind {
        Kind::Uint => shown.as_u64().expect("a number"),
        Kind::Word(words) => words.iter().position(|word| *word == text()).expect("a word") as u64,
        Kind::Wall => {
            let time = humantime::parse_rfc3339(text()).expect("a time");
            let since = time.duration_since(std::time::UNIX_EPOCH).expect("behind 1970");
            u64::try_from(since.as_nanos()).expect("it was one")
        }
        Kind::Uints
        | Kind::Flag
        | Kind::Text
        | Kind::Texts
        | Kind::Peer
        | Kind::Value
        | Kind::Hex
        | Kind::Words(_)
        | Kind::Object(_)
        | Kind::Objects(_)
        | Kind::Pairs => panic!("no number has the kind {kind:?}"),
    }
}

fn bytes_of(object: &Value, name: &str) -> Vec<u8> {
    use base64::Engine as _;
    let text = object[name].as_str().expect("a text");
    match object[format!("{name}_encoding")].as_str() {
        Some("base64") => base64::engine::general_purpose::STANDARD.decode(text).expect("base64"),
        Some(other) => panic!("no encoding of ours: {other}"),
        None => text.as_bytes().to_vec(),
    }
}
