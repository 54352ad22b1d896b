//! Records of what people have the agent do: sessions ended, roles granted for a while.

use super::cbor::Map;
use super::schema::f;
use super::time::WallNanos;

/// `kill`: somebody had statements cancelled or sessions ended. Recorded before it is done.
#[derive(Clone, Copy, Debug)]
pub struct Kill<'a> {
    /// Why. May be missing where only statements are cancelled.
    pub reason: Option<&'a str>,
    /// Sessions that were chosen.
    pub sessions: u64,
    /// User who asked.
    pub by_uid: u32,
    /// `cancel`, `wait`, `terminate`.
    pub action: &'a str,
    /// By what sessions were chosen: `session`, `pid`, `exe`, `container`, `role`, `destination`, separated by commas.
    pub scope: &'a str,
    /// What each of them had to be, in the same order.
    pub target: &'a str,
}

/// `grant`: a role of the policy was asked for, is granted, or no longer is.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// Why.
    pub reason: &'a str,
    /// Who the people behind it are, where user ids do not say it, and for how long.
    pub detail: Option<&'a str>,
    /// When it ends. `None` while it is only asked for.
    pub until: Option<WallNanos>,
    /// User who asked, approved or revoked; the agent's own for what happens by itself.
    pub by_uid: u32,
    /// `request`, `approve`, `begin`, `revoke`, `expire`.
    pub action: &'a str,
    /// To whom, as it was asked for.
    pub target: &'a str,
    /// Who approved, if somebody did.
    pub approver: Option<&'a str>,
    /// Its name.
    pub grant: &'a str,
    /// The role.
    pub role: &'a str,
}

impl Kill<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text_if(f::REASON, self.reason);
        entry.uint(f::SESSIONS, self.sessions);
        entry.uint(f::BY_UID, self.by_uid.into());
        entry.text(f::ACTION, self.action);
        entry.text(f::SCOPE, self.scope);
        entry.text(f::TARGET, self.target);
    }
}

impl Grant<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text(f::REASON, self.reason);
        entry.text_if(f::DETAIL, self.detail);
        entry.uint_if(f::UNTIL, self.until.map(|until| until.0));
        entry.uint(f::BY_UID, self.by_uid.into());
        entry.text(f::ACTION, self.action);
        entry.text(f::TARGET, self.target);
        entry.text_if(f::APPROVER, self.approver);
        entry.text(f::GRANT, self.grant);
        entry.text(f::ROLE, self.role);
    }
}
