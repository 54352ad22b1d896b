//! Which columns of each relation a statement reads.

use std::collections::BTreeSet;

use super::Work;
use super::names::Target;
use crate::catalog::snapshot::Relation;
use crate::policy::Columns;
use crate::sql::facts::{
    ColumnUse, Derived, DerivedKind, Effect, Name, Place, RelationUse, Statement,
};

/// Columns that every relation has without naming them.
const SYSTEM: &[&str] = &["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"];

/// Columns that are read of a relation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    names: BTreeSet<Name>,
    all: bool,
}

impl Read {
    pub(super) fn columns(&self) -> Columns {
        if self.all {
            Columns::All
        } else if self.names.is_empty() {
            Columns::None
        } else {
            Columns::These(self.names.iter().cloned().collect())
        }
    }
}

/// Whether a relation has a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Has {
    Yes,
    No,
    /// Its columns are not known.
    Maybe,
}

/// Reads of each relation of a statement, and whether a column was found nowhere where the catalog should have it.
pub(super) fn reads(work: &Work<'_>, statement: &Statement) -> (Vec<Read>, bool) {
    let targets: Vec<Vec<Target<'_>>> =
        statement.relations.iter().map(|relation| work.targets(&relation.name)).collect();
    let mut columns = Attribution {
        statement,
        targets,
        reads: vec![Read::default(); statement.relations.len()],
        stale: false,
    };
    for column in &statement.columns {
        columns.attribute(column);
    }
    (columns.reads, columns.stale)
}

struct Attribution<'a> {
    statement: &'a Statement,
    targets: Vec<Vec<Target<'a>>>,
    reads: Vec<Read>,
    stale: bool,
}

impl<'a> Attribution<'a> {
    fn attribute(&mut self, column: &ColumnUse) {
        match (column.qualifiers.last(), &column.column) {
            (None, None) => {
                for relation in self.on_level(column.scope) {
                    self.reads[relation].all = true;
                }
            }
            (None, Some(name)) => self.bare(column, name),
            (Some(qualifier), name) => self.qualified(column, qualifier, name.as_ref()),
        }
    }

    /// A name alone is looked for from its own level outwards. The first level that certainly has it ends the search; where
    /// a source's columns are not known, it may be that one's or one's further out.
    fn bare(&mut self, column: &ColumnUse, name: &Name) {
        let mut derived = false;
        let mut found = false;
        for level in levels(self.statement, column.scope) {
            derived |= self.derived_on(level).next().is_some();
            let mut certain = false;
            for relation in self.on_level(level) {
                // A whole row: the name of a relation where a column could stand.
                if known_as(&self.statement.relations[relation]) == name {
                    self.reads[relation].all = true;
                    found = true;
                }
                match self.has(relation, name) {
                    Has::No => continue,
                    Has::Yes => certain = true,
                    Has::Maybe => {}
                }
                self.add(relation, name);
                found = true;
            }
            if certain {
                return;
            }
        }
        if !found {
            self.nowhere(column, name, derived);
        }
    }

    /// No relation has it. It is an alias of an output, or a column of a source that is no relation; the alias of a join may
    /// have renamed those of its relations. Where there is nothing of that, the catalog is out of date.
    fn nowhere(&mut self, column: &ColumnUse, name: &Name, derived: bool) {
        for level in levels(self.statement, column.scope) {
            let joined = self.derived_on(level).any(|source| source.kind == DerivedKind::Join);
            for relation in self.on_level(level) {
                self.reads[relation].all |= joined;
            }
        }
        let named_by_output = matches!(column.place, Place::Order | Place::Group);
        if derived || named_by_output {
            return;
        }
        let level = levels(self.statement, column.scope)
            .find(|&level| self.on_level(level).next().is_some());
        if let Some(level) = level {
            self.stale = true;
            for relation in self.on_level(level) {
                self.add(relation, name);
            }
        }
    }

