use super::*;
use crate::pg::codec::HEADER_BYTES;
use crate::pg::error::{BytesFault, SequenceFault, Side};

#[test]
fn query_is_reported_with_rows_times_span_and_status() {
    let mut driver = Driver::ready();
    let text = "select x from t";
    driver.client(&[&query(text)]);
    assert_eq!(driver.session.state(), State::Active);
    driver.server(&[&columns(), &row(b"abc")]);
    driver.server(&[&row(b""), &complete("SELECT 2"), &z('T')]);
    let start = driver.now - 2;
    let statement = driver.one_done();
    assert_eq!((statement.id, statement.kind), (StatementId(1), Kind::Simple));
    assert_eq!((&*statement.text, statement.text_bytes), (text.as_bytes(), text.len()));
    assert_eq!(statement.text_state, TextState::Exact);
    assert_eq!(statement.span, Span { start: 0, end: query(text).len() as u64 });
    assert_eq!((statement.rows, statement.row_bytes), (2, 2 * 6 + 3));
    assert_eq!(statement.tag.as_bytes(), b"SELECT 2");
    assert_eq!((statement.results_total, statement.results.len()), (1, 0));
    assert_eq!(statement.outcome, Outcome::Completed);
    assert_eq!(statement.transaction, Some(TransactionStatus::Open));
    let times = (statement.started, statement.first_response, statement.done);
    assert_eq!(times, (start, Some(start + 1), start + 2));
    assert_eq!(driver.session.state(), State::IdleInTransaction);
}

#[test]
fn nothing_passes_behind_a_statement_that_waits() {
    let mut session = Session::new(Limits::default(), Gate::Hold, 100, authenticated());
    let input = [sync(), query("select 1"), sync()].concat();
    assert_eq!(session.handle_frontend(1, &input), Ok(Passed::as_is(5)));
    assert_eq!(session.handle_frontend(1, &input[5..]), Ok(Passed::as_is(0)));
    let Some(Event::StatementReady(ready)) = session.poll_event() else {
        panic!("expected a statement");
    };
    assert_eq!(session.poll_event(), None);
    assert_eq!((&*ready.text, ready.span.start), (&b"select 1"[..], 105));
    session.handle_decision(StatementId(ready.id.0 + 1), forward(ready.id));
    session.handle_decision(ready.id, forward(StatementId(ready.id.0 + 1)));
    assert_eq!(session.handle_frontend(1, &input[5..]), Ok(Passed::as_is(0)));
    session.handle_decision(ready.id, forward(ready.id));
    assert_eq!(session.handle_frontend(1, &input[5..]), Ok(Passed::as_is(input.len() - 5)));
    assert_eq!(session.frontend_offset(), 100 + input.len() as u64);
}

#[test]
fn open_gate_tells_of_statements_and_lets_them_pass() {
    let mut driver = Driver::with(Gate::Pass, Limits::default());
    let input = [query("select 1"), query("select 2")].concat();
    assert_eq!(driver.session.handle_frontend(1, &input), Ok(Passed::as_is(input.len())));
    let ready = std::iter::from_fn(|| driver.session.poll_event());
    assert_eq!(ready.filter(|event| matches!(event, Event::StatementReady(_))).count(), 2);
}

#[test]
fn each_statement_of_a_query_has_its_result() {
    let mut driver = Driver::ready();
    driver.client(&[&query("a; b; ; c")]).server(&[
        &columns(),
        &row(b"1"),
        &complete("SELECT 1"),
        &complete("UPDATE 3"),
        EMPTY,
        &columns(),
        &row(b"1"),
        &row(b"2"),
        &complete("SELECT 2"),
        &z('I'),
    ]);
    let statement = driver.one_done();
    let results: Vec<_> =
        statement.results.iter().map(|r| (r.tag.to_text().into_owned(), r.rows)).collect();
    let expected =
        [("SELECT 1", 1), ("UPDATE 3", 0), ("", 0), ("SELECT 2", 2)].map(|(t, r)| (t.into(), r));
    assert_eq!(results, expected);
    assert_eq!((statement.results_total, statement.rows), (4, 3));
    assert_eq!(statement.tag.as_bytes(), b"SELECT 2");
}

#[test]
fn failed_query_keeps_what_was_done_before() {
    let mut driver = Driver::ready();
    driver.client(&[&query("a; b")]).server(&[
        &complete("INSERT 0 1"),
        &error("ERROR", "22012"),
        &z('I'),
    ]);
    let statement = driver.one_done();
    assert_eq!(statement.outcome, Outcome::Failed);
    assert_eq!(statement.sqlstate, Some(*b"22012"));
    assert_eq!(statement.tag.as_bytes(), b"INSERT 0 1");
    assert_eq!(driver.session.counters().errors, 1);
}

