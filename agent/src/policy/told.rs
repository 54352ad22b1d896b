//! Subjects as people write them: keys and values, for cases and on the command line.

use super::subject::{Container, Subject};

/// Keys with a text.
pub const TEXTS: [&str; 13] = [
    "exe",
    "exe_sha256",
    "user",
    "cgroup",
    "unit",
    "container",
    "image",
    "pod",
    "namespace",
    "role",
    "database",
    "destination",
    "application",
];
/// Keys with a number.
pub const NUMBERS: [&str; 3] = ["uid", "gid", "loginuid"];
/// Keys of which a name follows: `label.NAME`.
pub const NAMED: [&str; 2] = ["label", "tag"];

/// Why a key of a subject could not be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Told {
    /// There is no such key.
    #[error("no such key of a subject: `{key}`")]
    Key {
        /// As written.
        key: String,
    },
    /// It has a number, and this is none.
    #[error("`{key}` is a number up to 4294967295")]
    Number {
        /// The key.
        key: String,
    },
    /// It has a digest, and this is none.
    #[error("`{key}` is 64 hexadecimal digits")]
    Digest {
        /// The key.
        key: String,
    },
}

/// Every key, for hints; `parent` may be told more than once, nearest first.
pub fn keys() -> impl Iterator<Item = &'static str> {
    TEXTS.into_iter().chain(NUMBERS).chain(["parent"]).chain(NAMED)
}

/// Tells `subject` one thing.
pub fn tell(subject: &mut Subject, key: &str, text: &str) -> Result<(), Told> {
    let number = || text.parse::<u32>().map(Some).map_err(|_| Told::Number { key: key.to_owned() });
    if let Some((key, name)) = key.split_once('.') {
        let values = match key {
            "label" => &mut container(subject).labels,
            "tag" => &mut subject.tags,
            _ => return Err(Told::Key { key: key.to_owned() }),
        };
        values.insert(name.into(), text.into());
        return Ok(());
    }
    match key {
        "exe" => subject.exe = Some(text.into()),
        "exe_sha256" => {
            if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Told::Digest { key: key.to_owned() });
            }
            subject.exe_sha256 = Some(text.to_ascii_lowercase().into());
        }
        "parent" => subject.parents.push(text.into()),
        "uid" => subject.uid = number()?,
        "gid" => subject.gid = number()?,
        "loginuid" => subject.loginuid = number()?,
        "user" => subject.user = Some(text.into()),
        "cgroup" => subject.cgroup = Some(text.into()),
        "unit" => subject.unit = Some(text.into()),
        "container" => container(subject).name = Some(text.into()),
        "image" => container(subject).image = Some(text.into()),
        "pod" => container(subject).pod = Some(text.into()),
        "namespace" => container(subject).namespace = Some(text.into()),
        "role" => subject.role = text.into(),
        "database" => subject.database = text.into(),
        "destination" => subject.destination = Some(text.into()),
        "application" => subject.application = Some(text.into()),
        _ => return Err(Told::Key { key: key.to_owned() }),
    }
    Ok(())
}

fn container(subject: &mut Subject) -> &mut Container {
    subject.container.get_or_insert_with(Container::default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_can_be_told() {
        for key in keys() {
            let mut subject = Subject::default();
            let key = if NAMED.contains(&key) { format!("{key}.x") } else { key.to_owned() };
            let value = if key == "exe_sha256" { "0".repeat(64) } else { "7".to_owned() };
            assert_eq!(tell(&mut subject, &key, &value), Ok(()), "{key}");
            assert_ne!(subject, Subject::default(), "{key}");
        }
        for (key, value) in
            [("rolle", "x"), ("uid", "x"), ("label", "x"), ("colour.x", "y"), ("exe_sha256", "0")]
        {
            assert!(tell(&mut Subject::default(), key, value).is_err(), "{key}");
        }
    }
}
