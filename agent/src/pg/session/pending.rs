//! What the server owes: one entry per client message that will be answered.

use std::collections::VecDeque;
use std::sync::Arc;

use super::decision::Said;
use super::names::{Name, cut};
use super::plan::Plan;
use super::report::{Bound, Kind, Prepared, Span, Statement, StatementId, TextState};
use crate::pg::codec::TEXT_KEPT_BYTES_MIN;
use crate::pg::frontend::Target;

/// Where a message came from, for a report should it fail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) id: StatementId,
    pub(super) span: Span,
    pub(super) started: u64,
}

impl Origin {
    pub(super) fn statement(self, kind: Kind) -> Box<Statement> {
        Box::new(Statement::new(self.id, kind, self.span, self.started))
    }
}

/// A client message that waits for its answer.
pub(super) enum Pending {
    /// `Q`: any results, then `Z`.
    Query(Box<Statement>),
    /// `F`: `V` and `Z`.
    FunctionCall(Box<Statement>),
    /// `P`: `1`.
    Parse { origin: Origin, prepared: Arc<Prepared> },
    /// `B`: `2`. `generation` is that of the names when `bound.prepared` was looked up, `None` if
    /// it was guessed from messages in front.
    Bind { origin: Origin, portal: Name, bound: Arc<Bound>, generation: Option<u64> },
    /// `D`: (`t`), then `T` or `n`.
    Describe { origin: Origin, target: Target, name: Name },
    /// `C`: `3`.
    Close { origin: Origin, target: Target, name: Name },
    /// `E`: a result, ended by `C`, `I` or `s`.
    Execute(Box<Statement>),
    /// A malformed message of the extended protocol: `E` and nothing else.
    Malformed(Box<Statement>),
    /// `S`: `Z`. Ignored while the server takes COPY data.
    Sync,
    /// `d`, `c` and `f` in a row: taken by a COPY, or dropped by the server, never answered.
    Copy(CopyRun),
}

/// COPY data between two other messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CopyRun {
    pub(super) bytes: u64,
    pub(super) lines: u64,
    /// The last byte was no line end.
    pub(super) line_open: bool,
    /// A `CopyDone` or `CopyFail` came.
    pub(super) ended: bool,
}

impl CopyRun {
    /// Adds part of a `CopyData` body.
    pub(super) fn push(&mut self, data: &[u8]) {
        let Some(&last) = data.last() else { return };
        self.bytes += data.len() as u64;
        self.lines += memchr::memchr_iter(b'\n', data).count() as u64;
        self.line_open = last != b'\n';
    }
}

impl CopyRun {
    /// Adds the run that follows this one.
    pub(super) fn append(&mut self, next: Self) {
        self.bytes += next.bytes;
        self.lines += next.lines;
        if next.bytes > 0 {
            self.line_open = next.line_open;
        }
    }
}

impl Pending {
    /// Bytes of text and parameters it keeps.
    pub(super) fn weight(&self) -> usize {
        match self {
            // An `Execute` shares what it keeps with its `Bind`.
            Self::Query(statement) | Self::Malformed(statement) => statement.text.len(),
            Self::FunctionCall(statement) => {
                statement.bound.as_ref().map_or(0, |bound| bound.parameters.weight())
            }
            Self::Parse { origin: _, prepared } => prepared.weight(),
            Self::Bind { bound, .. } => bound.parameters.weight(),
            Self::Describe { .. }
            | Self::Close { .. }
            | Self::Execute(_)
            | Self::Sync
            | Self::Copy(_) => 0,
        }
    }

    /// The same with the beginning of its text; parameters were left out when they were read.
    pub(super) fn outline(self) -> Self {
        match self {
            Self::Query(statement) => Self::Query(cut_statement(statement)),
            Self::Malformed(statement) => Self::Malformed(cut_statement(statement)),
            Self::Parse { origin, prepared } => {
                Self::Parse { origin, prepared: Arc::new(cut(&prepared)) }
            }
            whole @ (Self::FunctionCall(_)
            | Self::Bind { .. }
            | Self::Describe { .. }
            | Self::Close { .. }
            | Self::Execute(_)
            | Self::Sync
            | Self::Copy(_)) => whole,
        }
    }

