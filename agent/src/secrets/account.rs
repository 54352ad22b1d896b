//! Both sides of a mapped account.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use secrecy::{ExposeSecret, SecretSlice};
use tokio::sync::Mutex;

use super::derived::Derived;
use super::{Password, SecretError, VerifierFile};
use crate::config::{Account, ApplicationSecret};
use crate::pg::scram::{ITERATIONS_DEFAULT, Keys, Verifier};

/// Bytes of the salt of a verifier made here, as PostgreSQL makes them (`SCRAM_DEFAULT_SALT_LEN`,
/// `src/include/common/scram-common.h`).
const SALT_BYTES: usize = 16;

/// The secrets of one `[[destination.account]]`: what the application proves that it knows, and
/// what the agent logs in with. Shared by all workers.
pub struct AccountSecrets {
    role: Box<[u8]>,
    application: Application,
    password: Option<Password>,
    derived: Derived,
}

enum Application {
    Written(Arc<Verifier>),
    File(Arc<VerifierFile>),
    Password(Box<FromPassword>),
}

struct FromPassword {
    password: Password,
    made: Mutex<Made>,
}

/// A verifier made of a password.
#[derive(Default)]
struct Made {
    /// Drawn once, so that the same password makes the same verifier.
    salt: Option<[u8; SALT_BYTES]>,
    verifier: Option<Arc<Verifier>>,
}

impl AccountSecrets {
    /// Reads nothing yet. `file` hands out the verifier file at a path, so that accounts can share
    /// one.
    ///
    /// Errors: [`SecretError::Verifier`] when the account was not checked.
    pub fn new(
        account: &Account,
        file: impl FnOnce(&Path) -> Arc<VerifierFile>,
    ) -> Result<Self, SecretError> {
        let application = match &account.application {
            ApplicationSecret::Verifier(text) => {
                let verifier = Verifier::parse(text.expose().as_bytes());
                Application::Written(Arc::new(verifier.map_err(SecretError::Verifier)?))
            }
            ApplicationSecret::VerifierFile(path) => Application::File(file(path)),
            ApplicationSecret::Password(source) => {
                let password = Password::new(source.clone());
                Application::Password(Box::new(FromPassword { password, made: Mutex::default() }))
            }
        };
        let password = account.password.clone().map(Password::new);
        let (role, derived) = (Box::from(account.role.as_bytes()), Derived::default());
        Ok(Self { role, application, password, derived })
    }

    /// The verifier that the application is to match, as of `now`; `None` when the verifier file has
    /// no line for the role.
    ///
    /// Of a password it is made once and kept until [`AccountSecrets::evict_verifier`]. Its salt is
    /// drawn at the first question and stays: one that changed would tell an account from a role
    /// that only the server knows.
    pub async fn verifier(&self, now: Instant) -> Result<Option<Arc<Verifier>>, SecretError> {
        match &self.application {
            Application::Written(verifier) => Ok(Some(Arc::clone(verifier))),
            Application::File(file) => file.lookup(&self.role).await,
            Application::Password(from) => {
                let mut made = from.made.lock().await;
                if let Some(verifier) = made.verifier.as_ref() {
                    return Ok(Some(Arc::clone(verifier)));
                }
                let password = from.password.read(now).await?;
                let salt = match made.salt {
                    Some(salt) => salt,
                    None => random_salt()?,
                };
                made.salt = Some(salt);
                let verifier = Arc::new(make(password, salt).await?);
                made.verifier = Some(Arc::clone(&verifier));
                Ok(Some(verifier))
            }
        }
    }

    /// Forgets the verifier made of a password, so that the next login makes it of what the source
    /// says then. What comes from a file of verifiers is never kept beyond a change of the file.
    ///
    /// For use after a failed login, within the limits that failed logins have: it makes a program
    /// run again.
    pub async fn evict_verifier(&self) {
        match &self.application {
            Application::Written(_) | Application::File(_) => {}
            Application::Password(from) => {
                let mut made = from.made.lock().await;
                made.verifier = None;
                from.password.forget().await;
            }
        }
    }

    /// The password of the upstream login as of `now`; `None` when the account has none, so that
    /// the login is by the recovered client key, by certificate, or without any.
    pub async fn password(
        &self,
        now: Instant,
    ) -> Result<Option<Arc<SecretSlice<u8>>>, SecretError> {
        match &self.password {
            None => Ok(None),
            Some(password) => password.read(now).await.map(Some),
        }
    }

    /// The keys of what [`AccountSecrets::password`] gave, for the salt of a server. Derived once and kept for the next login with
    /// the same password, salt and count of iterations; a few salts are kept.
    ///
    /// Errors: [`SecretError::Random`], [`SecretError::Unfinished`].
    pub async fn keys(
        &self,
        password: &Arc<SecretSlice<u8>>,
        salt: &[u8],
        iterations: u32,
    ) -> Result<Keys, SecretError> {
        self.derived.keys(password, salt, iterations).await
    }

