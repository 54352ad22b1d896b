//! The meaning of a policy, written as plainly as can be: every rule is asked about every need.

use super::super::model::{Family, Objects, UnknownText};
use super::*;
use crate::sql::facts::{ANY_SETTING, ObjectKind};

/// How a statement fares: `None` is allowed; and whether the session ends.
pub(super) fn judge(
    policy: &Policy,
    subject: &Subject,
    request: &Request,
    now: WallTime,
) -> (Option<Mode>, bool) {
    let mut needs = request.needs.clone();
    if !request.unknown.is_empty() {
        needs.push(need(Effect::Unknown, Object::Session));
    }
    let mine: Vec<&Role> = policy
        .roles()
        .iter()
        .enumerate()
        .filter(|(place, _)| {
            policy.assigns.iter().any(|assign| {
                assign.gives.contains(&(*place as u32))
                    && assign.who.as_ref().is_none_or(|who| who.matches(subject))
            })
        })
        .map(|(_, role)| role)
        .collect();
    let fates: Vec<(Option<Mode>, bool)> =
        needs.iter().map(|need| one(policy, &mine, subject, need, now)).collect();
    let worst = fates.iter().filter_map(|(mode, _)| *mode).max();
    (worst, fates.iter().any(|(_, terminate)| *terminate))
}

fn one(
    policy: &Policy,
    roles: &[&Role],
    subject: &Subject,
    need: &Need,
    now: WallTime,
) -> (Option<Mode>, bool) {
    let in_force = |rule: &Rule| {
        rule.actions.contains(need.action) && rule.when.is_none_or(|window| window.contains(now))
    };
    let mut denied: Option<Mode> = None;
    let mut ends: Vec<Mode> = Vec::new();
    for role in roles {
        for rule in role.denials.iter().filter(|rule| in_force(rule)) {
            if could_be(&rule.objects, need) && denied_columns(rule, &need.object) {
                denied = denied.max(Some(role.mode));
                if rule.terminate {
                    ends.push(role.mode);
                }
            }
        }
    }
    let mut missing = None;
    if need.reached == Reached::Named {
        let protects = policy.protects().iter().filter(|protect| {
            protect
                .database
                .as_ref()
                .is_none_or(|globs| globs.iter().any(|glob| glob.matches(&subject.database)))
        });
        let protected = match need.action {
            Effect::Unknown if policy.unknown == UnknownText::Allow => None,
            Effect::Unknown => protects.map(|protect| protect.mode).max(),
            _ => protects
                .filter(|protect| could_be(&protect.objects, need))
                .map(|protect| protect.mode)
                .max(),
        };
        let grants: Vec<&Rule> = roles
            .iter()
            .flat_map(|role| &role.grants)
            .filter(|rule| in_force(rule) && must_be(&rule.objects, &need.object))
            .collect();
        let granted = is_granted(&grants, need);
        if need.action == Effect::Unknown && policy.unknown == UnknownText::Deny && !granted {
            // It could be whatever a role is denied.
            for role in roles {
                let denials = role.denials.iter();
                let now = |rule: &&Rule| rule.when.is_none_or(|window| window.contains(now));
                if denials.filter(now).count() > 0 {
                    denied = denied.max(Some(role.mode));
                }
            }
        }
        if !granted && let Some(protected) = protected {
            let strictest = roles.iter().map(|role| role.mode).max().unwrap_or(Mode::Enforce);
            missing = Some(protected.min(strictest));
        }
    }
    let fate = denied.max(missing);
    let terminate = fate == Some(Mode::Enforce)
        && denied == Some(Mode::Enforce)
        && ends.contains(&Mode::Enforce);
    (fate, terminate)
}

/// The key that names an object, its schema where it may have one, and its name.
fn key(object: &Object) -> (&'static str, Option<Option<&str>>, &str) {
    match object {
        Object::Relation { schema, name, .. } => {
            ("relations", Some(schema.as_ref().map(|s| s.as_str())), name.as_str())
        }
        Object::Function { schema, name } => {
            ("functions", Some(schema.as_ref().map(|s| s.as_str())), name.as_str())
        }
        Object::Other { kind, schema, name } => {
            let schema = Some(schema.as_ref().map(|s| s.as_str()));
            match Family::of(*kind) {
                Family::Relation => ("relations", schema, name.as_str()),
                Family::Function => ("functions", schema, name.as_str()),
                Family::Role => ("roles", None, name.as_str()),
                Family::Other => (kind.name(), schema, name.as_str()),
            }
        }
        Object::Setting(name) => ("settings", None, name),
        Object::Role(name) => ("roles", None, name.as_str()),
        Object::Channel(name) => ("channels", None, name.as_str()),
        Object::Session => ("", None, ""),
    }
}

