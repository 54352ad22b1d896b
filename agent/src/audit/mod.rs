//! The record of what was asked, and the query log that holds it.
//!
//! A [`Record`] says what happened, a [`Stamp`] when and in which session. Workers hand both to
//! their [`Sink`] and get a [`Recorded`] in return; one thread writes the lines to the file of
//! [`Log`].
//!
//! # Format
//!
//! One JSON object (RFC 8259) a line, UTF-8, ended by a line feed; version 1. Order of lines:
//! within a session that of `seq`, between sessions none; compare `boot_ns`. A line that is no JSON
//! is what a crash left of a record.
//!
//! * A field without a value is left out. Numbers are whole; those that count bytes or nanoseconds
//!   need 64 bits.
//! * Text is escaped so that no control character, U+0080–U+009F, U+2028 or U+2029 stands in a line
//!   as itself.
//! * What a peer sent need not be UTF-8. Then field `NAME` holds base64 and `NAME_encoding` is
//!   `base64`.
//! * What was longer than its limit holds its beginning, `NAME_bytes` the full length,
//!   `NAME_sha256` the digest of the whole.
//!
//! The last column says which question of an audit a field answers (PCI DSS v4, requirement 10.2.2,
//! asks for the same): who, what, when, with which result, from where, on what.
//!
//! | field | events | meaning | answers |
//! |---|---|---|---|
//! | `v` | all | version of this format | |
//! | `event` | all | kind of the record | what |
//! | `time` | all | when the record was made: RFC 3339, UTC, nanoseconds | when |
//! | `boot_ns` | all | the same in nanoseconds since boot, suspend included: intervals, order, kernel events | when |
//! | `session` | session_start session_end statement cancel | session, 32 hexadecimal digits: run of the agent, counter | who |
//! | `seq` | session_start session_end statement cancel | number of the record in its session, from 0 without gaps: a gap is a lost record | |
//! | `version` | agent_start | version of the agent | what |
//! | `host` | agent_start | host name | from where |
//! | `boot_id` | agent_start | the boot that `boot_ns` and start times of processes count from | when |
//! | `pid` | agent_start | process id of the agent | |
//! | `config_sha256` | agent_start | digest of the configuration in force | what |
//! | `tiers` | agent_start | tiers of attribution that work | who |
//! | `cgroup` | agent_start | what is intercepted: `root`, or the path of a cgroup | on what |
//! | `torn_tail_bytes` | agent_start | length of an unfinished line found at the end of the log | result |
//! | `sessions` | agent_stop | sessions since `agent_start` | |
//! | `statements` | agent_stop session_end | statements recorded, of the agent's run or the session | |
//! | `actor` | session_start cancel refused allowed_unseen namespace | identity of the process, as the attribution module describes it | who, from where |
//! | `tier` | session_start statement | what told who wrote: T0 opener only, T1 transmit time stamps, T2 `sendmsg` tracepoint | who |
//! | `confidence` | session_start | `exact`, or `opener or later writer` | who |
//! | `destination` | session_start cancel refused allowed_unseen | address and port the process asked for | on what |
//! | `source` | session_start | address and port the server sees | from where |
//! | `netns_cookie` | session_start namespace | network namespace of the process | from where |
//! | `database_user` | session_start | role the client asked for | who |
//! | `database` | session_start | database | on what |
//! | `application_name` | session_start | what the client calls itself: unproven | who |
//! | `client_encoding` | session_start statement | encoding of the texts; in a statement only when it isn't UTF8 | |
//! | `server_version` | session_start | as the server reports it | on what |
//! | `protocol` | session_start | version of the protocol, `major.minor` | |
//! | `authentication` | session_start | what the server asked for | who |
//! | `destination_name` | session_start | which `[[destination]]` of the configuration it is | on what |
//! | `handshake` | session_start | who carried out the exchange: terminated, mapped, relayed; absent when it failed | who |
//! | `login` | session_start | role that the agent used with the server, when it is another | who |
//! | `bound` | session_start | legs that SCRAM was bound to: client, server | who |
//! | `exception` | session_start | why something weaker than SCRAM was accepted | who |
//! | `client_tls` | session_start | TLS between client and agent; absent in clear text | from where |
//! | `server_tls` | session_start | TLS between agent and server; absent in clear text | on what |
//! | `server_verified` | session_start | what of the server's certificate was verified: verify-full, verify-ca; require, prefer: nothing | on what |
//! | `server_name` | session_start | name of the server that the client gave in TLS | on what |
//! | `options` | session_start | `options` of the startup packet | what |
//! | `backend_pid` | session_start | the server's process of the session, as in the server's own log | on what |
//! | `kind` | statement | which message brought it: simple, extended, function_call, or one that failed on its own | what |
//! | `text` | statement | the statement | what, on what |
//! | `text_state` | statement | `unknown`: not seen by the agent (prepared by SQL, beyond a limit); `malformed`: refused by the server | |
//! | `name` | statement | prepared statement, when it has a name | |
//! | `portal` | statement | portal, when it has a name | |
//! | `function_oid` | statement | function of a function call | on what |
//! | `params` | statement | bound values in order, see below | on what |
//! | `params_more` | statement | bound values that are not listed | |
//! | `params_omitted` | statement | number of bound values, when the configuration says not to record them | |
//! | `params[].format` | statement | `text` or `binary` | |
//! | `params[].type_oid` | statement | type; 0: left to the server | |
//! | `params[].value` | statement | value; `null` for NULL; base64 in binary format | on what |
//! | `params[].omitted` | statement | the value is left out because all values of the record together are too long | |
//! | `outcome` | statement cancel | how it ended; `unfinished`: what the server did is not known | result |
//! | `sqlstate` | statement session_end refused | code of the error it ended with | result |
//! | `commit_sqlstate` | statement | code of the error with which the server undid it when it was to commit | result |
//! | `tag` | statement | the server's command tag of the last result | result, on what |
//! | `rows` | statement | rows sent to the client; rows changed are in `tag` | result |
//! | `row_bytes` | statement | bytes of these rows | result |
//! | `results` | statement | each result, when a simple query had several | result |
//! | `results_more` | statement | results that are not listed | |
//! | `results[].tag` | statement | command tag; empty for an empty query | result |
//! | `results[].rows` | statement | rows sent | result |
//! | `copy_in` | statement | data the client sent by COPY | result |
//! | `copy_out` | statement | data the server sent by COPY | result |
//! | `copy_in.bytes` | statement | its bytes | result |
//! | `copy_in.rows` | statement | its rows, where they can be told | result |
//! | `copy_out.bytes` | statement | its bytes | result |
//! | `copy_out.rows` | statement | its rows, where they can be told | result |
//! | `started` | statement | when the message came from the client | when |
//! | `first_response_us` | statement | from then to the server's first answer, microseconds | when |
//! | `duration_us` | statement session_end | from then (a session: from connect) to the end, microseconds | when |
//! | `transaction` | statement | state behind it: idle, open, failed | result |
//! | `writer` | statement | process that wrote the statement: short form of an identity | who, from where |
//! | `shared_with` | statement | further processes that wrote parts of its bytes; at T1, where a change of writer is an estimate, that may have | who |
//! | `shared_with_more` | statement | those that are not listed | |
//! | `reason` | agent_stop session_end refused | why | result |
//! | `detail` | session_end refused events_lost namespace | more about it, never SQL | result |
//! | `client_bytes` | session_end | bytes from client to server | |
//! | `server_bytes` | session_end | bytes from server to client | |
//! | `target_pid` | cancel | the server's process that was to be interrupted | on what |
//! | `target_session` | cancel | its session, when it is one of the agent's | on what |
//! | `count` | refused allowed_unseen events_lost | how many the record stands for | result |
//! | `since` | allowed_unseen events_lost | when the first of them was | when |
//! | `source` | events_lost | what was lost: kernel_events, writer_events, records, records_unsynced | what |
//! | `change` | namespace | opened, failed, closed | what |
//! | `inode` | namespace | inode of the namespace's handle | from where |
//! | `port` | namespace | port the agent listens on there | |
//! | `held_us` | namespace | how long the first connect was held, microseconds | when |
//!
//! # What it proves, and what it doesn't
//!
//! Within a session the numbers show that nothing between the first and the last line was taken out
//! by accident. The file is plain: who may write it can change it unseen. Records reach the file
//! within about 10 ms and the disk within about a second; a crash of the agent loses the former, a
//! power cut the latter.

mod disk;
mod excerpt;
mod json;
mod record;
mod session;
mod sink;
mod statement;
mod time;
pub mod values;
mod writer;

pub use disk::{OpenError, TORN_TAIL_BYTES_MAX};
pub use excerpt::{Cut, Excerpt};
pub use json::{JSON_BYTES_MAX, Json, JsonError};
pub use record::*;
pub use session::*;
pub use sink::{NotRecorded, Recorded, SATURATED_BYTES, SINK_BYTES_MAX, Sink};
pub use statement::*;
pub use time::{BootNanos, Now, RFC3339_LEN, WallNanos};
pub use writer::{Health, Log, LogStatus, Summary};

#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod writer_tests;
