//! Any text as a policy, and any needs under it: reading reports or succeeds, and judging gives a verdict that holds together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgward::policy::{Columns, Need, Object, Outcome, Policy, Reached, Request, Subject, WallTime};
use pgward::sql::facts::{Effect, Kind, Name, ObjectKind, Unknown};
use pgward_fuzz::Bytes;

/// Names that seeds use, so that rules and needs meet.
const NAMES: [&str; 8] = ["cards", "orders", "public", "pci", "id", "pan", "extension", ""];

fuzz_target!(|data: &[u8]| {
    // The needs are first, so that the text behind them may have any length.
    let Some((head, text)) = data.split_at_checked(32) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let policy = match Policy::parse("fuzz", text) {
        Ok(policy) => policy,
        Err(report) => {
            assert!(!report.problems.is_empty());
            assert!(!report.to_string().contains('\u{1b}'), "nothing steers a terminal");
            return;
        }
    };
    let mut bytes = Bytes(head);
    let now = WallTime(u64::from(bytes.u8().unwrap_or(0)) * 3600);
    let mut request =
        Request { kind: Kind("fuzz"), needs: Vec::new(), unknown: Vec::new(), fingerprint: 0 };
    if bytes.u8().is_some_and(|byte| byte & 1 == 1) {
        request.unknown.push(Unknown::Syntax);
    }
    while let Some(need) = need(&mut bytes) {
        request.needs.push(need);
    }
    let subjects = policy.cases().iter().map(|case| case.who.clone());
    for subject in subjects.chain([Subject::default()]).take(8) {
        let class = policy.class(&subject);
        assert_eq!(class, policy.class(&subject));
        let verdict = policy.judge(&class, &request, now);
        assert_eq!(verdict, policy.judge(&class, &request, now));
        assert!(verdict.until().is_none_or(|until| until > now));
        assert_eq!(verdict.permit().is_err(), matches!(verdict.outcome(), Outcome::Deny(_)));
        if let Some(denial) = verdict.denial() {
            assert!(!denial.rules.is_empty());
            assert!(denial.message(None).starts_with("permission denied"));
        } else {
            // A statement is allowed when each of its needs is.
            for need in &request.needs {
                let one =
                    Request { needs: vec![need.clone()], unknown: Vec::new(), ..request.clone() };
                assert!(policy.judge(&class, &one, now).denial().is_none());
            }
        }
    }
});

fn need(bytes: &mut Bytes<'_>) -> Option<Need> {
    let action = Effect::ALL[usize::from(bytes.u8()?) % Effect::ALL.len()];
    let (what, names) = (bytes.u8()?, bytes.u8()?);
    let name = |shift: u8| Name::new(NAMES[usize::from(names >> shift) % NAMES.len()]);
    let schema = (what & 0x40 == 0).then(|| name(3));
    let columns = match names >> 6 {
        0 => Columns::None,
        1 => Columns::All,
        _ => Columns::These(vec![name(4), name(5)]),
    };
    let object = match what % 7 {
        0 | 1 => Object::Relation { schema, name: name(0), columns },
        2 => Object::Function { schema, name: name(0) },
        3 => {
            let kind = ObjectKind::ALL[usize::from(names) % ObjectKind::ALL.len()];
            Object::Other { kind, schema, name: name(0) }
        }
        4 => Object::Setting(name(0).as_str().into()),
        5 => Object::Role(name(0)),
        _ => Object::Session,
    };
    let reached = if what & 0x80 == 0 { Reached::Named } else { Reached::Through };
    Some(Need { action, object, reached })
}
