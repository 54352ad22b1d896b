//! Decides on every statement of a session before it goes: what protocol, grammar, catalog and policy each know apart comes
//! together here.
//!
//! ```text
//!   StatementReady ──► facts of its text ──► catalog::resolve ──► Policy::judge ──► Ruling ──► Decision
//!                        (analyst)          (asks the server,      (by class of
//!                                            when idle: asking)     the writers)
//! ```
//!
//! A ruling is kept for texts that come again, and made anew when the policy, the catalog, or what names mean in the session
//! changes.

mod analyst;
mod asking;
mod catalogs;
mod in_force;
mod limits;
mod ruling;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::oneshot;
use tracing::debug;

pub use analyst::{Analysed, Analysts};
pub use asking::ToAsk;
pub use catalogs::{Catalogs, Whose};
pub use in_force::{Bell, InForce, Watcher};
pub use limits::{Activity, Before, Hit, Usage};
pub use ruling::{Ruling, Unconcerned};

use analyst::{Analysis, unanalysed};
use asking::Asked;
use limits::Meter;

use super::{identify::Who, recorder::Judgement};
use crate::{
    audit::{Decided, Now},
    catalog::{self, Meaning, Resolution, SessionState, Slot, Snapshot, StateRow},
    grants::Grants,
    pg::{
        error::{Reply, Severity},
        session::{Answer, Kind, Notice, Outcome, Ready, Row, Statement, StatementId, TextState},
        startup::Parameters,
    },
    policy::{Class, Need, Object, Policy, Reached, Request, Subject, WallTime},
    sql::facts::{self, Effect, Encoding, Facts, Name, Reading, Unknown},
    sql::lex::Strings,
};

/// Rulings that a session keeps.
const RULINGS_MAX: usize = 1024;
/// Prepared texts of which the session knows the facts without a look at the text.
const TEXTS_MAX: usize = 64;
/// Statements under way that name something which counts when they are done.
const UNDER_WAY_MAX: usize = 4096;

/// What all sessions share.
#[derive(Debug)]
pub struct Shared {
    /// The policy.
    pub in_force: Arc<InForce>,
    /// Makes facts of texts.
    pub analysts: Arc<Analysts>,
    /// Snapshots of catalogs.
    pub catalogs: Catalogs,
    /// Roles that were granted for a while.
    pub grants: Arc<Grants>,
    /// What subjects took.
    pub usage: Arc<Usage>,
    /// For how long a catalog counts as current without another look.
    pub catalog_age_max: Duration,
}

impl Shared {
    /// Which decisions are current. Both numbers only grow.
    fn epoch(&self) -> u64 {
        self.in_force.epoch() + self.grants.epoch()
    }
}

/// Decides on the statements of one session.
pub struct Police {
    shared: Arc<Shared>,
    /// The session's login; what else there is of a subject comes from the process.
    login: Subject,
    whose: Whose,
    /// Who opened the session: limits are his.
    opener: Arc<Who>,
    begun: Now,
    /// Of policy and grants together; 0 when nothing was looked at yet.
    epoch: u64,
    policy: Option<Arc<Policy>>,
    meter: Option<Meter>,
    /// Processes that wrote, with the class that they have without tags.
    classes: Vec<(Arc<Who>, Class)>,
    /// Roles of who opened the session.
    roles: Vec<Arc<str>>,
    names: Names,
    rulings: HashMap<(usize, u64), Kept>,
    texts: Vec<(Arc<[u8]>, Arc<Analysed>)>,
    /// The statement that is being looked at was analysed off the data path.
    analysed: Option<(StatementId, Arc<Analysed>)>,
    /// The catalog was read anew for this statement.
    refreshed_for: Option<StatementId>,
    under_way: Vec<(StatementId, Arc<Analysed>, usize)>,
}

