//! What is remembered over restarts: `grants.json`, replaced as a whole.

use super::GrantsError;
use super::book::Book;
use crate::audit::keys::Folder;

const FILE: &str = "grants.json";
/// Longest file: each grant with its longest texts, escaped.
const FILE_BYTES_MAX: usize = 16 << 20;

pub(super) fn read(folder: &Folder) -> Result<Book, GrantsError> {
    match folder.read(FILE, FILE_BYTES_MAX)? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(GrantsError::State),
        None => Ok(Book::default()),
    }
}

pub(super) fn write(folder: &Folder, book: &Book) -> Result<(), GrantsError> {
    let bytes = serde_json::to_vec_pretty(book).map_err(GrantsError::State)?;
    Ok(folder.replace(FILE, &bytes)?)
}
