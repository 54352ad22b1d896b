//! Arguments of `pgward audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::anchor_sql::AnchorSqlArgs;
use super::moment::{Day, Moment, parse_day, parse_moment};
use super::table::Column;
use crate::audit::keep::glass;
use crate::audit::search::{Process, Query, Relation, Session, SqlState, Words};
use crate::config::DEFAULT_PATH;

/// Most rows that a command keeps before it prints them.
pub const ROWS_MAX: u64 = 1_000_000;

/// `pgward audit`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Print what was recorded last, and what comes
    Tail(TailArgs),
    /// Print everything about an entry or a session, with the facts of its proof
    Show(ShowArgs),
    /// Find statements, logins and refusals
    Search(SearchArgs),
    /// Check the trail, a copy of it, or a bundle made by `prove`
    Verify(VerifyArgs),
    /// Write a session with its proofs to a file that anybody can check
    Prove(ProveArgs),
    /// Write entries for other programs
    Export(ExportArgs),
    /// Delete old segments
    Prune(PruneArgs),
    /// Make the sealed values of a session, a person or a day unreadable for ever
    Shred(ShredArgs),
    /// List keys, or give this host a new identity
    Keys(KeysArgs),
    /// Set, lift and list legal holds
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Ease recording for some minutes, in an emergency
    BreakGlass(BreakGlassArgs),
    /// Print the SQL that makes the table of the anchor in a database
    AnchorSql(AnchorSqlArgs),
    /// Write the search index of each finished segment that has none
    Reindex(ReindexArgs),
}

/// Which trail.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Configuration file, which names the folder of the trail and the control socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Folder of the trail, for a copy of one. What is read of it is told to no agent
    #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
    pub directory: Option<PathBuf>,
}

/// Which entries.
#[derive(Clone, Debug, Default, Args)]
pub struct Filter {
    /// From this moment: RFC 3339, or an age such as `2h` or `3d`
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub since: Option<Moment>,
    /// Before this moment
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub until: Option<Moment>,
    /// Session: its 32 hexadecimal digits or their beginning, or as tables have it (`feed:42`)
    #[arg(long, value_name = "ID")]
    pub session: Option<Session>,
    /// Role in the database
    #[arg(long, value_name = "ROLE")]
    pub user: Option<String>,
    /// Database
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// Process: path or name of its program, its own name, or `pid=NUMBER`
    #[arg(long, value_name = "PROCESS")]
    pub process: Option<Process>,
    /// Container: its name, or the beginning of its id
    #[arg(long, value_name = "CONTAINER")]
    pub container: Option<String>,
    /// Table, view or function, with or without its schema: as a word of the statement
    #[arg(long, value_name = "NAME")]
    pub relation: Option<Relation>,
    /// Code of the error it ended with
    #[arg(long, value_name = "CODE")]
    pub sqlstate: Option<SqlState>,
    /// Words of the statement, all of them, in any order
    #[arg(long, value_name = "WORDS")]
    pub text: Option<Words>,
    /// Kind, for example `statement`, `session_start`, `refused`
    #[arg(long, value_name = "EVENT")]
    pub event: Option<String>,
}

impl Filter {
    /// What is searched for.
    pub fn query(&self) -> Query {
        Query {
            since: self.since.map(|moment| moment.0),
            until: self.until.map(|moment| moment.0),
            session: self.session.clone(),
            user: self.user.clone(),
            database: self.database.clone(),
            process: self.process.clone(),
            container: self.container.clone(),
            relation: self.relation.clone(),
            sqlstate: self.sqlstate.clone(),
            text: self.text.clone(),
            events: self.event.clone().into_iter().collect(),
        }
    }
}

/// How rows are shown.
#[derive(Clone, Debug, Args)]
pub struct Look {
    /// One JSON object a line instead of a table: what belongs together as one object
    #[arg(long, conflicts_with_all = ["columns", "width"])]
    pub json: bool,
    /// Which columns, and in which order
    #[arg(long, value_enum, value_delimiter = ',', value_name = "COLUMN,...")]
    pub columns: Vec<Column>,
    /// Characters a line may have; 0 for no limit. By default the width of the terminal, no limit
    /// where there is none
    #[arg(long, value_name = "CHARACTERS")]
    pub width: Option<u16>,
}

/// `pgward audit tail`
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Which trail.
    #[command(flatten)]
    pub place: Place,
    /// Go on as entries come, until interrupted
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last of them
    #[arg(long, short = 'n', value_name = "ROWS", default_value_t = 1000,
          value_parser = clap::value_parser!(u64).range(0..=ROWS_MAX))]
    pub rows: u64,
    /// Every entry as it is, with its index, as JSON
    #[arg(long, conflicts_with_all = ["columns", "width", "json"])]
    pub raw: bool,
    /// How rows are shown.
    #[command(flatten)]
    pub look: Look,
}

/// `pgward audit search`
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Which trail.
    #[command(flatten)]
    pub place: Place,
    /// Which entries.
    #[command(flatten)]
    pub filter: Filter,
    /// Only the newest of them
    #[arg(long, short = 'n', value_name = "ROWS", default_value_t = 1000,
          value_parser = clap::value_parser!(u64).range(1..=ROWS_MAX))]
    pub rows: u64,
    /// How rows are shown.
    #[command(flatten)]
    pub look: Look,
}

/// `pgward audit show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Index of an entry (`123`, or `2:123` with its epoch), a session as in `search`, or a decision as a refusal names it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Which trail.
    #[command(flatten)]
    pub place: Place,
    /// Open sealed values with the keys of this host. That is recorded
    #[arg(long)]
    pub disclose: bool,
    /// JSON objects, one a line, instead of text
    #[arg(long)]
    pub json: bool,
}

