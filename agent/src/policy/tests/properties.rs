//! What holds of every policy and every request.

use proptest::prelude::*;

use super::world::{add, moments, policies, requests, rule, users};
use super::*;

fn strictness(verdict: &Verdict) -> Option<Mode> {
    verdict.denial().map(|denial| denial.mode)
}

fn verdict(policy: &Policy, subject: &Subject, request: &Request, now: WallTime) -> Verdict {
    policy.judge(&policy.class(subject), request, now)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn compiled_rules_say_what_plain_ones_say(
        text in policies(), subject in users(), requests in prop::collection::vec(requests(), 8), now in moments(),
    ) {
        let policy = text.parse();
        for request in &requests {
            let found = verdict(&policy, &subject, request, now);
            let expected = naive::judge(&policy, &subject, request, now);
            let terminate = found.denial().is_some_and(|denial| denial.terminate);
            prop_assert_eq!((strictness(&found), terminate), expected, "{:?}", request);
            let refused = strictness(&found) == Some(Mode::Enforce);
            prop_assert_eq!(found.permit().is_err(), refused);
            prop_assert!(found.denial().is_none_or(|denial| !denial.rules.is_empty()));
        }
    }

    #[test]
    fn a_denial_more_never_allows_more(
        text in policies(), role in 0_usize..4, body in rule("deny"),
        subject in users(), request in requests(), now in moments(),
    ) {
        let before = verdict(&text.parse(), &subject, &request, now);
        let after = verdict(&add(&text, role, "deny", &body).parse(), &subject, &request, now);
        prop_assert!(strictness(&after) >= strictness(&before));
    }

    #[test]
    fn a_grant_more_never_denies_more(
        text in policies(), role in 0_usize..4, body in rule("grant"),
        subject in users(), request in requests(), now in moments(),
    ) {
        let before = verdict(&text.parse(), &subject, &request, now);
        let after = verdict(&add(&text, role, "grant", &body).parse(), &subject, &request, now);
        prop_assert!(strictness(&after) <= strictness(&before));
    }

    #[test]
    fn a_denial_in_force_overrides_every_grant(
        text in policies(), role in 0_usize..4, subject in users(), request in requests(), now in moments(),
    ) {
        prop_assume!(!request.needs.is_empty() || !request.unknown.is_empty());
        let policy = add(&text, role, "deny", "actions = [\"all\", \"unknown\"]").parse();
        let class = policy.class(&subject);
        let name = format!("r{}", role % text.roles.len());
        let mode = policy.roles().iter().find(|role| *role.name == *name).map(|role| role.mode);
        if policy.roles_of(&class).iter().any(|role| **role == *name) {
            prop_assert!(strictness(&policy.judge(&class, &request, now)) >= mode);
        }
    }

    #[test]
    fn order_never_matters(
        text in policies(), seed in any::<prop::sample::Index>(),
        subject in users(), request in requests(), now in moments(),
    ) {
        let mut other = text.clone();
        other.roles.reverse();
        for role in &mut other.roles {
            role.grants.reverse();
            let middle = seed.index(role.denials.len().max(1));
            role.denials.rotate_left(middle);
        }
        other.assigns.reverse();
        other.protects.reverse();
        let of = |verdict: &Verdict| {
            let mut rules: Vec<_> = verdict.rules().to_vec();
            rules.sort();
            let ceilings: Vec<_> = verdict.ceilings().iter().map(|c| (c.counted, c.max, c.action)).collect();
            let denial = verdict.denial().map(|d| (d.need.clone(), d.reason.clone(), d.terminate, d.mode));
            (rules, ceilings, denial, verdict.until())
        };
        let (one, two) = (verdict(&text.parse(), &subject, &request, now), verdict(&other.parse(), &subject, &request, now));
        prop_assert_eq!(of(&one), of(&two));
    }

    #[test]
    fn who_has_no_role_gets_nothing_that_is_protected(mut text in policies(), request in requests(), now in moments()) {
        text.assigns.clear();
        let policy = super::policy(&(render_protected(&text)));
        let found = verdict(&policy, &user("u0"), &request, now);
        let named = request.needs.iter().any(|need| need.reached == Reached::Named) || !request.unknown.is_empty();
        prop_assert_eq!(word(&found), if named { "deny" } else { "allow" });
    }

    #[test]
    fn a_verdict_holds_until_it_says(
        text in policies(), subject in users(), request in requests(), now in moments(), step in 0_u64..1_000_000,
    ) {
        let policy = text.parse();
        let first = verdict(&policy, &subject, &request, now);
        let length = first.until().map_or(step, |until| step % (until.0 - now.0));
        let later = verdict(&policy, &subject, &request, WallTime(now.0 + length));
        prop_assert_eq!(first.outcome(), later.outcome());
    }
}

/// Everything is protected, and nobody has a role.
fn render_protected(text: &world::PolicyText) -> String {
    let roles: String =
        (0..text.roles.len()).map(|n| format!("[[role]]\nname = \"r{n}\"\n")).collect();
    format!("{roles}[[protect]]\n")
}
