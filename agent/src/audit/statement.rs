//! Records of statements: the text, the intent before, the outcome after. The hot ones.

use super::cbor::Map;
use super::happening::Tier;
use super::schema::f;
use super::values::Unlisted;
use super::words::named;

/// Most parameters of one record that are described one by one.
pub const PARAMETERS_MAX: usize = 256;
/// Most results of one record that are listed; `results_more` counts the rest.
pub const RESULTS_MAX: usize = 500;
/// Most further writers that are listed.
pub const WRITERS_MAX: usize = 16;
/// Most bytes that listed results take in a record.
pub const RESULTS_BYTES_MAX: usize = 12 << 10;
/// Bytes that a listed result takes beside its tag, at most.
const RESULT_BYTES: usize = 14;

/// `statement`: a text that later records of the session refer to.
#[derive(Clone, Copy)]
pub struct Introduced<'a> {
    /// How it came.
    pub kind: StatementKind,
    /// The text.
    pub text: Text<'a>,
    /// How it relates to what the server ran.
    pub text_state: TextState,
    /// `client_encoding`, where it is known and not UTF8.
    pub client_encoding: Option<&'a [u8]>,
    /// Name of the prepared statement; empty for the unnamed one or none.
    pub name: &'a [u8],
    /// What is held beside the record.
    pub beside: Option<Beside>,
}

/// What a statement is: the part that intents, denials and outcomes without an intent share.
#[derive(Clone, Copy)]
pub struct What<'a> {
    /// How it came.
    pub kind: StatementKind,
    /// Its text.
    pub text: Text<'a>,
    /// How it relates to what the server ran.
    pub text_state: TextState,
    /// `client_encoding`, where it is known and not UTF8.
    pub client_encoding: Option<&'a [u8]>,
    /// Name of the prepared statement; empty for the unnamed one or none.
    pub name: &'a [u8],
    /// Name of the portal; empty for the unnamed one or none.
    pub portal: &'a [u8],
    /// Object id of the function, for a function call.
    pub function_oid: Option<u32>,
    /// Values bound.
    pub parameters: Parameters<'a>,
    /// What is held beside the record.
    pub beside: Option<Beside>,
    /// Who wrote it.
    pub writer: Writers<'a>,
}

/// Who wrote a statement, by the `seq` of the records that name them.
#[derive(Clone, Copy)]
pub struct Writers<'a> {
    /// The writer; 0: the opener of the session.
    pub writer: u64,
    /// Which tier says so.
    pub tier: Tier,
    /// Others who wrote parts of its bytes.
    pub shared_with: &'a [u64],
}

/// `intent`: a statement is about to go to its server.
#[derive(Clone, Copy)]
pub struct Intent<'a> {
    /// The statement.
    pub what: What<'a>,
    /// What the policy says of it; `None` without a policy.
    pub judged: Option<Judged<'a>>,
}

/// What the policy said of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged<'a> {
    /// What was decided.
    pub decision: Decided,
    /// Rules that decided, by name.
    pub rules: &'a [&'a str],
}

/// `denied`: a statement was not let through.
#[derive(Clone, Copy)]
pub struct Denied<'a> {
    /// The statement.
    pub what: What<'a>,
    /// What the client was told.
    pub sqlstate: [u8; 5],
    /// Why.
    pub reason: &'a str,
    /// Rules that decided.
    pub rules: &'a [&'a str],
    /// Digest of the policy in force.
    pub policy: Option<&'a [u8; 32]>,
}

/// `limit`: a session reached a limit.
#[derive(Clone, Copy)]
pub struct LimitReached<'a> {
    /// What comes of it.
    pub decision: Decided,
    /// The rule that says so.
    pub rules: &'a [&'a str],
    /// What was counted, as policies name it.
    pub reason: &'a str,
    /// The same with the most there may be.
    pub detail: &'a str,
}

