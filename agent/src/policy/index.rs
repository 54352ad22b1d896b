//! Finds the rules that could concern an object, without asking the others.
//!
//! Each pattern of a rule is an entry, kept by what of it is written out: the whole name, its beginning, the schema, or the
//! schema's beginning. A look-up asks for the name, and for as many beginnings as have different lengths (at most 63), so
//! it does not grow with the rules that name other objects. Two questions do: for an object whose schema is not known,
//! patterns with nothing but a schema; and for a schema as a whole, all.

use std::collections::HashMap;

use super::glob::{Glob, NamePattern};
use super::model::{Objects, Target};
use crate::sql::facts::{ANY_SETTING, Effect, Effects, ObjectKind};

/// Patterns of many rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    relations: Names,
    functions: Names,
    others: Names,
    settings: Names,
    roles: Names,
    channels: Names,
    /// Rules that name no object.
    all: Vec<Entry>,
    /// What of which schema is concerned, for what happens to a schema as a whole.
    schemas: Vec<(Objects, Entry)>,
}

/// One pattern of a rule.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The rule, by its place.
    pub(super) rule: u32,
    /// Its actions.
    actions: Effects,
    pattern: NamePattern,
    kind: Option<ObjectKind>,
}

/// How sure a match must be when the schema of an object is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sure {
    /// It could be meant: for denials and protection.
    Touches,
    /// It is meant whatever its schema is: for grants.
    Covers,
}

impl Index {
    /// Adds a rule.
    pub(super) fn add(&mut self, rule: u32, actions: Effects, objects: &Objects) {
        let entry =
            |pattern: &NamePattern, kind| Entry { rule, actions, pattern: pattern.clone(), kind };
        let Objects { relations, functions, others, settings, roles, channels } = objects;
        relations.iter().for_each(|pattern| self.relations.add(entry(pattern, None)));
        functions.iter().for_each(|pattern| self.functions.add(entry(pattern, None)));
        others.iter().for_each(|(kind, pattern)| self.others.add(entry(pattern, Some(*kind))));
        for (globs, names) in [
            (settings, &mut self.settings),
            (roles, &mut self.roles),
            (channels, &mut self.channels),
        ] {
            for glob in globs {
                let pattern = NamePattern { schema: Glob::any(), name: glob.clone() };
                names.add(entry(&pattern, None));
            }
        }
        let all = entry(&NamePattern::any(), None);
        if objects.is_all() {
            self.all.push(all);
        } else if !relations.is_empty() || !functions.is_empty() || !others.is_empty() {
            self.schemas.push((objects.clone(), all));
        }
    }

    /// Calls `found` with each rule that is about `action` and this object, maybe more than once.
    pub(super) fn find(
        &self,
        action: Effect,
        target: Target<'_>,
        sure: Sure,
        found: &mut impl FnMut(u32),
    ) {
        let mut ask = |entry: &Entry| {
            if entry.actions.contains(action) {
                found(entry.rule);
            }
        };
        self.all.iter().for_each(&mut ask);
        match target {
            Target::Relation { schema, name, columns: _ } => {
                self.relations.find(None, schema, name, sure, &mut ask);
            }
            Target::Function { schema, name } => {
                self.functions.find(None, schema, name, sure, &mut ask);
            }
            Target::Other { kind, schema, name } => {
                self.others.find(Some(kind), schema, name, sure, &mut ask);
                if kind == ObjectKind::Schema && sure == Sure::Touches && action != Effect::Create {
                    let within = |(objects, _): &&(Objects, Entry)| objects.touches_schema(name);
                    self.schemas.iter().filter(within).for_each(|(_, entry)| ask(entry));
                }
            }
            Target::Setting(ANY_SETTING) => self.settings.all(sure, &mut ask),
            Target::Setting(name) => self.settings.find(None, None, name, sure, &mut ask),
            Target::Role(name) => self.roles.find(None, None, name, sure, &mut ask),
            Target::Channel(name) => self.channels.find(None, None, name, sure, &mut ask),
            Target::Session => {}
        }
    }
}

/// Entries by what their patterns have written out.
#[derive(Clone, Debug, Default)]
struct Names {
    by_name: HashMap<Box<str>, Vec<Entry>>,
    by_name_prefix: Prefixes,
    by_schema: HashMap<Box<str>, Vec<Entry>>,
    by_schema_prefix: Prefixes,
    rest: Vec<Entry>,
}

impl Names {
    fn add(&mut self, entry: Entry) {
        let NamePattern { schema, name } = &entry.pattern;
        if let Some(name) = name.literal() {
            self.by_name.entry(name.into()).or_default().push(entry);
        } else if !name.prefix().is_empty() {
            let prefix = name.prefix().into();
            self.by_name_prefix.add(prefix, entry);
        } else if let Some(schema) = schema.literal() {
            self.by_schema.entry(schema.into()).or_default().push(entry);
        } else if !schema.prefix().is_empty() {
            let prefix = schema.prefix().into();
            self.by_schema_prefix.add(prefix, entry);
        } else {
            self.rest.push(entry);
        }
    }

    fn find(
        &self,
        kind: Option<ObjectKind>,
        schema: Option<&str>,
        name: &str,
        sure: Sure,
        found: &mut impl FnMut(&Entry),
    ) {
        let mut ask = |entry: &Entry| {
            let meant = match sure {
                Sure::Touches => entry.pattern.touches(schema, name),
                Sure::Covers => entry.pattern.covers(schema, name),
            };
            if meant && entry.kind == kind {
                found(entry);
            }
        };
        self.by_name.get(name).into_iter().flatten().for_each(&mut ask);
        self.by_name_prefix.find(name, &mut ask);
        match (schema, sure) {
            (Some(schema), Sure::Touches | Sure::Covers) => {
                self.by_schema.get(schema).into_iter().flatten().for_each(&mut ask);
                self.by_schema_prefix.find(schema, &mut ask);
            }
            (None, Sure::Touches) => {
                self.by_schema.values().flatten().for_each(&mut ask);
                self.by_schema_prefix.entries.values().flatten().for_each(&mut ask);
            }
            // A pattern that has anything of a schema does not cover all.
            (None, Sure::Covers) => {}
        }
        self.rest.iter().for_each(&mut ask);
    }

    /// What is about a name that could be any.
    fn all(&self, sure: Sure, found: &mut impl FnMut(&Entry)) {
        let mut ask = |entry: &Entry| {
            if sure == Sure::Touches || entry.pattern.name.is_any() {
                found(entry);
            }
        };
        let prefixes = [&self.by_name_prefix.entries, &self.by_schema_prefix.entries];
        for map in [&self.by_name, &self.by_schema].into_iter().chain(prefixes) {
            map.values().flatten().for_each(&mut ask);
        }
        self.rest.iter().for_each(&mut ask);
    }
}

/// Entries by a beginning.
#[derive(Clone, Debug, Default)]
struct Prefixes {
    entries: HashMap<Box<str>, Vec<Entry>>,
    /// Of the beginnings, in bytes, ascending, each once.
    lengths: Vec<usize>,
}

impl Prefixes {
    fn add(&mut self, prefix: Box<str>, entry: Entry) {
        if let Err(place) = self.lengths.binary_search(&prefix.len()) {
            self.lengths.insert(place, prefix.len());
        }
        self.entries.entry(prefix).or_default().push(entry);
    }

    fn find(&self, text: &str, ask: &mut impl FnMut(&Entry)) {
        for length in &self.lengths {
            let Some(prefix) = text.get(..*length) else { continue };
            self.entries.get(prefix).into_iter().flatten().for_each(&mut *ask);
        }
    }
}