/// `pgward audit verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Folder of a trail, or a bundle; by default the trail the configuration names
    #[arg(value_name = "FOLDER|BUNDLE")]
    pub what: Option<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, conflicts_with = "what")]
    pub config: PathBuf,
    /// What it is checked against. Without `--key`, the one in the folder, which proves nothing against
    /// who can write there
    #[command(flatten)]
    pub check: pgward_verify::command::Args,
}

/// `pgward audit prove`
#[derive(Debug, Args)]
pub struct ProveArgs {
    /// Session as in `search`
    #[arg(long, value_name = "ID")]
    pub session: Session,
    /// File to write
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Which trail.
    #[command(flatten)]
    pub place: Place,
}

/// `pgward audit export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Format
    #[arg(long, value_enum)]
    pub format: Format,
    /// File to write, or folder of `tlog-tiles`; by default standard output
    #[arg(long, short, value_name = "FILE|FOLDER")]
    pub output: Option<PathBuf>,
    /// Every entry as it is, with its index and hash, instead of what belongs together as one
    /// object. Only of `jsonl`
    #[arg(long)]
    pub raw: bool,
    /// Which epoch. By default all, of `tlog-tiles` the newest
    #[arg(long, value_name = "NUMBER")]
    pub epoch: Option<u64>,
    /// Which trail.
    #[command(flatten)]
    pub place: Place,
    /// From this moment: RFC 3339, or an age such as `2h` or `3d`
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub since: Option<Moment>,
    /// Before this moment
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub until: Option<Moment>,
    /// Session as in `search`
    #[arg(long, value_name = "ID")]
    pub session: Option<Session>,
}

/// What `export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a line, nothing lost
    Jsonl,
    /// One OCSF event (`datastore_activity`) a line
    Ocsf,
    /// One CEF line an event, for syslog; shortened
    Cef,
    /// A table, one column a field; objects as JSON
    Csv,
    /// The log as C2SP tlog-tiles has it: checkpoint, tiles, entry bundles
    TlogTiles,
}

/// `pgward audit prune`
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Configuration file, which names the control socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Segments whose entries are all older
    #[arg(long, value_name = "TIME", value_parser = parse_moment, required_unless_present = "keep_days")]
    pub before: Option<Moment>,
    /// Segments whose entries are all older than so many days
    #[arg(long, value_name = "DAYS", conflicts_with = "before",
          value_parser = clap::value_parser!(u64).range(1..=36_500))]
    pub keep_days: Option<u64>,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// `pgward audit shred`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whose").required(true))]
pub struct ShredArgs {
    /// Configuration file, which names the control socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// A session: 32 hexadecimal digits
    #[arg(long, value_name = "ID", group = "whose")]
    pub session: Option<Session>,
    /// A person, by the value that `audit.rule.subject` names
    #[arg(long, value_name = "VALUE", group = "whose")]
    pub subject: Option<String>,
    /// A day, UTC
    #[arg(long, value_name = "DATE", group = "whose", value_parser = parse_day)]
    pub day: Option<Day>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who approved
    #[arg(long, value_name = "NAME")]
    pub approver: String,
}

/// `pgward audit keys`
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// What to do; without it keys are listed
    #[command(subcommand)]
    pub command: Option<KeysCommand>,
    /// Which trail.
    #[command(flatten)]
    pub place: Place,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Give this host a new identity, after its disk was copied to another machine. The agent must
    /// not run
    NewIdentity(NewIdentityArgs),
}

/// `pgward audit keys new-identity`
#[derive(Debug, Args)]
pub struct NewIdentityArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
}

/// `pgward audit hold`
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// From now on nothing of it is pruned or shredded
    Set(HoldSetArgs),
    /// It ends
    Lift(HoldLiftArgs),
    /// All that are in force
    List(super::super::AskArgs),
}

/// `pgward audit hold set`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub struct HoldSetArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Configuration file, which names the control socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Everything
    #[arg(long, group = "what", conflicts_with_all = ["session", "since", "until"])]
    pub all: bool,
    /// A session: 32 hexadecimal digits
    #[arg(long, value_name = "ID", group = "what", conflicts_with_all = ["since", "until"])]
    pub session: Option<Session>,
    /// From this moment
    #[arg(long, value_name = "TIME", group = "what", value_parser = parse_moment)]
    pub since: Option<Moment>,
    /// Before this moment
    #[arg(long, value_name = "TIME", group = "what", value_parser = parse_moment)]
    pub until: Option<Moment>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who approved
    #[arg(long, value_name = "NAME")]
    pub approver: String,
}

/// `pgward audit hold lift`
#[derive(Debug, Args)]
pub struct HoldLiftArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Configuration file, which names the control socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who approved
    #[arg(long, value_name = "NAME")]
    pub approver: String,
}

/// `pgward audit break-glass`
#[derive(Debug, Args)]
pub struct BreakGlassArgs {
    /// Configuration file, which names the control socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// How long: 1 to 240
    #[arg(long, value_name = "MINUTES", value_parser = parse_minutes)]
    pub minutes: u64,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who approved
    #[arg(long, value_name = "NAME")]
    pub approver: String,
}

/// `pgward audit reindex`
#[derive(Debug, Args)]
pub struct ReindexArgs {
    /// Which trail.
    #[command(flatten)]
    pub place: Place,
    /// All of them, also those that are there
    #[arg(long)]
    pub all: bool,
}

/// Minutes for which the agent would ease recording: what is too long is said before it is asked.
fn parse_minutes(text: &str) -> Result<u64, String> {
    let minutes = text.parse().map_err(|error| format!("not a number of minutes: {error}"))?;
    glass::lasting(minutes).map(|_| minutes).map_err(|error| error.to_string())
}