fn patterns(objects: &Objects) -> Vec<(&'static str, Option<&Glob>, &Glob)> {
    let mut all = Vec::new();
    all.extend(objects.relations.iter().map(|p| ("relations", Some(&p.schema), &p.name)));
    all.extend(objects.functions.iter().map(|p| ("functions", Some(&p.schema), &p.name)));
    all.extend(objects.others.iter().map(|(kind, p)| (kind.name(), Some(&p.schema), &p.name)));
    all.extend(objects.settings.iter().map(|glob| ("settings", None, glob)));
    all.extend(objects.roles.iter().map(|glob| ("roles", None, glob)));
    all.extend(objects.channels.iter().map(|glob| ("channels", None, glob)));
    all
}

fn could_be(objects: &Objects, need: &Need) -> bool {
    let (kind, schema, name) = key(&need.object);
    let schema = schema.flatten();
    let itself = patterns(objects).into_iter().any(|(of, in_schema, glob)| {
        of == kind
            && (glob.matches(name) || need.object == Object::Setting(ANY_SETTING.into()))
            && match (in_schema, schema) {
                (Some(glob), Some(schema)) => glob.matches(schema),
                (Some(_), None) | (None, _) => true,
            }
    });
    let is_schema = matches!(&need.object, Object::Other { kind: ObjectKind::Schema, .. });
    let within = is_schema
        && need.action != Effect::Create
        && patterns(objects)
            .into_iter()
            .any(|(_, schema, _)| schema.is_some_and(|s| s.matches(name)));
    patterns(objects).is_empty() || itself || within
}

fn must_be(objects: &Objects, object: &Object) -> bool {
    let (kind, schema, name) = key(object);
    let schema = schema.flatten();
    patterns(objects).is_empty()
        || patterns(objects).into_iter().any(|(of, in_schema, glob)| {
            of == kind
                && glob.matches(name)
                && (glob.is_any() || *object != Object::Setting(ANY_SETTING.into()))
                && match (in_schema, schema) {
                    (Some(glob), Some(schema)) => glob.matches(schema),
                    (Some(glob), None) => glob.is_any(),
                    (None, _) => true,
                }
        })
}

/// Columns that are asked for; a relation that comes as an object of DDL is all of them.
fn columns(object: &Object) -> Option<&Columns> {
    match object {
        Object::Relation { columns, .. } => Some(columns),
        Object::Other { kind, .. } if Family::of(*kind) == Family::Relation => Some(&Columns::All),
        Object::Other { .. }
        | Object::Function { .. }
        | Object::Setting(_)
        | Object::Role(_)
        | Object::Channel(_)
        | Object::Session => None,
    }
}

fn denied_columns(rule: &Rule, object: &Object) -> bool {
    match (&rule.columns, columns(object)) {
        (None, _) | (_, None) | (Some(_), Some(Columns::All)) => true,
        (Some(_), Some(Columns::None)) => false,
        (Some(globs), Some(Columns::These(names))) => {
            names.iter().any(|name| globs.iter().any(|glob| glob.matches(name.as_str())))
        }
    }
}

fn is_granted(grants: &[&Rule], need: &Need) -> bool {
    let Some(columns) = columns(&need.object) else { return !grants.is_empty() };
    let whole = grants.iter().any(|rule| rule.columns.is_none());
    let by_column = |name: &Name| {
        let mut globs = grants.iter().filter_map(|rule| rule.columns.as_ref()).flatten();
        globs.any(|glob| glob.matches(name.as_str()))
    };
    whole
        || match columns {
            Columns::All => false,
            Columns::None => !grants.is_empty() && need.action == Effect::Select,
            Columns::These(names) => !names.is_empty() && names.iter().all(by_column),
        }
}
