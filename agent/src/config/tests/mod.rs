//! Good and bad configuration files.

use super::*;

mod audit;
mod destination;
mod errors;

const MINIMAL: &str = "[[intercept]]\nports = [5432]\n";

fn report(text: &str) -> String {
    Config::parse("t.toml", text).expect_err("a bad configuration").to_string()
}

/// `MINIMAL` and `text`.
fn parsed(text: &str) -> Config {
    Config::parse("t.toml", &format!("{MINIMAL}{text}")).expect("a good configuration")
}

#[test]
fn examples_load_and_the_full_one_states_the_defaults() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let full = Config::load(&folder.join("pgward.toml")).expect("the full example loads");
    let minimal = Config::load(&folder.join("minimal.toml")).expect("the small example loads");
    assert_eq!(full, minimal);
    assert_eq!(full, Config::parse("t.toml", MINIMAL).expect("defaults"));
}

#[test]
fn examples_name_every_key() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("an example");
    let (full, destinations) = (read("pgward.toml"), read("destinations.toml"));
    let audit = read("audit.toml");
    // Tables have headers; passwords are asked for only to refuse them.
    let no_values = ["client", "server", "auth", "lookup", "password", "application_password"];
    let tables = ["exception", "account", "rule", "anchor"];
    let mut asked = 0;
    let keys = [&destinations, &audit].map(|text| checked::keys(text));
    for (header, key) in keys.into_iter().flatten().collect::<std::collections::BTreeSet<_>>() {
        if header.is_empty() || no_values.contains(&key) || tables.contains(&key) {
            continue;
        }
        asked += 1;
        let text = match () {
            () if header.contains("[destination") => &destinations,
            () if header.starts_with("[[audit") => &audit,
            () => &full,
        };
        // Each kind of anchor has a table of its own.
        let header_line = format!("\n{header}\n");
        let sections = text.split(&header_line).skip(1);
        let sections = sections.map(|rest| rest.split("\n[").next().unwrap_or_default());
        let line = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
        let named = sections.flat_map(str::lines).any(line);
        assert!(named, "no `{key}` in `{header}` of the examples");
    }
    assert!(asked > 90, "{asked}");
}

#[test]
fn values_arrive_typed() {
    let config = parsed(
        "networks = [\"10.0.0.0/8\", \"fd00::/8\"]\nexclude = [\"10.9.0.0/16\"]\n\
         [agent]\nworkers = 3\nstartup_timeout_ms = 0x100\n\
         [bpf]\ncgroup = \"/sys/fs/cgroup/a\"\non_agent_down = \"allow\"\ntx_timestamp = \"off\"\n\
         sendmsg_tracepoint = \"require\"\n[listen]\nport = 1\n[audit]\non_full = \"allow\"\n\
         parameters = \"omit\"\n[log]\nlevel = \"warn,pgward=debug\"\nformat = \"json\"\n",
    );
    assert_eq!(config.agent.worker_count(64), 3);
    assert_eq!(config.agent.startup_timeout, Duration::from_millis(256));
    assert_eq!(config.bpf.cgroup, Cgroup::Subtree("/sys/fs/cgroup/a".into()));
    assert_eq!(config.bpf.on_agent_down, OnAgentDown::Allow);
    assert_eq!(
        (config.bpf.tx_timestamp, config.bpf.sendmsg_tracepoint),
        (Want::Off, Want::Require)
    );
    assert_eq!(config.listen.port.get(), 1);
    assert_eq!((config.audit.on_full, config.audit.parameters), (OnFull::Allow, Parameters::Omit));
    assert_eq!(
        (config.log.level.as_str(), config.log.format),
        ("warn,pgward=debug", LogFormat::Json)
    );
    assert_eq!(config.intercept[0].exclude[0].to_string(), "10.9.0.0/16");
    assert_eq!(config.targets().len(), 3);
}

#[test]
fn workers_take_half_of_the_processors_up_to_eight() {
    let agent = parsed("").agent;
    let counts = [0, 1, 2, 8, 16, 128].map(|cpus| agent.worker_count(cpus));
    assert_eq!(counts, [1, 1, 1, 4, 8, 8]);
}

