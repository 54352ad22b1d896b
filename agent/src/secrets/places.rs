//! Files and programs that the configuration names, looked at before they are needed.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::{Fault, SecretError, VerifierFile, inspect};
use crate::config::{
    Account, AnchorPlace, ApplicationSecret, CertificateFiles, ClientTls, Config, Destination,
    PasswordSource, Warning,
};

/// What is missing, can't be read, or can be read by too many. `file` is the configuration itself,
/// which may hold verifiers.
///
/// Looks with the rights of whoever runs it. Variables of the environment are left out: those of the
/// agent are other ones. Blocks.
pub fn examine_places(config: &Config, file: Option<&Path>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    authority(config, &mut warnings);
    for destination in config.destinations_in_use() {
        let about = format!("destination `{}`", destination.name);
        Look { about, warnings: &mut warnings }.destination(destination);
    }
    for anchor in &config.audit.anchors {
        if let AnchorPlace::Database(database) = &anchor.place {
            let about = format!("anchor `{}`", anchor.name);
            Look { about, warnings: &mut warnings }
                .password("password", database.password.as_ref());
        }
    }
    warnings.extend(file.and_then(|file| configuration(config, file)));
    warnings
}

/// The local authority, where some destination has it sign certificates.
fn authority(config: &Config, warnings: &mut Vec<Warning>) {
    let signs = |destination: &Destination| match destination.client.tls {
        ClientTls::Off => false,
        ClientTls::Optional | ClientTls::Required => destination.client.identity.is_none(),
    };
    if !config.destinations_in_use().any(signs) {
        return;
    }
    let tls = &config.tls;
    let found = [
        ("tls.ca_certificate", &tls.ca_certificate, readable(&tls.ca_certificate)),
        ("tls.ca_key", &tls.ca_key, inspect(&tls.ca_key)),
    ];
    for (key, path, found) in found {
        let Err(fault) = found else { continue };
        let (message, hint) = if absent(&fault) {
            (
                format!("no `{}`: clients that ask for TLS get none", path.display()),
                Some("make the local authority with `pgward ca init`"),
            )
        } else {
            (format!("`{}`: {fault}", path.display()), remedy(&fault))
        };
        let hint = hint.map(str::to_owned);
        warnings.push(Warning { about: format!("`{key}`"), message, hint });
    }
}

fn configuration(config: &Config, file: &Path) -> Option<Warning> {
    let inline = |account: &Account| match account.application {
        ApplicationSecret::Verifier(_) => true,
        ApplicationSecret::VerifierFile(_) | ApplicationSecret::Password(_) => false,
    };
    let mut accounts = config.destinations.iter().flat_map(|destination| &destination.accounts);
    let mode = std::fs::metadata(file).ok()?.mode() & 0o7777;
    (accounts.any(inline) && mode & 0o077 != 0).then(|| Warning {
        about: format!("`{}`", file.display()),
        message: format!("holds a verifier, and has mode {mode:04o}: expected 0600"),
        hint: Some("take the rights of others away, or use `verifier_file`".to_owned()),
    })
}

/// Looks at the places of one destination or anchor.
struct Look<'l> {
    about: String,
    warnings: &'l mut Vec<Warning>,
}

