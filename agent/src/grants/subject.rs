//! Whom a grant is for: `exe=/usr/bin/psql,role=app`. The keys are those of the policy's `[[assign]]`.
//!
//! Keys that are given must all match; one that is given more than once, by one of its values; `label` for each name of a
//! label. What is not known of a subject matches nothing.

use super::Pattern;
use crate::policy::Subject;

/// Most pairs of key and value.
pub const PAIRS_MAX: usize = 32;
/// Longest text of all pairs, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 1024;

/// A subject as it was written, known to parse: what files and records hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Written(Box<str>);

impl std::ops::Deref for Written {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Written {
    /// What was written, if it is a subject.
    pub fn new(text: &str) -> Result<Self, SubjectError> {
        Patterns::parse(text).map(|_| Self(text.into()))
    }

    /// Its patterns.
    pub fn parse(&self) -> Result<Patterns, SubjectError> {
        Patterns::parse(&self.0)
    }
}

macro_rules! keys {
    ($($variant:ident = $name:literal,)+) => {
        /// What a pair is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Key {
            $($variant,)+
        }

        impl Key {
            const NAMES: &'static [&'static str] = &[$($name,)+];

            fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    // As `[[assign]]` calls it.
                    "role" => Some(Self::DatabaseUser),
                    _ => None,
                }
            }
        }
    };
}

keys! {
    Exe = "exe",
    ExeSha256 = "exe_sha256",
    Parent = "parent",
    Container = "container",
    Image = "image",
    Label = "label",
    Pod = "pod",
    Namespace = "namespace",
    Unit = "unit",
    Uid = "uid",
    Gid = "gid",
    User = "user",
    Loginuid = "loginuid",
    Cgroup = "cgroup",
    DatabaseUser = "db_user",
    Database = "database",
    Destination = "destination",
    Application = "application",
}

/// Why it is no subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Nothing is said.
    #[error("no subject: expected KEY=VALUE, for example `exe=/usr/bin/psql`")]
    Empty,
    /// Too much is said.
    #[error("subject too long: expected at most {PAIRS_MAX} pairs and {SUBJECT_BYTES_MAX} bytes")]
    TooLong,
    /// A part is no pair.
    #[error("found `{0}`, expected KEY=VALUE")]
    NoPair(String),
    /// Nobody knows the key.
    #[error("unknown key `{found}`: expected one of {}", Key::NAMES.join(", "))]
    UnknownKey {
        /// What was written.
        found: String,
    },
    /// No value.
    #[error("`{0}` has no value")]
    NoValue(String),
    /// Not a number.
    #[error("`{key}` is a number: found `{found}`")]
    NoNumber {
        /// Of what.
        key: String,
        /// Its value.
        found: String,
    },
    /// A label without a name.
    #[error("found label `{0}`, expected label=NAME=VALUE")]
    NoLabel(String),
    /// Whoever wants it could say so.
    #[error("`application` alone is no subject: every application can call itself that")]
    OnlyClaimed,
}

/// Patterns of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns(Box<[(Key, Test)]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Text(Pattern),
    Number(u32),
    Label(Box<str>, Pattern),
}

impl Patterns {
    /// Reads `KEY=VALUE[,KEY=VALUE]`. A comma of a value is written `\,`, a backslash `\\`.
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        if text.len() > SUBJECT_BYTES_MAX {
            return Err(SubjectError::TooLong);
        }
        let parts = parts(text);
        if parts.len() > PAIRS_MAX {
            return Err(SubjectError::TooLong);
        }
        let tests = parts.iter().map(|part| test(part)).collect::<Result<Box<[_]>, _>>()?;
        if tests.is_empty() {
            return Err(SubjectError::Empty);
        }
        if tests.iter().all(|(key, _)| *key == Key::Application) {
            return Err(SubjectError::OnlyClaimed);
        }
        Ok(Self(tests))
    }

    /// Whether `subject` is meant.
    pub fn matches(&self, subject: &Subject) -> bool {
        // Of each key one: those of the same key are asked for together.
        self.0.iter().all(|(key, test)| {
            self.0
                .iter()
                .filter(|(other, or)| other == key && or.is_of_same_label(test))
                .any(|(_, or)| or.matches(*key, subject))
        })
    }
}

