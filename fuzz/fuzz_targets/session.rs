//! Conversations of mostly well-formed messages of both sides in any order, at once and byte by
//! byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgward::pg::session::Gate;
use pgward_fuzz::{Driver, Op, ops};

fuzz_target!(|data: &[u8]| {
    let Some((options, data)) = data.split_first() else { return };
    let gate = if options & 1 == 0 { Gate::Hold } else { Gate::Pass };
    let mut at_once = Driver::new(gate);
    let mut bytewise = Driver::new(gate);
    for op in ops(data) {
        at_once.tick();
        bytewise.tick();
        match op {
            Op::Client(bytes) => {
                at_once.client(&bytes);
                bytes.chunks(1).for_each(|byte| bytewise.client(byte));
            }
            Op::Server(bytes) => {
                at_once.server(&bytes);
                bytes.chunks(1).for_each(|byte| bytewise.server(byte));
            }
        }
        // An error ends a session; behind it the two may have seen different parts of the act.
        if at_once.error.is_some() {
            break;
        }
    }
    at_once.close();
    bytewise.close();
    if !bytewise.crossed && !at_once.crossed {
        assert_eq!(bytewise.outcome(), at_once.outcome());
    }
});
