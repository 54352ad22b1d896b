//! Why a statement fares as it does.

use std::sync::Arc;

use super::class::Class;
use super::judge::{Hit, unknown_need};
use super::model::{Mode, Policy};
use super::need::{Need, Request};
use super::verdict::{Reason, Verdict};
use super::window::WallTime;

/// A verdict with all that was weighed for it.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The verdict.
    pub verdict: Verdict,
    /// Each need in its order; what was not understood comes last, as the action `unknown`.
    pub needs: Vec<NeedExplained>,
}

/// What speaks about one need. Rules are named in the order of the file.
#[derive(Clone, Debug)]
pub struct NeedExplained {
    /// The need.
    pub need: Need,
    /// How it is refused, and why; `None` is allowed.
    pub refused: Option<(Mode, Reason)>,
    /// Denials that match.
    pub denials: Vec<Arc<str>>,
    /// Grants that match, some maybe only some of its columns.
    pub grants: Vec<Arc<str>>,
    /// Whether these grants cover it.
    pub covered: bool,
    /// What protects the object.
    pub protects: Vec<Arc<str>>,
    /// Rules that would match at another time.
    pub asleep: Vec<Arc<str>>,
}

impl Policy {
    /// Judges a statement, and says what matched.
    pub fn explain(&self, class: &Class, request: &Request, now: WallTime) -> Explanation {
        let verdict = self.judge(class, request, now);
        if class.policy() != self.identity {
            return Explanation { verdict, needs: Vec::new() };
        }
        let unknown = request.unknown.first().map(|_| unknown_need());
        let names = |hits: &[Hit<'_>]| hits.iter().map(|hit| hit.rule.name.clone()).collect();
        let of = |need: Need| {
            let weighed = self.weigh(class, &need, now);
            NeedExplained {
                refused: self.fate(class, &need, &weighed),
                denials: names(&weighed.denials),
                grants: names(&weighed.grants),
                covered: weighed.covered,
                protects: weighed.protects.iter().map(|protect| protect.name.clone()).collect(),
                asleep: names(&weighed.asleep),
                need,
            }
        };
        Explanation {
            verdict,
            needs: request.needs.iter().cloned().chain(unknown).map(of).collect(),
        }
    }
}
