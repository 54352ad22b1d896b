//! Member offsets from the running kernel's BTF.
//!
//! Rust emits no CO-RE relocations, so the loader looks the offsets up and puts them into the programs' read-only data. Only
//! what that needs is read: names, structures, members, enumerators. Source: Documentation/bpf/btf.rst of the kernel.

use std::{collections::HashMap, fs, io, path::Path};

use pgward_common::Offsets;
use thiserror::Error;

const MAGIC: u16 = 0xeb9f;
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// A kernel's BTF is about 6 MB; anything much larger is not one.
const BTF_BYTES_MAX: u64 = 256 << 20;
/// Anonymous structures are looked into this deep.
const NESTING_MAX: u32 = 8;

/// Why no offsets could be had.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file can't be read; kernels without `CONFIG_DEBUG_INFO_BTF` have none.
    #[error("cannot read kernel type information `{VMLINUX}`")]
    Read(#[source] io::Error),
    /// The file is not BTF as documented.
    #[error("kernel type information is malformed at byte {offset}: expected {expected}")]
    Malformed {
        /// Where.
        offset: usize,
        /// What should have been there.
        expected: &'static str,
    },
}

/// Structures and enumerators of the running kernel, by name.
#[derive(Debug)]
pub struct KernelTypes {
    structs: HashMap<Box<str>, u32>,
    enumerators: Vec<Box<str>>,
    types: Vec<Type>,
}

#[derive(Debug)]
enum Type {
    Composite(Vec<Member>),
    /// Typedef, const, volatile, restrict: stands for another type.
    Alias(u32),
    Other,
}

#[derive(Debug)]
struct Member {
    name: Box<str>,
    type_id: u32,
    bits: u32,
}

impl KernelTypes {
    /// Reads the running kernel's BTF.
    pub fn of_running_kernel() -> Result<Self, BtfError> {
        let path = Path::new(VMLINUX);
        let size = fs::metadata(path).map_err(BtfError::Read)?.len();
        if size > BTF_BYTES_MAX {
            return Err(BtfError::Malformed { offset: 0, expected: "at most 256 MiB" });
        }
        Self::parse(&fs::read(path).map_err(BtfError::Read)?, Self::WANTED)
    }