    /// What it waits for, in words.
    pub(super) fn awaited(&self) -> &'static str {
        match self {
            Self::Query(_) => "Query",
            Self::FunctionCall(_) => "FunctionCall",
            Self::Parse { .. } => "Parse",
            Self::Bind { .. } => "Bind",
            Self::Describe { .. } => "Describe",
            Self::Close { .. } => "Close",
            Self::Execute(_) => "Execute",
            Self::Malformed(_) => "a malformed message",
            Self::Sync => "Sync",
            Self::Copy(_) => "COPY data",
        }
    }

    /// Number of the message, for those that have one.
    pub(super) fn id(&self) -> Option<StatementId> {
        match self {
            Self::Query(statement)
            | Self::FunctionCall(statement)
            | Self::Execute(statement)
            | Self::Malformed(statement) => Some(statement.id),
            Self::Parse { origin, .. }
            | Self::Bind { origin, .. }
            | Self::Describe { origin, .. }
            | Self::Close { origin, .. } => Some(origin.id),
            Self::Sync | Self::Copy(_) => None,
        }
    }

    /// What kind of message it came by, for those that have an id.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Query(statement)
            | Self::FunctionCall(statement)
            | Self::Execute(statement)
            | Self::Malformed(statement) => Some(statement.kind),
            Self::Parse { .. } => Some(Kind::Parse),
            Self::Bind { .. } => Some(Kind::Bind),
            Self::Describe { .. } => Some(Kind::Describe),
            Self::Close { .. } => Some(Kind::Close),
            Self::Sync | Self::Copy(_) => None,
        }
    }

    /// The statement under way, where there is one.
    pub(super) fn statement(&mut self) -> Option<&mut Statement> {
        match self {
            Self::Query(statement)
            | Self::FunctionCall(statement)
            | Self::Execute(statement)
            | Self::Malformed(statement) => Some(statement),
            Self::Parse { .. }
            | Self::Bind { .. }
            | Self::Describe { .. }
            | Self::Close { .. }
            | Self::Sync
            | Self::Copy(_) => None,
        }
    }

    /// A report of its end other than success, where there is one to make.
    pub(super) fn into_statement(self) -> Option<Box<Statement>> {
        match self {
            Self::Query(statement)
            | Self::FunctionCall(statement)
            | Self::Execute(statement)
            | Self::Malformed(statement) => Some(statement),
            Self::Parse { origin, prepared } => {
                let mut statement = origin.statement(Kind::Parse);
                statement.apply_prepared(&prepared);
                Some(statement)
            }
            Self::Bind { origin, portal, bound, generation: _ } => {
                let mut statement = origin.statement(Kind::Bind);
                statement.portal = portal;
                statement.apply(Some(bound));
                Some(statement)
            }
            Self::Describe { origin, target, name } => {
                Some(named(origin.statement(Kind::Describe), target, name))
            }
            Self::Close { origin, target, name } => {
                Some(named(origin.statement(Kind::Close), target, name))
            }
            Self::Sync | Self::Copy(_) => None,
        }
    }

    /// Whether it changes what the name of a prepared statement means.
    fn is_definition(&self) -> bool {
        match self {
            Self::Parse { .. } | Self::Close { target: Target::Statement, .. } => true,
            Self::Query(_)
            | Self::FunctionCall(_)
            | Self::Bind { .. }
            | Self::Describe { .. }
            | Self::Close { target: Target::Portal, .. }
            | Self::Execute(_)
            | Self::Malformed(_)
            | Self::Sync
            | Self::Copy(_) => false,
        }
    }

    /// Whether its end is reported even if it did not fail by itself.
    pub(super) fn is_execution(&self) -> bool {
        match self {
            Self::Query(_) | Self::FunctionCall(_) | Self::Execute(_) => true,
            Self::Parse { .. }
            | Self::Bind { .. }
            | Self::Describe { .. }
            | Self::Close { .. }
            | Self::Malformed(_)
            | Self::Sync
            | Self::Copy(_) => false,
        }
    }
}

fn cut_statement(mut statement: Box<Statement>) -> Box<Statement> {
    if statement.text.len() > TEXT_KEPT_BYTES_MIN {
        statement.text = statement.text[..TEXT_KEPT_BYTES_MIN].into();
        if statement.text_state == TextState::Exact {
            statement.text_state = TextState::Cut;
        }
    }
    statement
}

fn named(mut statement: Box<Statement>, target: Target, name: Name) -> Box<Statement> {
    match target {
        Target::Portal => statement.portal = name,
        Target::Statement => {
            let parameters = Default::default();
            let bound = Bound { statement: name, prepared: None, parameters };
            statement.bound = Some(Arc::new(bound));
        }
    }
    statement
}

