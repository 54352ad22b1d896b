//! `[audit]`, `[[audit.rule]]` and `[[audit.anchor]]`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::auth::{DATABASE_BYTES_MAX, plain, required};
use super::destination::{no_effect, not_empty, plain_name};
use super::secret::{PASSWORD, password_source};
use crate::audit::anchors::{KEY_TEXT_BYTES_MAX, WitnessKey};
use crate::config::raw::{Document, Place, Table, alternatives, shown};
use crate::config::{
    ANCHORS_MAX, AUDIT_RULES_MAX, Anchor, AnchorDatabase, AnchorPlace, AnchorWitness, Audit,
    AuditMode, AuditRule, Destination, FLEET_BYTES_MAX, NAME_BYTES_MAX, OnFull, Parameters,
    PrintTo, ROLE_BYTES_MAX, SEGMENTS_MIN, URL_BYTES_MAX, ValueMode,
};

const DAY: u64 = 24 * 3600;
/// Longest time that anything is kept, in days: a hundred years.
const DAYS_MAX: u64 = 36_500;
/// Longest time between two copies, in seconds.
const EVERY_S_MAX: u64 = DAY;
/// Largest number of a bind parameter: the protocol counts them in 16 bits.
const PARAMETERS: std::ops::RangeInclusive<u64> = 1..=65_535;

const MODES: [(&str, AuditMode); 5] = [
    ("default", AuditMode::Default),
    ("strict", AuditMode::Strict),
    ("group", AuditMode::Group),
    ("overlap", AuditMode::Overlap),
    ("async", AuditMode::Async),
];

const VALUES: [(&str, ValueMode); 4] = [
    ("sealed", ValueMode::Sealed),
    ("clear", ValueMode::Clear),
    ("hash", ValueMode::Hash),
    ("never", ValueMode::Never),
];

type Destinations = [Arc<Destination>];

/// Reads `[audit]`.
pub(super) fn audit(
    document: &Document<'_>,
    table: Table<'_, '_>,
    destinations: &Destinations,
) -> Audit {
    let values = table.choice("values", &VALUES);
    let audit = Audit {
        directory: table.path("directory", "/var/lib/pgward/audit").1,
        fleet: fleet(document, &table),
        on_full: table.choice("on_full", &[("block", OnFull::Block), ("allow", OnFull::Allow)]),
        mode: table.choice("mode", &MODES),
        async_bytes_max: table.integer("async_bytes_max", 1 << 20, 64 << 10..=1 << 30),
        async_delay_max: table.millis("async_delay_ms_max", 1_000, 10..=60_000),
        values,
        parameters: table
            .choice("parameters", &[("record", Parameters::Record), ("omit", Parameters::Omit)]),
        statement_bytes_max: table.integer("statement_bytes_max", 64 << 10, 256..=16 << 20)
            as usize,
        parameter_bytes_max: table.integer("parameter_bytes_max", 4 << 10, 16..=1 << 20) as usize,
        segment_bytes: table.integer("segment_bytes", 32 << 20, 64 << 10..=1 << 30),
        reserve_bytes: table.integer("reserve_bytes", 64 << 20, 64 << 10..=1 << 40),
        quota_bytes: table.integer("quota_bytes", 16 << 30, 1 << 20..=1 << 50),
        seal_every: table.millis("seal_every_ms", 10_000, 1_000..=60_000),
        prune_after: days(&table, "prune_after_days", 7),
        values_keep: days(&table, "values_keep_days", 90),
        break_glass: table.written_path("break_glass").map(|(_, path)| path),
        rules: rules(document, &table, values, destinations),
        anchors: anchors(document, &table, destinations),
    };
    check_room(document, &table, &audit);
    check_break_glass(document, &table, &audit);
    table.finish();
    audit
}

fn fleet(document: &Document<'_>, table: &Table<'_, '_>) -> String {
    let default = Audit::default().fleet;
    let Some((place, text)) = table.text("fleet") else { return default };
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    if !text.is_empty() && text.len() <= FLEET_BYTES_MAX && text.bytes().all(letters) {
        return text.to_owned();
    }
    let message = format!(
        "found `{}`, expected 1 to {FLEET_BYTES_MAX} lower-case letters, digits, `-` and `.`",
        shown(text)
    );
    document.problem(&place, message, None);
    default
}