    /// Forgets the password that the server refused.
    pub async fn evict_password(&self, refused: &Arc<SecretSlice<u8>>) {
        if let Some(password) = &self.password {
            password.evict(refused).await;
        }
    }
}

impl fmt::Debug for AccountSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountSecrets").finish_non_exhaustive()
    }
}

fn random_salt() -> Result<[u8; SALT_BYTES], SecretError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|_| SecretError::Random)?;
    Ok(salt)
}

/// A millisecond of work and more: on the threads for blocking work.
async fn make(
    password: Arc<SecretSlice<u8>>,
    salt: [u8; SALT_BYTES],
) -> Result<Verifier, SecretError> {
    let made = tokio::task::spawn_blocking(move || {
        Verifier::from_password(password.expose_secret(), &salt, ITERATIONS_DEFAULT)
    });
    let unfinished = |_| SecretError::Unfinished { from: "an application's password".to_owned() };
    made.await.map_err(unfinished)?.map_err(SecretError::Verifier)
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::write;
    use super::*;
    use crate::config::Config;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
        $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
        wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    /// An account as the configuration has it; role `app`, login `shop`.
    fn account(keys: &str) -> AccountSecrets {
        let text = format!(
            "[[intercept]]\nports = [1]\n[[destination]]\nname = 'a'\nauth.upgrade = true\n\
             [[destination.account]]\nrole = 'app'\nlogin = 'shop'\n{keys}\n"
        );
        let config = Config::parse("t.toml", &text).expect("a good account");
        let account = &config.destinations[0].accounts[0];
        AccountSecrets::new(account, |path| Arc::new(VerifierFile::new(path))).expect("checked")
    }

    async fn verifier(account: &AccountSecrets) -> Option<String> {
        let verifier = account.verifier(Instant::now()).await.expect("a good source");
        verifier.map(|verifier| verifier.expose().expose_secret().to_owned())
    }

    #[tokio::test]
    async fn a_verifier_may_be_written_or_in_a_file() {
        let written = account(&format!("verifier = '{VERIFIER}'"));
        assert_eq!(verifier(&written).await.as_deref(), Some(VERIFIER));
        let none = written.password(Instant::now()).await.expect("nothing to read");
        assert!(none.is_none());

        let folder = tempfile::tempdir().expect("a folder");
        let line = format!("\"app\" \"{VERIFIER}\"\n");
        let path = write(&folder, "v", line.as_bytes(), 0o600);
        let filed = account(&format!("verifier_file = '{}'", path.display()));
        assert_eq!(verifier(&filed).await.as_deref(), Some(VERIFIER));
        write(&folder, "v", line.replace("app", "other").as_bytes(), 0o600);
        assert_eq!(verifier(&filed).await, None);
    }

    #[tokio::test]
    async fn a_verifier_of_a_password_is_made_once_with_one_salt() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = write(&folder, "p", b"pencil\n", 0o600);
        let keys = format!("application_password_file = '{}'", path.display());
        let (one, other) = (account(&keys), account(&keys));
        let first = verifier(&one).await.expect("made");
        let read = Verifier::parse(first.as_bytes()).expect("a verifier");
        assert_eq!((read.salt().len(), read.iterations()), (SALT_BYTES, 4096));
        let again = Verifier::from_password(b"pencil", read.salt(), 4096).expect("good parts");
        assert_eq!(again.expose().expose_secret(), first, "it is of the password in the file");
        assert_ne!(verifier(&other).await.as_ref(), Some(&first), "salts are drawn");

        write(&folder, "p", b"changed", 0o600);
        assert_eq!(verifier(&one).await.as_ref(), Some(&first), "kept");
        one.evict_verifier().await;
        let changed = verifier(&one).await.expect("made again");
        assert_ne!(changed, first);
        write(&folder, "p", b"pencil", 0o600);
        one.evict_verifier().await;
        assert_eq!(verifier(&one).await, Some(first), "the same salt");
    }

    #[tokio::test]
    async fn a_source_that_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p");
        let keys = format!("application_password_file = '{}'", path.display());
        let account = account(&keys);
        assert!(account.verifier(Instant::now()).await.is_err());
        write(&folder, "p", b"pencil", 0o600);
        assert!(verifier(&account).await.is_some());
    }

    #[tokio::test]
    async fn upstream_passwords_are_read_at_need() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = write(&folder, "p", b"one\n", 0o600);
        let account =
            account(&format!("verifier = '{VERIFIER}'\npassword_file = '{}'", path.display()));
        let now = Instant::now();
        let read = async || account.password(now).await.expect("readable").expect("a password");
        assert_eq!(read().await.expose_secret(), b"one");
        write(&folder, "p", b"two\n", 0o600);
        let second = read().await;
        assert_eq!(second.expose_secret(), b"two");
        account.evict_password(&second).await;
        assert_eq!(read().await.expose_secret(), b"two");
        let shown = format!("{account:?} {second:?}");
        assert!(!shown.contains("two") && !shown.contains("W22Z"), "{shown}");
    }
}
