//! Small worlds for properties: few names, so that rules meet often.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::sql::facts::ANY_SETTING;

const SCHEMAS: [&str; 3] = ["a", "b", "pci"];
const TABLES: [&str; 5] = ["cards", "orders", "t1", "t2", "order_log"];
const COLUMNS: [&str; 4] = ["id", "pan", "pin", "note"];
const PATTERNS: [&str; 12] = [
    "cards", "a.cards", "*.t?", "pci.*", "p*.*", "t1", "*", "or*", "*s", "a*.c*", "b.order*",
    "?.t1",
];
const COLUMN_PATTERNS: [&str; 5] = ["pan", "p*", "id", "*", "n?te"];
const ACTIONS: [&str; 9] =
    ["select", "read", "write", "insert", "ddl", "drop", "all", "unknown", "set"];
const USERS: [&str; 4] = ["u0", "u1", "u2", "v0"];
const USER_PATTERNS: [&str; 4] = ["u0", "u1", "u*", "*0"];
const MODES: [&str; 3] = ["observe", "warn", "enforce"];
const WINDOWS: [&str; 3] = [
    "days = [\"mon\", \"tue\"]",
    "from = \"08:00\", to = \"18:00\"",
    "days = [\"mon\"], from = \"13:00\", to = \"02:00\", timezone = \"-01:00\"",
];

#[derive(Clone, Debug)]
pub(super) struct RuleText {
    name: String,
    body: String,
}

#[derive(Clone, Debug)]
pub(super) struct RoleText {
    name: String,
    mode: &'static str,
    pub(super) grants: Vec<RuleText>,
    pub(super) denials: Vec<RuleText>,
}

/// A policy as lists that can be added to and put into another order.
#[derive(Clone, Debug)]
pub(super) struct PolicyText {
    unknown: &'static str,
    pub(super) roles: Vec<RoleText>,
    pub(super) assigns: Vec<String>,
    pub(super) protects: Vec<RuleText>,
}

impl PolicyText {
    pub(super) fn parse(&self) -> Policy {
        let mut text = format!("unknown = \"{}\"\n", self.unknown);
        for role in &self.roles {
            let _ = writeln!(text, "[[role]]\nname = \"{}\"\nmode = \"{}\"", role.name, role.mode);
            for (kind, rules) in [("grant", &role.grants), ("deny", &role.denials)] {
                for RuleText { name, body } in rules {
                    let _ = writeln!(text, "[[role.{kind}]]\nname = \"{name}\"\n{body}");
                }
            }
        }
        for assign in &self.assigns {
            let _ = writeln!(text, "[[assign]]\n{assign}");
        }
        for RuleText { name, body } in &self.protects {
            let _ = writeln!(text, "[[protect]]\nname = \"{name}\"\n{body}");
        }
        policy(&text)
    }
}

fn list(key: &'static str, of: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::subsequence(of.to_vec(), 1..=2)
        .prop_map(move |some| format!("{key} = {some:?}\n"))
}

fn maybe(
    weight: u32,
    of: impl Strategy<Value = String> + 'static,
) -> impl Strategy<Value = String> {
    prop_oneof![10 - weight => Just(String::new()), weight => of]
}

fn objects() -> impl Strategy<Value = String> {
    let relations = (list("relations", &PATTERNS), maybe(3, list("columns", &COLUMN_PATTERNS)));
    let relations = relations.prop_map(|(relations, columns)| relations + &columns);
    let others = list("objects", &["extension", "schema:a", "type:a.*", "schema", "type:t?"]);
    let settings = maybe(2, list("settings", &["work_mem", "w*", "*", "ro*"]));
    let functions = maybe(2, list("functions", &PATTERNS));
    let all = (maybe(8, relations), functions, maybe(2, others), settings);
    all.prop_map(|(relations, functions, others, settings)| {
        relations + &functions + &others + &settings
    })
}

/// A rule without its name. `ceilings` are of grants, `ends` of denials.
pub(super) fn rule(side: &'static str) -> impl Strategy<Value = String> {
    let extra = match side {
        "grant" => {
            list("rows", &["5", "50"]).prop_map(|rows| rows.replace(['[', ']', '"'], "")).boxed()
        }
        _ => Just("terminate = true\n".to_owned()).boxed(),
    };
    let extra = extra.prop_map(|line| if line.contains(',') { String::new() } else { line });
    let when = prop::sample::select(&WINDOWS).prop_map(|window| format!("when = {{ {window} }}\n"));
    (list("actions", &ACTIONS), objects(), maybe(3, when), maybe(3, extra)).prop_map(
        |(actions, objects, when, extra)| {
            // Actions that concern no object can't stand beside objects.
            let actions = match objects.is_empty() {
                true => actions,
                false => actions.replace("unknown", "update"),
            };
            actions + &objects + &when + &extra
        },
    )
}