/// `outcome`: what became of a statement. Written when it is known, or known never to come.
#[derive(Clone, Copy)]
pub struct Done<'a> {
    /// What it is the outcome of.
    pub of: Of<'a>,
    /// How it ended.
    pub outcome: Outcome,
    /// The server's error.
    pub sqlstate: Option<[u8; 5]>,
    /// The server's error when it was to commit, at the `Sync` behind the statement: done, but
    /// undone again.
    pub commit_sqlstate: Option<[u8; 5]>,
    /// Command tag of the last result: `SELECT 1`. Empty when there is none.
    pub tag: &'a [u8],
    /// Rows sent to the client, over all results.
    pub rows: u64,
    /// Bytes of the `DataRow` bodies that held them.
    pub row_bytes: u64,
    /// Each result, where a simple query had several; else empty.
    pub results: &'a [ResultPart<'a>],
    /// How many results there were.
    pub results_total: u64,
    /// Data the client sent by COPY.
    pub copy_in: Option<Copied>,
    /// Data the server sent by COPY.
    pub copy_out: Option<Copied>,
    /// From the message to the server's first answer, in microseconds.
    pub first_response_us: Option<u64>,
    /// From the message to the end of the answer, in microseconds.
    pub duration_us: u64,
    /// State of the transaction behind it, where the server has said so.
    pub transaction: Option<Transaction>,
}

/// What a [`Done`] is the outcome of.
#[derive(Clone, Copy)]
pub enum Of<'a> {
    /// An intent, by its `seq`, and who turned out to have written it where that is not what the
    /// intent said.
    Intent(u64, Option<Writers<'a>>),
    /// A message that runs nothing by itself and failed, or never came to be run.
    Message(&'a What<'a>),
}

/// A text as a record holds it.
#[derive(Clone, Copy, Default)]
pub struct Text<'a> {
    /// What may be held in clear, or where it is held.
    pub clear: Clear<'a>,
    /// Commitment to the whole.
    pub commitment: Option<[u8; 32]>,
    /// Keyed hash of the whole.
    pub hash: Option<[u8; 32]>,
    /// Length of the whole in bytes, where what is in clear is not all of it.
    pub full_bytes: Option<u64>,
    /// Why it is not stored, by number in [`words::NEVER`](super::schema::words::NEVER).
    pub never: Option<u64>,
}

/// What of a text may be held in clear.
#[derive(Clone, Copy, Default)]
pub enum Clear<'a> {
    /// There is none, or none is known.
    #[default]
    None,
    /// The same as the record of this session with this `seq` holds.
    Ref(u64),
    /// The text, its beginning, or what is left of it without its literals.
    Held(&'a [u8]),
}

/// Values that are held beside a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beside {
    /// Index into [`words::KEY_KINDS`](super::schema::words::KEY_KINDS).
    pub key_kind: u64,
    /// Digest of what is held there; always when a value is held nowhere else.
    pub sha256: Option<[u8; 32]>,
}

/// The parameters of a statement.
#[derive(Clone, Copy)]
pub enum Parameters<'a> {
    /// There were this many, and the configuration says not to record them.
    Omitted(usize),
    /// The first of them, at most [`PARAMETERS_MAX`], and what is known of the others.
    Listed(&'a [Parameter<'a>], Option<Unlisted>),
}

impl Parameters<'_> {
    /// There are none.
    pub const NONE: Self = Self::Omitted(0);
}

/// One bound value.
#[derive(Clone, Copy)]
pub struct Parameter<'a> {
    /// Format code, 0 text, 1 binary; others are refused by the server.
    pub format: u16,
    /// Object id of its type, as the server described it or else the client declared it; 0 where
    /// neither did.
    pub type_oid: u32,
    /// The value.
    pub value: Value<'a>,
    /// Its length in bytes, where not all of it is held.
    pub full_bytes: Option<u64>,
}

/// A value as a record holds it.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// As it is, or its beginning.
    Clear(&'a [u8]),
    /// A commitment to it; it is held beside the record.
    Committed([u8; 32]),
    /// A commitment to it, and nothing else.
    CommittedOnly([u8; 32]),
    /// A keyed hash of it.
    Hashed([u8; 32]),
    /// Not at all; why, by number in [`words::NEVER`](super::schema::words::NEVER).
    Never(u64),
}

/// One result of several.
#[derive(Clone, Copy, Debug)]
pub struct ResultPart<'a> {
    /// Command tag; empty for an empty query.
    pub tag: &'a [u8],
    /// Rows sent.
    pub rows: u64,
}

