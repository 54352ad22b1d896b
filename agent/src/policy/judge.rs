//! Evaluation.
//!
//! Each need of a request is weighed by itself; the statement fares as its worst need does.
//!
//! ```text
//!   denials of the class's roles that match ──────────────── any? ──► refused, in the strictest mode of their roles
//!   grants of the class's roles that match ── all of it covered? ──► allowed
//!   `[[protect]]`s of the class that match ─────────────── none? ──► allowed
//!                                                                └─► refused: the strictest mode of the protects, or
//!                                                                    that of the roles when it is milder
//! ```

use std::sync::Arc;

use super::class::{Class, Limits};
use super::index::{Index, Sure};
use super::model::{
    Counted, Hours, Limit, LimitAction, Mode, Policy, Protect, Role, Rule, Target, UnknownText,
};
use super::need::{Columns, Need, Object, Reached, Request};
use super::subject::Subject;
use super::verdict::{Denial, Outcome, Reason, Verdict};
use super::who::one;
use super::window::WallTime;
use crate::sql::facts::{Effect, Name, Unknown};

/// Most rules that a verdict names.
const RULES_MAX: usize = 8;

/// What speaks about one need.
#[derive(Debug)]
pub(super) struct Weighed<'p> {
    /// Denials that match and are in force, in the order of the file.
    pub(super) denials: Vec<Hit<'p>>,
    /// Grants that match and are in force, likewise; some may match only some of the columns.
    pub(super) grants: Vec<Hit<'p>>,
    /// Whether the grants cover all of it.
    pub(super) covered: bool,
    /// What protects the object, in the order of the file.
    pub(super) protects: Vec<&'p Protect>,
    /// Rules that match and are not in force now.
    pub(super) asleep: Vec<Hit<'p>>,
    /// Of the first of the class's roles that has one.
    pub(super) hint: Option<&'p Arc<str>>,
    /// When the first of the rules that match in all else begins or ceases to be in force.
    pub(super) until: Option<WallTime>,
}

/// A rule with its role.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit<'p> {
    pub(super) role: &'p Role,
    pub(super) rule: &'p Rule,
}

impl Policy {
    /// The class of a subject. Costs as much as assigns could match; ask once a session, and when what the application
    /// says of itself changes.
    pub fn class(&self, subject: &Subject) -> Class {
        self.class_with(subject, &[])
    }

    /// The class of a subject that was given roles besides those of the policy, by their names. Those that the policy
    /// does not have are left out.
    pub fn class_with(&self, subject: &Subject, given: &[&str]) -> Class {
        let mut roles: Vec<u32> = Vec::new();
        self.compiled.assigns_of(subject, &mut |place| {
            let assign = &self.assigns[place as usize];
            if assign.who.as_ref().is_none_or(|who| who.matches(subject)) {
                roles.extend(&assign.gives);
            }
        });
        roles.extend(given.iter().filter_map(|name| self.compiled.roles_by_name.get(*name)));
        roles.sort_unstable();
        roles.dedup();
        let here = |protect: &Protect| {
            one(&protect.destination, subject.destination.as_deref())
                && one(&protect.database, Some(&subject.database))
        };
        let protects = (0_u32..).zip(&self.protects).filter(|(_, protect)| here(protect));
        let protects = protects.map(|(place, _)| place).collect();
        let limits = self.limits_of(&roles);
        Class::new(self.identity, roles.into(), protects, limits)
    }

    /// Names of the roles of a class, in the order of the file; none for a class of another policy.
    pub fn roles_of(&self, class: &Class) -> Vec<Arc<str>> {
        if class.policy() != self.identity {
            return Vec::new();
        }
        class.roles().iter().map(|place| self.roles[*place as usize].name.clone()).collect()
    }