/// What names mean in the session.
struct Names {
    state: SessionState,
    catalog: Option<Arc<Snapshot>>,
    /// When the catalog was last known to be current, nanoseconds since boot.
    looked_at: Option<u64>,
    asked: Option<Asked>,
    /// To be asked as soon as the server rests: what the last answer left open.
    next: Option<Asked>,
    meaning: Option<Meaning>,
    /// What was sent since may have changed the meaning.
    touched: bool,
}

struct Kept {
    analysed: Arc<Analysed>,
    class: Class,
    ruling: Arc<Ruling>,
}

/// What has changed of what decisions rest on.
#[derive(Debug)]
pub struct Renewed {
    /// Under which epoch statements are decided now; `None`: there is no policy.
    pub epoch: Option<u64>,
    /// A role that who opened the session had, and has no more.
    pub lost: Option<Arc<str>>,
}

/// What comes of a look at a statement.
pub enum Look {
    /// No policy concerns it.
    Unconcerned,
    /// It is decided.
    Ruled(Arc<Ruling>),
    /// Its facts are being made; give them to [`Police::analysed`] and look again.
    Analysing(oneshot::Receiver<Arc<Analysed>>),
    /// The server is to be asked something first; give the answer to [`Police::answered`] and look again.
    Ask(ToAsk),
}

impl Police {
    /// For a session of `opener` whose login is `login`.
    pub fn new(
        shared: Arc<Shared>,
        login: Subject,
        whose: Whose,
        opener: Arc<Who>,
        begun: Now,
    ) -> Self {
        let mut police = Self {
            shared,
            login,
            whose,
            opener,
            begun,
            epoch: 0,
            policy: None,
            meter: None,
            classes: Vec::new(),
            roles: Vec::new(),
            names: Names {
                state: SessionState::unknown(),
                catalog: None,
                looked_at: None,
                asked: None,
                next: None,
                meaning: None,
                touched: true,
            },
            rulings: HashMap::new(),
            texts: Vec::new(),
            analysed: None,
            refreshed_for: None,
            under_way: Vec::new(),
        };
        police.look_at_policy();
        police
    }

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

    /// The server is idle, and has reported what it reports.
    pub fn rests(&mut self) {
        self.names.state.ready();
        self.names.touched = true;
    }

    /// What has changed since the last look; `None` when nothing has.
    pub fn renewed(&mut self) -> Option<Renewed> {
        if self.shared.epoch() == self.epoch {
            return None;
        }
        let before = std::mem::take(&mut self.roles);
        self.look_at_policy();
        let lost = before.into_iter().find(|role| !self.roles.contains(role));
        let epoch = self.policy.is_some().then_some(self.epoch);
        Some(Renewed { epoch, lost })
    }

    fn look_at_policy(&mut self) {
        self.epoch = self.shared.epoch();
        self.policy = self.shared.in_force.get();
        self.classes.clear();
        self.rulings.clear();
        let Some(policy) = self.policy.clone() else {
            self.meter = None;
            return;
        };
        let opener = self.opener.clone();
        let class = self.class(&policy, &opener);
        self.roles = policy.roles_of(&class);
        match &mut self.meter {
            Some(meter) => meter.renew(policy.identity(), class),
            None => {
                let subject = self.subject(&opener);
                let usage = self.shared.usage.clone();
                let meter = Meter::new(usage, policy.identity(), class, &subject, self.begun);
                self.meter = Some(meter);
            }
        }
    }

