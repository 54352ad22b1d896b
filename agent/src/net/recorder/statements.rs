//! Before a statement goes: its text, its values, its intent.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Recorder, texts::Place, texts::Texts};
use crate::{
    audit::{
        Class, Excerpt, Intent, Introduced, NotRecorded, Now, PARAMETERS_MAX, Parameter,
        Parameters, Record, StatementKind, Text, TextState, Ticket, Tier, Value, What, Writers,
    },
    config::{self, AuditMode},
    net::identify::Who,
    pg::session::{self as core, Ready, StatementId},
};

/// What a session remembers of its statements.
#[derive(Debug, Default)]
pub(super) struct Statements {
    texts: Texts,
    /// Intents without an outcome, oldest first, and who they say wrote the statement.
    under_way: VecDeque<UnderWay>,
    pub(super) done: u64,
}

/// A statement that was sent, or is about to be.
#[derive(Clone, Debug)]
pub(super) struct UnderWay {
    id: StatementId,
    pub(super) seq: u64,
    pub(super) written: Written,
}

/// Who wrote a statement, by the `seq` of the records that name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    writer: u64,
    tier: Tier,
    shared_with: Vec<u64>,
}

impl Written {
    pub(super) fn writers(&self) -> Writers<'_> {
        Writers { writer: self.writer, tier: self.tier, shared_with: &self.shared_with }
    }
}

impl Statements {
    /// Statements that came to their end.
    pub(super) fn total(&self) -> u64 {
        self.done
    }

    /// Takes the intent of a statement that came to its end.
    pub(super) fn take(&mut self, id: StatementId) -> Option<UnderWay> {
        // Answers come in the order of requests: it is the first, or near it.
        let at = self.under_way.iter().position(|statement| statement.id == id)?;
        self.under_way.remove(at)
    }
}

impl Recorder {
    /// Records that a statement is about to go. A `Parse` runs nothing: of it the text is recorded, once.
    pub(super) fn intent(&mut self, ready: &Ready, now: Now) -> Result<(), NotRecorded> {
        let ticket = match ready.kind {
            core::Kind::Parse => self.introduce(ready, now)?,
            core::Kind::Simple
            | core::Kind::Execute
            | core::Kind::FunctionCall
            | core::Kind::Bind
            | core::Kind::Describe
            | core::Kind::Close => Some(self.intend(ready, now)?),
        };
        self.to_go = self.to_go.max(ticket);
        if self.mode == AuditMode::Overlap {
            self.to_answer = self.to_answer.max(ticket);
        }
        self.mark(now)
    }

    fn introduce(&mut self, ready: &Ready, now: Now) -> Result<Option<Ticket>, NotRecorded> {
        let state = text_state(ready.text_state);
        let place = self.statements.texts.find(&ready.text, ready.text_bytes, state as u8);
        let Place::New(key) = place else { return Ok(None) };
        let seq = self.seq.next();
        let audit = self.recording.audit.clone();
        let encoding = self.beginning.encoding();
        let record = Introduced {
            kind: StatementKind::Parse,
            text: held(&ready.text, ready.text_bytes, &audit),
            text_state: state,
            client_encoding: encoding.as_deref(),
            name: &ready.name,
            beside: None,
        };
        let ticket = self.put_beside(Class::Ordinary, now, &record, &[])?;
        self.statements.texts.note(key, seq);
        Ok(Some(ticket))
    }

    fn intend(&mut self, ready: &Ready, now: Now) -> Result<Ticket, NotRecorded> {
        let written = self.written(ready.span)?;
        let asked = Asked {
            kind: kind(ready.kind),
            text: &ready.text,
            text_bytes: ready.text_bytes,
            text_state: text_state(ready.text_state),
            name: &ready.name,
            portal: &ready.portal,
            function: ready.function,
            parameters: ready.parameters().take(PARAMETERS_MAX).collect(),
            parameters_count: ready.parameters_count(),
        };
        let seq = self.seq.next();
        let ticket = self.describe(&asked, &written, now, |recorder, what, values| {
            recorder.put_beside(Class::Ordinary, now, &Intent { what: *what }, values)
        })?;
        self.statements.under_way.push_back(UnderWay { id: ready.id, seq, written });
        Ok(ticket)
    }

