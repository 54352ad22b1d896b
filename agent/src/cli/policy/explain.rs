//! `pgward policy explain`

use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::analysis::Analysis;
use super::{ExplainArgs, load};
use crate::audit::view;
use crate::cli::table::{Heading, render, render_pairs};
use crate::cli::{Exit, Output, printable};
use crate::policy::{
    Class, Explanation, Mode, NeedExplained, Policy, Reached, Request, Verdict, WallTime,
    unknown_text,
};

/// Says how a statement would fare. A finding when it would be refused.
pub(super) fn run(args: &ExplainArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let subject = match args.subject() {
        Ok(subject) => subject,
        Err(error) => return output.error(&error),
    };
    let policy = match load(&args.file, output)? {
        Ok(policy) => policy,
        Err(exit) => return Ok(exit),
    };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let at = WallTime(args.at.map_or_else(now, |moment| moment.0 / 1_000_000_000));
    let requests = Analysis::default().requests(&args.sql);
    print(&policy, &policy.class(&subject), &requests, at, args.json, output)
}

fn print(
    policy: &Policy,
    class: &Class,
    requests: &[Request],
    at: WallTime,
    json: bool,
    output: &mut Output<'_>,
) -> io::Result<Exit> {
    let explained: Vec<Explanation> =
        requests.iter().map(|request| policy.explain(class, request, at)).collect();
    let Some(worst) = Verdict::worst(explained.iter().map(|one| one.verdict.clone())) else {
        writeln!(output.notes, "the text has no statement: there is nothing to allow")?;
        return Ok(Exit::Done);
    };
    let roles = policy.roles_of(class);
    if json {
        let statements: Vec<Value> =
            requests.iter().zip(&explained).map(|(request, one)| statement(request, one)).collect();
        let mut all = verdict_json(&worst);
        all["policy"] = policy.identity().to_string().into();
        all["roles"] = texts(&roles);
        all["statements"] = statements.into();
        writeln!(output.data, "{}", view::line(&all))?;
    } else {
        write!(output.data, "{}", render_pairs(&pairs(policy, &roles, &worst), output.width))?;
        for (request, one) in requests.iter().zip(&explained) {
            writeln!(output.data)?;
            table(request, one, output)?;
        }
    }
    Ok(if worst.permit().is_err() { Exit::Finding } else { Exit::Done })
}

fn pairs(policy: &Policy, roles: &[Arc<str>], verdict: &Verdict) -> Vec<(&'static str, String)> {
    let mut pairs = vec![("verdict", verdict.word().name().to_owned())];
    if let Some(denial) = verdict.denial() {
        pairs.push(("message", printable(&denial.message(None))));
        pairs.push(("reason", denial.reason.name().to_owned()));
        pairs.extend(denial.hint.as_ref().map(|hint| ("hint", printable(hint))));
        if denial.terminate {
            pairs.push(("session", "ends".to_owned()));
        }
    }
    pairs.push(("rules", joined(verdict.rules())));
    pairs.push(("roles", joined(roles)));
    pairs.extend(verdict.until().map(|until| ("until", moment(until))));
    pairs.push(("policy", policy.identity().short()));
    pairs
}

fn table(request: &Request, one: &Explanation, output: &mut Output<'_>) -> io::Result<()> {
    let heading = |title| Heading { title, right: false, usual: 0 };
    let headings = ["ACTION", "OBJECT", "VERDICT", "WHY"].map(heading);
    let rows = one.needs.iter().map(|need| {
        let refused = need.refused.as_ref().map_or("allow", |(mode, _)| match mode {
            Mode::Observe => "observe",
            Mode::Warn => "warn",
            Mode::Enforce => "deny",
        });
        let object = printable(&need.need.object.to_string());
        vec![need.need.action.name().to_owned(), object, refused.to_owned(), why(need)]
    });
    writeln!(output.data, "statement: {}", request.kind.0)?;
    for unknown in &request.unknown {
        writeln!(output.data, "not understood: {}", printable(&unknown_text(unknown)))?;
    }
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return writeln!(output.data, "needs nothing");
    }
    write!(output.data, "{}", render(&headings, rows, output.width))
}

/// What matched, in one line.
fn why(need: &NeedExplained) -> String {
    let mut parts = Vec::new();
    let mut part = |word: &str, names: &[Arc<str>]| {
        if !names.is_empty() {
            parts.push(format!("{word} {}", joined(names)));
        }
    };
    part("denied by", &need.denials);
    part(if need.covered { "granted by" } else { "granted in part by" }, &need.grants);
    part("protected by", &need.protects);
    part("not now:", &need.asleep);
    if need.need.reached == Reached::Through {
        parts.push("needs no grant".to_owned());
    }
    if parts.is_empty() {
        parts.push("no rule is about it, and nothing protects it".to_owned());
    }
    parts.join("; ")
}

fn statement(request: &Request, one: &Explanation) -> Value {
    let mut object = verdict_json(&one.verdict);
    object["kind"] = request.kind.0.into();
    object["unknown"] = request.unknown.iter().map(unknown_text).collect::<Vec<_>>().into();
    object["needs"] = one.needs.iter().map(need_json).collect::<Vec<_>>().into();
    object
}

fn need_json(need: &NeedExplained) -> Value {
    let reached = match need.need.reached {
        Reached::Named => "named",
        Reached::Through => "through",
    };
    let refused = need.refused.as_ref();
    json!({
        "action": need.need.action.name(),
        "object": need.need.object.to_string(),
        "reached": reached,
        "refused": refused.map(|(mode, _)| mode.name()),
        "reason": refused.map(|(_, reason)| reason.name()),
        "denied_by": texts(&need.denials),
        "granted_by": texts(&need.grants),
        "covered": need.covered,
        "protected_by": texts(&need.protects),
        "not_now": texts(&need.asleep),
    })
}

fn verdict_json(verdict: &Verdict) -> Value {
    let denial = verdict.denial();
    json!({
        "verdict": verdict.word().name(),
        "message": denial.map(|denial| denial.message(None)),
        "reason": denial.map(|denial| denial.reason.name()),
        "rules": texts(verdict.rules()),
        "hint": denial.and_then(|denial| denial.hint.as_deref()),
        "terminate": denial.is_some_and(|denial| denial.terminate),
        "until": verdict.until().map(moment),
    })
}

fn texts(names: &[Arc<str>]) -> Value {
    names.iter().map(|name| Value::from(&**name)).collect()
}

fn joined(names: &[Arc<str>]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| &**name).collect::<Vec<_>>().join(", ")
}

fn moment(at: WallTime) -> String {
    let since = std::time::Duration::from_secs(at.0);
    UNIX_EPOCH
        .checked_add(since)
        .map_or_else(|| at.0.to_string(), |at| humantime::format_rfc3339_seconds(at).to_string())
}
