//! Findings and the summary, as lines for people or JSON for machines.

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use crate::{EpochSummary, Finding, Report, Severity, Verdict};

/// 9999-12-31 in seconds since 1970: later times have no form in RFC 3339.
const LAST_SECOND: u64 = 253_402_300_799;

/// Prints reports, one after the other; findings that were printed before are not repeated.
pub struct Printer {
    json: bool,
    known: HashSet<String>,
}

impl Printer {
    /// Prints JSON, or lines.
    pub fn new(json: bool) -> Self {
        Self { json, known: HashSet::new() }
    }

    /// Prints what is new in a report, and its summary.
    pub fn print(&mut self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let mut known = HashSet::new();
        for finding in &report.findings {
            let id = identity(finding);
            if !self.known.contains(&id) {
                self.finding(finding, out)?;
            }
            known.insert(id);
        }
        // What went away and comes back is told again.
        self.known = known;
        match self.json {
            true => {
                let summary = serde_json::json!({
                    "summary": report.verdict,
                    "exit": report.verdict.exit_code(),
                    "records": report.entries(),
                    "epochs": report.epochs,
                    "classes": report.classes,
                });
                line(&summary, out)
            }
            false => summary(report, out),
        }
    }

    fn finding(&self, finding: &Finding, out: &mut dyn Write) -> io::Result<()> {
        match self.json {
            true => line(finding, out),
            false => writeln!(out, "{}", shown(finding)),
        }
    }
}

/// What makes a finding the same at the next run: ends and ages grow with the log.
fn identity(finding: &Finding) -> String {
    let Finding { class, severity, origin, epoch, from_index, file, offset, sessions, .. } =
        finding;
    format!("{:?}", (class, severity, origin, epoch, from_index, file, offset, sessions))
}

fn line(object: &impl serde::Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    writeln!(out)
}

fn summary(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    report.epochs.iter().try_for_each(|epoch| epoch_lines(epoch, out))?;
    let count = |severity| report.findings.iter().filter(|one| one.severity == severity).count();
    let verdict = match report.verdict {
        Verdict::Intact => "intact and anchored",
        Verdict::Tampered => "NOT INTACT",
        Verdict::Incomplete => "intact as far as present, but INCOMPLETE",
        Verdict::Failed => "not checked",
    };
    writeln!(
        out,
        "{verdict}: {} findings of tampering, {} of missing parts, {} notes",
        count(Severity::Tampering),
        count(Severity::Incomplete),
        count(Severity::Note)
    )
}

fn epoch_lines(epoch: &EpochSummary, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "log {}: {} records in {} segments, {} seals, {} sessions, {} statements ({} with unknown \
         outcome)",
        epoch.origin.as_deref().map_or("unknown".to_owned(), printable),
        epoch.entries,
        epoch.segments,
        epoch.seals,
        epoch.sessions,
        epoch.intents,
        epoch.outcomes_unknown
    )?;
    if let Some(root) = &epoch.root {
        writeln!(out, "    root {root}")?;
    }
    match (epoch.anchored, epoch.anchored_at) {
        (Some(size), Some(time)) => {
            let time = UNIX_EPOCH + Duration::from_secs(time.min(LAST_SECOND));
            let time = humantime::format_rfc3339_seconds(time);
            writeln!(out, "    anchored: {size} records, seen by witnesses at {time}")?;
        }
        (Some(size), None) => writeln!(out, "    anchored: {size} records")?,
        (None, _) => writeln!(out, "    not anchored")?,
    }
    if !epoch.counted {
        return writeln!(out, "    connections: no count of them was recorded");
    }
    writeln!(
        out,
        "    connections: {} seen, {} intercepted, {} refused, {} failed, {} allowed unseen, {} \
         unexplained",
        epoch.seen,
        epoch.intercepted,
        epoch.refused,
        epoch.failed,
        epoch.allowed,
        epoch.unexplained
    )
}

/// A finding on lines that steer no terminal: names of files and texts in it may be made up.
fn shown(finding: &Finding) -> String {
    let lines: Vec<String> = finding.to_string().lines().map(printable).collect();
    lines.join("\n")
}

/// The text with what steers a terminal, or the direction of writing, escaped.
fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || matches!(c, '\u{61c}' | '\u{ad}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;

    #[test]
    fn what_findings_say_steers_no_terminal() {
        let finding = Finding::new(Class::ExtraFile, "a \u{1b}[2J file").file("x\u{202e}y");
        assert_eq!(
            shown(&finding),
            "TAMPERING extra-file: a \\u{1b}[2J file\n    file x\\u{202e}y"
        );
    }

    #[test]
    fn a_finding_is_told_once_and_again_when_it_comes_back() -> io::Result<()> {
        let finding = Finding::new(Class::ExtraFile, "a file");
        let with = Report::new(vec![finding], Vec::new());
        let without = Report::new(Vec::new(), Vec::new());
        let mut printer = Printer::new(false);
        let mut told = Vec::new();
        for report in [&with, &with, &without, &with] {
            let mut out = Vec::new();
            printer.print(report, &mut out)?;
            told.push(String::from_utf8_lossy(&out).contains("extra-file"));
        }
        assert_eq!(told, [true, false, false, true]);
        Ok(())
    }

    #[test]
    fn times_behind_all_calendars_are_printed() -> io::Result<()> {
        let epoch =
            EpochSummary { anchored: Some(1), anchored_at: Some(u64::MAX), ..Default::default() };
        let mut out = Vec::new();
        epoch_lines(&epoch, &mut out)?;
        let out = String::from_utf8_lossy(&out);
        assert!(out.contains("seen by witnesses at 9999-12-31T23:59:59Z"), "{out}");
        assert!(out.contains("no count of them was recorded"), "{out}");
        Ok(())
    }
}
