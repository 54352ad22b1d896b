//! Functions, operators and types.

use super::Work;
use crate::catalog::builtin::{Builtin, classify};
use crate::catalog::snapshot::{FIRST_NORMAL, Function, FunctionKind, Language, Oid, Snapshot};
use crate::catalog::state::{PG_CATALOG, SessionState, is_temp};
use crate::policy::{Object, Reached};
use crate::sql::facts::{
    ANY_SETTING, Call, CallKind, DdlVerb, Effect, Name, ObjectKind, SettingAccess, Statement,
    Unknown,
};

/// Constructs with a grammar of their own that the analyser names like functions, and the first server that has them. Older
/// ones take them for functions, which someone may have made.
const KEYWORDS: &[(&str, u32)] = &[
    ("json", 17),
    ("json_array", 16),
    ("json_arrayagg", 16),
    ("json_exists", 17),
    ("json_object", 16),
    ("json_objectagg", 16),
    ("json_query", 17),
    ("json_scalar", 17),
    ("json_serialize", 17),
    ("json_table", 17),
    ("json_value", 17),
    ("merge_action", 17),
];

/// Names of types that are none.
const SERIALS: &[&str] = &["bigserial", "serial", "serial2", "serial4", "serial8", "smallserial"];

/// Pseudo-types that take a row: `record`, `anyelement`, `anynonarray`, `anycompatible`, `anycompatiblenonarray`, `any`.
const ROW_TYPES: &[Oid] = &[2249, 2283, 2776, 5077, 5079, 2276];

/// How far code goes whose text is not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::catalog) enum Code {
    /// None runs.
    None,
    /// Functions run that someone made.
    Functions,
    /// Anything runs.
    Any,
}

/// What a call may come to.
#[derive(Clone, Copy, Debug)]
enum Callee<'a> {
    Builtin(Builtin),
    User(&'a Function),
    /// Nothing that the catalog has.
    Missing,
}

/// What code a statement runs.
pub(in crate::catalog) fn code(
    statement: &Statement,
    state: &SessionState,
    catalog: Option<&Snapshot>,
) -> Code {
    // The body of a function does not run when it is defined.
    let defines = |kind| matches!(kind, ObjectKind::Function | ObjectKind::Procedure);
    let only_defines = !statement.objects.is_empty()
        && statement.objects.iter().all(|o| o.verb == DdlVerb::Create && defines(o.kind));
    let unknown = statement.unknown.iter().any(|unknown| match unknown {
        Unknown::Code(_) => !only_defines,
        Unknown::Syntax
        | Unknown::TooLong(_)
        | Unknown::TooDeep
        | Unknown::Encoding
        | Unknown::Node(_)
        | Unknown::Catalog
        | Unknown::Unanalysed => true,
    });
    let any_setting = statement.settings.iter().any(|setting| {
        *setting.name == *ANY_SETTING
            && matches!(setting.access, SettingAccess::Set | SettingAccess::SetLocal)
    });
    let does = [Effect::Do, Effect::Unknown, Effect::FunctionCall];
    if unknown || any_setting || does.iter().any(|effect| statement.effects.contains(*effect)) {
        return Code::Any;
    }
    let work = Work::new(state, catalog);
    let runs = statement.calls.iter().any(|call| {
        work.callees(call).iter().any(|callee| match callee {
            Callee::Builtin(_) => false,
            Callee::User(function) => {
                let library = matches!(function.language, Language::C | Language::Internal)
                    && (function.kind != FunctionKind::Aggregate || function.of_extension);
                !library || function.sets
            }
            // A column, if it is a field.
            Callee::Missing => !matches!(call.what, CallKind::Field | CallKind::Type),
        })
    });
    if runs { Code::Functions } else { Code::None }
}

impl<'a> Work<'a> {
    pub(super) fn calls(&mut self, statement: &Statement) {
        for call in &statement.calls {
            for callee in self.callees(call) {
                self.callee(call, callee, statement);
            }
        }
    }

    fn callee(&mut self, call: &Call, callee: Callee<'_>, statement: &Statement) {
        let (action, object) = match callee {
            Callee::Builtin(Builtin::Computes | Builtin::Names) => return,
            Callee::Builtin(Builtin::Acts(effect)) => {
                let (schema, name) = (Some(Name::new(PG_CATALOG)), call.name.name.clone());
                (effect, Object::Function { schema, name })
            }
            Callee::User(function) if function.only_computes() => return,
            Callee::User(function) => {
                let (schema, name) = (Some(function.schema.clone()), function.name.clone());
                (Effect::Execute, Object::Function { schema, name })
            }
            Callee::Missing => match self.missing(call, statement) {
                Some(object) => (Effect::Execute, object),
                None => return,
            },
        };
        if call.what == CallKind::Procedure {
            self.need(Effect::Call, object.clone(), Reached::Named);
        }
        self.need(action, object, Reached::Named);
    }

    /// A name that is no function of the catalog, where that is not as it should be.
    fn missing(&mut self, call: &Call, statement: &Statement) -> Option<Object> {
        match call.what {
            CallKind::Field | CallKind::Operator => return None,
            CallKind::Type => {
                self.stale |= self.catalog.is_some();
                return None;
            }
            CallKind::Function | CallKind::From | CallKind::Procedure => {}
        }
        if self.catalog.is_some() {
            // `f(t)` for the column `f` of `t`: it is among the columns as well.
            let projected = call.arguments == 1 && call.name.schema.is_none();
            let name = &call.name.name;
            if projected && statement.columns.iter().any(|c| c.column.as_ref() == Some(name)) {
                return None;
            }
            self.stale = true;
            self.code("function that the catalog does not have");
        }
        let (schema, name) = (call.name.schema.clone(), call.name.name.clone());
        Some(Object::Function { schema, name })
    }