impl Look<'_> {
    fn destination(&mut self, destination: &Destination) {
        self.identity("client", destination.client.identity.as_ref());
        self.identity("server", destination.server.identity.as_ref());
        let server = &destination.server;
        for (key, path) in [("server.roots", &server.roots), ("server.crl", &server.crl)] {
            if let Some(path) = path {
                self.told(key, path, readable(path));
            }
        }
        if let Some(path) = &destination.auth.verifiers {
            self.verifiers("auth.verifiers", path, None);
        }
        if let Some(lookup) = &destination.auth.lookup {
            self.password("auth.lookup", lookup.password.as_ref());
        }
        for account in &destination.accounts {
            let key = format!("account `{}`", account.role);
            self.password(&key, account.password.as_ref());
            match &account.application {
                ApplicationSecret::Verifier(_) => {}
                ApplicationSecret::VerifierFile(path) => {
                    self.verifiers(&key, path, Some(&account.role));
                }
                ApplicationSecret::Password(source) => self.password(&key, Some(source)),
            }
        }
    }

    fn identity(&mut self, leg: &str, files: Option<&CertificateFiles>) {
        let Some(CertificateFiles { certificate, key }) = files else { return };
        self.told(&format!("{leg}.certificate"), certificate, readable(certificate));
        self.told(&format!("{leg}.key"), key, inspect(key));
    }

    fn verifiers(&mut self, key: &str, path: &Path, role: Option<&str>) {
        let message = match (VerifierFile::new(path).check(role), role) {
            (Ok(true), _) => return,
            (Ok(false), role) => format!(
                "{key}: `{}` has no line for `{}`",
                path.display(),
                role.unwrap_or_default()
            ),
            (Err(SecretError::File { fault, .. }), _) => return self.told(key, path, Err(fault)),
            (Err(error), _) => format!("{key}: {error}"),
        };
        self.warn(message, None);
    }

    fn password(&mut self, key: &str, source: Option<&PasswordSource>) {
        match source {
            None | Some(PasswordSource::Environment(_)) => {}
            Some(PasswordSource::File(path)) => self.told(key, path, inspect(path)),
            Some(PasswordSource::Command(argv)) => {
                let Some(program) = argv.first() else { return };
                if let Err(error) = access(program.as_str(), AccessFlags::X_OK) {
                    let error = std::io::Error::from(error).kind();
                    self.warn(format!("{key}: can't run `{program}`: {error}"), None);
                }
            }
        }
    }

    fn told(&mut self, key: &str, path: &Path, found: Result<(), Fault>) {
        if let Err(fault) = found {
            self.warn(format!("{key}: `{}`: {fault}", path.display()), remedy(&fault));
        }
    }

    fn warn(&mut self, message: String, hint: Option<&str>) {
        let (about, hint) = (self.about.clone(), hint.map(str::to_owned));
        self.warnings.push(Warning { about, message, hint });
    }
}

/// Whether a file that is no secret can be read.
fn readable(path: &Path) -> Result<(), Fault> {
    let file = File::open(path);
    let metadata = file.and_then(|file| file.metadata());
    match metadata {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(Fault::NotRegular),
        Err(error) => Err(Fault::System { what: "open", kind: error.kind() }),
    }
}

fn absent(fault: &Fault) -> bool {
    matches!(fault, Fault::System { kind: ErrorKind::NotFound, .. })
}

