//! `database`: a table that the agent can add to and nothing else, in a PostgreSQL server that belongs to
//! somebody else. [`super::anchor_sql`] makes it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    runtime,
    time::{Instant, timeout_at},
};

use super::{Alarm, Checkpoint, CopyError, Known, Place, Question};
use crate::{
    config::{AnchorDatabase, AuthRequire},
    net::{
        destinations::{Destination, Destinations},
        dial::Dialer,
        reach::{self, ReachError},
        route::Route,
        talk::{self, Login, Talk, TalkError},
    },
    pg::frontend::Values,
    secrets::Password,
};

/// How long a copy may take: connection, login, queries.
pub const DATABASE_LIMIT: Duration = Duration::from_secs(10);
/// How the server's log and `pg_stat_activity` name it.
const APPLICATION_NAME: &str = "pgward audit anchor";
/// A row is there for good once it is answered for, whatever the server's default.
const OPTIONS: &str =
    "-c search_path=pg_catalog -c synchronous_commit=on -c standard_conforming_strings=on";
/// `unique_violation`
const TAKEN: &str = "23505";

const INSERT: &str = "INSERT INTO pgward.checkpoint (origin, size, root, note) \
                      VALUES ($1, $2, $3, $4)";
const SAME: &str = "SELECT origin, size::text, pg_catalog.encode(root, 'hex'), note \
                    FROM pgward.checkpoint WHERE origin = $1 AND size = $2";
/// `c.size` is the number: `size` alone would be the text in the first line.
const NEWEST: &str = "SELECT c.origin, c.size::text, pg_catalog.encode(c.root, 'hex'), c.note \
                      FROM pgward.checkpoint c WHERE c.origin = $1 ORDER BY c.size DESC LIMIT 1";
/// The newest of each epoch; a thousand epochs are more than anybody has.
const ALL: &str = "SELECT DISTINCT ON (c.origin) \
                   c.origin, c.size::text, pg_catalog.encode(c.root, 'hex'), c.note \
                   FROM pgward.checkpoint c WHERE pg_catalog.starts_with(c.origin, $1) \
                   ORDER BY c.origin, c.size DESC LIMIT 1000";

/// A table of checkpoints.
pub struct Database {
    route: Route,
    database: String,
    user: String,
    password: Option<Password>,
    dialer: Option<Dialer>,
    runtime: runtime::Runtime,
    limit: Duration,
}

/// Why a table did not take a checkpoint, or did not tell.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// There is no such destination.
    #[error("no destination `{0}`")]
    Destination(String),
    /// The runtime.
    #[error("starting a runtime")]
    Runtime(#[source] io::Error),
    /// No connection.
    #[error("no connection to {address}")]
    Reach {
        /// The server.
        address: SocketAddr,
        /// Why.
        #[source]
        source: Box<ReachError>,
    },
    /// No login, or no answer.
    #[error("{address}")]
    Talk {
        /// The server.
        address: SocketAddr,
        /// Why.
        #[source]
        source: Box<TalkError>,
    },
    /// It took too long.
    #[error("no answer from {address} within {limit:?}")]
    TimedOut {
        /// The server.
        address: SocketAddr,
        /// The limit.
        limit: Duration,
    },
    /// More entries than such a table can count.
    #[error("size {0} is too large for a `bigint`")]
    Size(u64),
    /// A row is none of ours.
    #[error("a row of `pgward.checkpoint` is not understood: expected {expected}")]
    Row {
        /// What should be in it.
        expected: &'static str,
    },
}

/// An error below that of the conversation.
#[derive(Debug)]
enum Fault {
    Talk(Box<TalkError>),
    Reach(Box<ReachError>),
    Copy(CopyError),
}

impl From<TalkError> for Fault {
    fn from(error: TalkError) -> Self {
        Self::Talk(Box::new(error))
    }
}

impl From<Alarm> for Fault {
    fn from(alarm: Alarm) -> Self {
        Self::Copy(alarm.into())
    }
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Self {
        Self::Copy(error.into())
    }
}

impl Database {
    /// The table that `settings` name. Without a `dialer` its sockets are not marked as the agent's own.
    pub fn new(
        settings: &AnchorDatabase,
        destinations: &Destinations,
        dialer: Option<Dialer>,
    ) -> Result<Self, DatabaseError> {
        let named = destinations.named(&settings.destination);
        let destination =
            named.ok_or_else(|| DatabaseError::Destination(settings.destination.clone()))?;
        Self::at(settings, destination.clone(), dialer)
    }