/// What went through COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of `CopyData` bodies.
    pub bytes: u64,
    /// Rows, where they can be told without reading the data.
    pub rows: Option<u64>,
}

named! {
    /// How a statement came.
    StatementKind {
        /// `Query`
        Simple = "simple",
        /// `Execute` of a bound portal.
        Extended = "extended",
        /// `FunctionCall`
        FunctionCall = "function_call",
        /// `Parse` that was never executed, or failed.
        Parse = "parse",
        /// `Bind` that was never executed, or failed.
        Bind = "bind",
        /// `Describe` that failed.
        Describe = "describe",
        /// `Close` that failed.
        Close = "close",
    }
}

named! {
    /// What a policy decided about a statement.
    Decided {
        /// It may go.
        Allow = "allow",
        /// It may not.
        Deny = "deny",
        /// It may go, and some of its values come back masked.
        Mask = "mask",
        /// It may go in another form.
        Rewrite = "rewrite",
        /// It goes, and would be denied if the rules that say so were enforced.
        WouldDeny = "would_deny",
        /// It goes, and the client is warned.
        Warn = "warn",
    }
}

named! {
    /// How a text relates to what the server ran.
    TextState {
        /// It is the text, or its beginning.
        Exact = "exact",
        /// The message was malformed: the server refuses it, whatever it says.
        Malformed = "malformed",
        /// Not known: prepared or declared by SQL, or beyond a limit; or the message has no text.
        Unknown = "unknown",
    }
}

named! {
    /// How a statement ended.
    Outcome {
        /// The server completed it.
        Completed = "completed",
        /// The portal gave as many rows as asked for and may be executed again.
        Suspended = "suspended",
        /// The server answered with an error.
        Failed = "failed",
        /// The server ignored it because of an earlier error in the same pipeline.
        Skipped = "skipped",
        /// The session ended first: what the server did is not known.
        Unfinished = "unfinished",
        /// The session ended before it was sent to the server.
        Unsent = "unsent",
    }
}

named! {
    /// State of the transaction after a statement.
    Transaction {
        /// `I`
        Idle = "idle",
        /// `T`
        Open = "open",
        /// `E`
        Failed = "failed",
    }
}

impl Introduced<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        text(entry, &self.text);
        entry.uint(f::KIND, self.kind.number());
        beside(entry, self.beside.as_ref());
        text_facts(entry, self.text_state, self.client_encoding, self.name);
        whole(entry, &self.text, self.beside.as_ref());
        entry.bytes_if(f::TEXT_HASH, self.text.hash.as_ref().map(|digest| &digest[..]));
    }
}

impl Intent<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        self.what.fill_head(entry);
        self.what.fill_middle(entry);
        if let Some(judged) = &self.judged {
            entry.uint(f::DECISION, judged.decision.number());
            if !judged.rules.is_empty() {
                entry.texts(f::RULES, judged.rules.iter().copied());
            }
        }
        self.what.fill_tail(entry);
        self.what.fill_end(entry);
        self.what.fill_last(entry);
    }
}

impl Denied<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        self.what.fill_head(entry);
        entry.bytes(f::SQLSTATE, &self.sqlstate);
        self.what.fill_middle(entry);
        entry.uint(f::DECISION, Decided::Deny.number());
        entry.texts(f::RULES, self.rules.iter().copied());
        entry.bytes_if(f::POLICY, self.policy.map(|digest| &digest[..]));
        self.what.fill_tail(entry);
        self.what.fill_end(entry);
        entry.text(f::REASON, self.reason);
        self.what.fill_last(entry);
    }
}

impl LimitReached<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.uint(f::DECISION, self.decision.number());
        entry.texts(f::RULES, self.rules.iter().copied());
        entry.text(f::REASON, self.reason);
        entry.text(f::DETAIL, self.detail);
    }
}

