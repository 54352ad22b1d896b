//! Rows 2 to 6: entries that are altered, deleted, added and moved.

use std::fs;

use crate::log::Log;
use crate::scene::{Scene, edit, large, rewritten, sessions, with};

pub(crate) fn edited_small() -> Scene {
    with(sessions(30), |scene| scene.edit(0, 40))
}

pub(crate) fn edited_tiled() -> Scene {
    with(sessions(110), |scene| scene.edit(0, 40))
}

/// A packed segment of 300 entries or so, with tiles.
pub(crate) fn packed() -> Log {
    let mut log = sessions(110);
    log.segments = vec![*log.batches.iter().find(|end| **end >= 300).expect("a batch")];
    log.packed = vec![0];
    log
}

pub(crate) fn edited_packed() -> Scene {
    rewritten(packed(), |log| {
        // Only the bundle is made anew: its header keeps the roots, as the trailers are gone.
        edit(&mut log.entries[40]);
    })
    .keeping_pack_roots()
}

pub(crate) fn rotten_tiled() -> Scene {
    with(sessions(110), |scene| {
        let (at, length) = scene.place(0, 40);
        scene.change(scene.segment(0, "log"), |bytes| bytes[(at + length) as usize - 1] ^= 1);
    })
}

pub(crate) fn forge(scene: &mut Scene, first: u64, index: u64) {
    let mut entry = scene.log.entries[index as usize].clone();
    edit(&mut entry);
    scene.edit(first, index);
    if index < scene.log.size() / 256 * 256 {
        scene.forge_tile(index, &entry);
    }
}

pub(crate) fn forged_small() -> Scene {
    with(sessions(110), |scene| forge(scene, 0, 40))
}

pub(crate) fn forged_65536() -> Scene {
    with(large(65_536), |scene| forge(scene, 0, 9970))
}

pub(crate) fn forged_70000() -> Scene {
    with(large(70_000), |scene| forge(scene, 0, 9970))
}

pub(crate) fn forged_70000_right() -> Scene {
    with(large(70_000), |scene| forge(scene, 0, 69_990))
}

pub(crate) fn forged_packed() -> Scene {
    with(packed(), |scene| {
        let mut entry = scene.log.entries[40].clone();
        edit(&mut entry);
        scene.forge_tile(40, &entry);
        scene.log.entries[40] = entry;
        scene.rewrite_segments();
    })
}

pub(crate) fn rebuilt() -> Scene {
    with(sessions(110), |scene| {
        edit(&mut scene.log.entries[40]);
        scene.rewrite_segments();
        scene.log.write_tiles(&scene.epoch());
    })
}

pub(crate) fn resigned() -> Scene {
    with(sessions(110), |scene| {
        let seen = fs::read(scene.epoch().join("cosigned")).expect("a file");
        let anchor = scene.folder.path().join("anchor");
        fs::write(&anchor, seen).expect("a file");
        scene.options.anchors = vec![anchor];
        edit(&mut scene.log.entries[40]);
        fs::remove_dir_all(scene.epoch()).expect("our own");
        scene.log.write(&scene.trail());
    })
}

pub(crate) fn deleted(scene: &Scene) {
    let (at, length) = scene.place(0, 40);
    scene.replace(0, at, length, &[]);
}

pub(crate) fn deleted_tiled() -> Scene {
    with(sessions(110), |scene| deleted(scene))
}

pub(crate) fn deleted_small() -> Scene {
    with(sessions(30), |scene| deleted(scene))
}

pub(crate) fn duplicated() -> Scene {
    with(sessions(30), |scene| {
        let (at, length) = scene.place(0, 40);
        let entry = scene.log.entries[40].clone();
        scene.replace(0, at, length, &[(1, &entry), (1, &entry)]);
    })
}

pub(crate) fn inserted() -> Scene {
    with(sessions(110), |scene| {
        let (at, length) = scene.place(0, 40);
        let (entry, mut other) = (scene.log.entries[40].clone(), scene.log.entries[60].clone());
        edit(&mut other);
        scene.replace(0, at, length, &[(1, &entry), (1, &other)]);
    })
}

pub(crate) fn swapped() -> Scene {
    rewritten(sessions(110), |log| log.entries.swap(40, 44)).keeping_marks()
}

pub(crate) fn swapped_in_batch() -> Scene {
    with(sessions(30), |scene| {
        let (at, one) = scene.place(0, 2);
        let (_, other) = scene.place(0, 3);
        let (first, second) = (scene.log.entries[2].clone(), scene.log.entries[3].clone());
        scene.replace(0, at, one + other, &[(1, &second), (1, &first)]);
    })
}

impl Scene {
    /// Puts the roots of the log as it was sealed back into the header of the pack.
    fn keeping_pack_roots(self) -> Self {
        let sealed = sessions(110);
        let end = self.log.segments[0];
        self.change(self.segment(0, "pack"), |bytes| {
            bytes[64..96].copy_from_slice(&sealed.root_at(end));
            let crc = crc32c::crc32c(&bytes[..508]);
            bytes[508..512].copy_from_slice(&crc.to_be_bytes());
        });
        self
    }

    /// Puts the trailers of the log as it was sealed behind the changed entries.
    fn keeping_marks(self) -> Self {
        let sealed = Scene::new(sessions(110));
        let original = fs::read(sealed.segment(0, "log")).expect("a file");
        self.change(self.segment(0, "log"), |bytes| {
            let mut at = 512;
            while bytes[at..at + 8] != [0; 8] {
                let count = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
                let whole = at..at + 9 + count as usize;
                if bytes[at + 8] == 3 {
                    bytes[whole.clone()].copy_from_slice(&original[whole.clone()]);
                }
                at = whole.end;
            }
        });
        self
    }
}