fn protect() -> impl Strategy<Value = String> {
    let mode = prop::sample::select(&MODES).prop_map(|mode| format!("mode = \"{mode}\"\n"));
    let database = list("database", &["shop", "s*", "other"]);
    let objects = objects().prop_map(|text| {
        text.lines()
            .filter(|line| !line.starts_with("columns"))
            .map(|l| format!("{l}\n"))
            .collect::<String>()
    });
    (objects, maybe(3, mode), maybe(2, database)).prop_map(|(o, m, d)| o + &m + &d)
}

pub(super) fn policies() -> impl Strategy<Value = PolicyText> {
    let rules = |side| prop::collection::vec(rule(side), 0..4);
    let role = (prop::sample::select(&MODES), rules("grant"), rules("deny"));
    let roles = prop::collection::vec(role, 1..4);
    let assign = (prop::sample::select(&USER_PATTERNS), 0_usize..4);
    let assigns = prop::collection::vec(assign, 0..5);
    let protects = prop::collection::vec(protect(), 0..4);
    (prop::sample::select(&["deny", "allow"]), roles, assigns, protects).prop_map(
        |(unknown, roles, assigns, protects)| {
            let count = roles.len();
            let named = |prefix: String, bodies: Vec<String>| -> Vec<RuleText> {
                let numbered = bodies.into_iter().enumerate();
                numbered.map(|(n, body)| RuleText { name: format!("{prefix}{n}"), body }).collect()
            };
            let roles =
                roles.into_iter().enumerate().map(|(n, (mode, grants, denials))| RoleText {
                    name: format!("r{n}"),
                    mode,
                    grants: named(format!("r{n}g"), grants),
                    denials: named(format!("r{n}d"), denials),
                });
            let assigns = assigns
                .into_iter()
                .map(|(user, role)| format!("give = [\"r{}\"]\nrole = [\"{user}\"]", role % count));
            PolicyText {
                unknown,
                roles: roles.collect(),
                assigns: assigns.collect(),
                protects: named("p".to_owned(), protects),
            }
        },
    )
}

/// Adds a rule of its own name to a role.
pub(super) fn add(policy: &PolicyText, role: usize, side: &str, body: &str) -> PolicyText {
    let mut more = policy.clone();
    let role = role % more.roles.len();
    let rule = RuleText { name: "added".to_owned(), body: body.to_owned() };
    match side {
        "grant" => more.roles[role].grants.push(rule),
        _ => more.roles[role].denials.push(rule),
    }
    more
}

fn schemas() -> impl Strategy<Value = Option<Name>> {
    prop::option::weighted(0.8, prop::sample::select(&SCHEMAS).prop_map(name))
}

fn columns() -> impl Strategy<Value = Columns> {
    let some = prop::sample::subsequence(COLUMNS.to_vec(), 1..=3).prop_map(|some| these(&some));
    prop_oneof![Just(Columns::None), Just(Columns::All), some]
}

fn object() -> impl Strategy<Value = Object> {
    use crate::sql::facts::ObjectKind as K;
    let table = || prop::sample::select(&TABLES).prop_map(name);
    let kinds = &[K::Extension, K::Schema, K::Type, K::View, K::Function];
    let schema_of_others = prop_oneof![schemas(), Just(None)];
    let others = prop_oneof![table(), prop::sample::select(&SCHEMAS).prop_map(name)];
    prop_oneof![
        8 => (schemas(), table(), columns())
            .prop_map(|(schema, name, columns)| Object::Relation { schema, name, columns }),
        2 => (schemas(), table()).prop_map(|(schema, name)| Object::Function { schema, name }),
        2 => (prop::sample::select(kinds), schema_of_others, others)
            .prop_map(|(kind, schema, name)| Object::Other { kind, schema, name }),
        2 => prop::sample::select(&["work_mem", "role", ANY_SETTING])
            .prop_map(|setting| Object::Setting(setting.into())),
        1 => Just(Object::Session),
    ]
}

fn needs() -> impl Strategy<Value = Need> {
    let actions = &[
        Effect::Set,
        Effect::Select,
        Effect::Insert,
        Effect::Create,
        Effect::Drop,
        Effect::CopyOut,
    ];
    let reached = prop_oneof![4 => Just(Reached::Named), 1 => Just(Reached::Through)];
    (prop::sample::select(actions), object(), reached).prop_map(|(action, object, reached)| Need {
        action,
        object,
        reached,
    })
}

pub(super) fn requests() -> impl Strategy<Value = Request> {
    let unknown = prop::collection::vec(Just(Unknown::Syntax), 0..2);
    (prop::collection::vec(needs(), 0..4), unknown)
        .prop_map(|(needs, unknown)| Request { unknown, ..request(needs) })
}

pub(super) fn users() -> impl Strategy<Value = Subject> {
    prop::sample::select(&USERS).prop_map(user)
}

/// A moment within a fortnight.
pub(super) fn moments() -> impl Strategy<Value = WallTime> {
    (0_u64..14 * 24 * 4).prop_map(|quarter| WallTime(NOON.0 + quarter * 900))
}
