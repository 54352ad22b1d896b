//! What is remembered over restarts.

use serde::{Deserialize, Serialize};

use super::CareError;
use super::holds::Holds;
use crate::audit::keys::Folder;

const FILE: &str = "keep.json";
/// Longest `keep.json`: each hold with its longest texts, escaped.
const FILE_BYTES_MAX: usize = 16 << 20;

/// See the module above.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The holds in force.
    pub(super) holds: Holds,
    /// Recording is eased.
    pub(super) eased: Option<Eased>,
    /// What was read of segments. Not kept.
    #[serde(skip)]
    pub(super) times: super::segments::Times,
}

/// A break-glass that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Eased {
    pub(super) since_ns: u64,
    pub(super) until_ns: u64,
    pub(super) reason: String,
    pub(super) approver: String,
    pub(super) by_uid: u32,
}

impl State {
    pub(super) fn read(folder: &Folder) -> Result<Self, CareError> {
        match folder.read(FILE, FILE_BYTES_MAX)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(CareError::State),
            None => Ok(Self::default()),
        }
    }

    pub(super) fn write(&self, folder: &Folder) -> Result<(), CareError> {
        let bytes = serde_json::to_vec_pretty(self).map_err(CareError::State)?;
        Ok(folder.replace(FILE, &bytes)?)
    }
}
