//! Good destinations.

use super::*;

/// Of the password `pencil`, with the salt of RFC 7677, section 3.
pub(super) const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
    $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address of the test")
}

#[test]
fn without_destinations_the_implicit_one_serves_all() {
    let config = parsed("");
    for (to, tls) in [
        ("127.0.0.1:5432", ServerTls::Prefer),
        ("127.255.0.9:5432", ServerTls::Prefer),
        ("[::1]:5432", ServerTls::Prefer),
        ("[::ffff:127.0.0.1]:5432", ServerTls::Prefer),
        ("10.0.0.1:1", ServerTls::VerifyFull),
        ("[fd00::1]:65535", ServerTls::VerifyFull),
        ("[::ffff:10.0.0.1]:5432", ServerTls::VerifyFull),
        ("0.0.0.0:5432", ServerTls::VerifyFull),
    ] {
        let (index, destination) = config.destination_for(address(to));
        assert_eq!((index, destination.name.as_str()), (0, "default"));
        assert_eq!(destination.server_tls(address(to)), tls, "{to}");
    }
    let implicit = &config.destinations[0];
    assert_eq!(implicit.server_tls_possible(), [ServerTls::Prefer, ServerTls::VerifyFull]);
    assert!(implicit.only_relays() && !implicit.has_secret_source() && !implicit.replication);
}

#[test]
fn a_destination_that_says_nothing_is_the_implicit_one_by_another_name() {
    let config = parsed("[[destination]]\nname = 'all'\n");
    let renamed = Destination { name: "all".to_owned(), ..Destination::implicit() };
    assert_eq!(*config.destinations[0], renamed);
}

#[test]
fn the_first_that_matches_serves() {
    let config = parsed(
        "[[destination]]\nname = 'one'\nnetworks = ['10.0.0.0/24']\nports = [5432, 6432]\n\
         [[destination]]\nname = 'two'\nnetworks = ['10.0.0.0/16', 'fd00::/8']\n\
         [[destination]]\nname = 'three'\nports = [7432]\n",
    );
    for (to, index, name) in [
        ("10.0.0.7:5432", 0, "one"),
        ("10.0.0.7:6432", 0, "one"),
        ("[::ffff:10.0.0.7]:6432", 0, "one"),
        ("10.0.0.7:7432", 1, "two"),
        ("10.0.1.7:5432", 1, "two"),
        ("[fd12::1]:5432", 1, "two"),
        ("192.168.0.1:7432", 2, "three"),
        ("[2001:db8::1]:7432", 2, "three"),
        ("192.168.0.1:5432", 3, "default"),
        ("[2001:db8::1]:5432", 3, "default"),
    ] {
        let (found, destination) = config.destination_for(address(to));
        assert_eq!((found, destination.name.as_str()), (index, name), "{to}");
    }
}

