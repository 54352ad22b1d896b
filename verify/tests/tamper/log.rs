//! A writer of the format for tests, made from its description and sharing nothing with the agent
//! or the verifier: entries through another encoder, a tree of its own, keys of its own.
//!
//! [`Log`] is a log in memory; [`Log::write`] lays it out as files. Tests change the one, the
//! other, or both.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use minicbor::Encoder;

pub(crate) type Hash = [u8; 32];
pub(crate) const SECOND: u64 = 1_000_000_000;
/// Empty bytes at the end of a raw segment.
pub(crate) const SPARE_BYTES: usize = 80;
pub(crate) const HOST: &str = "pgward/6f1c0d9e-0000-4000-8000-000000000001";

pub(crate) fn sha(parts: &[&[u8]]) -> Hash {
    digest(&SHA256, &parts.concat()).as_ref().try_into().expect("32 bytes")
}

pub(crate) fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("32 bytes")
}

fn seal_pair(run: u64, number: u64) -> Ed25519KeyPair {
    let seed = sha(&[b"seal", &run.to_be_bytes(), &number.to_be_bytes()]);
    Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes")
}

pub(crate) fn public(pair: &Ed25519KeyPair) -> [u8; 32] {
    pair.public_key().as_ref().try_into().expect("32 bytes")
}

/// The tree as a stack of complete subtrees with their widths.
#[derive(Clone, Default)]
pub(crate) struct Stack(Vec<(u64, Hash)>);

impl Stack {
    pub(crate) fn push(&mut self, leaf: Hash) {
        let mut top = (1, leaf);
        while let Some(left) = self.0.pop_if(|left| left.0 == top.0) {
            top = (2 * top.0, sha(&[&[1], &left.1, &top.1]));
        }
        self.0.push(top);
    }

    pub(crate) fn root(&self) -> Hash {
        let mut subtrees = self.0.iter().rev();
        let Some(last) = subtrees.next() else { return sha(&[]) };
        subtrees.fold(last.1, |root, left| sha(&[&[1], &left.1, &root]))
    }

    pub(crate) fn roots(&self) -> Vec<Hash> {
        self.0.iter().map(|subtree| subtree.1).collect()
    }
}

pub(crate) fn leaf(entry: &[u8]) -> Hash {
    sha(&[&[0], entry])
}

/// A field's value.
#[derive(Clone)]
pub(crate) enum Field {
    Uint(u64),
    Bytes(Vec<u8>),
    Text(String),
    Flag(bool),
}

impl From<u64> for Field {
    fn from(value: u64) -> Self {
        Self::Uint(value)
    }
}
impl From<&str> for Field {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<bool> for Field {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}
impl<const N: usize> From<[u8; N]> for Field {
    fn from(value: [u8; N]) -> Self {
        Self::Bytes(value.to_vec())
    }
}
impl From<&[u8]> for Field {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

pub(crate) fn encode(fields: &BTreeMap<u64, Field>) -> Vec<u8> {
    let mut to = Encoder::new(Vec::new());
    to.map(fields.len() as u64).expect("memory");
    for (key, value) in fields {
        to.u64(*key).expect("memory");
        match value {
            Field::Uint(value) => to.u64(*value).map(drop),
            Field::Bytes(value) => to.bytes(value).map(drop),
            Field::Text(value) => to.str(value).map(drop),
            Field::Flag(value) => to.bool(*value).map(drop),
        }
        .expect("memory");
    }
    to.into_writer()
}

#[derive(Clone)]
struct Session {
    id: [u8; 16],
    seq: u64,
    leaves: Vec<u8>,
}

/// A log in memory.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) origin: String,
    pub(crate) epoch: u64,
    pub(crate) host: u8,
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) values: BTreeMap<u64, Vec<u8>>,
    /// Sizes at which batches end.
    pub(crate) batches: Vec<u64>,
    /// Sizes at which segments end; the last one is open.
    pub(crate) segments: Vec<u64>,
    pub(crate) packed: Vec<u64>,
    pub(crate) time: u64,
    pub(crate) boot: u64,
    pub(crate) clock: u64,
    tree: Stack,
    sessions: Vec<Session>,
    seals: u64,
    run: u64,
    last_seal: u64,
    pub(crate) step: u64,
    connects: u64,
}

