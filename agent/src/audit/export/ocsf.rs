//! Events of the Open Cybersecurity Schema Framework 1.9: class `datastore_activity` (6005) with the
//! profiles host, container, security_control and record_integrity.

use serde_json::{Map, Value, json};

use super::{Exported, endpoint, went_well};
use crate::audit::schema::{ACTOR, CONTAINER, ENTRY, Field, by_name};
use crate::audit::search::time;
use crate::audit::view::Object;

const VERSION: &str = "1.9.0-dev";
const PROFILES: [&str; 4] = ["host", "container", "security_control", "record_integrity"];
const CLASS: u64 = 6005;

/// Something as an event of OCSF. Fields without a place there are in `unmapped`, by their own names.
pub fn ocsf(exported: &Exported<'_>) -> Value {
    let mut event = Object::new();
    let (activity, name) = activity(exported);
    for (field, value) in [
        ("category_uid", json!(6)),
        ("category_name", json!("Application Activity")),
        ("class_uid", json!(CLASS)),
        ("class_name", json!("Datastore Activity")),
        ("activity_id", json!(activity)),
        ("activity_name", json!(name)),
        ("type_uid", json!(CLASS * 100 + activity)),
        ("type_id", json!(1)),
        ("severity_id", json!(severity(exported))),
        ("time", json!(time(&exported.found.object).unwrap_or(0) / 1_000_000)),
        ("time_dt", exported.field("time").cloned().unwrap_or(Value::Null)),
        ("metadata", metadata(exported)),
    ] {
        event.insert(field.to_owned(), value);
    }
    let (status_id, status) = match went_well(exported) {
        Some(true) => (1, "Success"),
        Some(false) => (2, "Failure"),
        None => (0, "Unknown"),
    };
    event.insert("status_id".to_owned(), status_id.into());
    event.insert("status".to_owned(), status.into());
    // Both are required by the class; what is known only of the session stands for its statements.
    for name in ["database", "database_user", "destination", "source", "application_name"] {
        if let Some(value) = exported.field_or_start(name) {
            place(name, value, ENTRY, "", &mut event);
        }
    }
    if let Some(Value::Object(actor)) = exported.actor() {
        actor_fields(actor, &mut event);
    }
    for (name, value) in &exported.found.object {
        match name.as_str() {
            "time" | "v" | "event" | "actor" | "writer" | "version" | "database"
            | "database_user" | "destination" | "source" | "application_name" => {}
            _ => place(name, value, ENTRY, "", &mut event),
        }
    }
    for (path, value) in [("actor.user.name", json!("unknown")), ("src_endpoint", json!({}))] {
        if at(&event, path).is_none() {
            set(&mut event, path, value);
        }
    }
    if let Some(leaf) = exported.leaf {
        let fingerprint =
            json!({"algorithm": "SHA-256", "algorithm_id": 3, "value": hex::encode(leaf)});
        let attestation = json!({
            "chain_uid": exported.origin,
            "fingerprint": fingerprint,
            "sequence": exported.found.index,
        });
        event.insert("attestation".to_owned(), attestation);
    }
    Value::Object(event)
}

/// `activity_id` and its name.
fn activity(exported: &Exported<'_>) -> (u64, &'static str) {
    match exported.text("event") {
        Some("statement" | "denied") => (4, "Query"),
        Some("session_start" | "refused" | "allowed_unseen") => (3, "Connect"),
        Some(_) => (99, "Other"),
        None => (0, "Unknown"),
    }
}

fn severity(exported: &Exported<'_>) -> u64 {
    match (exported.text("event"), went_well(exported)) {
        (Some("denied" | "failure" | "events_lost" | "allowed_unseen"), _) => 3,
        (_, Some(false)) => 2,
        (_, _) => 1,
    }
}

