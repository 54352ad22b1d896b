//! Whether a log may be continued at a start. Pure.
//!
//! Continuing the wrong log would sign two different pasts under one name: a fork, which looks like
//! forgery to every witness, and rightly so. Where in doubt a new epoch begins, with a record of why.

use crate::audit::chain::Hash;

/// What recovery found of the newest epoch that has entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    /// Its number.
    pub epoch: u64,
    /// Its state.
    pub state: LogState,
}

/// State of a log, with its last good size and the root at that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogState {
    /// Every byte has its meaning.
    Whole {
        /// Good entries.
        size: u64,
        /// Root over them.
        root: Hash,
    },
    /// What follows the last good trailer is no batch: a crash interrupted its writing.
    TornTail {
        /// Good entries.
        size: u64,
        /// Root over them.
        root: Hash,
    },
    /// A bad frame with a good trailer behind it, a missing file, a wrong root.
    Corrupt {
        /// Good entries before it.
        size: u64,
        /// Root over them.
        root: Hash,
    },
}

impl LogState {
    fn good(self) -> (u64, Hash) {
        match self {
            Self::Whole { size, root }
            | Self::TornTail { size, root }
            | Self::Corrupt { size, root } => (size, root),
        }
    }
}

/// A checkpoint of this host that is kept somewhere: the file in the epoch's folder, or an anchor.
/// Its signature has been verified, or the anchor is trusted to tell a size without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Epoch, the last part of its origin.
    pub epoch: u64,
    /// Entries.
    pub size: u64,
    /// Root over them; `None` where only the size is told, as by a witness.
    pub root: Option<Hash>,
}

/// Why an epoch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EpochReason {
    /// The host had none.
    First,
    /// The one before is corrupt in its middle.
    Corruption,
    /// The one before is older than a checkpoint of it, or differs from one.
    Rollback,
    /// The folder was another machine's, or the host got a new name or key.
    Identity,
}

impl EpochReason {
    /// Its name in records and in `identity.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Corruption => "corruption",
            Self::Rollback => "rollback",
            Self::Identity => "identity",
        }
    }

    /// The reason of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::First, Self::Corruption, Self::Rollback, Self::Identity]
            .into_iter()
            .find(|reason| reason.name() == name)
    }
}

/// What to do at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Append to the newest epoch. Where `begins` was set, [`super::Identity::begun`] is still to be
    /// called: a crash came between the first entry and that.
    Continue {
        /// Whether bytes have to be put aside first, with a `recovery` entry.
        torn: bool,
        /// Checkpoints whose root could not be compared: it was not told, or the entries are gone.
        unchecked: usize,
    },
    /// Begin an epoch. Nothing is ever signed under an older one again.
    Begin(Begin),
}

/// The epoch that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Its number.
    pub epoch: u64,
    /// Why.
    pub reason: EpochReason,
    /// The epoch before that has entries, its last good size, and the root at that size.
    pub previous: Option<(u64, u64, Hash)>,
}

