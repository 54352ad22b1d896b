//! From what is held beside a record back to its values, checked against the record.

use super::commit::{Committer, Field};
use super::keyring::{Answer, Day, Keys, KeysError, Owner};
use super::payload::{self, Opened, Parsed};
use super::shown::{Held, PARAMETERS_LISTED_MAX};
use crate::audit::WallNanos;

/// What a record says of the values beside it.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Its session.
    pub session: [u8; 16],
    /// Its number there.
    pub seq: u64,
    /// When it was made: where keys are looked for first.
    pub time: WallNanos,
    /// Number of [`Held`] (field `values`).
    pub held: u64,
    /// `text_commitment`
    pub text: Option<[u8; 32]>,
    /// Ordinals, from 0 and ascending, and commitments of listed parameters.
    pub parameters: &'a [(u16, [u8; 32])],
    /// Commitment to those that are not listed.
    pub unlisted: Option<[u8; 32]>,
    /// `values_sha256`
    pub payload_sha256: Option<[u8; 32]>,
}

/// Values, each of which is the one that the record is about.
#[derive(Clone, PartialEq, Eq)]
pub struct Disclosed {
    /// The statement, with `$n` for what was never stored.
    pub text: Option<Vec<u8>>,
    /// By ordinal, ascending; `None` is NULL. Those that there was no room for are missing.
    pub parameters: Vec<(u16, Option<Vec<u8>>)>,
}

/// Why values are not disclosed.
#[derive(Debug, thiserror::Error)]
pub enum DiscloseError {
    /// The keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The key was destroyed.
    #[error("the key of the {0} was destroyed")]
    Shredded(KeyOf),
    /// The key is not here.
    #[error("no key of the {0} is here")]
    NoKey(KeyOf),
    /// What is beside the record is in no form that is written beside records.
    #[error("the payload is malformed")]
    Malformed,
    /// It is beside the wrong record.
    #[error("the payload is of another record")]
    OtherRecord,
    /// It was changed, or the key is another.
    #[error("the payload was changed, or was encrypted with another key")]
    Changed,
    /// It opens, but the record is about something else.
    #[error("the {0} is not the one that the record is about")]
    Mismatch(Value),
}

/// Whose key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOf {
    /// The session's.
    Session,
    /// The person's.
    Subject,
}

/// Which value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// The text.
    Text,
    /// A parameter, counted from 0.
    Parameter(u16),
    /// The parameters that are not listed.
    Unlisted,
    /// The payload as a whole.
    Payload,
}

/// Opens what is beside a record.
///
/// Errors: [`DiscloseError`]; nothing is disclosed in part. A value that the record does not commit
/// to is a [`DiscloseError::Mismatch`].
pub fn disclose(
    keys: &Keys,
    claim: &Claim<'_>,
    payload: &[u8],
) -> Result<Disclosed, DiscloseError> {
    if claim.payload_sha256.is_some_and(|sha256| sha256 != payload::sha256(payload)) {
        return Err(DiscloseError::Mismatch(Value::Payload));
    }
    let parsed = Parsed::read(payload).ok_or(DiscloseError::Malformed)?;
    if parsed.session != claim.session || parsed.held.number() != claim.held {
        return Err(DiscloseError::OtherRecord);
    }
    let opened = match parsed.held {
        // No key vouches for it.
        Held::Clear if claim.payload_sha256.is_none() => {
            return Err(DiscloseError::Mismatch(Value::Payload));
        }
        Held::Clear => parsed.in_clear().ok_or(DiscloseError::Malformed)?,
        Held::Session | Held::Subject => open(keys, claim, &parsed)?,
    };
    check(claim, opened)
}

fn open(keys: &Keys, claim: &Claim<'_>, parsed: &Parsed<'_>) -> Result<Opened, DiscloseError> {
    let day = Day::of(claim.time);
    let session = match keys.find(Owner::Session(parsed.session), day)? {
        Answer::Keys(keys) => keys,
        Answer::Erased => return Err(DiscloseError::Shredded(KeyOf::Session)),
        Answer::Missing => return Err(DiscloseError::NoKey(KeyOf::Session)),
    };
    let candidates = match parsed.subject {
        None => session,
        Some(subject) => match keys.find(Owner::Subject(subject), day)? {
            Answer::Keys(subjects) => session
                .iter()
                .flat_map(|key| subjects.iter().map(|person| payload::subject_key(key, person)))
                .collect(),
            Answer::Erased => return Err(DiscloseError::Shredded(KeyOf::Subject)),
            Answer::Missing => return Err(DiscloseError::NoKey(KeyOf::Subject)),
        },
    };
    let opened = candidates.iter().find_map(|key| parsed.open(key, claim.seq).ok());
    opened.ok_or(DiscloseError::Changed)?.ok_or(DiscloseError::Malformed)
}

fn check(claim: &Claim<'_>, opened: Opened) -> Result<Disclosed, DiscloseError> {
    let Opened { secret, text, parameters } = opened;
    let committer = Committer::with(secret);
    if let Some(text) = &text
        && claim.text != Some(committer.commit(Field::Text, text))
    {
        return Err(DiscloseError::Mismatch(Value::Text));
    }
    let listed = parameters.partition_point(|(at, _)| usize::from(*at) < PARAMETERS_LISTED_MAX);
    let (listed, unlisted) = parameters.split_at(listed);
    for (ordinal, value) in listed {
        let claimed = claim.parameters.iter().find(|(claimed, _)| claimed == ordinal);
        let found = value.as_ref().map(|v| committer.commit(Field::Parameter(*ordinal), v));
        if found.is_none() || claimed.map(|(_, commitment)| *commitment) != found {
            return Err(DiscloseError::Mismatch(Value::Parameter(*ordinal)));
        }
    }
    let several = (!unlisted.is_empty()).then(|| {
        let mut several = committer.several();
        for (ordinal, value) in unlisted {
            several.add(*ordinal, value.as_deref());
        }
        several.finish()
    });
    if several != claim.unlisted {
        return Err(DiscloseError::Mismatch(Value::Unlisted));
    }
    Ok(Disclosed { text, parameters })
}

/// Lengths only.
impl std::fmt::Debug for Disclosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disclosed")
            .field("text_bytes", &self.text.as_ref().map(Vec::len))
            .field("parameters", &self.parameters.len())
            .finish()
    }
}

impl std::fmt::Display for KeyOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::Subject => "person",
        })
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Parameter(ordinal) => write!(f, "parameter ${}", u32::from(*ordinal) + 1),
            Self::Unlisted => f.write_str("list of further parameters"),
            Self::Payload => f.write_str("payload"),
        }
    }
}
