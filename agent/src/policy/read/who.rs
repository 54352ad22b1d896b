//! Patterns for subjects.

use super::Reader;
use crate::config::raw::{Table, shown};
use crate::policy::glob::Glob;
use crate::policy::who::{NamedPatterns, Numbers, Patterns, Who};

impl<'i> Reader<'_, 'i> {
    /// The keys of subjects in an `[[assign]]`.
    pub(super) fn who(&self, table: &Table<'_, 'i>) -> Who {
        Who {
            exe: self.globs(table, "exe"),
            exe_sha256: self.digests(table),
            parent: self.globs(table, "parent"),
            uid: self.numbers(table, "uid"),
            gid: self.numbers(table, "gid"),
            loginuid: self.numbers(table, "loginuid"),
            user: self.globs(table, "user"),
            cgroup: self.globs(table, "cgroup"),
            unit: self.globs(table, "unit"),
            container: self.globs(table, "container"),
            image: self.globs(table, "image"),
            pod: self.globs(table, "pod"),
            namespace: self.globs(table, "namespace"),
            label: self.named(table, "label"),
            role: self.globs(table, "role"),
            database: self.globs(table, "database"),
            destination: self.globs(table, "destination"),
            application: self.globs(table, "application"),
            tag: self.named(table, "tag"),
        }
    }

    /// Patterns of a list, as they are written; `None` when it is not there.
    pub(super) fn globs(&self, table: &Table<'_, 'i>, key: &'static str) -> Patterns {
        let texts = self.filled(table, key)?;
        Some(texts.into_iter().map(|(_, text)| Glob::plain(text)).collect())
    }

    fn digests(&self, table: &Table<'_, 'i>) -> Patterns {
        let texts = self.filled(table, "exe_sha256")?;
        let mut globs = Vec::new();
        for (place, text) in texts {
            if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                globs.push(Glob::plain(&text.to_ascii_lowercase()));
            } else {
                let message = format!("found `{}`, expected 64 hexadecimal digits", shown(text));
                self.document.problem(&place, message, None);
            }
        }
        Some(globs.into())
    }

    fn numbers(&self, table: &Table<'_, 'i>, key: &'static str) -> Numbers {
        let numbers = table.integers(key, 0..=u64::from(u32::MAX))?;
        if table.written_items(key) == Some(0) {
            self.empty(&table.written(key)?);
        }
        Some(numbers.into_iter().filter_map(|(_, number)| u32::try_from(number).ok()).collect())
    }

    fn named(&self, table: &Table<'_, 'i>, key: &'static str) -> NamedPatterns {
        let Some(named) = table.texts_by_name(key) else { return NamedPatterns::default() };
        if named.is_empty()
            && let Some(place) = table.written(key)
        {
            self.empty(&place);
        }
        let patterns = named.into_iter().map(|named| {
            if named.texts.is_empty() {
                self.empty(&named.place);
            }
            (named.name.into(), named.texts.into_iter().map(Glob::plain).collect())
        });
        patterns.collect()
    }
}