#[test]
fn all_errors_come_in_one_report() {
    let text = "\
[agent]
worker = 2
sessions_max = 0
control_socket = 'run/x'
[bpf]
on_agent_down = 'allowed'
cgroup = 'Root'
[listen]
port = 70000
hold_ms = 5
[[intercept]]
ports = [5432, '5433', 15432]
networks = ['10.0.0.1/8', '10.0.0.0/8']
exclude = ['192.168.0.0/16', '10.0.0.0/8']
[[intercept]]
port = [5432]
[audit]
on_full = true
path = '/queries.jsonl'
[log]
level = 'a=b=c'
[logs]
";
    assert_eq!(
        report(text),
        "\
t.toml:2: `agent.worker`: unknown key
  hint: did you mean `workers`?
t.toml:3: `agent.sessions_max`: out of range: found 0, expected 1..=1000000
t.toml:4: `agent.control_socket`: not an absolute path in plain form: found `run/x`, expected for example `/run/pgward`
t.toml:6: `bpf.on_agent_down`: found `allowed`, expected `block` or `allow`
  hint: did you mean `allow`?
t.toml:7: `bpf.cgroup`: found `Root`, expected `root` or an absolute path
t.toml:9: `listen.port`: out of range: found 70000, expected 1..=65535
t.toml:10: `listen.hold_ms`: unknown key
  hint: `hold_ms` belongs in `[netns]`
t.toml:12: `intercept[0].ports[1]`: wrong type: found the string \"5433\", expected a whole number
t.toml:12: `intercept[0].ports[2]`: port 15432 is the agent's own: found it here and as `listen.port`
t.toml:13: `intercept[0].networks[0]`: host bits are set: found `10.0.0.1/8`, expected `10.0.0.0/8`
  hint: write `10.0.0.0/8`, or the one address without a prefix
t.toml:14: `intercept[0].exclude[0]`: `192.168.0.0/16` lies in none of `networks`, so it excludes nothing
t.toml:14: `intercept[0].exclude[1]`: `10.0.0.0/8` excludes all of `10.0.0.0/8` in `networks`
  hint: remove `10.0.0.0/8` from `networks`
t.toml:15: `intercept[1]`: no `ports`: found none, expected at least one, for example `[5432]`
t.toml:16: `intercept[1].port`: unknown key
  hint: did you mean `ports`?
t.toml:18: `audit.on_full`: wrong type: found `true`, expected a string
t.toml:19: `audit.path`: unknown key
  hint: the query log is a trail of several files now: its folder is `audit.directory`
t.toml:21: `log.level`: not a log filter: found `a=b=c`: error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5
  hint: write for example `info` or `warn,pgward::net=debug`
t.toml:22: `logs`: unknown key
  hint: did you mean `log`?"
    );
}

#[test]
fn syntax_errors_come_alone_and_all_of_them() {
    let text = "[agent]\nworkers = \nsessions_max = = 1\n[bpf\n";
    let report = Config::parse("t.toml", text).expect_err("broken syntax");
    assert!(report.problems.len() >= 2, "{report}");
    assert!(report.problems.iter().all(|p| p.key.is_empty() && p.line.is_some()), "{report}");
    assert_eq!(report.problems[0].line, Some(2));
}

#[test]
fn bad_single_values() {
    for (text, expected) in [
        (
            "",
            "t.toml: `intercept`: nothing to intercept: found no `[[intercept]]`, expected at least one\n  hint: begin with `[[intercept]]` and `ports = [5432]`",
        ),
        (
            "intercept = 5\n",
            "t.toml:1: `intercept`: wrong type: found the number 5, expected an array\nt.toml: `intercept`: nothing to intercept: found no `[[intercept]]`, expected at least one\n  hint: begin with `[[intercept]]` and `ports = [5432]`",
        ),
        (
            "[[intercept]]\nports = []\n",
            "t.toml:1: `intercept[0]`: no `ports`: found none, expected at least one, for example `[5432]`",
        ),
        (
            "[[intercept]]\nports = [0]\n",
            "t.toml:2: `intercept[0].ports[0]`: out of range: found 0, expected 1..=65535",
        ),
        (
            "[[intercept]]\nports = [1]\nnetworks = []\n",
            "t.toml:1: `intercept[0]`: no `networks`: found an empty array, expected at least one\n  hint: leave the key out for all networks",
        ),
        (
            "[[intercept]]\nports = 5432\n",
            "t.toml:2: `intercept[0].ports`: wrong type: found the number 5432, expected an array",
        ),
        (
            "agent = 1\n[[intercept]]\nports = [1]\n",
            "t.toml:1: `agent`: wrong type: found the number 1, expected a table",
        ),
        (
            "[[intercept]]\nports = [-1]\n",
            "t.toml:2: `intercept[0].ports[0]`: out of range: found -1, expected 1..=65535",
        ),
        (
            "[[intercept]]\nports = [99999999999999999999]\n",
            "t.toml:2: `intercept[0].ports[0]`: out of range: found 99999999999999999999, expected 1..=65535",
        ),
        (
            "[[intercept]]\nports = [1.5]\n",
            "t.toml:2: `intercept[0].ports[0]`: wrong type: found the number 1.5, expected a whole number",
        ),
    ] {
        assert_eq!(report(text), expected);
    }
}