fn metadata(exported: &Exported<'_>) -> Value {
    json!({
        "version": VERSION,
        "profiles": PROFILES,
        "product": {"name": "pgward", "vendor_name": "pgward", "version": env!("CARGO_PKG_VERSION")},
        "uid": exported.uid(),
        "log_name": exported.origin,
        "event_code": exported.text("event"),
        "sequence": exported.found.index,
    })
}

fn actor_fields(actor: &Object, event: &mut Object) {
    for (name, value) in actor {
        match (name.as_str(), value) {
            ("container", Value::Object(container)) => {
                for (name, value) in container {
                    place(name, value, CONTAINER, "actor.process.", event);
                }
            }
            ("exe_sha256", Value::String(digest)) => {
                let hashes = json!([{"algorithm": "SHA-256", "algorithm_id": 3, "value": digest}]);
                set(event, "actor.process.file.hashes", hashes);
            }
            ("cmdline", Value::Array(arguments)) => {
                let arguments: Vec<&str> = arguments.iter().filter_map(Value::as_str).collect();
                set(event, "actor.process.cmd_line", arguments.join(" ").into());
            }
            ("parents", Value::Array(parents)) => {
                let paths = parents.iter().filter_map(|parent| parent["exe"].as_str());
                set(event, "actor.process.lineage", paths.collect());
                set(event, "unmapped.actor.parents", value.clone());
            }
            // The user of the database is `actor.user`; that of the host is the process's.
            ("uid", _) => set(event, "actor.process.user.uid", text(value)),
            ("user", _) => set(event, "actor.process.user.name", text(value)),
            (name, value) => match path(ACTOR, name) {
                Some(path) => set(event, path, value.clone()),
                None => set(event, &format!("unmapped.actor.{name}"), value.clone()),
            },
        }
    }
}

/// Puts a field where its table says, or into `unmapped`.
fn place(name: &str, value: &Value, table: &'static [Field], prefix: &str, event: &mut Object) {
    match (path(table, name), value) {
        (Some(path @ ("dst_endpoint" | "src_endpoint")), Value::String(address)) => {
            let parts = endpoint(address);
            let parts = parts
                .map_or(json!({"name": address}), |(ip, port)| json!({"ip": ip, "port": port}));
            set(event, path, parts);
        }
        // Microseconds in the trail, milliseconds there.
        (Some("duration"), Value::Number(micros)) => {
            set(event, "duration", (micros.as_u64().unwrap_or(0) / 1000).into());
            set(event, "unmapped.duration_us", value.clone());
        }
        (Some("start_time"), Value::String(_)) => {
            let object = Object::from_iter([("time".to_owned(), value.clone())]);
            set(event, "start_time", (time(&object).unwrap_or(0) / 1_000_000).into());
        }
        (Some("database.name"), _) => {
            set(event, "database.name", value.clone());
            set(event, "database.type_id", 1.into());
        }
        (Some("policy.name"), Value::Array(rules)) => {
            let rules: Vec<&str> = rules.iter().filter_map(Value::as_str).collect();
            set(event, "policy.name", rules.join(",").into());
        }
        (Some(path), _) => set(event, &format!("{prefix}{path}"), value.clone()),
        (None, _) if prefix.is_empty() => set(event, &format!("unmapped.{name}"), value.clone()),
        (None, _) => set(event, &format!("unmapped.actor.container.{name}"), value.clone()),
    }
}

fn path(table: &'static [Field], name: &str) -> Option<&'static str> {
    by_name(table, name).map(|field| field.ocsf).filter(|path| !path.is_empty())
}

fn text(value: &Value) -> Value {
    match value {
        Value::String(_) => value.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string().into()
        }
    }
}

fn at<'e>(event: &'e Object, path: &str) -> Option<&'e Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
    let value = event.get(first)?;
    match rest {
        None => Some(value),
        Some(rest) => at(value.as_object()?, rest),
    }
}

/// Puts a value at a path of names; what is there and is no object is replaced.
fn set(event: &mut Object, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            event.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = event.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            if let Value::Object(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}