    /// Hands what is recorded of a statement to `put`, which records it with the next `seq`.
    pub(super) fn describe(
        &mut self,
        asked: &Asked<'_>,
        written: &Written,
        _now: Now,
        put: impl FnOnce(&mut Self, &What<'_>, &[u8]) -> Result<Ticket, NotRecorded>,
    ) -> Result<Ticket, NotRecorded> {
        let audit = self.recording.audit.clone();
        let seq = self.seq.next();
        let state = asked.text_state;
        let (text, key) =
            match self.statements.texts.find(asked.text, asked.text_bytes, state as u8) {
                _ if asked.text_bytes == 0 => (Text::None, None),
                Place::Recorded(seq) => (Text::Ref(seq), None),
                Place::New(key) => (held(asked.text, asked.text_bytes, &audit), key),
            };
        let parameters: Vec<Parameter<'_>> = asked
            .parameters
            .iter()
            .map(|p| Parameter {
                format: p.format,
                type_oid: p.type_oid,
                value: p.value.map_or(Value::Null, |kept| {
                    let value = Excerpt::beginning(kept, p.bytes.into());
                    Value::Clear(value.shortened(audit.parameter_bytes_max))
                }),
            })
            .collect();
        let encoding = self.beginning.encoding();
        let what = What {
            kind: asked.kind,
            text,
            text_state: state,
            client_encoding: encoding.as_deref(),
            name: asked.name,
            portal: asked.portal,
            function_oid: asked.function,
            parameters: match audit.parameters {
                config::Parameters::Omit => Parameters::Omitted(asked.parameters_count),
                config::Parameters::Record => {
                    Parameters::Listed(&parameters, asked.parameters_count)
                }
            },
            beside: None,
            writer: written.writers(),
        };
        let ticket = put(self, &what, &[])?;
        self.statements.texts.note(key, seq);
        Ok(ticket)
    }

    /// Records something of this session with values that are held beside it.
    pub(super) fn put_beside<'r>(
        &mut self,
        class: Class,
        now: Now,
        record: impl Into<Record<'r>>,
        values: &[u8],
    ) -> Result<Ticket, NotRecorded> {
        let stamp = self.seq.stamp(now);
        let put = self.recording.sink.record_beside(class, &stamp, record, values)?;
        self.seq.recorded(&put.leaf);
        Ok(put.ticket)
    }

    /// Who wrote the bytes of `span`, as far as is known now. Processes that are new get a record.
    pub(super) fn written(&mut self, span: core::Span) -> Result<Written, NotRecorded> {
        let written = self.turns.of(span.start..span.end);
        let (writer, tier): (Arc<Who>, _) = (written.writer.clone(), written.tier);
        let shared: Vec<Arc<Who>> = written.shared.into_iter().cloned().collect();
        let tier = match self.confidence() {
            crate::audit::Confidence::Exact => tier.unwrap_or(self.recording.tier),
            crate::audit::Confidence::OpenerOrLater => Tier::T0,
        };
        let writer = self.writer(&writer, tier)?;
        let shared_with =
            shared.iter().map(|who| self.writer(who, tier)).collect::<Result<_, _>>()?;
        Ok(Written { writer, tier, shared_with })
    }
}

/// A statement, from whatever describes it.
pub(super) struct Asked<'a> {
    pub(super) kind: StatementKind,
    pub(super) text: &'a [u8],
    pub(super) text_bytes: usize,
    pub(super) text_state: TextState,
    pub(super) name: &'a [u8],
    pub(super) portal: &'a [u8],
    pub(super) function: Option<u32>,
    pub(super) parameters: Vec<core::Parameter<'a>>,
    pub(super) parameters_count: usize,
}

fn held<'a>(text: &'a [u8], full_bytes: usize, audit: &config::Audit) -> Text<'a> {
    let clear = Excerpt::beginning(text, full_bytes as u64).shortened(audit.statement_bytes_max);
    Text::Held { clear, commitment: None, full_bytes: None, never: None }
}

pub(super) fn text_state(state: core::TextState) -> TextState {
    match state {
        // That it was cut is said by the excerpt.
        core::TextState::Exact | core::TextState::Cut => TextState::Exact,
        core::TextState::Malformed => TextState::Malformed,
        core::TextState::Unknown => TextState::Unknown,
    }
}

pub(super) fn kind(kind: core::Kind) -> StatementKind {
    match kind {
        core::Kind::Simple => StatementKind::Simple,
        core::Kind::Parse => StatementKind::Parse,
        core::Kind::Bind => StatementKind::Bind,
        core::Kind::Execute => StatementKind::Extended,
        core::Kind::FunctionCall => StatementKind::FunctionCall,
        core::Kind::Describe => StatementKind::Describe,
        core::Kind::Close => StatementKind::Close,
    }
}
