//! What the reader refuses, and how it says so.

use super::*;

/// The report of a text, without the name of the file.
fn errors(text: &str) -> Vec<String> {
    let report = Policy::parse("f", text).err().unwrap_or_else(|| panic!("good: {text}"));
    report.to_string().lines().map(|line| line.trim_start_matches("f:").trim().to_owned()).collect()
}

#[test]
fn all_errors_are_reported_at_once_with_their_lines() {
    let text = "\
unknow = \"deny\"
[[role]]
name = \"analyst\"
mood = \"warn\"
[[role.grant]]
actions = [\"reed\"]
relations = [\"a.b.c\"]
[[role.deny]]
actions = []
objects = [\"extnsion\"]
[[assign]]
give = [\"analist\"]
role = [\"ann\"]
";
    let expected = [
        "1: `unknow`: unknown key",
        "hint: did you mean `unknown`?",
        "4: `role[0].mood`: unknown key",
        "hint: did you mean `mode`?",
        "6: `role[0].grant[0].actions[0]`: no such action: `reed`",
        "hint: did you mean `read`?",
        "7: `role[0].grant[0].relations[0]`: not a name: found `a.b.c`: more parts than the name can have",
        "hint: write `schema.name`; databases are named in `[[protect]]` and `[[assign]]`",
        "9: `role[0].deny[0].actions`: an empty list means nothing",
        "hint: leave the key out, or write what is meant; `\"*\"` is everything",
        "10: `role[0].deny[0].objects[0]`: no such kind of object: `extnsion`",
        "hint: did you mean `extension`?",
        "12: `assign[0].give[0]`: no such role: `analist`",
        "hint: did you mean `analyst`?",
    ];
    assert_eq!(errors(text), expected);
}

#[test]
fn every_wrong_thing_has_words_of_its_own() {
    let role = |rest: &str| format!("role = [{{ name = \"r\", {rest} }}]");
    for (text, expected) in [
        ("x = ".to_owned(), "1: "),
        ("role = [{}]".to_owned(), "`name` is missing"),
        ("role = [{ name = \"a b\" }]".to_owned(), "expected 1 to 128 letters"),
        ("role = [{ name = \"r\" }, { name = \"r\" }]".to_owned(), "is that of `role[0]`"),
        (role("grant = [{ relations = [\"t\"] }]"), "`actions` is missing"),
        (role("grant = [{ actions = [\"read\"], relations = [] }]"), "an empty list"),
        (role("grant = [{ actions = [\"read\"], relations = [\"a b\"] }]"), "double quotes"),
        (role("grant = [{ actions = [\"read\"], columns = [\"a\"] }]"), "no `relations` are named"),
        (
            role("grant = [{ actions = [\"transaction\"], relations = [\"t\"] }]"),
            "concerns no object",
        ),
        (role("grant = [{ actions = [\"unknown\"], functions = [\"f\"] }]"), "concerns no object"),
        (
            role("grant = [{ actions = [\"read\"], objects = [\"table:x\"] }]"),
            "named in `relations`",
        ),
        (role("grant = [{ actions = [\"read\"], hint = \"x\" }]"), "unknown key"),
        (role("deny = [{ actions = [\"read\"], rows = 1 }]"), "unknown key"),
        (role("deny = [{ actions = [\"read\"], hint = \"a\\nb\" }]"), "one line"),
        (role("deny = [{ actions = [\"read\"], when = {} }]"), "no days and no hours"),
        (role("deny = [{ actions = [\"read\"], when = { days = [] } }]"), "an empty list"),
        (
            role("deny = [{ actions = [\"read\"], when = { days = [\"monday\"] } }]"),
            "expected `mon`",
        ),
        (role("deny = [{ actions = [\"read\"], when = { from = \"8\" } }]"), "00:00 to 24:00"),
        (
            role("deny = [{ actions = [\"read\"], when = { from = \"08:00\", to = \"08:00\" } }]"),
            "begins when",
        ),
        (
            role(
                "deny = [{ actions = [\"read\"], when = { from = \"08:00\", timezone = \"CET\" } }]",
            ),
            "expected `UTC`",
        ),
        (role("limit = [{}]"), "limits nothing"),
        (role("limit = [{ idle_ms = 1 }]"), "no statement runs"),
        (role("limit = [{ statement_rows = 0 }]"), "out of range"),
        (
            role(
                "deny = [{ name = \"x\", actions = [\"read\"] }, { name = \"x\", actions = [\"ddl\"] }]",
            ),
            "is that of",
        ),
        (
            format!("{}\nassign = [{{ give = [\"r\"] }}]", role("mode = \"warn\"")),
            "no key says to whom",
        ),
        (
            format!(
                "{}\nassign = [{{ give = [\"r\"], everyone = true, uid = [1] }}]",
                role("mode = \"warn\"")
            ),
            "exclude each other",
        ),
        ("assign = [{ everyone = true }]".to_owned(), "`give` is missing"),
        (
            format!(
                "{}\nassign = [{{ give = [\"r\"], exe_sha256 = [\"0\"] }}]",
                role("mode = \"warn\"")
            ),
            "64 hexadecimal digits",
        ),
        ("protect = [{ destination = [] }]".to_owned(), "an empty list"),
        (
            "case = [{ sql = \"SELECT 1\", expect = \"deny\", rule = \"x\" }]".to_owned(),
            "no such rule",
        ),
        ("case = [{ expect = \"deny\" }]".to_owned(), "`sql` is missing"),
        ("case = [{ sql = \"SELECT 1\" }]".to_owned(), "`expect` is missing"),
        (
            "case = [{ sql = \"SELECT 1\", expect = \"deny\", who = { rolle = \"x\" } }]"
                .to_owned(),
            "unknown key",
        ),
        (
            "case = [{ sql = \"SELECT 1\", expect = \"deny\", at = \"noon\" }]".to_owned(),
            "expected for example",
        ),
    ] {
        let found = errors(&text).join("\n");
        assert!(found.contains(expected), "{text}\n{found}");
    }
}

#[test]
fn an_empty_list_is_an_error_wherever_it_stands() {
    let objects = [
        "relations",
        "columns",
        "functions",
        "objects",
        "settings",
        "roles",
        "channels",
        "actions",
    ];
    for key in objects {
        let text = format!("role = [{{ name = \"r\", deny = [{{ {key} = [] }}] }}]");
        assert!(errors(&text).join("\n").contains("an empty list"), "{key}");
    }
    let subjects = told::keys().map(|key| match key {
        "label" | "tag" => format!("{key} = {{}}"),
        key => format!("{key} = []"),
    });
    for key in subjects {
        let text = format!("role = [{{ name = \"r\" }}]\nassign = [{{ give = [\"r\"], {key} }}]");
        assert!(errors(&text).join("\n").contains("an empty list"), "{key}");
    }
}

#[test]
fn names_are_given_or_derived() {
    let policy = policy(
        "role = [{ name = \"r\", deny = [{ actions = [\"drop\"] }, { name = \"no-truncate\", actions = [\"truncate\"] }] }]\n\
         assign = [{ give = [\"r\"], everyone = true }]",
    );
    let names: Vec<_> = policy.roles()[0].denials.iter().map(|rule| &*rule.name).collect();
    assert_eq!(names, ["r.deny[0]", "no-truncate"]);
}

#[test]
fn what_works_and_is_likely_not_meant_is_said() {
    let policy = policy(
        "[[role]]\nname = \"a\"\ngrant = [{ actions = [\"read\"] }]\n[[role]]\nname = \"b\"\n\
         [[assign]]\ngive = [\"a\"]\napplication = [\"psql\"]\n",
    );
    let said: Vec<_> =
        policy.advice().iter().map(|advice| (advice.line, &*advice.message)).collect();
    assert_eq!(
        said,
        [(4, "nobody has the role `b`"), (6, "`assign[0]` gives grants to whoever claims them"),]
    );
}

#[test]
fn the_identity_is_that_of_the_bytes() {
    let identity = policy("").identity().to_string();
    assert_eq!(identity, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_ne!(policy("#").identity(), policy("").identity());
}
