//! The values of one session, from what a client sent to what is stored.

use std::borrow::Cow;

use super::commit::{Committer, Field, Several};
use super::input::{Parameter, ParameterSource};
use super::key::{NONCE_BYTES, Sealing};
use super::keyring::{Keyring, KeyringError, SessionKeys, Stored};
use super::payload::{self, Content};
use super::policy::{Party, Policy};
use super::random::NoRandom;
use super::shown::{
    BESIDE_BYTES_MAX, Held, Never, PARAMETER_INLINE_MAX, PARAMETERS_INLINE_MAX,
    PARAMETERS_LISTED_MAX, Shown, ShownParameter, ShownValue, Unlisted,
};
use super::text::{Beside, Text};
use crate::audit::{Excerpt, SessionId};
use crate::config::{self, ValueMode};
use crate::sql::lex::{Encoding, Strings};
use crate::sql::secrets::holds_secret;

/// Longest value that names a person, in bytes. With a longer one, or one that was cut, a statement
/// is sealed under the key of its session alone.
pub const SUBJECT_BYTES_MAX: usize = 1024;
/// Bytes that a value takes beside a record, besides its own.
const PAIR_BYTES: usize = 16;

/// How the values of one session are held, and the key that seals them. The key exists here until
/// the session ends, and in the keyring until it is shredded.
pub struct SessionValues {
    session: [u8; 16],
    policy: Policy,
    keyring: Keyring,
    /// `None`: the policy needs none.
    keys: Option<SessionKeys>,
    /// The session's key, once something was sealed with it.
    sealing: Option<Sealing>,
    /// Payloads sealed so far: the next nonce. It counts over all keys of the session.
    sealed: u64,
    person: Option<Person>,
}

/// The person whose statement came last.
struct Person {
    id: [u8; 32],
    /// Which shredding the key was made after.
    generation: u64,
    key: Sealing,
}

/// Whether a record shows its statement's text, or refers to one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// What is held of the text beside a record is held beside this one.
    Text,
    /// It is held beside another, or not at all.
    Parameters,
}

/// Why the values of a statement could not be sealed: then it must not be recorded as if they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// No key for a person.
    #[error("no key for the person of the statement")]
    Keyring(#[from] KeyringError),
}

impl SessionValues {
    /// Resolves the policy and makes the session's key. Touches no file: a key that was made is on
    /// its way to the disk, and the session may begin once `Stored` says that it is there. `None`:
    /// the policy needs no key.
    ///
    /// Errors: the keyring can make no more keys.
    pub fn begin(
        keyring: &Keyring,
        audit: &config::Audit,
        session: SessionId,
        party: &Party<'_>,
    ) -> Result<(Self, Option<Stored>), KeyringError> {
        let (session, policy) = (session.bytes(), Policy::of(audit, party));
        let (keys, stored) = match policy.needs_keys() {
            true => keyring.session(session).map(|(keys, stored)| (Some(keys), Some(stored)))?,
            false => (None, None),
        };
        let keyring = keyring.clone();
        Ok((
            Self { session, policy, keyring, keys, sealing: None, sealed: 0, person: None },
            stored,
        ))
    }

    /// Whether texts are held as they are.
    pub fn holds_clear(&self) -> bool {
        self.policy.text == ValueMode::Clear
    }

    /// Looks at a text. `strings` are [`Strings::Standard`] only when the server said so.
    pub fn text(&self, text: Excerpt<'_>, encoding: Encoding, strings: Strings) -> Text {
        let index = self.keys.as_ref().map(|keys| &keys.index);
        Text::new(text, encoding, strings, self.policy.text, index)
    }

