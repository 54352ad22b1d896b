//! The file `cosigned`: the newest checkpoint with what witnesses have signed of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::{Checkpoint, Cosignature, WitnessKey};

/// Keeps one note, for all witnesses together.
#[derive(Debug)]
pub struct Cosigned {
    path: PathBuf,
    newest: Mutex<Option<Newest>>,
}

#[derive(Debug)]
struct Newest {
    checkpoint: Checkpoint,
    /// A line for each witness.
    lines: Vec<(WitnessKey, String)>,
}

impl Cosigned {
    /// The file `cosigned` in the folder of an epoch. What an earlier run left there stays until there is
    /// something newer.
    pub fn new(epoch: &Path) -> Self {
        Self { path: epoch.join("cosigned"), newest: Mutex::default() }
    }

    /// Adds a cosignature that was verified. One of a checkpoint older than the newest is left out.
    pub fn add(
        &self,
        checkpoint: &Checkpoint,
        key: &WitnessKey,
        cosignature: &Cosignature,
    ) -> io::Result<()> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let line = (key.clone(), cosignature.line.clone());
        match &mut *newest {
            Some(newest) if newest.checkpoint.size() > checkpoint.size() => return Ok(()),
            Some(newest) if newest.checkpoint.body() == checkpoint.body() => {
                newest.lines.retain(|(other, _)| other != key);
                newest.lines.push(line);
            }
            Some(_) | None => {
                *newest = Some(Newest { checkpoint: checkpoint.clone(), lines: vec![line] });
            }
        }
        let newest = newest.as_ref().expect("set above");
        let mut note = newest.checkpoint.note().to_owned();
        newest.lines.iter().for_each(|(_, line)| note.push_str(line));
        self.write(&note)
    }

    /// Whoever reads finds the old file or the new one, whole.
    fn write(&self, note: &str) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
    }
}
