//! The table of entries, and of the objects in them.

use super::super::happening::{LostSource, NamespaceChange, Tier};
use super::super::session::{BoundLeg, CancelOutcome, Confidence, HandshakeKind};
use super::super::statement::{Decided, Outcome, StatementKind, TextState, Transaction};
use super::{ACTOR, Field, Kind, Sensitivity, words};

macro_rules! table {
    ($($number:literal $name:literal $kind:expr, $sensitivity:ident, $ocsf:literal, $events:literal,
        $meaning:literal, $answers:literal;)+) => {
        &[$(Field {
            number: $number,
            name: $name,
            kind: $kind,
            sensitivity: Sensitivity::$sensitivity,
            ocsf: $ocsf,
            events: $events,
            meaning: $meaning,
            answers: $answers,
        },)+]
    };
}

/// Fields of an entry.
#[rustfmt::skip] // a row is two lines
pub const ENTRY: &[Field] = table! {
    0 "v" Kind::Uint, Plain, "metadata.version", "all",
        "version of this format", "";
    1 "event" Kind::Uint, Plain, "activity_name", "all",
        "kind of the entry", "what";
    2 "salt" Kind::Hex, Plain, "", "all",
        "random bytes, so that nobody guesses an entry from its hash", "";
    3 "time" Kind::Wall, Plain, "time", "all",
        "when the entry was made: RFC 3339, UTC, nanoseconds", "when";
    4 "boot_ns" Kind::Uint, Plain, "", "all",
        "the same in nanoseconds since boot, suspend included: intervals, order, kernel events", "when";
    5 "clock" Kind::Uint, Plain, "", "all",
        "number of the `clock` entry in force, in the agent's run", "when";
    6 "session" Kind::Hex, Plain, "session.uid", "session_start session_end statement intent outcome denied writer authentication session_mark limit",
        "session: run of the agent, counter", "who";
    7 "seq" Kind::Uint, Plain, "", "session_start session_end statement intent outcome denied writer authentication session_mark limit",
        "number of the entry in its session, from 0 without gaps: a gap is a lost entry", "";
    8 "writer_ref" Kind::Uint, Plain, "", "intent outcome denied",
        "`seq` of the entry that names the process that wrote it; absent: that of `session_start`", "who, from where";
    9 "text_ref" Kind::Uint, Plain, "", "intent outcome denied",
        "`seq` of the entry that holds the text", "what, on what";
    10 "text" Kind::Peer, Data, "query_info.query_string", "statement intent outcome denied",
        "the statement, as far as the rules let it be held in clear", "what, on what";
    11 "params" Kind::Objects(PARAMETER), Data, "unmapped.params", "intent outcome denied",
        "bound values in order", "on what";
    12 "kind" Kind::Word(StatementKind::NAMES), Plain, "", "statement intent outcome denied",
        "which message brought it: simple, extended, function_call, or one that failed on its own", "what";
    13 "outcome" Kind::Word(Outcome::NAMES), Plain, "status_detail", "outcome",
        "how it ended; `unfinished`: what the server did is not known", "result";
    14 "sqlstate" Kind::Peer, Plain, "status_code", "outcome session_end refused authentication denied",
        "code of the error it ended with", "result";
    15 "tag" Kind::Peer, Plain, "", "outcome",
        "the server's command tag of the last result", "result, on what";
    16 "rows" Kind::Uint, Plain, "query_info.data_rows", "outcome",
        "rows sent to the client; rows changed are in `tag`", "result";
    17 "row_bytes" Kind::Uint, Plain, "query_info.bytes", "outcome",
        "bytes of these rows", "result";
    18 "intent" Kind::Uint, Plain, "", "outcome",
        "`seq` of the intent it is the outcome of", "";
    19 "duration_us" Kind::Uint, Plain, "duration", "outcome session_end",
        "from the message (a session: from connect) to the end, microseconds", "when";
    20 "first_response_us" Kind::Uint, Plain, "", "outcome",
        "from the message to the server's first answer, microseconds", "when";
    21 "transaction" Kind::Word(Transaction::NAMES), Plain, "", "outcome",
        "state behind it: idle, open, failed", "result";
    22 "tier" Kind::Word(Tier::NAMES), Plain, "", "session_start intent outcome denied writer",
        "what told who wrote: T0 opener only, T1 transmit time stamps, T2 `sendmsg` tracepoint", "who";
    23 "values" Kind::Word(words::KEY_KINDS), Plain, "", "statement intent outcome denied",
        "values are held beside the entry, and what they are encrypted with", "";
    24 "decision" Kind::Word(Decided::NAMES), Plain, "disposition", "intent denied limit",
        "what was decided", "what";
    25 "rules" Kind::Texts, Plain, "policy.name", "intent denied limit",
        "rules that decided", "what";
    26 "policy" Kind::Hex, Plain, "policy.uid", "denied config_load",
        "digest of the policy in force", "what";
    27 "masked" Kind::Uints, Plain, "", "outcome",
        "columns that were masked", "result";
    28 "text_state" Kind::Word(TextState::NAMES), Plain, "", "statement intent outcome denied",
        "`unknown`: not seen by the agent (prepared by SQL, beyond a limit); `malformed`: refused by the server", "";
    29 "client_encoding" Kind::Peer, Plain, "", "statement intent outcome denied authentication",
        "encoding of the texts; in a statement only when it isn't UTF8", "";
    30 "name" Kind::Peer, Plain, "", "statement intent outcome denied",
        "prepared statement, when it has a name", "";
    31 "portal" Kind::Peer, Plain, "", "intent outcome denied",
        "portal, when it has a name", "";
    32 "function_oid" Kind::Uint, Plain, "", "intent outcome denied",
        "function of a function call", "on what";
    33 "params_more" Kind::Uint, Plain, "", "intent outcome denied",
        "bound values that are not listed", "";
    34 "params_omitted" Kind::Uint, Plain, "", "intent outcome denied",
        "number of bound values, when the configuration says not to record them", "";
    35 "results" Kind::Objects(RESULT), Plain, "", "outcome",
        "each result, when a simple query had several", "result";
    36 "results_more" Kind::Uint, Plain, "", "outcome",
        "results that are not listed", "";
    37 "copy_in" Kind::Object(COPIED), Plain, "", "outcome",
        "data the client sent by COPY", "result";
    38 "copy_out" Kind::Object(COPIED), Plain, "", "outcome",
        "data the server sent by COPY", "result";
    39 "commit_sqlstate" Kind::Peer, Plain, "", "outcome",
        "code of the error with which the server undid it when it was to commit", "result";
    40 "shared_with" Kind::Uints, Plain, "", "intent outcome denied",
        "`seq` of the entries that name further processes that wrote parts of its bytes", "who";
    41 "shared_with_more" Kind::Uint, Plain, "", "intent outcome denied",
        "those that are not listed", "";
    42 "params_left_out" Kind::Uint, Plain, "", "intent outcome denied",
        "of those that are not listed: neither committed to nor held", "";
    43 "text_commitment" Kind::Hex, Plain, "", "statement intent outcome denied",
        "commitment to the full text", "what";
    44 "text_bytes" Kind::Uint, Plain, "", "statement intent outcome denied",
        "full length of the text, where not all of it is held", "";
    46 "values_sha256" Kind::Hex, Plain, "", "statement intent outcome denied",
        "digest of what is held beside the entry", "";
    47 "text_never" Kind::Word(words::NEVER), Plain, "", "statement intent outcome denied",
        "the literals of the text are not stored, and why", "what";
    48 "version" Kind::Text, Plain, "metadata.product.version", "agent_start",
        "version of the agent", "what";
    49 "host" Kind::Text, Identity, "device.hostname", "agent_start epoch_start",
        "host name", "from where";
    50 "boot_id" Kind::Text, Plain, "", "agent_start recovery clock",
        "the boot that `boot_ns` and start times of processes count from", "when";
    51 "pid" Kind::Uint, Plain, "", "agent_start",
        "process id of the agent", "";
    52 "config_sha256" Kind::Hex, Plain, "", "agent_start config_load",
        "digest of the configuration in force", "what";
    53 "tiers" Kind::Words(Tier::NAMES), Plain, "", "agent_start",
        "tiers of attribution that work", "who";
    54 "cgroup" Kind::Text, Plain, "", "agent_start hooks",
        "what is intercepted: `root`, or the path of a cgroup", "on what";
    55 "memory_locked" Kind::Flag, Plain, "", "agent_start",
        "keys stay out of swap and core dumps", "";
    56 "reason" Kind::Text, Plain, "status_detail", "agent_stop session_end refused authentication recovery epoch_start key failure break_glass redaction prune hold denied clock kill grant limit",
        "why", "result";
    57 "detail" Kind::Text, Plain, "message", "session_end refused events_lost namespace authentication recovery failure hooks break_glass grant limit",
        "more about it, never SQL", "result";
    58 "sessions" Kind::Uint, Plain, "", "agent_stop kill",
        "sessions since `agent_start`, or those that were chosen", "";
    59 "statements" Kind::Uint, Plain, "", "agent_stop session_end",
        "statements recorded, of the agent's run or the session", "";
    60 "actor" Kind::Object(ACTOR), Identity, "actor", "session_start writer cancel refused allowed_unseen namespace",
        "identity of the process", "who, from where";
    61 "confidence" Kind::Word(Confidence::NAMES), Plain, "", "session_start",
        "`exact`, or `opener or later writer`", "who";
    62 "destination" Kind::Text, Identity, "dst_endpoint", "session_start cancel refused allowed_unseen",
        "address and port the process asked for", "on what";
    63 "source" Kind::Text, Identity, "src_endpoint", "session_start",
        "address and port the server sees", "from where";
    64 "netns_cookie" Kind::Uint, Plain, "", "session_start namespace",
        "network namespace of the process", "from where";
    65 "database_user" Kind::Peer, Identity, "actor.user.name", "session_start",
        "role the client asked for", "who";
    66 "database" Kind::Peer, Plain, "database.name", "session_start",
        "database", "on what";
    67 "application_name" Kind::Peer, Identity, "app_name", "session_start",
        "what the client calls itself: unproven", "who";
    68 "server_version" Kind::Peer, Plain, "", "authentication",
        "as the server reports it", "on what";
    69 "protocol" Kind::Text, Plain, "", "session_start authentication",
        "version of the protocol, `major.minor`", "";
    70 "authentication" Kind::Text, Plain, "auth_protocol", "authentication",
        "what the server asked for", "who";
    71 "destination_name" Kind::Text, Plain, "", "session_start",
        "which `[[destination]]` of the configuration it is", "on what";
    72 "handshake" Kind::Word(HandshakeKind::NAMES), Plain, "", "authentication",
        "who carried out the exchange: terminated, mapped, relayed; absent when it failed", "who";
    73 "login" Kind::Peer, Identity, "", "authentication",
        "role that the agent used with the server, when it is another", "who";
    74 "bound" Kind::Words(BoundLeg::NAMES), Plain, "", "authentication",
        "legs that SCRAM was bound to: client, server", "who";
    75 "exception" Kind::Text, Plain, "", "authentication",
        "why something weaker than SCRAM was accepted", "who";
    76 "client_tls" Kind::Text, Plain, "tls.version", "session_start",
        "TLS between client and agent; absent in clear text", "from where";
    77 "server_tls" Kind::Text, Plain, "", "authentication",
        "TLS between agent and server; absent in clear text", "on what";
    78 "server_verified" Kind::Text, Plain, "", "authentication",
        "what of the server's certificate was verified: verify-full, verify-ca; require, prefer: nothing", "on what";
    79 "server_name" Kind::Text, Plain, "", "session_start",
        "name of the server that the client gave in TLS", "on what";
    80 "options" Kind::Peer, Plain, "", "session_start",
        "`options` of the startup packet", "what";
    81 "backend_pid" Kind::Uint, Plain, "", "authentication",
        "the server's process of the session, as in the server's own log", "on what";
    82 "client_bytes" Kind::Uint, Plain, "traffic.bytes_out", "session_end",
        "bytes from client to server", "";
    83 "server_bytes" Kind::Uint, Plain, "traffic.bytes_in", "session_end",
        "bytes from server to client", "";
    84 "target_pid" Kind::Uint, Plain, "", "cancel",
        "the server's process that was to be interrupted", "on what";
    85 "target_session" Kind::Hex, Plain, "", "cancel",
        "its session, when it is one of the agent's", "on what";
    86 "count" Kind::Uint, Plain, "count", "refused allowed_unseen events_lost",
        "how many the entry stands for", "result";
    87 "since" Kind::Wall, Plain, "start_time", "allowed_unseen events_lost failure break_glass coverage",
        "when the first of them was", "when";
    88 "lost" Kind::Word(LostSource::NAMES), Plain, "", "events_lost",
        "what was lost: kernel_events, writer_events, records, records_unsynced", "what";
    89 "change" Kind::Word(NamespaceChange::NAMES), Plain, "", "namespace",
        "opened, failed, closed", "what";
    90 "inode" Kind::Uint, Plain, "", "namespace",
        "inode of the namespace's handle", "from where";
    91 "port" Kind::Uint, Plain, "", "namespace",
        "port the agent listens on there", "";
    92 "held_us" Kind::Uint, Plain, "", "namespace",
        "how long the first connect was held, microseconds", "when";
    93 "entries" Kind::Uint, Plain, "", "session_end session_mark",
        "entries of the session so far, this one included", "";
    94 "digest" Kind::Hex, Plain, "", "session_end session_mark",
        "SHA-256 over the leaf hashes of the session's entries before this one, in their order", "";
    95 "connect" Kind::Uint, Plain, "", "session_start cancel refused allowed_unseen",
        "number that the kernel side gave the connect", "";
    96 "seen" Kind::Uint, Plain, "", "coverage",
        "connects to protected ports that the kernel side saw", "result";
    97 "intercepted" Kind::Uint, Plain, "", "coverage",
        "of these, those that became sessions or cancel requests, or closed without a word", "result";
    98 "refused" Kind::Uint, Plain, "", "coverage",
        "of these, those that were refused", "result";
    99 "failed" Kind::Uint, Plain, "", "coverage",
        "of these, those that failed, each with a name", "result";
    100 "allowed" Kind::Uint, Plain, "", "coverage",
        "of these, those that passed unseen as configured", "result";
    101 "open" Kind::Uint, Plain, "", "coverage",
        "of these, those under way", "result";
    102 "unexplained" Kind::Uint, Plain, "", "coverage",
        "of these, those of which nothing is known: must be 0", "result";
    103 "connect_base" Kind::Uint, Plain, "", "coverage",
        "number of the first connect of this ledger", "";
    104 "ledger" Kind::Uint, Plain, "", "coverage",
        "random number of the ledger: new when the kernel side counts from 0 again", "";
    105 "failures" Kind::Objects(FAILURE), Plain, "", "coverage",
        "failed connects by name", "result";
    106 "cancel_outcome" Kind::Word(CancelOutcome::NAMES), Plain, "status_detail", "cancel",
        "what becomes of the request; forwarded is recorded before it goes, failed behind that", "result";
    107 "refusals" Kind::Objects(FAILURE), Plain, "", "coverage",
        "refused connects by reason", "result";
    108 "text_hash" Kind::Hex, Plain, "", "statement intent outcome denied",
        "keyed hash of the text, where the rules say so", "what";
    109 "params_commitment" Kind::Hex, Plain, "", "intent outcome denied",
        "commitment to the values that are not listed", "on what";
    110 "seal_number" Kind::Uint, Plain, "", "seal",
        "number of the seal in its log", "";
    111 "seal_size" Kind::Uint, Plain, "", "seal",
        "entries of the log before it", "";
    112 "seal_root" Kind::Hex, Plain, "", "seal",
        "root of the tree of these", "";
    113 "seal_kind" Kind::Word(words::SEALS), Plain, "", "seal",
        "what it is signed with, see \"Seals\"", "";
    114 "seal_next" Kind::Hex, Plain, "", "seal",
        "public key of the next seal", "";
    115 "seal_signature" Kind::Hex, Plain, "", "seal",
        "Ed25519 signature", "";
    120 "previous_origin" Kind::Text, Plain, "", "epoch_start",
        "origin of the log before", "";
    121 "last_size" Kind::Uint, Plain, "", "epoch_start recovery",
        "last good size", "";
    122 "last_root" Kind::Hex, Plain, "", "epoch_start recovery",
        "root at that size", "";
    123 "bytes" Kind::Uint, Plain, "", "recovery",
        "bytes that were put aside", "";
    124 "sha256" Kind::Hex, Plain, "", "recovery",
        "their digest", "";
    125 "file" Kind::Text, Plain, "", "recovery",
        "name of the file they are in", "";
    130 "key_kind" Kind::Text, Plain, "", "key",
        "host, disclosure, day", "what";
    131 "key_id" Kind::Text, Plain, "", "key",
        "public key or name of the key", "what";
    140 "clock_number" Kind::Uint, Plain, "", "clock",
        "number of this state in the agent's run, from 1", "";
    141 "clock_source" Kind::Text, Plain, "", "clock",
        "what disciplines the clock", "when";
    142 "offset_ns" Kind::Uint, Plain, "", "clock",
        "offset that the kernel still has to correct, magnitude", "when";
    143 "max_error_us" Kind::Uint, Plain, "", "clock",
        "the kernel's bound on the error", "when";
    144 "unsynchronised" Kind::Flag, Plain, "", "clock",
        "the kernel says that nobody disciplines the clock", "when";
    145 "tai_offset" Kind::Uint, Plain, "", "clock",
        "TAI minus UTC, seconds", "";
    146 "step_ns" Kind::Uint, Plain, "", "clock",
        "how far the clock was set, magnitude", "when";
    147 "step_back" Kind::Flag, Plain, "", "clock",
        "it was set back", "when";
    148 "offset_back" Kind::Flag, Plain, "", "clock",
        "the offset is negative", "";
    149 "step_before" Kind::Wall, Plain, "", "clock",
        "what the clock would have shown, had it not been set", "when";
    150 "watermark" Kind::Uint, Plain, "", "capacity",
        "mark of the quota that was crossed, percent", "result";
    151 "used_bytes" Kind::Uint, Plain, "", "capacity",
        "bytes of the trail", "";
    152 "quota_bytes" Kind::Uint, Plain, "", "capacity",
        "most it may hold", "";
    153 "rising" Kind::Flag, Plain, "", "capacity",
        "crossed upwards", "";
    160 "until" Kind::Wall, Plain, "", "break_glass grant",
        "when it ends", "when";
    161 "by_uid" Kind::Uint, Identity, "", "break_glass audit_read redaction prune hold key kill grant",
        "user who asked", "who";
    162 "action" Kind::Text, Plain, "", "break_glass failure hooks hold key kill grant",
        "what happened: begin, end, ...", "what";
    170 "scope" Kind::Text, Plain, "", "redaction hold kill",
        "session, subject, day; range of time; by what sessions were chosen", "on what";
    171 "target" Kind::Text, Plain, "", "redaction hold kill grant",
        "which", "on what";
    172 "approver" Kind::Text, Identity, "", "redaction hold break_glass grant",
        "who approved", "who";
    173 "keys_erased" Kind::Uint, Plain, "", "redaction",
        "keys that are gone", "result";
    180 "from_index" Kind::Uint, Plain, "", "redaction prune",
        "first entry that was deleted", "on what";
    181 "to_index" Kind::Uint, Plain, "", "redaction prune",
        "behind the last", "on what";
    182 "minimum_index" Kind::Uint, Plain, "", "prune",
        "smallest index that is still there", "";
    190 "command" Kind::Text, Plain, "", "audit_read",
        "which command", "what";
    191 "arguments" Kind::Text, Plain, "", "audit_read",
        "what it was asked for", "on what";
    195 "hold" Kind::Text, Plain, "", "hold",
        "name of the hold", "";
    196 "grant" Kind::Text, Plain, "", "grant",
        "name of the grant", "";
    197 "role" Kind::Text, Plain, "", "grant",
        "role of the policy that is granted", "on what";
    200 "audit_mode" Kind::Word(words::MODES), Plain, "", "session_start",
        "when statements go: strict, group, overlap, async, default", "";
    201 "programs" Kind::Texts, Plain, "", "hooks",
        "programs and their ids", "on what";
    202 "anchor" Kind::Text, Plain, "", "failure",
        "name of the anchor", "";
};