#[test]
fn empty_query_completes_without_a_tag() {
    let mut driver = Driver::ready();
    driver.client(&[&query("")]).server(&[EMPTY, &z('I')]);
    let statement = driver.one_done();
    assert_eq!((statement.outcome, statement.tag.is_empty()), (Outcome::Completed, true));
}

#[test]
fn pipelined_queries_are_told_apart() {
    let mut driver = Driver::ready();
    driver.client(&[&query("a"), &query("b"), &query("c")]);
    assert_eq!(driver.held(), 0);
    driver.server(&[&complete("A"), &z('I'), &error("ERROR", "42601"), &z('I')]);
    driver.server(&[&complete("C"), &z('T')]);
    assert_eq!(
        driver.outcomes(),
        [
            outcome("a", Outcome::Completed),
            outcome("b", Outcome::Failed),
            outcome("c", Outcome::Completed)
        ]
    );
}

/// The text behind the zero is not what the server runs, and the server runs nothing at all.
#[test]
fn text_behind_a_zero_is_never_taken_for_the_statement() {
    let mut driver = Driver::ready();
    let smuggled = b"Q\0\0\0\x17select 1\0drop t;--\0".to_vec();
    assert_eq!(smuggled.len(), 0x17 + 1);
    driver.client(&[&smuggled]);
    assert_eq!(driver.to_server, smuggled);
    driver.server(&[&error("ERROR", "08P01"), &z('I')]);
    let statement = driver.one_done();
    assert_eq!(statement.text_state, TextState::Malformed);
    assert_eq!(&*statement.text, b"select 1");
    assert_eq!((statement.outcome, statement.sqlstate), (Outcome::Failed, Some(*b"08P01")));

    // A server that runs it all the same reads another protocol than we do.
    driver.client(&[&smuggled]);
    for answer in [columns(), row(b"1"), complete("SELECT 1"), z('I')] {
        assert!(driver.try_feed(&Step::Server(answer)).is_err());
        driver.from_server.clear();
    }
}

#[test]
fn messages_of_the_server_come_at_any_time() {
    let mut driver = Driver::ready();
    let noise = [notice(), notification(), setting("TimeZone", "UTC")].concat();
    driver.server(&[&noise]);
    assert_eq!(driver.to_client, noise);
    driver.client(&[&query("a")]);
    driver.server(&[&noise, &columns(), &noise, &row(b"1"), &noise]);
    driver.server(&[&complete("SELECT 1"), &noise, &z('I'), &noise]);
    let settings = driver.events.iter().filter(|e| matches!(e, Event::ParameterStatus { .. }));
    assert_eq!(settings.count(), 6);
    let statement = driver.one_done();
    assert_eq!((statement.outcome, statement.rows), (Outcome::Completed, 1));
}

#[test]
fn function_call_is_reported_with_its_number_and_arguments() {
    let mut driver = Driver::ready();
    driver.client(&[&function_call(953, b"\0\0\0\x01")]);
    driver.server(&[&back(Backend::FunctionCallResponse(Some(b"x"))), &z('I')]);
    let statement = driver.one_done();
    assert_eq!((statement.kind, statement.function), (Kind::FunctionCall, Some(953)));
    let values: Vec<_> = statement.parameters().map(|p| (p.format, p.value)).collect();
    assert_eq!(values, [(1, Some(&b"\0\0\0\x01"[..]))]);
    assert_eq!(statement.outcome, Outcome::Completed);

    driver.client(&[&function_call(1, b"")]).server(&[&error("ERROR", "42883"), &z('I')]);
    assert_eq!(driver.one_done().outcome, Outcome::Failed);
}

#[test]
fn fatal_error_fails_what_was_under_way_and_leaves_the_rest_unfinished() {
    let mut driver = Driver::ready();
    driver.client(&[&query("a"), &query("b")]);
    driver.server(&[&columns(), &error("FATAL", "57P01")]).close();
    assert!(driver.events.contains(&Event::ServerError { fatal: true, sqlstate: Some(*b"57P01") }));
    assert_eq!(
        driver.outcomes(),
        [outcome("a", Outcome::Failed), outcome("b", Outcome::Unfinished)]
    );
    assert!(driver.close().done().is_empty());
}

#[test]
fn localised_fatal_error_is_recognised() {
    let mut driver = Driver::ready();
    let fields = [
        ErrorField { code: b'S', text: "ВАЖНО".as_bytes() },
        ErrorField { code: b'V', text: b"FATAL" },
        ErrorField { code: b'C', text: b"57P01" },
    ];
    let fields = Terminated::new(fields).expect("no zeros");
    driver.server(&[&back(Backend::ErrorResponse(fields))]);
    assert_eq!(driver.session.state(), State::Closing);
}