/// Fields ascend, and what is shared lies between what is not: so it is written in parts.
impl What<'_> {
    fn fill_head(&self, entry: &mut Map<'_>) {
        self.writer.fill_writer(entry);
        text(entry, &self.text);
        self.parameters.fill_list(entry);
        entry.uint(f::KIND, self.kind.number());
    }

    fn fill_middle(&self, entry: &mut Map<'_>) {
        entry.uint(f::TIER, self.writer.tier.number());
        beside(entry, self.beside.as_ref());
    }

    fn fill_tail(&self, entry: &mut Map<'_>) {
        text_facts(entry, self.text_state, self.client_encoding, self.name);
        entry.bytes_if(f::PORTAL, non_empty(self.portal));
        entry.uint_if(f::FUNCTION_OID, self.function_oid.map(u64::from));
        self.parameters.fill_counts(entry);
    }

    fn fill_end(&self, entry: &mut Map<'_>) {
        self.writer.fill_shared(entry);
        let unlisted = self.parameters.unlisted();
        let left_out = unlisted.and_then(|unlisted| non_zero(unlisted.left_out));
        entry.uint_if(f::PARAMS_LEFT_OUT, left_out);
        whole(entry, &self.text, self.beside.as_ref());
    }

    /// What has the highest numbers.
    fn fill_last(&self, entry: &mut Map<'_>) {
        entry.bytes_if(f::TEXT_HASH, self.text.hash.as_ref().map(|digest| &digest[..]));
        let commitment =
            self.parameters.unlisted().and_then(|unlisted| unlisted.commitment.as_ref());
        entry.bytes_if(f::PARAMS_COMMITMENT, commitment.map(|digest| &digest[..]));
    }
}

impl Writers<'_> {
    fn fill_writer(&self, entry: &mut Map<'_>) {
        entry.uint_if(f::WRITER_REF, non_zero(self.writer));
    }

    fn fill_shared(&self, entry: &mut Map<'_>) {
        let listed = &self.shared_with[..self.shared_with.len().min(WRITERS_MAX)];
        entry.uints(f::SHARED_WITH, listed.iter().copied());
        let more = self.shared_with.len() - listed.len();
        entry.uint_if(f::SHARED_WITH_MORE, non_zero(more as u64));
    }
}

impl Done<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        let (intent, what, writers) = match &self.of {
            Of::Intent(seq, writers) => (Some(*seq), None, *writers),
            Of::Message(what) => (None, Some(*what), None),
        };
        match (what, &writers) {
            (Some(what), _) => what.fill_head(entry),
            (None, Some(writers)) => writers.fill_writer(entry),
            (None, None) => {}
        }
        entry.uint(f::OUTCOME, self.outcome.number());
        entry.bytes_if(f::SQLSTATE, self.sqlstate.as_ref().map(|state| &state[..]));
        entry.bytes_if(f::TAG, non_empty(self.tag));
        entry.uint(f::ROWS, self.rows);
        entry.uint(f::ROW_BYTES, self.row_bytes);
        entry.uint_if(f::INTENT, intent);
        entry.uint(f::DURATION_US, self.duration_us);
        entry.uint_if(f::FIRST_RESPONSE_US, self.first_response_us);
        entry.uint_if(f::TRANSACTION, self.transaction.map(Transaction::number));
        match (what, &writers) {
            (Some(what), _) => {
                what.fill_middle(entry);
                what.fill_tail(entry);
            }
            (None, Some(writers)) => entry.uint(f::TIER, writers.tier.number()),
            (None, None) => {}
        }
        self.fill_results(entry);
        copied(entry, f::COPY_IN, self.copy_in);
        copied(entry, f::COPY_OUT, self.copy_out);
        let commit = self.commit_sqlstate.as_ref().map(|state| &state[..]);
        entry.bytes_if(f::COMMIT_SQLSTATE, commit);
        match (what, &writers) {
            (Some(what), _) => {
                what.fill_end(entry);
                what.fill_last(entry);
            }
            (None, Some(writers)) => writers.fill_shared(entry),
            (None, None) => {}
        }
    }

    fn fill_results(&self, entry: &mut Map<'_>) {
        if self.results.is_empty() {
            return;
        }
        let mut room = RESULTS_BYTES_MAX;
        let fits = |result: &&ResultPart<'_>| {
            let bytes = result.tag.len() + RESULT_BYTES;
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        };
        let count = self.results.iter().take(RESULTS_MAX).take_while(fits).count();
        let listed = &self.results[..count];
        entry.objects(f::RESULTS, listed.len(), |list| {
            for result in listed {
                list.object(|object| {
                    object.bytes(0, result.tag);
                    object.uint(1, result.rows);
                });
            }
        });
        let more = self.results_total.saturating_sub(listed.len() as u64);
        entry.uint_if(f::RESULTS_MORE, non_zero(more));
    }
}