/// Fields of an element of `params`.
#[rustfmt::skip]
pub const PARAMETER: &[Field] = table! {
    0 "format" Kind::Uint, Plain, "", "",
        "0 text, 1 binary", "";
    1 "type_oid" Kind::Uint, Plain, "", "",
        "type; 0: left to the server", "";
    2 "value" Kind::Value, Data, "", "",
        "value; `null` for NULL", "on what";
    3 "commitment" Kind::Hex, Plain, "", "",
        "commitment to the value", "on what";
    4 "hash" Kind::Hex, Plain, "", "",
        "keyed hash of the value", "on what";
    5 "never" Kind::Word(words::NEVER), Plain, "", "",
        "the value is not stored, and why", "";
    6 "value_bytes" Kind::Uint, Plain, "", "",
        "full length of the value, where not all of it is held here", "";
    8 "omitted" Kind::Flag, Plain, "", "",
        "it is held nowhere: all values together are too long", "";
};

/// Fields of an element of `results`.
#[rustfmt::skip]
pub const RESULT: &[Field] = table! {
    0 "tag" Kind::Peer, Plain, "", "",
        "command tag; empty for an empty query", "result";
    1 "rows" Kind::Uint, Plain, "", "",
        "rows sent", "result";
};

/// Fields of `copy_in` and `copy_out`.
#[rustfmt::skip]
pub const COPIED: &[Field] = table! {
    0 "bytes" Kind::Uint, Plain, "", "",
        "its bytes", "result";
    1 "rows" Kind::Uint, Plain, "", "",
        "its rows, where they can be told", "result";
};