impl Log {
    /// A log whose agent has just started.
    pub(crate) fn begin(epoch: u64, extra: &[(u64, Field)]) -> Self {
        Self::begin_as(HOST, 1, epoch, extra)
    }

    pub(crate) fn begin_as(name: &str, host: u8, epoch: u64, extra: &[(u64, Field)]) -> Self {
        Self::begin_at(1_760_000_000 * SECOND, name, host, epoch, extra)
    }

    /// The same with a clock that shows `time`.
    pub(crate) fn begin_at(
        time: u64,
        name: &str,
        host: u8,
        epoch: u64,
        extra: &[(u64, Field)],
    ) -> Self {
        let mut log = Self {
            origin: format!("{name}/{epoch}"),
            epoch,
            host,
            entries: Vec::new(),
            values: BTreeMap::new(),
            batches: Vec::new(),
            segments: Vec::new(),
            packed: Vec::new(),
            time,
            boot: 5000 * SECOND,
            clock: 1,
            tree: Stack::default(),
            sessions: Vec::new(),
            seals: 0,
            run: 1,
            last_seal: 0,
            step: SECOND,
            connects: 0,
        };
        log.add(21, extra);
        log.seal(1);
        log.add(1, &[]);
        log.add(18, &[(140, 1.into())]);
        log.batch();
        log
    }

    pub(crate) fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn batch(&mut self) {
        if self.batches.last() != Some(&self.size()) {
            self.batches.push(self.size());
        }
    }

    /// Adds an entry of no session.
    pub(crate) fn add(&mut self, event: u64, extra: &[(u64, Field)]) -> u64 {
        let fields = self.fields(event, extra);
        self.raw(encode(&fields))
    }

    fn fields(&mut self, event: u64, extra: &[(u64, Field)]) -> BTreeMap<u64, Field> {
        self.time += self.step;
        self.boot += self.step;
        let salt = sha(&[b"salt", &self.size().to_be_bytes()]);
        let mut fields: BTreeMap<u64, Field> = [
            (0, 1.into()),
            (1, event.into()),
            (2, salt[..16].into()),
            (3, self.time.into()),
            (4, self.boot.into()),
            (5, self.clock.into()),
        ]
        .into();
        fields.extend(extra.iter().cloned());
        fields
    }

    /// Adds an entry as it is.
    pub(crate) fn raw(&mut self, bytes: Vec<u8>) -> u64 {
        self.tree.push(leaf(&bytes));
        self.entries.push(bytes);
        self.size() - 1
    }

    pub(crate) fn open(&mut self) -> usize {
        let id = sha(&[b"session", &self.size().to_be_bytes()]);
        let id = id[..16].try_into().expect("16 bytes");
        self.sessions.push(Session { id, seq: 0, leaves: Vec::new() });
        self.connects += 1;
        let session = self.sessions.len() - 1;
        self.say(session, 3, &[(95, self.connects.into())]);
        session
    }

    pub(crate) fn id(&self, session: usize) -> [u8; 16] {
        self.sessions[session].id
    }

    /// Adds an entry of a session and returns its number there.
    pub(crate) fn say(&mut self, session: usize, event: u64, extra: &[(u64, Field)]) -> u64 {
        if self.time.saturating_sub(self.last_seal) >= 10 * SECOND {
            self.seal(0);
        }
        let Session { id, seq, .. } = self.sessions[session];
        let mut fields = self.fields(event, extra);
        fields.insert(6, id.into());
        fields.insert(7, seq.into());
        let bytes = encode(&fields);
        self.sessions[session].leaves.extend_from_slice(&leaf(&bytes));
        self.sessions[session].seq += 1;
        self.raw(bytes);
        seq
    }

