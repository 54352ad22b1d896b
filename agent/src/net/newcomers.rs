//! Connections that are not logged in yet, bounded for each user of a network namespace: whoever only connects takes no more
//! than a part of the agent's places.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pgward_common::Actor;

/// Who connects: a user in a network namespace, which for most purposes is a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct User {
    /// Cookie of the network namespace.
    pub netns_cookie: u64,
    /// The user.
    pub uid: u32,
}

impl User {
    /// Of a process.
    pub fn of(actor: &Actor) -> Self {
        Self { netns_cookie: actor.netns_cookie, uid: actor.uid }
    }
}

/// Connections that are not logged in yet, by user. Users without any take no room.
#[derive(Debug)]
pub struct Newcomers {
    max: usize,
    counts: Mutex<HashMap<User, usize>>,
}

/// One of them, until it is dropped: when it is logged in, or ends.
#[derive(Debug)]
pub struct Newcomer {
    all: Arc<Newcomers>,
    user: User,
}

impl Newcomers {
    /// At most `max` at once of each user.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, counts: Mutex::default() })
    }

    /// Most at once of each user.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Counts one more, unless its user has too many.
    pub fn admit(self: &Arc<Self>, user: User) -> Option<Newcomer> {
        let mut counts = self.locked();
        let count = counts.get(&user).copied().unwrap_or(0);
        if count >= self.max {
            return None;
        }
        counts.insert(user, count + 1);
        drop(counts);
        Some(Newcomer { all: self.clone(), user })
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<User, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let mut counts = self.all.locked();
        match counts.get(&self.user) {
            Some(count) if *count > 1 => {
                let left = count - 1;
                counts.insert(self.user, left);
            }
            _ => {
                counts.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(netns_cookie: u64, uid: u32) -> User {
        User { netns_cookie, uid }
    }

    #[test]
    fn each_user_of_each_namespace_has_a_bound() {
        let all = Newcomers::new(2);
        let mut held: Vec<_> = (0..2).map(|_| all.admit(user(1, 7)).expect("room")).collect();
        assert!(all.admit(user(1, 7)).is_none());
        let others = [user(1, 8), user(2, 7)].map(|other| all.admit(other).expect("room"));
        held.pop();
        held.push(all.admit(user(1, 7)).expect("room again"));
        assert!(all.admit(user(1, 7)).is_none());
        assert_eq!(all.locked().len(), 3);
        drop((held, others));
        assert!(all.locked().is_empty());
    }
}
