//! `pgward policy backtest` and `pgward policy diff`: policies over what was recorded.
//!
//! Texts are judged without a catalog, since that of then is not kept: a name without a schema stands for every relation
//! of that name. What a policy refuses here for that reason alone, the agent may allow.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use pgward_verify::Trail;
use serde_json::{Value, json};

use super::analysis::Analysis;
use super::records::{Reading, Recorded, each};
use super::{BacktestArgs, DiffArgs, Span, load};
use crate::audit::search::Query;
use crate::audit::view;
use crate::cli::audit::{Asked, source};
use crate::cli::table::{Heading, render};
use crate::cli::{Exit, Output, printable};
use crate::policy::{Policy, Request, Subject, Verdict};
use crate::sql::facts::{Unknown, tags};
use crate::sql::lex::{Encoding, Strings};
use crate::sql::normalise::{Normalised, Replace};

/// Groups that are told apart; what comes behind is counted together.
const GROUPS_MAX: usize = 10_000;

/// What belongs together in a report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    subject: String,
    verdict: String,
    rule: String,
    shape: String,
}

/// Statements by group, with those that can't be judged.
#[derive(Debug, Default)]
struct Tally {
    groups: BTreeMap<Group, u64>,
    statements: u64,
    listed: u64,
    beyond: u64,
    /// Their literals were taken away, and what is left is no SQL.
    unreadable: u64,
}

/// `pgward policy backtest`
pub(super) fn backtest(args: &BacktestArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let policy = match load(&args.file, output)? {
        Ok(policy) => policy,
        Err(exit) => return Ok(exit),
    };
    let source = match source(&args.place, output)? {
        Ok(source) => source,
        Err(exit) => return Ok(exit),
    };
    let asked = Asked::default()
        .with("file", Some(args.file.display()))
        .with_moment("since", args.span.since)
        .with_moment("until", args.span.until);
    source.tell("policy backtest", &asked, output)?;
    let trail = match source.open(output)? {
        Ok(trail) => trail,
        Err(exit) => return Ok(exit),
    };
    let analysis = Analysis::default();
    let mut tally = Tally::default();
    let reading = each(&trail, &query(&args.span), output, &mut |recorded| {
        let Some((who, requests)) = tally.take(&recorded, &analysis) else { return };
        let verdict = judge(&policy, &who, &requests, &recorded);
        if let Some(verdict) = verdict.filter(|verdict| verdict.denial().is_some()) {
            tally.add(&recorded, verdict.word().name().to_owned(), rule(&verdict));
        }
    })?;
    tally.print(&args.span, "would be refused, or noted", reading, output)
}

/// `pgward policy diff`
pub(super) fn diff(args: &DiffArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let mut policies = Vec::new();
    for file in [&args.before, &args.after] {
        match load(file, output)? {
            Ok(policy) => policies.push(policy),
            Err(exit) => return Ok(exit),
        }
    }
    let [before, after] = &policies[..] else { return Ok(Exit::Failed) };
    let trail = match Trail::open(&args.over) {
        Ok(trail) => trail,
        Err(error) => return output.error(&error),
    };
    writeln!(output.notes, "this read is not recorded: a folder was named")?;
    let analysis = Analysis::default();
    let mut tally = Tally::default();
    let reading = each(&trail, &query(&args.span), output, &mut |recorded| {
        let Some((who, requests)) = tally.take(&recorded, &analysis) else { return };
        let verdicts = [before, after].map(|policy| judge(policy, &who, &requests, &recorded));
        let [Some(was), Some(is)] = verdicts else { return };
        if was.word() != is.word() {
            let verdict = format!("{} -> {}", was.word().name(), is.word().name());
            let deciding = if is.denial().is_some() { &is } else { &was };
            tally.add(&recorded, verdict, rule(deciding));
        }
    })?;
    tally.print(&args.span, "fare differently", reading, output)
}

fn query(span: &Span) -> Query {
    Query {
        since: span.since.map(|moment| moment.0),
        until: span.until.map(|moment| moment.0),
        events: vec!["statement".to_owned(), "denied".to_owned()],
        ..Query::default()
    }
}

