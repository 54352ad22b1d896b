//! What rules mean, one by one.

use super::*;

const CARDS: &str = r#"
    [[role]]
    name = "analyst"
    hint = "ask #data-platform"

    [[role.grant]]
    actions = ["read"]
    relations = ["public.*"]

    [[role.deny]]
    actions = ["all"]
    relations = ["*.cards"]
    columns = ["pan"]

    [[assign]]
    give = ["analyst"]
    role = ["ann"]

    [[protect]]
    name = "shop"
    relations = ["*"]
"#;

fn select(schema: Option<&str>, table: &str, columns: Columns) -> Request {
    request(vec![need(Effect::Select, relation(schema, table, columns))])
}

#[test]
fn a_denial_beats_a_grant_on_the_columns_it_names() {
    let policy = policy(CARDS);
    for (columns, expected) in [
        (these(&["id"]), "allow"),
        (Columns::None, "allow"),
        (these(&["id", "pan"]), "deny"),
        (Columns::All, "deny"),
    ] {
        let verdict = judge(&policy, "ann", &select(Some("public"), "cards", columns.clone()));
        assert_eq!(word(&verdict), expected, "{columns:?}");
    }
    let verdict = judge(&policy, "ann", &select(Some("public"), "cards", Columns::All));
    let denial = verdict.denial().expect("a denial");
    assert_eq!(denial.message(None), "permission denied for table cards");
    assert_eq!(denial.hint.as_deref(), Some("ask #data-platform"));
    assert_eq!((&*denial.rules[0], denial.rules.len()), ("analyst.deny[0]", 1));
    assert!(verdict.permit().is_err());
    assert!(denial.detail(policy.identity(), "7").ends_with("rule analyst.deny[0], decision 7."));
}

#[test]
fn what_is_protected_needs_a_grant_and_the_rest_does_not() {
    let policy = policy(CARDS);
    for (role, schema, expected) in
        [("ann", "public", "allow"), ("ann", "secret", "deny"), ("bob", "public", "deny")]
    {
        let verdict = judge(&policy, role, &select(Some(schema), "orders", Columns::All));
        assert_eq!(word(&verdict), expected, "{role} {schema}");
    }
    let begin = request(vec![need(Effect::Transaction, Object::Session)]);
    assert_eq!(word(&judge(&policy, "bob", &begin)), "allow");
    let verdict = judge(&policy, "bob", &select(Some("public"), "orders", Columns::All));
    let denial = verdict.denial().expect("a denial");
    assert_eq!((&denial.reason, &*denial.rules[0]), (&Reason::NotGranted, "shop"));
}

#[test]
fn an_unresolved_name_is_any_of_its_name() {
    let policy = policy(CARDS);
    assert_eq!(word(&judge(&policy, "ann", &select(None, "orders", Columns::All))), "deny");
    assert_eq!(word(&judge(&policy, "ann", &select(None, "cards", these(&["pan"])))), "deny");
    let wide = super::policy(&CARDS.replace("\"public.*\"", "\"*\""));
    assert_eq!(word(&judge(&wide, "ann", &select(None, "orders", Columns::All))), "allow");
}

#[test]
fn what_is_reached_through_another_needs_no_grant_but_heeds_denials() {
    let policy = policy(CARDS);
    let through = |table, columns| {
        let object = relation(Some("secret"), table, columns);
        request(vec![Need { reached: Reached::Through, ..need(Effect::Select, object) }])
    };
    assert_eq!(word(&judge(&policy, "ann", &through("orders", Columns::All))), "allow");
    assert_eq!(word(&judge(&policy, "ann", &through("cards", Columns::All))), "deny");
}

