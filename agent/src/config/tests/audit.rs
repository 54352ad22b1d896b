//! `[audit]`, its rules and its anchors.

use super::*;
use crate::audit::anchors::WitnessKey;

const KEY: &str = "witness.example/w1+a5b1519f+BA0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0N";

fn audit(text: &str) -> Audit {
    parsed(&format!("[[destination]]\nname = 'a'\nnetworks = ['10.0.0.0/8']\n[audit]\n{text}"))
        .audit
}

/// Problems of `[audit]` that begins in line 1 with `text`.
fn wrong(text: &str) -> Vec<String> {
    let before = "intercept = [{ ports = [5432] }]\n\
                  destination = [{ name = 'a', networks = ['10.0.0.0/8'] }]\n[audit]\n";
    let report = Config::parse("t.toml", &format!("{before}{text}")).expect_err("a bad file");
    let line = |line: Option<usize>| line.map_or(0, |line| line - 3);
    report.problems.iter().map(|p| format!("{} {}: {}", line(p.line), p.key, p.message)).collect()
}

#[test]
fn the_example_loads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/audit.toml");
    let audit = Config::load(&path).expect("the example loads").audit;
    assert_eq!(audit.rules.len(), 1);
    let kinds: Vec<_> = audit.anchors.iter().map(|anchor| anchor.place.kind()).collect();
    assert_eq!(kinds, ["print", "file", "database", "witness"]);
}

#[test]
fn settings_arrive_typed() {
    let found = audit(
        "directory = '/srv/trail'\nfleet = 'eu.prod-1'\non_full = 'allow'\nmode = 'strict'\n\
         async_bytes_max = 65536\nasync_delay_ms_max = 10\nvalues = 'hash'\nparameters = 'omit'\n\
         segment_bytes = 65536\nreserve_bytes = 65536\nquota_bytes = 1048576\n\
         seal_every_ms = 1000\nprune_after_days = 0\nvalues_keep_days = 1\nbreak_glass = '/bg/x'\n",
    );
    let expected = Audit {
        directory: "/srv/trail".into(),
        fleet: "eu.prod-1".to_owned(),
        on_full: OnFull::Allow,
        mode: AuditMode::Strict,
        async_bytes_max: 65_536,
        async_delay_max: Duration::from_millis(10),
        values: ValueMode::Hash,
        parameters: Parameters::Omit,
        segment_bytes: 65_536,
        reserve_bytes: 65_536,
        quota_bytes: 1 << 20,
        seal_every: Duration::from_secs(1),
        prune_after: None,
        values_keep: Some(Duration::from_secs(86_400)),
        break_glass: Some("/bg/x".into()),
        ..Audit::default()
    };
    assert_eq!(found, expected);
}

#[test]
fn rules_arrive_in_order() {
    let rules = audit(
        "rule = [{ destination = 'a', database = 'd', user = 'u', mode = 'overlap', values = 'never', \
         numbers = [3, 1], subject = 2 }, { destination = 'default', mode = 'async' }]",
    )
    .rules;
    let first = AuditRule {
        destination: Some("a".to_owned()),
        database: Some("d".to_owned()),
        user: Some("u".to_owned()),
        mode: Some(AuditMode::Overlap),
        values: Some(ValueMode::Never),
        numbers: vec![1, 3],
        subject: Some(2),
    };
    let second = AuditRule {
        destination: Some("default".to_owned()),
        mode: Some(AuditMode::Async),
        ..AuditRule::default()
    };
    assert_eq!(rules, [first, second]);
}

#[test]
fn anchors_arrive_with_the_time_of_their_kind() {
    let anchors = audit(&format!(
        "anchor = [{{ name = 'p', kind = 'print' }}, {{ name = 'f', kind = 'file', directory = '/m' }},\n\
         {{ name = 'd', kind = 'database', every_s = 5, destination = 'a', address = '10.0.0.1:5432', \
         database = 'b', user = 'u', password_env = 'P' }},\n\
         {{ name = 'w', kind = 'witness', url = 'https://w.example/x', key = '{KEY}' }}]"
    ))
    .anchors;
    let places = [
        ("p", 3600, AnchorPlace::Print(PrintTo::Syslog)),
        ("f", 60, AnchorPlace::File("/m".into())),
        (
            "d",
            5,
            AnchorPlace::Database(AnchorDatabase {
                destination: "a".to_owned(),
                address: "10.0.0.1:5432".parse().expect("an address"),
                database: "b".to_owned(),
                user: "u".to_owned(),
                password: Some(PasswordSource::Environment("P".to_owned())),
            }),
        ),
        (
            "w",
            60,
            AnchorPlace::Witness(AnchorWitness {
                url: "https://w.example/x".to_owned(),
                key: WitnessKey::parse(KEY).expect("a key"),
            }),
        ),
    ];
    let expected = places.map(|(name, seconds, place)| Anchor {
        name: name.to_owned(),
        every: Duration::from_secs(seconds),
        place,
    });
    assert_eq!(anchors, expected);
}