    /// A statement with its outcome, each in a batch of its own.
    pub(crate) fn query(&mut self, session: usize, text: &str) {
        let intent = self.say(session, 6, &[(10, text.into())]);
        self.batch();
        self.say(session, 7, &[(16, 1.into()), (18, intent.into())]);
        self.batch();
    }

    pub(crate) fn close(&mut self, session: usize) {
        self.count(session, 4);
        self.batch();
    }

    /// A mark (30) or an end (4).
    pub(crate) fn count(&mut self, session: usize, event: u64) {
        let digest = sha(&[&self.sessions[session].leaves]);
        let count = self.sessions[session].seq + 1;
        self.say(session, event, &[(93, count.into()), (94, digest.into())]);
    }

    /// Kinds: 0 regular, 1 first, 2 restart, 3 final, 4 handover.
    pub(crate) fn seal(&mut self, kind: u64) -> u64 {
        if kind == 2 {
            self.run += 1;
        }
        let signer = match kind {
            1 | 2 => pair(self.host),
            _ => seal_pair(self.run, self.seals - 1),
        };
        self.seal_with(kind, &signer)
    }

    pub(crate) fn seal_with(&mut self, kind: u64, signer: &Ed25519KeyPair) -> u64 {
        let next = if kind == 3 { [0; 32] } else { public(&seal_pair(self.run, self.seals)) };
        let mut fields = self.fields(19, &[]);
        let (number, size, root) = (self.seals, self.size(), self.tree.root());
        let name = ["regular", "first", "restart", "final", "handover"][kind as usize];
        let message = format!(
            "pgward-seal-v1\n{}\n{number}\n{size}\n{}\n{}\n{name}\n{}\n",
            self.origin,
            BASE64.encode(root),
            self.time,
            BASE64.encode(next)
        );
        fields.extend([
            (110, number.into()),
            (111, size.into()),
            (112, root.into()),
            (113, kind.into()),
            (114, next.into()),
            (115, signer.sign(message.as_bytes()).as_ref().into()),
        ]);
        self.seals += 1;
        self.last_seal = self.time;
        self.raw(encode(&fields))
    }

    /// Numbers the next seal as if `count` more had been made.
    pub(crate) fn skip_seals(&mut self, count: u64) {
        self.seals += count;
    }

    /// The agent stops in good order.
    pub(crate) fn stop(&mut self) {
        let seen = self.connects;
        let columns = [(96, seen), (97, seen), (98, 0), (99, 0), (100, 0), (101, 0), (102, 0)];
        let columns = columns.map(|(field, count)| (field, count.into()));
        self.add(17, &columns);
        self.add(2, &[]);
        self.seal(3);
        self.batch();
    }

    /// Takes other entries, and computes the tree anew.
    pub(crate) fn rebuild(&mut self, entries: Vec<Vec<u8>>) {
        self.tree = Stack::default();
        entries.iter().for_each(|entry| self.tree.push(leaf(entry)));
        self.entries = entries;
    }

    pub(crate) fn root_at(&self, size: u64) -> Hash {
        self.tree_at(size).root()
    }

    pub(crate) fn tree_at(&self, size: u64) -> Stack {
        let mut tree = Stack::default();
        self.entries[..size as usize].iter().for_each(|entry| tree.push(leaf(entry)));
        tree
    }

    /// A checkpoint of a size, signed by the host.
    pub(crate) fn checkpoint(&self, size: u64) -> String {
        note(&self.origin, size, self.root_at(size), self.host)
    }

    /// Lays the log out below `trail`.
    pub(crate) fn write(&self, trail: &Path) {
        let folder = trail.join(format!("epoch-{}", self.epoch));
        fs::create_dir_all(folder.join("checkpoints")).expect("a folder");
        self.write_segments(&folder);
        self.write_tiles(&folder);
        let whole = self.checkpoint(self.size());
        fs::write(folder.join("checkpoint"), &whole).expect("a file");
        for size in &self.segments {
            let path = folder.join(format!("checkpoints/{size:020}"));
            fs::write(path, self.checkpoint(*size)).expect("a file");
        }
        fs::write(trail.join("lock"), "").expect("a file");
        let identity = format!("fleet = \"pgward\"\nepoch = {}\n", self.epoch);
        fs::write(trail.join("identity.toml"), identity).expect("a file");
    }

