//! Verifiers from the server itself, over a connection of our own.
//!
//! No parameter of a client ever touches this connection (CVE-2025-12819): its startup packet is ours to the last byte, and
//! the role that is asked about is bound as a parameter, never put into the text.

use std::{
    collections::HashMap,
    hash::Hash,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout_at,
};

use super::{
    credentials::Asked,
    reach::{self, ReachError, Reached},
    talk::{Login, Question, TEXT_OID, Talk, TalkError},
};
use crate::{
    config::{self, ROLE_BYTES_MAX},
    pg::scram::{Verifier, VerifierError},
};

/// Lookups at one server at the same time, each a connection and a SCRAM exchange: anybody can ask for one, before any proof.
const AT_ONCE_MAX: usize = 4;
/// How the server's log and `pg_stat_activity` name it.
const APPLICATION_NAME: &str = "pgward verifier lookup";

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum LookupError {
    /// No connection.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// No login, or no answer.
    #[error(transparent)]
    Talk(#[from] TalkError),
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
    /// More than one row.
    #[error("the query found more than one row")]
    ManyRows,
    /// What was found is none.
    #[error("what the query found is no verifier")]
    NoVerifier(#[from] VerifierError),
}

/// Whether a server can have a role of that name. `false`: it need not be asked, and nothing need be kept.
///
/// The name is bound as text in UTF-8, in which a server refuses anything else (SQLSTATE 22021); no name in its catalogue is
/// longer than [`ROLE_BYTES_MAX`].
pub(super) fn may_exist(role: &[u8]) -> bool {
    role.len() <= ROLE_BYTES_MAX && std::str::from_utf8(role).is_ok()
}

/// A destination by its place in the configuration, a server of it, and the network namespace it is reached from.
pub(super) type Server = (usize, SocketAddr, u64);

/// Lookups under way, at most [`AT_ONCE_MAX`] at each server: others wait for a place.
///
/// By server and namespace rather than for a whole destination: a server that answers slowly on purpose, in a namespace of its
/// own, keeps nobody else waiting.
pub(super) type Lookups = Places<Server>;

/// Places by key. A key that nobody uses takes no room.
#[derive(Debug)]
pub(super) struct Places<K: Eq + Hash + Copy>(Mutex<HashMap<K, Users>>);

#[derive(Debug)]
struct Users {
    places: Arc<Semaphore>,
    /// Who has a place or waits for one.
    count: usize,
}

impl<K: Eq + Hash + Copy> Default for Places<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
struct Place<'p, K: Eq + Hash + Copy> {
    _permit: OwnedSemaphorePermit,
    _user: User<'p, K>,
}

#[derive(Debug)]
struct User<'p, K: Eq + Hash + Copy> {
    all: &'p Places<K>,
    key: K,
}

impl<K: Eq + Hash + Copy> Places<K> {
    /// Waits for one; who came first gets it first.
    async fn take(&self, key: K) -> Place<'_, K> {
        let places = {
            let mut all = self.locked();
            let free = || Users { places: Arc::new(Semaphore::new(AT_ONCE_MAX)), count: 0 };
            let users = all.entry(key).or_insert_with(free);
            users.count += 1;
            users.places.clone()
        };
        let user = User { all: self, key };
        let permit = places.acquire_owned().await.expect("it is never closed");
        Place { _permit: permit, _user: user }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<K, Users>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Copy> Drop for User<'_, K> {
    fn drop(&mut self) {
        let mut all = self.all.locked();
        if let Some(users) = all.get_mut(&self.key) {
            users.count -= 1;
            if users.count == 0 {
                all.remove(&self.key);
            }
        }
    }
}

/// Asks the server for the verifier of a role. `None`: it has no such role, the role may not log in, or it has no password.
pub(super) async fn verifier(
    asked: &Asked<'_>,
    lookup: &config::Lookup,
) -> Result<Option<Verifier>, LookupError> {
    let Asked { context, route, flow, role: _, deadline } = asked;
    let server = (route.destination.index, route.address, flow.opener.netns_cookie);
    let look_up = async {
        let _place = context.destinations.lookups.take(server).await;
        look_up(asked, lookup).await
    };
    timeout_at(*deadline, look_up).await.map_err(|_| LookupError::TimedOut)?
}

async fn look_up(
    asked: &Asked<'_>,
    lookup: &config::Lookup,
) -> Result<Option<Verifier>, LookupError> {
    let Asked { context, route, flow, role: _, deadline } = asked;
    let Reached { leg, described, tls: _ } =
        reach::reach(&context.dialer, flow, &route.trusted(), None, *deadline).await?;
    let settings = &route.destination.settings;
    let login = Login {
        user: &lookup.login,
        database: &lookup.database,
        application_name: APPLICATION_NAME,
        options: "-c search_path=pg_catalog",
        password: route.destination.lookup_password.as_ref(),
        binding: settings.server.channel_binding,
        require: settings.auth.require,
    };
    let mut talk = Talk::open(leg, described, &login).await?;
    let answer = query(asked, lookup, &mut talk).await;
    talk.close().await;
    answer
}

/// Asks, over a connection that is logged in.
async fn query(
    asked: &Asked<'_>,
    lookup: &config::Lookup,
    talk: &mut Talk,
) -> Result<Option<Verifier>, LookupError> {
    let mut rows = 0;
    let mut found = None;
    let question =
        Question { text: lookup.query.as_bytes(), types: &[TEXT_OID], values: &[Some(asked.role)] };
    talk.query(&question, |values| {
        rows += 1;
        if rows > 1 {
            return Err(LookupError::ManyRows);
        }
        // A role with an MD5 secret has no verifier.
        let secret = values.iter().last().flatten().filter(|s| !s.starts_with(b"md5"));
        found = secret.map(Verifier::parse).transpose()?;
        Ok(())
    })
    .await?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn names_that_are_no_roles_are_not_asked_about() {
        let long = "ä".repeat(ROLE_BYTES_MAX / 2 + 1);
        for (role, expected) in [
            (&b"app"[..], true),
            ("Ünïcode".as_bytes(), true),
            (&long.as_bytes()[..62], true),
            (long.as_bytes(), false),
            (&[b'x'; ROLE_BYTES_MAX], true),
            (&[b'x'; ROLE_BYTES_MAX + 1], false),
            (b"caf\xe9", false),
            (&long.as_bytes()[..61], false),
        ] {
            assert_eq!(may_exist(role), expected, "{role:?}");
        }
    }

    #[test]
    fn a_server_gets_few_lookups_at_once_and_others_do_not_wait_for_it() {
        let places = Places::<u8>::default();
        let take = |key| {
            let mut taken = Box::pin(places.take(key));
            let first = poll(taken.as_mut());
            (first, taken)
        };
        let mut held = Vec::new();
        for _ in 0..AT_ONCE_MAX {
            let (Poll::Ready(place), _) = take(1) else { panic!("no place") };
            held.push(place);
        }
        let (Poll::Pending, mut waiting) = take(1) else { panic!("one too many") };
        let (Poll::Pending, given_up) = take(1) else { panic!("one too many") };
        assert!(take(2).0.is_ready(), "another server");
        drop(given_up);
        held.pop();
        let Poll::Ready(place) = poll(waiting.as_mut()) else { panic!("a place is free") };
        drop(waiting);
        assert!(take(1).0.is_pending());
        assert_eq!(places.locked().len(), 1);
        held.clear();
        drop(place);
        assert!(places.locked().is_empty(), "nobody is there");
    }
}
