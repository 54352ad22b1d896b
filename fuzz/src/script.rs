//! Conversations from fuzz bytes.

/// Takes small things from fuzz bytes; nothing more once they are used up.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// Next byte.
    pub fn u8(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// Next few bytes, their number in front.
    pub fn few(&mut self) -> &'a [u8] {
        let count = usize::from(self.u8().unwrap_or(0)).min(self.0.len());
        let (few, rest) = self.0.split_at(count);
        self.0 = rest;
        few
    }
}

/// One act of a conversation.
pub enum Op {
    /// The client sends.
    Client(Vec<u8>),
    /// The server sends.
    Server(Vec<u8>),
}

/// Reads a conversation: messages by template, and now and then raw bytes.
pub fn ops(data: &[u8]) -> Vec<Op> {
    let mut bytes = Bytes(data);
    let mut ops = Vec::new();
    while let Some(op) = bytes.u8() {
        ops.push(match op {
            0..=0x6f => Op::Client(request(op, &mut bytes)),
            0x70..=0x7f => Op::Client(bytes.few().to_vec()),
            0x80..=0xef => Op::Server(answer(op, &mut bytes)),
            0xf0..=0xff => Op::Server(bytes.few().to_vec()),
        });
    }
    ops
}

/// Requests up to a byte 0xff.
pub fn requests(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut requests = Vec::new();
    while let Some(op) = bytes.u8()
        && op != 0xff
    {
        requests.extend(request(op, bytes));
    }
    requests
}

fn request(op: u8, bytes: &mut Bytes<'_>) -> Vec<u8> {
    match op % 16 {
        14 => frame(b'Q', &[b"select 1; select sesame\0"]),
        15 => frame(b'P', &[name(op), b"select sesame\0\0\0"]),
        0 => frame(b'Q', &[b"select 1\0"]),
        1 => frame(b'P', &[name(op), b"select $1\0\0\x01\0\0\0\x17"]),
        2 => frame(b'B', &[name(op), name(op / 3), b"\0\0\0\x01\0\0\0\x01x\0\0"]),
        3 => frame(b'E', &[name(op), b"\0\0\0\0"]),
        4 => frame(b'D', &[b"S", name(op)]),
        5 => frame(b'D', &[b"P", name(op)]),
        6 => frame(b'C', &[b"S", name(op)]),
        7 => frame(b'C', &[b"P", name(op)]),
        8 => frame(b'S', &[]),
        9 => frame(b'H', &[]),
        10 => frame(b'd', &[bytes.few()]),
        11 => frame(if op < 70 { b'c' } else { b'f' }, &[]),
        12 => frame(b'F', &[b"\0\0\0\x01\0\0\0\0\0\0"]),
        _ => frame(b'Q', &[bytes.few(), b"\0"]),
    }
}

fn answer(op: u8, bytes: &mut Bytes<'_>) -> Vec<u8> {
    match op % 24 {
        0 => frame(b'1', &[]),
        1 => frame(b'2', &[]),
        2 => frame(b'3', &[]),
        3 => frame(b'n', &[]),
        4 => frame(b't', &[b"\0\x01\0\0\0\x17"]),
        5 => frame(b'T', &[b"\0\0"]),
        6 => frame(b'D', &[b"\0\x01", &[0, 0, 0, 1], b"x"]),
        7 => frame(b'C', &[b"SELECT 1\0"]),
        8 => frame(b'I', &[]),
        9 => frame(b's', &[]),
        10 => frame(b'Z', &[b"I"]),
        11 => frame(b'Z', &[b"T"]),
        12 => frame(b'Z', &[b"E"]),
        13 if op >= 0xd0 => frame(b'E', &[b"SERROR\0VERROR\0C57014\0\0"]),
        13 if op >= 0xa0 => {
            frame(b'E', &[b"SERROR\0VERROR\0C42703\0Mno \"pgward: denied by policy\"\0\0"])
        }
        13 => frame(b'E', &[b"SERROR\0VERROR\0C22012\0\0"]),
        14 => frame(b'E', &[b"SFATAL\0VFATAL\0C57P01\0\0"]),
        15 => frame(b'G', &[&[op & 1], b"\0\0"]),
        16 => frame(b'H', &[&[op & 1], b"\0\0"]),
        17 => frame(b'W', &[&[op & 1], b"\0\0"]),
        18 => frame(b'd', &[bytes.few()]),
        19 => frame(b'c', &[]),
        20 => frame(b'N', &[b"SNOTICE\0\0"]),
        21 => frame(b'S', &[b"a\0b\0"]),
        22 => frame(b'V', &[&[0xff; 4]]),
        _ => frame(b'C', &[TAGS[usize::from(op) % TAGS.len()]]),
    }
}

const TAGS: &[&[u8]] =
    &[b"PREPARE\0", b"DEALLOCATE\0", b"COMMIT\0", b"DECLARE CURSOR\0", b"CLOSE CURSOR\0"];

/// The unnamed one, short ones, and two that are alike in what the server reads.
fn name(seed: u8) -> &'static [u8] {
    const LONG: &[u8] = b"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnx\0";
    match (seed / 14) % 5 {
        0 | 1 => b"\0",
        2 => b"a\0",
        3 => b"b\0",
        _ => LONG,
    }
}

fn frame(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>() as u32;
    let mut frame = vec![tag];
    frame.extend(length.to_be_bytes());
    frame.extend(parts.concat());
    frame
}
