//! What a policy says of a statement.

use std::sync::Arc;

use super::model::{Identity, Limit, Mode};
use super::need::{Need, Object};
use super::window::WallTime;
use crate::sql::facts::{Effect, ObjectKind, Unknown};

/// Code of every refusal: `insufficient_privilege`.
pub const SQLSTATE: &str = "42501";

/// Proof that a statement was judged and may go to the server. One is for one time that it goes: it can't be copied, and
/// only a [`Verdict`] makes it, which only [`super::Policy::judge`] makes.
///
/// ```compile_fail
/// let permit = pgward::policy::Permit(());
/// ```
#[derive(Debug)]
#[must_use]
pub struct Permit(());

/// What a policy says of one statement. May be kept for statements of the same text and subjects of the same class,
/// until [`Verdict::until`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) rules: Vec<Arc<str>>,
    pub(super) ceilings: Vec<Limit>,
    pub(super) until: Option<WallTime>,
}

/// How a statement fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes to the server.
    Allow,
    /// It goes, and its record says why it would not.
    Observe(Denial),
    /// The same, and the client gets a notice.
    Warn(Denial),
    /// It does not.
    Deny(Denial),
}

impl Verdict {
    /// How the statement fares.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Leave to send the statement once, or why it must not be.
    pub fn permit(&self) -> Result<Permit, &Denial> {
        match &self.outcome {
            Outcome::Allow | Outcome::Observe(_) | Outcome::Warn(_) => Ok(Permit(())),
            Outcome::Deny(denial) => Err(denial),
        }
    }

    /// Why it is refused, or would be.
    pub fn denial(&self) -> Option<&Denial> {
        match &self.outcome {
            Outcome::Allow => None,
            Outcome::Observe(denial) | Outcome::Warn(denial) | Outcome::Deny(denial) => {
                Some(denial)
            }
        }
    }

    /// Names of the rules that decided: those that refuse it, else the grants that it needed. Each once.
    pub fn rules(&self) -> &[Arc<str>] {
        &self.rules
    }

    /// Ceilings of the grants that match, besides those of the class ([`super::Class::limits`]): the tightest of rows and
    /// of bytes for each action.
    pub fn ceilings(&self) -> &[Limit] {
        &self.ceilings
    }

    /// The first moment at which it may be another, because the hours of a rule begin or end.
    pub fn until(&self) -> Option<WallTime> {
        self.until
    }
}

/// Why a statement is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What is refused.
    pub need: Need,
    /// Why.
    pub reason: Reason,
    /// Names of rules that say so: denials, or what protects the object. Never empty, but for [`Reason::OtherPolicy`].
    pub rules: Vec<Arc<str>>,
    /// What the rules tell those who are refused.
    pub hint: Option<Arc<str>>,
    /// The session ends.
    pub terminate: bool,
    /// What the refusal comes to.
    pub mode: Mode,
}

/// Why a need is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Rules deny it.
    Denied,
    /// It is protected, and no rule grants it.
    NotGranted,
    /// It was not understood, and what is not understood is denied or not granted.
    NotUnderstood(Unknown),
    /// The class is of another policy: the caller forgot to make it anew.
    OtherPolicy,
}

impl Reason {
    /// Its word in records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NotGranted => "not_granted",
            Self::NotUnderstood(_) => "not_understood",
            Self::OtherPolicy => "other_policy",
        }
    }
}

impl Denial {
    /// The message of the error, as the server words its own. `kind` is that of a relation or function, where the catalog
    /// knows it.
    pub fn message(&self, kind: Option<ObjectKind>) -> String {
        if let Reason::NotUnderstood(unknown) = &self.reason {
            return format!(
                "permission denied for this statement (unknown: {})",
                unknown_text(unknown)
            );
        }
        let kind = |otherwise| kind.unwrap_or(otherwise);
        match (&self.need.object, self.need.action) {
            (Object::Relation { name, .. }, _) => {
                format!("permission denied for {} {name}", kind_text(kind(ObjectKind::Table)))
            }
            (Object::Function { name, .. }, _) => {
                format!("permission denied for {} {name}", kind_text(kind(ObjectKind::Function)))
            }
            (Object::Other { kind, name, .. }, _) if name.as_str().is_empty() => {
                format!("permission denied for {}", kind_text(*kind))
            }
            (Object::Other { kind, name, .. }, _) => {
                format!("permission denied for {} {name}", kind_text(*kind))
            }
            (Object::Setting(name), Effect::Show) => {
                format!("permission denied to examine \"{name}\"")
            }
            (Object::Setting(name), _) => {
                format!("permission denied to set parameter \"{name}\"")
            }
            (Object::Role(name), Effect::SetRole) => {
                format!("permission denied to set role \"{name}\"")
            }
            (Object::Role(name), _) => format!("permission denied for role {name}"),
            (Object::Channel(name), _) => format!("permission denied for channel {name}"),
            (Object::Session, Effect::CopyProgram) => {
                "permission denied to COPY to or from an external program".to_owned()
            }
            (Object::Session, Effect::CopyFile) => {
                "permission denied to COPY to or from a file".to_owned()
            }
            (Object::Session, action) => {
                format!("permission denied for this statement ({})", action.name())
            }
        }
    }

    /// The detail of the error: enough to find the rule and the record, nothing about others. `decision` names the
    /// record.
    pub fn detail(&self, policy: Identity, decision: &str) -> String {
        let policy = policy.short();
        match self.rules.first() {
            Some(rule) => format!("Policy {policy}, rule {rule}, decision {decision}."),
            None => format!("Policy {policy}, decision {decision}."),
        }
    }
}

/// A kind, as the server's errors name it.
fn kind_text(kind: ObjectKind) -> String {
    match kind {
        ObjectKind::ForeignDataWrapper => "foreign-data wrapper".to_owned(),
        ObjectKind::Other => "object".to_owned(),
        kind => kind.name().replace('_', " "),
    }
}

/// What could not be understood, in a few words and without anything of the statement but the names of the grammar.
pub fn unknown_text(unknown: &Unknown) -> String {
    match unknown {
        Unknown::Syntax => "syntax".to_owned(),
        Unknown::TooLong(bytes) => format!("{bytes} bytes of text"),
        Unknown::TooDeep => "nested too deep".to_owned(),
        Unknown::Encoding => "encoding".to_owned(),
        Unknown::Code(what) => format!("code in {what}"),
        Unknown::Node(node) => format!("grammar node {node}"),
        Unknown::Catalog => "what its names stand for".to_owned(),
        Unknown::Unanalysed => "not analysed".to_owned(),
    }
}
