//! Destinations that are wrong, or contradict themselves or each other.

use super::destination::VERIFIER;
use super::*;

/// What is wrong with a file that holds `text` behind one `[[intercept]]`; lines of `text` count
/// from 1, and the name of the file is left out.
fn wrong(text: &str) -> Vec<String> {
    let text = format!("intercept = [{{ ports = [5432] }}]\n{text}");
    let report = Config::parse("t.toml", &text).expect_err("a bad configuration");
    let line = |line: Option<usize>| line.map_or(0, |line| line - 1);
    report.problems.iter().map(|p| format!("{} {}: {}", line(p.line), p.key, p.message)).collect()
}

/// One destination with a name, and `text`.
fn one(text: &str) -> String {
    format!("[[destination]]\nname = 'a'\n{text}")
}

#[test]
fn all_errors_of_destinations_come_in_one_report() {
    let text = "\
[[intercept]]
ports = [5432]
[tls]
ca_key = '/etc/pgward/ca.pem'
[auth]
failure_max = 0
[[destination]]
name = 'Orders'
networks = ['10.0.0.1/8']
ports = []
server = 1
replication = 'yes'
[destination.client]
tls = 'on'
[destination.auth]
pass = ['gss']
roles = ['x']
[[destination.auth.exception]]
methods = ['md6']
[destination.auth.lookup]
password_file = 'secret'
[[destination.account]]
role = ''
[[destination]]
name = 'default'
[[destination]]
tls = 'disable'
negotiation = 'direct'
";
    assert_eq!(
        report(text),
        "\
t.toml:4: `tls.ca_key`: the same file as `ca_certificate`
  hint: applications read the certificate, and nobody but the agent the key
t.toml:6: `auth.failure_max`: unknown key
  hint: did you mean `failures_max`?
t.toml:7: `destination[0]`: no `ports`: found an empty array, expected at least one
  hint: leave the key out for all ports
t.toml:8: `destination[0].name`: found `Orders`, expected lower-case letters, digits, `-`, `_` and `.`
t.toml:9: `destination[0].networks[0]`: host bits are set: found `10.0.0.1/8`, expected `10.0.0.0/8`
  hint: write `10.0.0.0/8`, or the one address without a prefix
t.toml:11: `destination[0].server`: wrong type: found the number 1, expected a table
t.toml:12: `destination[0].replication`: wrong type: found the string \"yes\", expected `true` or `false`
t.toml:14: `destination[0].client.tls`: found `on`, expected `optional`, `off` or `required`
t.toml:16: `destination[0].auth.pass[0]`: found `gss`, expected `gssapi`, `sspi` or `oauthbearer`
t.toml:17: `destination[0].auth.roles`: unknown key
  hint: `roles` belongs in `[[destination.auth.exception]]`
t.toml:18: `destination[0].auth.exception[0]`: no `roles`: found none, expected at least one, or `[\"*\"]` for all
t.toml:18: `destination[0].auth.exception[0]`: no `reason`: found none, expected a text
t.toml:19: `destination[0].auth.exception[0].methods[0]`: found `md6`, expected `trust`, `cert`, `md5` or `password`
  hint: did you mean `md5`?
t.toml:20: `destination[0].auth.lookup`: no `login`: found none, expected a text
t.toml:21: `destination[0].auth.lookup.password_file`: not an absolute path in plain form
t.toml:22: `destination[0].account[0]`: no secret for the application: found none, expected one of `verifier`, `verifier_file` and `application_password_file` (or `_env`, `_command`)
t.toml:23: `destination[0].account[0].role`: expected a text that is not empty
t.toml:25: `destination[1].name`: `default` is the name of what no destination matches
t.toml:26: `destination[2]`: no `name`: found none, expected a text
t.toml:26: `destination[2]`: never used: `destination[1]` in front of it covers it
  hint: the first destination that matches serves: put this one in front
t.toml:27: `destination[2].tls`: unknown key
  hint: `tls` belongs in `[destination.client]`
t.toml:28: `destination[2].negotiation`: unknown key
  hint: `negotiation` belongs in `[destination.server]`"
    );
}