    /// First index, end, first trailer and next trailer of each segment.
    pub(crate) fn ranges(&self) -> Vec<(u64, u64, u64, u64)> {
        let ends = self.segments.iter().copied().chain([self.size()]);
        let mut first = 0;
        let trailers = |size: u64| self.batches.iter().filter(|end| **end <= size).count() as u64;
        ends.map(|end| {
            let range = (first, end, trailers(first), trailers(end));
            first = end;
            range
        })
        .filter(|range| range.0 < range.1)
        .collect()
    }

    pub(crate) fn write_segments(&self, folder: &Path) {
        let ranges = self.ranges();
        let last = ranges.len() - 1;
        let mut tree = Stack::default();
        for (number, (first, end, trailer, next)) in ranges.into_iter().enumerate() {
            let before = tree.clone();
            let mut frames = Vec::new();
            if first > 0 {
                frame(&mut frames, 5, &before.roots().concat());
            }
            let mut count = trailer;
            for index in first..end {
                let entry = &self.entries[index as usize];
                tree.push(leaf(entry));
                frame(&mut frames, 1, entry);
                if let Some(values) = self.values.get(&index) {
                    frame(&mut frames, 2, values);
                }
                if self.batches.binary_search(&(index + 1)).is_ok() {
                    frame(&mut frames, 3, &mark(index + 1, tree.root(), Some(count)));
                    count += 1;
                }
            }
            if number < last {
                frame(&mut frames, 4, &mark(end, tree.root(), None));
            }
            if self.packed.contains(&first) {
                self.write_pack(folder, (first, end, trailer, next), &before, &tree);
                continue;
            }
            let fields = [&first.to_be_bytes()[..], &before.root(), &trailer.to_be_bytes()];
            let mut file = header(b"pgward segment 1", &fields.concat(), &self.origin);
            file.extend_from_slice(&frames);
            file.resize(file.len() + SPARE_BYTES, 0);
            fs::write(folder.join(format!("segment-{first:020}.log")), file).expect("a file");
        }
    }

    fn write_pack(
        &self,
        folder: &Path,
        (first, end, trailer, next): (u64, u64, u64, u64),
        before: &Stack,
        behind: &Stack,
    ) {
        let bundles: Vec<Vec<u8>> = (first / 256..end.div_ceil(256))
            .map(|bundle| {
                let range = first.max(256 * bundle)..end.min(256 * bundle + 256);
                self.entries[range.start as usize..range.end as usize]
                    .iter()
                    .flat_map(|entry| [&(entry.len() as u16).to_be_bytes()[..], entry].concat())
                    .collect()
            })
            .collect();
        let fields = [
            &first.to_be_bytes()[..],
            &((end - first) as u32).to_be_bytes(),
            &(bundles.len() as u32).to_be_bytes(),
            &before.root(),
            &behind.root(),
            &trailer.to_be_bytes(),
            &next.to_be_bytes(),
        ];
        let head = header(b"pgward packed 01", &fields.concat(), &self.origin);
        fs::write(
            folder.join(format!("segment-{first:020}.pack")),
            [head, pack_body(&bundles)].concat(),
        )
        .expect("a file");
        let mut values = header(b"pgward values 01", &first.to_be_bytes(), &self.origin);
        for (index, payload) in self.values.range(first..end) {
            frame(&mut values, 2, &[&index.to_be_bytes()[..], payload].concat());
        }
        fs::write(folder.join(format!("segment-{first:020}.values")), values).expect("a file");
    }

