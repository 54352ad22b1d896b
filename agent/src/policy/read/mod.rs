//! From the text of a policy file to a policy: all errors in one report, or the policy as a whole.

mod case;
mod objects;
mod role;
mod when;
mod who;

use std::collections::HashMap;
use std::sync::Arc;

use toml::de::DeTable;

use super::model::{Advice, Assign, File, Identity, Mode, Policy, Protect, UnknownText};
use crate::config::Report;
use crate::config::raw::{Document, Place, Table, nearest, shown};

/// Most tables or patterns in one list.
pub const ITEMS_MAX: usize = 16_384;
/// Longest text of a policy, in bytes.
pub const POLICY_BYTES_MAX: u64 = 16 << 20;
/// Longest name of a role or rule, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Longest hint, in bytes: it goes into an error that a person reads.
const HINT_BYTES_MAX: usize = 512;

const MODES: [(&str, Mode); 3] =
    [("enforce", Mode::Enforce), ("warn", Mode::Warn), ("observe", Mode::Observe)];

impl Policy {
    /// Reads a policy; `file` is how errors name it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Report> {
        let document = Document::with_items_max(text, ITEMS_MAX);
        let (content, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            errors.iter().for_each(|error| document.syntax(error));
            document.finish(file)?;
        }
        let reader = Reader { document: &document, names: Names::default() };
        let read = reader.file(document.root(content.get_ref()));
        document.finish(file)?;
        Ok(Self::compile(Identity::of(text.as_bytes()), read))
    }
}

/// A document, and the names that it gave so far.
struct Reader<'r, 'i> {
    document: &'r Document<'i>,
    names: Names,
}

/// Names of rules, with their places.
#[derive(Default)]
struct Names(HashMap<Arc<str>, Place>);

