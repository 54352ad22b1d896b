//! What a text asks for, as far as it can be told without a server.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::thread;

use crate::catalog::{SessionState, resolve};
use crate::policy::Request;
use crate::sql::facts::{Encoding, Kind, Limits, STACK_BYTES, Unknown, analyse};

/// Texts whose requests are kept: those of applications repeat.
const KEPT_MAX: usize = 10_000;

/// Turns texts into requests, without a catalog: a name without a schema stands for every relation of that name, and views
/// for themselves alone.
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
        Some(Ok(requests)) => requests,
        Some(Err(unknown)) => vec![not_understood(unknown)],
        None => vec![not_understood(Unknown::Unanalysed)],
    }
}

fn not_understood(unknown: Unknown) -> Request {
    Request { kind: Kind("unknown"), needs: Vec::new(), unknown: vec![unknown], fingerprint: 0 }
}