impl Test {
    /// Labels of different names must each match.
    fn is_of_same_label(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Label(name, _), Self::Label(of_other, _)) => name == of_other,
            (Self::Text(_) | Self::Number(_) | Self::Label(..), _) => true,
        }
    }

    fn matches(&self, key: Key, subject: &Subject) -> bool {
        match self {
            Self::Text(pattern) => texts(key, subject).any(|text| pattern.matches(text)),
            Self::Number(number) => {
                let found = match key {
                    Key::Uid => subject.uid,
                    Key::Gid => subject.gid,
                    Key::Loginuid => subject.loginuid,
                    Key::Exe
                    | Key::ExeSha256
                    | Key::Parent
                    | Key::Container
                    | Key::Image
                    | Key::Label
                    | Key::Pod
                    | Key::Namespace
                    | Key::Unit
                    | Key::User
                    | Key::Cgroup
                    | Key::DatabaseUser
                    | Key::Database
                    | Key::Destination
                    | Key::Application => None,
                };
                found == Some(*number)
            }
            Self::Label(name, pattern) => subject
                .container
                .as_ref()
                .and_then(|container| container.labels.get(name))
                .is_some_and(|value| pattern.matches(value)),
        }
    }
}

/// The texts that `subject` has of a key.
fn texts(key: Key, subject: &Subject) -> impl Iterator<Item = &str> {
    let container = subject.container.as_ref();
    let (one, more): (Option<&str>, &[Box<str>]) = match key {
        Key::Exe => (subject.exe.as_deref(), &[]),
        Key::ExeSha256 => (subject.exe_sha256.as_deref(), &[]),
        Key::Parent => (None, &subject.parents),
        Key::Container => (container.and_then(|container| container.name.as_deref()), &[]),
        Key::Image => (container.and_then(|container| container.image.as_deref()), &[]),
        Key::Pod => (container.and_then(|container| container.pod.as_deref()), &[]),
        Key::Namespace => (container.and_then(|container| container.namespace.as_deref()), &[]),
        Key::Unit => (subject.unit.as_deref(), &[]),
        Key::User => (subject.user.as_deref(), &[]),
        Key::Cgroup => (subject.cgroup.as_deref(), &[]),
        Key::DatabaseUser => (Some(&*subject.role), &[]),
        Key::Database => (Some(&*subject.database), &[]),
        Key::Destination => (subject.destination.as_deref(), &[]),
        Key::Application => (subject.application.as_deref(), &[]),
        Key::Uid | Key::Gid | Key::Loginuid | Key::Label => (None, &[]),
    };
    // A container is known by its id, too.
    let id = container.filter(|_| key == Key::Container).map(|container| &*container.id);
    one.into_iter().chain(id).chain(more.iter().map(|text| &**text))
}

/// The text between commas, with backslashes taken away. Nothing of a blank text.
fn parts(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    if text.trim().is_empty() {
        return parts;
    }
    let mut part = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ',' => parts.push(std::mem::take(&mut part)),
            '\\' => part.extend(chars.next()),
            c => part.push(c),
        }
    }
    parts.push(part);
    parts
}

