//! What the first record of a session says of its login.

use anyhow::Context;
use pgward_tests::host;
use pgward_tests::pki::{self, Pki};
use pgward_tests::postgres::Version;
use pgward_tests::scene::{Scene, mark};
use serde_json::{Value, json};

use super::{Result, psql};
use crate::agents::{self, MAPPED, RELAY, TERMINATE};
use crate::gate;
use crate::servers::{Passwords, Role, ServerTls, Servers};

/// How an application comes.
struct Comes<'c> {
    last: u8,
    role: String,
    password: String,
    server: ServerTls,
    settings: &'c [(&'c str, &'c str)],
}

/// TLS as psql or a server's view tells it, `-` for none.
struct Legs {
    client: String,
    server: String,
}

impl Comes<'_> {
    fn start(&self, scene: &Scene, servers: &Servers) -> Result<(Value, Legs)> {
        let mark = mark("record");
        let sql = format!(
            "select coalesce(version || ' ' || cipher, '-'), '{mark}' \
             from pg_stat_ssl where pid = pg_backend_pid()"
        );
        let cluster = servers.server(self.server);
        let mut psql = psql(cluster, self.last, &self.role, &self.password, &sql);
        psql.args(["-c", "\\conninfo"]).env("PGDATABASE", self.server.database());
        psql.envs(self.settings.iter().copied()).env("PGAPPNAME", "the application");
        scene.cgroup.enter(&mut psql)?;
        let told = host::run(&mut psql)?;
        let (server, rest) = told.split_once('|').context("an answer")?;
        let (_, start) = scene.statement(&mark)?;
        // SSL connection (protocol: TLSv1.3, cipher: TLS_AES_256_GCM_SHA384, compression: off)
        let client = rest.split_once("protocol: ").map_or("-".to_owned(), |(_, rest)| {
            rest.replace(", cipher: ", " ").split(',').next().unwrap_or_default().to_owned()
        });
        Ok((start, Legs { client, server: server.to_owned() }))
    }
}

/// Version and suite of a record's TLS, in the words of OpenSSL.
fn tls(field: &Value) -> String {
    let Some(text) = field.as_str() else { return "-".to_owned() };
    let mut words = text.split(' ');
    let version = words.next().unwrap_or_default().replace("TLS", "TLSv").replace("vv", "v");
    let suite = words.next().unwrap_or_default().replace("TLS13_", "TLS_");
    assert!(words.next().is_some(), "no key exchange in `{text}`");
    format!("{version} {suite}")
}

#[test]
fn the_first_record_tells_how_a_client_came_in() -> Result {
    gate!();
    let (pki, passwords) = (Pki::new(&[Role::Cert.name()])?, Passwords::new());
    let servers = Servers::start(Version::Eighteen, &pki, &passwords)?;
    let scene = agents::start("records", std::slice::from_ref(&servers), &pki, &passwords)?;
    let roots = pki.all_roots();
    let roots = roots.to_str().context("a path of a test")?;
    let verified = [("PGHOST", pki::HOST), ("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", roots)];
    let own = |last, server, settings| Comes {
        last,
        role: Role::Scram.name().to_owned(),
        password: passwords.of(Role::Scram),
        server,
        settings,
    };
    let account = |role: Role, server, settings| Comes {
        last: MAPPED,
        role: role.application(),
        password: passwords.of_application(role),
        server,
        settings,
    };
    let clear = [("PGSSLMODE", "disable")];
    let cases = [
        // Who; handshake, bound legs, authentication, login, and the name in TLS.
        (
            own(TERMINATE, ServerTls::Required, &verified[..]),
            json!(["terminated", ["client", "server"], "scram-sha-256", null, pki::HOST]),
        ),
        (
            own(TERMINATE, ServerTls::On, &clear),
            json!(["terminated", ["server"], "scram-sha-256", null, null]),
        ),
        (
            account(Role::Scram, ServerTls::Off, &verified),
            json!(["mapped", ["client"], "scram-sha-256", "scram_user", pki::HOST]),
        ),
        (account(Role::Md5, ServerTls::On, &clear), json!(["mapped", [], "md5", "md5_user", null])),
        (
            own(RELAY, ServerTls::Required, &clear),
            json!(["relayed", [], "scram-sha-256", null, null]),
        ),
        (
            own(RELAY, ServerTls::Off, &verified),
            json!(["relayed", [], "scram-sha-256", null, pki::HOST]),
        ),
    ];
    for (comes, expected) in cases {
        let hostaddr = format!("127.0.0.{}", comes.last);
        let mut settings = comes.settings.to_vec();
        settings.push(("PGHOSTADDR", &hostaddr));
        let comes = Comes { settings: &settings, ..comes };
        let (start, legs) = comes.start(&scene, &servers)?;
        let bound = start.get("bound").cloned().unwrap_or(json!([]));
        let fields = ["handshake", "authentication", "login", "server_name"];
        let [handshake, authentication, login, name] = fields.map(|field| start[field].clone());
        assert_eq!(json!([handshake, bound, authentication, login, name]), expected, "{start}");
        assert_eq!(tls(&start["client_tls"]), legs.client, "{start}");
        assert_eq!(tls(&start["server_tls"]), legs.server, "{start}");
        let server = if comes.server == ServerTls::Off { "off" } else { "on" };
        assert_eq!(start["destination_name"], format!("at-{}-18-{server}", comes.last), "{start}");
        assert_eq!(start["database_user"], *comes.role, "{start}");
        assert_eq!(start["database"], comes.server.database(), "{start}");
        assert_eq!(start["application_name"], "the application", "{start}");
        assert!(start.get("exception").is_none(), "{start}");
    }
    scene.agent.finish()
}
