//! The kinds of entries.

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal,)+) => {
        /// Kind of an entry, field `event`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum EventKind {
            $($(#[$doc])* $variant = $number,)+
        }

        impl EventKind {
            /// All of them, ascending.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in JSON.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Its number in an entry.
            pub fn number(self) -> u64 {
                self as u64
            }

            /// The kind with `number`.
            pub fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

events! {
    /// Recording begins.
    AgentStart = 1 "agent_start",
    /// Recording ends in good order.
    AgentStop = 2 "agent_stop",
    /// A client sent its startup packet.
    SessionStart = 3 "session_start",
    /// The last entry of a session.
    SessionEnd = 4 "session_end",
    /// A text that later entries of the session refer to.
    Statement = 5 "statement",
    /// A statement is about to go to the server.
    Intent = 6 "intent",
    /// What became of a statement.
    Outcome = 7 "outcome",
    /// Somebody asked a server to cancel what a session is doing.
    Cancel = 8 "cancel",
    /// A connection was not let through.
    Refused = 9 "refused",
    /// A connection was let through while no agent ran.
    AllowedUnseen = 10 "allowed_unseen",
    /// Something was not recorded.
    EventsLost = 11 "events_lost",
    /// A network namespace came under watch or left it.
    Namespace = 12 "namespace",
    /// Another process writes in a session.
    Writer = 13 "writer",
    /// How the login of a session went.
    Authentication = 14 "authentication",
    /// A configuration is in force.
    ConfigLoad = 15 "config_load",
    /// Programs were attached or detached.
    Hooks = 16 "hooks",
    /// Connects that the kernel saw, and what became of them.
    Coverage = 17 "coverage",
    /// State of the clock.
    Clock = 18 "clock",
    /// The log so far, signed with a key that is used once.
    Seal = 19 "seal",
    /// What was found and put aside at a start.
    Recovery = 20 "recovery",
    /// A log begins.
    EpochStart = 21 "epoch_start",
    /// A key was made, used or taken out of use.
    Key = 22 "key",
    /// Recording failed, or works again.
    Failure = 23 "failure",
    /// The trail crossed a mark of its quota.
    Capacity = 24 "capacity",
    /// Recording was eased in an emergency, or that is over.
    BreakGlass = 25 "break_glass",
    /// Somebody read the trail.
    AuditRead = 26 "audit_read",
    /// Values were made unreadable for ever.
    Redaction = 27 "redaction",
    /// Old segments were deleted.
    Prune = 28 "prune",
    /// A legal hold was set or lifted.
    Hold = 29 "hold",
    /// Number and digest of a session's entries so far.
    SessionMark = 30 "session_mark",
    /// A statement was not let through.
    Denied = 31 "denied",
    /// Somebody had statements cancelled or sessions ended.
    Kill = 32 "kill",
    /// A role of the policy was granted for a while, or that is over.
    Grant = 33 "grant",
    /// A session reached a limit.
    Limit = 34 "limit",
}
