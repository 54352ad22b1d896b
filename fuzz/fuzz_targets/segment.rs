//! Any bytes in the place of the files of an epoch: raw and packed segments and sealed values. Readers
//! give entries in order or an error, within bounds, and the verifier ends with a report.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgward_fuzz::{Bytes, Folder, Mended, options};
use pgward_verify::cbor::ENTRY_BYTES_MAX;
use pgward_verify::pack::{Pack, split};
use pgward_verify::segment::Segment;
use pgward_verify::values::ValuesFile;
use pgward_verify::{Epoch, verify_dir};

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let choice = bytes.u8().unwrap_or(0);
    let mended = if choice & 1 == 0 { Mended::Yes } else { Mended::No };
    let folder = Folder::new();
    match choice >> 1 & 3 {
        0 => drop(folder.segment("log", bytes.0, mended)),
        1 => drop(folder.segment("pack", bytes.0, mended)),
        2 => drop(folder.segment("values", bytes.0, mended)),
        // Both of a pair, or two segments one behind the other.
        _ => {
            let forms = [["pack", "values"], ["log", "log"], ["pack", "log"], ["log", "pack"]];
            let forms = forms[usize::from(choice >> 3 & 3)];
            let at =
                usize::from(bytes.u8().unwrap_or(0)) << 8 | usize::from(bytes.u8().unwrap_or(0));
            let (one, other) = bytes.0.split_at(at.min(bytes.0.len()));
            folder.segment(forms[0], one, mended);
            folder.segment(forms[1], other, mended);
        }
    }
    for path in folder.files() {
        alone(&path);
    }
    let epoch = Epoch::open(folder.epoch(), 1).expect("the folder is there");
    let mut entries = epoch.entries();
    let mut expected = None;
    let mut seen = 0_u64;
    while let Ok(Some(record)) = entries.next() {
        assert!(expected.is_none_or(|expected| record.index >= expected), "entries go forward");
        assert!(record.bytes.len() <= usize::from(u16::MAX).max(ENTRY_BYTES_MAX));
        expected = Some(record.index + 1);
        seen += 1;
        assert!(seen <= data.len() as u64 * 4096, "more entries than such a file can hold");
    }
    if let Some(expected) = expected {
        let _ = entries.get(expected - 1);
        let _ = entries.get(expected / 2);
    }
    let _ = verify_dir(&options(folder.path()));
});

fn alone(path: &std::path::Path) {
    let _ = Segment::open(path).map(|segment| assert!(segment.end() >= segment.header().first));
    let _ = ValuesFile::open(path);
    let Ok(mut pack) = Pack::open(path) else { return };
    for number in 0..pack.lines().len() {
        let range = pack.range(number);
        if let Ok((plain, true)) = pack.bundle(number)
            && let Ok(entries) = split(plain, range.end - range.start)
        {
            assert_eq!(entries.count() as u64, range.end - range.start);
        }
    }
}