impl Parameters<'_> {
    fn fill_list(&self, entry: &mut Map<'_>) {
        match self {
            Self::Omitted(_) | Self::Listed([], _) => {}
            Self::Listed(listed, _) => {
                let listed = &listed[..listed.len().min(PARAMETERS_MAX)];
                entry.objects(f::PARAMS, listed.len(), |list| {
                    listed.iter().for_each(|parameter| list.object(|map| parameter.fill(map)));
                });
            }
        }
    }

    fn fill_counts(&self, entry: &mut Map<'_>) {
        match self {
            Self::Omitted(count) => {
                entry.uint_if(f::PARAMS_OMITTED, non_zero(*count as u64));
            }
            Self::Listed(_, unlisted) => {
                entry.uint_if(f::PARAMS_MORE, unlisted.map(|unlisted| unlisted.count));
            }
        }
    }

    fn unlisted(&self) -> Option<&Unlisted> {
        match self {
            Self::Omitted(_) => None,
            Self::Listed(_, unlisted) => unlisted.as_ref(),
        }
    }
}

impl Parameter<'_> {
    fn fill(&self, map: &mut Map<'_>) {
        map.uint(0, self.format.into());
        map.uint(1, self.type_oid.into());
        match &self.value {
            Value::Null => map.null(2),
            Value::Clear(value) => map.bytes(2, value),
            Value::Committed(commitment) | Value::CommittedOnly(commitment) => {
                map.bytes(3, commitment);
            }
            Value::Hashed(hash) => map.bytes(4, hash),
            Value::Never(why) => map.uint(5, *why),
        }
        map.uint_if(6, self.full_bytes);
        if matches!(self.value, Value::CommittedOnly(_)) {
            map.flag(8, true);
        }
    }
}

/// `text_ref` or `text`, which are neighbours.
fn text(entry: &mut Map<'_>, text: &Text<'_>) {
    match text.clear {
        Clear::None => {}
        Clear::Ref(seq) => entry.uint(f::TEXT_REF, seq),
        Clear::Held(clear) => entry.bytes(f::TEXT, clear),
    }
}

fn text_facts(entry: &mut Map<'_>, state: TextState, encoding: Option<&[u8]>, name: &[u8]) {
    if state != TextState::Exact {
        entry.uint(f::TEXT_STATE, state.number());
    }
    entry.bytes_if(f::CLIENT_ENCODING, encoding);
    entry.bytes_if(f::NAME, non_empty(name));
}

/// What is known of the whole.
fn whole(entry: &mut Map<'_>, text: &Text<'_>, beside: Option<&Beside>) {
    let sha256 = beside.and_then(|beside| beside.sha256.as_ref());
    entry.bytes_if(f::TEXT_COMMITMENT, text.commitment.as_ref().map(|digest| &digest[..]));
    entry.uint_if(f::TEXT_BYTES, text.full_bytes);
    entry.bytes_if(f::VALUES_SHA256, sha256.map(|digest| &digest[..]));
    entry.uint_if(f::TEXT_NEVER, text.never);
}

fn beside(entry: &mut Map<'_>, beside: Option<&Beside>) {
    entry.uint_if(f::VALUES, beside.map(|beside| beside.key_kind));
}

fn copied(entry: &mut Map<'_>, number: u8, copied: Option<Copied>) {
    if let Some(copied) = copied {
        entry.object(number, |object| {
            object.uint(0, copied.bytes);
            object.uint_if(1, copied.rows);
        });
    }
}

fn non_empty(bytes: &[u8]) -> Option<&[u8]> {
    (!bytes.is_empty()).then_some(bytes)
}

fn non_zero(count: u64) -> Option<u64> {
    (count > 0).then_some(count)
}