    /// Looks at a statement that waits. `may_ask`: the server is idle and owes nothing.
    pub fn look(&mut self, ready: &Ready, writers: &[Arc<Who>], may_ask: bool, now: Now) -> Look {
        if self.shared.epoch() != self.epoch {
            self.look_at_policy();
        }
        let Some(policy) = self.policy.clone() else { return Look::Unconcerned };
        let classes: Vec<Class> = writers.iter().map(|who| self.class(&policy, who)).collect();
        if classes.iter().all(|class| class.has_no_role() && !class.is_protected()) {
            return Look::Unconcerned;
        }
        if may_ask && let Some(question) = self.question_due(now) {
            return Look::Ask(question);
        }
        let analysed = match self.facts(ready) {
            Analysis::Done(analysed) => analysed,
            Analysis::Later(later) => return Look::Analysing(later),
        };
        let time = WallTime(now.wall.0 / 1_000_000_000);
        self.notice_meaning();
        let mut strictest: Option<Arc<Ruling>> = None;
        for (who, class) in writers.iter().zip(&classes) {
            let ruling = match self.kept(&analysed, class, time) {
                Some(ruling) => ruling,
                None => {
                    let resolution = self.resolve(ready, &analysed);
                    let mut resolution = resolution;
                    if resolution.stale && self.refreshed_for != Some(ready.id) {
                        // A name that nobody knows: it may have been made a moment ago.
                        if may_ask {
                            self.refreshed_for = Some(ready.id);
                            return Look::Ask(self.ask(Asked::State));
                        }
                        not_known(&mut resolution);
                    }
                    self.rule(&policy, who, class, &analysed, &resolution, time)
                }
            };
            strictest = Some(match strictest {
                Some(other) => other.stricter(ruling),
                None => ruling,
            });
        }
        match strictest {
            Some(ruling) => Look::Ruled(ruling),
            // There is always one who opened the session.
            None => Look::Unconcerned,
        }
    }

    /// Facts that were being made are there; `None`: nobody will make them.
    pub fn analysed(&mut self, id: StatementId, analysed: Option<Arc<Analysed>>) {
        let analysed = analysed.unwrap_or_else(|| Arc::new(unanalysed()));
        self.analysed = Some((id, analysed));
    }

    /// The server answered what it was asked.
    pub fn answered(&mut self, answer: Answer, now: Now) {
        let Some(asked) = self.names.asked.take() else { return };
        let rows = match answer.rows {
            Ok(rows) => rows,
            Err(why) => {
                debug!(?why, ?asked, "the catalog can't be read");
                // Names stand for all that they could, until it is tried again.
                self.names.looked_at = Some(now.boot.0);
                return;
            }
        };
        match asked {
            Asked::State => self.state_known(&rows, now),
            Asked::Stamp => self.stamp_known(&rows, now),
            Asked::Snapshot => self.snapshot_known(&rows, now),
        }
        self.names.touched = true;
    }

    /// Statement `id` goes to the server as `ruling` lets it.
    pub fn forwarded(&mut self, ready: &Ready, ruling: &Ruling) {
        let Analysis::Done(analysed) = self.facts(ready) else { return };
        let Ok(facts) = &analysed.facts else {
            // Whatever it did, names may mean something else behind it.
            self.names.state = SessionState::unknown();
            self.names.touched = true;
            return;
        };
        let count = ruling.forwarded();
        match ready.kind {
            Kind::Parse => {
                if let (Some(statement), Some(name)) =
                    (facts.statements.first(), named(&ready.name))
                {
                    self.names.state.name_sent(Slot::Prepared, &name, statement);
                }
            }
            Kind::Simple | Kind::Execute => {
                let catalog = self.names.catalog.as_deref();
                let mut handles = false;
                for statement in facts.statements.iter().take(count) {
                    self.names.state.forwarded(statement, catalog);
                    self.names.touched |= !is_plain(statement);
                    handles |= !statement.handles.is_empty();
                }
                if handles && self.under_way.len() < UNDER_WAY_MAX {
                    self.under_way.push((ready.id, analysed.clone(), count));
                }
            }
            Kind::Bind => {
                if let (Some(statement), Some(name)) =
                    (facts.statements.first(), named(&ready.portal))
                {
                    self.names.state.name_sent(Slot::Cursor, &name, statement);
                }
            }
            Kind::FunctionCall => {
                self.names.state = SessionState::unknown();
                self.names.touched = true;
            }
            Kind::Describe | Kind::Close => {}
        }
    }

