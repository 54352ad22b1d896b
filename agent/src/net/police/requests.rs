//! Requests that no text tells: of calls by number, and of what is not known.

use crate::{
    catalog::{Resolution, Snapshot},
    pg::session::Ready,
    policy::{Need, Object, Reached, Request},
    sql::facts::{self, Effect, Name, Unknown},
};

/// What a call of a function by its number asks for.
pub(super) fn function_call(ready: &Ready, catalog: Option<&Snapshot>) -> Resolution {
    let number = ready.function.unwrap_or(0);
    let named = catalog.and_then(|catalog| match catalog.function(number) {
        Some(function) => Some((function.schema.clone(), function.name.clone())),
        None => catalog.builtin(number).map(|name| (Name::new("pg_catalog"), name.clone())),
    });
    let Some((schema, name)) = named else { return unknown(Unknown::Code("function_call")) };
    let need = |action| Need {
        action,
        object: Object::Function { schema: Some(schema.clone()), name: name.clone() },
        reached: Reached::Named,
    };
    let request = Request {
        kind: facts::Kind("function call"),
        needs: vec![need(Effect::FunctionCall), need(Effect::Execute)],
        unknown: Vec::new(),
        fingerprint: u64::from(number),
    };
    Resolution { requests: vec![request], stale: false, own: true }
}

/// What a text asks for of which nothing is known but why.
pub(super) fn unknown(why: Unknown) -> Resolution {
    let request = Request {
        kind: facts::Kind("unknown"),
        needs: Vec::new(),
        unknown: vec![why],
        fingerprint: 0,
    };
    Resolution { requests: vec![request], stale: false, own: true }
}

/// What names stand for is not certain: a relation may be a view of another, a function may read any. For this one time.
pub(super) fn not_known(resolution: &mut Resolution) {
    resolution.own = true;
    for request in &mut resolution.requests {
        let named = request.needs.iter().any(|need| match need.object {
            Object::Relation { .. } | Object::Function { .. } => true,
            Object::Other { .. }
            | Object::Setting(_)
            | Object::Role(_)
            | Object::Channel(_)
            | Object::Session => false,
        });
        if named {
            request.unknown.push(Unknown::Catalog);
        }
    }
}

/// Whether it changes nothing of what names mean.
pub(super) fn is_plain(statement: &facts::Statement) -> bool {
    statement.settings.is_empty() && statement.objects.is_empty() && statement.handles.is_empty()
}

/// A name that SQL could say, too.
pub(super) fn named(name: &[u8]) -> Option<Name> {
    let text = std::str::from_utf8(name).ok().filter(|text| !text.is_empty())?;
    Some(Name::new(text))
}