    /// Judges a statement.
    pub fn judge(&self, class: &Class, request: &Request, now: WallTime) -> Verdict {
        if class.policy() != self.identity {
            return Verdict::of_other_policy();
        }
        let mut fold = Fold { worst: None, rules: Vec::new(), ceilings: Vec::new(), until: None };
        for need in &request.needs {
            let weighed = self.weigh(class, need, now);
            fold.add(&weighed, need, self.fate(class, need, &weighed), None);
        }
        if let Some(first) = request.unknown.first() {
            let need = unknown_need();
            let weighed = self.weigh(class, &need, now);
            fold.add(&weighed, &need, self.fate(class, &need, &weighed), Some(first));
        }
        fold.finish()
    }

    /// All rules about one need.
    pub(super) fn weigh(&self, class: &Class, need: &Need, now: WallTime) -> Weighed<'_> {
        let target = Target::of(&need.object);
        let mut weighed = Weighed {
            denials: Vec::new(),
            grants: Vec::new(),
            covered: false,
            protects: Vec::new(),
            asleep: Vec::new(),
            hint: None,
            until: None,
        };
        let mut found = Vec::new();
        for place in class.roles() {
            let role = &self.roles[*place as usize];
            let compiled = &self.compiled.roles[*place as usize];
            weighed.hint = weighed.hint.or(role.hint.as_ref());
            let rules = compiled.denials.rules(need.action, target, Sure::Touches, &mut found);
            for rule in rules.iter().map(|place| &role.denials[*place as usize]) {
                if denies_columns(rule, target) {
                    weighed.hear(role, rule, Side::Denials, now);
                }
            }
            if need.reached == Reached::Through {
                continue;
            }
            let rules = compiled.grants.rules(need.action, target, Sure::Covers, &mut found);
            for rule in rules.iter().map(|place| &role.grants[*place as usize]) {
                if grants_columns(rule, need.action, target) {
                    weighed.hear(role, rule, Side::Grants, now);
                }
            }
        }
        if need.reached == Reached::Named {
            weighed.covered = covered(&weighed.grants, target);
            let mine = self.compiled.protects.rules(need.action, target, Sure::Touches, &mut found);
            let mine = mine.iter().filter(|place| class.protects().binary_search(place).is_ok());
            weighed.protects = mine.map(|place| &self.protects[*place as usize]).collect();
            if need.action == Effect::Unknown {
                self.weigh_unknown(class, &mut weighed, now);
            }
        }
        weighed
    }

    /// What is not understood could do anything: to what is protected, and to what the roles are denied. Only who was granted
    /// the action by its name may have it done.
    fn weigh_unknown<'p>(&'p self, class: &Class, weighed: &mut Weighed<'p>, now: WallTime) {
        weighed.protects.clear();
        if self.unknown == UnknownText::Allow {
            return;
        }
        let protects = class.protects().iter();
        weighed.protects = protects.map(|place| &self.protects[*place as usize]).collect();
        if weighed.covered {
            return;
        }
        for place in class.roles() {
            let role = &self.roles[*place as usize];
            for rule in &role.denials {
                if !weighed.denials.iter().any(|hit| std::ptr::eq(hit.rule, rule)) {
                    weighed.hear(role, rule, Side::Denials, now);
                }
            }
        }
    }

    /// Whether a need is refused: in which mode, and why.
    pub(super) fn fate(
        &self,
        class: &Class,
        need: &Need,
        weighed: &Weighed<'_>,
    ) -> Option<(Mode, Reason)> {
        let denied = weighed.denials.iter().map(|hit| hit.role.mode).max();
        let missing = self.missing(class, need, weighed);
        // A denial that only observes must not hide that there is no grant.
        match (denied, missing) {
            (Some(denied), missing) if missing.is_none_or(|missing| missing <= denied) => {
                Some((denied, Reason::Denied))
            }
            (_, missing) => missing.map(|missing| (missing, Reason::NotGranted)),
        }
    }

    /// What it comes to that a need is not granted; `None` where none is needed.
    fn missing(&self, class: &Class, need: &Need, weighed: &Weighed<'_>) -> Option<Mode> {
        if need.reached == Reached::Through || weighed.covered {
            return None;
        }
        let protected = weighed.protects.iter().map(|protect| protect.mode).max()?;
        let roles = class.roles().iter().map(|place| self.roles[*place as usize].mode);
        Some(protected.min(roles.max().unwrap_or(Mode::Enforce)))
    }

    fn limits_of(&self, roles: &[u32]) -> Limits {
        let mut limits = Limits::default();
        for role in roles.iter().map(|place| &self.roles[*place as usize]) {
            for limit in &role.limits {
                let action = limit.action.in_mode(role.mode);
                tighten(&mut limits.limits, Limit { action, ..limit.clone() });
            }
            for hours in &role.hours {
                let action = hours.action.in_mode(role.mode);
                let hours = Hours { action, ..hours.clone() };
                limits.hours.push(hours);
            }
        }
        limits.limits.sort_by_key(|limit| (limit.counted, limit.action));
        limits
    }
}