#[test]
fn lost_connection_leaves_statements_unfinished_or_unsent() {
    let mut session = Session::new(Limits::default(), Gate::Hold, 0, authenticated());
    let input = [query("a"), query("b")].concat();
    assert_eq!(session.handle_frontend(1, &input), Ok(Passed::as_is(0)));
    session.handle_decision(StatementId(1), forward(StatementId(1)));
    assert_eq!(session.handle_frontend(2, &input), Ok(Passed::as_is(query("a").len())));
    while session.poll_event().is_some() {}
    session.handle_close(3);
    let outcomes: Vec<_> = std::iter::from_fn(|| session.poll_event())
        .map(|event| match event {
            Event::StatementDone(statement) => (statement.outcome, statement.done),
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    assert_eq!(outcomes, [(Outcome::Unfinished, 3), (Outcome::Unsent, 3)]);
}

#[test]
fn nothing_passes_behind_a_goodbye() {
    let mut driver = Driver::ready();
    driver.client(&[&terminate(), &query("a")]);
    assert_eq!(driver.to_server, terminate());
    assert_eq!(driver.events, [Event::Terminate]);
    assert_eq!(driver.session.state(), State::Closing);
}

#[test]
fn messages_in_front_of_a_bad_one_are_released_first() {
    let mut driver = Driver::ready();
    let bad = b"!\0\0\0\x04";
    let error = driver.try_feed(&Step::Client([&query("a")[..], bad].concat()));
    assert_eq!(error, Err(Error::client(BytesFault::UnknownTag { tag: b'!' })));
    assert_eq!(driver.to_server, query("a"));
}

#[test]
fn lengths_outside_the_servers_limits_end_the_session() {
    for frame in [
        &b"S\0\0\0\x03"[..],
        b"S\0\0\x27\x11",
        b"E\0\0\x27\x11",
        b"d\x3f\xff\xff\xff",
        b"Q\0\0\0\0",
        b"Q\xff\xff\xff\xff",
    ] {
        let mut driver = Driver::ready();
        let error = driver.try_feed(&Step::Client(frame.to_vec())).expect_err("bad length");
        assert!(
            matches!(error, Error::Bytes { side: Side::Client, fault: BytesFault::Length { .. } }),
            "{error:?}"
        );
    }
}

#[test]
fn answer_to_nothing_ends_the_session() {
    for answer in [complete("SELECT 1"), row(b"1"), z('I'), PARSED.to_vec(), copy_done()] {
        let tag = answer[0];
        let mut driver = Driver::ready();
        let fault = SequenceFault::UnexpectedAnswer { tag, awaited: "anything" };
        assert_eq!(
            driver.try_feed(&Step::Server(answer)),
            Err(Error::Sequence { side: Side::Server, fault })
        );
    }
}

#[test]
fn unknown_message_of_the_server_ends_the_session() {
    let mut driver = Driver::ready();
    assert_eq!(
        driver.try_feed(&Step::Server(b"@\0\0\0\x04".to_vec())),
        Err(Error::server(BytesFault::UnknownTag { tag: b'@' }))
    );
}

fn bare() -> Session {
    Session::new(Limits::default(), Gate::Hold, 0, authenticated())
}

#[test]
fn a_torn_header_wants_the_rest_of_it() {
    let mut session = bare();
    for bytes in 1..HEADER_BYTES {
        assert_eq!(session.handle_frontend(0, &b"Q\0\0\0\x06"[..bytes]), Ok(Passed::as_is(0)));
        assert_eq!(session.frontend_bytes_wanted(), HEADER_BYTES, "of {bytes} bytes");
        assert_eq!(session.handle_backend(0, &b"S\0\0\0\x06"[..bytes]), Ok(Passed::as_is(0)));
        assert_eq!(session.backend_bytes_wanted(), HEADER_BYTES, "of {bytes} bytes");
    }
}

#[test]
fn a_row_released_in_part_leaves_the_client_in_the_middle_of_it() {
    let mut session = bare();
    let query = b"Q\0\0\0\x06;\0";
    assert_eq!(session.handle_frontend(0, query), Ok(Passed::as_is(0)));
    let Some(Event::StatementReady(statement)) = session.poll_event() else {
        panic!("no statement");
    };
    session.handle_decision(statement.id, forward(statement.id));
    assert_eq!(session.handle_frontend(0, query), Ok(Passed::as_is(query.len())));
    assert!(!session.backend_is_mid_message());
    assert_eq!(session.handle_backend(0, b"D\0\0\0\x0b\0\x01\0\0"), Ok(Passed::as_is(9)));
    assert!(session.backend_is_mid_message());
    assert_eq!(session.handle_backend(0, b"\0\x01x"), Ok(Passed::as_is(3)));
    assert!(!session.backend_is_mid_message());
}
