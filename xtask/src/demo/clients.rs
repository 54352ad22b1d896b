//! The clients of the demo: programs that know nothing of pgward, at different places of the host.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::unistd::User;
use pgward_tests::cgroup::Cgroup;
use pgward_tests::container::Container;
use pgward_tests::netns::{Cable, NetNs};
use pgward_tests::pki;

use super::database::{BILLING, BILLING_LOGIN, Database, LEGACY, SHOP};
use super::logins::{CameTo, Leg, Login};
use crate::interrupt::Interrupt;
use crate::run::{announce, say};

/// Container id, before the random part.
const CONTAINER: &str = "demo-orders";

/// User and group of the container's process: an ordinary user's.
const CONTAINER_USER: u32 = 1000;

/// A user that every Debian host has.
const PLAIN_USER: &str = "nobody";

/// What the server sees of the connection.
const SEEN: &str = "SELECT ssl, version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// What the server knows the mapped application as.
const MAPPED: &str =
    "UPDATE orders SET amount = amount + 1 WHERE id = 1 RETURNING current_user, amount";

/// Variables that a client needs and that say nothing to who reads its command.
const UNSHOWN: [&str; 5] = ["HOME", "PGCONNECT_TIMEOUT", "PGDATABASE", "PGPASSWORD", "PGPORT"];

/// Where the clients run.
pub(super) struct Places<'a> {
    /// The cgroup that is intercepted.
    pub(super) cgroup: &'a Cgroup,
    /// A network namespace with a cable to the host.
    pub(super) netns: (&'a NetNs, &'a Cable),
    /// The container's network namespace with a cable to the host.
    pub(super) container: (&'a NetNs, &'a Cable),
    /// Folder for the container runtime's state.
    pub(super) state_root: &'a Path,
    /// Certificate of the local authority.
    pub(super) authority: &'a Path,
}

/// Runs all clients, one after the other. Returns how each of their sessions must have logged in, in their order.
pub(super) fn run(
    database: &Database,
    places: &Places<'_>,
    interrupt: &Interrupt,
) -> Result<Vec<Login>> {
    let clients = Clients { database, places, interrupt };
    say("\nThe clients. Their port, database and password are in variables that are not shown.");
    let mut logins = clients.handshakes()?;
    logins.extend(clients.elsewhere()?);
    Ok(logins)
}

struct Clients<'a> {
    database: &'a Database,
    places: &'a Places<'a>,
    interrupt: &'a Interrupt,
}