/// Fields of an element of `failures`.
#[rustfmt::skip]
const FAILURE: &[Field] = table! {
    0 "name" Kind::Text, Plain, "", "",
        "what happened", "result";
    1 "count" Kind::Uint, Plain, "", "",
        "how many", "result";
};

/// Numbers of the fields of an entry, for the encoder and for readers.
#[expect(missing_docs, reason = "named after the fields of `ENTRY`")]
pub mod f {
    pub const V: u8 = 0;
    pub const EVENT: u8 = 1;
    pub const SALT: u8 = 2;
    pub const TIME: u8 = 3;
    pub const BOOT_NS: u8 = 4;
    pub const CLOCK: u8 = 5;
    pub const SESSION: u8 = 6;
    pub const SEQ: u8 = 7;
    pub const WRITER_REF: u8 = 8;
    pub const TEXT_REF: u8 = 9;
    pub const TEXT: u8 = 10;
    pub const PARAMS: u8 = 11;
    pub const KIND: u8 = 12;
    pub const OUTCOME: u8 = 13;
    pub const SQLSTATE: u8 = 14;
    pub const TAG: u8 = 15;
    pub const ROWS: u8 = 16;
    pub const ROW_BYTES: u8 = 17;
    pub const INTENT: u8 = 18;
    pub const DURATION_US: u8 = 19;
    pub const FIRST_RESPONSE_US: u8 = 20;
    pub const TRANSACTION: u8 = 21;
    pub const TIER: u8 = 22;
    pub const VALUES: u8 = 23;
    pub const DECISION: u8 = 24;
    pub const RULES: u8 = 25;
    pub const POLICY: u8 = 26;
    pub const MASKED: u8 = 27;
    pub const TEXT_STATE: u8 = 28;
    pub const CLIENT_ENCODING: u8 = 29;
    pub const NAME: u8 = 30;
    pub const PORTAL: u8 = 31;
    pub const FUNCTION_OID: u8 = 32;
    pub const PARAMS_MORE: u8 = 33;
    pub const PARAMS_OMITTED: u8 = 34;
    pub const RESULTS: u8 = 35;
    pub const RESULTS_MORE: u8 = 36;
    pub const COPY_IN: u8 = 37;
    pub const COPY_OUT: u8 = 38;
    pub const COMMIT_SQLSTATE: u8 = 39;
    pub const SHARED_WITH: u8 = 40;
    pub const SHARED_WITH_MORE: u8 = 41;
    pub const PARAMS_LEFT_OUT: u8 = 42;
    pub const TEXT_COMMITMENT: u8 = 43;
    pub const TEXT_BYTES: u8 = 44;
    pub const VALUES_SHA256: u8 = 46;
    pub const TEXT_NEVER: u8 = 47;
    pub const VERSION: u8 = 48;
    pub const HOST: u8 = 49;
    pub const BOOT_ID: u8 = 50;
    pub const PID: u8 = 51;
    pub const CONFIG_SHA256: u8 = 52;
    pub const TIERS: u8 = 53;
    pub const CGROUP: u8 = 54;
    pub const MEMORY_LOCKED: u8 = 55;
    pub const REASON: u8 = 56;
    pub const DETAIL: u8 = 57;
    pub const SESSIONS: u8 = 58;
    pub const STATEMENTS: u8 = 59;
    pub const ACTOR: u8 = 60;
    pub const CONFIDENCE: u8 = 61;
    pub const DESTINATION: u8 = 62;
    pub const SOURCE: u8 = 63;
    pub const NETNS_COOKIE: u8 = 64;
    pub const DATABASE_USER: u8 = 65;
    pub const DATABASE: u8 = 66;
    pub const APPLICATION_NAME: u8 = 67;
    pub const SERVER_VERSION: u8 = 68;
    pub const PROTOCOL: u8 = 69;
    pub const AUTHENTICATION: u8 = 70;
    pub const DESTINATION_NAME: u8 = 71;
    pub const HANDSHAKE: u8 = 72;
    pub const LOGIN: u8 = 73;
    pub const BOUND: u8 = 74;
    pub const EXCEPTION: u8 = 75;
    pub const CLIENT_TLS: u8 = 76;
    pub const SERVER_TLS: u8 = 77;
    pub const SERVER_VERIFIED: u8 = 78;
    pub const SERVER_NAME: u8 = 79;
    pub const OPTIONS: u8 = 80;
    pub const BACKEND_PID: u8 = 81;
    pub const CLIENT_BYTES: u8 = 82;
    pub const SERVER_BYTES: u8 = 83;
    pub const TARGET_PID: u8 = 84;
    pub const TARGET_SESSION: u8 = 85;
    pub const COUNT: u8 = 86;
    pub const SINCE: u8 = 87;
    pub const LOST: u8 = 88;
    pub const CHANGE: u8 = 89;
    pub const INODE: u8 = 90;
    pub const PORT: u8 = 91;
    pub const HELD_US: u8 = 92;
    pub const ENTRIES: u8 = 93;
    pub const DIGEST: u8 = 94;
    pub const CONNECT: u8 = 95;
    pub const SEEN: u8 = 96;
    pub const INTERCEPTED: u8 = 97;
    pub const REFUSED: u8 = 98;
    pub const FAILED: u8 = 99;
    pub const ALLOWED: u8 = 100;
    pub const OPEN: u8 = 101;
    pub const UNEXPLAINED: u8 = 102;
    pub const CONNECT_BASE: u8 = 103;
    pub const LEDGER: u8 = 104;
    pub const FAILURES: u8 = 105;
    pub const CANCEL_OUTCOME: u8 = 106;
    pub const REFUSALS: u8 = 107;
    pub const TEXT_HASH: u8 = 108;
    pub const PARAMS_COMMITMENT: u8 = 109;
    pub const SEAL_NUMBER: u8 = 110;
    pub const SEAL_SIZE: u8 = 111;
    pub const SEAL_ROOT: u8 = 112;
    pub const SEAL_KIND: u8 = 113;
    pub const SEAL_NEXT: u8 = 114;
    pub const SEAL_SIGNATURE: u8 = 115;
    pub const PREVIOUS_ORIGIN: u8 = 120;
    pub const LAST_SIZE: u8 = 121;
    pub const LAST_ROOT: u8 = 122;
    pub const BYTES: u8 = 123;
    pub const SHA256: u8 = 124;
    pub const FILE: u8 = 125;
    pub const KEY_KIND: u8 = 130;
    pub const KEY_ID: u8 = 131;
    pub const CLOCK_NUMBER: u8 = 140;
    pub const CLOCK_SOURCE: u8 = 141;
    pub const OFFSET_NS: u8 = 142;
    pub const MAX_ERROR_US: u8 = 143;
    pub const UNSYNCHRONISED: u8 = 144;
    pub const TAI_OFFSET: u8 = 145;
    pub const STEP_NS: u8 = 146;
    pub const STEP_BACK: u8 = 147;
    pub const OFFSET_BACK: u8 = 148;
    pub const STEP_BEFORE: u8 = 149;
    pub const WATERMARK: u8 = 150;
    pub const USED_BYTES: u8 = 151;
    pub const QUOTA_BYTES: u8 = 152;
    pub const RISING: u8 = 153;
    pub const UNTIL: u8 = 160;
    pub const BY_UID: u8 = 161;
    pub const ACTION: u8 = 162;
    pub const SCOPE: u8 = 170;
    pub const TARGET: u8 = 171;
    pub const APPROVER: u8 = 172;
    pub const KEYS_ERASED: u8 = 173;
    pub const FROM_INDEX: u8 = 180;
    pub const TO_INDEX: u8 = 181;
    pub const MINIMUM_INDEX: u8 = 182;
    pub const COMMAND: u8 = 190;
    pub const ARGUMENTS: u8 = 191;
    pub const HOLD: u8 = 195;
    pub const GRANT: u8 = 196;
    pub const ROLE: u8 = 197;
    pub const AUDIT_MODE: u8 = 200;
    pub const PROGRAMS: u8 = 201;
    pub const ANCHOR: u8 = 202;
}
