//! Sessions to be cancelled or ended: which, how, and what became of them.

use serde::{Deserialize, Serialize};

use super::SessionInfo;
use crate::grants::Pattern;

/// Longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 512;

/// What is to be done to which sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Which. At least one part must be given.
    pub chosen: Chosen,
    /// What.
    pub action: KillAction,
    /// Why. Only a cancel request may do without.
    pub reason: Option<String>,
    /// Only say which it would be.
    pub dry_run: bool,
}

/// Which sessions are meant: those of which all that is given here is true. Texts are patterns: `*` stands for any run of
/// characters, `?` for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// Its id, or its short form, as `pgward sessions` prints it. No pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Process that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Path of its program; without a slash, the last part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Its container: name, or else id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// User of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Name of the destination in the configuration; its address with or without port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
}

/// What is done to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KillAction {
    /// The statement that runs is cancelled; the session goes on.
    Cancel,
    /// It ends as soon as it is idle outside of a transaction.
    Wait,
    /// It ends at once.
    Terminate,
}

/// Which sessions were hit, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// Nothing was done.
    pub dry_run: bool,
    /// What was done.
    pub action: KillAction,
    /// Oldest first.
    pub sessions: Vec<KilledSession>,
}

/// A session that was hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KilledSession {
    /// What became of it.
    pub became: Became,
    /// As it was before.
    pub session: SessionInfo,
}

/// What became of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// Nothing: it was only asked which it would be.
    Untouched,
    /// The server got the cancel request. Whether it found something to cancel, the protocol does not tell.
    Cancelled,
    /// Nothing ran that could be cancelled.
    Idle,
    /// The server did not get the cancel request.
    Failed,
    /// It has ended.
    Ended,
    /// It was told, and has not done it yet.
    Told,
}

/// Why nothing is done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KillError {
    /// All sessions would be hit.
    #[error("no session is named: expected session, pid, exe, container, role or destination")]
    NothingChosen,
    /// Whoever loses a session hears why.
    #[error("a reason is needed to end sessions")]
    NoReason,
    /// Not a reason.
    #[error("reason is not 1 to {REASON_BYTES_MAX} bytes of one line")]
    Reason,
}

impl KillAction {
    /// As records and tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Wait => "wait",
            Self::Terminate => "terminate",
        }
    }
}

impl Became {
    /// As tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Untouched => "-",
            Self::Cancelled => "cancelled",
            Self::Idle => "idle",
            Self::Failed => "failed",
            Self::Ended => "ended",
            Self::Told => "told",
        }
    }
}

impl Kill {
    /// Whether it can be done at all.
    pub fn check(&self) -> Result<(), KillError> {
        if self.chosen.is_empty() {
            return Err(KillError::NothingChosen);
        }
        match (&self.reason, self.action) {
            (None, KillAction::Cancel) => Ok(()),
            (None, KillAction::Wait | KillAction::Terminate) if self.dry_run => Ok(()),
            (None, KillAction::Wait | KillAction::Terminate) => Err(KillError::NoReason),
            // The client hears it, as a message of the protocol.
            (Some(reason), _)
                if reason.trim().is_empty()
                    || reason.len() > REASON_BYTES_MAX
                    || reason.chars().any(char::is_control) =>
            {
                Err(KillError::Reason)
            }
            (Some(_), _) => Ok(()),
        }
    }
}

impl Chosen {
    /// Whether nothing is given: then all sessions are meant.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `session` is meant.
    pub fn matches(&self, session: &SessionInfo) -> bool {
        let Self { session: id, pid, exe, container, role, destination } = self;
        let exe_of = |pattern: &str| match (&session.exe, pattern.contains('/')) {
            (Some(exe), true) => Some(exe.as_str()),
            (Some(exe), false) => exe.rsplit('/').next(),
            (None, _) => None,
        };
        id.as_ref().is_none_or(|id| *id == session.id || *id == short_session(&session.id))
            && pid.is_none_or(|pid| pid == session.pid)
            && exe.as_ref().is_none_or(|pattern| {
                exe_of(pattern).is_some_and(|exe| Pattern::new(pattern).matches(exe))
            })
            && container.as_ref().is_none_or(|pattern| {
                let container = session.container.as_ref();
                container.is_some_and(|name| Pattern::new(pattern).matches(name))
            })
            // Before the startup packet there is none.
            && role.as_ref().is_none_or(|pattern| {
                !session.database_user.is_empty()
                    && Pattern::new(pattern).matches(&session.database_user)
            })
            && destination.as_ref().is_none_or(|pattern| {
                let pattern = Pattern::new(pattern);
                let address = session.destination.rsplit_once(':').map(|(address, _)| address);
                pattern.matches(&session.destination_name)
                    || pattern.matches(&session.destination)
                    || address.is_some_and(|address| {
                        pattern.matches(address.trim_matches(['[', ']']))
                    })
            })
    }