    /// How one execution of a statement is recorded: its record is the session's `seq`-th.
    ///
    /// The record may hold the values of parameters that are [`ShownValue::Clear`] as they are
    /// handed over, and must hold no others.
    ///
    /// Errors: [`SealError`]; nothing was given away.
    pub fn statement(
        &mut self,
        seq: u64,
        text: &Text,
        include: Include,
        parameters: &dyn ParameterSource,
    ) -> Result<Shown, SealError> {
        let mut walk = Walk::new(&self.policy, self.keys.as_ref(), text);
        if include == Include::Text {
            walk.text(text)?;
        }
        let mut fault = None;
        parameters.each(&mut |parameter| {
            fault = fault.or_else(|| walk.parameter(&parameter).err());
        });
        if let Some(fault) = fault {
            return Err(fault.into());
        }
        let done = walk.finish(parameters.count());
        self.payload(seq, text, done)
    }

    fn payload(&mut self, seq: u64, text: &Text, done: Done) -> Result<Shown, SealError> {
        let mut shown = done.shown;
        let Some(committer) = done.committer else {
            return Ok(shown);
        };
        let content = Content {
            secret: committer.secret(),
            text: match (&text.beside, done.text) {
                (Beside::Sealed(bytes) | Beside::Clear(bytes), true) => Some(bytes),
                (Beside::Nothing, _) | (_, false) => None,
            },
            pairs: &done.pairs,
            pairs_count: done.pairs_count,
        };
        if !done.sealed {
            // Long values that are held in clear.
            shown.payload = payload::clear(&self.session, &content);
            shown.payload_sha256 = Some(payload::sha256(&shown.payload));
            shown.beside = Some(Held::Clear);
            return Ok(shown);
        }
        let keys = self.keys.as_ref().expect("a policy that seals has keys");
        let beside = payload::Beside { session: self.session, seq };
        let mut nonce = [0; NONCE_BYTES];
        nonce[NONCE_BYTES - 8..].copy_from_slice(&self.sealed.to_be_bytes());
        self.sealed += 1;
        let Some(id) = done.subject else {
            let key = self.sealing.get_or_insert_with(|| keys.key.sealing());
            shown.payload = payload::sealed(key, None, nonce, beside, &content);
            shown.beside = Some(Held::Session);
            return Ok(shown);
        };
        let generation = self.keyring.generation();
        let known = |person: &Person| person.id == id && person.generation == generation;
        if !self.person.as_ref().is_some_and(known) {
            let (subject, stored) = self.keyring.subject(keys, id)?;
            let key = payload::subject_key(&keys.key, &subject).sealing();
            self.person = Some(Person { id, generation, key });
            shown.key_stored = stored;
        }
        let person = self.person.as_ref().expect("known, or made just now");
        shown.payload = payload::sealed(&person.key, Some(&id), nonce, beside, &content);
        shown.beside = Some(Held::Subject);
        Ok(shown)
    }
}

/// Goes through the values of one record.
struct Walk<'a> {
    policy: &'a Policy,
    keys: Option<&'a SessionKeys>,
    binds_secrets: bool,
    /// Ordinal of the next parameter.
    next: usize,
    /// Bytes that the record still has room for.
    inline_left: usize,
    /// Bytes that there is still room for beside it.
    beside_left: usize,
    several: Option<Several>,
    left_out: u64,
    done: Done,
}

/// What came of it.
struct Done {
    shown: Shown,
    /// Made with the first commitment.
    committer: Option<Committer>,
    /// Whether the text goes beside.
    text: bool,
    /// Whether anything beside must be encrypted.
    sealed: bool,
    subject: Option<[u8; 32]>,
    pairs: Vec<u8>,
    pairs_count: usize,
}

impl<'a> Walk<'a> {
    fn new(policy: &'a Policy, keys: Option<&'a SessionKeys>, text: &Text) -> Self {
        let shown = Shown {
            text_commitment: None,
            text_hash: None,
            parameters: Vec::new(),
            unlisted: None,
            beside: None,
            payload_sha256: None,
            payload: Vec::new(),
            key_stored: None,
        };
        Self {
            policy,
            keys,
            binds_secrets: text.binds_secrets(),
            next: 0,
            inline_left: PARAMETERS_INLINE_MAX,
            beside_left: BESIDE_BYTES_MAX,
            several: None,
            left_out: 0,
            done: Done {
                shown,
                committer: None,
                text: false,
                sealed: false,
                subject: None,
                pairs: Vec::new(),
                pairs_count: 0,
            },
        }
    }

