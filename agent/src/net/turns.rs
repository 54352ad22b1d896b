//! Who wrote which bytes of a client's stream.
//!
//! A turn begins where another process than before writes. Where it begins is known exactly at tier T2. At tier T1 it is an
//! estimate: the kernel reports a transmit when a `sendmsg` ends, and what is taken for its beginning is that of the last
//! buffer of the socket.
//!
//! * That buffer may hold bytes that the writer before left there, so the turn may begin *later*, by less than
//!   [`ESTIMATE_BYTES`].
//! * A `sendmsg` of more than one buffer began before its last one, so the turn may begin *earlier*, by no known measure but
//!   that nobody else was reported in between.
//!
//! So a statement near such a boundary lists the writer on its other side beside its own: one that begins less than
//! [`ESTIMATE_BYTES`] behind it names the writer before, and one that ends before it, and has no record yet, the writer behind.
//! That a process is listed then means that it may have written a part, or all, of the statement.

use std::ops::Range;

use crate::audit::Tier;

/// Longest buffer of a socket on the loopback device (its default `gso_max_size`).
pub(super) const ESTIMATE_BYTES: u64 = 64 << 10;
/// Turns that are remembered, for statements that are still under way.
const TURNS_MAX: usize = 1024;

/// The writers of a session, in order. `W` names one.
pub(super) struct Turns<W> {
    opener: W,
    /// Ascending.
    turns: Vec<Turn<W>>,
    lost: bool,
}

struct Turn<W> {
    from: u64,
    who: W,
    tier: Tier,
}

/// Who wrote a statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written<'a, W> {
    /// Who wrote its first byte, as far as is known.
    pub(super) writer: &'a W,
    /// What told; `None` for the opener, whom no change told.
    pub(super) tier: Option<Tier>,
    /// Further processes that wrote parts of it or, at T1, may have. Each once.
    pub(super) shared: Vec<&'a W>,
}

impl<W: PartialEq> Turns<W> {
    /// All that comes is the opener's, until somebody else's turn begins.
    pub(super) fn new(opener: W) -> Self {
        Self { opener, turns: Vec::new(), lost: false }
    }

    /// Somebody writes from offset `from` on.
    pub(super) fn begin(&mut self, from: u64, who: W, tier: Tier) {
        if self.turns.len() >= TURNS_MAX {
            self.turns.remove(0);
            self.lost = true;
        }
        // An estimate may lie before the turn that came before, but the turns came in this order.
        let from = self.turns.last().map_or(from, |last| from.max(last.from));
        self.turns.push(Turn { from, who, tier });
    }

    /// Whether turns had to be forgotten that may still have been of use.
    pub(super) fn lost(&self) -> bool {
        self.lost
    }

    /// Who opened the session.
    pub(super) fn opener(&self) -> &W {
        &self.opener
    }

