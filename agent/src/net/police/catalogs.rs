//! Snapshots of catalogs, shared by all sessions with the same database.
//!
//! A session reads a catalog over its own connection, when it rests; what it read serves all others. Each goes on using what it
//! has until it learns that it is out of date.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::catalog::Snapshot;

/// Databases whose catalogs are kept; the one that was not asked for the longest goes first.
const KEPT_MAX: usize = 64;

/// Whose catalog it is. The same address may be another server in another network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Whose {
    /// Network namespace of the client.
    pub netns_cookie: u64,
    /// Address of the server.
    pub server: SocketAddr,
    /// Database.
    pub database: Box<str>,
}

/// Snapshots that sessions took.
#[derive(Debug, Default)]
pub struct Catalogs {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    snapshots: HashMap<Whose, (Arc<Snapshot>, u64)>,
    asked: u64,
}

impl Catalogs {
    /// The newest that anybody took.
    pub fn newest(&self, whose: &Whose) -> Option<Arc<Snapshot>> {
        let mut kept = self.locked();
        kept.asked += 1;
        let asked = kept.asked;
        let (snapshot, last) = kept.snapshots.get_mut(whose)?;
        *last = asked;
        Some(snapshot.clone())
    }

    /// A session took a snapshot. Gives the one to use: another session's, where that has taken the same meanwhile.
    pub fn put(&self, whose: &Whose, snapshot: Snapshot) -> Arc<Snapshot> {
        let mut kept = self.locked();
        kept.asked += 1;
        let asked = kept.asked;
        if let Some((same, last)) = kept.snapshots.get_mut(whose)
            && same.epoch() == snapshot.epoch()
        {
            *last = asked;
            return same.clone();
        }
        if kept.snapshots.len() >= KEPT_MAX && !kept.snapshots.contains_key(whose) {
            let oldest = kept.snapshots.iter().min_by_key(|(_, (_, last))| *last);
            if let Some(oldest) = oldest.map(|(whose, _)| whose.clone()) {
                kept.snapshots.remove(&oldest);
            }
        }
        let snapshot = Arc::new(snapshot);
        kept.snapshots.insert(whose.clone(), (snapshot.clone(), asked));
        snapshot
    }

    fn locked(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
