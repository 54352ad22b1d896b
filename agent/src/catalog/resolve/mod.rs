//! Facts become requests: each name is looked up, and what stands behind it is added.

use super::snapshot::Snapshot;
use super::state::{SessionState, Slot};
use crate::policy::Request;
use crate::sql::facts::{Facts, Name, Statement, Unknown};

/// Requests of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// One for each statement, in order.
    pub requests: Vec<Request>,
    /// A name is not in the catalog: read it again when idle.
    pub stale: bool,
    /// It depends on prepared statements or cursors of the session: no other session may use it.
    pub own: bool,
}

/// How far code goes whose text is not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Code {
    /// None runs.
    None,
    /// Functions that someone made run.
    Functions,
    /// Anything runs.
    Any,
}

/// What each statement of a text asks for.
pub fn resolve(facts: &Facts, state: &SessionState, catalog: Option<&Snapshot>) -> Resolution {
    let _ = (state, catalog);
    let requests = facts.statements.iter().map(unknown).collect();
    Resolution { requests, stale: false, own: false }
}

/// What a prepared statement or cursor asks for that SQL or the protocol named: for `Bind` and `Execute` of names that the
/// protocol did not give.
pub fn resolve_held(
    slot: Slot,
    name: &Name,
    state: &SessionState,
    catalog: Option<&Snapshot>,
) -> Resolution {
    let _ = (slot, name, state, catalog);
    Resolution { requests: Vec::new(), stale: false, own: true }
}

/// What a startup packet asks for: its settings, those in `options` included.
pub fn startup_request(parameters: &[(&[u8], &[u8])]) -> Request {
    let _ = parameters;
    Request {
        kind: crate::sql::facts::Kind("startup"),
        needs: Vec::new(),
        unknown: vec![Unknown::Unanalysed],
        fingerprint: 0,
    }
}

/// Whether a setting changes what statements mean.
pub fn is_pinned(setting: &str) -> bool {
    setting == "search_path"
}

/// Whether a statement may change the catalog, so that it should be read again.
pub fn changes_catalog(statement: &Statement) -> bool {
    !statement.objects.is_empty()
}

pub(super) fn code(
    statement: &Statement,
    state: &SessionState,
    catalog: Option<&Snapshot>,
) -> Code {
    let _ = (statement, state, catalog);
    Code::Any
}

fn unknown(statement: &Statement) -> Request {
    Request {
        kind: statement.kind,
        needs: Vec::new(),
        unknown: vec![Unknown::Unanalysed],
        fingerprint: statement.fingerprint,
    }
}
