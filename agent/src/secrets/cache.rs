//! Verifiers that lookups found.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::pg::scram::Verifier;

/// Entries of a cache where nothing else is said.
pub const CACHE_ENTRIES_MAX: usize = 10_000;
/// How long it is known that a server has no verifier of a role.
pub const MISSING_TTL: Duration = Duration::from_secs(5);

/// Whose verifier.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    /// Index of the destination, which says how verifiers are fetched.
    pub destination: usize,
    /// The server it was fetched from.
    pub server: SocketAddr,
    /// Cookie of the network namespace from which: the same address may be another server in another.
    pub netns: u64,
    /// The role, as the startup packet has it.
    pub role: Box<[u8]>,
}

/// Verifiers by destination, server and role, shared by all workers.
///
/// The order of calls: [`VerifierCache::claim`] answers, or hands out a [`Fetch`] to whoever asks
/// first; others that ask for the same key meanwhile wait for that fetch, and when it is dropped
/// without a result the next of them gets one. Fetches of different keys do not wait for each
/// other. Which login failed is told by [`VerifierCache::evict`].
///
/// Limits: at most as many entries as said when it was made; the one used longest ago goes first.
/// Time comes in: an entry is good while `now` is before its end.
pub struct VerifierCache {
    entries_max: usize,
    inner: Mutex<Inner>,
}

/// Invariant: `order` holds exactly one stamp per key of `entries`, and stamps only grow.
#[derive(Default)]
struct Inner {
    entries: HashMap<VerifierKey, Entry>,
    order: BTreeMap<u64, VerifierKey>,
    stamp: u64,
    flights: HashMap<VerifierKey, Flight>,
}

struct Entry {
    verifier: Option<Arc<Verifier>>,
    until: Instant,
    stamp: u64,
}

/// A fetch that runs.
struct Flight {
    ended: Arc<Notify>,
    /// The key was evicted since it began, so what it finds may be what failed.
    stale: bool,
}

/// What a fetch found, `None` for no verifier, and how long that is good.
type Found = (Option<Arc<Verifier>>, Instant);

/// What a cache says of a key.
#[derive(Debug)]
pub enum Claim<'c> {
    /// The server's verifier.
    Found(Arc<Verifier>),
    /// The server has none.
    Missing,
    /// Nobody knows: fetch it.
    Fetch(Fetch<'c>),
}

/// The right to fetch one verifier, which nobody else has at the same time. Dropped without a
/// result, it goes to the next that waits.
pub struct Fetch<'c> {
    cache: &'c VerifierCache,
    key: VerifierKey,
    /// Whether the flight is still this one's to end.
    open: bool,
}

impl VerifierCache {
    /// An empty cache. A limit of zero counts as one.
    pub fn new(entries_max: usize) -> Self {
        Self { entries_max: entries_max.max(1), inner: Mutex::default() }
    }

    /// What is known of `key` at `now`; waits while somebody else fetches it.
    ///
    /// What a fetch found that ended while this waited counts as found at `now`.
    pub async fn claim(&self, key: &VerifierKey, now: Instant) -> Claim<'_> {
        loop {
            let ended = {
                let mut inner = self.lock();
                if let Some(known) = inner.touch(key, now) {
                    return known.map_or(Claim::Missing, Claim::Found);
                }
                match inner.flights.get(key) {
                    // Made under the lock, it hears of an end that comes before it is awaited.
                    Some(flight) => Arc::clone(&flight.ended).notified_owned(),
                    None => {
                        let flight = Flight { ended: Arc::default(), stale: false };
                        inner.flights.insert(key.clone(), flight);
                        return Claim::Fetch(Fetch { cache: self, key: key.clone(), open: true });
                    }
                }
            };
            ended.await;
        }
    }

    /// Forgets `key`: the server did not accept what it says. What a fetch finds that runs already
    /// is not kept.
    pub fn evict(&self, key: &VerifierKey) {
        let mut inner = self.lock();
        inner.remove(key);
        if let Some(flight) = inner.flights.get_mut(key) {
            flight.stale = true;
        }
    }

    /// How many entries there are, good or not.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the flight of `key`, and keeps what it found until `until`.
    fn land(&self, key: &VerifierKey, found: Option<Found>) {
        let flight = {
            let mut inner = self.lock();
            let flight = inner.flights.remove(key);
            if let (Some(flight), Some((verifier, until))) = (&flight, found)
                && !flight.stale
            {
                inner.insert(key, verifier, until, self.entries_max);
            }
            flight
        };
        if let Some(flight) = flight {
            flight.ended.notify_waiters();
        }
    }
}

impl fmt::Debug for VerifierCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifierCache").field("entries", &self.len()).finish_non_exhaustive()
    }
}

