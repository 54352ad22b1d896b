//! The host key `L`: signs checkpoints, and the first seal of an epoch or after a crash.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{Folder, FolderError};
use crate::audit::chain::{Signature, Signer, vkey};

/// The seed, hexadecimal, and a line feed.
const KEY_FILE: &str = "host.key";
/// Its length.
const KEY_BYTES: usize = 65;
/// The public key, as a C2SP vkey and a line feed.
const VKEY_FILE: &str = "host.vkey";
/// Longest vkey line: a name of 101 bytes, an id and a key.
const VKEY_BYTES_MAX: usize = 256;

/// The host key.
pub struct HostKey {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

/// Why there is no host key.
#[derive(Debug, Error)]
pub enum HostKeyError {
    /// The files.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// It is gone, and there is a log that it signed.
    #[error(
        "`keys/{KEY_FILE}` is missing, and there is a log that it signed\n\
         hint: restore it, or begin a new epoch with a new key by `pgward audit keys new-identity`"
    )]
    Missing,
    /// The file holds something else. What it holds is not shown.
    #[error(
        "`keys/{KEY_FILE}` does not hold a key: expected 64 hexadecimal digits and a line feed"
    )]
    Malformed,
    /// Somebody changed one of the two files.
    #[error(
        "`keys/{VKEY_FILE}` is not the public key of `keys/{KEY_FILE}`: found `{found}`, \
         expected `{expected}`\n\
         hint: one of the two was replaced; compare with the key that verifiers were given"
    )]
    OtherPublicKey {
        /// The line in the file.
        found: String,
        /// The line that belongs to the key.
        expected: String,
    },
    /// The kernel has no random numbers.
    #[error("no random numbers for a new key")]
    Random,
}

impl HostKey {
    /// Reads the key from the folder `keys`, or makes it where no log exists yet.
    ///
    /// `name` is that of the public key: `<fleet>/<host>`. A missing file of the public key is
    /// written anew, one with another key is an error.
    pub fn load_or_create(
        keys: &Folder,
        name: &str,
        log_exists: bool,
    ) -> Result<Self, HostKeyError> {
        let key = match keys.read(KEY_FILE, KEY_BYTES)? {
            Some(file) => Self::from_file(&file)?,
            None if log_exists => return Err(HostKeyError::Missing),
            None => {
                let (key, file) = Self::generate()?;
                keys.create(KEY_FILE, &file)?;
                key
            }
        };
        let expected = key.vkey(name);
        match keys.read(VKEY_FILE, VKEY_BYTES_MAX)? {
            None => keys.create(VKEY_FILE, format!("{expected}\n").as_bytes())?,
            Some(file) if file.strip_suffix(b"\n") == Some(expected.as_bytes()) => {}
            Some(file) => {
                let found = String::from_utf8_lossy(&file).trim_end().to_owned();
                return Err(HostKeyError::OtherPublicKey { found, expected });
            }
        }
        Ok(key)
    }

    /// Replaces the key by a new one, for a new identity. The public key of the old one stays, as
    /// `host-<old host>.vkey`: it verifies the epochs before. The old private key is gone.
    ///
    /// After a crash between two of the steps [`HostKey::load_or_create`] finds a public key that
    /// does not fit, for the old name as well as for the new one; then this is to be repeated.
    pub(super) fn replace(keys: &Folder, old_host: &str, name: &str) -> Result<(), HostKeyError> {
        let kept = format!("host-{old_host}.vkey");
        if keys.read(&kept, VKEY_BYTES_MAX)?.is_none()
            && let Some(old) = keys.read(VKEY_FILE, VKEY_BYTES_MAX)?
        {
            keys.create(&kept, &old)?;
        }
        let (key, file) = Self::generate()?;
        keys.replace(KEY_FILE, &file)?;
        keys.replace(VKEY_FILE, format!("{}\n", key.vkey(name)).as_bytes())?;
        Ok(())
    }

    /// The line by which verifiers know the key.
    pub fn vkey(&self, name: &str) -> String {
        vkey(name, &self.public)
    }

