//! Any bytes as an entry of the log: the strict decoder refuses or knows all of it, and what it takes
//! can be shown, taken apart again and joined with others.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgward::audit::view::{self, Joined};
use pgward_fuzz::pieces;
use pgward_verify::{Entry, cbor::Map};

fuzz_target!(|data: &[u8]| {
    one(data);
    // What one entry says decides how the next is read.
    let mut joined = Joined::default();
    for (index, entry) in pieces(data).enumerate() {
        one(entry);
        // An entry that can't be read is left out, as readers do.
        let _ = joined.push(index as u64, entry);
    }
    joined.finish(u64::MAX);
});

fn one(bytes: &[u8]) {
    let shown = view::object(bytes);
    let kind = view::kind(bytes);
    let Ok(entry) = Entry::decode(bytes) else { return };
    // Whatever the strict reader takes, the lenient one shows, and both name the same fields.
    let shown = shown.expect("a canonical entry can be shown");
    // Bytes that are no text have a second member that says how they are written.
    assert!(shown.len() >= entry.fields().count());
    assert_eq!(entry.bytes(), bytes);
    assert!(kind.is_none_or(|kind| kind.number() == entry.event()));
    let map = Map::decode(bytes).expect("an entry is a map");
    for (field, value) in entry.fields() {
        assert_eq!(entry.get(field), Some(value));
        assert_eq!(map.get(field), Some(value));
    }
}
