//! Where names without a schema are looked for.

use std::collections::BTreeSet;

use crate::sql::facts::Name;

/// Schemas a search_path may name; with more it is not known.
pub(super) const SCHEMAS_MAX: usize = 64;

/// Where names without a schema are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Path {
    /// In these, in this order, as the server said: the first that has the name is meant.
    Exact(Vec<Name>),
    /// In some of these, in an order that is not known.
    Among(BTreeSet<Name>),
    /// Anywhere.
    #[default]
    Unknown,
}

impl Path {
    /// Adds where it may also be looked from now on.
    pub(super) fn widen(&mut self, others: impl IntoIterator<Item = Name>) {
        let mut schemas: BTreeSet<Name> = match std::mem::take(self) {
            Path::Exact(schemas) => schemas.into_iter().collect(),
            Path::Among(schemas) => schemas,
            Path::Unknown => return,
        };
        schemas.extend(others);
        schemas.insert(Name::new(PG_CATALOG));
        *self = if schemas.len() > SCHEMAS_MAX { Path::Unknown } else { Path::Among(schemas) };
    }

    /// Whether a name in this schema may be meant.
    pub fn may_reach(&self, schema: &Name) -> bool {
        match self {
            Path::Exact(schemas) => schemas.contains(schema),
            Path::Among(schemas) => schemas.contains(schema),
            Path::Unknown => true,
        }
    }
}

/// The schema of what is built in.
pub(in crate::catalog) const PG_CATALOG: &str = "pg_catalog";

/// One entry of the setting search_path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// `"$user"`: the schema named as the current role.
    User,
    /// A schema.
    Schema(Name),
}

/// Entries of the setting search_path; `None` when it is not well-formed.
///
/// Identifiers separated by commas; unquoted ones are folded to lower case. The server cuts them after 63 bytes.
/// Source: `SplitIdentifierString` (`src/backend/utils/adt/varlena.c`).
pub(super) fn entries(setting: &str) -> Option<Vec<Entry>> {
    let mut found = Vec::new();
    let mut rest = setting.trim_start_matches(is_space);
    if rest.is_empty() {
        return Some(found);
    }
    loop {
        let (name, after) = identifier(rest)?;
        found.push(if name == "$user" { Entry::User } else { Entry::Schema(cut(&name)) });
        if found.len() > SCHEMAS_MAX {
            return None;
        }
        rest = after.trim_start_matches(is_space);
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start_matches(is_space),
            None if rest.is_empty() => return Some(found),
            None => return None,
        }
    }
}

fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find(|c| c == ',' || is_space(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        return (!name.is_empty()).then(|| (fold(name), rest));
    };
    let mut name = String::new();
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

/// As the server folds in UTF-8: letters of ASCII only.
fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
}

fn cut(name: &str) -> Name {
    const NAME_BYTES_MAX: usize = 63;
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    Name::new(&name[..end])
}

/// `scanner_isspace`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c' | '\x0b')
}

#[cfg(test)]
mod tests {
    use super::{Entry, Path, entries};
    use crate::sql::facts::Name;

    fn schemas(names: &[&str]) -> Vec<Entry> {
        names
            .iter()
            .map(|name| match *name {
                "$user" => Entry::User,
                name => Entry::Schema(Name::new(name)),
            })
            .collect()
    }

    #[test]
    fn the_setting_is_cut_as_by_the_server() {
        let cases: &[(&str, Option<&[&str]>)] = &[
            ("\"$user\", public", Some(&["$user", "public"])),
            ("$user,public", Some(&["$user", "public"])),
            ("", Some(&[])),
            ("\"\"", Some(&[""])),
            ("App, \"App\", \"a,b\", \"q\"\"q\"", Some(&["app", "App", "a,b", "q\"q"])),
            ("a b", None),
            ("a,", None),
            (",a", None),
            ("\"a", None),
        ];
        for (setting, expected) in cases {
            assert_eq!(entries(setting), expected.map(schemas), "{setting}");
        }
    }

    #[test]
    fn a_path_that_may_have_changed_reaches_both() {
        let mut path = Path::Exact(vec![Name::new("pg_catalog"), Name::new("a")]);
        path.widen([Name::new("b")]);
        for schema in ["a", "b", "pg_catalog"] {
            assert!(path.may_reach(&Name::new(schema)), "{schema}");
        }
        assert!(!path.may_reach(&Name::new("c")));
        path.widen((0..100).map(|number| Name::new(format!("s{number}"))));
        assert_eq!(path, Path::Unknown);
    }
}
