//! Prepared statements and portals of a session, as the server has confirmed them.
//!
//! An entry changes only when the server says so (`ParseComplete`, `BindComplete`,
//! `CloseComplete`), never when the client asks: in a pipeline the answer to an earlier message
//! decides what a later one means. An entry that the server dropped on its own account (an unnamed
//! statement replaced by a failed one, `DEALLOCATE`) may stay: using it fails on the server, so
//! nothing is ever run under its text. The exception is a name that SQL gives to something else,
//! see [`Names::note_tag`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::report::{Bound, Prepared, TextState};
use crate::pg::codec::{Limits, TEXT_KEPT_BYTES_MIN};
use crate::pg::frontend::{Oids, Target};

/// Name of a prepared statement or portal, empty for the unnamed one.
///
/// The server tells names apart by their first [`Name::KEY_BYTES`] bytes (`NAMEDATALEN`, keys of
/// `prepared_queries` and `PortalHashTable`); others may use all of them. So two names that differ
/// only behind that are the same entry here, and what it stands for is not known.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Bytes the server looks at.
    pub const KEY_BYTES: usize = 63;
    /// Bytes kept. A longer name is never known to be equal to another.
    pub const BYTES_MAX: usize = 255;

    pub(super) fn new(name: &[u8]) -> Self {
        Self(name[..name.len().min(Self::BYTES_MAX + 1)].into())
    }

    fn key(&self) -> &[u8] {
        &self.0[..self.0.len().min(Self::KEY_BYTES)]
    }

    /// Whether the server may take the two for the same.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    /// Whether every server takes the two for the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        self == other && self.len() <= Self::BYTES_MAX
    }
}

impl std::ops::Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.0.escape_ascii())
    }
}

/// A portal and what was bound to it.
struct Portal {
    name: Name,
    bound: Arc<Bound>,
}

#[derive(Default)]
pub(super) struct Names {
    /// By key. Ordered maps: no hashing of names chosen by a peer, no random state.
    statements: BTreeMap<Box<[u8]>, Arc<Prepared>>,
    portals: BTreeMap<Box<[u8]>, Portal>,
    unnamed_statement: Option<Arc<Prepared>>,
    unnamed_portal: Option<Arc<Bound>>,
    bytes: usize,
    /// Changes with every change of a prepared statement.
    generation: u64,
    statements_dropped_by_sql: bool,
    portals_dropped_by_sql: bool,
}

impl Names {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn statement(&self, name: &Name) -> Option<&Arc<Prepared>> {
        if name.is_empty() {
            return self.unnamed_statement.as_ref();
        }
        self.statements.get(name.key()).filter(|prepared| prepared.name.is(name))
    }

    pub(super) fn portal(&self, name: &Name) -> Option<&Arc<Bound>> {
        if name.is_empty() {
            return self.unnamed_portal.as_ref();
        }
        let portal = self.portals.get(name.key()).filter(|portal| portal.name.is(name));
        portal.map(|portal| &portal.bound)
    }

    /// Notes a `ParseComplete`. Beyond the number limit the name is forgotten instead, beyond the
    /// byte limit its text is cut.
    pub(super) fn put_statement(&mut self, prepared: Arc<Prepared>, limits: &Limits) {
        self.generation += 1;
        self.remove_statement(&prepared.name);
        let full = !prepared.name.is_empty() && self.statements.len() >= limits.statements_max;
        if full {
            return;
        }
        let fits = self.bytes + prepared.weight() <= limits.named_bytes_max;
        let prepared = if fits { prepared } else { Arc::new(cut(&prepared)) };
        self.bytes += prepared.weight();
        if prepared.name.is_empty() {
            self.unnamed_statement = Some(prepared);
        } else {
            self.statements.insert(prepared.name.key().into(), prepared);
        }
    }

    /// Notes that the unnamed statement is gone: a simple `Query` and every `Parse` without a name
    /// drop it before anything else.
    pub(super) fn drop_unnamed(&mut self) {
        if self.unnamed_statement.is_some() {
            self.generation += 1;
            self.remove_statement(&Name::default());
        }
    }

    /// Notes a `ParameterDescription`: the parameters' types as the server sees them.
    pub(super) fn describe_statement(&mut self, name: &Name, types: &Oids<'_>, limits: &Limits) {
        let Some(known) = self.statement(name) else { return };
        let same = known.types.len() == types.len() && known.types.iter().copied().eq(types.iter());
        if same || types.len() > limits.parameters_max {
            return;
        }
        let mut described = Prepared::clone(known);
        described.types = types.iter().collect();
        self.put_statement(Arc::new(described), limits);
    }