    fn at(
        settings: &AnchorDatabase,
        destination: Arc<Destination>,
        dialer: Option<Dialer>,
    ) -> Result<Self, DatabaseError> {
        let AnchorDatabase { destination: _, address, database, user, password } = settings.clone();
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            route: Route { destination, address, named: None },
            database,
            user,
            password: password.map(Password::new),
            dialer,
            runtime: runtime.map_err(DatabaseError::Runtime)?,
            limit: DATABASE_LIMIT,
        })
    }

    /// The same with another limit.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs `work` over a connection of its own. One for each copy: a minute is long for a connection
    /// through firewalls, and a login is cheap.
    fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut Conversation<'_>) -> Result<T, Fault>,
    ) -> Result<T, CopyError> {
        let (address, limit) = (self.route.address, self.limit);
        let ran = self.runtime.block_on(async {
            let deadline = Instant::now() + limit;
            let work = async {
                let mut conversation = Conversation { database: self, deadline, talk: None };
                let result = work(&mut conversation).await;
                if let Some(talk) = conversation.talk {
                    talk.close().await;
                }
                result
            };
            timeout_at(deadline, work).await
        });
        let result = ran.map_err(|_| DatabaseError::TimedOut { address, limit })?;
        result.map_err(|fault| match fault {
            Fault::Talk(source) => DatabaseError::Talk { address, source }.into(),
            Fault::Reach(source) => DatabaseError::Reach { address, source }.into(),
            Fault::Copy(error) => error,
        })
    }
}

/// A connection that is made anew where an error of the server ended the last.
struct Conversation<'d> {
    database: &'d Database,
    deadline: Instant,
    talk: Option<Talk>,
}

impl Conversation<'_> {
    async fn query(&mut self, text: &str, values: &[&str]) -> Result<Vec<Known>, Fault> {
        let mut talk = match self.talk.take() {
            Some(talk) => talk,
            None => self.open().await?,
        };
        let values: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
        let question = talk::Question { text: text.as_bytes(), types: &[], values: &values };
        let mut rows = Vec::new();
        talk.query(&question, |values| {
            rows.push(known(&values)?);
            Ok::<_, Fault>(())
        })
        .await?;
        self.talk = Some(talk);
        Ok(rows)
    }

    async fn open(&self) -> Result<Talk, Fault> {
        let Database { route, database, user, password, dialer, .. } = self.database;
        let reached = reach::reach_own(dialer.as_ref(), route, self.deadline).await;
        let reached = reached.map_err(|error| Fault::Reach(Box::new(error)))?;
        let settings = &route.destination.settings;
        let login = Login {
            user,
            database,
            application_name: APPLICATION_NAME,
            options: OPTIONS,
            password: password.as_ref(),
            binding: settings.server.channel_binding,
            // With a password configured, a server that does not ask for it is not the one meant.
            require: match password {
                Some(_) => AuthRequire::ScramSha256,
                None => settings.auth.require,
            },
        };
        Ok(Talk::open(reached.leg, reached.described, &login).await?)
    }
}

/// A row of the queries above.
fn known(values: &Values<'_>) -> Result<Known, DatabaseError> {
    let mut texts = values.iter().map(|value| value.and_then(|v| std::str::from_utf8(v).ok()));
    let mut next = |expected| texts.next().flatten().ok_or(DatabaseError::Row { expected });
    let origin = next("an origin")?.to_owned();
    let size = next("a size")?.parse().map_err(|_| DatabaseError::Row { expected: "a size" })?;
    let mut root = [0; 32];
    let expected = DatabaseError::Row { expected: "a root" };
    hex::decode_to_slice(next("a root")?, &mut root).map_err(|_| expected)?;
    let note = next("a note")?.to_owned();
    Ok(Known { origin, size, root: Some(root), note: Some(note) })
}

impl Place for Database {
    fn copy(&mut self, checkpoint: &Checkpoint) -> Result<(), CopyError> {
        let (origin, size) = (checkpoint.origin(), checkpoint.size());
        if i64::try_from(size).is_err() {
            return Err(DatabaseError::Size(size).into());
        }
        let digits = size.to_string();
        let root = format!("\\x{}", hex::encode(checkpoint.root()));
        self.run(async |conversation| {
            let values = [origin, &digits, &root, checkpoint.note()];
            match conversation.query(INSERT, &values).await {
                Ok(_) => {}
                Err(Fault::Talk(error))
                    if matches!(&*error, TalkError::Server(code) if code == TAKEN) =>
                {
                    // A row that we may not see is somebody else's: it can't be ours.
                    let there = conversation.query(SAME, &[origin, &digits]).await?;
                    let theirs = there.first().and_then(|there| there.root);
                    if theirs != Some(checkpoint.root()) {
                        let (origin, ours) = (origin.to_owned(), checkpoint.root());
                        return Err(Alarm::Fork { origin, size, ours, theirs }.into());
                    }
                }
                Err(fault) => return Err(fault),
            }
            // Ours is in: evidence also where somebody else has more.
            let newest = conversation.query(NEWEST, &[origin]).await?;
            match newest.first().map(|newest| newest.size) {
                Some(theirs) if theirs > size => {
                    Err(Alarm::Ahead { origin: origin.to_owned(), ours: size, theirs }.into())
                }
                Some(_) | None => Ok(()),
            }
        })
    }

    fn newest_known(&mut self, question: &Question) -> Result<Vec<Known>, CopyError> {
        let prefix = format!("{}/", question.host);
        let mut known = self.run(async |conversation| conversation.query(ALL, &[&prefix]).await)?;
        known.retain(|known| question.epoch_of(&known.origin).is_some());
        known.sort_by_key(|known| question.epoch_of(&known.origin));
        Ok(known)
    }
}
