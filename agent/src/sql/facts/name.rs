//! Names as statements write them.

use std::fmt;

/// An identifier as the server sees it: unquoted ones in lower case, cut after 63 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// Of a name that the parser folded and cut.
    pub fn new(name: impl Into<Box<str>>) -> Self {
        Self(name.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name with what stands in front of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    /// Database, which must be the session's.
    pub catalog: Option<Name>,
    /// Schema.
    pub schema: Option<Name>,
    /// The name itself.
    pub name: Name,
}

impl QualifiedName {
    /// A name without anything in front.
    pub fn bare(name: Name) -> Self {
        Self { catalog: None, schema: None, name }
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.catalog.iter().chain(&self.schema) {
            write!(f, "{part}.")?;
        }
        self.name.fmt(f)
    }
}
