//! The catalog of real servers: what a snapshot holds, that no session can change what the queries mean, that every change
//! shows, and that no relation a server reads is missing.

mod differential;
mod edges;
mod epoch;
mod hostile;

use anyhow::{Context, bail};
use pgward::catalog::{
    Resolution, Row, STAMP_SQL, STATE_SQL, SessionState, Snapshot, StateRow, resolve, snapshot_sql,
};
use pgward::sql::facts::{Encoding, Limits, Name, STACK_BYTES, analyse};
use pgward_tests::postgres::{Cluster, SUPERUSER, Version};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// What a test returns.
type Result<T = ()> = anyhow::Result<T>;

/// Each server that the tests have.
const VERSIONS: [Version; 2] = [Version::Debian, Version::Eighteen];

fn cluster(version: Version) -> Result<Cluster> {
    Cluster::builder().version(version).start()
}

/// A session over the Unix socket.
struct Session {
    runtime: Runtime,
    client: Client,
}

impl Session {
    fn new(cluster: &Cluster, user: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut config = tokio_postgres::Config::new();
        config.host_path(cluster.socket_folder()).port(cluster.port());
        config.user(user).dbname("postgres");
        let (client, connection) = runtime.block_on(config.connect(NoTls))?;
        runtime.spawn(connection);
        Ok(Self { runtime, client })
    }

    fn superuser(cluster: &Cluster) -> Result<Self> {
        Self::new(cluster, SUPERUSER)
    }

    fn run(&self, text: &str) -> Result {
        let done = self.runtime.block_on(self.client.batch_execute(text));
        done.with_context(|| text.to_owned())
    }

    /// Rows of a query of text columns, by the extended protocol.
    fn rows(&self, text: &str) -> Result<Vec<Row>> {
        let rows = self.runtime.block_on(self.client.query(text, &[]));
        let rows = rows.with_context(|| text.chars().take(200).collect::<String>())?;
        rows.iter()
            .map(|row| {
                (0..row.len())
                    .map(|at| {
                        let value: Option<String> = row.try_get(at)?;
                        Ok(value.map(|value| value.into_bytes().into()))
                    })
                    .collect()
            })
            .collect()
    }

    fn value(&self, text: &str) -> Result<String> {
        let rows = self.rows(text)?;
        let value = rows.first().and_then(|row| row.first()).and_then(|value| value.as_deref());
        Ok(String::from_utf8(value.context("no value")?.to_vec())?)
    }

    fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot::read(&self.rows(&snapshot_sql())?)?)
    }

    fn stamp(&self) -> Result<String> {
        self.value(STAMP_SQL)
    }

    fn state(&self) -> Result<SessionState> {
        let mut state = SessionState::unknown();
        state.learned(self.state_row()?);
        Ok(state)
    }

    fn state_row(&self) -> Result<StateRow> {
        let rows = self.rows(STATE_SQL)?;
        let [row] = rows.as_slice() else { bail!("{} rows of state", rows.len()) };
        StateRow::read(row).with_context(|| format!("a malformed row of state: {row:?}"))
    }
}

/// What a text asks for.
fn resolved(text: &str, state: &SessionState, catalog: &Snapshot) -> Result<Resolution> {
    let facts = std::thread::scope(|scope| {
        let analysis = std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || analyse(text.as_bytes(), Encoding::Utf8, &Limits::default()))?;
        match analysis.join() {
            Ok(Ok(facts)) => Ok(facts),
            Ok(Err(unknown)) => bail!("{unknown:?} in {text}"),
            Err(_) => bail!("a panic in {text}"),
        }
    })?;
    Ok(resolve(&facts, state, Some(catalog)))
}

fn name(text: &str) -> Name {
    Name::new(text)
}