    const WANTED: &'static [&'static str] =
        &["task_struct", "mm_struct", "file", "inode", "super_block", "tcp_sock"];

    /// Parses BTF in the machine's byte order. Members are kept only for the structures in `wanted` and for anonymous ones.
    pub fn parse(data: &[u8], wanted: &[&str]) -> Result<Self, BtfError> {
        let r = Reader(data);
        if r.u16(0)? != MAGIC {
            return Err(BtfError::Malformed { offset: 0, expected: "magic 0xeb9f" });
        }
        let header = r.u32(4)? as usize;
        let types = header + r.u32(8)? as usize;
        let types_end = types + r.u32(12)? as usize;
        let strings = header + r.u32(16)? as usize;
        let mut all =
            Self { structs: HashMap::new(), enumerators: Vec::new(), types: vec![Type::Other] };
        let mut at = types;
        while at < types_end {
            let name = r.name(strings, r.u32(at)?)?;
            let info = r.u32(at + 4)?;
            let (count, kind, flag) =
                ((info & 0xffff) as usize, (info >> 24) & 0x1f, info >> 31 != 0);
            let body = at + 12;
            let kept = match kind {
                4 | 5 => {
                    let keep = name.is_empty() || wanted.contains(&name);
                    let mut members = Vec::new();
                    for i in 0..if keep { count } else { 0 } {
                        let m = body + i * 12;
                        let offset = r.u32(m + 8)?;
                        members.push(Member {
                            name: r.name(strings, r.u32(m)?)?.into(),
                            type_id: r.u32(m + 4)?,
                            // With the kind flag the upper byte is a bit-field size.
                            bits: if flag { offset & 0x00ff_ffff } else { offset },
                        });
                    }
                    if keep && kind == 4 && !name.is_empty() {
                        // The first definition wins; modules may carry others of the same name.
                        let id = all.types.len() as u32;
                        all.structs.entry(name.into()).or_insert(id);
                    }
                    Type::Composite(members)
                }
                6 => {
                    for i in 0..count {
                        let enumerator = r.name(strings, r.u32(body + i * 8)?)?;
                        if enumerator.contains("BPF_") {
                            all.enumerators.push(enumerator.into());
                        }
                    }
                    Type::Other
                }
                8..=11 => Type::Alias(r.u32(at + 8)?),
                _ => Type::Other,
            };
            all.types.push(kept);
            at = body
                + match kind {
                    1 | 14 | 17 => 4,              // int, var, decl tag
                    3 => 12,                       // array
                    4 | 5 | 15 | 19 => count * 12, // struct, union, data section, enum64
                    6 | 13 => count * 8,           // enum, function prototype
                    2 | 7..=12 | 16 | 18 => 0,
                    _ => return Err(BtfError::Malformed { offset: at, expected: "a known kind" }),
                };
        }
        Ok(all)
    }

    /// Whether the kernel defines an enumerator of this name (only names with `BPF_` are kept).
    pub fn has_enumerator(&self, name: &str) -> bool {
        self.enumerators.iter().any(|e| &**e == name)
    }

    /// Byte offset of a member, looked for in anonymous structures and unions too. `None`: no such structure or member.
    pub fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        let id = *self.structs.get(structure)?;
        self.bits(id, member, 0).filter(|bits| bits % 8 == 0).map(|bits| bits / 8)
    }

    /// The offsets that the programs use; 0 for what this kernel does not have. All members of one purpose are given or none.
    pub fn offsets(&self) -> Offsets {
        let mut o = Offsets::default();
        if let (Some(leader), Some(start), Some(exec)) = (
            self.offset("task_struct", "group_leader"),
            self.offset("task_struct", "start_boottime"),
            self.offset("task_struct", "self_exec_id"),
        ) {
            (o.task_group_leader, o.task_start_boottime, o.task_self_exec_id) =
                (leader, start, exec);
        }
        if let (Some(mm), Some(file), Some(inode), Some(ino), Some(sb), Some(dev)) = (
            self.offset("task_struct", "mm"),
            self.offset("mm_struct", "exe_file"),
            self.offset("file", "f_inode"),
            self.offset("inode", "i_ino"),
            self.offset("inode", "i_sb"),
            self.offset("super_block", "s_dev"),
        ) {
            (o.task_mm, o.mm_exe_file, o.file_f_inode) = (mm, file, inode);
            (o.inode_i_ino, o.inode_i_sb, o.super_block_s_dev) = (ino, sb, dev);
        }
        o.tcp_write_seq = self.offset("tcp_sock", "write_seq").unwrap_or(0);
        o
    }

    fn bits(&self, id: u32, member: &str, depth: u32) -> Option<u32> {
        if depth > NESTING_MAX {
            return None;
        }
        match self.types.get(id as usize)? {
            Type::Composite(members) => members.iter().find_map(|m| {
                if &*m.name == member {
                    Some(m.bits)
                } else if m.name.is_empty() {
                    self.bits(m.type_id, member, depth + 1).map(|inner| m.bits + inner)
                } else {
                    None
                }
            }),
            Type::Alias(id) => self.bits(*id, member, depth + 1),
            Type::Other => None,
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u16(&self, at: usize) -> Result<u16, BtfError> {
        self.bytes(at).map(u16::from_ne_bytes)
    }

    fn u32(&self, at: usize) -> Result<u32, BtfError> {
        self.bytes(at).map(u32::from_ne_bytes)
    }

    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], BtfError> {
        let slice = self.0.get(at..).and_then(|rest| rest.first_chunk::<N>());
        slice.copied().ok_or(BtfError::Malformed { offset: at, expected: "more bytes" })
    }

    fn name(&self, strings: usize, offset: u32) -> Result<&'a str, BtfError> {
        let at = strings.saturating_add(offset as usize);
        let malformed = BtfError::Malformed { offset: at, expected: "a zero-terminated name" };
        let rest = self.0.get(at..).unwrap_or_default();
        let Some(end) = rest.iter().take(512).position(|b| *b == 0) else { return Err(malformed) };
        std::str::from_utf8(&rest[..end]).map_err(|_| malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A structure `s { int a; struct { int b; int c; }; }` and an enumeration, laid out by hand.
    fn sample() -> Vec<u8> {
        let strings = b"\0s\0a\0b\0c\0BPF_X\0int\0";
        let mut types: Vec<u32> = Vec::new();
        types.extend([16, 1 << 24, 4, 32]); // 1: int, 4 bytes
        types.extend([0, (4 << 24) | 2, 8, 5, 1, 0, 7, 1, 32]); // 2: anonymous { b; c }
        types.extend([1, (4 << 24) | 2, 12, 3, 1, 0, 0, 2, 32]); // 3: s { a; anonymous }
        types.extend([0, (6 << 24) | 1, 4, 9, 7]); // 4: enum { BPF_X = 7 }
        let mut data = Vec::new();
        data.extend(MAGIC.to_ne_bytes());
        data.extend([1, 0]);
        for v in [24, 0, types.len() as u32 * 4, types.len() as u32 * 4, strings.len() as u32] {
            data.extend(v.to_ne_bytes());
        }
        data.extend(types.iter().flat_map(|t| t.to_ne_bytes()));
        data.extend(strings);
        data
    }

    #[test]
    fn finds_members_in_anonymous_structures() {
        let types = KernelTypes::parse(&sample(), &["s"]).expect("well-formed");
        assert_eq!(types.offset("s", "a"), Some(0));
        assert_eq!(types.offset("s", "c"), Some(8));
        assert_eq!(types.offset("s", "d"), None);
        assert_eq!(types.offset("t", "a"), None);
        assert!(types.has_enumerator("BPF_X"));
    }

    #[test]
    fn every_prefix_is_refused_or_parsed_without_panic() {
        let data = sample();
        for end in 0..data.len() {
            let _ = KernelTypes::parse(&data[..end], &["s"]);
        }
        assert!(KernelTypes::parse(&data[..40], &["s"]).is_err());
    }
}
