//! The record of one statement: the hot one.

use super::excerpt::Excerpt;
use super::json::{Json, Object};
use super::record::{Tier, named};
use super::time::WallNanos;

/// Most parameters of one record that are described one by one; the protocol's own limit (a 16-bit
/// count).
pub const PARAMETERS_MAX: usize = 65_535;
/// Most bytes of values in one record, over all parameters. Values beyond are left out and marked
/// `omitted`.
pub const PARAMETER_BYTES_TOTAL_MAX: usize = 1 << 20;
/// Most results of one record that are listed; `results_more` counts the rest.
pub const RESULTS_MAX: usize = 1_000;
/// Most further writers that are listed.
pub const WRITERS_MAX: usize = 16;

/// `statement`: one statement and what became of it. Written when its outcome is known, or known
/// never to come.
#[derive(Clone, Copy)]
pub struct Statement<'a> {
    /// How it came.
    pub kind: StatementKind,
    /// Its text in the client's encoding; empty where there is none, or none is known. Cut by
    /// [`Excerpt::of`].
    pub text: Excerpt<'a>,
    /// How `text` relates to what the server ran.
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
    /// How it ended.
    pub outcome: Outcome,
    /// The server's error.
    pub sqlstate: Option<[u8; 5]>,
    /// The server's error when it was to commit, at the `Sync` behind the statement: done, but
    /// undone again.
    pub commit_sqlstate: Option<[u8; 5]>,
    /// When it came from the client.
    pub started: WallNanos,
    /// From then to the server's first answer, in microseconds.
    pub first_response_us: Option<u64>,
    /// From then to the end of the answer, in microseconds.
    pub duration_us: u64,
    /// State of the transaction behind it, where the server has said so.
    pub transaction: Option<Transaction>,
    /// Who wrote it: the compact identity.
    pub writer: &'a Json,
    /// Which tier says so.
    pub tier: Tier,
    /// Others who wrote parts of its bytes.
    pub shared_with: &'a [Json],
}

/// The parameters of a statement.
#[derive(Clone, Copy)]
pub enum Parameters<'a> {
    /// There were this many, and the configuration says not to record them.
    Omitted(usize),
    /// Each of them.
    Listed(&'a dyn ParameterSource),
}

impl Parameters<'_> {
    /// There are none.
    pub const NONE: Self = Self::Omitted(0);
}

/// Where parameters come from: lets a record be written from whatever holds them, without a list
/// made for the purpose.
pub trait ParameterSource {
    /// How many there were, also of those not held.
    fn count(&self) -> usize;
    /// Hands those held to `take`, in their order.
    fn each(&self, take: &mut dyn FnMut(Parameter<'_>));
}

/// One bound value.
#[derive(Clone, Copy)]
pub struct Parameter<'a> {
    /// Format code, 0 text, 1 binary; others are refused by the server.
    pub format: u16,
    /// Object id of its type, as the server described it or else the client declared it; 0 where
    /// neither did.
    pub type_oid: u32,
    /// `None` for NULL. Cut by [`Excerpt::of`].
    pub value: Option<Excerpt<'a>>,
}

impl ParameterSource for &[Parameter<'_>] {
    fn count(&self) -> usize {
        self.len()
    }

    fn each(&self, take: &mut dyn FnMut(Parameter<'_>)) {
        self.iter().copied().for_each(take);
    }
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

impl Statement<'_> {
    pub(super) fn fill(&self, object: &mut Object<'_>) {
        object.word("kind", self.kind.name());
        object.excerpt("text", &self.text);
        if self.text_state != TextState::Exact {
            object.word("text_state", self.text_state.name());
        }
        object.bytes_if("client_encoding", self.client_encoding);
        object.bytes_if("name", non_empty(self.name));
        object.bytes_if("portal", non_empty(self.portal));
        object.number_if("function_oid", self.function_oid.map(u64::from));
        self.parameters.fill(object);
        object.word("outcome", self.outcome.name());
        object.bytes_if("sqlstate", self.sqlstate.as_ref().map(|state| &state[..]));
        object.bytes_if("commit_sqlstate", self.commit_sqlstate.as_ref().map(|state| &state[..]));
        object.bytes_if("tag", non_empty(self.tag));
        object.number("rows", self.rows);
        object.number("row_bytes", self.row_bytes);
        self.fill_results(object);
        fill_copied(object, "copy_in", self.copy_in);
        fill_copied(object, "copy_out", self.copy_out);
        object.time("started", self.started);
        object.number_if("first_response_us", self.first_response_us);
        object.number("duration_us", self.duration_us);
        if let Some(transaction) = self.transaction {
            object.word("transaction", transaction.name());
        }
        object.json("writer", self.writer);
        object.word("tier", self.tier.name());
        if !self.shared_with.is_empty() {
            object.jsons("shared_with", self.shared_with.iter().take(WRITERS_MAX));
            let more = self.shared_with.len().saturating_sub(WRITERS_MAX) as u64;
            object.number_if("shared_with_more", non_zero(more));
        }
    }

    fn fill_results(&self, object: &mut Object<'_>) {
        if self.results.is_empty() {
            return;
        }
        let listed = &self.results[..self.results.len().min(RESULTS_MAX)];
        object.objects("results", listed.iter(), |object, result| {
            object.bytes("tag", result.tag);
            object.number("rows", result.rows);
        });
        let more = self.results_total.saturating_sub(listed.len() as u64);
        object.number_if("results_more", non_zero(more));
    }
}

impl Parameters<'_> {
    fn fill(&self, object: &mut Object<'_>) {
        let list = match self {
            Self::Omitted(count) => {
                object.number_if("params_omitted", non_zero(*count as u64));
                return;
            }
            Self::Listed(list) if list.count() == 0 => return,
            Self::Listed(list) => list,
        };
        let (mut left, mut listed) = (PARAMETER_BYTES_TOTAL_MAX, 0);
        object.list("params", |objects| {
            list.each(&mut |parameter| {
                if listed < PARAMETERS_MAX {
                    listed += 1;
                    objects.object(|object| parameter.fill(object, &mut left));
                }
            });
        });
        let more = list.count().saturating_sub(listed) as u64;
        object.number_if("params_more", non_zero(more));
    }
}

impl Parameter<'_> {
    fn fill(&self, object: &mut Object<'_>, left: &mut usize) {
        match self.format {
            0 => object.word("format", "text"),
            1 => object.word("format", "binary"),
            other => object.number("format", other.into()),
        }
        object.number("type_oid", self.type_oid.into());
        let Some(value) = &self.value else {
            object.null("value");
            return;
        };
        if let Some(rest) = left.checked_sub(value.kept.len()) {
            *left = rest;
            match self.format {
                0 => object.excerpt("value", value),
                _ => object.binary_excerpt("value", value),
            }
        } else {
            object.flag("omitted", true);
            object.number("value_bytes", value.full_bytes());
        }
    }
}

fn fill_copied(object: &mut Object<'_>, name: &str, copied: Option<Copied>) {
    if let Some(copied) = copied {
        object.object(name, |object| {
            object.number("bytes", copied.bytes);
            object.number_if("rows", copied.rows);
        });
    }
}

fn non_empty(bytes: &[u8]) -> Option<&[u8]> {
    (!bytes.is_empty()).then_some(bytes)
}

fn non_zero(count: u64) -> Option<u64> {
    (count > 0).then_some(count)
}