    /// Who wrote the bytes of `span`.
    pub(super) fn of(&self, span: Range<u64>) -> Written<'_, W> {
        let behind = self.behind(span.start);
        let writer = self.before(behind);
        let doubtful = self.doubtful_since(behind, span.start);
        let mut next = behind;
        while self.turns.get(next).is_some_and(|turn| turn.from < span.end) {
            next += 1;
        }
        if self.turns.get(next).is_some_and(|turn| turn.tier == Tier::T1) {
            next += 1;
        }
        let mut shared: Vec<&W> = Vec::new();
        for who in (doubtful..=next).map(|index| self.before(index)) {
            if who != writer && !shared.contains(&who) {
                shared.push(who);
            }
        }
        let tier = behind.checked_sub(1).map(|index| self.turns[index].tier);
        Written { writer, tier, shared }
    }

    /// Statements come in the order of their bytes: turns that none behind `start` needs are forgotten.
    pub(super) fn forget_before(&mut self, start: u64) {
        let needed = self.doubtful_since(self.behind(start), start);
        // The turn before `needed` is the one whose writer `needed` stands for, see `before`.
        self.turns.drain(..needed.saturating_sub(1));
    }

    /// Index of the first turn that begins behind `offset`.
    fn behind(&self, offset: u64) -> usize {
        self.turns.partition_point(|turn| turn.from <= offset)
    }

    /// Who wrote before the turn `index`.
    fn before(&self, index: usize) -> &W {
        index.checked_sub(1).map_or(&self.opener, |index| &self.turns[index].who)
    }

    /// Goes back from the turn `index` over those that may in truth begin behind `offset`.
    fn doubtful_since(&self, mut index: usize, offset: u64) -> usize {
        while let Some(turn) = index.checked_sub(1).map(|before| &self.turns[before])
            && turn.tier == Tier::T1
            && offset < turn.from.saturating_add(ESTIMATE_BYTES)
        {
            index -= 1;
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(tier: Tier, turns: &[(u64, &'static str)]) -> Turns<&'static str> {
        let mut all = Turns::new("opener");
        for (from, who) in turns {
            all.begin(*from, *who, tier);
        }
        all
    }

    fn names(written: &Written<'_, &'static str>) -> Vec<&'static str> {
        std::iter::once(written.writer).chain(written.shared.iter().copied()).copied().collect()
    }

    #[test]
    fn exact_turns_are_taken_at_their_word() {
        let all = turns(Tier::T2, &[(100, "a"), (200, "b")]);
        assert_eq!(names(&all.of(0..100)), ["opener"]);
        assert_eq!(names(&all.of(0..101)), ["opener", "a"]);
        assert_eq!(names(&all.of(100..200)), ["a"]);
        assert_eq!(names(&all.of(50..300)), ["opener", "a", "b"]);
        assert_eq!(all.of(0..1).tier, None);
        assert_eq!(all.of(250..300).tier, Some(Tier::T2));
    }

    #[test]
    fn near_an_estimate_both_sides_are_named() {
        let all = turns(Tier::T1, &[(100_000, "a")]);
        assert_eq!(names(&all.of(10..20)), ["opener", "a"], "a long write may have begun before");
        assert_eq!(names(&all.of(100_000..100_010)), ["a", "opener"]);
        let last_doubtful = 100_000 + ESTIMATE_BYTES - 1;
        assert_eq!(names(&all.of(last_doubtful..last_doubtful + 9)), ["a", "opener"]);
        let first_sure = 100_000 + ESTIMATE_BYTES;
        assert_eq!(names(&all.of(first_sure..first_sure + 9)), ["a"]);
    }

    #[test]
    fn doubt_reaches_over_several_estimates_and_names_each_process_once() {
        let all = turns(Tier::T1, &[(10, "a"), (20, "opener"), (30, "a"), (15, "b")]);
        assert_eq!(names(&all.of(40..50)), ["b", "opener", "a"]);
        assert_eq!(names(&all.of(30..40)), ["b", "opener", "a"], "an estimate that went back");
    }

    #[test]
    fn forgetting_changes_no_later_answer() {
        for tier in [Tier::T1, Tier::T2] {
            let spread: Vec<(u64, &'static str)> = (0..40)
                .map(|i| (i * 5000, ["a", "b", "c"][usize::try_from(i).expect("small") % 3]))
                .collect();
            let whole = turns(tier, &spread);
            let mut thin = turns(tier, &spread);
            for start in (0..220_000).step_by(700) {
                let span = start..start + 700;
                assert_eq!(whole.of(span.clone()), thin.of(span), "{tier:?} at {start}");
                thin.forget_before(start);
            }
            assert!(thin.turns.len() < whole.turns.len());
        }
    }

    #[test]
    fn beyond_the_limit_the_oldest_is_forgotten_and_told() {
        let mut all = Turns::new(0);
        for number in 1..=TURNS_MAX as u64 {
            all.begin(number, number, Tier::T2);
        }
        assert!(!all.lost());
        all.begin(9999, 9999, Tier::T2);
        assert!(all.lost());
        assert_eq!(all.turns.len(), TURNS_MAX);
    }
}
