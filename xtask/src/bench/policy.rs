//! What a decision costs that is not in the cache, against the number of rules.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, anyhow};
use pgward::policy::{Class, Columns, Need, Object, Policy, Reached, Request, Subject, WallTime};
use pgward::sql::facts::{Effect, Kind, Name};

use super::report::{Conditions, load};
use super::{Options, Part};
use crate::run::{root, say};

/// Rules of the policies that are compared.
const RULES: [usize; 3] = [10, 1_000, 10_000];
/// Decisions that are timed together: few, so that some batches are not disturbed.
const DECISIONS: u32 = 20;
/// Batches of a round; the least of them counts.
const BATCHES: u32 = 200;
/// A moment of a working day.
const NOW: WallTime = WallTime(1_772_445_600);

/// What is asked.
const CASES: [&str; 5] =
    ["primary-key select", "ten-table join", "denied column", "unresolved name", "class"];

/// Nanoseconds of one decision, by case and number of rules.
type Figures = BTreeMap<(usize, usize), Vec<f64>>;

/// Whether `--only` leaves something of this part.
pub(super) fn has_case(only: Option<&str>) -> bool {
    CASES.iter().any(|case| chosen(case, only))
}

fn chosen(case: &str, only: Option<&str>) -> bool {
    only.is_none_or(|only| format!("policy {case}").contains(only))
}

/// Measures, and writes this part of the document.
pub(super) fn run(options: &Options) -> Result<()> {
    let rounds = if options.quick { 1 } else { options.rounds };
    let only = options.only.as_deref();
    let conditions = Conditions { rounds, seconds: 0, only, load: load() };
    let mut figures = Figures::new();
    for _ in 0..rounds {
        for rules in RULES {
            let policy = policy(rules)?;
            for (case, name) in CASES.iter().enumerate().filter(|(_, case)| chosen(case, only)) {
                let nanos = measure(&policy, name);
                say(format_args!("policy {name:<20} {rules:>6} rules {nanos:>8.0} ns"));
                figures.entry((case, rules)).or_default().push(nanos);
            }
        }
    }
    let document = document(&figures, &conditions);
    println!("{document}");
    if !options.quick && only.is_none() {
        Part::Policy.write(&root().join("docs/benchmarks.md"), &document)?;
        say("written: docs/benchmarks.md");
    }
    Ok(())
}

/// A policy with as many rules, in roles of a hundred: the subject has the first, the middle and the last of them. Of each
/// ten rules one has patterns, and one is a denial.
fn policy(rules: usize) -> Result<Policy> {
    let per_role = rules.min(100);
    let roles = rules / per_role;
    let mut text = String::new();
    for role in 0..roles {
        let _ = writeln!(text, "[[role]]\nname = \"r{role}\"");
        for rule in 0..per_role {
            let number = role * per_role + rule;
            let _ = match rule % 10 {
                0 => writeln!(
                    text,
                    "[[role.grant]]\nactions = [\"read\"]\nrelations = [\"app{role}.log_{number}_*\"]"
                ),
                1 => writeln!(
                    text,
                    "[[role.deny]]\nactions = [\"read\"]\nrelations = [\"app.t{number}\"]\ncolumns = [\"pan\"]"
                ),
                _ => writeln!(
                    text,
                    "[[role.grant]]\nactions = [\"read\", \"write\"]\nrelations = [\"app.t{}\"]",
                    number - number % 10
                ),
            };
        }
        let mine = [0, roles / 2, roles - 1].contains(&role);
        let who = if mine { "bench".to_owned() } else { format!("user{role}") };
        let _ = writeln!(text, "[[assign]]\ngive = [\"r{role}\"]\nrole = [\"{who}\"]");
    }
    text.push_str("[[role]]\nname = \"own\"\n[[role.grant]]\nactions = [\"read\"]\nrelations = [\"app.t*\"]\n");
    text.push_str(
        "[[assign]]\ngive = [\"own\"]\nrole = [\"bench\"]\n[[protect]]\nrelations = [\"app.*\"]\n",
    );
    Policy::parse("bench", &text).map_err(|report| anyhow!("{report}"))
}

fn measure(policy: &Policy, case: &str) -> f64 {
    let subject = Subject { role: "bench".into(), database: "app".into(), ..Subject::default() };
    let class = policy.class(&subject);
    let select = |schema: Option<&str>, table: usize, columns: &[&str]| Need {
        action: Effect::Select,
        object: Object::Relation {
            schema: schema.map(Name::new),
            name: Name::new(format!("t{table}")),
            columns: Columns::These(columns.iter().map(|column| Name::new(*column)).collect()),
        },
        reached: Reached::Named,
    };
    let schema = Some("app");
    let needs = match case {
        "ten-table join" => {
            (0..10).map(|table| select(schema, table * 10, &["id", "name"])).collect()
        }
        "denied column" => vec![select(schema, 1, &["id", "pan"])],
        "unresolved name" => vec![select(None, 10, &["id"])],
        _ => vec![select(schema, 0, &["abalance", "aid"])],
    };
    let request = Request { kind: Kind("select"), needs, unknown: Vec::new(), fingerprint: 0 };
    let batch = |_| {
        let start = Instant::now();
        for _ in 0..DECISIONS {
            if case == "class" {
                black_box::<Class>(policy.class(black_box(&subject)));
            } else {
                black_box(policy.judge(black_box(&class), black_box(&request), NOW));
            }
        }
        start.elapsed().as_nanos() as f64 / f64::from(DECISIONS)
    };
    (0..BATCHES).map(batch).fold(f64::INFINITY, f64::min)
}

fn document(figures: &Figures, conditions: &Conditions<'_>) -> String {
    let mut text = String::from(
        "## Policy: a decision that is not in the cache\n\nOne call of the evaluator with names that are resolved, in \
         nanoseconds: the least of all batches, since what is slower was disturbed. The subject has three roles of a \
         hundred rules (of ten where there are ten) and one of its own; the other roles are of others. `class` is what a \
         session costs once.\n\n| case |",
    );
    RULES.iter().for_each(|rules| {
        let _ = write!(text, " {rules} rules |");
    });
    text.push_str("\n| --- |");
    RULES.iter().for_each(|_| text.push_str(" ---: |"));
    for (case, name) in CASES.iter().enumerate() {
        let least = |rules: &usize| {
            let of = figures.get(&(case, *rules))?;
            of.iter().copied().reduce(f64::min)
        };
        let _ = write!(text, "\n| {name} |");
        for rules in &RULES {
            let _ = match least(rules) {
                Some(nanos) => write!(text, " {nanos:.0} |"),
                None => write!(text, " - |"),
            };
        }
    }
    let _ = writeln!(
        text,
        "\n\n{} rounds, load of the machine {}.",
        conditions.rounds, conditions.load
    );
    text
}
