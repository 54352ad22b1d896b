//! Conversations of mostly well-formed messages of both sides in any order, at once and byte by
//! byte; with everything let through, and with decisions of every kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgward::pg::session::Gate;
use pgward_fuzz::{Driver, Op, SECRET, frames, ops};

fuzz_target!(|data: &[u8]| {
    let Some((options, data)) = data.split_first() else { return };
    if options & 2 != 0 {
        decided(data);
        return;
    }
    let gate = if options & 1 == 0 { Gate::Hold } else { Gate::Pass };
    compare(Driver::new(gate), Driver::new(gate), data);
});

fn compare(mut at_once: Driver, mut bytewise: Driver, data: &[u8]) -> Driver {
    for (number, op) in ops(data).into_iter().enumerate() {
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
        if at_once.is_deciding() && number % 5 == 4 {
            at_once.ask();
            bytewise.ask();
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
    at_once
}

/// What is refused never reaches the server, and both sides get whole messages.
fn decided(data: &[u8]) {
    let Some((decisions, data)) = data.split_at_checked(8) else { return };
    let driver = compare(Driver::deciding(decisions), Driver::deciding(decisions), data);
    let holds = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET);
    // Raw bytes of the input may say it in COPY data, too.
    if !holds(data) {
        assert!(!holds(&driver.to_server), "a refused statement reached the server");
    }
    frames(&driver.to_server);
    frames(&driver.to_client);
}
