//! The clients of the demo: programs that know nothing of pgward, at different places of the host.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::unistd::User;
use pgward_tests::cgroup::Cgroup;
use pgward_tests::container::Container;
use pgward_tests::netns::{Cable, NetNs};
use pgward_tests::postgres::{Cluster, SUPERUSER};

use crate::interrupt::Interrupt;
use crate::run::{announce, say};

/// Container id, before the random part.
const CONTAINER: &str = "demo-orders";

/// User and group of the container's process: an ordinary user's.
const CONTAINER_USER: u32 = 1000;

/// A user that every Debian host has.
const PLAIN_USER: &str = "nobody";

/// What the clients work on.
const TABLES: &str = "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
     customer text NOT NULL, amount numeric(10, 2) NOT NULL); \
     INSERT INTO orders (customer, amount) SELECT 'customer ' || n, n * 1.5 FROM generate_series(1, 100) n";

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
}

/// Makes the tables, through the server's Unix socket, which is not intercepted.
pub(super) fn prepare(cluster: &Cluster) -> Result<()> {
    cluster.sql("postgres", TABLES)?;
    let mut init = cluster.client("pgbench", "127.0.0.1");
    init.env("PGHOST", cluster.socket_folder()).args(["--initialize", "--quiet"]);
    announce(&init);
    // It reports progress on standard error, which is of no interest unless it fails.
    let output = init.stdin(Stdio::null()).output().context("starting pgbench")?;
    ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Runs all clients, one after the other. Returns how many sessions they opened.
pub(super) fn run(cluster: &Cluster, places: &Places<'_>, interrupt: &Interrupt) -> Result<usize> {
    let mut sessions = 0;
    let host = "127.0.0.1";

    say("-- psql on the host");
    let mut psql = psql(cluster, host);
    psql.args(["-c", "SELECT count(*), sum(amount) FROM orders"]);
    psql.args(["-c", "UPDATE orders SET amount = amount + 1 WHERE id <= 10"]);
    finish(place(psql, places.cgroup)?)?;
    sessions += 1;

    interrupt.check()?;
    say(format_args!("-- psql as user {PLAIN_USER}, with a mistake in its query"));
    let user = User::from_name(PLAIN_USER)?.context("no such user")?;
    let mut psql = self::psql(cluster, host);
    psql.args(["-c", "SELECT salary FROM staff"]).uid(user.uid.as_raw()).gid(user.gid.as_raw());
    let mut child = place(psql, places.cgroup)?;
    let status = child.wait()?;
    ensure!(
        status.code() == Some(1),
        "psql: {status}, expected the server's error and exit status 1"
    );
    sessions += 1;

    interrupt.check()?;
    say("-- psql out of a shell, copying rows");
    let mut shell = cluster.client("psql", host);
    let program = shell.get_program().to_owned();
    shell = point(cluster, Command::new("sh"), host);
    shell.env("PSQL", program);
    shell.args(["-c", "\"$PSQL\" -X -q -c 'COPY orders TO STDOUT' | wc -l"]);
    finish(place(shell, places.cgroup)?)?;
    sessions += 1;

    interrupt.check()?;
    say("-- pgbench on the host, prepared statements");
    let mut pgbench = cluster.client("pgbench", host);
    pgbench.args(["-n", "-S", "-M", "prepared", "-c", "2", "-t", "2"]).stdout(Stdio::null());
    finish(place(pgbench, places.cgroup)?)?;
    // One of its own to look at the tables, and one for each client.
    sessions += 3;

    interrupt.check()?;
    let (netns, cable) = places.netns;
    say("-- psql in another network namespace");
    let mut psql = self::psql(cluster, &cable.outside.to_string());
    psql.args(["-c", "INSERT INTO orders (customer, amount) VALUES ('from afar', 7)"]);
    netns.enter(&mut psql);
    finish(place(psql, places.cgroup)?)?;
    sessions += 1;

    interrupt.check()?;
    say("-- psql in an OCI container with a network namespace of its own");
    container(cluster, places)?;
    sessions += 1;
    Ok(sessions)
}

fn container(cluster: &Cluster, places: &Places<'_>) -> Result<()> {
    let (netns, cable) = places.container;
    let program = cluster.programs().join("psql");
    let mut container = Container::builder(CONTAINER)
        .network(netns)
        .user(CONTAINER_USER, CONTAINER_USER)
        .state_root(places.state_root)
        .env("PGHOST", &cable.outside.to_string())
        .env("PGPORT", &cluster.port().to_string())
        .env("PGUSER", SUPERUSER)
        .env("PGDATABASE", "postgres");
    container = container.annotation("org.opencontainers.image.ref.name", "demo/orders:1");
    let program = program.to_str().context("the path of psql is text")?;
    let query = "SELECT id, amount FROM orders ORDER BY amount DESC LIMIT 3";
    let mut running = container.run(places.cgroup, &[program, "-X", "-c", query])?;
    let output = running.wait()?;
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    print!("{}", String::from_utf8_lossy(&output.stdout));
    ensure!(output.status.success(), "the container: {}", output.status);
    Ok(())
}

fn psql(cluster: &Cluster, host: &str) -> Command {
    let mut psql = cluster.client("psql", host);
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
    psql
}

fn point(cluster: &Cluster, mut command: Command, host: &str) -> Command {
    cluster.point(&mut command, host);
    command
}

fn place(mut command: Command, cgroup: &Cgroup) -> Result<std::process::Child> {
    announce(&command);
    command.current_dir("/").stdin(Stdio::null());
    cgroup.spawn_in(command)
}

fn finish(mut child: std::process::Child) -> Result<()> {
    let status = child.wait().context("waiting for a client")?;
    ensure!(status.success(), "a client failed: {status}");
    Ok(())
}