#[test]
fn settings_without_effect_and_contradictions_are_refused() {
    let source = "auth.verifiers = '/v'\n";
    for (text, expected) in [
        // TLS that is off, and what needs it.
        (
            "server = { tls = 'disable', roots = '/r', crl = '/c', certificate = '/c', key = '/k', name = 'x' }",
            &[
                "3 destination[0].server.name: has no effect: `tls` is `disable`",
                "3 destination[0].server.roots: has no effect: `tls` is `disable`",
                "3 destination[0].server.crl: has no effect: `tls` is `disable`",
                "3 destination[0].server.certificate: has no effect: `tls` is `disable`",
                "3 destination[0].server.key: has no effect: `tls` is `disable`",
            ][..],
        ),
        (
            "server = { tls = 'require', roots = '/r', crl = '/c' }",
            &[
                "3 destination[0].server.roots: has no effect: `tls` is `require`, which verifies nothing",
                "3 destination[0].server.crl: has no effect: `tls` is `require`, which verifies nothing",
            ],
        ),
        (
            "server = { tls = 'prefer', roots = '/r' }",
            &[
                "3 destination[0].server.roots: has no effect: `tls` is `prefer`, which verifies nothing",
            ],
        ),
        (
            "networks = ['127.0.0.0/9', '::1']\nserver.crl = '/r'",
            &[
                "4 destination[0].server.crl: has no effect: `tls` is `prefer` for loopback addresses, which verifies nothing",
            ],
        ),
        (
            "client = { tls = 'off', certificate = '/c', key = '/k' }",
            &[
                "3 destination[0].client.certificate: has no effect: `tls` is `off`",
                "3 destination[0].client.key: has no effect: `tls` is `off`",
            ],
        ),
        (
            "client.certificate = '/c'\nserver.key = '/k'",
            &[
                "3 destination[0].client.certificate: `certificate` without `key`",
                "4 destination[0].server.key: `key` without `certificate`",
            ],
        ),
        (
            "client = { certificate = '/c', key = '/etc/pgward/ca.key' }",
            &["3 destination[0].client.key: the key of the certificate authority, `tls.ca_key`"],
        ),
        (
            "server = { certificate = '/c', key = '/etc/pgward/ca.key' }",
            &["3 destination[0].server.key: the key of the certificate authority, `tls.ca_key`"],
        ),
        // Channel binding.
        (
            "auth.verifiers = '/v'\nclient = { tls = 'off', channel_binding = 'require' }",
            &["4 destination[0].client.channel_binding: contradiction: `tls` is `off`"],
        ),
        (
            "auth.verifiers = '/v'\nserver = { tls = 'disable', channel_binding = 'require' }",
            &["4 destination[0].server.channel_binding: contradiction: `tls` is `disable`"],
        ),
        (
            "client.channel_binding = 'require'\nserver.channel_binding = 'require'",
            &[
                "3 destination[0].client.channel_binding: contradiction: a relayed exchange can't be bound to a channel",
                "4 destination[0].server.channel_binding: contradiction: a relayed exchange can't be bound to a channel",
            ],
        ),
        // Direct TLS has no way back to clear text.
        (
            "server = { tls = 'prefer', negotiation = 'direct' }",
            &[
                "3 destination[0].server.negotiation: contradiction: `tls` is `prefer`, and `direct` has no way back",
            ],
        ),
        (
            "server = { tls = 'disable', negotiation = 'direct' }",
            &[
                "3 destination[0].server.negotiation: contradiction: `tls` is `disable`, and `direct` has no way back",
            ],
        ),
        (
            "server.negotiation = 'direct'",
            &[
                "3 destination[0].server.negotiation: contradiction: for loopback addresses `tls` is `prefer`",
            ],
        ),
        (
            "server.name = 'a b'",
            &[
                "3 destination[0].server.name: found `a b`, expected the name of a host or an IP address",
            ],
        ),
        // Modes and secrets.
        (
            "auth.mode = 'terminate'",
            &[
                "3 destination[0].auth.mode: nobody could log in: found no source of secrets, and `terminate` needs one",
            ],
        ),
        (
            "account = [{ role = 'r', verifier_file = '/f' }]\n[destination.auth]\nmode = 'relay'\n\
             verifiers = '/v'\nupgrade = true\nlookup = { login = 'l', password_env = 'P' }",
            &[
                "3 destination[0].account[0]: has no effect: `mode` is `relay`, so the agent uses no secret",
                "6 destination[0].auth.verifiers: has no effect: `mode` is `relay`, so the agent uses no secret",
                "7 destination[0].auth.upgrade: contradiction: `mode` is `relay`",
                "8 destination[0].auth.lookup: has no effect: `mode` is `relay`, so the agent uses no secret",
            ],
        ),
        (
            "auth.upgrade = true",
            &["3 destination[0].auth.upgrade: has no effect: found no source of secrets"],
        ),
        (
            "auth.require = 'any'\nauth.exception = [{ roles = ['*'], methods = ['md5'], reason = 'x' }]",
            &["4 destination[0].auth.exception[0]: has no effect: `require` is `any`"],
        ),
        (
            "auth.exception = [{ roles = ['*', 'b'], methods = [], reason = \"a\\nb\" }]",
            &[
                "3 destination[0].auth.exception[0].roles[1]: `b` has no effect: `*` stands for all",
                "3 destination[0].auth.exception[0]: no `methods`: found none, expected at least one of `trust`, `cert`, `md5` and `password`",
                "3 destination[0].auth.exception[0].reason: holds a control character: found `a\\nb`",
            ],
        ),
        (
            "server.tls = 'prefer'\nauth.lookup = { login = 'l', query = 'select 1' }",
            &[
                "4 destination[0].auth.lookup.query: not a query for one role: expected a statement with `$1`, which stands for the role",
            ],
        ),
        (
            "server.tls = 'prefer'\nauth.lookup = { login = 'l' }",
            &["4 destination[0].auth.lookup: found no secret to log in with as `l`"],
        ),
        // Accounts.
        (
            "account = [{ role = 'r', verifier_file = '/f', login = 's' }]",
            &["3 destination[0].account[0]: found no secret to log in with as `s`"],
        ),
        // An exception lets applications in that prove nothing, and none of them as an account.
        (
            "account = [{ role = 'r', verifier_file = '/f', login = 's' }]\nauth.exception = [{ roles = ['s'], methods = ['trust'], reason = 'x' }]",
            &["3 destination[0].account[0]: found no secret to log in with as `s`"],
        ),
        (
            "account = [{ role = 'r', application_password_env = 'P' }]",
            &["3 destination[0].account[0]: found no secret to log in with as `r`"],
        ),
        (
            "networks = ['10.0.0.1']\naccount = [{ role = 'r', verifier_file = '/f', application_password_env = 'P', password_env = 'Q', password_file = '/q' }]",
            &[
                "4 destination[0].account[0].application_password_env: more than one secret for the application: expected one of `verifier`, `verifier_file` and `application_password_file` (or `_env`, `_command`)",
                "4 destination[0].account[0].password_env: more than one source of the same password: expected one of `password_file`, `password_env` and `password_command`",
            ],
        ),
        (
            "account = [{ role = 'r', verifier_file = '/f' }, { role = 'r', verifier_file = '/g' }]",
            &[
                "3 destination[0].account[1]: role `r` has an account already: `destination[0].account[0]`",
            ],
        ),
    ] {
        assert_eq!(wrong(&one(text)), expected, "{text}");
    }
    // The same with a reason to be there.
    for good in [
        "auth.verifiers = '/v'\nclient.channel_binding = 'require'",
        "networks = ['10.0.0.0/8']\nserver.negotiation = 'direct'",
        "networks = ['126.0.0.0/7']\nserver.roots = '/r'",
        "server = { tls = 'require', negotiation = 'direct', name = 'x', certificate = '/c', key = '/k' }",
        "account = [{ role = 'r', verifier_file = '/f' }]",
        "account = [{ role = 'r', verifier_file = '/f', login = 's' }]\nserver = { certificate = '/c', key = '/k' }",
        "server.tls = 'prefer'\naccount = [{ role = 'r', verifier_file = '/f', login = 's' }]\nauth.upgrade = true",
        "networks = ['10.0.0.1', '::']\naccount = [{ role = 'r', verifier_file = '/f', password_env = 'P' }]",
        "server.tls = 'disable'\nauth.lookup = { login = 'l' }\nauth.require = 'any'",
        "networks = ['fd00::/8']\nauth.verifiers = '/v'\nauth.upgrade = true",
    ] {
        let text = format!("{MINIMAL}{}", one(good));
        assert!(Config::parse("t", &text).is_ok(), "{good}: {}", wrong(&one(good)).join("\n"));
    }
    assert!(
        Config::parse("t", &format!("{MINIMAL}{}auth.mode = 'terminate'", one(source))).is_ok()
    );
}