/// 0 is for ever.
fn days(table: &Table<'_, '_>, key: &'static str, default: u64) -> Option<Duration> {
    match table.integer(key, default, 0..=DAYS_MAX) {
        0 => None,
        days => Some(Duration::from_secs(days * DAY)),
    }
}

/// The quota has room for the reserve and for the segments that are there at the same time.
fn check_room(document: &Document<'_>, table: &Table<'_, '_>, audit: &Audit) {
    let least = audit.reserve_bytes + SEGMENTS_MIN * audit.segment_bytes;
    let keys = ["quota_bytes", "reserve_bytes", "segment_bytes"];
    let place = keys.into_iter().find_map(|key| table.written(key));
    if let Some(place) = place
        && audit.quota_bytes < least
    {
        let found = audit.quota_bytes;
        let message = format!(
            "`quota_bytes` is too small: found {found}, expected at least `reserve_bytes` and \
             {SEGMENTS_MIN} times `segment_bytes`, which is {least}"
        );
        document.problem(&place, message, None);
    }
}

/// Whoever may write to the trail must not be able to allow break-glass.
fn check_break_glass(document: &Document<'_>, table: &Table<'_, '_>, audit: &Audit) {
    if let (Some(file), Some(place)) = (&audit.break_glass, table.written("break_glass"))
        && file.starts_with(&audit.directory)
    {
        let message = "a file inside `directory`".to_owned();
        let hint = "name one on a file system that is mounted read-only".to_owned();
        document.problem(&place, message, Some(hint));
    }
}

fn rules(
    document: &Document<'_>,
    table: &Table<'_, '_>,
    values: ValueMode,
    destinations: &Destinations,
) -> Vec<AuditRule> {
    let tables = limited(document, table.tables("rule"), AUDIT_RULES_MAX);
    let mut earlier: Vec<(Place, AuditRule)> = Vec::new();
    for (place, table) in tables {
        let Some(rule) = rule(document, &place, table, values, destinations) else { continue };
        if let Some((other, _)) = earlier.iter().find(|(_, other)| other.covers(&rule)) {
            let message = format!("never used: `{}` in front of it covers it", other.key());
            let hint = "the first rule that matches holds: put this one in front".to_owned();
            document.problem(&place, message, Some(hint));
        }
        earlier.push((place, rule));
    }
    earlier.into_iter().map(|(_, rule)| rule).collect()
}

/// At most `max` of `tables`; more are a problem.
fn limited<'d, 'i>(
    document: &Document<'i>,
    mut tables: Vec<(Place, Table<'d, 'i>)>,
    max: usize,
) -> Vec<(Place, Table<'d, 'i>)> {
    if let Some((place, _)) = tables.get(max) {
        let message = format!("too many: found {}, expected at most {max}", tables.len());
        document.problem(place, message, None);
    }
    tables.truncate(max);
    tables
}

fn rule(
    document: &Document<'_>,
    place: &Place,
    table: Table<'_, '_>,
    default: ValueMode,
    destinations: &Destinations,
) -> Option<AuditRule> {
    let name = |key, bytes_max| {
        let (place, text) = table.text(key)?;
        plain(document, &place, text, bytes_max)
    };
    let mut numbers: Vec<u16> = Vec::new();
    for (place, number) in table.integers("numbers", PARAMETERS).unwrap_or_default() {
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        if numbers.contains(&number) {
            document.problem(&place, format!("found {number} twice"), None);
        }
        numbers.push(number);
    }
    numbers.sort_unstable();
    let rule = AuditRule {
        destination: known(document, &table, destinations),
        database: name("database", DATABASE_BYTES_MAX),
        user: name("user", ROLE_BYTES_MAX),
        mode: table.written_choice("mode", &MODES).map(|(_, mode)| mode),
        values: table.written_choice("values", &VALUES).map(|(_, values)| values),
        numbers,
        subject: table
            .written_integer("subject", PARAMETERS)
            .and_then(|(_, number)| u16::try_from(number).ok()),
    };
    if ["mode", "values", "subject"].iter().all(|key| table.written(key).is_none()) {
        let message = "changes nothing: found none of `mode`, `values` and `subject`".to_owned();
        document.problem(place, message, None);
    }
    if table.written("values").is_none() {
        no_effect(document, &table, &["numbers"], "there is no `values` in this rule");
    } else if table.written("numbers").is_some() {
        not_empty(document, place, &table, "numbers");
    }
    check_subject(document, &table, &rule, default);
    // What a rule matches is not known where that was written wrong.
    let matches =
        [("destination", &rule.destination), ("database", &rule.database), ("user", &rule.user)];
    let known = matches.iter().all(|(key, name)| table.written(key).is_none() || name.is_some());
    table.finish();
    known.then_some(rule)
}

