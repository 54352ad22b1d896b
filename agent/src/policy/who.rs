//! Which subjects an `[[assign]]` is about.

use std::collections::BTreeMap;

use super::glob::Glob;
use super::subject::Subject;

/// Patterns for a subject: each key that is given must match, by one of its patterns. A key of which the subject has no
/// value does not match, whatever its patterns are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Path of the program.
    pub exe: Patterns,
    /// Digest of its file, lower-case hex.
    pub exe_sha256: Patterns,
    /// Path of one of its parents.
    pub parent: Patterns,
    /// User id.
    pub uid: Numbers,
    /// Group id.
    pub gid: Numbers,
    /// User who logged in.
    pub loginuid: Numbers,
    /// Name of the user on the host.
    pub user: Patterns,
    /// Cgroup.
    pub cgroup: Patterns,
    /// Unit.
    pub unit: Patterns,
    /// Name of the container.
    pub container: Patterns,
    /// Its image.
    pub image: Patterns,
    /// Its pod.
    pub pod: Patterns,
    /// Namespace of the pod.
    pub namespace: Patterns,
    /// Labels of the container.
    pub label: NamedPatterns,
    /// User of the database.
    pub role: Patterns,
    /// Database.
    pub database: Patterns,
    /// Name of the destination.
    pub destination: Patterns,
    /// `application_name`.
    pub application: Patterns,
    /// Tags of a comment.
    pub tag: NamedPatterns,
}

/// Patterns of a key, of which one must match; `None` when the key is not given.
pub type Patterns = Option<Box<[Glob]>>;
/// Numbers of a key.
pub type Numbers = Option<Box<[u32]>>;
/// Patterns of names that the file chooses: all names must match.
pub type NamedPatterns = Box<[(Box<str>, Box<[Glob]>)]>;

impl Who {
    /// Whether `subject` is meant.
    pub fn matches(&self, subject: &Subject) -> bool {
        let container = subject.container.as_ref();
        let of = |value: fn(&super::subject::Container) -> Option<&str>| container.and_then(value);
        let no_labels = BTreeMap::new();
        let labels = container.map_or(&no_labels, |container| &container.labels);
        one(&self.role, Some(&*subject.role))
            && one(&self.database, Some(&*subject.database))
            && one(&self.destination, subject.destination.as_deref())
            && one(&self.exe, subject.exe.as_deref())
            && one(&self.exe_sha256, subject.exe_sha256.as_deref())
            && any(&self.parent, &subject.parents)
            && number(&self.uid, subject.uid)
            && number(&self.gid, subject.gid)
            && number(&self.loginuid, subject.loginuid)
            && one(&self.user, subject.user.as_deref())
            && one(&self.cgroup, subject.cgroup.as_deref())
            && one(&self.unit, subject.unit.as_deref())
            && one(&self.container, of(|container| container.name.as_deref()))
            && one(&self.image, of(|container| container.image.as_deref()))
            && one(&self.pod, of(|container| container.pod.as_deref()))
            && one(&self.namespace, of(|container| container.namespace.as_deref()))
            && named(&self.label, labels)
            && one(&self.application, subject.application.as_deref())
            && named(&self.tag, &subject.tags)
    }

    /// Whether no key is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether only the application itself says who it is.
    pub fn is_only_claimed(&self) -> bool {
        let rest = Self { application: None, tag: NamedPatterns::default(), ..self.clone() };
        !self.is_empty() && rest.is_empty()
    }

    /// A literal that the subject must have, for finding this by it: the place of the key in [`lookups`], and the text.
    pub(super) fn selector(&self) -> Option<(usize, Vec<&str>)> {
        let keys =
            [&self.exe_sha256, &self.exe, &self.image, &self.container, &self.unit, &self.role];
        keys.into_iter().enumerate().find_map(|(place, patterns)| {
            let literals =
                patterns.as_ref()?.iter().map(Glob::literal).collect::<Option<Vec<_>>>()?;
            Some((place, literals))
        })
    }
}

/// What [`Who::selector`] may name of a subject.
pub(super) fn lookups(subject: &Subject) -> [Option<&str>; 6] {
    let container = subject.container.as_ref();
    [
        subject.exe_sha256.as_deref(),
        subject.exe.as_deref(),
        container.and_then(|container| container.image.as_deref()),
        container.and_then(|container| container.name.as_deref()),
        subject.unit.as_deref(),
        Some(&subject.role),
    ]
}

pub(super) fn one(patterns: &Patterns, value: Option<&str>) -> bool {
    let Some(patterns) = patterns else { return true };
    value.is_some_and(|value| patterns.iter().any(|pattern| pattern.matches(value)))
}

fn any(patterns: &Patterns, values: &[Box<str>]) -> bool {
    patterns.is_none() || values.iter().any(|value| one(patterns, Some(value)))
}

fn number(numbers: &Numbers, value: Option<u32>) -> bool {
    let Some(numbers) = numbers else { return true };
    value.is_some_and(|value| numbers.contains(&value))
}

fn named(patterns: &NamedPatterns, values: &BTreeMap<Box<str>, Box<str>>) -> bool {
    patterns.iter().all(|(name, patterns)| {
        values.get(name).is_some_and(|value| patterns.iter().any(|pattern| pattern.matches(value)))
    })
}
