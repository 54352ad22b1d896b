//! Name of the log: fleet, host, machine, epoch, in `identity.toml`.

use std::fs;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Begin, EpochReason, Folder, FolderError, HostKey, HostKeyError};
use crate::audit::chain::{Origin, OriginError, sha256};

const FILE: &str = "identity.toml";
/// Most that is read of it; a written one has about 500 bytes.
const FILE_BYTES_MAX: usize = 4096;
const HEADER: &str = "\
# Name of this host's audit trail, made by pgward. A copy of this folder on another machine must not
# go on under it: `pgward audit keys new-identity` gives it a name of its own.
";

/// The machine that a folder belongs to: a digest of its machine id (machine-id(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine(Option<String>);

impl Machine {
    /// This machine. One without a machine id cannot be told from its clones.
    pub fn this() -> Self {
        let files = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
        let id = files.iter().filter_map(|f| fs::read_to_string(f).ok()).find_map(|text| {
            let id = text.trim();
            (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
        });
        Self::of_id(id.as_deref())
    }

    /// The machine with an id. The id itself is confidential (machine-id(5)): only its digest is kept.
    pub fn of_id(id: Option<&str>) -> Self {
        Self(id.map(|id| hex::encode(sha256(format!("pgward-machine\n{id}").as_bytes()))))
    }

    /// Whether clones of this machine can be told from it.
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }
}

/// What `identity.toml` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The log: fleet, host, epoch.
    origin: Origin,
    fleet: String,
    host: String,
    machine: Machine,
    begins: Option<Begins>,
}

/// The epoch has no durable entry yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begins {
    /// Why it begins.
    pub reason: EpochReason,
    /// The log that it follows.
    pub follows: Option<String>,
}

/// Why there is no identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A key.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// The file's content.
    #[error("`{FILE}`: {0}")]
    Malformed(String),
    /// A name.
    #[error("`{FILE}`")]
    Origin(#[source] OriginError),
    /// The folder was copied, or the machine got a new id.
    #[error(
        "the audit folder belongs to another machine: its machine id differs\n\
         hint: if this is a copy (a cloned disk, a restored backup), or the machine got a new id, \
         run `pgward audit keys new-identity`"
    )]
    OtherMachine,
    /// The configuration names another fleet.
    #[error(
        "the audit folder belongs to fleet `{found}`, `audit.fleet` is `{expected}`\n\
         hint: run `pgward audit keys new-identity` to go on under the new name"
    )]
    OtherFleet {
        /// In the folder.
        found: String,
        /// In the configuration.
        expected: String,
    },
    /// The kernel has no random numbers.
    #[error("no random numbers for the name of a host")]
    Random,
    /// There is nothing to replace.
    #[error("the audit folder has no identity yet: the agent makes one at its first start")]
    None,
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    fleet: String,
    host: String,
    /// Empty: not known.
    machine: String,
    epoch: u64,
    /// While the epoch has no entry: why it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    begins: Option<String>,
    /// While the epoch has no entry: origin of the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    follows: Option<String>,
}

impl Identity {
    /// Reads the identity, or makes one for a folder without any log. The fleet is that of the
    /// configuration.
    ///
    /// A folder that has logs and no identity is refused as [`IdentityError::Malformed`].
    pub fn load_or_create(
        folder: &Folder,
        fleet: &str,
        machine: &Machine,
        log_exists: bool,
    ) -> Result<Self, IdentityError> {
        match Self::load(folder)? {
            Some(identity) => {
                identity.check(fleet, machine)?;
                Ok(identity)
            }
            None if log_exists => {
                Err(IdentityError::Malformed("missing, and there is a log".to_owned()))
            }
            None => {
                let begins = Begins { reason: EpochReason::First, follows: None };
                let identity = Self::new(fleet, uuid()?, machine.clone(), 1, Some(begins))?;
                folder.create(FILE, identity.file().as_bytes())?;
                Ok(identity)
            }
        }
    }

