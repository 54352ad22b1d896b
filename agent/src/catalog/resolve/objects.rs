//! Objects of DDL.

use super::names::Target;
use super::{Work, verb_effect};
use crate::catalog::state::{PG_TEMP, is_relation};
use crate::policy::{Columns, Object, Reached};
use crate::sql::facts::{DdlVerb, Effect, Name, ObjectKind, ObjectUse, Statement};

impl Work<'_> {
    pub(super) fn objects(&mut self, statement: &Statement) {
        for object in &statement.objects {
            self.object(object);
        }
    }

    fn object(&mut self, object: &ObjectUse) {
        let action = verb_effect(object.verb, object.kind);
        let name = object.name.name.clone();
        match object.kind {
            ObjectKind::Role => self.need(action, Object::Role(name), Reached::Named),
            ObjectKind::Index => self.index(object, action),
            kind if is_relation(kind) => match object.verb {
                DdlVerb::Create => {
                    let schema = self.home(object);
                    let object = Object::Relation { schema, name, columns: Columns::None };
                    self.need(action, object, Reached::Named);
                }
                DdlVerb::Alter | DdlVerb::Drop | DdlVerb::Grant => self.existing(object, action),
            },
            ObjectKind::Function | ObjectKind::Procedure | ObjectKind::Aggregate => {
                self.function_object(object, action);
            }
            kind => {
                let schema = self.home(object);
                self.need(action, Object::Other { kind, schema, name }, Reached::Named);
            }
        }
    }

    /// The schema of an object, as far as it is known: the one it is made in, or the one it is named with.
    fn home(&self, object: &ObjectUse) -> Option<Name> {
        if object.temporary {
            return Some(Name::new(PG_TEMP));
        }
        let made = object.verb == DdlVerb::Create && has_schema(object.kind);
        object.name.schema.clone().or_else(|| self.state.creation.clone().filter(|_| made))
    }

    fn existing(&mut self, object: &ObjectUse, action: Effect) {
        for target in self.targets(&object.name) {
            let schema = match target {
                Target::Known(known) => Some(known.schema.clone()),
                Target::Temporary(_) => Some(Name::new(PG_TEMP)),
                Target::Unresolved => object.name.schema.clone(),
            };
            let name = object.name.name.clone();
            self.need(
                action,
                Object::Relation { schema, name, columns: Columns::None },
                Reached::Named,
            );
            match target {
                Target::Known(known) => self.through(known, action, Columns::None, true),
                Target::Temporary(_) => {}
                Target::Unresolved => {
                    let made = self.state.made.has(&object.name.name);
                    self.stale |= self.catalog.is_some() && !made;
                }
            }
        }
    }

    /// An index belongs to its table, in whose schema it is.
    fn index(&mut self, object: &ObjectUse, action: Effect) {
        let kind = ObjectKind::Index;
        let (schema, name) = (object.name.schema.clone(), object.name.name.clone());
        self.need(action, Object::Other { kind, schema, name }, Reached::Named);
        if object.verb == DdlVerb::Create {
            return;
        }
        for target in self.targets(&object.name) {
            if let Target::Known(known) = target {
                self.through(known, Effect::Alter, Columns::None, true);
            }
        }
    }

    fn function_object(&mut self, object: &ObjectUse, action: Effect) {
        let name = &object.name.name;
        let mut schemas: Vec<Option<Name>> = Vec::new();
        match (object.verb, &object.name.schema, self.catalog) {
            (DdlVerb::Create, _, _) | (_, Some(_), _) | (_, _, None) => {
                schemas.push(self.home(object));
            }
            (DdlVerb::Alter | DdlVerb::Drop | DdlVerb::Grant, None, Some(catalog)) => {
                let reached = catalog.functions_of(name).filter(|f| self.may_reach(&f.schema));
                schemas.extend(reached.map(|function| Some(function.schema.clone())));
                if schemas.is_empty() {
                    schemas.push(None);
                }
            }
        }
        for schema in schemas {
            let object = Object::Function { schema, name: name.clone() };
            self.need(action, object, Reached::Named);
        }
    }
}

/// Whether objects of this kind are made in a schema.
fn has_schema(kind: ObjectKind) -> bool {
    match kind {
        ObjectKind::Aggregate
        | ObjectKind::Collation
        | ObjectKind::Conversion
        | ObjectKind::Domain
        | ObjectKind::ForeignTable
        | ObjectKind::Function
        | ObjectKind::MaterializedView
        | ObjectKind::Operator
        | ObjectKind::OperatorClass
        | ObjectKind::OperatorFamily
        | ObjectKind::Procedure
        | ObjectKind::Sequence
        | ObjectKind::Statistics
        | ObjectKind::Table
        | ObjectKind::TextSearch
        | ObjectKind::Type
        | ObjectKind::View => true,
        ObjectKind::AccessMethod
        | ObjectKind::Cast
        | ObjectKind::Database
        | ObjectKind::EventTrigger
        | ObjectKind::Extension
        | ObjectKind::ForeignDataWrapper
        | ObjectKind::ForeignServer
        | ObjectKind::Index
        | ObjectKind::Language
        | ObjectKind::LargeObject
        | ObjectKind::Policy
        | ObjectKind::Publication
        | ObjectKind::Role
        | ObjectKind::Rule
        | ObjectKind::Schema
        | ObjectKind::Subscription
        | ObjectKind::Tablespace
        | ObjectKind::Transform
        | ObjectKind::Trigger
        | ObjectKind::UserMapping
        | ObjectKind::Other => false,
    }
}
