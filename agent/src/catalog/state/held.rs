//! Statements that names stand for: prepared ones, cursors, definitions not yet in the catalog.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sql::facts::{Name, Statement};

/// Names of one kind that a session keeps.
pub(in crate::catalog) const NAMES_MAX: usize = 1024;
/// Statements that one name may stand for, while it is not known which.
const MEANINGS_MAX: usize = 8;
/// Facts kept for all names of one kind.
const FACTS_MAX: usize = 100_000;

/// Statements by name. A name stands for all that it may stand for: a statement is added when it is sent, and others leave
/// when the server has said that this one took the name.
#[derive(Clone, Debug, Default)]
pub(in crate::catalog) struct Held {
    names: BTreeMap<Name, Meanings>,
    facts: usize,
}

/// What a name may stand for.
#[derive(Clone, Debug, Default)]
pub(in crate::catalog) struct Meanings {
    pub(in crate::catalog) statements: Vec<Arc<Statement>>,
    /// It may also stand for something that was not seen or not kept.
    pub(in crate::catalog) opaque: bool,
}

impl Held {
    pub(in crate::catalog) fn meanings(&self, name: &Name) -> Option<&Meanings> {
        self.names.get(name)
    }

    /// Adds what the name may stand for from now on. Names beyond the limit are not kept: unknown names are unknown.
    pub(in crate::catalog) fn add(&mut self, name: &Name, statement: &Statement) {
        if !self.names.contains_key(name) && self.names.len() >= NAMES_MAX {
            return;
        }
        let weight = weight(statement);
        let fits = self.facts + weight <= FACTS_MAX;
        let meanings = self.names.entry(name.clone()).or_default();
        if meanings.statements.iter().any(|known| **known == *statement) {
            return;
        }
        if !fits || meanings.statements.len() >= MEANINGS_MAX {
            meanings.opaque = true;
            return;
        }
        meanings.statements.push(Arc::new(statement.clone()));
        self.facts += weight;
    }

    /// The name stands for what was last added, and nothing else.
    pub(in crate::catalog) fn settle(&mut self, name: &Name, statement: &Statement) {
        let Some(meanings) = self.names.get_mut(name) else { return };
        let Some(at) = meanings.statements.iter().rposition(|known| **known == *statement) else {
            return;
        };
        let kept = meanings.statements.swap_remove(at);
        let others: usize = meanings.statements.drain(..).map(|other| weight(&other)).sum();
        meanings.statements.push(kept);
        meanings.opaque = false;
        self.facts -= others;
    }

    pub(in crate::catalog) fn remove(&mut self, name: &Name) {
        if let Some(meanings) = self.names.remove(name) {
            self.facts -= meanings.statements.iter().map(|known| weight(known)).sum::<usize>();
        }
    }

    pub(in crate::catalog) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Any of them may have been replaced by something that was not seen.
    pub(in crate::catalog) fn suspect(&mut self) {
        for meanings in self.names.values_mut() {
            meanings.opaque = true;
        }
    }

    pub(in crate::catalog) fn has(&self, name: &Name) -> bool {
        self.names.contains_key(name)
    }

    pub(in crate::catalog) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Removes names that the caller does not want.
    pub(in crate::catalog) fn retain(&mut self, wanted: impl Fn(&Name) -> bool) {
        let unwanted: Vec<Name> = self.names.keys().filter(|name| !wanted(name)).cloned().collect();
        for name in unwanted {
            self.remove(&name);
        }
    }
}

fn weight(statement: &Statement) -> usize {
    8 + statement.relations.len()
        + statement.columns.len()
        + statement.calls.len()
        + statement.objects.len()
        + statement.settings.len()
        + statement.parents.len()
}
