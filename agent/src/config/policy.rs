//! `[policy]`, and the file that it names.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::{Problem, Report};
use crate::policy::{POLICY_BYTES_MAX, Policy};

/// `[policy]`: who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyFile {
    /// The policy; `None` allows everything.
    pub file: Option<PathBuf>,
}

impl PolicyFile {
    /// The policy that is in force: that of the file, or the empty one where none is named.
    pub fn load(&self) -> Result<Policy, Report> {
        match &self.file {
            None => Ok(Policy::empty()),
            Some(path) => Policy::load(path),
        }
    }
}

/// Why a policy can't be read.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// From the system.
    #[error("cannot read the policy `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// From the system.
        source: io::Error,
    },
    /// It is larger than [`POLICY_BYTES_MAX`].
    #[error("policy `{}` too large: expected at most {POLICY_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// The text of the policy at `path`.
pub fn read_policy(path: &Path) -> Result<String, PolicyFileError> {
    let error = |source| PolicyFileError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(error)?;
    file.take(POLICY_BYTES_MAX + 1).read_to_string(&mut text).map_err(error)?;
    if text.len() as u64 > POLICY_BYTES_MAX {
        return Err(PolicyFileError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

impl Policy {
    /// Reads the policy at `path`: as a whole, or not at all. To load it again is to make another one; which is in force is
    /// for the caller to swap.
    pub fn load(path: &Path) -> Result<Self, Report> {
        let file = path.display().to_string();
        let text = read_policy(path).map_err(|error| {
            let message = match &error {
                PolicyFileError::Read { source, .. } => format!("cannot be read: {source}"),
                PolicyFileError::TooLarge { .. } => error.to_string(),
            };
            Report::new(
                &file,
                vec![Problem { line: None, key: String::new(), message, hint: None }],
            )
        })?;
        Self::parse(&file, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_loaded_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.toml");
        let file = PolicyFile { file: Some(path.clone()) };
        let missing = file.load().expect_err("no file");
        assert!(missing.to_string().contains("cannot be read"), "{missing}");
        std::fs::write(&path, "[[role]]\nname = \"r\"\n[[assign]]\n").expect("written");
        assert_eq!(file.load().expect_err("a wrong one").problems.len(), 2);
        std::fs::write(&path, "[[role]]\nname = \"r\"\n").expect("written");
        let policy = file.load().expect("a good one");
        assert_eq!(policy.roles().len(), 1);
        assert_eq!(
            PolicyFile::default().load().expect("none").identity(),
            Policy::empty().identity()
        );
    }

    #[test]
    fn the_example_is_a_good_policy() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/policy.toml");
        let policy = Policy::load(&path).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(policy.advice(), []);
        assert!(policy.cases().len() >= 10);
    }
}
