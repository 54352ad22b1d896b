//! Before a statement goes: its text, its values, its intent.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Recorder, judged::Judgement, texts::Texts};
use crate::{
    audit::{
        Beside, Class, Clear, Confidence, Excerpt, Intent, Introduced, NotRecorded, Now, Parameter,
        Parameters, Record, StatementKind, Text, TextState, Ticket, Tier, Value, What, Writers,
        values::{self, Include, ParameterSource, Shown, ShownValue, TextForm},
    },
    config::{self, AuditMode},
    net::identify::Who,
    pg::session::{self as core, Ready, StatementId},
};

/// What a session remembers of its statements.
#[derive(Default)]
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

/// A statement, from whatever describes it.
pub(super) struct Asked<'a> {
    pub(super) kind: StatementKind,
    pub(super) text: &'a Arc<[u8]>,
    pub(super) text_bytes: usize,
    pub(super) text_state: TextState,
    pub(super) name: &'a [u8],
    pub(super) portal: &'a [u8],
    pub(super) function: Option<u32>,
    pub(super) parameters: &'a dyn ParameterSource,
}

impl Recorder {
    /// Records that a statement is about to go. A `Parse` runs nothing: of it the text is recorded, once.
    ///
    /// Gives the `seq` of the record, or of the next where none is made.
    pub(super) fn intent(
        &mut self,
        ready: &Ready,
        judgement: Option<&Judgement<'_>>,
        now: Now,
    ) -> Result<u64, NotRecorded> {
        let mut seq = self.seq.next();
        let ticket = match ready.kind {
            core::Kind::Parse => self.introduce(ready, now)?,
            core::Kind::Simple | core::Kind::Execute | core::Kind::FunctionCall => {
                let ticket;
                (ticket, seq) = self.intend(ready, judgement, now)?;
                Some(ticket)
            }
            // Announced only to be decided; what runs is the `Execute`, of which there is an intent.
            core::Kind::Bind | core::Kind::Describe | core::Kind::Close => None,
        };
        // What only reads may run while its record is written: nothing of its result passes before that is durable.
        let reads = judgement.is_some_and(|judgement| judgement.pure_read);
        let overlaps = match self.mode {
            AuditMode::Overlap => true,
            AuditMode::Default => reads,
            AuditMode::Strict | AuditMode::Group | AuditMode::Async => false,
        };
        if self.mode != AuditMode::Default || !overlaps {
            self.to_go = self.to_go.max(ticket);
        }
        if overlaps {
            self.to_answer = self.to_answer.max(ticket);
        }
        self.mark(now)?;
        Ok(seq)
    }

