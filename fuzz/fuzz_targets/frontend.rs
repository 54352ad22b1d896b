//! Any bytes of a client: what passes and what is told does not depend on how they are cut, and
//! nothing is kept beyond the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgward::pg::session::Gate;
use pgward_fuzz::{Bytes, Driver};

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let options = bytes.u8().unwrap_or(0);
    let cuts = bytes.few();
    let gate = if options & 1 == 0 { Gate::Hold } else { Gate::Pass };
    let make = || Driver::new(gate);

    let mut at_once = make();
    at_once.client(bytes.0);
    at_once.close();
    assert!(bytes.0.starts_with(&at_once.to_server));

    let mut cut = make();
    let mut rest = bytes.0;
    let mut cuts = cuts.iter().map(|cut| usize::from(*cut) % 32 + 1).cycle();
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
        cut.client(part);
        rest = behind;
    }
    cut.close();
    assert_eq!(cut.outcome(), at_once.outcome());
});