    fn qualified(&mut self, column: &ColumnUse, qualifier: &Name, name: Option<&Name>) {
        for level in levels(self.statement, column.scope) {
            let named: Vec<usize> = self
                .on_level(level)
                .filter(|&relation| self.is_named(relation, &column.qualifiers))
                .collect();
            if !named.is_empty() {
                for relation in named {
                    self.of_row(relation, name);
                }
                return;
            }
            let source =
                self.derived_on(level).find(|source| source.name.as_ref() == Some(qualifier));
            let Some(source) = source else { continue };
            match source.kind {
                // Its columns are named where they come from.
                DerivedKind::Cte | DerivedKind::Subquery | DerivedKind::Function => {}
                DerivedKind::Row if qualifier.as_str() == "excluded" => {}
                DerivedKind::Row => {
                    let writes = [Effect::Insert, Effect::Update, Effect::Delete];
                    for relation in self.on_level(level) {
                        let effects = self.statement.relations[relation].effects;
                        if writes.iter().any(|effect| effects.contains(*effect)) {
                            self.of_row(relation, name);
                        }
                    }
                }
                DerivedKind::Join => {
                    let mut found = false;
                    for relation in self.on_level(level) {
                        if let Some(name) = name
                            && self.has(relation, name) == Has::Yes
                        {
                            self.add(relation, name);
                            found = true;
                        }
                    }
                    for relation in self.on_level(level) {
                        self.reads[relation].all |= !found;
                    }
                }
            }
            return;
        }
        // Nothing has this name: the server will refuse it, or knows what we do not.
        for level in levels(self.statement, column.scope) {
            for relation in self.on_level(level) {
                self.reads[relation].all = true;
            }
        }
    }

    /// A column of a row that is surely of this relation. One that it does not have is a function of the whole row.
    fn of_row(&mut self, relation: usize, name: Option<&Name>) {
        match name {
            Some(name) if self.has(relation, name) != Has::No => self.add(relation, name),
            Some(_) | None => self.reads[relation].all = true,
        }
    }

    /// Adds a column by the name that it has in the catalog.
    fn add(&mut self, relation: usize, name: &Name) {
        let renamed = &self.statement.relations[relation].renamed;
        let Some(position) = renamed.iter().position(|known| known == name) else {
            self.reads[relation].names.insert(name.clone());
            return;
        };
        for target in &self.targets[relation] {
            match target {
                Target::Known(known) => match known.columns.get(position) {
                    Some(column) => {
                        self.reads[relation].names.insert(column.name.clone());
                    }
                    None => self.reads[relation].all = true,
                },
                Target::Temporary(_) | Target::Unresolved => self.reads[relation].all = true,
            }
        }
    }

    fn has(&self, relation: usize, name: &Name) -> Has {
        let renamed = &self.statement.relations[relation].renamed;
        if renamed.contains(name) || SYSTEM.contains(&name.as_str()) {
            return Has::Yes;
        }
        let has = |known: &Relation| {
            known.columns.iter().skip(renamed.len()).any(|column| column.name == *name)
        };
        let mut unknown = false;
        for target in &self.targets[relation] {
            match target {
                Target::Known(known) if has(known) => return Has::Yes,
                Target::Known(_) => {}
                Target::Temporary(_) | Target::Unresolved => unknown = true,
            }
        }
        if unknown { Has::Maybe } else { Has::No }
    }

    /// Whether qualifiers of a column name this relation. An alias hides its name.
    fn is_named(&self, relation: usize, qualifiers: &[Name]) -> bool {
        let relation = &self.statement.relations[relation];
        let (qualifier, schema) = match qualifiers {
            [.., schema, qualifier] => (qualifier, Some(schema)),
            [qualifier] => (qualifier, None),
            [] => return false,
        };
        if known_as(relation) != qualifier {
            return false;
        }
        match (schema, &relation.name.schema) {
            (Some(schema), Some(known)) => schema == known,
            (Some(_), None) | (None, _) => true,
        }
    }

    fn on_level(&self, level: u32) -> impl Iterator<Item = usize> + use<'a> {
        let relations = &self.statement.relations;
        (0..relations.len()).filter(move |&relation| relations[relation].scope == level)
    }

    fn derived_on(&self, level: u32) -> impl Iterator<Item = &'a Derived> + use<'a> {
        self.statement.derived.iter().filter(move |source| source.scope == level)
    }
}

fn known_as(relation: &RelationUse) -> &Name {
    relation.alias.as_ref().unwrap_or(&relation.name.name)
}

/// A level and those around it, innermost first.
fn levels(statement: &Statement, level: u32) -> impl Iterator<Item = u32> + use<'_> {
    std::iter::successors(Some(level), |&level| {
        let around = *statement.parents.get(usize::try_from(level).ok()?)?;
        // A level is numbered after the one around it; the outermost is its own.
        (around < level).then_some(around)
    })
}