fn test(part: &str) -> Result<(Key, Test), SubjectError> {
    let (name, value) =
        part.split_once('=').ok_or_else(|| SubjectError::NoPair(part.to_owned()))?;
    let (name, value) = (name.trim(), value.trim());
    let key =
        Key::named(name).ok_or_else(|| SubjectError::UnknownKey { found: name.to_owned() })?;
    if value.is_empty() {
        return Err(SubjectError::NoValue(name.to_owned()));
    }
    let test = match key {
        Key::Uid | Key::Gid | Key::Loginuid => {
            let no_number =
                || SubjectError::NoNumber { key: name.to_owned(), found: value.to_owned() };
            Test::Number(value.parse().map_err(|_| no_number())?)
        }
        Key::Label => {
            let (label, pattern) =
                value.split_once('=').ok_or_else(|| SubjectError::NoLabel(value.to_owned()))?;
            Test::Label(label.into(), Pattern::new(pattern))
        }
        Key::Exe
        | Key::ExeSha256
        | Key::Parent
        | Key::Container
        | Key::Image
        | Key::Pod
        | Key::Namespace
        | Key::Unit
        | Key::User
        | Key::Cgroup
        | Key::DatabaseUser
        | Key::Database
        | Key::Destination
        | Key::Application => Test::Text(Pattern::new(value)),
    };
    Ok((key, test))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Container;

    fn subject() -> Subject {
        Subject {
            exe: Some("/usr/bin/psql".into()),
            parents: vec!["/usr/bin/bash".into(), "/usr/sbin/sshd".into()],
            uid: Some(1000),
            loginuid: Some(1001),
            unit: Some("ssh.service".into()),
            container: Some(Container {
                id: "abcdef".into(),
                name: Some("web".into()),
                labels: [("tier".into(), "front".into()), ("team".into(), "a".into())].into(),
                ..Container::default()
            }),
            role: "app".into(),
            database: "shop".into(),
            application: Some("tool".into()),
            ..Subject::default()
        }
    }

    #[test]
    fn all_keys_must_match_and_of_one_key_any_value() {
        for (text, expected) in [
            ("exe=/usr/bin/psql", true),
            ("exe=/usr/bin/*", true),
            ("exe=psql", false),
            ("exe=/bin/x,exe=/usr/bin/psql", true),
            ("exe=/usr/bin/psql,db_user=app", true),
            ("exe=/usr/bin/psql,role=app", true),
            ("exe=/usr/bin/psql,role=other", false),
            ("parent=*/sshd", true),
            ("parent=*/cron", false),
            ("uid=1000", true),
            ("uid=1001,uid=1000", true),
            ("uid=1001", false),
            ("gid=0", false),
            ("loginuid=1001", true),
            ("container=web", true),
            ("container=abc*", true),
            ("image=*", false),
            ("label=tier=front", true),
            ("label=tier=front,label=team=b", false),
            ("label=tier=back,label=tier=fr*", true),
            ("label=none=*", false),
            ("database=shop,application=tool", true),
            ("database=shop,application=other", false),
            ("destination=*", false),
            (" unit = ssh.service , uid = 1000", true),
        ] {
            let patterns = Patterns::parse(text).expect(text);
            assert_eq!(patterns.matches(&subject()), expected, "{text}");
        }
    }

    #[test]
    fn commas_may_be_part_of_a_value() {
        let patterns = Patterns::parse(r"exe=/a\,b\\c,uid=1").expect("two pairs");
        let exe = |exe: &str| Subject { exe: Some(exe.into()), uid: Some(1), ..Subject::default() };
        assert!(patterns.matches(&exe(r"/a,b\c")));
        assert!(!patterns.matches(&exe("/a")));
    }

    #[test]
    fn what_is_no_subject_is_refused_by_name() {
        for (text, expected) in [
            ("", "no subject: expected KEY=VALUE, for example `exe=/usr/bin/psql`"),
            ("exe", "found `exe`, expected KEY=VALUE"),
            ("exe=/a,", "found ``, expected KEY=VALUE"),
            ("exe= ", "`exe` has no value"),
            ("uid=root", "`uid` is a number: found `root`"),
            ("uid=-1", "`uid` is a number: found `-1`"),
            ("label=a", "found label `a`, expected label=NAME=VALUE"),
            (
                "application=x,application=y",
                "`application` alone is no subject: every application can call itself that",
            ),
        ] {
            let error = Patterns::parse(text).expect_err(text);
            assert_eq!(error.to_string(), expected);
        }
        let unknown = Patterns::parse("exec=/a").expect_err("unknown").to_string();
        assert!(unknown.starts_with("unknown key `exec`: expected one of exe, exe_sha256"));
        let long = format!("exe={}", "x".repeat(SUBJECT_BYTES_MAX));
        assert_eq!(Patterns::parse(&long), Err(SubjectError::TooLong));
        let many = vec!["uid=1"; PAIRS_MAX + 1].join(",");
        assert_eq!(Patterns::parse(&many), Err(SubjectError::TooLong));
    }
}
