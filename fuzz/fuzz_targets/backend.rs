//! Any bytes of a server behind well-formed requests: the same promises as for a client.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgward::pg::session::Gate;
use pgward_fuzz::{Bytes, Driver, requests};

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let options = bytes.u8().unwrap_or(0);
    let cuts = bytes.few();
    let requests = requests(&mut bytes);
    let gate = if options & 1 == 0 { Gate::Hold } else { Gate::Pass };
    let make = || {
        let mut driver = Driver::new(gate);
        driver.to_client.clear();
        driver.client(&requests);
        driver
    };

    let mut at_once = make();
    at_once.server(bytes.0);
    at_once.close();
    assert!(bytes.0.starts_with(&at_once.to_client));

    let mut cut = make();
    let mut rest = bytes.0;
    let mut cuts = cuts.iter().map(|cut| usize::from(*cut) % 32 + 1).cycle();
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
        cut.server(part);
        rest = behind;
    }
    cut.close();
    if !cut.crossed && !at_once.crossed {
        assert_eq!(cut.outcome(), at_once.outcome());
    }
});
