//! What a text asks for, as far as it can be told without a server.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::thread;

use crate::catalog::{SessionState, resolve, usually_computes};
use crate::policy::{Need, Object, Request};
use crate::sql::facts::{Effect, Encoding, Kind, Limits, Name, STACK_BYTES, Unknown, analyse};

/// Texts whose requests are kept: those of applications repeat.
const KEPT_MAX: usize = 10_000;

/// Turns texts into requests, without a catalog: a name without a schema stands for every relation of that name, and a
/// view for itself alone.
#[derive(Default)]
pub(super) struct Analysis {
    kept: RefCell<HashMap<Box<str>, Rc<Vec<Request>>>>,
}

impl Analysis {
    /// What the statements of `text` ask for. None for a text without statements.
    pub(super) fn requests(&self, text: &str) -> Rc<Vec<Request>> {
        if let Some(kept) = self.kept.borrow().get(text) {
            return kept.clone();
        }
        let requests = Rc::new(fresh(text));
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(text.into(), requests.clone());
        requests
    }
}

/// The parser recurses: it gets a thread with a stack for it. What it does not come back from is not understood.
fn fresh(text: &str) -> Vec<Request> {
    let facts = thread::scope(|scope| {
        let analyse = || {
            analyse(text.as_bytes(), Encoding::Utf8, &Limits::default())
                .map(|facts| resolve(&facts, &SessionState::unknown(), None).requests)
        };
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, analyse);
        thread.ok().and_then(|thread| thread.join().ok())
    });
    match facts {
        Some(Ok(mut requests)) => {
            for request in &mut requests {
                // Names are taken for those of tables, and of functions that every server has.
                request.unknown.retain(|unknown| *unknown != Unknown::Catalog);
                request.needs.retain(|need| !is_usual(need));
            }
            requests
        }
        Some(Err(unknown)) => vec![not_understood(unknown)],
        None => vec![not_understood(Unknown::Unanalysed)],
    }
}

/// Whether it runs a function that every server has, and that only computes.
fn is_usual(need: &Need) -> bool {
    let Object::Function { schema, name } = &need.object else { return false };
    let schema = schema.as_ref().map_or("pg_catalog", Name::as_str);
    need.action == Effect::Execute && schema == "pg_catalog" && usually_computes(name.as_str())
}

fn not_understood(unknown: Unknown) -> Request {
    Request { kind: Kind("unknown"), needs: Vec::new(), unknown: vec![unknown], fingerprint: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_the_server_compute_and_others_do_not() {
        let analysis = Analysis::default();
        let needs = |text| analysis.requests(text)[0].needs.len();
        assert_eq!(needs("SELECT lower('a'), pg_catalog.max(1), now()"), 0);
        assert_eq!(needs("SELECT bill(1), public.lower('a')"), 2);
        for name in ["pg_read_file", "lo_get", "pg_terminate_backend", "dblink"] {
            assert!(!usually_computes(name), "{name}");
        }
    }

    #[test]
    fn texts_are_understood_without_a_catalog() {
        let analysis = Analysis::default();
        let requests = analysis.requests("SELECT id FROM public.t; DO 'x'");
        assert_eq!(requests.len(), 2);
        assert_eq!((requests[0].needs.len(), &requests[0].unknown[..]), (1, &[][..]));
        assert!(!requests[1].unknown.is_empty());
        assert_eq!(*analysis.requests("selec"), [not_understood(Unknown::Syntax)]);
        assert_eq!(*analysis.requests("-- nothing"), []);
    }

    #[test]
    fn the_cases_of_the_example_hold() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/policy.toml");
        let policy = crate::policy::Policy::load(path.as_ref()).unwrap_or_else(|r| panic!("{r}"));
        let analysis = Analysis::default();
        for ran in policy.run_cases(&|text| analysis.requests(text).to_vec()) {
            let failure = ran.failure.map(|failure| failure.to_string());
            assert_eq!(failure, None, "line {}: {}", ran.case.line, ran.case.name);
        }
    }
}
