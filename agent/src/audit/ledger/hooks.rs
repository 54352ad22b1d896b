//! What becomes of the hooks.

use std::borrow::Cow;

/// `hooks` (16): programs were attached, or are not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// Field 162.
    pub action: HooksAction,
    /// Field 201: the programs it is about, each as `name id`.
    pub programs: Vec<Program>,
    /// Field 54: what they are attached to: `root`, or the path of a cgroup.
    pub cgroup: String,
    /// Field 57: more about it.
    pub detail: Option<Cow<'static, str>>,
}

/// A program, attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// The id that the kernel gave the program, as `bpftool` shows it.
    pub id: u32,
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.id)
    }
}

/// What happened to the hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HooksAction {
    /// An agent attached them, or put its programs into the links that were there.
    Attached,
    /// They were detached while an agent ran: connects pass unseen from there on.
    Detached,
    /// Their pins were removed while an agent ran: they work until it ends.
    Unpinned,
    /// They were gone when an agent started, though the last word of the trail is that they are attached: somebody detached
    /// them in between, and connects may have passed unseen.
    Missing,
    /// They were gone when an agent started, because the system was started anew.
    Rebooted,
}

impl HooksAction {
    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Detached => "detached",
            Self::Unpinned => "unpinned",
            Self::Missing => "missing",
            Self::Rebooted => "rebooted",
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Attached, Self::Detached, Self::Unpinned, Self::Missing, Self::Rebooted]
            .into_iter()
            .find(|action| action.name() == name)
    }
}

/// The last `hooks` entry of the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastHooks {
    /// What it said.
    pub action: HooksAction,
    /// Field 50 of the `agent_start` before it.
    pub boot_id: String,
    /// Field 54.
    pub cgroup: String,
}

/// What a starting agent found pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pins {
    /// Hooks that are attached.
    Attached,
    /// None, or some that are not attached any more.
    None,
}

/// What a starting agent has to say of the time before it. `found` is from before it attaches anything.
pub fn at_start(last: Option<&LastHooks>, found: Pins, boot_id: &str) -> Option<Hooks> {
    let last = last?;
    let gone = match (last.action, found) {
        (_, Pins::Attached) => false,
        (HooksAction::Attached | HooksAction::Unpinned, Pins::None) => true,
        // That was said already.
        (HooksAction::Detached | HooksAction::Missing | HooksAction::Rebooted, Pins::None) => false,
    };
    let (action, detail) = if last.boot_id != boot_id {
        (HooksAction::Rebooted, "the system was started anew: no hooks until now")
    } else if last.action == HooksAction::Unpinned {
        (HooksAction::Missing, "their pins were removed, and they went with the agent before")
    } else {
        (HooksAction::Missing, "detached while no agent ran: connects may have passed unseen")
    };
    gone.then(|| Hooks {
        action,
        programs: Vec::new(),
        cgroup: last.cgroup.clone(),
        detail: Some(Cow::Borrowed(detail)),
    })
}