    fn callees(&self, call: &Call) -> Vec<Callee<'a>> {
        let Some(catalog) = self.catalog else {
            return match call.what {
                CallKind::Function | CallKind::From | CallKind::Procedure => vec![Callee::Missing],
                CallKind::Field | CallKind::Operator | CallKind::Type => Vec::new(),
            };
        };
        match call.what {
            CallKind::Operator => self.operators(catalog, call),
            CallKind::Type => self.types(catalog, call),
            CallKind::Field => self.fields(catalog, call),
            CallKind::Function | CallKind::From | CallKind::Procedure => {
                self.functions(catalog, call)
            }
        }
    }

    fn functions(&self, catalog: &'a Snapshot, call: &Call) -> Vec<Callee<'a>> {
        let mut callees = Vec::new();
        let name = &call.name.name;
        if self.sees(call, &Name::new(PG_CATALOG)) {
            if let Some(volatility) = catalog.builtins_by_name.get(name) {
                callees.push(Callee::Builtin(classify(name.as_str(), *volatility)));
            }
            let keyword = KEYWORDS.iter().find(|(known, _)| *known == name.as_str());
            if keyword.is_some_and(|(_, version)| catalog.server_version() / 10_000 >= *version) {
                callees.push(Callee::Builtin(Builtin::Computes));
            }
        }
        let takes = |function: &&Function| function.takes(usize::from(call.arguments));
        let seen = catalog.functions_of(name).filter(|f| self.sees(call, &f.schema));
        // Definitions name functions without their arguments.
        let (fitting, others): (Vec<_>, Vec<_>) = seen.partition(takes);
        let chosen = if fitting.is_empty() && callees.is_empty() { others } else { fitting };
        callees.extend(chosen.into_iter().map(Callee::User));
        if callees.is_empty() {
            callees = self.types(catalog, call);
        }
        callees
    }

    /// `a.b`, which may be `b(a)`: only functions that someone made count, since those that are built in and take a row
    /// compute.
    fn fields(&self, catalog: &'a Snapshot, call: &Call) -> Vec<Callee<'a>> {
        let takes_row = |function: &&Function| {
            let first = function.arguments.first();
            function.takes(1)
                && first.is_some_and(|oid| *oid >= FIRST_NORMAL || ROW_TYPES.contains(oid))
        };
        let seen = catalog.functions_of(&call.name.name).filter(|f| self.sees(call, &f.schema));
        seen.filter(takes_row).map(Callee::User).collect()
    }

    fn operators(&self, catalog: &'a Snapshot, call: &Call) -> Vec<Callee<'a>> {
        let known = catalog.operators.get(&call.name.name).map_or(&[][..], Vec::as_slice);
        let unary = call.arguments == 1;
        known
            .iter()
            .filter(|operator| self.sees(call, &operator.schema))
            // Without arguments it is named, not called.
            .filter(|operator| call.arguments == 0 || (operator.left == 0) == unary)
            .filter_map(|operator| catalog.function(operator.function))
            .map(Callee::User)
            .collect()
    }

    /// A type: what checks and casts to it run. Casts from it have no name of their own, so they count as well.
    fn types(&self, catalog: &'a Snapshot, call: &Call) -> Vec<Callee<'a>> {
        let name = &call.name.name;
        let builtin = catalog.builtin_types.get(name).copied();
        let builtin = builtin.filter(|_| self.sees(call, &Name::new(PG_CATALOG)));
        let users = catalog.types_of(name).filter(|found| self.sees(call, &found.schema));
        let mut functions: Vec<Oid> = Vec::new();
        let mut oids: Vec<Oid> = builtin.into_iter().collect();
        for found in users {
            oids.push(found.oid);
            functions.extend(checks(catalog, found.oid));
        }
        let relation = catalog.relations_of(name).next().is_some();
        let array = name.as_str().starts_with('_');
        if oids.is_empty() {
            let none = relation || array || SERIALS.contains(&name.as_str());
            return if none { Vec::new() } else { vec![Callee::Missing] };
        }
        let casts = catalog.casts.iter().filter(|cast| {
            oids.contains(&cast.target) || cast.implicit && oids.contains(&cast.source)
        });
        functions.extend(casts.map(|cast| cast.function));
        let users = functions.into_iter().filter_map(|oid| catalog.function(oid));
        users.map(Callee::User).chain([Callee::Builtin(Builtin::Computes)]).collect()
    }

    /// Whether a call may mean something in this schema.
    fn sees(&self, call: &Call, schema: &Name) -> bool {
        match &call.name.schema {
            // Nobody else's, and not in the catalog.
            Some(named) if is_temp(named) => false,
            Some(named) => named == schema,
            None => self.may_reach(schema),
        }
    }
}

/// Functions that checks of a domain call, and of the domains it is over.
fn checks(catalog: &Snapshot, mut oid: Oid) -> Vec<Oid> {
    let mut functions = Vec::new();
    // A domain can't be over itself; the limit is for answers that say so.
    for _ in 0..64 {
        let Some(found) = catalog.types.get(&oid) else { break };
        functions.extend(&found.checks);
        oid = found.base;
    }
    functions
}
