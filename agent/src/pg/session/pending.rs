//! What the server owes: one entry per client message that will be answered.

use std::collections::VecDeque;
use std::sync::Arc;

use super::names::{Name, cut};
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
    entries: VecDeque<(Pending, u32)>,
    /// Bytes of texts and parameters.
    bytes: usize,
    /// `Sync` entries.
    syncs: usize,
    /// Entries that change what the name of a prepared statement means.
    definitions: usize,
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
        self.syncs += usize::from(matches!(pending, Pending::Sync));
        self.definitions += usize::from(pending.is_definition());
        self.bytes += weight;
        // A frame is shorter than 1 GiB, so the weight of one fits.
        self.entries.push_back((pending, u32::try_from(weight).unwrap_or(u32::MAX)));
    }

    #[inline]
    pub(super) fn front(&mut self) -> Option<&mut Pending> {
        self.entries.front_mut().map(|(pending, _)| pending)
    }

    #[inline]
    pub(super) fn back(&mut self) -> Option<&mut Pending> {
        self.entries.back_mut().map(|(pending, _)| pending)
    }

    pub(super) fn second(&self) -> Option<&Pending> {
        self.entries.get(1).map(|(pending, _)| pending)
    }

    /// Takes the oldest entry, and drops COPY data behind it: no COPY took it, and the server drops
    /// it too.
    pub(super) fn pop(&mut self) -> Option<Pending> {
        let popped = self.remove(0);
        while let Some(Pending::Copy(_)) = self.front() {
            self.remove(0);
        }
        popped
    }

    pub(super) fn pop_second(&mut self) -> Option<Pending> {
        self.remove(1)
    }

    /// Adds `Sync` entries behind the oldest entry.
    pub(super) fn push_syncs_second(&mut self, count: u32) {
        let index = self.entries.len().min(1);
        for _ in 0..count {
            self.entries.insert(index, (Pending::Sync, 0));
        }
        self.syncs += count as usize;
    }

    fn remove(&mut self, index: usize) -> Option<Pending> {
        let (pending, weight) = self.entries.remove(index)?;
        self.bytes -= weight as usize;
        self.syncs -= usize::from(matches!(pending, Pending::Sync));
        self.definitions -= usize::from(pending.is_definition());
        if self.entries.is_empty() && self.entries.capacity() > 2 * ROOM_KEPT {
            self.entries.shrink_to(ROOM_KEPT);
        }
        Some(pending)
    }

    /// What statement `name` will be when everything owed has succeeded: `Err` if nothing owed
    /// changes it.
    pub(super) fn statement(&self, name: &Name) -> Result<Option<Arc<Prepared>>, Unchanged> {
        if self.definitions == 0 {
            return Err(Unchanged);
        }
        for (pending, _) in self.entries.iter().rev().take(LOOK_BACK_MAX) {
            match pending {
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

    /// The same for portal `name`.
    pub(super) fn portal(&self, name: &Name) -> Result<Option<Arc<Bound>>, Unchanged> {
        for (pending, _) in self.entries.iter().rev().take(LOOK_BACK_MAX) {
            match pending {
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

/// Whether a statement that the server refuses on sight is answered by anything but an error.
pub(super) fn must_fail(statement: &Statement) -> bool {
    match statement.text_state {
        TextState::Malformed => true,
        TextState::Exact | TextState::Cut | TextState::Unknown => false,
    }
}