/// A subject is the key of what is sealed.
fn check_subject(
    document: &Document<'_>,
    table: &Table<'_, '_>,
    rule: &AuditRule,
    default: ValueMode,
) {
    let sealed = match (rule.values, rule.numbers.is_empty()) {
        // Written wrong, it was reported, and says nothing about other keys.
        (None, _) if table.written("values").is_some() => true,
        (None, _) => default == ValueMode::Sealed,
        (Some(values), true) => values == ValueMode::Sealed,
        (Some(values), false) => [values, default].contains(&ValueMode::Sealed),
    };
    if !sealed {
        no_effect(document, table, &["subject"], "no value is `sealed`");
    }
}

/// `destination`, when there is one of that name.
fn known(
    document: &Document<'_>,
    table: &Table<'_, '_>,
    destinations: &Destinations,
) -> Option<String> {
    let (place, text) = table.text("destination")?;
    let name = plain(document, &place, text, NAME_BYTES_MAX)?;
    if destinations.iter().any(|destination| destination.name == name) {
        return Some(name);
    }
    let names = destinations.iter().map(|destination| destination.name.as_str());
    // A destination whose name was wrong has none.
    let names = alternatives(names.filter(|name| !name.is_empty()).take(8));
    let message = format!("no destination `{}`, expected for example {names}", shown(text));
    document.problem(&place, message, None);
    None
}

fn anchors(
    document: &Document<'_>,
    table: &Table<'_, '_>,
    destinations: &Destinations,
) -> Vec<Anchor> {
    let tables = limited(document, table.tables("anchor"), ANCHORS_MAX);
    let mut earlier: Vec<(Place, String)> = Vec::new();
    let mut anchors = Vec::new();
    for (place, table) in tables {
        let name = plain_name(document, &place, &table).unwrap_or_default();
        let taken = earlier.iter().find(|(_, other)| !name.is_empty() && *other == name);
        if let Some((other, _)) = taken {
            let message = format!("name `{}` is taken by `{}`", shown(&name), other.key());
            document.problem(&place, message, None);
        }
        earlier.push((place.clone(), name.clone()));
        anchors.extend(anchor(document, &place, table, name, destinations));
    }
    anchors
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Print,
    File,
    Database,
    Witness,
}

const KINDS: [(&str, Kind); 4] = [
    ("print", Kind::Print),
    ("file", Kind::File),
    ("database", Kind::Database),
    ("witness", Kind::Witness),
];

/// Every key that only one kind has.
const KEYS: [(Kind, &[&str]); 4] = [
    (Kind::Print, &["to"]),
    (Kind::File, &["directory"]),
    (
        Kind::Database,
        &[
            "destination",
            "address",
            "database",
            "user",
            "password_file",
            "password_env",
            "password_command",
        ],
    ),
    (Kind::Witness, &["url", "key"]),
];

