//! How the values of one session are held.

use crate::config::{Audit, AuditRule, ValueMode};

/// What a rule is matched against.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Name of the `[[destination]]`.
    pub destination: &'a str,
    /// Database.
    pub database: &'a [u8],
    /// Role.
    pub user: &'a [u8],
}

/// What the configuration says about one session: for each question, the first rule that matches
/// and has an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// Of texts.
    pub(super) text: ValueMode,
    /// Of parameters that have no answer of their own.
    others: ValueMode,
    /// Of parameters by number, counted from 0; sorted.
    numbered: Vec<(usize, ValueMode)>,
    /// The parameter that names the person, counted from 0.
    pub(super) subject: Option<usize>,
}

impl Policy {
    pub(super) fn of(audit: &Audit, party: &Party<'_>) -> Self {
        let mut numbered: Vec<(usize, ValueMode)> = Vec::new();
        let mut others = audit.values;
        for rule in audit.rules.iter().filter(|rule| matches(rule, party)) {
            let Some(mode) = rule.values else { continue };
            if rule.numbers.is_empty() {
                // It answers for all that no rule before it named.
                others = mode;
                break;
            }
            for ordinal in rule.numbers.iter().filter_map(ordinal) {
                if numbered.iter().all(|(known, _)| *known != ordinal) {
                    numbered.push((ordinal, mode));
                }
            }
        }
        numbered.sort_unstable_by_key(|(ordinal, _)| *ordinal);
        // Clients write parameters into the text too, where nobody can tell which literal is one
        // that must not be stored. So none is.
        let never = numbered.iter().any(|(_, mode)| *mode == ValueMode::Never);
        let text = if never { ValueMode::Never } else { others };
        let mut subjects = audit.rules.iter().filter(|rule| matches(rule, party));
        let subject = subjects.find_map(|rule| rule.subject.as_ref().and_then(ordinal));
        Self { text, others, numbered, subject }
    }

    pub(super) fn parameter(&self, ordinal: usize) -> ValueMode {
        if self.numbered.is_empty() {
            return self.others;
        }
        let found = self.numbered.binary_search_by_key(&ordinal, |(known, _)| *known);
        found.map_or(self.others, |at| self.numbered[at].1)
    }

    /// Whether anything is held under a key.
    pub(super) fn needs_keys(&self) -> bool {
        let keyed = |mode| matches!(mode, ValueMode::Sealed | ValueMode::Hash);
        keyed(self.text) || keyed(self.others) || self.numbered.iter().any(|(_, m)| keyed(*m))
    }
}

fn matches(rule: &AuditRule, party: &Party<'_>) -> bool {
    fn is(wanted: Option<&String>, found: &[u8]) -> bool {
        wanted.is_none_or(|wanted| wanted.as_bytes() == found)
    }
    is(rule.destination.as_ref(), party.destination.as_bytes())
        && is(rule.database.as_ref(), party.database)
        && is(rule.user.as_ref(), party.user)
}

/// From a number as in `$1` to a place in a list.
fn ordinal(number: &u16) -> Option<usize> {
    usize::from(*number).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTY: Party<'_> = Party { destination: "main", database: b"shop", user: b"app" };

    fn policy(values: ValueMode, rules: &[AuditRule]) -> Policy {
        Policy::of(&Audit { values, rules: rules.to_vec(), ..Audit::default() }, &PARTY)
    }

    fn rule(values: ValueMode, numbers: &[u16]) -> AuditRule {
        AuditRule { values: Some(values), numbers: numbers.to_vec(), ..AuditRule::default() }
    }

    #[test]
    fn the_first_answer_to_each_question_holds() {
        let clear = rule(ValueMode::Clear, &[1, 2]);
        let hash = rule(ValueMode::Hash, &[2, 3]);
        let sealed = rule(ValueMode::Sealed, &[]);
        let late = rule(ValueMode::Clear, &[4]);
        let policy = policy(ValueMode::Clear, &[clear, hash, sealed, late]);
        let modes: Vec<_> = (0..5).map(|ordinal| policy.parameter(ordinal)).collect();
        use ValueMode::{Clear, Hash, Sealed};
        assert_eq!(modes, [Clear, Clear, Hash, Sealed, Sealed]);
        assert_eq!(policy.text, Sealed);
    }

    #[test]
    fn rules_for_others_say_nothing() {
        for other in [
            AuditRule { destination: Some("other".into()), ..rule(ValueMode::Clear, &[]) },
            AuditRule { database: Some("shop2".into()), ..rule(ValueMode::Clear, &[]) },
            AuditRule { user: Some("ap".into()), ..rule(ValueMode::Clear, &[]) },
        ] {
            assert_eq!(policy(ValueMode::Sealed, &[other]).text, ValueMode::Sealed);
        }
        let ours = AuditRule {
            destination: Some("main".into()),
            database: Some("shop".into()),
            user: Some("app".into()),
            subject: Some(2),
            ..rule(ValueMode::Clear, &[])
        };
        let policy = policy(ValueMode::Sealed, &[ours]);
        assert_eq!((policy.text, policy.subject), (ValueMode::Clear, Some(1)));
    }

    #[test]
    fn a_parameter_that_is_never_stored_keeps_literals_out_too() {
        let policy = policy(ValueMode::Clear, &[rule(ValueMode::Never, &[3])]);
        assert_eq!(policy.text, ValueMode::Never);
        assert_eq!(policy.parameter(2), ValueMode::Never);
        assert_eq!(policy.parameter(3), ValueMode::Clear);
        assert!(!policy.needs_keys());
    }

    #[test]
    fn number_zero_is_no_parameter() {
        let policy = policy(ValueMode::Clear, &[rule(ValueMode::Never, &[0])]);
        assert_eq!((policy.parameter(0), policy.text), (ValueMode::Clear, ValueMode::Clear));
    }
}
