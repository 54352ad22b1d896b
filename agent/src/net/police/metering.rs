//! What limits say of a session, and whether it may begin at all.

use std::sync::Arc;

use super::{
    Police,
    limits::{Activity, Before, Hit, Meter},
};
use crate::{
    audit::{Decided, Now},
    catalog,
    net::recorder::Judgement,
    pg::{
        error::{Reply, Severity},
        session::Notice,
        startup::Parameters,
    },
    policy::WallTime,
};

impl Police {
    /// Whether the session may begin, with what its startup packet asks for. If not: what is recorded, and what the client
    /// hears.
    pub fn admit(&mut self, parameters: &Parameters, now: Now) -> Result<(), (String, Reply)> {
        let Some(policy) = self.policy.clone() else { return Ok(()) };
        if let Some(hit) = self.too_many_sessions().stop {
            let reply = Reply { severity: Severity::Fatal, ..self.reply(&hit, "-") };
            return Err((format!("rule {}: {}", hit.rule, hit.told()), reply));
        }
        let parameters: Vec<(&[u8], &[u8])> = parameters.iter().collect();
        let request = catalog::startup_request(&parameters);
        let opener = self.opener.clone();
        let class = self.class(&policy, &opener);
        let verdict = policy.judge(&class, &request, WallTime(now.wall.0 / 1_000_000_000));
        let Err(denial) = verdict.permit() else { return Ok(()) };
        let detail = denial.detail(policy.identity(), "-");
        let message = denial.message(None);
        let reply = Reply {
            detail: Some(detail.clone().into()),
            hint: denial.hint.as_ref().map(|hint| hint.to_string().into()),
            ..Reply::fatal(*b"42501", message.clone())
        };
        Err((format!("{message}: {detail}"), reply))
    }

    /// What the session's limits say of a statement that is about to go.
    pub fn before(&mut self, now: Now) -> Before {
        self.meter.as_mut().map_or_else(Before::default, |meter| meter.before(now))
    }

    /// What limits on the number of sessions say of this one.
    pub fn too_many_sessions(&self) -> Before {
        self.meter.as_ref().map_or_else(Before::default, Meter::too_many_sessions)
    }

    /// Whether there may be limits in time.
    pub fn limits_time(&self) -> bool {
        self.meter.as_ref().is_some_and(|meter| !meter.is_idle())
    }

    /// When the next limit in time is reached, those of `acted` left out; nanoseconds since boot.
    pub fn next_deadline(&self, activity: Activity, acted: &[Arc<str>]) -> Option<u64> {
        let deadlines = self.meter.as_ref()?.deadlines(activity);
        deadlines.filter(|(_, limit)| !acted.contains(&limit.rule)).map(|(at, _)| at).min()
    }

    /// Limits in time that are reached.
    pub fn passed(&self, activity: Activity, now: Now) -> Vec<Hit> {
        let deadlines = self.meter.iter().flat_map(|meter| meter.deadlines(activity));
        deadlines.filter(|(at, _)| *at <= now.boot.0).map(|(_, limit)| limit.into()).collect()
    }

    /// What the client hears of a limit that is reached.
    pub fn reply(&self, hit: &Hit, decision: &str) -> Reply {
        match &self.meter {
            Some(meter) => meter.reply(hit, decision),
            None => unreachable!("only a meter has limits"),
        }
    }

    /// The same as a warning.
    pub fn notice(&self, hit: &Hit, decision: &str) -> Option<Notice> {
        self.meter.as_ref().map(|meter| meter.notice(hit, decision))
    }

    /// How the record names a statement that a limit stops.
    pub fn stopped<'h>(&self, hit: &'h Hit, told: &'h str) -> Judgement<'h> {
        Judgement {
            decided: Decided::Deny,
            rules: vec![&hit.rule],
            sqlstate: hit.sqlstate(),
            reason: told,
            policy: self.policy.as_ref().map(|policy| policy.identity().0),
            pure_read: false,
        }
    }
}