    fn text(&mut self, text: &Text) -> Result<(), NoRandom> {
        self.done.shown.text_hash = text.hash;
        let (bytes, sealed) = match &text.beside {
            Beside::Nothing => return Ok(()),
            Beside::Sealed(bytes) => (bytes, true),
            Beside::Clear(bytes) => (bytes, false),
        };
        self.done.sealed |= sealed;
        self.done.text = self.fits_beside(bytes);
        self.done.shown.text_commitment = Some(self.committer()?.commit(Field::Text, bytes));
        Ok(())
    }

    fn parameter(&mut self, parameter: &Parameter<'_>) -> Result<(), NoRandom> {
        let ordinal = self.next;
        self.next += 1;
        // The wire's own count has 16 bits: there are no more, whatever the source says.
        let Some(wire) = u16::try_from(ordinal).ok().filter(|&wire| wire < u16::MAX) else {
            self.left_out += 1;
            return Ok(());
        };
        let mode = self.mode(ordinal, parameter);
        self.note_subject(ordinal, parameter, mode);
        if ordinal >= PARAMETERS_LISTED_MAX {
            return self.unlisted(wire, parameter, mode);
        }
        let Some(value) = &parameter.value else {
            self.list(ShownValue::Null, None);
            return Ok(());
        };
        let cut_of = value.cut.map(|cut| cut.full_bytes);
        let mode = match mode {
            Ok(mode) => mode,
            Err(never) => {
                self.list(ShownValue::Never(never), None);
                return Ok(());
            }
        };
        match (mode, self.keys) {
            (ValueMode::Clear, _) if self.fits_inline(value.kept) => {
                self.list(ShownValue::Clear, cut_of);
            }
            (ValueMode::Hash, Some(keys)) => {
                self.list(ShownValue::Hash(keys.index.hmac(value.kept)), cut_of);
            }
            (ValueMode::Clear | ValueMode::Sealed | ValueMode::Hash | ValueMode::Never, _) => {
                let (commitment, beside) = self.beside(wire, value.kept, mode)?;
                let long = mode == ValueMode::Clear || !beside;
                let cut_of = cut_of.or_else(|| long.then_some(value.kept.len() as u64));
                self.list(ShownValue::Committed { commitment, beside }, cut_of);
            }
        }
        Ok(())
    }

    /// How a parameter is held, or why not.
    fn mode(&self, ordinal: usize, parameter: &Parameter<'_>) -> Result<ValueMode, Never> {
        if self.binds_secrets {
            return Err(Never::Secret);
        }
        match self.policy.parameter(ordinal) {
            ValueMode::Never => Err(Never::Rule),
            _ if parameter.value.as_ref().is_some_and(|value| holds_secret(value.kept)) => {
                Err(Never::Secret)
            }
            mode @ (ValueMode::Clear | ValueMode::Sealed | ValueMode::Hash) => Ok(mode),
        }
    }

    /// Commits to a value and holds it beside, if there is room.
    fn beside(
        &mut self,
        ordinal: u16,
        value: &[u8],
        mode: ValueMode,
    ) -> Result<([u8; 32], bool), NoRandom> {
        self.done.sealed |= mode != ValueMode::Clear;
        let fits = self.fits_beside(value);
        if fits {
            self.pair(ordinal, Some(value));
        }
        Ok((self.committer()?.commit(Field::Parameter(ordinal), value), fits))
    }