impl<'i> Reader<'_, 'i> {
    fn file(mut self, root: Table<'_, 'i>) -> File {
        let unknown =
            root.choice("unknown", &[("deny", UnknownText::Deny), ("allow", UnknownText::Allow)]);
        let mut advice = Vec::new();
        let mut roles = Vec::new();
        // Roles by name, with their lines. Kept for a role that is wrong too: assigns may still name it.
        let mut known: HashMap<Arc<str>, (u32, Place)> = HashMap::new();
        for (number, (place, table)) in (0..).zip(root.tables("role")) {
            let role = self.role(&place, table);
            if let Some((_, other)) = known.get(&role.name) {
                let message = format!("the name `{}` is that of `{}`", role.name, other.key());
                self.document.problem(&place, message, None);
            } else {
                known.insert(role.name.clone(), (number, place));
            }
            roles.push(role);
        }
        let assigns: Vec<Assign> = (0_usize..)
            .zip(root.tables("assign"))
            .map(|(number, (place, table))| {
                let assign = self.assign(number, &place, table, &known);
                let claimed = assign.who.as_ref().is_some_and(super::who::Who::is_only_claimed);
                let grants = |role: &u32| {
                    roles.get(*role as usize).is_some_and(|r: &super::Role| !r.grants.is_empty())
                };
                if claimed && assign.gives.iter().any(grants) {
                    advice.push(Advice {
                        line: place.line(),
                        message: format!("`{}` gives grants to whoever claims them", assign.name),
                        hint: "applications choose `application` and tags themselves: add a key \
                               that the host knows, such as `exe`, `unit` or `image`"
                            .to_owned(),
                    });
                }
                assign
            })
            .collect();
        let protects = (0_usize..)
            .zip(root.tables("protect"))
            .map(|(number, (place, table))| self.protect(number, &place, table))
            .collect();
        let cases = root.tables("case").into_iter().map(|(place, table)| self.case(&place, table));
        let cases = cases.collect();
        for (name, (number, place)) in &known {
            if !assigns.iter().any(|assign| assign.gives.contains(number)) {
                advice.push(Advice {
                    line: place.line(),
                    message: format!("nobody has the role `{name}`"),
                    hint: "give it in an `[[assign]]`, unless it is given for a while only"
                        .to_owned(),
                });
            }
        }
        advice.sort_by(|a, b| (a.line, &a.message).cmp(&(b.line, &b.message)));
        root.finish();
        File { unknown, roles, assigns, protects, cases, advice }
    }

    fn protect(&mut self, number: usize, place: &Place, table: Table<'_, '_>) -> Protect {
        let protect = Protect {
            name: self.name(&table, place, format!("protect[{number}]")),
            destination: self.globs(&table, "destination"),
            database: self.globs(&table, "database"),
            objects: self.objects(&table),
            mode: table.choice("mode", &MODES),
            hint: self.hint(&table),
        };
        table.finish();
        protect
    }

    fn assign(
        &mut self,
        number: usize,
        place: &Place,
        table: Table<'_, '_>,
        known: &HashMap<Arc<str>, (u32, Place)>,
    ) -> Assign {
        let name = self.name(&table, place, format!("assign[{number}]"));
        let everyone = table.flag("everyone");
        let who = self.who(&table);
        let written = !who.is_empty();
        if everyone && written {
            let message = "`everyone` and keys of subjects exclude each other".to_owned();
            self.document.problem(place, message, None);
        } else if !everyone && !written {
            let message = "no key says to whom".to_owned();
            let hint = "write for example `role = [\"analyst\"]`, or `everyone = true`".to_owned();
            self.document.problem(place, message, Some(hint));
        }
        let mut gives = Vec::new();
        match self.filled(&table, "give") {
            None if table.written("give").is_none() => {
                let message = "`give` is missing: the roles that it gives".to_owned();
                self.document.problem(place, message, None);
            }
            None => {}
            Some(names) => {
                for (place, name) in names {
                    if let Some((role, _)) = known.get(name) {
                        gives.push(*role);
                        continue;
                    }
                    let hint = nearest(name, known.keys().map(|name| &**name));
                    let hint = hint.map(|name| format!("did you mean `{name}`?"));
                    let message = format!("no such role: `{}`", shown(name));
                    self.document.problem(&place, message, hint);
                }
            }
        }
        gives.sort_unstable();
        gives.dedup();
        table.finish();
        Assign { name, who: (!everyone).then_some(who), gives: gives.into() }
    }

    /// The name of a rule: as written, else `derived`.
    fn name(&mut self, table: &Table<'_, '_>, place: &Place, derived: String) -> Arc<str> {
        let written = table.text("name").and_then(|(place, text)| {
            let text = self.plain(&place, text)?;
            Some((place, text.to_owned()))
        });
        let (place, name) = written.unwrap_or_else(|| (place.clone(), derived));
        let name: Arc<str> = name.into();
        if let Some(other) = self.names.0.insert(name.clone(), place.clone()) {
            let message = format!("the name `{name}` is that of `{}`", other.key());
            self.document.problem(&place, message, None);
        }
        name
    }

    /// A name of the file's own: short, one word.
    fn plain<'t>(&self, place: &Place, text: &'t str) -> Option<&'t str> {
        let good = |c: char| c.is_ascii_alphanumeric() || "_-./[]".contains(c);
        if !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(good) {
            return Some(text);
        }
        let message = format!(
            "found `{}`, expected 1 to {NAME_BYTES_MAX} letters, digits and `_-./[]`",
            shown(text)
        );
        self.document.problem(place, message, None);
        None
    }

    fn hint(&self, table: &Table<'_, '_>) -> Option<Arc<str>> {
        let (place, text) = table.text("hint")?;
        if !text.is_empty() && text.len() <= HINT_BYTES_MAX && !text.contains(char::is_control) {
            return Some(text.into());
        }
        let message = format!("expected one line of 1 to {HINT_BYTES_MAX} bytes");
        self.document.problem(&place, message, None);
        None
    }

    /// The texts of a list that is not empty; `None` when it is not there or has none.
    fn filled<'t>(
        &self,
        table: &Table<'t, 'i>,
        key: &'static str,
    ) -> Option<Vec<(Place, &'t str)>> {
        let texts = table.texts(key)?;
        if table.written_items(key) == Some(0) {
            if let Some(place) = table.written(key) {
                self.empty(&place);
            }
            return None;
        }
        Some(texts)
    }

    /// An empty list could be taken for none and for all.
    fn empty(&self, place: &Place) {
        let message = "an empty list means nothing".to_owned();
        let hint = "leave the key out, or write what is meant; `\"*\"` is everything".to_owned();
        self.document.problem(place, message, Some(hint));
    }
}