    fn generate() -> Result<(Self, Zeroizing<Vec<u8>>), HostKeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|_| HostKeyError::Random)?;
        let mut file = Zeroizing::new(vec![b'\n'; KEY_BYTES]);
        hex::encode_to_slice(*seed, &mut file[..KEY_BYTES - 1]).expect("64 digits hold 32 bytes");
        Ok((Self::from_seed(&seed), file))
    }

    fn from_file(file: &[u8]) -> Result<Self, HostKeyError> {
        let digits = file.strip_suffix(b"\n").ok_or(HostKeyError::Malformed)?;
        let mut seed = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, &mut *seed).map_err(|_| HostKeyError::Malformed)?;
        Ok(Self::from_seed(&seed))
    }

    /// The key of a seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed");
        let public = pair.public_key().as_ref().try_into().expect("Ed25519 has keys of 32 bytes");
        Self { pair, public }
    }
}

impl Signer for HostKey {
    fn public_key(&self) -> [u8; 32] {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Signature {
        self.pair.sign(message).as_ref().try_into().expect("Ed25519 has signatures of 64 bytes")
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostKey").field("public", &hex::encode(self.public)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::{super::folder::tests::folder, *};

    const NAME: &str = "pgward/6f1c0b6e-8a55-4d6e-9f0a-2f8f5a3c1d2e";

    #[test]
    fn a_key_is_made_once_and_stays() {
        let (_guard, keys) = folder();
        let made = HostKey::load_or_create(&keys, NAME, false).expect("no log yet");
        let read = HostKey::load_or_create(&keys, NAME, true).expect("it is there");
        assert_eq!(made.public_key(), read.public_key());
        assert_eq!(made.sign(b"x"), read.sign(b"x"));
        let file = fs::metadata(keys.path().join(KEY_FILE)).expect("there");
        assert_eq!((file.len(), file.permissions().mode() & 0o7777), (65, 0o600));
        let line = fs::read_to_string(keys.path().join(VKEY_FILE)).expect("there");
        assert_eq!(line, made.vkey(NAME) + "\n");
        let seed = fs::read_to_string(keys.path().join(KEY_FILE)).expect("there");
        assert!(!format!("{read:?}").contains(seed.trim_end()));
    }

    #[test]
    fn the_seed_in_the_file_is_the_key() {
        let (_guard, keys) = folder();
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n";
        keys.create(KEY_FILE, seed.as_bytes()).expect("new");
        let key = HostKey::load_or_create(&keys, NAME, true).expect("it is there");
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(hex::encode(key.public_key()), public);
    }

    #[test]
    fn a_lost_key_is_not_replaced_unseen() {
        let (_guard, keys) = folder();
        let error = HostKey::load_or_create(&keys, NAME, true).expect_err("it is gone");
        assert!(matches!(error, HostKeyError::Missing));
        assert!(!keys.path().join(KEY_FILE).exists());
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_not_shown() {
        for content in ["", "\n", "9d61\n", &"0".repeat(64), &("g".repeat(64) + "\n")] {
            let (_guard, keys) = folder();
            keys.create(KEY_FILE, content.as_bytes()).expect("new");
            let error = HostKey::load_or_create(&keys, NAME, false).expect_err("no key");
            assert!(matches!(error, HostKeyError::Malformed), "{content:?}: {error}");
            assert!(!error.to_string().contains("9d61"));
        }
    }

    #[test]
    fn a_key_with_the_public_key_of_another_is_refused() {
        let (_guard, keys) = folder();
        HostKey::load_or_create(&keys, NAME, false).expect("no log yet");
        let other = HostKey::from_seed(&[7; 32]).vkey(NAME);
        keys.replace(VKEY_FILE, format!("{other}\n").as_bytes()).expect("ours");
        let error = HostKey::load_or_create(&keys, NAME, true).expect_err("another key");
        assert!(matches!(error, HostKeyError::OtherPublicKey { found, .. } if found == other));
    }
}
