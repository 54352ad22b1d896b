//! `[[case]]`

use super::Reader;
use crate::config::raw::{Place, Table, shown};
use crate::policy::model::{Case, Expect};
use crate::policy::subject::Subject;
use crate::policy::told::{self, Told};
use crate::policy::window::WallTime;

const EXPECTED: [(&str, Expect); 4] = [
    ("allow", Expect::Allow),
    ("deny", Expect::Deny),
    ("warn", Expect::Warn),
    ("observe", Expect::Observe),
];

impl<'i> Reader<'_, 'i> {
    /// Reads a case.
    pub(super) fn case(&self, place: &Place, table: Table<'_, 'i>) -> Case {
        let required = |key: &'static str| {
            if table.written(key).is_none() {
                self.document.problem(place, format!("`{key}` is missing"), None);
            }
            table.text(key).map_or("", |(_, text)| text)
        };
        let who = self.subject(table.table("who"));
        let parameters = table.texts("parameters").unwrap_or_default();
        let expect = table.written_choice("expect", &EXPECTED);
        if table.written("expect").is_none() {
            let message = "`expect` is missing".to_owned();
            self.document.problem(place, message, None);
        }
        let case = Case {
            name: table.text("name").map_or(place.key(), |(_, name)| name).into(),
            line: place.line(),
            who,
            sql: required("sql").into(),
            parameters: parameters.into_iter().map(|(_, text)| text.into()).collect(),
            at: table.text("at").and_then(|(place, text)| self.moment(&place, text)),
            expect: expect.map_or(Expect::Deny, |(_, expect)| expect),
            rule: table.text("rule").map(|(place, rule)| {
                if !self.names.0.contains_key(rule) {
                    let names = self.names.0.keys().map(|name| &**name);
                    let hint = crate::config::raw::nearest(rule, names);
                    let hint = hint.map(|name| format!("did you mean `{name}`?"));
                    let message = format!("no such rule: `{}`", shown(rule));
                    self.document.problem(&place, message, hint);
                }
                rule.into()
            }),
        };
        table.finish();
        case
    }

    fn subject(&self, table: Table<'_, 'i>) -> Subject {
        let mut subject = Subject::default();
        for key in told::TEXTS {
            let Some((place, text)) = table.text(key) else { continue };
            self.tell(&mut subject, &place, key, text);
        }
        for key in told::NUMBERS {
            let number = table.written_integer(key, 0..=u64::from(u32::MAX));
            let Some((place, number)) = number else { continue };
            self.tell(&mut subject, &place, key, &number.to_string());
        }
        for (place, text) in table.texts("parent").unwrap_or_default() {
            self.tell(&mut subject, &place, "parent", text);
        }
        for key in told::NAMED {
            for named in table.texts_by_name(key).unwrap_or_default() {
                for text in named.texts {
                    self.tell(&mut subject, &named.place, &format!("{key}.{}", named.name), text);
                }
            }
        }
        table.finish();
        subject
    }

    fn tell(&self, subject: &mut Subject, place: &Place, key: &str, text: &str) {
        if let Err(error) = told::tell(subject, key, text) {
            let message = match &error {
                Told::Key { .. } | Told::Number { .. } | Told::Digest { .. } => error.to_string(),
            };
            self.document.problem(place, message, None);
        }
    }

    fn moment(&self, place: &Place, text: &str) -> Option<WallTime> {
        let read = humantime::parse_rfc3339_weak(text).ok();
        let since = read.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        if since.is_none() {
            let message =
                format!("found `{}`, expected for example `2026-03-02T10:00:00Z`", shown(text));
            self.document.problem(place, message, None);
        }
        since.map(|since| WallTime(since.as_secs()))
    }
}