#[test]
fn secrets_of_the_agents_own_go_to_no_loopback_address_by_default() {
    const UNPROVEN: &str = "would go to servers that prove nothing: for loopback addresses TLS is \
                            `prefer`, and any user of this host may listen there";
    for (secret, key) in [
        ("auth.lookup = { login = 'l', password_env = 'P' }", "auth.lookup"),
        ("auth = { verifiers = '/v', upgrade = true }", "auth.upgrade"),
        ("account = [{ role = 'r', verifier_file = '/f', password_env = 'P' }]", "account[0]"),
    ] {
        let expected = [format!("3 destination[0].{key}: {UNPROVEN}")];
        for networks in ["", "networks = ['127.0.0.2']", "networks = ['::1', '10.0.0.0/8']"] {
            assert_eq!(wrong(&one(&format!("{secret}\n{networks}"))), expected, "{networks}");
        }
        for proven in ["server.tls = 'prefer'", "networks = ['10.0.0.0/8', 'fd00::/8']"] {
            let text = format!("{MINIMAL}{}", one(&format!("{secret}\n{proven}")));
            assert!(Config::parse("t", &text).is_ok(), "{text}");
        }
    }
    // A mode that is none is one problem.
    let misspelt = "auth.lookup = { login = 'l', password_env = 'P' }\nserver.tls = 'verify'";
    let found = wrong(&one(misspelt));
    assert!(found.len() == 1 && found[0].contains("server.tls"), "{found:?}");
}

