//! What the policy makes of one text, ready to be carried out.

use std::sync::Arc;

use super::Hit;
use crate::{
    audit::Decided,
    pg::{
        error::{Reply, Severity},
        session::{Ceiling, Forward, Notice, NoticeSeverity, Permit, Permits, StatementId},
    },
    policy::{Counted, Denial, Identity, Limit, LimitAction, Outcome, Request, Verdict, WallTime},
    sql::facts::{Effect, Effects, Statement},
};

/// What the policy makes of one text.
#[derive(Clone, Debug)]
pub struct Ruling {
    policy: Identity,
    /// One for each statement up to the first that is refused, in the order of the text.
    verdicts: Vec<Verdict>,
    /// Where the refused statement begins in the text.
    refused_at: usize,
    /// Rules that decided.
    rules: Vec<Arc<str>>,
    decided: Decided,
    until: Option<WallTime>,
    /// It reads, and does nothing else.
    pub pure_read: bool,
}

/// Nothing judges: there is no policy, or it does not concern the session.
#[derive(Clone, Copy, Debug)]
pub struct Unconcerned;

impl Permits for Unconcerned {
    fn permits(&self) -> bool {
        true
    }
}

impl Permits for Ruling {
    fn permits(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.permit().is_ok())
    }
}

impl Ruling {
    /// Of the verdicts over `statements`, in their order, as far as the first that is refused.
    pub(super) fn new(
        policy: Identity,
        verdicts: Vec<Verdict>,
        statements: &[Statement],
        requests: &[Request],
    ) -> Self {
        let mut rules: Vec<Arc<str>> = Vec::new();
        for rule in verdicts.iter().flat_map(Verdict::rules) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
        let decided = verdicts.iter().map(|verdict| match verdict.outcome() {
            Outcome::Allow => Decided::Allow,
            Outcome::Observe(_) => Decided::WouldDeny,
            Outcome::Warn(_) => Decided::Warn,
            Outcome::Deny(_) => Decided::Deny,
        });
        let decided = decided.max_by_key(|decided| strictness(*decided));
        let refused = verdicts.iter().position(|verdict| verdict.permit().is_err());
        let refused_at = refused.and_then(|at| statements.get(at)).map_or(0, |s| s.span.start);
        // A first statement is refused with what stands in front of it: blanks and comments.
        let refused_at = if refused == Some(0) { 0 } else { refused_at };
        let reads: Effects = [Effect::Select, Effect::Show].into_iter().collect();
        let pure_read = !statements.is_empty()
            && statements.iter().all(|statement| statement.effects.union(reads) == reads)
            && requests.iter().all(|request| {
                request.unknown.is_empty()
                    && request.needs.iter().all(|need| reads.contains(need.action))
            });
        Self {
            policy,
            refused_at,
            rules,
            decided: decided.unwrap_or(Decided::Allow),
            until: verdicts.iter().filter_map(Verdict::until).min(),
            verdicts,
            pure_read,
        }
    }

    /// The stricter of two: what several writers of a text may do, all of them may.
    pub(super) fn stricter(self: Arc<Self>, other: Arc<Self>) -> Arc<Self> {
        if strictness(other.decided) > strictness(self.decided) { other } else { self }
    }

    /// Whether it still holds.
    pub(super) fn holds(&self, now: WallTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// What was decided, for the record.
    pub fn decided(&self) -> Decided {
        self.decided
    }

    /// Rules that decided.
    pub fn rules(&self) -> &[Arc<str>] {
        &self.rules
    }

    /// The policy.
    pub fn policy(&self) -> Identity {
        self.policy
    }

    /// Why it is refused, if it is, and where in the text of a simple query the refused statement begins.
    pub fn refusal(&self) -> Option<(&Denial, usize)> {
        let denial = self.verdicts.iter().find_map(|verdict| verdict.permit().err())?;
        Some((denial, self.refused_at))
    }

    /// How many statements of the text go to the server.
    pub(super) fn forwarded(&self) -> usize {
        self.verdicts.iter().take_while(|verdict| verdict.permit().is_ok()).count()
    }

    /// How statement `id` passes; `None` if it must not. `decision` names its record.
    pub fn forward(&self, id: StatementId, decision: impl Fn() -> String) -> Option<Forward> {
        let mut forward = Forward::new(Permit::of(id, self)?);
        for verdict in &self.verdicts {
            if let Outcome::Warn(denial) = verdict.outcome() {
                forward = forward.with_notice(self.warning(denial, &decision()));
            }
        }
        Some(forward)
    }

    /// What the client hears when it is refused.
    pub fn reply(&self, denial: &Denial, decision: &str) -> Reply {
        Reply {
            severity: Severity::Error,
            detail: Some(denial.detail(self.policy, decision).into()),
            hint: denial.hint.as_ref().map(|hint| hint.to_string().into()),
            ..Reply::fatal(*b"42501", denial.message(None))
        }
    }

    fn warning(&self, denial: &Denial, decision: &str) -> Notice {
        Notice {
            severity: NoticeSeverity::Warning,
            sqlstate: *b"01007", // privilege_not_granted
            text: format!("would be refused: {}", denial.message(None)),
            detail: Some(denial.detail(self.policy, decision)),
            hint: denial.hint.as_ref().map(|hint| hint.to_string()),
        }
    }

    /// The tightest of what its grants let pass, and the limit that is told.
    pub fn ceiling(&self, decision: impl Fn() -> String) -> Option<(Ceiling, Hit)> {
        let ends = |limit: &&Limit| limit.action >= LimitAction::Cancel;
        let limits = || self.verdicts.iter().flat_map(Verdict::ceilings).filter(ends);
        let tightest = |counted| {
            let these = limits().filter(|limit: &&Limit| limit.counted == counted);
            these.min_by_key(|limit| limit.max)
        };
        let (rows, bytes) = (tightest(Counted::StatementRows), tightest(Counted::StatementBytes));
        let limit = rows.or(bytes)?;
        let ceiling = Ceiling {
            rows_max: rows.map(|limit| limit.max),
            bytes_max: bytes.map(|limit| limit.max),
            reply: self.too_much(limit, &decision()),
        };
        Some((ceiling, limit.into()))
    }

    fn too_much(&self, limit: &Limit, decision: &str) -> Reply {
        let policy = self.policy.short();
        let rule = &limit.rule;
        Reply {
            severity: Severity::Error,
            detail: Some(format!("Policy {policy}, rule {rule}, decision {decision}.").into()),
            hint: Some("Ask for less, for example with LIMIT.".into()),
            ..Reply::fatal(*b"54000", "canceling statement because it returns more than is allowed")
        }
    }
}

/// The larger decides.
fn strictness(decided: Decided) -> u8 {
    match decided {
        Decided::Allow => 0,
        Decided::WouldDeny => 1,
        Decided::Warn => 2,
        Decided::Mask => 3,
        Decided::Rewrite => 4,
        Decided::Deny => 5,
    }
}