/// What a text is judged as that was not understood.
pub(super) fn unknown_need() -> Need {
    Need { action: Effect::Unknown, object: Object::Session, reached: Reached::Named }
}

#[derive(Clone, Copy)]
enum Side {
    Grants,
    Denials,
}

impl<'p> Weighed<'p> {
    fn hear(&mut self, role: &'p Role, rule: &'p Rule, side: Side, now: WallTime) {
        let changes = rule.when.and_then(|window| window.changes(now));
        self.until = earlier(self.until, changes);
        let hits = match side {
            _ if !rule.holds(now) => &mut self.asleep,
            Side::Grants => &mut self.grants,
            Side::Denials => &mut self.denials,
        };
        hits.push(Hit { role, rule });
    }
}

impl Index {
    /// Places of the rules that match, ascending, each once. `found` is room for them.
    fn rules<'f>(
        &self,
        action: Effect,
        target: Target<'_>,
        sure: Sure,
        found: &'f mut Vec<u32>,
    ) -> &'f [u32] {
        found.clear();
        self.find(action, target, sure, &mut |place| found.push(place));
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn denies_columns(rule: &Rule, target: Target<'_>) -> bool {
    let (Some(globs), Target::Relation { columns, .. }) = (&rule.columns, target) else {
        return true;
    };
    match columns {
        Columns::None => false,
        Columns::All => true,
        Columns::These(names) => {
            names.iter().any(|name| globs.iter().any(|glob| glob.matches(name.as_str())))
        }
    }
}

/// Whether a grant has a part in covering the columns.
fn grants_columns(rule: &Rule, action: Effect, target: Target<'_>) -> bool {
    let (Some(globs), Target::Relation { columns, .. }) = (&rule.columns, target) else {
        return true;
    };
    match columns {
        // As with the server's privileges: who may read any column may count the rows.
        Columns::None => action == Effect::Select,
        Columns::All => false,
        Columns::These(names) => {
            names.iter().any(|name| globs.iter().any(|glob| glob.matches(name.as_str())))
        }
    }
}

fn covered(grants: &[Hit<'_>], target: Target<'_>) -> bool {
    let of_columns = |hit: &Hit<'_>| match target {
        Target::Relation { columns: Columns::These(_), .. } => hit.rule.columns.is_some(),
        Target::Relation { columns: Columns::None | Columns::All, .. }
        | Target::Function { .. }
        | Target::Other { .. }
        | Target::Setting(_)
        | Target::Role(_)
        | Target::Channel(_)
        | Target::Session => false,
    };
    if grants.iter().any(|hit| !of_columns(hit)) {
        return true;
    }
    let Target::Relation { columns: Columns::These(names), .. } = target else { return false };
    let granted = |name: &Name| {
        let mut globs = grants.iter().filter_map(|hit| hit.rule.columns.as_ref()).flatten();
        globs.any(|glob| glob.matches(name.as_str()))
    };
    !grants.is_empty() && names.iter().all(granted)
}

/// Keeps the tightest of each counted thing and action; of two alike, the first.
fn tighten(limits: &mut Vec<Limit>, limit: Limit) {
    let same = |other: &&mut Limit| other.counted == limit.counted && other.action == limit.action;
    match limits.iter_mut().find(same) {
        Some(other) if other.max <= limit.max => {}
        Some(other) => *other = limit,
        None => limits.push(limit),
    }
}