#[test]
fn all_errors_come_in_one_report() {
    let text = "\
directory = 'trail'
fleet = 'Prod'
on_full = 'pass'
mode = 'sync'
seal_every = 1
segment_bytes = 1073741824
quota_bytes = 1048576
break_glass = '/var/lib/pgward/audit/allowed'
[[audit.rule]]
destination = 'b'
user = 'u'
[[audit.rule]]
user = ''
numbers = [0, 1, 1]
subject = 70000
[[audit.rule]]
values = 'clear'
numbers = []
subject = 1
[[audit.rule]]
database = 'd'
mode = 'group'
[[audit.anchor]]
kind = 'print'
directory = '/x'
every_s = 0
[[audit.anchor]]
name = 'x'
[[audit.anchor]]
name = 'x'
kind = 'file'
[[audit.anchor]]
name = 'y'
kind = 'database'
destination = 'a'
address = '192.168.0.1:5432'
password = 'secret'
[[audit.anchor]]
name = 'z'
kind = 'witness'
url = 'https://w.example/'
key = 'w+00000000+AQ=='
";
    assert_eq!(
        wrong(text),
        [
            "1 audit.directory: not an absolute path in plain form: found `trail`, expected for example `/run/pgward`",
            "2 audit.fleet: found `Prod`, expected 1 to 64 lower-case letters, digits, `-` and `.`",
            "3 audit.on_full: found `pass`, expected `block` or `allow`",
            "4 audit.mode: found `sync`, expected `default`, `strict`, `group`, `overlap` or `async`",
            "5 audit.seal_every: unknown key",
            "7 audit.quota_bytes: `quota_bytes` is too small: found 1048576, expected at least `reserve_bytes` and 4 times `segment_bytes`, which is 4362076160",
            "8 audit.break_glass: a file inside `directory`",
            "9 audit.rule[0]: changes nothing: found none of `mode`, `values` and `subject`",
            "10 audit.rule[0].destination: no destination `b`, expected for example `a` or `default`",
            "13 audit.rule[1].user: expected a text that is not empty",
            "14 audit.rule[1].numbers[0]: out of range: found 0, expected 1..=65535",
            "14 audit.rule[1].numbers[2]: found 1 twice",
            "14 audit.rule[1].numbers: has no effect: there is no `values` in this rule",
            "15 audit.rule[1].subject: out of range: found 70000, expected 1..=65535",
            "16 audit.rule[2]: no `numbers`: found an empty array, expected at least one",
            "19 audit.rule[2].subject: has no effect: no value is `sealed`",
            "20 audit.rule[3]: never used: `audit.rule[2]` in front of it covers it",
            "23 audit.anchor[0]: no `name`: found none, expected a text",
            "25 audit.anchor[0].directory: has no effect: `kind` is `print`",
            "26 audit.anchor[0].every_s: out of range: found 0, expected 1..=86400",
            "27 audit.anchor[1]: no `kind`: found none, expected `print`, `file`, `database` or `witness`",
            "29 audit.anchor[2]: name `x` is taken by `audit.anchor[1]`",
            "29 audit.anchor[2]: no `directory`: found none, expected a folder",
            "32 audit.anchor[3]: no `database`: found none, expected a text",
            "32 audit.anchor[3]: no `user`: found none, expected a text",
            "36 audit.anchor[3].address: `192.168.0.1:5432` is no server of destination `a`",
            "37 audit.anchor[3].password: a password is never written here",
            "41 audit.anchor[4].url: found `https://w.example/`, expected `http://` or `https://`, a host, and a path without `/` at its end",
            "42 audit.anchor[4].key: key of type 0x01, expected 0x04: an Ed25519 key for cosignatures with a time",
        ]
    );
}

#[test]
fn a_rule_that_was_wrong_hides_no_other() {
    // What a bad rule matches is not known.
    let text = "rule = [{ user = '', mode = 'group' }, { user = 'u', mode = 'group' }]\n";
    assert_eq!(wrong(text), ["1 audit.rule[0].user: expected a text that is not empty"]);
}

#[test]
fn addresses_of_witnesses_are_plain() {
    for (url, good) in [
        ("https://w.example", true),
        ("http://127.0.0.1:8080/a/b", true),
        ("https://[::1]:1", true),
        ("ftp://w.example", false),
        ("https://", false),
        ("https://:80", false),
        ("https:///x", false),
        ("https://u:p@w.example", false),
        ("https://w.example/?a=b", false),
        ("https://w.example/#a", false),
        ("https://w.example/a b", false),
        ("https://w.example/%0a", false),
    ] {
        let text = format!(
            "intercept = [{{ ports = [1] }}]\naudit.anchor = [{{ name = 'w', kind = 'witness', url = '{url}', key = '{KEY}' }}]"
        );
        assert_eq!(Config::parse("t.toml", &text).is_ok(), good, "{url}");
    }
}

#[test]
fn more_tables_than_allowed_are_refused() {
    let rules = (0..=AUDIT_RULES_MAX).map(|n| format!("{{ user = 'u{n}', mode = 'group' }}"));
    let text = format!("rule = [{}]\n", rules.collect::<Vec<_>>().join(","));
    assert_eq!(wrong(&text), ["1 audit.rule: too many: found 257, expected at most 256"]);
    let anchors = (0..=ANCHORS_MAX).map(|n| format!("{{ name = 'a{n}', kind = 'print' }}"));
    let text = format!("anchor = [{}]\n", anchors.collect::<Vec<_>>().join(","));
    assert_eq!(wrong(&text), ["1 audit.anchor[16]: too many: found 17, expected at most 16"]);
}