    /// A statement came to its end.
    pub fn done(&mut self, done: &Statement, now: Now) {
        if let Some(meter) = &mut self.meter {
            let copied = done.copy_out.map_or((0, 0), |c| (c.rows.unwrap_or(0), c.bytes));
            meter.after(done.rows + copied.0, done.row_bytes + copied.1, now);
        }
        if let Some(at) = self.under_way.iter().position(|(id, ..)| *id == done.id) {
            let (_, analysed, count) = self.under_way.remove(at);
            if done.outcome == Outcome::Completed
                && let Ok(facts) = &analysed.facts
            {
                for statement in facts.statements.iter().take(count) {
                    self.names.state.completed(statement);
                }
                self.names.touched = true;
            }
        }
        if done.transaction.is_some() {
            self.names.state.ready();
        }
    }

    /// The server reported a setting.
    pub fn parameter(&mut self, name: &[u8], value: &[u8]) {
        if let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) {
            self.names.state.parameter(name, value);
            self.names.touched = true;
        }
    }

    /// A question could not be put: names stand for all that they could, until it is tried again.
    pub fn not_asked(&mut self, now: Now) {
        self.names.asked = None;
        self.names.next = None;
        self.names.looked_at = Some(now.boot.0);
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

    fn class(&mut self, policy: &Policy, who: &Arc<Who>) -> Class {
        if let Some((_, class)) = self.classes.iter().find(|(known, _)| Arc::ptr_eq(known, who)) {
            return class.clone();
        }
        let class = self.class_of(policy, &self.subject(who));
        self.classes.push((who.clone(), class.clone()));
        class
    }

    /// With the roles that were granted for a while.
    fn class_of(&self, policy: &Policy, subject: &Subject) -> Class {
        let active = self.shared.grants.active(Now::read());
        let given = active.iter().filter(|grant| grant.matches(subject));
        let given: Vec<&str> = given.map(|grant| &*grant.role).collect();
        policy.class_with(subject, &given)
    }

    fn subject(&self, who: &Who) -> Subject {
        let Subject { role, database, destination, application, .. } = self.login.clone();
        Subject { role, database, destination, application, ..who.subject.clone() }
    }

    fn facts(&mut self, ready: &Ready) -> Analysis {
        if let Some((id, analysed)) = &self.analysed
            && *id == ready.id
        {
            return Analysis::Done(analysed.clone());
        }
        match ready.text_state {
            TextState::Exact => {}
            // The server refuses it, whatever it says: nothing is asked for.
            TextState::Malformed => {
                let facts = Ok(Facts::default());
                return Analysis::Done(Arc::new(Analysed { facts, tags: Default::default() }));
            }
            TextState::Cut => {
                let facts = Err(Unknown::TooLong(ready.text_bytes));
                return Analysis::Done(Arc::new(Analysed { facts, tags: Default::default() }));
            }
            TextState::Unknown => return Analysis::Done(Arc::new(unanalysed())),
        }
        let known = self.texts.iter().find(|(text, _)| Arc::ptr_eq(text, &ready.text));
        if let Some((_, analysed)) = known {
            return Analysis::Done(analysed.clone());
        }
        let analysis = self.shared.analysts.analyse(&ready.text, self.names.reading());
        if let Analysis::Done(analysed) = &analysis
            // Nobody else holds the text of a simple query: it does not come again.
            && Arc::strong_count(&ready.text) > 1
        {
            if self.texts.len() >= TEXTS_MAX {
                self.texts.remove(0);
            }
            self.texts.push((ready.text.clone(), analysed.clone()));
        }
        analysis
    }

    fn kept(&self, analysed: &Arc<Analysed>, class: &Class, now: WallTime) -> Option<Arc<Ruling>> {
        self.names.meaning.as_ref()?;
        let kept = self.rulings.get(&(Arc::as_ptr(analysed) as usize, class.key()))?;
        let same = Arc::ptr_eq(&kept.analysed, analysed) && kept.class == *class;
        (same && kept.ruling.holds(now)).then(|| kept.ruling.clone())
    }

    fn resolve(&self, ready: &Ready, analysed: &Analysed) -> Resolution {
        let (state, catalog) = (&self.names.state, self.names.catalog.as_deref());
        if ready.kind == Kind::FunctionCall {
            return function_call(ready, catalog);
        }
        let held = |slot, name: &[u8]| match named(name) {
            Some(name) => catalog::resolve_held(slot, &name, state, catalog),
            None => unknown(Unknown::Unanalysed),
        };
        match (&analysed.facts, ready.text_state, ready.kind) {
            (Ok(facts), ..) => catalog::resolve(facts, state, catalog),
            (Err(_), TextState::Unknown, Kind::Execute) => held(Slot::Cursor, &ready.portal),
            (Err(_), TextState::Unknown, _) => held(Slot::Prepared, &ready.name),
            (Err(why), ..) => unknown(why.clone()),
        }
    }

    fn rule(
        &mut self,
        policy: &Policy,
        who: &Who,
        class: &Class,
        analysed: &Arc<Analysed>,
        resolution: &Resolution,
        now: WallTime,
    ) -> Arc<Ruling> {
        // What a comment says of the statement counts for it alone.
        let tagged = (!analysed.tags.is_empty()).then(|| {
            let subject = Subject { tags: analysed.tags.clone(), ..self.subject(who) };
            self.class_of(policy, &subject)
        });
        let judged_as = tagged.as_ref().unwrap_or(class);
        let mut verdicts = Vec::with_capacity(resolution.requests.len());
        for request in &resolution.requests {
            let verdict = policy.judge(judged_as, request, now);
            let refused = verdict.permit().is_err();
            verdicts.push(verdict);
            if refused {
                break;
            }
        }
        let statements = analysed.facts.as_ref().map_or(&[][..], |facts| &facts.statements);
        let ruling = Ruling::new(policy.identity(), verdicts, statements, &resolution.requests);
        let ruling = Arc::new(ruling);
        if !resolution.own && self.names.meaning.is_some() {
            if self.rulings.len() >= RULINGS_MAX {
                self.rulings.clear();
            }
            let kept =
                Kept { analysed: analysed.clone(), class: class.clone(), ruling: ruling.clone() };
            self.rulings.insert((Arc::as_ptr(analysed) as usize, class.key()), kept);
        }
        ruling
    }

    /// Forgets rulings when names may mean something else now.
    fn notice_meaning(&mut self) {
        if !std::mem::take(&mut self.names.touched) {
            return;
        }
        let meaning = self.names.state.meaning();
        if meaning != self.names.meaning {
            self.rulings.clear();
            self.names.meaning = meaning;
        }
    }

    /// What is to be asked before the next statement, now that the server rests.
    fn question_due(&mut self, now: Now) -> Option<ToAsk> {
        if let Some(next) = self.names.next.take() {
            return Some(self.ask(next));
        }
        let names = &self.names;
        let age_max = self.shared.catalog_age_max.as_nanos() as u64;
        let fresh = |at: u64| now.boot.0.saturating_sub(at) < age_max;
        let current = names.looked_at.is_some_and(fresh);
        // Where it can't be read, it is tried again after a while.
        let wanted = names.state.wants_refresh() && names.catalog.is_some();
        (!current || wanted).then(|| self.ask(Asked::State))
    }

    fn ask(&mut self, asked: Asked) -> ToAsk {
        self.names.asked = Some(asked);
        asked.question()
    }
}