    /// Reads the identity.
    pub fn load(folder: &Folder) -> Result<Option<Self>, IdentityError> {
        let Some(file) = folder.read(FILE, FILE_BYTES_MAX)? else { return Ok(None) };
        let malformed = |error: &dyn std::fmt::Display| IdentityError::Malformed(error.to_string());
        let text = std::str::from_utf8(&file).map_err(|e| malformed(&e))?;
        let raw: Raw = toml::from_str(text).map_err(|e| malformed(&e.message()))?;
        let machine = match raw.machine.as_str() {
            "" => Machine(None),
            m if m.len() == 64 && m.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Machine(Some(raw.machine.to_ascii_lowercase()))
            }
            _ => return Err(malformed(&"`machine` is no SHA-256 in hexadecimal digits")),
        };
        let begins = match raw.begins {
            None => None,
            Some(name) => {
                let reason = EpochReason::of_name(&name)
                    .ok_or_else(|| malformed(&format_args!("`begins` is `{name}`")))?;
                Some(Begins { reason, follows: raw.follows })
            }
        };
        Self::new(&raw.fleet, raw.host, machine, raw.epoch, begins).map(Some)
    }

    /// Refuses a folder of another machine or fleet.
    ///
    /// A machine that had no id when the folder was made, or that has none now, cannot be compared:
    /// the former passes, the latter is refused.
    pub fn check(&self, fleet: &str, machine: &Machine) -> Result<(), IdentityError> {
        if self.machine.is_known() && self.machine != *machine {
            return Err(IdentityError::OtherMachine);
        }
        if self.fleet != fleet {
            let (found, expected) = (self.fleet.clone(), fleet.to_owned());
            return Err(IdentityError::OtherFleet { found, expected });
        }
        Ok(())
    }

    /// The log that is written to.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The epoch that is written to.
    pub fn epoch(&self) -> u64 {
        self.origin.epoch()
    }

    /// Set as long as the epoch has no durable entry.
    pub fn begins(&self) -> Option<&Begins> {
        self.begins.as_ref()
    }

    /// Writes down, durably, that an epoch is to begin. To be called before its first entry is
    /// written, and [`Identity::begun`] once that is durable.
    ///
    /// Which log the epoch follows is taken from the decision, unless it is written down already: a
    /// new identity follows a log of another name.
    pub fn begin(&mut self, folder: &Folder, begin: &Begin) -> Result<(), IdentityError> {
        if self.epoch() == begin.epoch && self.begins.is_some() {
            return Ok(());
        }
        let follows = match begin.previous {
            Some((epoch, _, _)) => Some(self.origin_of(epoch)?.to_string()),
            None => None,
        };
        self.origin = self.origin_of(begin.epoch)?;
        self.begins = Some(Begins { reason: begin.reason, follows });
        Ok(folder.replace(FILE, self.file().as_bytes())?)
    }

    /// Writes down, durably, that the epoch has entries.
    pub fn begun(&mut self, folder: &Folder) -> Result<(), IdentityError> {
        match self.begins.take() {
            Some(_) => Ok(folder.replace(FILE, self.file().as_bytes())?),
            None => Ok(()),
        }
    }

    fn origin_of(&self, epoch: u64) -> Result<Origin, IdentityError> {
        self.origin.of_epoch(epoch).map_err(IdentityError::Origin)
    }

    fn new(
        fleet: &str,
        host: String,
        machine: Machine,
        epoch: u64,
        begins: Option<Begins>,
    ) -> Result<Self, IdentityError> {
        let origin = Origin::new(fleet, &host, epoch).map_err(IdentityError::Origin)?;
        Ok(Self { origin, fleet: fleet.to_owned(), host, machine, begins })
    }

    fn file(&self) -> String {
        let raw = Raw {
            fleet: self.fleet.clone(),
            host: self.host.clone(),
            machine: self.machine.0.clone().unwrap_or_default(),
            epoch: self.epoch(),
            begins: self.begins.as_ref().map(|b| b.reason.name().to_owned()),
            follows: self.begins.as_ref().and_then(|b| b.follows.clone()),
        };
        let text = toml::to_string(&raw).expect("texts and a number are TOML");
        format!("{HEADER}{text}")
    }
}

