//! Compares two copies of a trail byte by byte: where a hash says which record was changed, a
//! second copy says which bytes.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use crate::findings::{Class, Finding, Findings, Severity};
use crate::store::{ReadError, names};

/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 8;
/// Most ranges of bytes that are listed for one file.
const RANGES_MAX: usize = 16;
/// Equal bytes between two differences that make them two.
const APART_BYTES: u64 = 16;

/// Compares the epochs of two folders.
pub(crate) fn compare(one: &Path, other: &Path, findings: &mut Findings) -> Result<(), ReadError> {
    let epochs = |path: &Path| -> Result<Vec<String>, ReadError> {
        Ok(names(path)?.into_iter().filter(|name| name.starts_with("epoch-")).collect())
    };
    folders(one, other, "", &epochs(one)?, &epochs(other)?, 0, findings)
}

fn folders(
    one: &Path,
    other: &Path,
    prefix: &str,
    names_one: &[String],
    names_other: &[String],
    depth: usize,
    findings: &mut Findings,
) -> Result<(), ReadError> {
    for name in names_other.iter().filter(|name| !names_one.contains(name)) {
        missing(format!("{prefix}{name}"), "in the copy, not here", findings);
    }
    for name in names_one {
        let shown = format!("{prefix}{name}");
        if !names_other.contains(name) {
            missing(shown, "here, not in the copy", findings);
            continue;
        }
        let (left, right) = (one.join(name), other.join(name));
        if left.is_dir() && right.is_dir() {
            if depth < DEPTH_MAX {
                let (left_names, right_names) = (names(&left)?, names(&right)?);
                let prefix = format!("{shown}/");
                folders(&left, &right, &prefix, &left_names, &right_names, depth + 1, findings)?;
            }
        } else {
            files(&left, &right, &shown, findings)?;
        }
    }
    Ok(())
}

/// A copy is older than the log, and one may be packed where the other is not.
fn missing(file: String, where_it_is: &str, findings: &mut Findings) {
    let sentence = format!("a file is {where_it_is}");
    findings.add(Finding::new(Class::CopyDiffers, sentence).file(file).weighing(Severity::Note));
}

fn files(one: &Path, other: &Path, shown: &str, findings: &mut Findings) -> Result<(), ReadError> {
    let open = |path: &Path| File::open(path).map_err(ReadError::io("open", path));
    let length = |path: &Path| Ok(fs::metadata(path).map_err(ReadError::io("stat", path))?.len());
    let (bytes_one, bytes_other): (u64, u64) = (length(one)?, length(other)?);
    let mut left = BufReader::with_capacity(1 << 16, open(one)?);
    let mut right = BufReader::with_capacity(1 << 16, open(other)?);
    let (mut offset, mut ranges): (u64, Vec<(u64, u64)>) = (0, Vec::new());
    let (mut a, mut b) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let common = bytes_one.min(bytes_other);
    while offset < common {
        let count = (common - offset).min(1 << 16) as usize;
        left.read_exact(&mut a[..count]).map_err(ReadError::io("read", one))?;
        right.read_exact(&mut b[..count]).map_err(ReadError::io("read", other))?;
        if a[..count] != b[..count] {
            for at in (0..count).filter(|at| a[*at] != b[*at]) {
                let place = offset + at as u64;
                let full = ranges.len() == RANGES_MAX;
                match ranges.last_mut().filter(|range| place < range.1 + APART_BYTES) {
                    Some(range) => range.1 = place + 1,
                    None if full => break,
                    None => ranges.push((place, place + 1)),
                }
            }
        }
        offset += count as u64;
    }
    // What lies beside the segments changes all the time; a log that grew differs at its end.
    let evidence = shown.contains("/segment-") || shown.contains("/tile/");
    for (from, to) in &ranges {
        let sentence = format!("bytes {from} to {} differ from those of the copy", to - 1);
        let finding =
            Finding::new(Class::CopyDiffers, sentence).file(shown).bytes(*from, to - from);
        findings.add(if evidence { finding } else { finding.weighing(Severity::Note) });
    }
    if bytes_one != bytes_other {
        let sentence = format!("{bytes_one} bytes here, {bytes_other} in the copy");
        findings.add(
            Finding::new(Class::CopyDiffers, sentence)
                .file(shown)
                .bytes(common, bytes_one.abs_diff(bytes_other))
                .weighing(Severity::Note),
        );
    }
    Ok(())
}