#[test]
fn grants_of_columns_add_up_and_cover_nothing_else() {
    let policy = policy(
        r#"
        role = [{ name = "r", grant = [
            { actions = ["select", "delete"], relations = ["t"], columns = ["a", "b*"] },
            { actions = ["select"], relations = ["t"], columns = ["c"] },
        ] }]
        assign = [{ give = ["r"], everyone = true }]
        protect = [{}]
        "#,
    );
    let ask = |action, columns| {
        let request = request(vec![need(action, relation(Some("s"), "t", columns))]);
        word(&judge(&policy, "ann", &request))
    };
    assert_eq!(ask(Effect::Select, these(&["a", "bb", "c"])), "allow");
    assert_eq!(ask(Effect::Select, these(&["a", "d"])), "deny");
    assert_eq!(ask(Effect::Select, Columns::All), "deny");
    assert_eq!(ask(Effect::Select, Columns::None), "allow");
    assert_eq!(ask(Effect::Delete, Columns::None), "deny");
    assert_eq!(ask(Effect::Delete, these(&["c"])), "deny");
}

#[test]
fn empty_means_what_the_documents_say() {
    let anything = select(Some("public"), "cards", Columns::All);
    // Nothing is protected: all is allowed, what is not understood too.
    let empty = policy("");
    assert_eq!(word(&judge(&empty, "ann", &anything)), "allow");
    assert_eq!(word(&judge(&empty, "ann", &unknown(Unknown::Syntax))), "allow");
    assert_eq!(word(&judge(&Policy::empty(), "ann", &anything)), "allow");
    // A role without grants grants nothing; a protect without objects is about all of them.
    let bare = policy(
        "role = [{ name = \"r\" }]\nassign = [{ give = [\"r\"], everyone = true }]\nprotect = [{}]",
    );
    assert_eq!(word(&judge(&bare, "ann", &anything)), "deny");
    let begin = request(vec![need(Effect::Transaction, Object::Session)]);
    assert_eq!(word(&judge(&bare, "ann", &begin)), "deny");
    // A statement that needs nothing is allowed everywhere.
    assert_eq!(word(&judge(&bare, "ann", &request(Vec::new()))), "allow");
}

#[test]
fn what_is_not_understood_needs_a_grant_of_its_own() {
    let text = |unknown: &str, action: &str| {
        format!(
            "unknown = \"{unknown}\"\nrole = [{{ name = \"r\", grant = [{{ actions = [\"{action}\"] }}] }}]\n\
             assign = [{{ give = [\"r\"], role = [\"ann\"] }}]\nprotect = [{{ relations = [\"pci.*\"] }}]"
        )
    };
    let ask = |text: &str, role| word(&judge(&policy(text), role, &unknown(Unknown::TooDeep)));
    assert_eq!(ask(&text("deny", "read"), "ann"), "deny");
    assert_eq!(ask(&text("deny", "unknown"), "ann"), "allow");
    assert_eq!(ask(&text("deny", "all"), "ann"), "deny");
    assert_eq!(ask(&text("deny", "all"), "bob"), "deny");
    assert_eq!(ask(&text("allow", "read"), "bob"), "allow");
    // What a role is denied could be what was not understood.
    let denied = |unknown: &str, actions: &str| {
        format!(
            "unknown = \"{unknown}\"\nrole = [{{ name = \"r\", grant = [{{ actions = [{actions}] }}], \
             deny = [{{ actions = [\"read\"], relations = [\"pci.*\"], terminate = true }}] }}]\n\
             assign = [{{ give = [\"r\"], role = [\"ann\"] }}]"
        )
    };
    assert_eq!(ask(&denied("deny", "\"all\""), "ann"), "deny");
    assert_eq!(ask(&denied("deny", "\"all\", \"unknown\""), "ann"), "allow");
    assert_eq!(ask(&denied("deny", "\"all\""), "bob"), "allow");
    assert_eq!(ask(&denied("allow", "\"all\""), "ann"), "allow");
    let refused = policy(&denied("deny", "\"all\""));
    let verdict = judge(&refused, "ann", &unknown(Unknown::TooDeep));
    assert!(!verdict.denial().expect("a denial").terminate, "the rule is about something else");
    let policy = policy(&text("deny", "read"));
    let verdict = judge(&policy, "ann", &unknown(Unknown::Code("DO")));
    let denial = verdict.denial().expect("a denial");
    assert_eq!(denial.message(None), "permission denied for this statement (unknown: code in DO)");
}