impl Fetch<'_> {
    /// The server has this verifier: good for `ttl` from `now` on.
    pub fn put(mut self, verifier: Arc<Verifier>, now: Instant, ttl: Duration) {
        self.end(Some((Some(verifier), now + ttl)));
    }

    /// The server has none of that role: good for [`MISSING_TTL`] from `now` on.
    pub fn put_missing(mut self, now: Instant) {
        self.end(Some((None, now + MISSING_TTL)));
    }

    fn end(&mut self, found: Option<Found>) {
        // Once: after that the flight of this key, if there is one, is another's.
        if std::mem::take(&mut self.open) {
            self.cache.land(&self.key, found);
        }
    }
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl fmt::Debug for Fetch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Inner {
    /// The value of `key` when it is good at `now`: `Some(None)` where the server has none.
    fn touch(&mut self, key: &VerifierKey, now: Instant) -> Option<Option<Arc<Verifier>>> {
        let entry = self.entries.get_mut(key)?;
        if entry.until <= now {
            self.remove(key);
            return None;
        }
        self.order.remove(&entry.stamp);
        self.stamp += 1;
        entry.stamp = self.stamp;
        self.order.insert(self.stamp, key.clone());
        Some(entry.verifier.clone())
    }

    fn insert(
        &mut self,
        key: &VerifierKey,
        verifier: Option<Arc<Verifier>>,
        until: Instant,
        entries_max: usize,
    ) {
        self.remove(key);
        self.stamp += 1;
        self.entries.insert(key.clone(), Entry { verifier, until, stamp: self.stamp });
        self.order.insert(self.stamp, key.clone());
        while self.entries.len() > entries_max {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            self.entries.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &VerifierKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.stamp);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    fn key(role: &str) -> VerifierKey {
        let server = "10.0.0.1:5432".parse().expect("an address");
        VerifierKey { destination: 0, server, netns: 1, role: Box::from(role.as_bytes()) }
    }

    /// A verifier that is told from others by its iterations.
    fn verifier(iterations: u32) -> Arc<Verifier> {
        Arc::new(Verifier::from_password(b"x", b"salt", iterations).expect("good parts"))
    }

    async fn fetch<'c>(cache: &'c VerifierCache, key: &VerifierKey, now: Instant) -> Fetch<'c> {
        match cache.claim(key, now).await {
            Claim::Fetch(fetch) => fetch,
            other => panic!("known already: {other:?}"),
        }
    }

    /// Iterations of what is found, 0 for a role that is missing, `None` where it must be fetched.
    async fn known(cache: &VerifierCache, key: &VerifierKey, now: Instant) -> Option<u32> {
        match cache.claim(key, now).await {
            Claim::Found(verifier) => Some(verifier.iterations()),
            Claim::Missing => Some(0),
            Claim::Fetch(_) => None,
        }
    }

    #[tokio::test]
    async fn entries_are_good_until_their_time_is_over() {
        let cache = VerifierCache::new(10);
        let start = Instant::now();
        let second = Duration::from_secs(1);
        fetch(&cache, &key("a"), start).await.put(verifier(1), start, TTL);
        fetch(&cache, &key("b"), start).await.put_missing(start);
        for (after, a, b) in [
            (Duration::ZERO, Some(1), Some(0)),
            (MISSING_TTL - second, Some(1), Some(0)),
            (MISSING_TTL, Some(1), None),
            (TTL - second, Some(1), None),
            (TTL, None, None),
        ] {
            assert_eq!(known(&cache, &key("a"), start + after).await, a, "{after:?}");
            assert_eq!(known(&cache, &key("b"), start + after).await, b, "{after:?}");
        }
        assert!(cache.is_empty());
    }

    #[tokio::test]
    async fn every_part_of_a_key_counts() {
        let cache = VerifierCache::new(10);
        let now = Instant::now();
        fetch(&cache, &key("a"), now).await.put(verifier(1), now, TTL);
        let port = VerifierKey { server: "10.0.0.1:5433".parse().expect("one"), ..key("a") };
        let host = VerifierKey { server: "10.0.0.2:5432".parse().expect("one"), ..key("a") };
        let destination = VerifierKey { destination: 1, ..key("a") };
        let netns = VerifierKey { netns: 2, ..key("a") };
        for other in [port, host, destination, netns, key("A")] {
            assert_eq!(known(&cache, &other, now).await, None);
        }
        assert_eq!(known(&cache, &key("a"), now).await, Some(1));
    }

    #[tokio::test]
    async fn the_entry_used_longest_ago_goes_first() {
        let cache = VerifierCache::new(2);
        let now = Instant::now();
        for (role, iterations) in [("a", 1), ("b", 2)] {
            fetch(&cache, &key(role), now).await.put(verifier(iterations), now, TTL);
        }
        assert_eq!(known(&cache, &key("a"), now).await, Some(1));
        fetch(&cache, &key("c"), now).await.put_missing(now);
        assert_eq!(cache.len(), 2);
        assert_eq!(known(&cache, &key("b"), now).await, None);
        assert_eq!(known(&cache, &key("a"), now).await, Some(1));
        assert_eq!(known(&cache, &key("c"), now).await, Some(0));
        for round in 0..100 {
            cache.evict(&key("a"));
            fetch(&cache, &key("a"), now).await.put(verifier(1 + round), now, TTL);
        }
        let inner = cache.lock();
        assert_eq!((inner.entries.len(), inner.order.len(), inner.flights.len()), (2, 2, 0));
    }

    #[tokio::test]
    async fn what_was_evicted_is_fetched_again() {
        let cache = VerifierCache::new(2);
        let now = Instant::now();
        fetch(&cache, &key("a"), now).await.put(verifier(1), now, TTL);
        cache.evict(&key("a"));
        let running = fetch(&cache, &key("a"), now).await;
        // Evicted while it is fetched: what comes may have been read before the secret changed.
        cache.evict(&key("a"));
        running.put(verifier(1), now, TTL);
        fetch(&cache, &key("a"), now).await.put(verifier(2), now, TTL);
        assert_eq!(known(&cache, &key("a"), now).await, Some(2));
        cache.evict(&key("absent"));
    }

    /// Many ask for the same at once; each that is to fetch lets the others in, and then does
    /// `with_fetch`.
    async fn together(
        cache: &Arc<VerifierCache>,
        with_fetch: impl Fn(usize, Fetch<'_>) + Send + Sync + 'static,
    ) -> (usize, Vec<Option<u32>>) {
        let now = Instant::now();
        let (with_fetch, fetches) = (Arc::new(with_fetch), Arc::new(AtomicUsize::new(0)));
        let running = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (cache, with_fetch) = (Arc::clone(cache), Arc::clone(&with_fetch));
                let (fetches, running) = (Arc::clone(&fetches), Arc::clone(&running));
                tokio::spawn(async move {
                    match cache.claim(&key("a"), now).await {
                        Claim::Found(verifier) => Some(verifier.iterations()),
                        Claim::Missing => Some(0),
                        Claim::Fetch(fetch) => {
                            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                            for _ in 0..100 {
                                tokio::task::yield_now().await;
                            }
                            let number = fetches.fetch_add(1, Ordering::SeqCst);
                            running.fetch_sub(1, Ordering::SeqCst);
                            with_fetch(number, fetch);
                            None
                        }
                    }
                })
            })
            .collect();
        let mut answers = Vec::new();
        for task in tasks {
            answers.push(task.await.expect("finished"));
        }
        (fetches.load(Ordering::SeqCst), answers)
    }

    #[tokio::test]
    async fn one_fetches_and_the_others_wait() {
        let cache = Arc::new(VerifierCache::new(2));
        let (fetches, answers) =
            together(&cache, |_, fetch| fetch.put(verifier(7), Instant::now(), TTL)).await;
        assert_eq!(fetches, 1);
        assert_eq!(answers.iter().filter(|answer| **answer == Some(7)).count(), 19);
    }

    #[tokio::test]
    async fn a_fetch_that_is_given_up_goes_to_the_next() {
        let cache = Arc::new(VerifierCache::new(2));
        let (fetches, answers) = together(&cache, |number, fetch| match number {
            0..3 => drop(fetch),
            _ => fetch.put_missing(Instant::now()),
        })
        .await;
        assert_eq!(fetches, 4);
        assert_eq!(answers.iter().filter(|answer| **answer == Some(0)).count(), 16);
        assert!(cache.lock().flights.is_empty());
    }

    #[test]
    fn workers_share_it() {
        // Each worker has a runtime of its own.
        let cache = Arc::new(VerifierCache::new(100));
        let fetches = Arc::new(AtomicUsize::new(0));
        let now = Instant::now();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (cache, fetches) = (Arc::clone(&cache), Arc::clone(&fetches));
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build();
                    runtime.expect("a runtime").block_on(async {
                        for role in 0..50 {
                            match cache.claim(&key(&role.to_string()), now).await {
                                Claim::Found(verifier) => {
                                    assert_eq!(verifier.iterations(), role + 1);
                                }
                                Claim::Missing => panic!("never said"),
                                Claim::Fetch(fetch) => {
                                    fetches.fetch_add(1, Ordering::SeqCst);
                                    tokio::task::yield_now().await;
                                    fetch.put(verifier(role + 1), now, TTL);
                                }
                            }
                        }
                    });
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(fetches.load(Ordering::SeqCst), 50);
    }

    #[tokio::test]
    async fn shows_no_verifier() {
        let cache = VerifierCache::new(2);
        let now = Instant::now();
        let running = fetch(&cache, &key("a"), now).await;
        let shown = format!("{running:?}");
        running.put(verifier(4097), now, TTL);
        let shown = format!("{shown} {cache:?} {:?}", cache.claim(&key("a"), now).await);
        assert!(!shown.contains("4097") && !shown.contains("salt"), "{shown}");
    }
}
