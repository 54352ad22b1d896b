//! A statement's text, as its record shows it.

use std::fmt;

use aws_lc_rs::digest;

use super::key::Key;
use crate::audit::Excerpt;
use crate::config::ValueMode;
use crate::sql::lex::{Encoding, Strings};
use crate::sql::normalise::{Normalised, Replace, Secret};

/// Longest text that stands in a record, in bytes. Of a longer one its beginning does.
pub const TEXT_INLINE_MAX: usize = 16 << 10;

/// A text that was looked at: what a record shows of it, and what is held beside. Made once for a
/// prepared statement and used for each of its executions. `Debug` shows lengths only.
pub struct Text {
    form: TextForm,
    /// At most [`TEXT_INLINE_MAX`] bytes.
    shown: Box<[u8]>,
    shown_bytes: u64,
    full_bytes: u64,
    key: [u8; 32],
    pub(super) beside: Beside,
    pub(super) hash: Option<[u8; 32]>,
    secret: Secret,
}

/// How [`Text::shown`] relates to what the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextForm {
    /// It is that, or its beginning.
    Exact,
    /// Literals and comments are replaced: all of them, or those that are never stored.
    Normalised,
    /// Nothing of it is stored: it names a password, and where that begins and ends can't be told.
    Withheld,
}

/// What is held of a text beside its record.
pub(super) enum Beside {
    Nothing,
    /// The text, without what is never stored.
    Sealed(Box<[u8]>),
    /// What the record shows the beginning of.
    Clear(Box<[u8]>),
}

impl Text {
    /// `index` is the key for [`ValueMode::Hash`].
    pub(super) fn new(
        text: Excerpt<'_>,
        encoding: Encoding,
        strings: Strings,
        mode: ValueMode,
        index: Option<&Key>,
    ) -> Self {
        let kept = text.kept;
        let found = Normalised::of(kept, encoding, strings);
        let secret = found.secret();
        if secret == Secret::All {
            return Self::made(TextForm::Withheld, Box::default(), text, secret);
        }
        let replaced = |replace| {
            let mut out = Vec::new();
            found.write(kept, replace, &mut out);
            out.into_boxed_slice()
        };
        let secrets = found.pieces().iter().filter(|piece| piece.secret).count();
        // The text as far as it may be stored at all.
        let storable = || if secrets == 0 { kept.into() } else { replaced(Replace::Secrets) };
        let shown = match mode {
            ValueMode::Clear => storable(),
            ValueMode::Sealed | ValueMode::Hash | ValueMode::Never => replaced(Replace::All),
        };
        let left_out = match mode {
            ValueMode::Clear => secrets,
            ValueMode::Sealed | ValueMode::Hash | ValueMode::Never => found.pieces().len(),
        };
        let form = if left_out == 0 { TextForm::Exact } else { TextForm::Normalised };
        let long = shown.len() > TEXT_INLINE_MAX;
        let more = secrets < left_out;
        let hash = match (mode, index) {
            (ValueMode::Hash, Some(index)) if more => Some(index.hmac(&storable())),
            _ => None,
        };
        let beside = match mode {
            ValueMode::Sealed if more || long => Beside::Sealed(storable()),
            ValueMode::Clear | ValueMode::Hash | ValueMode::Never if long => {
                Beside::Clear(shown.clone())
            }
            _ => Beside::Nothing,
        };
        Self { beside, hash, ..Self::made(form, shown, text, secret) }
    }

    fn made(form: TextForm, shown: Box<[u8]>, text: Excerpt<'_>, secret: Secret) -> Self {
        let full_bytes = text.full_bytes();
        let key = key(form, &shown, text.cut.map_or(0, |cut| cut.full_bytes));
        let shown_bytes = shown.len() as u64;
        let shown = match shown.len() {
            0..=TEXT_INLINE_MAX => shown,
            _ => Excerpt::of(&shown, TEXT_INLINE_MAX).kept.into(),
        };
        let (beside, hash) = (Beside::Nothing, None);
        Self { form, shown, shown_bytes, full_bytes, key, beside, hash, secret }
    }

    /// How the shown text relates to the one that was sent.
    pub fn form(&self) -> TextForm {
        self.form
    }

    /// What the record holds in clear: at most [`TEXT_INLINE_MAX`] bytes.
    pub fn shown(&self) -> &[u8] {
        &self.shown
    }

    /// Length of that before it was cut.
    pub fn shown_bytes(&self) -> u64 {
        self.shown_bytes
    }

    /// Length of the text as the client sent it.
    pub fn full_bytes(&self) -> u64 {
        self.full_bytes
    }

    /// Equal for texts that are shown alike, and for no others: a text that recurs in a session
    /// need not be shown again. Not for the record.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Whether something is held beside the record. It differs between texts that are shown alike.
    pub fn has_more(&self) -> bool {
        self.hash.is_some() || !matches!(self.beside, Beside::Nothing)
    }

    /// Whether whatever is bound to the statement may be a password.
    pub(super) fn binds_secrets(&self) -> bool {
        match self.secret {
            Secret::Nothing | Secret::Pieces => false,
            Secret::Strings | Secret::All => true,
        }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text")
            .field("form", &self.form)
            .field("shown_bytes", &self.shown_bytes)
            .field("full_bytes", &self.full_bytes)
            .finish_non_exhaustive()
    }
}

fn key(form: TextForm, shown: &[u8], cut_of: u64) -> [u8; 32] {
    let form: u8 = match form {
        TextForm::Exact => 0,
        TextForm::Normalised => 1,
        TextForm::Withheld => 2,
    };
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[form]);
    context.update(&cut_of.to_be_bytes());
    context.update(shown);
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}
