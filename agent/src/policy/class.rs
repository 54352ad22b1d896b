//! Subjects that are the same to a policy.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::model::{Hours, Identity, Limit};

/// All that a policy makes of a subject: its roles, and what is protected where it connects.
///
/// Two subjects of one class are judged alike, so that a decision may be kept by class. Cheap to copy, hash and compare.
#[derive(Clone, Debug)]
pub struct Class(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    policy: Identity,
    key: u64,
    roles: Box<[u32]>,
    protects: Box<[u32]>,
    limits: Limits,
}

/// Limits of a class: of each counted thing the tightest for each action. Each is in force at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Numbers and times.
    pub limits: Vec<Limit>,
    /// Business hours: all windows count, a moment is within hours when it is within each.
    pub hours: Vec<Hours>,
}

impl Class {
    /// `roles` and `protects` ascend.
    pub(super) fn new(
        policy: Identity,
        roles: Box<[u32]>,
        protects: Box<[u32]>,
        limits: Limits,
    ) -> Self {
        // FNV-1a; the separator is no number of a role. Equal keys are compared in full.
        let numbers = roles.iter().chain([&u32::MAX]).chain(&protects).copied();
        let bytes = policy.0.into_iter().chain(numbers.flat_map(u32::to_le_bytes));
        let key = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |key, byte| {
            (key ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self(Arc::new(Inner { policy, key, roles, protects, limits }))
    }

    /// The policy that made it: another one can't use it.
    pub fn policy(&self) -> Identity {
        self.0.policy
    }

    /// A number for tables and records; others may have the same.
    pub fn key(&self) -> u64 {
        self.0.key
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Whether no role applies.
    pub fn has_no_role(&self) -> bool {
        self.0.roles.is_empty()
    }

    /// Whether anything is protected where the subject connects.
    pub fn is_protected(&self) -> bool {
        !self.0.protects.is_empty()
    }

    pub(super) fn roles(&self) -> &[u32] {
        &self.0.roles
    }

    pub(super) fn protects(&self) -> &[u32] {
        &self.0.protects
    }
}

impl PartialEq for Class {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.key == other.0.key
                && self.0.policy == other.0.policy
                && self.0.roles == other.0.roles
                && self.0.protects == other.0.protects)
    }
}

impl Eq for Class {}

impl Hash for Class {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.key);
    }
}