#[test]
fn a_destination_that_is_never_used_is_refused() {
    let rules = |rules: &[(&str, &str)]| -> String {
        let one = |(index, (networks, ports)): (usize, &(&str, &str))| {
            let networks = if networks.is_empty() {
                String::new()
            } else {
                format!("networks = [{networks}]\n")
            };
            let ports =
                if ports.is_empty() { String::new() } else { format!("ports = [{ports}]\n") };
            format!("[[destination]]\nname = 'd{index}'\n{networks}{ports}")
        };
        rules.iter().enumerate().map(one).collect()
    };
    for hidden in [
        &[("", ""), ("'10.0.0.0/8'", "5432")][..],
        &[("'10.0.0.0/8'", ""), ("'10.1.0.0/16', '10.2.0.0/16'", "5432")],
        &[("'10.0.0.0/8'", "1"), ("'10.0.0.0/8'", "2"), ("'10.1.0.0/16'", "1, 2")],
        &[("'0.0.0.0/0'", ""), ("'::/0'", ""), ("", "")],
        &[("'10.0.0.0/9'", ""), ("'10.128.0.0/9'", ""), ("'10.0.0.0/8'", "")],
    ] {
        let found = wrong(&rules(hidden));
        let last = format!("destination[{}]: never used: ", hidden.len() - 1);
        assert!(found.len() == 1 && found[0].contains(&last), "{hidden:?} {found:?}");
    }
    for used in [
        &[("", "1"), ("", "")][..],
        &[("'10.0.0.0/8'", "1"), ("'10.0.0.0/8'", "2"), ("'10.0.0.0/8'", "")],
        &[("'10.0.0.0/8'", "1"), ("'10.0.0.0/8'", "1, 2")],
        &[("'10.0.0.0/8'", ""), ("'10.1.0.0/16', '11.0.0.0/8'", "")],
        &[("'0.0.0.0/0'", ""), ("", "")],
        &[("'10.0.0.0/9'", ""), ("'10.0.0.0/8'", "")],
        &[("'10.0.0.0/9'", "1"), ("'10.128.0.0/9'", "2"), ("'10.0.0.0/8'", "1, 2")],
    ] {
        let text = format!("{MINIMAL}{}", rules(used));
        assert!(Config::parse("t", &text).is_ok(), "{used:?}");
    }
    assert_eq!(
        wrong("[[destination]]\nname = 'a'\nports = [1]\n[[destination]]\nname = 'a'\n"),
        ["4 destination[1]: name `a` is taken by `destination[0]`"]
    );
}