/// Gives a copied or renamed folder a name and a host key of its own. Its log goes on in a new epoch
/// that names the log it follows; what is there stays verifiable with the old public key.
///
/// `folder` is the audit folder, locked by the caller. Nothing is written to any log here: the next
/// start of the agent does that. Can be repeated after a crash.
pub fn new_identity(
    folder: &Folder,
    fleet: &str,
    machine: &Machine,
) -> Result<Identity, IdentityError> {
    let old = Identity::load(folder)?.ok_or(IdentityError::None)?;
    let epoch = old.epoch().saturating_add(1);
    let follows = match &old.begins {
        // It never had an entry under this name.
        Some(begins) => begins.follows.clone(),
        None => Some(old.origin.to_string()),
    };
    let begins = Begins { reason: EpochReason::Identity, follows };
    let new = Identity::new(fleet, uuid()?, machine.clone(), epoch, Some(begins))?;
    let keys = folder.subfolder("keys")?;
    HostKey::replace(&keys, &old.host, new.origin.host_name())?;
    folder.replace(FILE, new.file().as_bytes())?;
    Ok(new)
}

/// A random UUID (RFC 9562, version 4).
fn uuid() -> Result<String, IdentityError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| IdentityError::Random)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = hex::encode(bytes);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{super::folder::tests::folder, *};
    use crate::audit::chain::{Signer as _, is_uuid};

    fn machine(id: &str) -> Machine {
        Machine::of_id(Some(id))
    }

    fn first(epoch: u64) -> Begin {
        Begin { epoch, reason: EpochReason::First, previous: None }
    }

    #[test]
    fn an_identity_is_made_once_and_stays() {
        let (_guard, folder) = folder();
        let this = machine("0123456789abcdef0123456789abcdef");
        let made = Identity::load_or_create(&folder, "fleet-1", &this, false).expect("new");
        let begins = Begins { reason: EpochReason::First, follows: None };
        assert_eq!((made.epoch(), made.begins()), (1, Some(&begins)));
        assert!(is_uuid(&made.host), "{}", made.host);
        assert_eq!((&made.host[14..15], made.origin().epoch()), ("4", 1));
        assert_eq!(made.origin().as_str(), format!("fleet-1/{}/1", made.host));
        let mut read = Identity::load_or_create(&folder, "fleet-1", &this, true).expect("there");
        assert_eq!(read, made);
        read.begin(&folder, &first(1)).expect("written down already");
        read.begun(&folder).expect("ours");
        let read = Identity::load(&folder).expect("ours").expect("there");
        assert_eq!((read.epoch(), read.begins()), (1, None));
        let text =
            String::from_utf8(folder.read(FILE, 4096).expect("ours").expect("there").to_vec());
        assert!(!text.expect("UTF-8").contains("0123456789abcdef"), "no machine id");
    }

    #[test]
    fn the_machine_is_known_by_a_digest_of_its_own() {
        // SHA-256("pgward-machine\n0123456789abcdef0123456789abcdef")
        let digest = "6f9d1e794a15dbbd06e3d0d6f4fdbb55d6a4bf0b84c4c66422e5c3c9aa39015b";
        let this = machine("0123456789abcdef0123456789abcdef");
        assert_eq!(this, Machine(Some(digest.to_owned())));
        assert!(this.is_known() && !Machine::of_id(None).is_known());
    }

    #[test]
    fn a_copy_on_another_machine_is_refused() {
        let (_guard, folder) = folder();
        let this = machine("1");
        Identity::load_or_create(&folder, "fleet", &this, false).expect("new");
        for other in [machine("2"), Machine::of_id(None)] {
            let error =
                Identity::load_or_create(&folder, "fleet", &other, true).expect_err("a copy");
            assert!(matches!(error, IdentityError::OtherMachine));
            assert!(error.to_string().contains("hint: "), "{error}");
        }
        let error = Identity::load_or_create(&folder, "fleet-2", &this, true).expect_err("renamed");
        assert!(matches!(error, IdentityError::OtherFleet { .. }));
        assert!(error.to_string().contains("pgward audit keys new-identity"), "{error}");
        Identity::load_or_create(&folder, "fleet", &this, true).expect("nothing was changed");
    }

    #[test]
    fn a_log_without_an_identity_is_refused() {
        let (_guard, folder) = folder();
        let error = Identity::load_or_create(&folder, "fleet", &machine("1"), true);
        assert!(matches!(error, Err(IdentityError::Malformed(_))));
        assert!(Identity::load(&folder).expect("ours").is_none());
    }

    #[test]
    fn a_new_identity_has_another_name_key_and_epoch() {
        let (_guard, folder) = folder();
        let (this, other) = (machine("1"), machine("2"));
        assert!(matches!(new_identity(&folder, "fleet", &this), Err(IdentityError::None)));
        let mut old = Identity::load_or_create(&folder, "fleet", &this, false).expect("new");
        let keys = folder.subfolder("keys").expect("made");
        let name = old.origin().host_name().to_owned();
        let old_key = HostKey::load_or_create(&keys, &name, false).expect("new");
        old.begun(&folder).expect("ours");

        let new = new_identity(&folder, "fleet", &other).expect("there is one");
        // As after a crash before the identity was written.
        folder.replace(FILE, old.file().as_bytes()).expect("ours");
        let stale = HostKey::load_or_create(&keys, &name, true).expect_err("another key");
        assert!(matches!(stale, HostKeyError::OtherPublicKey { .. }));
        let again = new_identity(&folder, "fleet", &other).expect("there is one");
        assert_ne!(again.host, new.host);
        assert_ne!(again.host, old.host);
        let follows = Some(old.origin().to_string());
        let begins = Begins { reason: EpochReason::Identity, follows };
        assert_eq!((again.epoch(), again.begins()), (2, Some(&begins)));
        assert_eq!(Identity::load(&folder).expect("ours"), Some(again.clone()));
        again.check("fleet", &other).expect("its machine");
        let key = HostKey::load_or_create(&keys, again.origin().host_name(), true).expect("there");
        assert_ne!(key.public_key(), old_key.public_key());
        let kept = keys.read(&format!("host-{}.vkey", old.host), 256).expect("ours");
        let line = kept.map(|k| String::from_utf8(k.to_vec()).expect("UTF-8"));
        assert_eq!(line, Some(old_key.vkey(&name) + "\n"));

        // The decision of the next start does not change what the new log follows.
        let mut again = again;
        let previous = Some((1, 100, [1; 32]));
        let begin = Begin { epoch: 2, reason: EpochReason::Identity, previous };
        again.begin(&folder, &begin).expect("ours");
        assert_eq!(again.begins(), Some(&begins));
    }

    #[test]
    fn a_new_epoch_is_written_down_before_it_begins() {
        let (_guard, folder) = folder();
        let mut identity =
            Identity::load_or_create(&folder, "fleet", &machine("1"), false).expect("new");
        identity.begun(&folder).expect("ours");
        let previous = Some((1, 100, [1; 32]));
        let begin = Begin { epoch: 2, reason: EpochReason::Corruption, previous };
        let follows = Some(identity.origin().to_string());
        identity.begin(&folder, &begin).expect("ours");
        let read = Identity::load(&folder).expect("ours").expect("there");
        let begins = Begins { reason: EpochReason::Corruption, follows };
        assert_eq!((read.epoch(), read.begins()), (2, Some(&begins)));
        assert!(matches!(identity.begin(&folder, &first(u64::MAX)), Err(IdentityError::Origin(_))));
    }

    #[test]
    fn a_file_that_is_no_identity_is_refused() {
        let host = "6f1c0b6e-8a55-4d6e-9f0a-2f8f5a3c1d2e";
        let good = format!("fleet = \"f\"\nhost = \"{host}\"\nmachine = \"\"\nepoch = 3\n");
        let cases = [
            String::new(),
            "\0".to_owned(),
            good.replace("epoch = 3", "epoch = 0"),
            good.replace("epoch = 3", "epoch = -1"),
            good.replace("epoch = 3", "epoch = 9007199254740993"),
            good.replace("\"f\"", "\"F\""),
            good.replace(host, "../.."),
            good.replace("machine = \"\"", "machine = \"12\""),
            format!("{good}begins = \"other\"\n"),
            format!("{good}more = 1\n"),
            "#".repeat(FILE_BYTES_MAX + 1),
        ];
        for text in cases {
            let (_guard, folder) = folder();
            folder.create(FILE, text.as_bytes()).expect("new");
            assert!(Identity::load(&folder).is_err(), "{text}");
        }
        let (_guard, folder) = folder();
        folder.create(FILE, good.as_bytes()).expect("new");
        let identity = Identity::load(&folder).expect("ours").expect("there");
        assert_eq!(identity.origin().as_str(), format!("f/{host}/3"));
        identity.check("f", &machine("1")).expect("a machine that was not known cannot differ");
    }
}