/// The answers owed, oldest first, and what they keep in memory.
#[derive(Default)]
pub(super) struct Owed {
    entries: VecDeque<Entry>,
    /// Bytes of texts and parameters.
    bytes: usize,
    /// `Sync` entries.
    syncs: usize,
    /// Entries that change what the name of a prepared statement means.
    definitions: usize,
}

/// One answer owed.
struct Entry {
    pending: Pending,
    /// Bytes of texts and parameters.
    weight: u32,
    /// What is to be done about its answers; for most, nothing.
    plan: Option<Box<Plan>>,
}

/// Entries for which room is kept when nothing is owed.
const ROOM_KEPT: usize = 32;
/// Entries searched backwards for what a name will mean. Beyond, it counts as not known yet.
const LOOK_BACK_MAX: usize = 64;

impl Owed {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn syncs(&self) -> usize {
        self.syncs
    }

    pub(super) fn push(&mut self, pending: Pending, weight: usize) {
        self.push_planned(pending, weight, None);
    }

    pub(super) fn push_planned(
        &mut self,
        pending: Pending,
        weight: usize,
        plan: Option<Box<Plan>>,
    ) {
        self.syncs += usize::from(matches!(pending, Pending::Sync));
        self.definitions += usize::from(pending.is_definition());
        self.bytes += weight;
        // A frame is shorter than 1 GiB, so the weight of one fits.
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        self.entries.push_back(Entry { pending, weight, plan });
    }

    #[inline]
    pub(super) fn front(&mut self) -> Option<&mut Pending> {
        self.entries.front_mut().map(|entry| &mut entry.pending)
    }

    /// The oldest entry and what is to be done about its answers.
    #[inline]
    pub(super) fn front_planned(&mut self) -> Option<(&mut Pending, Option<&mut Plan>)> {
        let Entry { pending, weight: _, plan } = self.entries.front_mut()?;
        Some((pending, plan.as_deref_mut()))
    }

    /// What is to be done about the answers to the oldest entry.
    #[inline]
    pub(super) fn plan(&mut self) -> Option<&mut Plan> {
        self.entries.front_mut()?.plan.as_deref_mut()
    }

    /// The next cancel is told as `said`, whether it meets the execution `id` or what prepares it: the server keeps answers to
    /// itself, so that what stands in front may be done long since. Returns whether it can meet nothing else.
    pub(super) fn explain_cancel(&mut self, id: StatementId, said: &Said) -> bool {
        let at = self.entries.iter().take(LOOK_BACK_MAX).position(|e| e.pending.id() == Some(id));
        let Some(at) = at else { return false };
        let prepares = |pending: &Pending| match pending {
            Pending::Parse { .. }
            | Pending::Bind { .. }
            | Pending::Describe { .. }
            | Pending::Close { .. } => true,
            Pending::Query(_)
            | Pending::FunctionCall(_)
            | Pending::Execute(_)
            | Pending::Malformed(_)
            | Pending::Sync
            | Pending::Copy(_) => false,
        };
        if !self.entries.iter().take(at).all(|entry| prepares(&entry.pending)) {
            return false;
        }
        for entry in self.entries.iter_mut().take(at + 1) {
            entry.plan.get_or_insert_default().cancel = Some(said.clone());
        }
        true
    }

    #[inline]
    pub(super) fn back(&mut self) -> Option<&mut Pending> {
        self.entries.back_mut().map(|entry| &mut entry.pending)
    }

    pub(super) fn second(&self) -> Option<&Pending> {
        self.entries.get(1).map(|entry| &entry.pending)
    }

    /// Takes the oldest entry, and drops COPY data behind it: no COPY took it, and the server drops
    /// it too.
    pub(super) fn pop(&mut self) -> Option<Pending> {
        self.pop_planned().map(|(pending, _)| pending)
    }

    /// The same, with what was to be done about its answers.
    pub(super) fn pop_planned(&mut self) -> Option<(Pending, Option<Box<Plan>>)> {
        let popped = self.remove(0);
        while let Some(Pending::Copy(_)) = self.front() {
            self.remove(0);
        }
        popped
    }

    pub(super) fn pop_second(&mut self) -> Option<Pending> {
        self.remove(1).map(|(pending, _)| pending)
    }

    /// Adds `Sync` entries behind the oldest entry.
    pub(super) fn push_syncs_second(&mut self, count: u32) {
        let index = self.entries.len().min(1);
        for _ in 0..count {
            let sync = Entry { pending: Pending::Sync, weight: 0, plan: None };
            self.entries.insert(index, sync);
        }
        self.syncs += count as usize;
    }

