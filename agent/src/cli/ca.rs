//! `pgward ca`: the local certificate authority.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use rustls::pki_types::ServerName;

use super::{Exit, Output, load, printable};
use crate::config::{Config, DEFAULT_PATH};
use crate::tls::ca::{
    self, Authority, CERTIFICATE_PATH, CaError, Constraint, Description, KEY_PATH, Paths, day,
};

/// Folder of certificates that an administrator adds to the system's store (Debian and its relatives).
const STORE_PATH: &str = "/usr/local/share/ca-certificates";
/// Brings the system's store up to date with that folder.
const UPDATE_COMMAND: &str = "update-ca-certificates";
/// Days before its end from which on an authority is a finding.
const ENDING_DAYS: u64 = 90;

/// `pgward ca`
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Make the authority: a key that stays on this host, and a certificate for clients
    Init(InitArgs),
    /// Print what the authority is, and how clients trust it
    Show(FileArgs),
    /// Add the certificate to the system's trust store
    Install(InstallArgs),
    /// Make a new key and certificate; the certificate in use so far is kept beside
    Rotate(FileArgs),
}

/// Where the authority is.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// Configuration file, which names both; by default the usual one, where there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Certificate of the authority
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Key of the authority
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// `pgward ca init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to put it
    #[command(flatten)]
    pub files: FileArgs,
    /// Certify only this DNS name and those below it, or this address or network. May be given more
    /// than once. By default the servers of the configuration, where each destination names its own
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<Constraint>,
}

/// `pgward ca install`
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Where it is
    #[command(flatten)]
    pub files: FileArgs,
    /// Folder of certificates that the system's store takes up
    #[arg(long, value_name = "FOLDER", default_value = STORE_PATH)]
    pub folder: PathBuf,
}

/// The authority's files, and the configuration where there is one.
struct Located {
    paths: Paths,
    config: Option<Config>,
}

impl FileArgs {
    fn locate(&self, output: &mut Output<'_>) -> io::Result<Result<Located, Exit>> {
        let config = match &self.config {
            Some(path) => Some(load(output, path)?),
            None if Path::new(DEFAULT_PATH).exists() => {
                Some(load(output, Path::new(DEFAULT_PATH))?)
            }
            None => None,
        };
        let config = match config.transpose() {
            Ok(config) => config,
            Err(exit) => return Ok(Err(exit)),
        };
        let named = config.as_ref().map(|config| &config.tls);
        let path = |given: &Option<PathBuf>, named: Option<&PathBuf>, usual: &str| {
            given.clone().or_else(|| named.cloned()).unwrap_or_else(|| usual.into())
        };
        let certificate = named.map(|tls| &tls.ca_certificate);
        let key = named.map(|tls| &tls.ca_key);
        let paths = Paths {
            certificate: path(&self.certificate, certificate, CERTIFICATE_PATH),
            key: path(&self.key, key, KEY_PATH),
        };
        Ok(Ok(Located { paths, config }))
    }
}

/// What the authority needs to certify: the servers' names and networks, when every destination names its server. None at all
/// otherwise, which constrains nothing.
fn servers(config: &Config) -> Vec<Constraint> {
    let mut constraints = Vec::new();
    for destination in config.destinations_in_use() {
        match &destination.server.name {
            Some(ServerName::DnsName(name)) => constraints.push(Constraint::Name(name.clone())),
            Some(ServerName::IpAddress(_)) => {}
            _ => return Vec::new(),
        }
        // Clients may connect by address.
        constraints.extend(destination.networks.iter().copied().map(Constraint::Network));
    }
    constraints
}

/// Does what was asked. Exit: 1 when the authority that is shown expired, will soon, or can't be used.
pub fn run(command: &CaCommand, output: &mut Output<'_>) -> io::Result<Exit> {
    let now = SystemTime::now();
    match command {
        CaCommand::Init(args) => {
            let Located { paths, config } = match args.files.locate(output)? {
                Ok(located) => located,
                Err(exit) => return Ok(exit),
            };
            let names = match (args.names.is_empty(), &config) {
                (true, Some(config)) => servers(config),
                (true, None) | (false, _) => args.names.clone(),
            };
            match Authority::init(&paths, &names, now) {
                Ok(made) => {
                    print(&made, &paths, output)?;
                    writeln!(output.notes, "made `{}`", paths.key.display())?;
                    writeln!(output.notes, "made `{}`", paths.certificate.display())?;
                    Ok(Exit::Done)
                }
                Err(error) => output.error(&error),
            }
        }
        CaCommand::Show(args) => match args.locate(output)? {
            Ok(located) => show(&located.paths, now, output),
            Err(exit) => Ok(exit),
        },
        CaCommand::Install(args) => match args.files.locate(output)? {
            Ok(located) => install(&located.paths, &args.folder, UPDATE_COMMAND, output),
            Err(exit) => Ok(exit),
        },
        CaCommand::Rotate(args) => {
            let paths = match args.locate(output)? {
                Ok(located) => located.paths,
                Err(exit) => return Ok(exit),
            };
            match Authority::rotate(&paths, now) {
                Ok(made) => {
                    print(&made, &paths, output)?;
                    let previous = paths.previous();
                    writeln!(
                        output.notes,
                        "the certificate in use so far is `{}`\na running agent uses the new one \
                         when it is restarted; clients must trust it by then",
                        previous.display()
                    )?;
                    Ok(Exit::Done)
                }
                Err(error) => output.error(&error),
            }
        }
    }
}

