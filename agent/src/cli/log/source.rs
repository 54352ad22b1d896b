//! Lines of a log file that may grow, and may be set aside for a new one of the same name.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Longest line that is read as one, in bytes; what is longer comes in pieces, which are no
/// records.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// A log file being read.
pub(super) struct Source {
    path: PathBuf,
    file: BufReader<File>,
    line: Vec<u8>,
    /// `line` has been handed out.
    taken: bool,
    /// The path names another file by now.
    replaced: bool,
}

impl Source {
    /// Begins at the start of the file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = BufReader::with_capacity(1 << 16, File::open(path)?);
        let line = Vec::new();
        Ok(Self { path: path.to_owned(), file, line, taken: false, replaced: false })
    }

    /// The next whole line with its line feed; `None` at the end of what is there. A line whose end
    /// isn't written yet waits.
    pub(super) fn line(&mut self) -> io::Result<Option<&[u8]>> {
        if self.taken {
            self.line.clear();
            self.taken = false;
        }
        let room = LINE_BYTES_MAX.saturating_sub(self.line.len() as u64);
        io::Read::take(&mut self.file, room).read_until(b'\n', &mut self.line)?;
        if self.line.last() == Some(&b'\n') || self.line.len() as u64 >= LINE_BYTES_MAX {
            self.taken = true;
            return Ok(Some(&self.line));
        }
        if self.replaced {
            // Nothing more will come here. A line left without an end counts as one that is no
            // record.
            self.file = BufReader::with_capacity(1 << 16, File::open(&self.path)?);
            self.replaced = false;
            if self.line.is_empty() {
                return self.line();
            }
            self.taken = true;
            return Ok(Some(&self.line));
        }
        Ok(None)
    }

    /// Notes whether the file has been set aside. Called at the end of the file: what is still in
    /// it is read first.
    pub(super) fn look_again(&mut self) -> io::Result<()> {
        let ours = self.file.get_ref().metadata()?;
        self.replaced = match std::fs::metadata(&self.path) {
            Ok(there) => (there.dev(), there.ino()) != (ours.dev(), ours.ino()),
            // Between the renaming and the new file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        Ok(())
    }
}