#[test]
fn bounds_hold_on_both_sides() {
    for (table, key, low, high) in [
        ("agent", "workers", 0, 64),
        ("agent", "sessions_max", 1, 1_000_000),
        ("agent", "startup_timeout_ms", 100, 600_000),
        ("listen", "port", 1, 65_535),
        ("netns", "hold_ms", 100, 30_000),
        ("netns", "idle_ms", 1_000, 3_600_000),
        ("limits", "message_bytes_max", 65_536, 0x3fff_ffff),
        ("auth", "failures_max", 1, 100_000),
        ("auth", "failures_window_ms", 1_000, 3_600_000),
        ("auth", "refused_ms", 1_000, 3_600_000),
        ("auth", "cancel_failures_max", 1, 100_000),
        ("audit", "statement_bytes_max", 256, 16 << 20),
        ("audit", "parameter_bytes_max", 16, 1 << 20),
        ("audit", "async_bytes_max", 64 << 10, 1 << 30),
        ("audit", "async_delay_ms_max", 10, 60_000),
        ("audit", "segment_bytes", 64 << 10, 1 << 30),
        ("audit", "seal_every_ms", 1_000, 60_000),
        ("audit", "prune_after_days", 0, 36_500),
        ("audit", "values_keep_days", 0, 36_500),
    ] {
        let with = |value: i128| format!("{MINIMAL}[{table}]\n{key} = {value}\n");
        let (low, high) = (low as i128, high as i128);
        for good in [low, high].map(with).iter().filter(|text| !text.contains("port = 5432")) {
            assert!(Config::parse("t", good).is_ok(), "{good}");
        }
        for bad in [low - 1, high + 1] {
            let error = report(&with(bad));
            let expected = format!(
                "t.toml:4: `{table}.{key}`: out of range: found {bad}, expected {low}..={high}"
            );
            assert_eq!(error, expected);
        }
    }
}

#[test]
fn rules_that_contradict_each_other_are_refused() {
    let text = "\
[[intercept]]
ports = [5432]
networks = ['10.0.0.0/8']
exclude = ['10.1.0.0/16']
[[intercept]]
ports = [5432, 6432]
networks = ['10.0.0.0/8', '10.1.2.0/24', '172.16.0.0/12']
";
    assert_eq!(
        report(text),
        "t.toml:7: `intercept[1].networks[0]`: contradiction for port 5432: `10.0.0.0/8` is intercepted here, \
         `10.1.0.0/16` is excluded in `intercept[0]`"
    );
}

#[test]
fn rules_that_agree_are_fine() {
    for second in [
        "ports = [6432]\nnetworks = ['10.0.0.0/8']",
        "ports = [5432]\nnetworks = ['10.0.0.0/8']\nexclude = ['10.1.0.0/16']",
        "ports = [5432]\nnetworks = ['10.2.0.0/16']",
        "ports = [5432]\nnetworks = ['::/0']",
    ] {
        let text = format!(
            "[[intercept]]\nports = [5432]\nnetworks = ['10.0.0.0/8']\nexclude = ['10.1.0.0/16']\n\
             [[intercept]]\n{second}\n"
        );
        assert!(Config::parse("t", &text).is_ok(), "{second}");
    }
}

#[test]
fn long_values_are_refused_and_not_repeated_in_full() {
    let long = format!("/{}", "x".repeat(200));
    let error = report(&format!("{MINIMAL}[agent]\ncontrol_socket = '{long}'\n"));
    assert_eq!(
        error,
        "t.toml:4: `agent.control_socket`: too long for a socket: found 201 bytes, expected at most 107"
    );
    let ports = vec!["1"; raw::ITEMS_MAX + 1].join(",");
    let error = report(&format!("[[intercept]]\nports = [{ports}]\n"));
    assert_eq!(error, "t.toml:2: `intercept[0].ports`: too many: found 257, expected at most 256");
    let mut huge = String::new();
    for rule in 0..3 {
        let ports: Vec<String> = (1..=256).map(|p| (rule * 256 + p).to_string()).collect();
        let nets: Vec<String> = (0..64).map(|n| format!("'10.{n}.0.0/16'")).collect();
        huge += &format!(
            "[[intercept]]\nports = [{}]\nnetworks = [{}]\n",
            ports.join(","),
            nets.join(",")
        );
    }
    assert!(report(&huge).starts_with("t.toml: `intercept`: too many ports and networks"));
}

#[test]
fn files_that_cannot_be_read_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("absent.toml");
    let error = Config::load(&path).expect_err("no file");
    assert_eq!(
        error.to_string(),
        format!("cannot read the configuration file `{}`", path.display())
    );
    std::fs::write(&path, vec![b'#'; (FILE_BYTES_MAX + 1) as usize]).expect("a large file");
    assert!(matches!(Config::load(&path), Err(ConfigError::TooLarge { .. })));
    std::fs::write(&path, [0xff, 0xfe]).expect("not UTF-8");
    assert!(matches!(Config::load(&path), Err(ConfigError::Read { .. })));
}