#[test]
fn modes_say_what_a_refusal_comes_to() {
    let text = |first: &str, second: &str| {
        format!(
            r#"
            [[role]]
            name = "one"
            mode = "{first}"
            deny = [{{ actions = ["drop"], terminate = true }}]
            [[role]]
            name = "two"
            mode = "{second}"
            deny = [{{ actions = ["drop", "truncate"] }}]
            [[assign]]
            give = ["one", "two"]
            everyone = true
            [[protect]]
            relations = ["pci.*"]
            "#
        )
    };
    let ask = |first, second, action, schema| {
        let request = request(vec![need(action, relation(Some(schema), "t", Columns::None))]);
        judge(&policy(&text(first, second)), "ann", &request)
    };
    assert_eq!(word(&ask("observe", "observe", Effect::Drop, "public")), "observe");
    assert_eq!(word(&ask("observe", "warn", Effect::Drop, "public")), "warn");
    assert_eq!(word(&ask("enforce", "warn", Effect::Drop, "public")), "deny");
    // The strictest of the roles whose rule it is, not of all.
    assert_eq!(word(&ask("enforce", "warn", Effect::Truncate, "public")), "warn");
    // A missing grant is worth what the strictest role is.
    assert_eq!(word(&ask("observe", "warn", Effect::Select, "pci")), "warn");
    assert_eq!(word(&ask("observe", "observe", Effect::Select, "pci")), "observe");
    // A milder denial does not hide it.
    assert_eq!(word(&ask("enforce", "warn", Effect::Truncate, "pci")), "deny");
    let ends = |first| ask(first, "enforce", Effect::Drop, "public").denial().map(|d| d.terminate);
    assert_eq!((ends("enforce"), ends("observe")), (Some(true), Some(false)));
    assert!(ask("observe", "warn", Effect::Drop, "public").permit().is_ok());
}

#[test]
fn a_protect_may_observe_too() {
    let policy = policy(
        "protect = [{ relations = [\"a.*\"], mode = \"observe\" }, { relations = [\"a.b\"], mode = \"warn\" }]",
    );
    let ask = |table| word(&judge(&policy, "ann", &select(Some("a"), table, Columns::All)));
    assert_eq!((ask("x"), ask("b")), ("observe", "warn"));
}

#[test]
fn hours_begin_and_end() {
    let policy = policy(
        r#"
        [[role]]
        name = "r"
        [[role.grant]]
        actions = ["read"]
        relations = ["t"]
        when = { days = ["mon"], from = "08:00", to = "18:00" }
        [[assign]]
        give = ["r"]
        everyone = true
        [[protect]]
        "#,
    );
    let class = policy.class(&user("ann"));
    let ask = |hour: u64| {
        let now = WallTime(NOON.0 - 12 * 3600 + hour * 3600);
        let verdict = policy.judge(&class, &select(Some("s"), "t", Columns::All), now);
        (word(&verdict), verdict.until().map(|until| (until.0 - NOON.0 + 12 * 3600) / 3600))
    };
    assert_eq!((ask(8), ask(18)), (("allow", Some(18)), ("deny", Some(7 * 24 + 8))));
}

#[test]
fn dropping_a_schema_touches_what_is_in_it() {
    let policy = policy(
        "role = [{ name = \"r\", deny = [{ actions = [\"ddl\"], relations = [\"pci.cards\"] }] }]\n\
         assign = [{ give = [\"r\"], everyone = true }]",
    );
    let ask = |action, schema: &str| {
        let kind = crate::sql::facts::ObjectKind::Schema;
        let object = Object::Other { kind, schema: None, name: name(schema) };
        word(&judge(&policy, "ann", &request(vec![need(action, object)])))
    };
    assert_eq!(ask(Effect::Drop, "pci"), "deny");
    assert_eq!(ask(Effect::Drop, "public"), "allow");
    assert_eq!(ask(Effect::Create, "pci"), "allow");
}