fn earlier(one: Option<WallTime>, other: Option<WallTime>) -> Option<WallTime> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The needs of one statement, as far as they were weighed.
struct Fold {
    worst: Option<Denial>,
    rules: Vec<Arc<str>>,
    ceilings: Vec<Limit>,
    until: Option<WallTime>,
}

impl Fold {
    fn add(
        &mut self,
        weighed: &Weighed<'_>,
        need: &Need,
        fate: Option<(Mode, Reason)>,
        unknown: Option<&Unknown>,
    ) {
        self.until = earlier(self.until, weighed.until);
        for Hit { role, rule } in &weighed.grants {
            name(&mut self.rules, &rule.name);
            for (counted, max) in
                [(Counted::StatementRows, rule.rows), (Counted::StatementBytes, rule.bytes)]
            {
                let Some(max) = max else { continue };
                let action = LimitAction::Cancel.in_mode(role.mode);
                tighten(
                    &mut self.ceilings,
                    Limit { counted, max, action, rule: rule.name.clone() },
                );
            }
        }
        let Some((mode, reason)) = fate else { return };
        let terminate = mode == Mode::Enforce
            && weighed.denials.iter().any(|hit| {
                let says_so = hit.rule.terminate && hit.rule.actions.contains(need.action);
                hit.role.mode == mode && says_so
            });
        match &mut self.worst {
            Some(worst) if worst.mode >= mode => worst.terminate |= terminate,
            worst => {
                let mut denial = denial(weighed, need, mode, reason, terminate);
                if let Some(unknown) = unknown {
                    denial.reason = Reason::NotUnderstood(unknown.clone());
                }
                *worst = Some(denial);
            }
        }
    }

    fn finish(self) -> Verdict {
        let Self { worst, mut rules, mut ceilings, until } = self;
        ceilings.sort_by_key(|limit| (limit.counted, limit.action));
        if let Some(denial) = &worst {
            rules.clone_from(&denial.rules);
        }
        let outcome = match worst {
            None => Outcome::Allow,
            Some(denial) => match denial.mode {
                Mode::Observe => Outcome::Observe(denial),
                Mode::Warn => Outcome::Warn(denial),
                Mode::Enforce => Outcome::Deny(denial),
            },
        };
        Verdict { outcome, rules, ceilings, until }
    }
}

fn denial(
    weighed: &Weighed<'_>,
    need: &Need,
    mode: Mode,
    reason: Reason,
    terminate: bool,
) -> Denial {
    let mut rules = Vec::new();
    let deciding = weighed.denials.iter().filter(|hit| hit.role.mode == mode);
    let hint = if reason == Reason::NotGranted {
        weighed.protects.iter().for_each(|protect| name(&mut rules, &protect.name));
        let of_protect = weighed.protects.iter().find_map(|protect| protect.hint.as_ref());
        of_protect.or(weighed.hint).cloned()
    } else {
        deciding.clone().for_each(|hit| name(&mut rules, &hit.rule.name));
        let of_rule = deciding.clone().find_map(|hit| hit.rule.hint.clone());
        of_rule.or_else(|| deciding.clone().find_map(|hit| hit.role.hint.clone()))
    };
    Denial { need: need.clone(), reason, rules, hint, terminate, mode }
}

/// Adds a name that is not there yet.
fn name(names: &mut Vec<Arc<str>>, name: &Arc<str>) {
    if names.len() < RULES_MAX && !names.contains(name) {
        names.push(name.clone());
    }
}

impl Verdict {
    fn of_other_policy() -> Self {
        let denial = Denial {
            need: unknown_need(),
            reason: Reason::OtherPolicy,
            rules: Vec::new(),
            hint: None,
            terminate: false,
            mode: Mode::Enforce,
        };
        Self {
            outcome: Outcome::Deny(denial),
            rules: Vec::new(),
            ceilings: Vec::new(),
            until: None,
        }
    }
}