    fn remove(&mut self, index: usize) -> Option<(Pending, Option<Box<Plan>>)> {
        let Entry { pending, weight, plan } = self.entries.remove(index)?;
        self.bytes -= weight as usize;
        self.syncs -= usize::from(matches!(pending, Pending::Sync));
        self.definitions -= usize::from(pending.is_definition());
        if self.entries.is_empty() && self.entries.capacity() > 2 * ROOM_KEPT {
            self.entries.shrink_to(ROOM_KEPT);
        }
        Some((pending, plan))
    }

    /// What statement `name` will be when everything owed has succeeded: `Err` if nothing owed
    /// changes it.
    pub(super) fn statement(&self, name: &Name) -> Result<Option<Arc<Prepared>>, Unchanged> {
        if self.definitions == 0 {
            return Err(Unchanged);
        }
        for Entry { pending, weight: _, plan } in self.entries.iter().rev().take(LOOK_BACK_MAX) {
            let refused = plan.as_ref().is_some_and(|plan| plan.refused.is_some());
            match pending {
                // It fails, and leaves what was there before.
                Pending::Parse { prepared, origin: _ } if refused && !prepared.name.is_empty() => {}
                Pending::Parse { prepared, origin: _ } if refused && name.is_empty() => {
                    return Ok(None);
                }
                Pending::Bind { .. } if refused => {}
                Pending::Parse { prepared, origin: _ } if prepared.name.may_be(name) => {
                    return Ok(prepared.name.is(name).then(|| Arc::clone(prepared)));
                }
                Pending::Bind { bound, .. } if bound.statement.is(name) => {
                    return Ok(bound.prepared.clone());
                }
                Pending::Close { target: Target::Statement, name: closed, origin: _ }
                    if closed.may_be(name) =>
                {
                    return Ok(None);
                }
                _ => {}
            }
        }
        if self.entries.len() > LOOK_BACK_MAX { Ok(None) } else { Err(Unchanged) }
    }

    /// Whether what statement `name` will be depends on how something in front of a `Sync` ends that
    /// was sent already: if it fails, an older one is meant.
    pub(super) fn doubts_statement(&self, name: &Name) -> bool {
        self.definitions > 0
            && self.doubts(|pending| match pending {
                Pending::Parse { prepared, origin: _ } => prepared.name.may_be(name),
                Pending::Close { target: Target::Statement, name: closed, origin: _ } => {
                    closed.may_be(name)
                }
                _ => false,
            })
    }

    /// The same for portal `name`.
    pub(super) fn doubts_portal(&self, name: &Name) -> bool {
        self.doubts(|pending| match pending {
            Pending::Bind { portal, .. } => portal.may_be(name),
            Pending::Close { target: Target::Portal, name: closed, origin: _ } => {
                closed.may_be(name)
            }
            _ => false,
        })
    }

    fn doubts(&self, defines: impl Fn(&Pending) -> bool) -> bool {
        let newest = self.entries.iter().rev().map(|entry| &entry.pending);
        let mut behind_sync = newest.skip_while(|pending| !matches!(pending, Pending::Sync));
        behind_sync.any(defines)
    }

    /// The same for portal `name`.
    pub(super) fn portal(&self, name: &Name) -> Result<Option<Arc<Bound>>, Unchanged> {
        for Entry { pending, weight: _, plan } in self.entries.iter().rev().take(LOOK_BACK_MAX) {
            let refused = plan.as_ref().is_some_and(|plan| plan.refused.is_some());
            match pending {
                Pending::Bind { .. } if refused => {}
                Pending::Bind { bound, portal, .. } if portal.may_be(name) => {
                    return Ok(portal.is(name).then(|| Arc::clone(bound)));
                }
                Pending::Close { target: Target::Portal, name: closed, origin: _ }
                    if closed.may_be(name) =>
                {
                    return Ok(None);
                }
                _ => {}
            }
        }
        if self.entries.len() > LOOK_BACK_MAX { Ok(None) } else { Err(Unchanged) }
    }
}

/// Nothing owed changes the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unchanged;

/// Whether the server can answer a statement by nothing but an error: it refuses what it got on
/// sight.
pub(super) fn must_fail(statement: &Statement, plan: Option<&Plan>) -> bool {
    if let Some(plan) = plan.filter(|plan| plan.refused.is_some()) {
        return plan.must_fail();
    }
    match statement.text_state {
        TextState::Malformed => true,
        TextState::Exact | TextState::Cut | TextState::Unknown => false,
    }
}
