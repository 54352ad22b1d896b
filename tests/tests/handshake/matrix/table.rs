//! The table of expected outcomes.
//!
//! One rule a line: six columns of words, a colon, an outcome. A column names one word, several with commas, all with `*`, or
//! all but some with `!`. Columns: version, mode, method, the server's TLS, sslmode, channel_binding. Outcomes:
//!
//! ```text
//! ok CLIENT SERVER              logged in; each leg is `clear` or `tls`
//! refused SQLSTATE WHO TEXT     not let in; SQLSTATE is `-` where WHO, the client itself, gave up
//! ```
//!
//! WHO is `client`, `server` or `agent`; TEXT is part of the last message, in any case. A `?` before an outcome marks it as not settled:
//! it is checked like any other, and shown with its mark.

use anyhow::{Context, bail};

use super::cell::{BINDINGS, Cell, Method, Mode, SSLMODES};
use crate::Result;
use crate::servers::ServerTls;

/// Who refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Client,
    Server,
    Agent,
}

/// A leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    Clear,
    Tls,
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok { client: Leg, server: Leg },
    Refused { sqlstate: String, who: Who, text: String },
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Number of the line, from 1.
    pub(crate) line: usize,
    columns: [Vec<String>; 6],
    /// Whether it has no `?`.
    pub(crate) settled: bool,
    pub(crate) outcome: Outcome,
}

impl Rule {
    fn matches(&self, cell: &Cell) -> bool {
        let words = cell.words();
        self.columns.iter().zip(words).all(|(allowed, word)| allowed.iter().any(|w| w == word))
    }
}

/// Parses the table.
///
/// Errors: the first line that is none, with its number.
pub(crate) fn parse(text: &str) -> Result<Vec<Rule>> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(line, text)| rule(line, text).with_context(|| format!("line {line}"))).collect()
}

/// The one rule for a cell.
///
/// Errors: none, or several.
pub(crate) fn find<'r>(rules: &'r [Rule], cell: &Cell) -> Result<&'r Rule> {
    let found: Vec<_> = rules.iter().filter(|rule| rule.matches(cell)).collect();
    match found[..] {
        [rule] => Ok(rule),
        [] => bail!("{}: no line", cell.words().join(" ")),
        _ => {
            let lines: Vec<_> = found.iter().map(|rule| rule.line).collect();
            bail!("{}: lines {lines:?}", cell.words().join(" "))
        }
    }
}

/// Every cell of `cells` has exactly one rule, and every rule has a cell: what is wrong, one text each.
pub(crate) fn faults(rules: &[Rule], cells: &[Cell]) -> Vec<String> {
    let unmatched = cells.iter().filter_map(|cell| find(rules, cell).err());
    let mut faults: Vec<_> = unmatched.map(|error| error.to_string()).collect();
    for rule in rules {
        if !cells.iter().any(|cell| rule.matches(cell)) {
            faults.push(format!("line {} matches no cell", rule.line));
        }
    }
    faults
}

fn rule(line: usize, text: &str) -> Result<Rule> {
    let (columns, outcome) = text.split_once(" : ").context("no ` : `")?;
    let columns: Vec<_> = columns.split_whitespace().collect();
    let columns: [&str; 6] =
        columns.try_into().map_err(|found| anyhow::anyhow!("six columns, not {found:?}"))?;
    let known: [Vec<&str>; 6] = [
        vec!["15", "18"],
        Mode::ALL.map(Mode::name).to_vec(),
        Method::ALL.map(Method::name).to_vec(),
        ServerTls::ALL.map(ServerTls::name).to_vec(),
        SSLMODES.to_vec(),
        BINDINGS.to_vec(),
    ];
    let mut chosen: [Vec<String>; 6] = Default::default();
    for ((chosen, given), known) in chosen.iter_mut().zip(columns).zip(known) {
        *chosen = words(given, &known)?;
    }
    let (settled, outcome) = match outcome.trim().strip_prefix('?') {
        Some(rest) => (false, rest.trim()),
        None => (true, outcome.trim()),
    };
    Ok(Rule { line, columns: chosen, settled, outcome: self::outcome(outcome)? })
}

fn words(given: &str, known: &[&str]) -> Result<Vec<String>> {
    let (list, but) = match given.strip_prefix('!') {
        Some(rest) => (rest, true),
        None => (given, false),
    };
    if list == "*" {
        return Ok(known.iter().map(|&word| word.to_owned()).collect());
    }
    let named: Vec<_> = list.split(',').collect();
    if let Some(unknown) = named.iter().find(|word| !known.contains(word)) {
        bail!("`{unknown}`, expected one of {known:?}");
    }
    let chosen = known.iter().filter(|word| named.contains(word) != but);
    Ok(chosen.map(|&word| word.to_owned()).collect())
}

fn outcome(text: &str) -> Result<Outcome> {
    let mut parts = text.splitn(4, ' ');
    let mut next = || parts.next().with_context(|| format!("short outcome `{text}`"));
    match next()? {
        "ok" => Ok(Outcome::Ok { client: leg(next()?)?, server: leg(next()?)? }),
        "refused" => {
            let sqlstate = next()?.to_owned();
            let who = match next()? {
                "client" => Who::Client,
                "server" => Who::Server,
                "agent" => Who::Agent,
                other => bail!("`{other}`, expected client, server or agent"),
            };
            if (sqlstate == "-") != (who == Who::Client) {
                bail!("SQLSTATE `{sqlstate}` by {who:?}");
            }
            Ok(Outcome::Refused { sqlstate, who, text: next()?.to_owned() })
        }
        other => bail!("`{other}`, expected ok or refused"),
    }
}

fn leg(word: &str) -> Result<Leg> {
    match word {
        "clear" => Ok(Leg::Clear),
        "tls" => Ok(Leg::Tls),
        other => bail!("`{other}`, expected clear or tls"),
    }
}