    /// Notes a `BindComplete`, with the same limits.
    pub(super) fn put_portal(&mut self, name: Name, mut bound: Arc<Bound>, limits: &Limits) {
        self.remove_portal(&name);
        if !name.is_empty() && self.portals.len() >= limits.portals_max {
            return;
        }
        if self.bytes + portal_weight(&name, &bound) > limits.named_bytes_max {
            let parameters = bound.parameters.outline();
            let Bound { statement, prepared, parameters: _ } = bound.as_ref().clone();
            bound = Arc::new(Bound { statement, prepared, parameters });
        }
        self.bytes += portal_weight(&name, &bound);
        if name.is_empty() {
            self.unnamed_portal = Some(bound);
        } else {
            self.portals.insert(name.key().into(), Portal { name, bound });
        }
    }

    /// Notes a `CloseComplete`; a name that does not exist is no error.
    pub(super) fn close(&mut self, target: Target, name: &Name) {
        match target {
            Target::Statement => {
                self.generation += 1;
                self.remove_statement(name);
            }
            Target::Portal => self.remove_portal(name),
        }
    }

    /// Notes that no transaction is open: every portal is gone.
    #[inline]
    pub(super) fn end_transaction(&mut self) {
        if !self.portals.is_empty() {
            self.clear_named_portals();
        }
        if self.unnamed_portal.is_some() {
            self.remove_portal(&Name::default());
        }
        self.portals_dropped_by_sql = false;
    }

    /// Notes what a `CommandComplete` says about names.
    ///
    /// SQL can drop a prepared statement or portal and give its name to another, and which one is
    /// not in the tag. So once SQL has dropped any, the first definition by SQL makes all named
    /// entries unknown rather than possibly wrong. (Both hidden in a `DO` block have no tag of
    /// their own and are not seen.)
    #[inline]
    pub(super) fn note_tag(&mut self, tag: &[u8]) {
        match tag {
            b"DEALLOCATE" | b"DEALLOCATE ALL" | b"DISCARD ALL" => {
                self.statements_dropped_by_sql = true;
            }
            b"PREPARE" if self.statements_dropped_by_sql => {
                self.generation += 1;
                self.clear_named_statements();
            }
            b"CLOSE CURSOR" | b"CLOSE CURSOR ALL" | b"COMMIT" | b"ROLLBACK" => {
                self.portals_dropped_by_sql = true;
            }
            b"DECLARE CURSOR" if self.portals_dropped_by_sql => self.clear_named_portals(),
            _ => {}
        }
    }

    /// Bytes kept for all entries, roughly.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn remove_statement(&mut self, name: &Name) {
        let removed = if name.is_empty() {
            self.unnamed_statement.take()
        } else {
            self.statements.remove(name.key())
        };
        self.bytes -= removed.map_or(0, |prepared| prepared.weight());
    }

    fn remove_portal(&mut self, name: &Name) {
        let weight = if name.is_empty() {
            self.unnamed_portal.take().map(|bound| portal_weight(name, &bound))
        } else {
            let removed = self.portals.remove(name.key());
            removed.map(|portal| portal_weight(&portal.name, &portal.bound))
        };
        self.bytes -= weight.unwrap_or(0);
    }

    fn clear_named_statements(&mut self) {
        let removed: usize = self.statements.values().map(|prepared| prepared.weight()).sum();
        self.bytes -= removed;
        self.statements.clear();
    }

    fn clear_named_portals(&mut self) {
        let removed: usize =
            self.portals.values().map(|portal| portal_weight(&portal.name, &portal.bound)).sum();
        self.bytes -= removed;
        self.portals.clear();
    }
}

/// A prepared statement with only the beginning of its text.
pub(super) fn cut(prepared: &Prepared) -> Prepared {
    let kept = prepared.text.len().min(TEXT_KEPT_BYTES_MIN);
    let text_state = match prepared.text_state {
        TextState::Exact if kept < prepared.text_bytes => TextState::Cut,
        state @ (TextState::Exact | TextState::Cut | TextState::Malformed | TextState::Unknown) => {
            state
        }
    };
    Prepared {
        name: prepared.name.clone(),
        text: prepared.text[..kept].into(),
        text_bytes: prepared.text_bytes,
        text_state,
        types: Box::default(),
        decided_under: prepared.decided_under,
    }
}

fn portal_weight(name: &Name, bound: &Bound) -> usize {
    name.len() + bound.statement.len() + bound.parameters.weight()
}