/// Decides at a start. That the machine is the right one is checked before, by
/// [`super::Identity::check`].
///
/// `current` is the epoch of `identity.toml`; `begins` is there as long as that epoch has no durable
/// entry. `known` are the checkpoints of this host wherever they are; `root_at` computes the root of
/// the newest epoch at an earlier size, `None` when it cannot be computed.
///
/// | found | decision |
/// |---|---|
/// | the epoch was to begin, has no entries, and nobody has a checkpoint of it | begins |
/// | the newest epoch with entries is another one than `current` | a new one: rollback |
/// | a checkpoint is of a later epoch | a new one: rollback |
/// | corruption in the middle | a new one: corruption |
/// | a checkpoint is larger than the log, or has another root at its size | a new one: rollback |
/// | anything else | goes on |
///
/// A new epoch has a number above all that are known.
pub fn decide(
    current: u64,
    begins: Option<EpochReason>,
    newest: Option<Newest>,
    known: &[Known],
    mut root_at: impl FnMut(u64) -> Option<Hash>,
) -> Decision {
    let latest_known = known.iter().map(|k| k.epoch).max().unwrap_or(0);
    let newest_epoch = newest.map_or(0, |n| n.epoch);
    let previous = newest.map(|n| (n.epoch, n.state.good().0, n.state.good().1));
    let new = |reason| {
        let epoch = current.max(newest_epoch).max(latest_known).saturating_add(1);
        Decision::Begin(Begin { epoch, reason, previous })
    };

    if let Some(reason) = begins
        && newest_epoch < current
        && latest_known < current
    {
        return Decision::Begin(Begin { epoch: current, reason, previous });
    }
    let Some(newest) = newest.filter(|n| n.epoch == current && latest_known <= current) else {
        return new(EpochReason::Rollback);
    };
    let (size, root, torn) = match newest.state {
        LogState::Corrupt { .. } => return new(EpochReason::Corruption),
        LogState::Whole { size, root } => (size, root, false),
        LogState::TornTail { size, root } => (size, root, true),
    };
    let mut unchecked = 0;
    for checkpoint in known.iter().filter(|k| k.epoch == current) {
        let ours = match checkpoint.size {
            larger if larger > size => return new(EpochReason::Rollback),
            same if same == size => Some(root),
            smaller => root_at(smaller),
        };
        match (ours, checkpoint.root) {
            (Some(ours), Some(theirs)) if ours != theirs => return new(EpochReason::Rollback),
            (Some(_), Some(_)) => {}
            (None, _) | (_, None) => unchecked += 1,
        }
    }
    Decision::Continue { torn, unchecked }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Hash = [1; 32];
    const OTHER: Hash = [2; 32];
    const EARLIER: Hash = [3; 32];

    fn whole(epoch: u64, size: u64) -> Option<Newest> {
        Some(Newest { epoch, state: LogState::Whole { size, root: GOOD } })
    }

    fn torn(epoch: u64, size: u64) -> Option<Newest> {
        Some(Newest { epoch, state: LogState::TornTail { size, root: GOOD } })
    }

    fn corrupt(epoch: u64, size: u64) -> Option<Newest> {
        Some(Newest { epoch, state: LogState::Corrupt { size, root: GOOD } })
    }

    fn known(epoch: u64, size: u64, root: Hash) -> Known {
        Known { epoch, size, root: Some(root) }
    }

    /// The root at 50 is [`EARLIER`], others are not known.
    fn root_at(size: u64) -> Option<Hash> {
        (size == 50).then_some(EARLIER)
    }

    fn goes_on(torn: bool, unchecked: usize) -> Decision {
        Decision::Continue { torn, unchecked }
    }

    fn begins(epoch: u64, reason: EpochReason, previous: Option<(u64, u64)>) -> Decision {
        let previous = previous.map(|(epoch, size)| (epoch, size, GOOD));
        Decision::Begin(Begin { epoch, reason, previous })
    }

    #[test]
    fn a_log_goes_on_only_where_it_is_the_one_that_was_signed() {
        use EpochReason::{Corruption, First, Identity, Rollback};
        type Case<'a> = (&'a str, u64, Option<EpochReason>, Option<Newest>, &'a [Known], Decision);
        let cases: &[Case<'_>] = &[
            ("nothing yet", 1, Some(First), None, &[], begins(1, First, None)),
            ("as it was left", 1, None, whole(1, 100), &[], goes_on(false, 0)),
            (
                "its first batch came, then a crash",
                1,
                Some(First),
                whole(1, 3),
                &[],
                goes_on(false, 0),
            ),
            ("torn tail", 1, None, torn(1, 100), &[], goes_on(true, 0)),
            ("corrupt", 1, None, corrupt(1, 100), &[], begins(2, Corruption, Some((1, 100)))),
            ("same checkpoint", 1, None, whole(1, 100), &[known(1, 100, GOOD)], goes_on(false, 0)),
            (
                "earlier checkpoint",
                1,
                None,
                whole(1, 100),
                &[known(1, 50, EARLIER)],
                goes_on(false, 0),
            ),
            (
                "pruned checkpoint",
                1,
                None,
                torn(1, 100),
                &[known(1, 7, OTHER), known(1, 100, GOOD)],
                goes_on(true, 1),
            ),
            (
                "checkpoint is ahead",
                1,
                None,
                whole(1, 100),
                &[known(1, 50, EARLIER), known(1, 101, OTHER)],
                begins(2, Rollback, Some((1, 100))),
            ),
            (
                "checkpoint is ahead of a torn tail",
                1,
                None,
                torn(1, 100),
                &[known(1, 101, OTHER)],
                begins(2, Rollback, Some((1, 100))),
            ),
            (
                "another root at the same size",
                1,
                None,
                whole(1, 100),
                &[known(1, 100, OTHER)],
                begins(2, Rollback, Some((1, 100))),
            ),
            (
                "another root at an earlier size",
                1,
                None,
                whole(1, 100),
                &[known(1, 50, OTHER)],
                begins(2, Rollback, Some((1, 100))),
            ),
            (
                "corrupt, and behind",
                1,
                None,
                corrupt(1, 100),
                &[known(1, 200, OTHER)],
                begins(2, Corruption, Some((1, 100))),
            ),
            (
                "checkpoints of earlier epochs say nothing",
                3,
                None,
                whole(3, 100),
                &[known(2, 900, OTHER), known(3, 100, GOOD)],
                goes_on(false, 0),
            ),
            (
                "a later epoch was signed: all of the folder is old",
                3,
                None,
                whole(3, 100),
                &[known(5, 1, OTHER)],
                begins(6, Rollback, Some((3, 100))),
            ),
            ("epoch folder is gone", 1, None, None, &[], begins(2, Rollback, None)),
            ("newest folder is gone", 3, None, whole(2, 9), &[], begins(4, Rollback, Some((2, 9)))),
            ("identity is old", 2, None, whole(4, 9), &[], begins(5, Rollback, Some((4, 9)))),
            (
                "crash before a new epoch's first entry",
                2,
                Some(Corruption),
                corrupt(1, 100),
                &[],
                begins(2, Corruption, Some((1, 100))),
            ),
            (
                "new identity",
                8,
                Some(Identity),
                whole(7, 100),
                &[known(7, 100, GOOD)],
                begins(8, Identity, Some((7, 100))),
            ),
            (
                "said to begin, and yet was signed",
                2,
                Some(First),
                whole(1, 100),
                &[known(2, 4, OTHER)],
                begins(3, Rollback, Some((1, 100))),
            ),
            (
                "first start, and yet was signed",
                1,
                Some(First),
                None,
                &[known(1, 4, OTHER)],
                begins(2, Rollback, None),
            ),
        ];
        let size_alone = |size| [Known { epoch: 1, size, root: None }];
        assert_eq!(decide(1, None, whole(1, 100), &size_alone(50), root_at), goes_on(false, 1));
        assert_eq!(decide(1, None, whole(1, 100), &size_alone(100), root_at), goes_on(false, 1));
        let behind = begins(2, Rollback, Some((1, 100)));
        assert_eq!(decide(1, None, whole(1, 100), &size_alone(101), root_at), behind);
        for (what, current, begins, newest, known, expected) in cases {
            let decision = decide(*current, *begins, *newest, known, root_at);
            assert_eq!(decision, *expected, "{what}");
        }
    }

    #[test]
    fn a_new_epoch_is_above_all_that_are_known() {
        let seen = [known(3, 1, OTHER), known(9, 1, OTHER), known(1, 1, GOOD)];
        let decision = decide(1, None, whole(1, 1), &seen, root_at);
        assert_eq!(decision, begins(10, EpochReason::Rollback, Some((1, 1))));
    }

    #[test]
    fn reasons_keep_their_names() {
        let all = [
            (EpochReason::First, "first"),
            (EpochReason::Corruption, "corruption"),
            (EpochReason::Rollback, "rollback"),
            (EpochReason::Identity, "identity"),
        ];
        for (reason, name) in all {
            assert_eq!((reason.name(), EpochReason::of_name(name)), (name, Some(reason)));
        }
        assert_eq!(EpochReason::of_name("other"), None);
    }
}
