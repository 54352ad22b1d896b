//! A policy, arranged for questions.

use std::collections::HashMap;
use std::sync::Arc;

use super::index::Index;
use super::model::{Assign, Protect, Role};
use super::subject::Subject;
use super::who::{Who, lookups};
use crate::sql::facts::{Effect, Effects};

/// Indexes over the rules of a policy; places are those of its lists.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) roles: Vec<CompiledRole>,
    pub(super) roles_by_name: HashMap<Arc<str>, u32>,
    pub(super) protects: Index,
    assigns: Assigns,
}

/// The rules of a role.
#[derive(Clone, Debug)]
pub(super) struct CompiledRole {
    pub(super) grants: Index,
    pub(super) denials: Index,
}

/// Assigns by a text that their subjects must have.
#[derive(Clone, Debug, Default)]
struct Assigns {
    by_text: [HashMap<Box<str>, Vec<u32>>; 6],
    rest: Vec<u32>,
}

impl Compiled {
    pub(super) fn of(roles: &[Role], assigns: &[Assign], protects: &[Protect]) -> Self {
        let all: Effects = Effect::ALL.iter().copied().collect();
        let mut protected = Index::default();
        for (place, protect) in (0..).zip(protects) {
            protected.add(place, all, &protect.objects);
        }
        Self {
            roles: roles.iter().map(CompiledRole::of).collect(),
            roles_by_name: roles.iter().map(|role| role.name.clone()).zip(0..).collect(),
            protects: protected,
            assigns: Assigns::of(assigns),
        }
    }

    /// Calls `found` with the place of each assign that could be about `subject`, once.
    pub(super) fn assigns_of(&self, subject: &Subject, found: &mut impl FnMut(u32)) {
        for (text, places) in lookups(subject).into_iter().zip(&self.assigns.by_text) {
            let places = text.and_then(|text| places.get(text));
            places.into_iter().flatten().for_each(|place| found(*place));
        }
        self.assigns.rest.iter().for_each(|place| found(*place));
    }
}

impl CompiledRole {
    fn of(role: &Role) -> Self {
        let index = |rules: &[super::model::Rule]| {
            let mut index = Index::default();
            for (place, rule) in (0..).zip(rules) {
                index.add(place, rule.actions, &rule.objects);
            }
            index
        };
        Self { grants: index(&role.grants), denials: index(&role.denials) }
    }
}

impl Assigns {
    fn of(assigns: &[Assign]) -> Self {
        let mut arranged = Self::default();
        for (place, assign) in (0..).zip(assigns) {
            match assign.who.as_ref().and_then(Who::selector) {
                None => arranged.rest.push(place),
                Some((key, mut texts)) => {
                    texts.sort_unstable();
                    texts.dedup();
                    for text in texts {
                        arranged.by_text[key].entry(text.into()).or_default().push(place);
                    }
                }
            }
        }
        arranged
    }
}
