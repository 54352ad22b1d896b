//! `pgward audit keys`: the keys of this host, and a new identity.

use std::fs;
use std::io;
use std::path::Path;

use pgward_verify::VerifierKey;
use serde_json::{Value, json};

use super::args::{KeysArgs, KeysCommand, NewIdentityArgs};
use super::read::{Asked, FileError, source};
use crate::audit::keys::{Folder, FolderError, IdentityError, Machine, new_identity};
use crate::audit::store::{self, Directory};
use crate::cli::table::{printable, render_pairs};
use crate::cli::{Exit, Output, load};

/// Longest file of a public key.
const VKEY_BYTES_MAX: u64 = 4096;

/// Why keys can't be listed or changed.
#[derive(Debug, thiserror::Error)]
enum KeysError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("not a public key: `keys/host.vkey`")]
    Malformed,
    #[error("the trail can't be locked")]
    Lock(#[from] store::FolderError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Lists keys, or gives the host a new identity.
pub(super) fn run(args: &KeysArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    match &args.command {
        None => list(args, output),
        Some(KeysCommand::NewIdentity(args)) => renew(args, output),
    }
}

fn list(args: &KeysArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let source = match source(&args.place, output)? {
        Ok(source) => source,
        Err(exit) => return Ok(exit),
    };
    source.tell("keys", &Asked::default(), output)?;
    let trail = match source.open(output)? {
        Ok(trail) => trail,
        Err(exit) => return Ok(exit),
    };
    let vkey = match host_key(&source.directory) {
        Ok(vkey) => vkey,
        Err(error) => return output.error(&error),
    };
    let days = match days(&source.directory.join("keys/values")) {
        Ok(days) => days,
        Err(error) => return output.error(&error),
    };
    let epochs: Vec<Value> = trail.epochs().iter().map(epoch).collect();
    if args.json {
        let all = json!({"host_vkey": vkey, "epochs": epochs, "keyring_days": days});
        writeln!(output.data, "{}", crate::audit::view::line(&all))?;
        return Ok(Exit::Done);
    }
    let mut pairs = vec![("host key", vkey.unwrap_or_else(|| "none".to_owned()))];
    pairs.extend(trail.epochs().iter().map(|epoch| {
        let origin = printable(&epoch.origin().unwrap_or_else(|| "unknown".to_owned()));
        ("epoch", format!("{} {origin}, from entry {}", epoch.number, first(epoch)))
    }));
    let keyring = match (days.first(), days.last()) {
        (Some(first), Some(last)) => format!("{} days, {first} to {last}", days.len()),
        (_, _) => "no keys".to_owned(),
    };
    pairs.push(("sealed values", keyring));
    write!(output.data, "{}", render_pairs(&pairs, None))?;
    Ok(Exit::Done)
}

fn epoch(epoch: &pgward_verify::Epoch) -> Value {
    json!({"epoch": epoch.number, "origin": epoch.origin(), "first_index": first(epoch)})
}

fn first(epoch: &pgward_verify::Epoch) -> u64 {
    epoch.pieces().first().map_or(0, |piece| piece.first)
}

/// The host's public key as verifiers take it. `None`: the folder has none, as that of a copy may.
fn host_key(directory: &Path) -> Result<Option<String>, KeysError> {
    let path = directory.join("keys/host.vkey");
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(file) if file.len() > VKEY_BYTES_MAX => return Err(KeysError::Malformed),
        Ok(_) | Err(_) => {}
    }
    let text = fs::read_to_string(&path).map_err(FileError::new(&path, "read"))?;
    let line = text.trim_end();
    VerifierKey::parse(line).map_err(|_| KeysError::Malformed)?;
    Ok(Some(line.to_owned()))
}

/// Days that keys of sealed values are there for: the first part of `<day>-<part>.keys`.
fn days(folder: &Path) -> Result<Vec<String>, KeysError> {
    let files = match fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::new(folder, "read")(error).into()),
    };
    let mut days = Vec::new();
    for file in files {
        let name = file.map_err(FileError::new(folder, "read"))?.file_name();
        let name = name.to_string_lossy();
        let day = name.strip_suffix(".keys").and_then(|stem| stem.rsplit_once('-'));
        days.extend(day.map(|(day, _)| printable(day)));
    }
    days.sort_unstable();
    days.dedup();
    Ok(days)
}

fn renew(args: &NewIdentityArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let audit = match load(output, &args.config)? {
        Ok(config) => config.audit,
        Err(exit) => return Ok(exit),
    };
    let renewed = || -> Result<_, KeysError> {
        // Held until it is done: the agent must not run meanwhile.
        let _lock = Directory::open(&audit.directory)?;
        let folder = Folder::open(&audit.directory)?;
        Ok(new_identity(&folder, &audit.fleet, &Machine::this())?)
    };
    match renewed() {
        Ok(identity) => {
            writeln!(
                output.data,
                "from its next start the agent writes {}: give its new public key to who verifies, \
                 `pgward audit keys` prints it",
                identity.origin().as_str()
            )?;
            Ok(Exit::Done)
        }
        Err(error) => output.error(&error),
    }
}