fn show(paths: &Paths, now: SystemTime, output: &mut Output<'_>) -> io::Result<Exit> {
    let description = match Description::load(&paths.certificate) {
        Ok(description) => description,
        Err(error) => return output.error(&error),
    };
    print(&description, paths, output)?;
    // The key may be another user's business: who only wants to trust the certificate need not read it.
    match Authority::load(paths, now) {
        Err(error) if !is_denied(&error) => {
            output.error(&error)?;
            Ok(Exit::Finding)
        }
        Ok(_) | Err(_) if description.days_left(now) < ENDING_DAYS => {
            writeln!(
                output.notes,
                "it ends in {} days: run `pgward ca rotate` and give clients the new certificate",
                description.days_left(now)
            )?;
            Ok(Exit::Finding)
        }
        Ok(_) | Err(_) => Ok(Exit::Done),
    }
}

fn is_denied(error: &CaError) -> bool {
    use crate::tls::ConfigurationError::{OpenKey, Read};
    match error {
        CaError::File(Read { source, .. }) => source.kind() == io::ErrorKind::PermissionDenied,
        CaError::File(OpenKey { mode, .. }) => mode & 0o037 == 0,
        _ => false,
    }
}

fn print(ca: &Description, paths: &Paths, output: &mut Output<'_>) -> io::Result<()> {
    let constraints: Vec<String> = ca.constraints.iter().map(ToString::to_string).collect();
    let certifies = match constraints.is_empty() {
        true => "any name".to_owned(),
        false => constraints.join(", "),
    };
    writeln!(output.data, "subject      {}", printable(&ca.subject))?;
    writeln!(output.data, "valid        {} to {}", day(ca.not_before), day(ca.not_after))?;
    writeln!(output.data, "sha256       {}", hex::encode(ca.fingerprint))?;
    writeln!(output.data, "certifies    {}", printable(&certifies))?;
    writeln!(output.data, "PGSSLROOTCERT={}", paths.certificate.display())
}

/// Copies the certificate, and the one before it where there is one, and has the store take them up.
pub(super) fn install(
    paths: &Paths,
    folder: &Path,
    update: &str,
    output: &mut Output<'_>,
) -> io::Result<Exit> {
    let previous = paths.previous();
    let wanted = [(paths.certificate.as_path(), "pgward.crt"), (&previous, "pgward-previous.crt")];
    for (from, name) in wanted {
        if from == previous && !previous.exists() {
            continue;
        }
        if let Err(error) = Description::load(from) {
            return output.error(&error);
        }
        let to = folder.join(name);
        if let Err(error) = ca::copy_certificate(from, &to) {
            return output.error(&error);
        }
        writeln!(output.data, "copied {} to {}", from.display(), to.display())?;
    }
    let ran = Command::new(update).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let exit = match ran {
        Ok(status) if status.success() => {
            writeln!(output.data, "ran {update}")?;
            Exit::Done
        }
        Ok(status) => {
            writeln!(output.notes, "error: {update} failed: {status}")?;
            Exit::Failed
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            writeln!(
                output.notes,
                "{update} is not there, so the store was not brought up to date: add {} to the \
                 trusted certificates with this system's own tool (`trust anchor` where p11-kit is \
                 used)",
                paths.certificate.display()
            )?;
            Exit::Finding
        }
        Err(error) => {
            writeln!(output.notes, "error: cannot run {update}: {error}")?;
            Exit::Failed
        }
    };
    // libpq has no use for the store unless it is told `sslrootcert=system`.
    writeln!(output.data, "PGSSLROOTCERT={}", paths.certificate.display())?;
    Ok(exit)
}