    /// As records name it: by what sessions were chosen, and what each had to be.
    pub fn named(&self) -> (String, String) {
        let pid = self.pid.map(|pid| pid.to_string());
        let parts = [
            ("session", &self.session),
            ("pid", &pid),
            ("exe", &self.exe),
            ("container", &self.container),
            ("role", &self.role),
            ("destination", &self.destination),
        ];
        let given = parts.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        let (names, values): (Vec<_>, Vec<_>) = given.unzip();
        (names.join(","), values.join(","))
    }
}

/// `feed000000000001000000000000002a` as `feed:42`: what people read and type. Anything else as it is.
pub fn short_session(id: &str) -> String {
    match (id.get(..4), id.get(16..).map(|counter| u64::from_str_radix(counter, 16))) {
        (Some(epoch), Some(Ok(counter))) => format!("{epoch}:{counter}"),
        _ => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> SessionInfo {
        SessionInfo {
            id: "feed000000000001000000000000002a".to_owned(),
            pid: 7,
            exe: Some("/usr/bin/psql".to_owned()),
            container: Some("web".to_owned()),
            destination: "10.0.0.5:5432".to_owned(),
            destination_name: "orders".to_owned(),
            database_user: "app".to_owned(),
            ..SessionInfo::default()
        }
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn all_that_is_given_must_be_true() {
        let none = Chosen::default;
        for (chosen, expected) in [
            (none(), true),
            (Chosen { session: text("feed:42"), ..none() }, true),
            (Chosen { session: text("feed000000000001000000000000002a"), ..none() }, true),
            (Chosen { session: text("feed:4"), ..none() }, false),
            (Chosen { session: text("feed:*"), ..none() }, false),
            (Chosen { pid: Some(7), ..none() }, true),
            (Chosen { pid: Some(8), ..none() }, false),
            (Chosen { exe: text("/usr/bin/psql"), ..none() }, true),
            (Chosen { exe: text("psql"), ..none() }, true),
            (Chosen { exe: text("*/psql"), ..none() }, true),
            (Chosen { exe: text("sql"), ..none() }, false),
            (Chosen { container: text("w?b"), ..none() }, true),
            (Chosen { container: text("db"), ..none() }, false),
            (Chosen { role: text("app"), ..none() }, true),
            (Chosen { role: text("ap"), ..none() }, false),
            (Chosen { destination: text("orders"), ..none() }, true),
            (Chosen { destination: text("10.0.0.5"), ..none() }, true),
            (Chosen { destination: text("10.0.0.5:5432"), ..none() }, true),
            (Chosen { destination: text("10.0.0.6"), ..none() }, false),
            (Chosen { pid: Some(7), role: text("other"), ..none() }, false),
            (Chosen { pid: Some(7), role: text("a*"), ..none() }, true),
        ] {
            assert_eq!(chosen.matches(&session()), expected, "{chosen:?}");
        }
        let unknown =
            SessionInfo { destination: "[::1]:5432".to_owned(), ..SessionInfo::default() };
        let any = || text("*");
        assert!(!Chosen { exe: any(), ..none() }.matches(&unknown));
        assert!(!Chosen { container: any(), ..none() }.matches(&unknown));
        assert!(!Chosen { role: any(), ..none() }.matches(&unknown));
        assert!(Chosen { destination: text("::1"), ..none() }.matches(&unknown));
    }

    #[test]
    fn nobody_loses_a_session_without_a_reason() {
        let kill = |action, reason: Option<&str>, dry_run| Kill {
            chosen: Chosen { pid: Some(7), ..Chosen::default() },
            action,
            reason: reason.map(str::to_owned),
            dry_run,
        };
        assert_eq!(kill(KillAction::Cancel, None, false).check(), Ok(()));
        assert_eq!(kill(KillAction::Wait, None, true).check(), Ok(()));
        for action in [KillAction::Wait, KillAction::Terminate] {
            assert_eq!(kill(action, None, false).check(), Err(KillError::NoReason));
            assert_eq!(kill(action, Some("why"), false).check(), Ok(()));
        }
        let long = "x".repeat(REASON_BYTES_MAX + 1);
        for bad in ["", " ", "a\nb", "a\0b", &long] {
            let bad = kill(KillAction::Cancel, Some(bad), false);
            assert_eq!(bad.check(), Err(KillError::Reason));
        }
        let all = Kill { chosen: Chosen::default(), ..kill(KillAction::Cancel, None, true) };
        assert_eq!(all.check(), Err(KillError::NothingChosen));
    }

    #[test]
    fn records_name_what_was_chosen() {
        let chosen = Chosen { pid: Some(7), role: text("app"), ..Chosen::default() };
        assert_eq!(chosen.named(), ("pid,role".to_owned(), "7,app".to_owned()));
        assert_eq!(Chosen::default().named(), (String::new(), String::new()));
    }
}
