//! Objects and actions of rules.

use super::Reader;
use crate::config::raw::{Place, Table, nearest, shown};
use crate::policy::glob::{Glob, NamePattern, identifier};
use crate::policy::model::{Family, Objects};
use crate::policy::words;
use crate::sql::facts::{Effects, ObjectKind};

impl<'i> Reader<'_, 'i> {
    /// The lists of objects of a rule.
    pub(super) fn objects(&self, table: &Table<'_, 'i>) -> Objects {
        Objects {
            relations: self.read(table, "relations", |text| self.pattern(text)),
            functions: self.read(table, "functions", |text| self.pattern(text)),
            others: self.read(table, "objects", |text| self.other(text)),
            settings: self.read(table, "settings", |text| Ok(Glob::plain(&text.to_lowercase()))),
            roles: self.read(table, "roles", |text| self.identifier(text)),
            channels: self.read(table, "channels", |text| self.identifier(text)),
        }
    }

    /// The columns of a rule about relations.
    pub(super) fn columns(&self, table: &Table<'_, 'i>) -> Option<Box<[Glob]>> {
        let place = table.written("columns")?;
        let columns = self.read(table, "columns", |text| self.identifier(text));
        if table.written("relations").is_none() {
            let message = "`columns` are of relations, and no `relations` are named".to_owned();
            let hint = "write `relations = [\"*\"]` for columns of any".to_owned();
            self.document.problem(&place, message, Some(hint));
        }
        Some(columns.into())
    }

    /// The actions of a rule that names `objects`.
    pub(super) fn actions(
        &self,
        place: &Place,
        table: &Table<'_, 'i>,
        objects: &Objects,
    ) -> Effects {
        let mut actions = Effects::NONE;
        let Some(words) = self.filled(table, "actions") else {
            if table.written("actions").is_none() {
                let message = "`actions` is missing".to_owned();
                let hint = "write for example `actions = [\"read\"]`; `\"all\"` is every action";
                self.document.problem(place, message, Some(hint.to_owned()));
            }
            return actions;
        };
        for (place, word) in words {
            let Some(of_word) = words::actions(word) else {
                let hint =
                    nearest(word, words::all()).map(|near| format!("did you mean `{near}`?"));
                let message = format!("no such action: `{}`", shown(word));
                self.document.problem(&place, message, hint);
                continue;
            };
            if !objects.is_all() && of_word.iter().all(words::is_of_session) {
                let message = format!("`{word}` concerns no object, and the rule names objects");
                let hint = "put it into a rule without objects".to_owned();
                self.document.problem(&place, message, Some(hint));
            }
            actions = actions.union(of_word);
        }
        actions
    }

    /// Each text of a list, read; what can't be is a problem.
    fn read<T>(
        &self,
        table: &Table<'_, 'i>,
        key: &'static str,
        of: impl Fn(&str) -> Result<T, (String, Option<String>)>,
    ) -> Vec<T> {
        let texts = self.filled(table, key).unwrap_or_default();
        let read = |(place, text): (Place, &str)| match of(text) {
            Ok(read) => Some(read),
            Err((message, hint)) => {
                self.document.problem(&place, message, hint);
                None
            }
        };
        texts.into_iter().filter_map(read).collect()
    }

    fn pattern(&self, text: &str) -> Result<NamePattern, (String, Option<String>)> {
        NamePattern::parse(text).map_err(|error| {
            let hint = "write `schema.name`; databases are named in `[[protect]]` and `[[assign]]`";
            (format!("not a name: found `{}`: {error}", shown(text)), Some(hint.to_owned()))
        })
    }

    fn identifier(&self, text: &str) -> Result<Glob, (String, Option<String>)> {
        let of = |error| (format!("not a name: found `{}`: {error}", shown(text)), None);
        identifier(text).map_err(of)
    }

    /// `kind`, or `kind:name`.
    fn other(&self, text: &str) -> Result<(ObjectKind, NamePattern), (String, Option<String>)> {
        let (word, name) =
            text.split_once(':').map_or((text, None), |(kind, name)| (kind, Some(name)));
        let Some(kind) = ObjectKind::ALL.iter().find(|kind| kind.name() == word) else {
            let near = nearest(word, ObjectKind::ALL.iter().map(|kind| kind.name()));
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            return Err((format!("no such kind of object: `{}`", shown(word)), hint));
        };
        let key = match Family::of(*kind) {
            Family::Relation => Some("relations"),
            Family::Function => Some("functions"),
            Family::Role => Some("roles"),
            Family::Other => None,
        };
        if let Some(key) = key {
            let message = format!("objects of the kind `{word}` are named in `{key}`");
            return Err((message, None));
        }
        let pattern = name.map_or_else(|| Ok(NamePattern::any()), |name| self.pattern(name))?;
        Ok((*kind, pattern))
    }
}