#[test]
fn objects_of_ddl_are_named_by_what_they_are() {
    let policy = policy(
        "role = [{ name = \"r\", deny = [{ actions = [\"create\"], objects = [\"extension\", \"type:public.*\"] },\n\
         { actions = [\"drop\"], relations = [\"pci.*\"], functions = [\"pci.*\"], roles = [\"admin*\"] }] }]\n\
         assign = [{ give = [\"r\"], everyone = true }]",
    );
    use crate::sql::facts::ObjectKind as K;
    for (action, kind, schema, object, expected) in [
        (Effect::Create, K::Extension, None, "dblink", "deny"),
        (Effect::Create, K::Type, Some("public"), "t", "deny"),
        (Effect::Create, K::Type, Some("app"), "t", "allow"),
        (Effect::Create, K::Type, None, "t", "deny"),
        (Effect::Drop, K::View, Some("pci"), "v", "deny"),
        (Effect::Drop, K::Procedure, Some("pci"), "p", "deny"),
        (Effect::Drop, K::Role, None, "admin1", "deny"),
        (Effect::Drop, K::Role, None, "app", "allow"),
        (Effect::Drop, K::Extension, None, "dblink", "allow"),
    ] {
        let object = Object::Other { kind, schema: schema.map(name), name: name(object) };
        let verdict = judge(&policy, "ann", &request(vec![need(action, object.clone())]));
        assert_eq!(word(&verdict), expected, "{action:?} {object:?}");
    }
}