fn remedy(fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::Mode { .. } => Some("take the rights of others away: `chmod 0600`"),
        Fault::Owner { .. } => Some("give it to root or to the agent's user: `chown`"),
        Fault::System { .. } | Fault::NotRegular | Fault::TooLarge { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::write;
    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
        $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
        wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    /// `text` with `@` for the folder; a destination `a` has the last lines of it.
    fn config(folder: &tempfile::TempDir, text: &str) -> Config {
        let text = format!(
            "intercept = [{{ ports = [5432] }}]\n\
             tls = {{ ca_certificate = '@/ca.pem', ca_key = '@/ca.key' }}\n\
             [[destination]]\nname = 'a'\n{text}\n"
        );
        let text = text.replace('@', &folder.path().display().to_string());
        Config::parse("t.toml", &text).expect("a good configuration")
    }

    fn told(folder: &tempfile::TempDir, text: &str) -> Vec<String> {
        let found = examine_places(&config(folder, text), None);
        let here = format!("{}/", folder.path().display());
        found.iter().map(|w| format!("{}: {}", w.about, w.message.replace(&here, "@"))).collect()
    }

    #[test]
    fn a_missing_authority_is_told_where_it_would_sign() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = [
            "`tls.ca_certificate`: no `@ca.pem`: clients that ask for TLS get none",
            "`tls.ca_key`: no `@ca.key`: clients that ask for TLS get none",
        ];
        assert_eq!(told(&folder, ""), missing);
        let hints = examine_places(&config(&folder, ""), None);
        assert!(hints.iter().all(|w| w.hint.as_deref().is_some_and(|h| h.contains("ca init"))));
        assert_eq!(told(&folder, "client.tls = 'off'"), [""; 0]);
        write(&folder, "ca.pem", b"", 0o644);
        write(&folder, "ca.key", b"", 0o640);
        assert_eq!(
            told(&folder, "client.tls = 'required'"),
            ["`tls.ca_key`: `@ca.key`: mode 0640, expected 0600 or 0400"]
        );
        write(&folder, "ca.key", b"", 0o600);
        assert_eq!(told(&folder, ""), [""; 0]);
    }

    #[test]
    fn the_password_of_an_anchor_is_looked_at() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "client.tls = 'off'\n[[audit.anchor]]\nname = 'd'\nkind = 'database'\n\
                    destination = 'a'\naddress = '10.0.0.1:5432'\ndatabase = 'd'\nuser = 'u'\n\
                    password_file = '@/secret'\n";
        write(&folder, "secret", b"swordfish", 0o644);
        let told_of = told(&folder, text);
        assert_eq!(told_of, ["anchor `d`: password: `@secret`: mode 0644, expected 0600 or 0400"]);
        write(&folder, "secret", b"swordfish", 0o600);
        assert_eq!(told(&folder, text), [""; 0]);
    }

    #[test]
    fn files_of_a_destination_are_looked_at() {
        let folder = tempfile::tempdir().expect("a folder");
        write(&folder, "open", b"", 0o604);
        let text = "client = { certificate = '@/c', key = '@/open' }\n\
                    [destination.server]\ntls = 'verify-full'\ncertificate = '@/open'\n\
                    key = '@/k'\nroots = '@/r'\ncrl = '@/'\n\
                    [destination.auth.lookup]\nlogin = 'l'\npassword_file = '@/open'\n\
                    [[destination.account]]\nrole = 'r'\napplication_password_file = '@/p'\n\
                    password_command = ['/nowhere/x']\n\
                    [[destination.account]]\nrole = 's'\nverifier_file = '@/open'\n";
        let text = text.replace("'@/'", &format!("'{}'", folder.path().display()));
        let here = folder.path().display();
        assert_eq!(
            told(&folder, &text),
            [
                "destination `a`: client.certificate: `@c`: open: entity not found".to_owned(),
                "destination `a`: client.key: `@open`: mode 0604, expected 0600 or 0400".to_owned(),
                "destination `a`: server.key: `@k`: open: entity not found".to_owned(),
                "destination `a`: server.roots: `@r`: open: entity not found".to_owned(),
                format!("destination `a`: server.crl: `{here}`: not a regular file"),
                "destination `a`: auth.lookup: `@open`: mode 0604, expected 0600 or 0400"
                    .to_owned(),
                "destination `a`: account `r`: can't run `/nowhere/x`: entity not found".to_owned(),
                "destination `a`: account `r`: `@p`: open: entity not found".to_owned(),
                "destination `a`: account `s`: `@open`: mode 0604, expected 0600 or 0400"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn verifier_files_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "client.tls = 'off'\nauth.verifiers = '@/v'\n\
                    account = [{ role = 'r', verifier_file = '@/v' }]";
        write(&folder, "v", b"\"r\" \"hunter2\"\n", 0o600);
        let line = "verifier file `@v`, line 1: not a verifier of SCRAM-SHA-256";
        assert_eq!(
            told(&folder, text),
            [
                format!("destination `a`: auth.verifiers: {line}"),
                format!("destination `a`: account `r`: {line}")
            ]
        );
        write(&folder, "v", format!("\"s\" \"{VERIFIER}\"").as_bytes(), 0o600);
        assert_eq!(told(&folder, text), ["destination `a`: account `r`: `@v` has no line for `r`"]);
        write(&folder, "v", format!("\"r\" \"{VERIFIER}\"").as_bytes(), 0o600);
        assert_eq!(told(&folder, text), [""; 0]);
    }

    #[test]
    fn a_configuration_with_verifiers_is_for_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let account = format!("account = [{{ role = 'r', verifier = '{VERIFIER}' }}]");
        let with = config(&folder, &format!("client.tls = 'off'\n{account}"));
        let without = config(&folder, "client.tls = 'off'");
        let open = write(&folder, "open.toml", b"", 0o640);
        let closed = write(&folder, "closed.toml", b"", 0o600);
        let told = examine_places(&with, Some(&open));
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].message, "holds a verifier, and has mode 0640: expected 0600");
        assert!(examine_places(&with, Some(&closed)).is_empty());
        assert!(examine_places(&without, Some(&open)).is_empty());
    }
}
