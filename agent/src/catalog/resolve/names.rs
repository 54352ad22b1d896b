//! Which relations a name may stand for.

use super::Work;
use crate::catalog::snapshot::Relation;
use crate::catalog::state::{PG_CATALOG, Path, Temporary, is_temp};
use crate::sql::facts::{Name, QualifiedName};

/// A relation that a name may stand for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// One of the catalog.
    Known(&'a Relation),
    /// A temporary one of the session.
    Temporary(Temporary),
    /// None that is known.
    Unresolved,
}

impl<'a> Work<'a> {
    /// All relations that a name may stand for; at least one.
    pub(super) fn targets(&self, name: &QualifiedName) -> Vec<Target<'a>> {
        match &name.schema {
            Some(schema) if is_temp(schema) => vec![self.temporary(&name.name)],
            Some(schema) => {
                let known = self.catalog.and_then(|c| c.relation_named(schema, &name.name));
                vec![known.map_or(Target::Unresolved, Target::Known)]
            }
            None => self.unqualified(&name.name),
        }
    }

    fn unqualified(&self, name: &Name) -> Vec<Target<'a>> {
        let mut targets = Vec::new();
        if let Some(temporary) = self.state.temporaries.get(name) {
            targets.push(Target::Temporary(*temporary));
            if temporary.certain && self.temporaries_come_first() {
                return targets;
            }
        }
        let Some(catalog) = self.catalog else {
            targets.push(Target::Unresolved);
            return targets;
        };
        match &self.state.path {
            Path::Exact(schemas) => {
                let first = schemas.iter().find_map(|schema| catalog.relation_named(schema, name));
                let all_known = schemas.iter().all(|s| is_temp(s) || catalog.has_schema(s));
                if all_known {
                    targets.extend(first.map(Target::Known));
                } else {
                    // A schema that the catalog does not have yet may hold anything.
                    targets.extend(catalog.relations_of(name).map(Target::Known));
                    targets.push(Target::Unresolved);
                }
            }
            path @ (Path::Among(_) | Path::Unknown) => {
                let reached = catalog.relations_of(name).filter(|r| path.may_reach(&r.schema));
                targets.extend(reached.map(Target::Known));
            }
        }
        if targets.is_empty() && self.state.more_temporaries && !self.state.made.has(name) {
            targets.push(self.temporary(name));
        }
        if targets.is_empty() {
            targets.push(Target::Unresolved);
        }
        targets
    }

    fn temporary(&self, name: &Name) -> Target<'a> {
        let unseen = Temporary { certain: false, opaque: self.state.more_temporaries };
        Target::Temporary(self.state.temporaries.get(name).copied().unwrap_or(unseen))
    }

    /// They do, unless search_path puts them elsewhere.
    fn temporaries_come_first(&self) -> bool {
        match &self.state.path {
            Path::Exact(schemas) => schemas.first().is_some_and(is_temp),
            Path::Among(_) | Path::Unknown => false,
        }
    }

    /// Whether names without a schema may be looked for in this one.
    pub(super) fn may_reach(&self, schema: &Name) -> bool {
        schema.as_str() == PG_CATALOG || self.state.path.may_reach(schema)
    }
}