fn anchor(
    document: &Document<'_>,
    place: &Place,
    table: Table<'_, '_>,
    name: String,
    destinations: &Destinations,
) -> Option<Anchor> {
    if table.written("kind").is_none() {
        let names = alternatives(KINDS.iter().map(|(name, _)| *name));
        document.problem(place, format!("no `kind`: found none, expected {names}"), None);
    }
    let kind = table.written_choice("kind", &KINDS).map(|(_, kind)| kind);
    for (other, keys) in KEYS {
        if let Some(kind) = kind
            && kind != other
        {
            let name = KINDS.iter().find(|(_, k)| *k == kind).map_or("", |(name, _)| name);
            no_effect(document, &table, keys, &format!("`kind` is `{name}`"));
        }
    }
    let every = match kind {
        Some(Kind::Print) => 3600,
        Some(Kind::File | Kind::Database | Kind::Witness) | None => 60,
    };
    let every = Duration::from_secs(table.integer("every_s", every, 1..=EVERY_S_MAX));
    let read = match kind {
        None => {
            // The other keys are known, whatever is meant.
            KEYS.iter().flat_map(|(_, keys)| keys.iter()).for_each(|key| drop(table.written(key)));
            None
        }
        Some(Kind::Print) => {
            let to = [("syslog", PrintTo::Syslog), ("stdout", PrintTo::Stdout)];
            Some(AnchorPlace::Print(table.choice("to", &to)))
        }
        Some(Kind::File) => folder(document, place, &table).map(AnchorPlace::File),
        Some(Kind::Database) => {
            database(document, place, &table, destinations).map(AnchorPlace::Database)
        }
        Some(Kind::Witness) => witness(document, place, &table).map(AnchorPlace::Witness),
    };
    table.finish();
    read.map(|place| Anchor { name, every, place })
}

fn folder(document: &Document<'_>, place: &Place, table: &Table<'_, '_>) -> Option<PathBuf> {
    if table.written("directory").is_none() {
        let message = "no `directory`: found none, expected a folder".to_owned();
        document.problem(place, message, None);
    }
    table.written_path("directory").map(|(_, path)| path)
}

fn database(
    document: &Document<'_>,
    place: &Place,
    table: &Table<'_, '_>,
    destinations: &Destinations,
) -> Option<AnchorDatabase> {
    let missing = |key: &str, expected: &str| {
        let message = format!("no `{key}`: found none, expected {expected}");
        document.problem(place, message, None);
    };
    if table.written("destination").is_none() {
        missing("destination", "the name of a `[[destination]]`");
    }
    let destination = known(document, table, destinations);
    let address = match table.text("address") {
        Some((place, text)) => {
            let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
            if address.is_none() {
                let message = format!(
                    "not an address with a port: found `{}`, expected for example `10.0.0.1:5432`",
                    shown(text)
                );
                document.problem(&place, message, None);
            }
            address
        }
        None => {
            if table.written("address").is_none() {
                missing("address", "for example `10.0.0.1:5432`");
            }
            None
        }
    };
    if let (Some(name), Some(address)) = (&destination, address) {
        let named = destinations.iter().find(|destination| destination.name == *name);
        if let (false, Some(place)) =
            (named.is_some_and(|named| named.matches(address)), table.written("address"))
        {
            let message = format!("`{address}` is no server of destination `{name}`");
            document.problem(&place, message, None);
        }
    }
    let database = required(document, place, table, "database", DATABASE_BYTES_MAX);
    let user = required(document, place, table, "user", ROLE_BYTES_MAX);
    let password = password_source(document, table, &PASSWORD).source;
    Some(AnchorDatabase {
        destination: destination?,
        address: address?,
        database: database?,
        user: user?,
        password,
    })
}

fn witness(document: &Document<'_>, place: &Place, table: &Table<'_, '_>) -> Option<AnchorWitness> {
    let url = required(document, place, table, "url", URL_BYTES_MAX);
    let url = url.zip(table.written("url")).and_then(|(url, place)| {
        if plain_url(&url) {
            return Some(url);
        }
        let message = format!(
            "found `{}`, expected `http://` or `https://`, a host, and a path without `/` at its end",
            shown(&url)
        );
        document.problem(&place, message, None);
        None
    });
    let key = required(document, place, table, "key", KEY_TEXT_BYTES_MAX);
    let key = key.zip(table.written("key")).and_then(|(text, place)| {
        let key = WitnessKey::parse(&text);
        key.map_err(|error| document.problem(&place, error.to_string(), None)).ok()
    });
    Some(AnchorWitness { url: url?, key: key? })
}

/// Whether `/add-checkpoint` can be put behind it. Names of users, queries and fragments have no
/// place in it.
fn plain_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let letters = |b: u8| b.is_ascii_graphic() && !b"@?#\\\"<>^`{|}%".contains(&b);
    rest.is_some_and(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty()
            && !host.starts_with(':')
            && rest.bytes().all(letters)
            && !rest.ends_with('/')
    })
}