#[test]
fn errors_read_like_the_servers() {
    use crate::sql::facts::ObjectKind as K;
    let message = |action, object, kind| {
        let denial = Denial {
            need: need(action, object),
            reason: Reason::Denied,
            rules: Vec::new(),
            hint: None,
            terminate: false,
            mode: Mode::Enforce,
        };
        denial.message(kind)
    };
    let cards = || relation(Some("pci"), "cards", Columns::All);
    let f = || Object::Function { schema: None, name: name("f") };
    let other = |kind, text| Object::Other { kind, schema: None, name: name(text) };
    for (found, expected) in [
        (message(Effect::Select, cards(), None), "permission denied for table cards"),
        (message(Effect::Select, cards(), Some(K::View)), "permission denied for view cards"),
        (
            message(Effect::Select, cards(), Some(K::MaterializedView)),
            "permission denied for materialized view cards",
        ),
        (message(Effect::Execute, f(), None), "permission denied for function f"),
        (message(Effect::Call, f(), Some(K::Procedure)), "permission denied for procedure f"),
        (message(Effect::Drop, other(K::Schema, "pci"), None), "permission denied for schema pci"),
        (
            message(Effect::Create, other(K::ForeignDataWrapper, "w"), None),
            "permission denied for foreign-data wrapper w",
        ),
        (
            message(Effect::Set, Object::Setting("log_statement".into()), None),
            "permission denied to set parameter \"log_statement\"",
        ),
        (
            message(Effect::SetRole, Object::Role(name("dba")), None),
            "permission denied to set role \"dba\"",
        ),
        (
            message(Effect::TwoPhase, Object::Session, None),
            "permission denied for this statement (two_phase)",
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn ceilings_are_the_tightest_of_what_matches() {
    let policy = policy(
        r#"
        [[role]]
        name = "r"
        grant = [
            { actions = ["read"], relations = ["t"], rows = 100 },
            { actions = ["read"], relations = ["*"], rows = 1000, bytes = 5 },
        ]
        [[role.limit]]
        statement_rows = 50
        idle_ms = 900000
        action = "terminate"
        [[role.limit]]
        statement_rows = 20
        action = "warn"
        [[role]]
        name = "quiet"
        mode = "observe"
        limit = [{ statement_rows = 1 }]
        [[assign]]
        give = ["r", "quiet"]
        everyone = true
        "#,
    );
    let class = policy.class(&user("ann"));
    let verdict = policy.judge(&class, &select(Some("s"), "t", Columns::All), NOON);
    let seen = |limits: &[Limit]| -> Vec<_> {
        limits.iter().map(|limit| (limit.counted, limit.max, limit.action)).collect()
    };
    assert_eq!(
        seen(verdict.ceilings()),
        [
            (Counted::StatementRows, 100, LimitAction::Cancel),
            (Counted::StatementBytes, 5, LimitAction::Cancel)
        ]
    );
    assert_eq!(
        seen(&class.limits().limits),
        [
            (Counted::StatementRows, 1, LimitAction::Observe),
            (Counted::StatementRows, 20, LimitAction::Warn),
            (Counted::StatementRows, 50, LimitAction::Terminate),
            (Counted::IdleMillis, 900_000, LimitAction::Terminate),
        ]
    );
    assert_eq!(&*class.limits().limits[3].rule, "r.limit[0]");
}

#[test]
fn assigns_need_all_keys_and_any_pattern_of_each() {
    let policy = policy(
        r#"
        role = [{ name = "a" }, { name = "b" }, { name = "c" }, { name = "d" }, { name = "e" }]
        [[assign]]
        give = ["a"]
        exe = ["/usr/bin/psql", "/opt/*"]
        uid = [1000]
        [[assign]]
        give = ["b"]
        image = ["shop:*"]
        label = { app = ["web", "api"], tier = ["front"] }
        [[assign]]
        give = ["c"]
        parent = ["*/sshd"]
        [[assign]]
        give = ["d"]
        role = ["ann", "bob"]
        database = ["shop"]
        destination = ["prod*"]
        [[assign]]
        give = ["e"]
        tag = { route = "/admin*" }
        loginuid = [0]
        "#,
    );
    let roles = |told: &[(&str, &str)]| {
        let mut subject = Subject::default();
        for (key, value) in told {
            told::tell(&mut subject, key, value).expect("a key");
        }
        policy
            .roles_of(&policy.class(&subject))
            .iter()
            .map(|name| name.to_string())
            .collect::<String>()
    };
    for (told, expected) in [
        (&[][..], ""),
        (&[("exe", "/usr/bin/psql"), ("uid", "1000")], "a"),
        (&[("exe", "/opt/x"), ("uid", "1000")], "a"),
        (&[("exe", "/usr/bin/psql")], ""),
        (&[("exe", "/usr/bin/psql"), ("uid", "1001")], ""),
        (&[("image", "shop:1"), ("label.app", "api"), ("label.tier", "front")], "b"),
        (&[("image", "shop:1"), ("label.app", "api")], ""),
        (&[("parent", "/bin/sh"), ("parent", "/usr/sbin/sshd")], "c"),
        (&[("role", "bob"), ("database", "shop"), ("destination", "prod-1")], "d"),
        (&[("role", "bob"), ("database", "shop")], ""),
        (&[("tag.route", "/admin/x"), ("loginuid", "0")], "e"),
    ] {
        assert_eq!(roles(told), expected, "{told:?}");
    }
    let class = policy.class_with(&user("eve"), &["b", "none"]);
    assert_eq!(policy.roles_of(&class).len(), 1);
}

#[test]
fn protection_is_of_a_destination_and_a_database() {
    let policy = policy("protect = [{ destination = [\"prod*\"], database = [\"shop\"] }]");
    let ask = |destination: &str, database: &str| {
        let subject = Subject {
            destination: Some(destination.into()),
            database: database.into(),
            ..Subject::default()
        };
        let class = policy.class(&subject);
        word(&policy.judge(&class, &select(Some("s"), "t", Columns::All), NOON))
    };
    assert_eq!(ask("prod-1", "shop"), "deny");
    assert_eq!((ask("test", "shop"), ask("prod-1", "other")), ("allow", "allow"));
}

#[test]
fn a_class_of_another_policy_is_refused() {
    let (old, new) = (policy(""), policy("# new\n"));
    let verdict = new.judge(&old.class(&user("ann")), &request(Vec::new()), NOON);
    assert_eq!(verdict.denial().map(|denial| &denial.reason), Some(&Reason::OtherPolicy));
    assert_eq!(word(&verdict), "deny");
}

#[test]
fn classes_are_equal_when_roles_and_protection_are() {
    let policy = policy(
        "role = [{ name = \"r\" }]\nassign = [{ give = [\"r\"], role = [\"a*\"] }]\n\
         protect = [{ destination = [\"prod\"] }]",
    );
    assert_eq!(policy.class(&user("ann")), policy.class(&user("abe")));
    assert_ne!(policy.class(&user("ann")), policy.class(&user("bob")));
    let prod = Subject { destination: Some("prod".into()), ..user("ann") };
    assert_ne!(policy.class(&user("ann")), policy.class(&prod));
}