    fn introduce(&mut self, ready: &Ready, now: Now) -> Result<Option<Ticket>, NotRecorded> {
        let text = self.look(&ready.text, ready.text_bytes);
        if !text.has_more() && self.statements.texts.place(&text).is_some() {
            return Ok(None);
        }
        let seq = self.seq.next();
        let none: &[values::Parameter<'_>] = &[];
        let shown = self.shown(seq, &text, Include::Text, &none)?;
        let (place, encoding) = (self.statements.texts.place(&text), self.beginning.encoding());
        let record = Introduced {
            kind: StatementKind::Parse,
            text: held(&text, &shown, place),
            text_state: text_state(ready.text_state),
            client_encoding: encoding.as_deref(),
            name: &ready.name,
            beside: beside(&shown),
        };
        let ticket = self.put_beside(Class::Ordinary, now, &record, &shown.payload)?;
        self.statements.texts.note(&text, seq);
        Ok(Some(ticket))
    }

    fn intend(
        &mut self,
        ready: &Ready,
        judgement: Option<&Judgement<'_>>,
        now: Now,
    ) -> Result<(Ticket, u64), NotRecorded> {
        let written = self.written(ready.span)?;
        let asked = Asked {
            kind: kind(ready.kind),
            text: &ready.text,
            text_bytes: ready.text_bytes,
            text_state: text_state(ready.text_state),
            name: &ready.name,
            portal: &ready.portal,
            function: ready.function,
            parameters: ready,
        };
        let seq = self.seq.next();
        let ticket = self.describe(&asked, &written, |recorder, what, values| {
            let judged = judgement.map(Judgement::judged);
            recorder.put_beside(Class::Ordinary, now, &Intent { judged, what: *what }, values)
        })?;
        self.statements.under_way.push_back(UnderWay { id: ready.id, seq, written });
        Ok((ticket, seq))
    }

    /// Hands what is recorded of a statement to `put`, which records it with the next `seq`.
    pub(super) fn describe(
        &mut self,
        asked: &Asked<'_>,
        written: &Written,
        put: impl FnOnce(&mut Self, &What<'_>, &[u8]) -> Result<Ticket, NotRecorded>,
    ) -> Result<Ticket, NotRecorded> {
        let seq = self.seq.next();
        let text = self.look(asked.text, asked.text_bytes);
        let place = self.statements.texts.place(&text);
        // What lies beside a text that was prepared lies beside the record that introduced it.
        let prepared = asked.kind == StatementKind::Extended && place.is_some();
        let include = if prepared { Include::Parameters } else { Include::Text };
        let none: &[values::Parameter<'_>] = &[];
        let omit = self.recording.audit.parameters == config::Parameters::Omit;
        let parameters = if omit { &none } else { asked.parameters };
        let shown = self.shown(seq, &text, include, parameters)?;
        let mut listed = Vec::with_capacity(shown.parameters.len());
        // Those in clear are handed over once more: the record holds them where they are.
        let limit = self.recording.audit.parameter_bytes_max;
        let mut each = shown.parameters.iter();
        let mut copies = Vec::new();
        parameters.each(&mut |given| {
            let Some(parameter) = each.next() else { return };
            let start = copies.len();
            if let (ShownValue::Clear, Some(value)) = (parameter.value, &given.value) {
                copies.extend_from_slice(value.shortened(limit).kept);
            }
            listed.push((given.format, given.type_oid, parameter, start..copies.len()));
        });
        let listed: Vec<Parameter<'_>> = listed
            .into_iter()
            .map(|(format, type_oid, parameter, clear)| Parameter {
                format,
                type_oid,
                value: match parameter.value {
                    ShownValue::Null => Value::Null,
                    ShownValue::Clear => Value::Clear(&copies[clear]),
                    ShownValue::Committed { commitment, beside: true } => {
                        Value::Committed(commitment)
                    }
                    ShownValue::Committed { commitment, beside: false } => {
                        Value::CommittedOnly(commitment)
                    }
                    ShownValue::Hash(hash) => Value::Hashed(hash),
                    ShownValue::Never(why) => Value::Never(why.number()),
                },
                full_bytes: parameter.cut_of,
            })
            .collect();
        let encoding = self.beginning.encoding();
        let what = What {
            kind: asked.kind,
            text: held(&text, &shown, place),
            text_state: asked.text_state,
            client_encoding: encoding.as_deref(),
            name: asked.name,
            portal: asked.portal,
            function_oid: asked.function,
            parameters: match omit {
                true => Parameters::Omitted(asked.parameters.count()),
                false => Parameters::Listed(&listed, shown.unlisted),
            },
            beside: beside(&shown),
            writer: written.writers(),
        };
        let ticket = put(self, &what, &shown.payload)?;
        if place.is_none() {
            self.statements.texts.note(&text, seq);
        }
        Ok(ticket)
    }

    /// What may be shown of a text.
    fn look(&mut self, text: &Arc<[u8]>, text_bytes: usize) -> Arc<values::Text> {
        let max = self.recording.audit.statement_bytes_max;
        let (encoding, strings) = self.beginning.lexis();
        let values = &self.values;
        self.statements.texts.look(text, || {
            let excerpt = Excerpt::beginning(text, text_bytes as u64).shortened(max);
            values.text(excerpt, encoding, strings)
        })
    }

    fn shown(
        &mut self,
        seq: u64,
        text: &values::Text,
        include: Include,
        parameters: &dyn ParameterSource,
    ) -> Result<Shown, NotRecorded> {
        self.values.statement(seq, text, include, parameters).map_err(|_| NotRecorded::NoKeys)
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
            Confidence::Exact => tier.unwrap_or(self.recording.tier),
            Confidence::OpenerOrLater => Tier::T0,
        };
        let writer = self.writer(&writer, tier)?;
        let shared_with =
            shared.iter().map(|who| self.writer(who, tier)).collect::<Result<_, _>>()?;
        Ok(Written { writer, tier, shared_with })
    }
}

impl ParameterSource for Ready {
    fn count(&self) -> usize {
        self.parameters_count()
    }

    fn each(&self, take: &mut dyn FnMut(values::Parameter<'_>)) {
        self.parameters().for_each(|parameter| take(given(&parameter)));
    }
}

impl ParameterSource for core::Statement {
    fn count(&self) -> usize {
        self.parameters_count()
    }

    fn each(&self, take: &mut dyn FnMut(values::Parameter<'_>)) {
        self.parameters().for_each(|parameter| take(given(&parameter)));
    }
}

fn given<'a>(parameter: &core::Parameter<'a>) -> values::Parameter<'a> {
    values::Parameter {
        format: parameter.format,
        type_oid: parameter.type_oid,
        value: parameter.value.map(|kept| Excerpt::beginning(kept, parameter.bytes.into())),
    }
}

/// A text as the record holds it, which is in `place` if that record is there.
fn held<'a>(text: &'a values::Text, shown: &Shown, place: Option<u64>) -> Text<'a> {
    let withheld = text.form() == TextForm::Withheld;
    let clear = match place {
        _ if text.full_bytes() == 0 || withheld => Clear::None,
        Some(seq) => Clear::Ref(seq),
        None => Clear::Held(text.shown()),
    };
    let all = text.form() == TextForm::Exact && text.full_bytes() == text.shown().len() as u64;
    Text {
        clear,
        commitment: shown.text_commitment,
        hash: shown.text_hash,
        full_bytes: (!all).then_some(text.full_bytes()),
        never: withheld.then_some(values::Never::Secret.number()),
    }
}

fn beside(shown: &Shown) -> Option<Beside> {
    let key_kind = shown.beside?.number();
    Some(Beside { key_kind, sha256: shown.payload_sha256 })
}

pub(super) fn text_state(state: core::TextState) -> TextState {
    match state {
        // That it was cut is said by its length.
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