/// The verdict of a text at the time of then; `None` when it has no statement.
fn judge(
    policy: &Policy,
    who: &Subject,
    requests: &[Request],
    recorded: &Recorded,
) -> Option<Verdict> {
    let class = policy.class(who);
    Verdict::worst(requests.iter().map(|request| policy.judge(&class, request, recorded.at)))
}

/// The first of the rules that decided.
fn rule(verdict: &Verdict) -> String {
    verdict.rules().first().map_or_else(String::new, |rule| Arc::clone(rule).to_string())
}

impl Tally {
    /// Counts a statement, and gives who asked and what for; `None` when its text is not one any more.
    fn take(
        &mut self,
        recorded: &Recorded,
        analysis: &Analysis,
    ) -> Option<(Subject, std::rc::Rc<Vec<Request>>)> {
        self.statements += 1;
        let requests = analysis.requests(&recorded.text);
        let broken = |request: &Request| request.unknown.contains(&Unknown::Syntax);
        if !recorded.whole && requests.iter().any(broken) {
            self.unreadable += 1;
            return None;
        }
        let who = Subject { tags: tags(recorded.text.as_bytes()), ..recorded.who.clone() };
        Some((who, requests))
    }

    fn add(&mut self, recorded: &Recorded, verdict: String, rule: String) {
        self.listed += 1;
        let group =
            Group { subject: label(&recorded.who), verdict, rule, shape: shape(&recorded.text) };
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&group) {
            self.beyond += 1;
            return;
        }
        *self.groups.entry(group).or_default() += 1;
    }

    fn print(
        self,
        span: &Span,
        what: &str,
        reading: Reading,
        output: &mut Output<'_>,
    ) -> io::Result<Exit> {
        let mut groups: Vec<(Group, u64)> = self.groups.into_iter().collect();
        groups.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then(a.cmp(b)));
        if span.json {
            for (Group { subject, verdict, rule, shape }, count) in &groups {
                let line: Value = json!({
                    "statements": count, "subject": subject, "verdict": verdict, "rule": rule,
                    "shape": shape,
                });
                writeln!(output.data, "{}", view::line(&line))?;
            }
        } else if !groups.is_empty() {
            let heading = |title, right| Heading { title, right, usual: 0 };
            let headings = [
                heading("STATEMENTS", true),
                heading("SUBJECT", false),
                heading("VERDICT", false),
                heading("RULE", false),
                heading("STATEMENT", false),
            ];
            let row = |(group, count): &(Group, u64)| {
                let Group { subject, verdict, rule, shape } = group;
                let texts = [subject, verdict, rule, shape].map(|text| printable(text));
                [count.to_string()].into_iter().chain(texts).collect()
            };
            let rows = groups.iter().map(row).collect();
            write!(output.data, "{}", render(&headings, rows, output.width))?;
        }
        writeln!(output.notes, "{} of {} statements {what}", self.listed, self.statements)?;
        let left_out = [
            (self.beyond, "of them are in more groups than are listed"),
            (self.unreadable, "were not judged: without their literals they are no SQL"),
            (reading.without_text, "were not judged: the trail does not hold their text in clear"),
        ];
        for (count, why) in left_out.iter().filter(|(count, _)| *count > 0) {
            writeln!(output.notes, "{count} {why}")?;
        }
        let finding = self.listed > 0 || reading.damaged;
        Ok(if finding { Exit::Finding } else { Exit::Done })
    }
}

/// Who asked, in a few words: program, image or container, and login.
fn label(who: &Subject) -> String {
    let container = who.container.as_ref();
    let container = container.and_then(|container| {
        container.image.as_deref().or(container.name.as_deref()).or(Some(&*container.id))
    });
    let mut label = who.exe.as_deref().unwrap_or("?").to_owned();
    if let Some(container) = container {
        label.push_str(" in ");
        label.push_str(container);
    }
    format!("{label} as {}@{}", who.role, who.database)
}

/// The text without its literals.
fn shape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    Normalised::of(bytes, Encoding::Safe, Strings::Standard).write(bytes, Replace::All, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