#[test]
fn every_setting_arrives_typed() {
    let config = parsed(&format!(
        "\
[tls]
ca_certificate = '/t/ca.pem'
ca_key = '/t/ca.key'
[auth]
failures_max = 3
failures_window_ms = 5000
refused_ms = 6000
cancel_failures_max = 4
[[destination]]
name = 'a.b-c_9'
networks = ['10.0.0.0/8']
replication = true
stamp_application_name = true
client.tls = 'required'
client.certificate = '/c.pem'
client.key = '/c.key'
client.channel_binding = 'require'
[destination.server]
tls = 'verify-ca'
negotiation = 'direct'
name = '10.0.0.9'
roots = '/roots.pem'
crl = '/crl.pem'
certificate = '/s.pem'
key = '/s.key'
channel_binding = 'disable'
[destination.auth]
mode = 'terminate'
upgrade = true
pass = ['sspi', 'gssapi', 'oauthbearer', 'sspi']
verifiers = '/v'
[[destination.auth.exception]]
roles = ['b', 'a']
methods = ['password', 'trust']
reason = 'old'
[[destination.auth.exception]]
roles = ['*']
methods = ['md5']
reason = 'older'
[destination.auth.lookup]
login = 'l'
database = 'd'
query = 'SELECT $1'
ttl_ms = 1000
password_env = 'P_1'
[[destination.account]]
role = 'r'
verifier = '{VERIFIER}'
[[destination.account]]
role = 's'
verifier_file = '/u'
login = 't'
password_command = ['/bin/p', '-x']
[[destination.account]]
role = 'u'
application_password_file = '/p'
"
    ));
    assert_eq!(config.tls, Tls { ca_certificate: "/t/ca.pem".into(), ca_key: "/t/ca.key".into() });
    let seconds = Duration::from_secs;
    let auth = Auth {
        failures_max: 3,
        failures_window: seconds(5),
        refused: seconds(6),
        cancel_failures_max: 4,
    };
    assert_eq!(config.auth, auth);
    let files = |name: &str| {
        Some(CertificateFiles {
            certificate: format!("/{name}.pem").into(),
            key: format!("/{name}.key").into(),
        })
    };
    let expected = Destination {
        name: "a.b-c_9".to_owned(),
        networks: vec!["10.0.0.0/8".parse().expect("a network")],
        ports: Vec::new(),
        replication: true,
        stamp_application_name: true,
        client: ClientSettings {
            tls: ClientTls::Required,
            identity: files("c"),
            channel_binding: ChannelBinding::Require,
        },
        server: ServerSettings {
            tls: Some(ServerTls::VerifyCa),
            negotiation: Negotiation::Direct,
            name: Some("10.0.0.9".try_into().expect("a name")),
            roots: Some("/roots.pem".into()),
            crl: Some("/crl.pem".into()),
            identity: files("s"),
            channel_binding: ChannelBinding::Disable,
        },
        auth: AuthSettings {
            mode: AuthMode::Terminate,
            require: AuthRequire::ScramSha256,
            upgrade: true,
            pass: vec![PassMethod::Gssapi, PassMethod::Sspi, PassMethod::OauthBearer],
            verifiers: Some("/v".into()),
            exceptions: vec![
                AuthException {
                    roles: Roles::Listed(vec!["a".to_owned(), "b".to_owned()]),
                    methods: vec![WeakMethod::Trust, WeakMethod::Password],
                    reason: "old".to_owned(),
                },
                AuthException {
                    roles: Roles::All,
                    methods: vec![WeakMethod::Md5],
                    reason: "older".to_owned(),
                },
            ],
            lookup: Some(Lookup {
                login: "l".to_owned(),
                database: "d".to_owned(),
                query: "SELECT $1".to_owned(),
                ttl: seconds(1),
                password: Some(PasswordSource::Environment("P_1".to_owned())),
            }),
        },
        accounts: vec![
            Account {
                role: "r".to_owned(),
                application: ApplicationSecret::Verifier(VerifierText::new(VERIFIER)),
                login: "r".to_owned(),
                password: None,
            },
            Account {
                role: "s".to_owned(),
                application: ApplicationSecret::VerifierFile("/u".into()),
                login: "t".to_owned(),
                password: Some(PasswordSource::Command(vec!["/bin/p".into(), "-x".into()])),
            },
            Account {
                role: "u".to_owned(),
                application: ApplicationSecret::Password(PasswordSource::File("/p".into())),
                login: "u".to_owned(),
                password: None,
            },
        ],
    };
    assert_eq!(*config.destinations[0], expected);
    assert_eq!(expected.account(b"s").map(|account| account.login.as_str()), Some("t"));
    assert!(expected.account(b"S").is_none());
    let reason = |role: &[u8], method| {
        expected.exception(role, method).map(|exception| exception.reason.as_str())
    };
    assert_eq!(reason(b"a", WeakMethod::Trust), Some("old"));
    assert_eq!(reason(b"a", WeakMethod::Md5), Some("older"));
    assert_eq!(reason(b"c", WeakMethod::Trust), None);
    assert_eq!(reason(b"\xff", WeakMethod::Md5), Some("older"));
}

#[test]
fn the_example_with_every_key_loads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/destinations.toml");
    let config = Config::load(&path).expect("the example loads");
    let names: Vec<_> = config.destinations.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["orders", "pooler", "ledger", "default"]);
    // It says that values are defaults, but for some.
    let orders = &config.destinations[0];
    let implicit = Destination::implicit();
    assert_eq!(orders.client, implicit.client);
    let server = ServerSettings { tls: None, name: None, ..orders.server.clone() };
    assert_eq!(server, implicit.server);
    let auth = AuthSettings { exceptions: Vec::new(), lookup: None, ..orders.auth.clone() };
    assert_eq!(auth, implicit.auth);
    let lookup = orders.auth.lookup.as_ref().expect("a lookup");
    assert_eq!((lookup.query.as_str(), lookup.database.as_str()), (LOOKUP_QUERY, "postgres"));
    assert_eq!(lookup.ttl, Duration::from_secs(300));
}

#[test]
fn an_inline_verifier_stays_hidden() {
    let config = parsed(&format!(
        "[[destination]]\nname = 'a'\nserver.tls = 'require'\n[[destination.account]]\nrole = 'r'\nverifier = '{VERIFIER}'\n\
         password_command = ['/bin/p', 'W22Z']\n"
    ));
    let shown = format!("{config:?} {config:#?}");
    assert!(shown.contains("VerifierText(..)"), "{shown}");
    for part in ["W22Z", "WG5d", "wfPL"] {
        assert!(!shown.contains(part), "{shown}");
    }
    assert_eq!(config, config.clone());
    match &config.destinations[0].accounts[0].application {
        ApplicationSecret::Verifier(text) => assert_eq!(text.expose(), VERIFIER),
        other => panic!("not a verifier: {other:?}"),
    }
}
