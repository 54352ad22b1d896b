//! `pgward audit`: reads the trail, and asks the agent to take care of it.
//!
//! Reading is done here, from the files, with the reader of `pgward-verify`; the running agent hears of
//! each read first, so that it is in the trail too. What changes the trail is done by the agent.

mod anchor_sql;
mod args;
mod care;
mod check;
mod disclose;
mod export;
mod keys;
mod moment;
mod progress;
mod prove;
mod read;
mod row;
mod show;
mod table;
mod tail;

use std::io;

pub use anchor_sql::AnchorSqlArgs;
pub use args::*;
pub(super) use moment::parse_moment;
pub use moment::{Day, Moment};
pub(super) use read::{Asked, source};
pub use table::Column;

use super::{Exit, Output};
#[cfg(test)]
pub(super) use tail::tail_while;

/// Does what `command` says.
pub fn run(command: &AuditCommand, output: &mut Output<'_>) -> io::Result<Exit> {
    match command {
        AuditCommand::Tail(args) => tail::tail(args, output),
        AuditCommand::Show(args) => show::run(args, output),
        AuditCommand::Search(args) => tail::search(args, output),
        AuditCommand::Verify(args) => check::run(args, output),
        AuditCommand::Prove(args) => prove::run(args, output),
        AuditCommand::Export(args) => export::run(args, output),
        AuditCommand::Prune(args) => care::prune(args, output),
        AuditCommand::Shred(args) => care::shred(args, output),
        AuditCommand::Keys(args) => keys::run(args, output),
        AuditCommand::Hold(command) => care::hold(command, output),
        AuditCommand::BreakGlass(args) => care::break_glass(args, output),
        AuditCommand::AnchorSql(args) => anchor_sql::run(args, output),
        AuditCommand::Reindex(args) => read::reindex(args, output),
    }
}
