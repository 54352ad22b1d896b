//! However the bytes are cut, the same bytes pass and the same events come.

use proptest::prelude::*;

use super::*;

/// A conversation that visits most states.
fn conversation() -> Vec<Step> {
    let client = |parts: &[&[u8]]| Step::Client(parts.concat());
    let server = |parts: &[&[u8]]| Step::Server(parts.concat());
    vec![
        server(&[&setting("a", "b")]),
        client(&[&query("select 1; select 2")]),
        server(&[&columns(), &row(b"1"), &row(b"2"), &complete("SELECT 2"), &notice()]),
        server(&[&complete("SELECT 0"), &z('I')]),
        client(&[&parse_typed("s", "select $1", &[23]), &describe(Target::Statement, "s")]),
        client(&[&bind_values("", "s", &[1], &[Some(b"12"), None]), &execute(""), &sync()]),
        server(&[PARSED, &parameter_types(&[23, 25]), &columns(), BOUND, &row(b"x"), &row(b"y")]),
        server(&[&notification(), &complete("SELECT 2"), &z('I')]),
        client(&[&query("copy"), &data(b"1\n2"), &flush(), &sync(), &data(b"\n3"), &copy_done()]),
        server(&[&copy_response(b'G', 0)]),
        client(&[&bind("", "missing"), &execute(""), &query("skipped"), &sync(), &sync()]),
        server(&[&complete("COPY 3"), &z('I')]),
        server(&[&error("ERROR", "26000"), &z('I'), &z('T')]),
        client(&[&function_call(7, b"arg")]),
        server(&[&back(Backend::FunctionCallResponse(None)), &z('T')]),
        client(&[&query("copy out")]),
        server(&[&copy_response(b'H', 0), &data(b"a\n"), &data(b"b\n"), &copy_done()]),
        server(&[&complete("COPY 2"), &z('I')]),
        client(&[&parse("", "last"), &bind("", ""), &execute(""), &flush()]),
        server(&[PARSED, BOUND, &error("FATAL", "57P01")]),
    ]
}

fn run(gate: Gate, steps: &[Step], cut: &mut dyn FnMut(usize) -> usize) -> Driver {
    let mut driver = Driver::with(gate, Limits::default());
    for step in steps {
        driver.now += 1;
        let (make, mut bytes): (fn(Vec<u8>) -> Step, _) = match step {
            Step::Client(bytes) => (Step::Client, &bytes[..]),
            Step::Server(bytes) => (Step::Server, &bytes[..]),
        };
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(cut(bytes.len()).clamp(1, bytes.len()));
            driver.feed_part(&make(part.to_vec())).expect("conversation is in order");
            bytes = rest;
        }
    }
    driver.close();
    driver
}

fn sent(steps: &[Step]) -> (Vec<u8>, Vec<u8>) {
    let (mut client, mut server) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Client(bytes) => client.extend_from_slice(bytes),
            Step::Server(bytes) => server.extend_from_slice(bytes),
        }
    }
    (client, server)
}

#[test]
fn byte_by_byte_is_as_at_once() {
    let steps = conversation();
    let (client, server) = sent(&steps);
    for gate in [Gate::Hold, Gate::Pass] {
        let at_once = run(gate, &steps, &mut |bytes| bytes);
        assert_eq!((&at_once.to_server, &at_once.to_client), (&client, &server));
        assert!(at_once.events.len() > 20);
        let bytewise = run(gate, &steps, &mut |_| 1);
        assert_eq!((&bytewise.to_server, &bytewise.to_client), (&client, &server));
        assert_eq!(bytewise.events, at_once.events);
        assert_eq!(bytewise.session.counters(), at_once.session.counters());
    }
}

#[test]
fn every_single_split_is_as_at_once() {
    let steps = conversation();
    let at_once = run(Gate::Hold, &steps, &mut |bytes| bytes);
    let longest = sent(&steps).0.len().max(sent(&steps).1.len());
    for at in 1..longest {
        let split = run(Gate::Hold, &steps, &mut |bytes| if bytes > at { at } else { bytes });
        assert_eq!(split.events, at_once.events, "split at {at}");
    }
}

/// Messages of the client, in no sensible order.
fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![Just(""), Just("a"), Just("b")];
    prop_oneof![
        "[a-z]{0,20}".prop_map(|text| query(&text)),
        (name.clone(), "[a-z]{0,20}").prop_map(|(name, text)| parse(name, &text)),
        (name.clone(), name.clone(), any::<Vec<u8>>()).prop_map(|(p, s, value)| bind_values(
            p,
            s,
            &[1],
            &[Some(&value[..])]
        )),
        name.clone().prop_map(execute),
        name.clone().prop_map(|name| describe(Target::Statement, name)),
        name.clone().prop_map(|name| describe(Target::Portal, name)),
        name.clone().prop_map(|name| close(Target::Statement, name)),
        name.prop_map(|name| close(Target::Portal, name)),
        Just(sync()),
        Just(flush()),
        Just(copy_done()),
        any::<Vec<u8>>().prop_map(|bytes| data(&bytes)),
        any::<Vec<u8>>().prop_map(|bytes| function_call(1, &bytes)),
    ]
}

proptest! {
    #[test]
    fn random_cuts_are_as_at_once(cuts in prop::collection::vec(1_usize..40, 1..50)) {
        let steps = conversation();
        let at_once = run(Gate::Hold, &steps, &mut |bytes| bytes);
        let mut cuts = cuts.iter().cycle();
        let cut = run(Gate::Hold, &steps, &mut |_| *cuts.next().expect("cycle"));
        prop_assert_eq!(&cut.to_server, &at_once.to_server);
        prop_assert_eq!(&cut.to_client, &at_once.to_client);
        prop_assert_eq!(&cut.events, &at_once.events);
    }

    #[test]
    fn any_requests_pass_the_same_whatever_their_order_and_cuts(
        requests in prop::collection::vec(any_request(), 0..60),
        cuts in prop::collection::vec(1_usize..60, 1..20),
    ) {
        let steps: Vec<_> = requests.into_iter().map(Step::Client).collect();
        let at_once = run(Gate::Hold, &steps, &mut |bytes| bytes);
        // Nothing answers, so COPY data behind a Sync waits.
        prop_assert!(sent(&steps).0.starts_with(&at_once.to_server));
        let mut cuts = cuts.iter().cycle();
        let cut = run(Gate::Hold, &steps, &mut |_| *cuts.next().expect("cycle"));
        prop_assert_eq!(&cut.to_server, &at_once.to_server);
        prop_assert_eq!(&cut.events, &at_once.events);
    }
}
