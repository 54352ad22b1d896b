//! `pgward policy test`

use std::io;

use super::analysis::Analysis;
use super::{PolicyFileArgs, load};
use crate::cli::{Exit, Output, printable};
use crate::policy::{Policy, Ran, Requests};

/// Runs the cases of the file. A finding when one fails, or when there is none.
pub(super) fn run(args: &PolicyFileArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let policy = match load(&args.file, output)? {
        Ok(policy) => policy,
        Err(exit) => return Ok(exit),
    };
    let analysis = Analysis::default();
    let requests = |text: &str| analysis.requests(text).to_vec();
    print(&args.file.display().to_string(), &policy, &requests, output)
}

fn print(
    file: &str,
    policy: &Policy,
    requests: &Requests<'_>,
    output: &mut Output<'_>,
) -> io::Result<Exit> {
    let ran = policy.run_cases(requests);
    let mut failed = 0;
    for Ran { case, failure } in &ran {
        let Some(failure) = failure else { continue };
        failed += 1;
        let name = printable(&case.name);
        writeln!(
            output.data,
            "{file}:{}: `{name}` failed: expected {}, {}",
            case.line,
            case.expect.name(),
            printable(&failure.to_string())
        )?;
    }
    writeln!(output.data, "{file}: {} of {} cases hold", ran.len() - failed, ran.len())?;
    if ran.is_empty() {
        writeln!(
            output.notes,
            "hint: write a `[[case]]` for what must be allowed and what must not"
        )?;
    }
    Ok(if failed == 0 && !ran.is_empty() { Exit::Done } else { Exit::Finding })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Columns, Need, Object, Reached, Request};
    use crate::sql::facts::{Effect, Kind, Name, Unknown};

    const POLICY: &str = r#"
        [[role]]
        name = "r"
        [[role.deny]]
        actions = ["read"]
        relations = ["pci.*"]
        [[role.deny]]
        name = "nights"
        actions = ["read"]
        relations = ["public.night"]
        when = { from = "22:00", to = "06:00" }
        [[assign]]
        give = ["r"]
        everyone = true
        "#;

    /// A text is the schema and name of a relation that is read.
    fn stub(text: &str) -> Vec<Request> {
        let request =
            |needs, unknown| Request { kind: Kind("select"), needs, unknown, fingerprint: 0 };
        match text.split_once('.') {
            None if text.is_empty() => Vec::new(),
            None => vec![request(Vec::new(), vec![Unknown::Syntax])],
            Some((schema, name)) => {
                let object = Object::Relation {
                    schema: Some(Name::new(schema)),
                    name: Name::new(name),
                    columns: Columns::All,
                };
                let need = Need { action: Effect::Select, object, reached: Reached::Named };
                vec![request(vec![need], Vec::new())]
            }
        }
    }

    fn outcome(case: &str) -> (Exit, String) {
        let policy = Policy::parse("f", &format!("{POLICY}\n[[case]]\n{case}")).expect("a policy");
        let (mut data, mut notes) = (Vec::new(), Vec::new());
        let mut output = Output { data: &mut data, notes: &mut notes, width: None };
        let exit = print("f", &policy, &stub, &mut output).expect("written");
        (exit, String::from_utf8(data).expect("UTF-8"))
    }

    #[test]
    fn cases_hold_or_say_why_not() {
        for (case, expected) in [
            ("sql = \"pci.cards\"\nexpect = \"deny\"\nrule = \"r.deny[0]\"", None),
            ("sql = \"public.t\"\nexpect = \"allow\"", None),
            (
                "sql = \"pci.cards\"\nexpect = \"allow\"",
                Some("found deny, by `r.deny[0]`: permission denied for table cards"),
            ),
            (
                "sql = \"pci.cards\"\nexpect = \"deny\"\nrule = \"nights\"",
                Some("decided by `r.deny[0]`"),
            ),
            ("sql = \"public.t\"\nexpect = \"deny\"", Some("found allow, by no rule")),
            ("sql = \"\"\nexpect = \"allow\"", Some("the text has no statement")),
            ("sql = \"public.night\"\nexpect = \"deny\"", Some("there is no `at`")),
            ("sql = \"public.night\"\nexpect = \"deny\"\nat = \"2024-01-01T23:00:00Z\"", None),
            ("sql = \"public.night\"\nexpect = \"allow\"\nat = \"2024-01-01T12:00:00Z\"", None),
        ] {
            let (exit, text) = outcome(case);
            match expected {
                None => {
                    assert_eq!((exit, &*text), (Exit::Done, "f: 1 of 1 cases hold\n"), "{case}")
                }
                Some(expected) => {
                    assert_eq!(exit, Exit::Finding, "{case}");
                    assert!(text.contains(expected), "{case}\n{text}");
                    assert!(text.ends_with("f: 0 of 1 cases hold\n"), "{text}");
                }
            }
        }
    }
}