impl Clients<'_> {
    /// Ways to log in.
    fn handshakes(&self) -> Result<Vec<Login>> {
        let passwords = &self.database.passwords;

        self.next("psql in clear text: the agent makes it TLS on the way, which is all that the server takes")?;
        let mut psql = self.psql("127.0.0.1", SHOP, "sslmode=disable");
        psql.args(["-c", SEEN]);
        finish(self.place(psql)?)?;
        let clear = Login {
            client: "psql in clear text",
            role: SHOP,
            leg: Leg::Clear,
            came_to: CameTo::Terminated,
        };

        self.next(
            "psql that verifies the server and requires channel binding: SCRAM-SHA-256-PLUS with the agent,\n   \
             and again with the server, though the agent has no password, only the role's verifier",
        )?;
        let strict = "hostaddr=127.0.0.1 sslmode=verify-full channel_binding=require";
        let mut psql = self.psql(pki::HOST, SHOP, strict);
        psql.env("PGSSLROOTCERT", self.places.authority);
        psql.args(["-c", "SELECT count(*), sum(amount) FROM orders"]);
        finish(self.place(psql)?)?;
        let strict =
            Login { client: "psql, verify-full and channel binding", leg: Leg::Tls, ..clear };

        self.next(
            "psql with an account: it knows a secret of its own, the agent logs in as another role",
        )?;
        let mut psql = self.psql("127.0.0.1", BILLING, "sslmode=require");
        psql.env("PGPASSWORD", &passwords.billing).args(["-c", MAPPED]);
        finish(self.place(psql)?)?;
        let mapped = Login {
            client: "psql with an account",
            role: BILLING,
            came_to: CameTo::Mapped(BILLING_LOGIN),
            ..strict
        };

        self.next(
            "psql as a role whose password the server wants to see in clear text: refused before it is sent",
        )?;
        let mut psql = self.psql("127.0.0.1", LEGACY, "sslmode=require");
        psql.env("PGPASSWORD", &passwords.legacy).args(["-c", "SELECT current_user"]);
        fail(self.place(psql)?, 2)?;
        let refused = Login {
            client: "psql with a clear-text password",
            role: LEGACY,
            came_to: CameTo::Refused("28000"),
            ..strict
        };
        Ok(vec![clear, strict, mapped, refused])
    }

    /// Processes that are told apart. What they say of TLS is nothing: libpq tries it and verifies nothing.
    fn elsewhere(&self) -> Result<Vec<Login>> {
        let cluster = &self.database.cluster;
        let password = &self.database.passwords.shop;
        let login =
            |client| Login { client, role: SHOP, leg: Leg::Tls, came_to: CameTo::Terminated };
        let mut logins = Vec::new();

        self.next(&format!("psql as user {PLAIN_USER}, with a mistake in its query"))?;
        let user = User::from_name(PLAIN_USER)?.context("no such user")?;
        let mut psql = self.psql("127.0.0.1", SHOP, "");
        psql.args(["-c", "SELECT salary FROM staff"]).uid(user.uid.as_raw()).gid(user.gid.as_raw());
        fail(self.place(psql)?, 1)?;
        logins.push(login("psql of another user"));

        self.next("psql out of a shell, copying rows")?;
        let mut shell = Command::new("sh");
        cluster.point(&mut shell, "127.0.0.1");
        shell.env("PGUSER", SHOP).env("PGPASSWORD", password);
        shell.env("PSQL", cluster.programs().join("psql"));
        shell.args(["-c", "\"$PSQL\" -X -q -c 'COPY orders TO STDOUT' | wc -l"]);
        finish(self.place(shell)?)?;
        logins.push(login("psql out of a shell"));

        self.next("pgbench on the host, prepared statements")?;
        let mut pgbench = cluster.client("pgbench", "127.0.0.1");
        pgbench.env("PGUSER", SHOP).env("PGPASSWORD", password);
        pgbench.args(["-n", "-S", "-M", "prepared", "-c", "2", "-t", "2"]).stdout(Stdio::null());
        finish(self.place(pgbench)?)?;
        // One of its own to look at the tables, and one for each client.
        logins.extend([login("pgbench"); 3]);

        let (netns, cable) = self.places.netns;
        self.next("psql in another network namespace")?;
        let mut psql = self.psql(&cable.outside.to_string(), SHOP, "");
        psql.args(["-c", "INSERT INTO orders (customer, amount) VALUES ('from afar', 7)"]);
        netns.enter(&mut psql);
        finish(self.place(psql)?)?;
        logins.push(login("psql in a network namespace"));

        self.next("psql in an OCI container with a network namespace of its own")?;
        self.container()?;
        logins.push(login("psql in a container"));
        Ok(logins)
    }

    fn container(&self) -> Result<()> {
        let cluster = &self.database.cluster;
        let (netns, cable) = self.places.container;
        let program = cluster.programs().join("psql");
        let mut container = Container::builder(CONTAINER)
            .network(netns)
            .user(CONTAINER_USER, CONTAINER_USER)
            .state_root(self.places.state_root)
            .env("PGHOST", &cable.outside.to_string())
            .env("PGPORT", &cluster.port().to_string())
            .env("PGUSER", SHOP)
            .env("PGPASSWORD", &self.database.passwords.shop)
            .env("PGDATABASE", "postgres");
        container = container.annotation("org.opencontainers.image.ref.name", "demo/orders:1");
        let program = program.to_str().context("the path of psql is text")?;
        let query = "SELECT id, amount FROM orders ORDER BY amount DESC LIMIT 3";
        let mut running = container.run(self.places.cgroup, &[program, "-X", "-c", query])?;
        let output = running.wait()?;
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        print!("{}", String::from_utf8_lossy(&output.stdout));
        ensure!(output.status.success(), "the container: {}", output.status);
        Ok(())
    }

    /// Says what comes, unless the end was asked for.
    fn next(&self, text: &str) -> Result<()> {
        self.interrupt.check()?;
        say(format_args!("\n-- {text}"));
        Ok(())
    }

    /// psql with a connection string of these settings; it asks for no password.
    fn psql(&self, host: &str, role: &str, settings: &str) -> Command {
        let mut psql = self.database.cluster.client("psql", host);
        psql.env_remove("PGHOST").env_remove("PGUSER");
        psql.env("PGPASSWORD", &self.database.passwords.shop);
        psql.arg(format!("host={host} user={role} {settings}").trim());
        psql.arg("-Xqw");
        psql
    }

    fn place(&self, mut command: Command) -> Result<Child> {
        announce(&shown(&command));
        command.current_dir("/").stdin(Stdio::null());
        self.places.cgroup.spawn_in(command)
    }
}

/// What is worth showing of a command.
pub(super) fn shown(command: &Command) -> Command {
    let program = Path::new(command.get_program());
    let mut shown = Command::new(program.file_name().unwrap_or(program.as_os_str()));
    shown.args(command.get_args());
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    shown.envs(set.filter(|(name, _)| !UNSHOWN.iter().any(|unshown| name == unshown)));
    shown
}

fn finish(mut child: Child) -> Result<()> {
    let status = child.wait().context("waiting for a client")?;
    ensure!(status.success(), "a client failed: {status}");
    Ok(())
}

/// As psql fails: with 1 by an error of the server, with 2 when it could not connect.
fn fail(mut child: Child, code: i32) -> Result<()> {
    let status = child.wait().context("waiting for a client")?;
    ensure!(status.code() == Some(code), "psql: {status}, expected exit status {code}");
    Ok(())
}
