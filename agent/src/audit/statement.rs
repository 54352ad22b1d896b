//! The record of one statement: the hot one.

use super::excerpt::Excerpt;
use super::json::{Json, Object};
use super::record::{Tier, named};
use super::time::WallNanos;

/// Most parameters of one record that are described one by one; the protocol's own limit (a 16-bit count).
pub const PARAMETERS_MAX: usize = 65_535;
/// Most bytes of values in one record, over all parameters. Values beyond are left out and marked `omitted`.
pub const PARAMETER_BYTES_TOTAL_MAX: usize = 1 << 20;
/// Most results of one record that are listed; `results_more` counts the rest.
pub const RESULTS_MAX: usize = 1_000;
/// Most further writers that are listed.
pub const WRITERS_MAX: usize = 16;

/// `statement`: one statement and what became of it. Written when its outcome is known, or known never to come.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// How it came.
    pub kind: StatementKind,
    /// Its text in the client's encoding; empty for a function call. Cut by [`Excerpt::of`].
    pub text: Excerpt<'a>,
    /// `client_encoding`, where it is known and not UTF8.
    pub client_encoding: Option<&'a [u8]>,
    /// Name of the prepared statement; `None` and empty are left out.
    pub name: Option<&'a [u8]>,
    /// Name of the portal; `None` and empty are left out.
    pub portal: Option<&'a [u8]>,
    /// Object id of the function, for a function call.
    pub function_oid: Option<u32>,
    /// Values bound.
    pub parameters: Parameters<'a>,
    /// Command tag of the last result: `SELECT 1`.
    pub tag: Option<&'a [u8]>,
    /// Rows sent to the client, over all results.
    pub rows: u64,
    /// Bytes of their values and length words, as `DataRow` bodies.
    pub row_bytes: u64,
    /// Each result, where a simple query held more than one statement; else empty.
    pub results: &'a [ResultPart<'a>],
    /// Data the client sent by COPY.
    pub copy_in: Option<Copied>,
    /// Data the server sent by COPY.
    pub copy_out: Option<Copied>,
    /// How it ended.
    pub outcome: Outcome,
    /// The server's error.
    pub sqlstate: Option<[u8; 5]>,
    /// When its first byte came from the client.
    pub started: WallNanos,
    /// From then to the server's first byte of an answer, in microseconds.
    pub first_response_us: Option<u64>,
    /// From then to the end of the answer, in microseconds.
    pub duration_us: u64,
    /// As in the `ReadyForQuery` after it, where one has come.
    pub transaction: Option<Transaction>,
    /// Who wrote it: the compact identity.
    pub writer: &'a Json,
    /// Which tier says so.
    pub tier: Tier,
    /// Others who wrote parts of its bytes.
    pub shared_with: &'a [Json],
}

/// The parameters of a statement.
#[derive(Clone, Copy, Debug)]
pub enum Parameters<'a> {
    /// There were this many, and the configuration says not to record them.
    Omitted(usize),
    /// Each of them; empty for none.
    Listed(&'a [Parameter<'a>]),
}

/// One bound value.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// How it is written.
    pub format: Format,
    /// Object id of its type as the client declared it; 0 where it left that to the server.
    pub type_oid: u32,
    /// `None` for NULL. Cut by [`Excerpt::of`].
    pub value: Option<Excerpt<'a>>,
}

/// One result of several.
#[derive(Clone, Copy, Debug)]
pub struct ResultPart<'a> {
    /// Command tag; `None` when there was an error instead, or an empty query.
    pub tag: Option<&'a [u8]>,
    /// Rows sent.
    pub rows: u64,
    /// Bytes of them.
    pub row_bytes: u64,
    /// The server's error.
    pub sqlstate: Option<[u8; 5]>,
}

/// What went through COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of `CopyData` bodies.
    pub bytes: u64,
    /// Rows, where the format lets them be counted or the tag told.
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
    }
}

named! {
    /// How a value is written.
    Format {
        /// Format code 0.
        Text = "text",
        /// Format code 1.
        Binary = "binary",
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
        object.bytes_if("client_encoding", self.client_encoding);
        object.bytes_if("name", self.name.filter(|name| !name.is_empty()));
        object.bytes_if("portal", self.portal.filter(|name| !name.is_empty()));
        object.number_if("function_oid", self.function_oid.map(u64::from));
        self.parameters.fill(object);
        object.word("outcome", self.outcome.name());
        object.bytes_if("sqlstate", self.sqlstate.as_ref().map(|state| &state[..]));
        object.bytes_if("tag", self.tag);
        object.number("rows", self.rows);
        object.number("row_bytes", self.row_bytes);
        fill_results(object, self.results);
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
            object.number_if("shared_with_more", Some(more).filter(|more| *more > 0));
        }
    }
}

impl Parameters<'_> {
    fn fill(&self, object: &mut Object<'_>) {
        match self {
            Self::Listed([]) | Self::Omitted(0) => {}
            Self::Omitted(count) => object.number("params_omitted", *count as u64),
            Self::Listed(list) => {
                let mut left = PARAMETER_BYTES_TOTAL_MAX;
                let list = list.iter().take(PARAMETERS_MAX);
                object.objects("params", list, |object, parameter| {
                    parameter.fill(object, &mut left);
                });
            }
        }
    }
}

impl Parameter<'_> {
    fn fill(&self, object: &mut Object<'_>, left: &mut usize) {
        object.word("format", self.format.name());
        object.number("type_oid", self.type_oid.into());
        let Some(value) = &self.value else {
            object.null("value");
            return;
        };
        if let Some(rest) = left.checked_sub(value.kept.len()) {
            *left = rest;
            object.excerpt("value", value);
        } else {
            let full = value.cut.map_or(value.kept.len() as u64, |cut| cut.full_bytes);
            object.flag("omitted", true);
            object.number("value_bytes", full);
        }
    }
}

fn fill_results(object: &mut Object<'_>, results: &[ResultPart<'_>]) {
    if results.is_empty() {
        return;
    }
    object.objects("results", results.iter().take(RESULTS_MAX), |object, result| {
        object.bytes_if("tag", result.tag);
        object.bytes_if("sqlstate", result.sqlstate.as_ref().map(|state| &state[..]));
        object.number("rows", result.rows);
        object.number("row_bytes", result.row_bytes);
    });
    let more = results.len().saturating_sub(RESULTS_MAX) as u64;
    object.number_if("results_more", Some(more).filter(|more| *more > 0));
}

fn fill_copied(object: &mut Object<'_>, name: &str, copied: Option<Copied>) {
    if let Some(copied) = copied {
        object.object(name, |object| {
            object.number("bytes", copied.bytes);
            object.number_if("rows", copied.rows);
        });
    }
}
