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
mod metering;
mod names;
mod requests;
mod ruling;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::oneshot;

pub use analyst::{Analysed, Analysts};
pub use asking::ToAsk;
pub use catalogs::{Catalogs, Whose};
pub use in_force::{Bell, InForce, Watcher};
pub use limits::{Activity, Before, Hit, Usage};
pub use ruling::{Ruling, Unconcerned};

use analyst::{Analysis, unanalysed};
use limits::Meter;
use names::Names;
use requests::{function_call, is_plain, named, not_known, unknown};

use super::identify::Who;
use crate::{
    audit::Now,
    catalog::{self, Resolution, SessionState, Slot},
    grants::Grants,
    pg::session::{Answer, Kind, Outcome, Ready, Statement, StatementId, TextState},
    policy::{Class, Policy, Subject, WallTime},
    sql::facts::{Facts, Unknown},
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
    /// Who opened the session: limits are his.
    opener: Arc<Who>,
    begun: Now,
    /// Of policy and grants together; 0 when nothing was looked at yet.
    epoch: u64,
    policy: Option<Arc<Policy>>,
    meter: Option<Meter>,
    /// Processes that wrote, with the class that they have without tags.
    classes: Vec<(Arc<Who>, Class)>,
    /// Roles that who opened the session was granted for a while.
    granted: Vec<Box<str>>,
    /// Whether he has any role.
    has_role: bool,
    names: Names,
    rulings: HashMap<(usize, u64), Kept>,
    texts: Vec<(Arc<[u8]>, Arc<Analysed>)>,
    /// The statement that is being looked at was analysed off the data path.
    analysed: Option<(StatementId, Arc<Analysed>)>,
    /// The catalog was read anew for this statement.
    refreshed_for: Option<StatementId>,
    under_way: Vec<(StatementId, Arc<Analysed>, usize)>,
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
    /// A grant of who opened the session has ended, or he has no role any more where something is protected.
    pub lost_role: bool,
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
            opener,
            begun,
            epoch: 0,
            policy: None,
            meter: None,
            classes: Vec::new(),
            granted: Vec::new(),
            has_role: false,
            names: Names::new(whose),
            rulings: HashMap::new(),
            texts: Vec::new(),
            analysed: None,
            refreshed_for: None,
            under_way: Vec::new(),
        };
        police.look_at_policy();
        police
    }

    /// The server owes nothing, and has reported what it reports. Not to be said while anything is in flight: that may change
    /// what was reported before.
    pub fn rests(&mut self) {
        self.names.state.ready();
        self.names.touched = true;
    }

    /// What has changed since the last look; `None` when nothing has.
    pub fn renewed(&mut self) -> Option<Renewed> {
        if self.shared.epoch() == self.epoch {
            return None;
        }
        let (granted, had_role) = (std::mem::take(&mut self.granted), self.has_role);
        self.look_at_policy();
        let ended = granted.iter().any(|role| !self.granted.contains(role));
        let shut_out = had_role && !self.has_role && self.is_protected();
        let epoch = self.policy.is_some().then_some(self.epoch);
        Some(Renewed { epoch, lost_role: ended || shut_out })
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
        self.granted = self.given(&self.subject(&opener));
        self.has_role = !class.has_no_role();
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

    /// Whether there is a policy at all.
    pub fn has_policy(&self) -> bool {
        self.policy.is_some()
    }

    /// Looks at a statement that waits, under the policy of the last [`Police::renewed`]. `may_ask`: the server is idle and owes nothing.
    pub fn look(&mut self, ready: &Ready, writers: &[Arc<Who>], may_ask: bool, now: Now) -> Look {
        let Some(policy) = self.policy.clone() else { return Look::Unconcerned };
        let classes: Vec<Class> = writers.iter().map(|who| self.class(&policy, who)).collect();
        let unconcerned = |class: &Class| class.has_no_role() && !class.is_protected();
        // A comment may have tags that give it a role.
        let commented = memchr::memmem::find(&ready.text, b"/*").is_some();
        if !commented && classes.iter().all(unconcerned) {
            return Look::Unconcerned;
        }
        if may_ask && let Some(question) = self.names.question_due(&self.shared, now) {
            return Look::Ask(question);
        }
        let analysed = match self.facts(ready) {
            Analysis::Done(analysed) => analysed,
            Analysis::Later(later) => return Look::Analysing(later),
        };
        let time = WallTime(now.wall.0 / 1_000_000_000);
        if self.names.have_changed() {
            self.rulings.clear();
        }
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
                            return Look::Ask(self.names.refresh());
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
        if self.names.answered(answer, &self.shared, now) {
            self.rulings.clear();
        }
    }

    /// A question could not be put.
    pub fn not_asked(&mut self, now: Now) {
        self.names.not_known(now);
        self.rulings.clear();
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
    }

    /// The server reported a setting.
    pub fn parameter(&mut self, name: &[u8], value: &[u8]) {
        if let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) {
            self.names.state.parameter(name, value);
            self.names.touched = true;
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
        let given = self.given(subject);
        let given: Vec<&str> = given.iter().map(|role| &**role).collect();
        policy.class_with(subject, &given)
    }

    fn given(&self, subject: &Subject) -> Vec<Box<str>> {
        let active = self.shared.grants.active(Now::read());
        let given = active.iter().filter(|grant| grant.matches(subject));
        given.map(|grant| grant.role.clone()).collect()
    }

    /// Whether anything is protected where the session is.
    fn is_protected(&self) -> bool {
        let of_opener = self.classes.iter().find(|(who, _)| Arc::ptr_eq(who, &self.opener));
        of_opener.is_some_and(|(_, class)| class.is_protected())
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
        self.names.may_be_kept().then_some(())?;
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
        if !resolution.own && self.names.may_be_kept() {
            if self.rulings.len() >= RULINGS_MAX {
                self.rulings.clear();
            }
            let kept =
                Kept { analysed: analysed.clone(), class: class.clone(), ruling: ruling.clone() };
            self.rulings.insert((Arc::as_ptr(analysed) as usize, class.key()), kept);
        }
        ruling
    }
}
