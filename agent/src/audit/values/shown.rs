//! What the record of a statement says of its values.

use super::keyring::Stored;

/// Parameters that a record describes one by one.
pub const PARAMETERS_LISTED_MAX: usize = 64;
/// Longest value of a parameter that stands in a record, in bytes.
pub const PARAMETER_INLINE_MAX: usize = 4 << 10;
/// Most bytes of values that stand in one record, over all its parameters.
pub const PARAMETERS_INLINE_MAX: usize = 16 << 10;
/// Most bytes of values that are held beside one record, with a few for each value.
pub const BESIDE_BYTES_MAX: usize = 16 << 20;

/// How a statement's values go into its record, and what is held beside it.
pub struct Shown {
    /// Commitment to the text that is held beside.
    pub text_commitment: Option<[u8; 32]>,
    /// Keyed hash of the text.
    pub text_hash: Option<[u8; 32]>,
    /// In their order, at most [`PARAMETERS_LISTED_MAX`].
    pub parameters: Vec<ShownParameter>,
    /// Those that are not listed.
    pub unlisted: Option<Unlisted>,
    /// How what is beside is held. `None`: there is nothing.
    pub beside: Option<Held>,
    /// SHA-256 of `payload`, where no key vouches for it.
    pub payload_sha256: Option<[u8; 32]>,
    /// What is beside: the payload of the frame behind the record; empty if there is nothing.
    pub payload: Vec<u8>,
    /// A key that the payload needs is being stored. The payload cannot be read if the machine
    /// fails before that is done; the record stands in any case.
    pub key_stored: Option<Stored>,
}

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownParameter {
    /// How it is held.
    pub value: ShownValue,
    /// Its full length, when the record or the payload does not hold all of it.
    pub cut_of: Option<u64>,
}

/// How a value is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownValue {
    /// NULL.
    Null,
    /// As it is, in the record.
    Clear,
    /// By a commitment. The value is beside, unless there was no room.
    Committed {
        /// See the `commit` module for its form.
        commitment: [u8; 32],
        /// Whether the value is beside.
        beside: bool,
    },
    /// HMAC-SHA-256 with the index key of the day on which the session began; of a value that was
    /// cut, of its beginning.
    Hash([u8; 32]),
    /// Not at all.
    Never(Never),
}

/// Why a value is not stored at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {
    /// A rule says so.
    Rule,
    /// It is a password or verifier, or may be one.
    Secret,
}

/// Parameters that are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// How many.
    pub count: u64,
    /// How many of them are neither committed to nor held: those of which no value is stored, those
    /// whose hash is wanted, and those that were not handed over.
    pub left_out: u64,
    /// One commitment to all others.
    pub commitment: Option<[u8; 32]>,
}

/// How values beside a record are held. Also the number that the record and the payload have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Held {
    /// As they are: too long for the record.
    Clear = 0,
    /// Under the key of the session.
    Session = 1,
    /// Under a key that takes that of the session and that of a person.
    Subject = 2,
}

impl Never {
    /// The word for it in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Secret => "secret",
        }
    }

    /// Its number in records.
    pub fn number(self) -> u64 {
        match self {
            Self::Rule => 0,
            Self::Secret => 1,
        }
    }
}

impl Held {
    /// Its number.
    pub fn number(self) -> u64 {
        u64::from(self as u8)
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shown")
            .field("parameters", &self.parameters.len())
            .field("beside", &self.beside)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}