#[test]
fn what_may_be_a_secret_is_never_repeated() {
    let secret = "hunter2 hunter2";
    for key in [
        "password",
        "password_file",
        "password_env",
        "password_command",
        "application_password",
        "application_password_file",
        "application_password_env",
        "application_password_command",
        "verifier",
    ] {
        for value in [
            format!("'{secret}'"),
            format!("['{secret}', 1]"),
            format!("['{secret}']"),
            format!("'SCRAM-SHA-256${secret}'"),
            format!("{{ a = '{secret}' }}"),
        ] {
            let text = one(&format!("account = [{{ role = 'r', {key} = {value} }}]\n"));
            let found = wrong(&text);
            assert!(!found.is_empty() && !found.concat().contains("hunter2"), "{text} {found:?}");
        }
    }
    let found = wrong(&one(&format!("account = [{{ role = 'r', verifier = '{VERIFIER}=' }}]")));
    assert!(found.len() == 1 && !found[0].contains("W22Z"), "{found:?}");
}

#[test]
fn numbers_of_tables_and_lengths_of_texts_are_bounded() {
    let destinations: String = (0..=DESTINATIONS_MAX)
        .map(|n| format!("[[destination]]\nname = 'd{n}'\nports = [{}]\n", n + 1))
        .collect();
    assert_eq!(
        wrong(&destinations),
        ["193 destination[64]: too many: found 65, expected at most 64"]
    );
    let exception = "{ roles = ['r'], methods = ['md5'], reason = 'x' }";
    let exceptions = vec![exception; EXCEPTIONS_MAX + 1].join(", ");
    assert_eq!(
        wrong(&one(&format!("auth.exception = [{exceptions}]"))),
        ["3 destination[0].auth.exception[64]: too many: found 65, expected at most 64"]
    );
    let long = |bytes: usize| "x".repeat(bytes);
    for (text, expected) in [
        (
            format!("[[destination]]\nname = '{}'", long(64)),
            "2 destination[0].name: too long: found 64 bytes, expected at most 63",
        ),
        (
            one(&format!("account = [{{ role = '{}', verifier_file = '/f' }}]", long(64))),
            "3 destination[0].account[0].role: too long: found 64 bytes, expected at most 63",
        ),
        (
            one(&format!(
                "auth.exception = [{{ roles = ['*'], methods = ['md5'], reason = '{}' }}]",
                long(201)
            )),
            "3 destination[0].auth.exception[0].reason: too long: found 201 bytes, expected at most 200",
        ),
        (
            one(&format!(
                "auth.lookup = {{ login = 'l', password_env = 'P', query = '$1{}' }}",
                long(1999)
            )),
            "3 destination[0].auth.lookup.query: too long: found 2001 bytes, expected at most 2000",
        ),
        (
            one(&format!(
                "auth.lookup = {{ login = 'l', password_command = ['/x'{}] }}",
                ", 'y'".repeat(32)
            )),
            "3 destination[0].auth.lookup.password_command: too many: found 33, expected at most 32",
        ),
        (
            one("auth.lookup = { login = 'l', password_env = 'P', ttl_ms = 999 }"),
            "3 destination[0].auth.lookup.ttl_ms: out of range: found 999, expected 1000..=86400000",
        ),
    ] {
        let found = wrong(&text);
        assert!(found.iter().any(|line| line == expected), "{expected}\n{found:?}");
    }
}
