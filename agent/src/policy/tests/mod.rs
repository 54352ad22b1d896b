//! Tests of the policy as a whole.

mod naive;
mod properties;
mod reading;
mod semantics;
mod world;

use super::*;
use crate::sql::facts::{Effect, Kind, Name, Unknown};

/// A Monday, at noon.
const NOON: WallTime = WallTime(1_704_067_200 + 12 * 3600);

fn policy(text: &str) -> Policy {
    Policy::parse("policy.toml", text).unwrap_or_else(|report| panic!("{report}"))
}

fn name(text: &str) -> Name {
    Name::new(text)
}

fn relation(schema: Option<&str>, table: &str, columns: Columns) -> Object {
    Object::Relation { schema: schema.map(name), name: name(table), columns }
}

fn these(columns: &[&str]) -> Columns {
    Columns::These(columns.iter().map(|column| name(column)).collect())
}

fn need(action: Effect, object: Object) -> Need {
    Need { action, object, reached: Reached::Named }
}

fn request(needs: Vec<Need>) -> Request {
    Request { kind: Kind("test"), needs, unknown: Vec::new(), fingerprint: 0 }
}

fn unknown(what: Unknown) -> Request {
    Request { unknown: vec![what], ..request(Vec::new()) }
}

fn user(role: &str) -> Subject {
    Subject { role: role.into(), database: "shop".into(), ..Subject::default() }
}

/// The verdict for `role`, at noon.
fn judge(policy: &Policy, role: &str, request: &Request) -> Verdict {
    policy.judge(&policy.class(&user(role)), request, NOON)
}

/// How it fares, in the words of cases.
fn word(verdict: &Verdict) -> &'static str {
    match verdict.outcome() {
        Outcome::Allow => "allow",
        Outcome::Observe(_) => "observe",
        Outcome::Warn(_) => "warn",
        Outcome::Deny(_) => "deny",
    }
}