    fn unlisted(
        &mut self,
        ordinal: u16,
        parameter: &Parameter<'_>,
        mode: Result<ValueMode, Never>,
    ) -> Result<(), NoRandom> {
        let kept = parameter.value.as_ref().map(|value| value.kept);
        let sealed = match mode {
            Ok(ValueMode::Sealed) => true,
            Ok(ValueMode::Clear) => false,
            Ok(ValueMode::Hash | ValueMode::Never) | Err(_) => {
                self.left_out += 1;
                return Ok(());
            }
        };
        if !self.fits_beside(kept.unwrap_or_default()) {
            self.left_out += 1;
            return Ok(());
        }
        self.done.sealed |= sealed;
        self.pair(ordinal, kept);
        if self.several.is_none() {
            self.several = Some(self.committer()?.several());
        }
        if let Some(several) = &mut self.several {
            several.add(ordinal, kept);
        }
        Ok(())
    }

    fn pair(&mut self, ordinal: u16, value: Option<&[u8]>) {
        payload::pair(ordinal, value, &mut self.done.pairs);
        self.done.pairs_count += 1;
    }

    fn note_subject(
        &mut self,
        ordinal: usize,
        parameter: &Parameter<'_>,
        mode: Result<ValueMode, Never>,
    ) {
        if self.policy.subject != Some(ordinal) || mode.is_err() {
            return;
        }
        let (Some(value), Some(keys)) = (subject_value(parameter), self.keys) else {
            return;
        };
        self.done.subject = Some(keys.index.hmac(&value));
    }

    fn list(&mut self, value: ShownValue, cut_of: Option<u64>) {
        self.done.shown.parameters.push(ShownParameter { value, cut_of });
    }

    fn fits_inline(&mut self, value: &[u8]) -> bool {
        let fits = value.len() <= PARAMETER_INLINE_MAX && value.len() <= self.inline_left;
        self.inline_left -= if fits { value.len() } else { 0 };
        fits
    }

    fn fits_beside(&mut self, value: &[u8]) -> bool {
        let left = self.beside_left.checked_sub(value.len() + PAIR_BYTES);
        self.beside_left = left.unwrap_or(self.beside_left);
        left.is_some()
    }

    fn committer(&mut self) -> Result<&Committer, NoRandom> {
        if self.done.committer.is_none() {
            self.done.committer = Some(Committer::random()?);
        }
        Ok(self.done.committer.as_ref().expect("made just now"))
    }

    /// `count` is how many parameters the statement has, also those not handed over.
    fn finish(mut self, count: usize) -> Done {
        let listed = self.done.shown.parameters.len();
        let missing = count.saturating_sub(self.next) as u64;
        let unlisted = (self.next - listed) as u64 + missing;
        self.done.shown.unlisted = (unlisted > 0).then(|| Unlisted {
            count: unlisted,
            left_out: self.left_out + missing,
            commitment: self.several.map(Several::finish),
        });
        self.done
    }
}

/// What a value says in text format, for types that people are numbered with, so that a person is
/// the same in both formats. `None`: NULL, cut, or too long.
fn subject_value<'a>(parameter: &Parameter<'a>) -> Option<Cow<'a, [u8]>> {
    const INT8: u32 = 20;
    const INT2: u32 = 21;
    const INT4: u32 = 23;
    const UUID: u32 = 2950;
    let value = parameter.value.as_ref().filter(|value| value.cut.is_none())?.kept;
    let number = match (parameter.format, parameter.type_oid) {
        (1, INT2) => value.try_into().ok().map(|bytes| i16::from_be_bytes(bytes).into()),
        (1, INT4) => value.try_into().ok().map(|bytes| i32::from_be_bytes(bytes).into()),
        (1, INT8) => value.try_into().ok().map(i64::from_be_bytes),
        (1, UUID) if value.len() == 16 => return Some(Cow::Owned(uuid(value))),
        _ => None,
    };
    match number {
        Some(number) => Some(Cow::Owned(number.to_string().into_bytes())),
        None => (value.len() <= SUBJECT_BYTES_MAX).then_some(Cow::Borrowed(value)),
    }
}

fn uuid(bytes: &[u8]) -> Vec<u8> {
    let mut text = hex::encode(bytes);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text.into_bytes()
}
