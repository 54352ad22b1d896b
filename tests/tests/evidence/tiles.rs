//! The log as C2SP tlog-tiles has it, read by code that knows nothing but the specifications.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, ensure};
use pgward_tests::wire;
use pgward_tests::witness::note::{Note, Signed, log_key};
use pgward_tests::witness::tree::{self, Hash};
use pgward_verify::note::VerifierKey;

use crate::house::House;
use crate::{Result, gate};

/// Hashes of a full tile, entries of a full bundle.
const WIDTH: usize = 256;
/// Enough for two full tiles and the first of the next level.
const STATEMENTS: usize = 300;

#[test]
fn another_program_finds_the_same_tree_in_an_export() -> Result {
    gate!();
    let house = House::new("tiles", |builder| builder)?;
    let mut client = house.client()?;
    let all: Vec<u8> = (0..STATEMENTS).flat_map(|n| wire::query(&format!("select {n}"))).collect();
    client.stream.write_all(&all)?;
    for _ in 0..STATEMENTS {
        wire::read_until_ready(&mut client.stream)?;
    }
    drop(client);
    house.wait_anchored(&["witness"])?;
    let folder = house.auditor.file("tiles");
    let path = folder.to_str().context("a path of text")?;
    house.pgward_done(&["audit", "export", "--format", "tlog-tiles", "--output", path])?;
    let mut files = BTreeMap::new();
    read(&folder, "", &mut files)?;

    // The checkpoint is signed by the log and by the witness.
    let text = String::from_utf8(files.remove("checkpoint").context("a checkpoint")?)?;
    let note = Note::parse(&text)?;
    let key = fs::read_to_string(house.auditor.key())?;
    let (host, public) = log_key(&key)?;
    assert_eq!(note.signed(&note.origin, &public), Signed::Yes);
    assert!(note.origin.starts_with(&format!("{host}/")), "{}", note.origin);
    let witness = VerifierKey::parse(&house.auditor.witness_key())?;
    let parsed = pgward_verify::note::Note::parse(text.as_bytes())?;
    assert!(matches!(parsed.verify_cosignature(&witness), Some(Ok(time)) if time > 0), "{text}");
    let size = usize::try_from(note.size)?;
    ensure!(size > 2 * WIDTH, "too small a log: {size}");

    // Entries from their bundles, and all hashes from the entries.
    let mut entries = Vec::new();
    for n in 0..size.div_ceil(WIDTH) {
        let count = (size - n * WIDTH).min(WIDTH);
        let name = name("tile/entries", n, count);
        let bundle = files.remove(&name).with_context(|| format!("no {name}"))?;
        entries.extend(unbundle(&bundle, count).with_context(|| name)?);
    }
    let leaves: Vec<Hash> = entries.iter().map(|entry| tree::leaf(entry)).collect();
    assert_eq!(tree::root(&leaves), note.root);
    let mut hashes = leaves;
    for level in 0.. {
        if hashes.is_empty() {
            break;
        }
        for (n, tile) in hashes.chunks(WIDTH).enumerate() {
            let name = name(&format!("tile/{level}"), n, tile.len());
            let found = files.remove(&name).with_context(|| format!("no {name}"))?;
            assert!(found == tile.as_flattened(), "{name} has other hashes");
        }
        hashes = hashes.chunks_exact(WIDTH).map(tree::root).collect();
    }
    assert!(files.is_empty(), "no tile of that tree: {:?}", files.keys());

    // They are the entries of the trail itself.
    let trail = house.scene.agent.entries()?;
    assert!(entries.iter().eq(trail[..size].iter().map(|entry| &entry.bytes)));
    house.finish()
}

/// Path of a tile or bundle: `x` in front of all groups of three digits but the last, a partial one with its width.
fn name(folder: &str, n: usize, count: usize) -> String {
    let mut digits = n.to_string();
    digits.insert_str(0, &"0".repeat((3 - digits.len() % 3) % 3));
    let groups: Vec<&str> = (0..digits.len()).step_by(3).map(|at| &digits[at..at + 3]).collect();
    let path = format!("{folder}/x{}", groups.join("/x"));
    let (front, last) = path.rsplit_once('x').unwrap_or_default();
    let partial = if count == WIDTH { String::new() } else { format!(".p/{count}") };
    format!("{front}{last}{partial}")
}

#[test]
fn names_are_those_of_the_specification() {
    assert_eq!(name("tile/0", 1_234_067, WIDTH), "tile/0/x001/x234/067");
    assert_eq!(name("tile/entries", 1_067, 12), "tile/entries/x001/067.p/12");
    assert_eq!(name("tile/3", 0, 1), "tile/3/000.p/1");
}

/// `(length (2), entry)*`, big-endian.
fn unbundle(mut bytes: &[u8], count: usize) -> Result<Vec<Vec<u8>>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        entries.push(rest.get(..length).context("cut off")?.to_vec());
        bytes = &rest[length..];
    }
    ensure!(bytes.is_empty() && entries.len() == count, "{} entries", entries.len());
    Ok(entries)
}

/// All files below a folder, by their path.
fn read(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) -> Result {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a name of text")?;
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if entry.file_type()?.is_dir() {
            read(&entry.path(), &path, files)?;
        } else {
            files.insert(path, fs::read(entry.path())?);
        }
    }
    Ok(())
}