impl Names {
    /// How the server reads texts, as far as it is certain.
    fn reading(&self) -> Reading {
        let readable = self.state.readable();
        Reading {
            encoding: match readable.utf8 {
                Some(true) => Encoding::Utf8,
                Some(false) | None => Encoding::Other,
            },
            strings: match readable.standard_strings {
                Some(true) => Strings::Standard,
                Some(false) | None => Strings::Unsure,
            },
        }
    }
}

/// What a call of a function by its number asks for.
fn function_call(ready: &Ready, catalog: Option<&Snapshot>) -> Resolution {
    let number = ready.function.unwrap_or(0);
    let named = catalog.and_then(|catalog| match catalog.function(number) {
        Some(function) => Some((function.schema.clone(), function.name.clone())),
        None => catalog.builtin(number).map(|name| (Name::new("pg_catalog"), name.clone())),
    });
    let Some((schema, name)) = named else { return unknown(Unknown::Code("function_call")) };
    let need = |action| Need {
        action,
        object: Object::Function { schema: Some(schema.clone()), name: name.clone() },
        reached: Reached::Named,
    };
    let request = Request {
        kind: facts::Kind("function call"),
        needs: vec![need(Effect::FunctionCall), need(Effect::Execute)],
        unknown: Vec::new(),
        fingerprint: u64::from(number),
    };
    Resolution { requests: vec![request], stale: false, own: true }
}