    pub(crate) fn write_tiles(&self, folder: &Path) {
        let mut hashes: Vec<Hash> = self.entries.iter().map(|entry| leaf(entry)).collect();
        for level in 0.. {
            let tiles: Vec<Vec<Hash>> = hashes.chunks_exact(256).map(<[Hash]>::to_vec).collect();
            if tiles.is_empty() {
                return;
            }
            for (number, tile) in tiles.iter().enumerate() {
                let path = folder.join(format!("tile/{level}/{}", tile_path(number as u64)));
                fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
                fs::write(path, tile.concat()).expect("a file");
            }
            hashes = tiles
                .iter()
                .map(|tile| {
                    let mut tree = Stack::default();
                    tile.iter().for_each(|hash| tree.push(*hash));
                    tree.root()
                })
                .collect();
        }
    }
}

/// Table and bundles of a pack.
pub(crate) fn pack_body(bundles: &[Vec<u8>]) -> Vec<u8> {
    let mut offset = 512 + 20 * bundles.len() as u64 + 4;
    let (mut table, mut body) = (Vec::new(), Vec::new());
    for plain in bundles {
        let compressed = zstd::bulk::compress(plain, 3).expect("zstd");
        table.extend_from_slice(&offset.to_be_bytes());
        table.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        table.extend_from_slice(&(plain.len() as u32).to_be_bytes());
        table.extend_from_slice(&crc32c::crc32c(&compressed).to_be_bytes());
        offset += compressed.len() as u64;
        body.extend_from_slice(&compressed);
    }
    let crc = crc32c::crc32c(&table);
    table.extend_from_slice(&crc.to_be_bytes());
    [table, body].concat()
}

fn tile_path(number: u64) -> String {
    assert!(number < 1000, "tests stay below");
    format!("{number:03}")
}

fn mark(size: u64, root: Hash, number: Option<u64>) -> Vec<u8> {
    let mut bytes = [&size.to_be_bytes()[..], &root].concat();
    bytes.extend(number.iter().flat_map(|number| number.to_be_bytes()));
    bytes
}

pub(crate) fn frame(to: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    let covered = [&[kind], payload].concat();
    to.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    to.extend_from_slice(&crc32c::crc32c(&covered).to_be_bytes());
    to.extend_from_slice(&covered);
}

pub(crate) fn header(magic: &[u8; 16], fields: &[u8], origin: &str) -> Vec<u8> {
    let length = (origin.len() as u16).to_be_bytes();
    let mut bytes = [&magic[..], fields, &length, origin.as_bytes()].concat();
    bytes.resize(508, 0);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

fn key_id(name: &str, kind: u8, key: &[u8; 32]) -> [u8; 4] {
    sha(&[name.as_bytes(), b"\n", &[kind], key])[..4].try_into().expect("4 bytes")
}

pub(crate) fn vkey(name: &str, kind: u8, key: &[u8; 32]) -> String {
    let id = hex::encode(key_id(name, kind, key));
    format!("{name}+{id}+{}", BASE64.encode([&[kind], &key[..]].concat()))
}

/// A checkpoint of any contents.
pub(crate) fn note(origin: &str, size: u64, root: Hash, host: u8) -> String {
    let text = format!("{origin}\n{size}\n{}\n", BASE64.encode(root));
    let signer = pair(host);
    let id = key_id(origin, 1, &public(&signer));
    let signature = [&id[..], signer.sign(text.as_bytes()).as_ref()].concat();
    format!("{text}\n— {origin} {}\n", BASE64.encode(signature))
}

/// A note with a witness's cosignature behind it.
pub(crate) fn cosign(note: &str, name: &str, seed: u8, time: u64) -> String {
    let text = &note[..=note.rfind("\n\n").expect("a note")];
    let signer = pair(seed);
    let message = format!("cosignature/v1\ntime {time}\n{text}");
    let id = key_id(name, 4, &public(&signer));
    let signed = signer.sign(message.as_bytes());
    let signature = [&id[..], &time.to_be_bytes(), signed.as_ref()].concat();
    format!("{note}— {name} {}\n", BASE64.encode(signature))
}
