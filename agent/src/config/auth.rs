//! How applications log in: `[auth]`, `[destination.auth]` and `[[destination.account]]`.
//!
//! Nothing here holds a password: a [`PasswordSource`] says where one is. Verifiers may be written
//! in the file and hide themselves from `Debug`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

/// Longest name of a role, in bytes: the server cuts longer ones (`NAMEDATALEN` less its zero).
pub const ROLE_BYTES_MAX: usize = 63;
/// Largest number of `[[destination.auth.exception]]` tables of one destination.
pub const EXCEPTIONS_MAX: usize = 64;
/// Largest number of `[[destination.account]]` tables of one destination.
pub const ACCOUNTS_MAX: usize = 256;
/// Longest reason of an exception, in bytes.
pub const REASON_BYTES_MAX: usize = 200;
/// Longest `password_command`, in arguments.
pub const COMMAND_ARGUMENTS_MAX: usize = 32;
/// Longest query of a lookup, in bytes.
pub const QUERY_BYTES_MAX: usize = 2000;

/// The query of a lookup where none is written: the verifier of a role that may log in now.
///
/// Roles without `LOGIN` and roles whose password has expired get no row, as the server itself
/// would refuse them.
pub const LOOKUP_QUERY: &str = "SELECT rolpassword FROM pg_catalog.pg_authid \
    WHERE rolname = $1 AND rolcanlogin \
    AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now())";

/// `[auth]`: what repeated failures cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Failed logins of one process, or for one role at one server, within
    /// [`Auth::failures_window`]; at this number it is refused. At least 1.
    pub failures_max: u32,
    /// The time in which failures are counted.
    pub failures_window: Duration,
    /// For how long it is refused then.
    pub refused: Duration,
    /// Cancel requests of one user in one network namespace with an unknown key within
    /// [`Auth::failures_window`]; then all are dropped for [`Auth::refused`]. At least 1.
    pub cancel_failures_max: u32,
}

/// `[destination.auth]`: how applications log in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// Who carries out SCRAM with the application.
    pub mode: AuthMode,
    /// What the server must ask for.
    pub require: AuthRequire,
    /// Whether the agent may use an older method upstream (or none) while the application proves
    /// itself to the agent by SCRAM. Only where there is a secret source.
    pub upgrade: bool,
    /// Methods that pass untouched. Ascending, without repetition.
    pub pass: Vec<PassMethod>,
    /// A file of verifiers, one role a line.
    pub verifiers: Option<PathBuf>,
    /// Exceptions from `require`, in the order of the file, at most [`EXCEPTIONS_MAX`]. Empty when
    /// `require` is [`AuthRequire::Any`].
    pub exceptions: Vec<AuthException>,
    /// Where verifiers are fetched from.
    pub lookup: Option<Lookup>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            mode: AuthMode::Auto,
            require: AuthRequire::ScramSha256,
            upgrade: false,
            pass: Vec::new(),
            verifiers: None,
            exceptions: Vec::new(),
            lookup: None,
        }
    }
}

/// Who carries out SCRAM with the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// The agent where it has a secret for the role, else the server.
    Auto,
    /// Always the agent: a role without a secret is refused as an unknown one.
    Terminate,
    /// Always the server: messages pass, without channel binding.
    Relay,
}

/// What the server must ask for before an application sends a secret or is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthRequire {
    /// SCRAM-SHA-256, with or without channel binding, but for the exceptions.
    ScramSha256,
    /// Anything PostgreSQL knows.
    Any,
}

/// A method that may pass untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PassMethod {
    /// `AuthenticationGSS`.
    Gssapi,
    /// `AuthenticationSSPI`.
    Sspi,
    /// The SASL mechanism `OAUTHBEARER` (PostgreSQL 18).
    OauthBearer,
}

/// A method that `require = "scram-sha-256"` refuses unless there is an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WeakMethod {
    /// The server lets the client in without asking for anything.
    Trust,
    /// The server takes the agent's certificate for the application's word.
    Cert,
    /// `AuthenticationMD5Password`.
    Md5,
    /// `AuthenticationCleartextPassword`.
    Password,
}

impl WeakMethod {
    /// As the configuration and `pg_hba.conf` call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Cert => "cert",
            Self::Md5 => "md5",
            Self::Password => "password",
        }
    }
}

/// `[[destination.auth.exception]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthException {
    /// For whom.
    pub roles: Roles,
    /// What is let pass. Ascending, without repetition, at least one.
    pub methods: Vec<WeakMethod>,
    /// Why, for records: 1 to [`REASON_BYTES_MAX`] bytes without control characters.
    pub reason: String,
}

/// Roles that something is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roles {
    /// `*`
    All,
    /// These: ascending, without repetition, at least one.
    Listed(Vec<String>),
}

impl Roles {
    /// Whether `role`, as the startup packet has it, is one of them.
    pub fn contain(&self, role: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Listed(roles) => roles.iter().any(|listed| listed.as_bytes() == role),
        }
    }
}

/// Commas between; `*` for all.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Listed(roles) => f.write_str(&roles.join(", ")),
        }
    }
}

/// `[destination.auth.lookup]`: verifiers come from the server itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The role the agent logs in as.
    pub login: String,
    /// The database it connects to.
    pub database: String,
    /// One statement with `$1`, which stands for the role as text. At most one row; the verifier is
    /// its last column.
    pub query: String,
    /// How long an answer is good for.
    pub ttl: Duration,
    /// The password of `login`; none where the server asks for a certificate.
    pub password: Option<PasswordSource>,
}

/// `[[destination.account]]`: a role whose secret the agent has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What the application says; once per destination.
    pub role: String,
    /// What the application proves that it knows.
    pub application: ApplicationSecret,
    /// The role used upstream.
    pub login: String,
    /// The password of `login`; none where the verifier is the server's own, or where the server
    /// asks for a certificate or for nothing.
    pub password: Option<PasswordSource>,
}

/// What an application of a mapped account proves that it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplicationSecret {
    /// A verifier in the configuration.
    Verifier(VerifierText),
    /// The role's line of a verifier file.
    VerifierFile(PathBuf),
    /// A password, from which a verifier is made.
    Password(PasswordSource),
}

/// Where a password is. `Debug` leaves out the arguments of a program.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// The content of a file, less one line feed at its end.
    File(PathBuf),
    /// The value of an environment variable of the agent.
    Environment(String),
    /// What a program prints, less one line feed at its end: absolute path and arguments, no shell.
    Command(Vec<String>),
}

/// How errors name it: no part of the secret.
impl fmt::Display for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file `{}`", path.display()),
            Self::Environment(name) => write!(f, "environment variable `{name}`"),
            // Its arguments may say more than they should.
            Self::Command(argv) => {
                write!(f, "command `{}`", argv.first().map_or("", String::as_str))
            }
        }
    }
}

impl fmt::Debug for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordSource({self})")
    }
}

/// A verifier as written: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, known to
/// parse. Hidden from `Debug`, cleared on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierText(Zeroizing<String>);

impl VerifierText {
    /// Keeps `text`, which was checked.
    pub(super) fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The text itself: for the parser of verifiers only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for VerifierText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifierText(..)")
    }
}