/// What a text asks for of which nothing is known but why.
fn unknown(why: Unknown) -> Resolution {
    let request = Request {
        kind: facts::Kind("unknown"),
        needs: Vec::new(),
        unknown: vec![why],
        fingerprint: 0,
    };
    Resolution { requests: vec![request], stale: false, own: true }
}

/// What names stand for is not certain: a relation may be a view of another, a function may read any. For this one time.
fn not_known(resolution: &mut Resolution) {
    resolution.own = true;
    for request in &mut resolution.requests {
        let named = request.needs.iter().any(|need| match need.object {
            Object::Relation { .. } | Object::Function { .. } => true,
            Object::Other { .. }
            | Object::Setting(_)
            | Object::Role(_)
            | Object::Channel(_)
            | Object::Session => false,
        });
        if named {
            request.unknown.push(Unknown::Catalog);
        }
    }
}

/// Whether it changes nothing of what names mean.
fn is_plain(statement: &facts::Statement) -> bool {
    statement.settings.is_empty() && statement.objects.is_empty() && statement.handles.is_empty()
}

/// A name that SQL could say, too.
fn named(name: &[u8]) -> Option<Name> {
    let text = std::str::from_utf8(name).ok().filter(|text| !text.is_empty())?;
    Some(Name::new(text))
}

impl Police {
    fn state_known(&mut self, rows: &[Row], now: Now) {
        let Some(row) = rows.first().and_then(StateRow::read) else {
            debug!("the session's state is not as asked for");
            self.names.looked_at = Some(now.boot.0);
            return;
        };
        let horizon = row.horizon.clone();
        self.names.state.learned(row);
        let newest = self.shared.catalogs.newest(&self.whose);
        match newest {
            None => self.names.next = Some(Asked::Snapshot),
            Some(newest) if newest.epoch().still_at(&horizon) => self.use_catalog(newest, now),
            Some(_) => self.names.next = Some(Asked::Stamp),
        }
    }

    fn stamp_known(&mut self, rows: &[Row], now: Now) {
        let stamp = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
        match self.shared.catalogs.newest(&self.whose) {
            Some(newest) if stamp == Some(newest.epoch().stamp.as_bytes()) => {
                self.use_catalog(newest, now);
            }
            Some(_) | None => self.names.next = Some(Asked::Snapshot),
        }
    }

    fn snapshot_known(&mut self, rows: &[Row], now: Now) {
        match Snapshot::read(rows) {
            Ok(snapshot) => {
                let snapshot = self.shared.catalogs.put(&self.whose, snapshot);
                self.use_catalog(snapshot, now);
            }
            Err(error) => {
                debug!(%error, "the catalog is not as asked for");
                self.names.looked_at = Some(now.boot.0);
            }
        }
    }

    fn use_catalog(&mut self, catalog: Arc<Snapshot>, now: Now) {
        let same = self.names.catalog.as_ref().is_some_and(|known| Arc::ptr_eq(known, &catalog));
        if !same {
            self.rulings.clear();
        }
        self.names.catalog = Some(catalog);
        self.names.looked_at = Some(now.boot.0);
        self.names.state.catalog_refreshed();
    }
}
