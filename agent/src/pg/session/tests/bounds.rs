use super::*;
use crate::pg::codec::{ANSWERS_OWED_MIN, HEADER_BYTES};
use crate::pg::error::{LimitFault, Side};

#[test]
fn idle_session_is_small() {
    assert!(size_of::<Session>() <= 1024, "{} bytes", size_of::<Session>());
    assert!(size_of::<Event>() <= 80, "{} bytes", size_of::<Event>());
    assert!(size_of::<Pending>() <= 80, "{} bytes", size_of::<Pending>());
}

#[test]
fn long_message_is_refused_by_its_header() {
    let limits = Limits { message_bytes_max: 100, ..Limits::default() };
    let mut driver = Driver::ready_with(limits);
    let error = driver.try_feed(&Step::Client(b"Q\0\0\0\x65".to_vec())).expect_err("too long");
    let limit = LimitFault::MessageHeld { tag: b'Q', found: 101, max: 100 };
    assert_eq!(error, Error::Limit { side: Side::Client, limit });
}

#[test]
fn hint_says_how_long_the_message_in_front_is() {
    let mut driver = Driver::ready();
    driver.client(&[b"Q\0\0\x01\0sel"]);
    assert_eq!(driver.session.frontend_bytes_wanted(), 257);
    let mut driver = Driver::ready();
    driver.client(&[&query("a")]).server(&[&complete("SELECT")[..HEADER_BYTES]]);
    assert_eq!(driver.session.backend_bytes_wanted(), complete("SELECT").len());
}

#[test]
fn large_copy_data_and_rows_are_never_held() {
    let mut driver = Driver::ready();
    driver.client(&[&query("copy")]).server(&[&copy_response(b'G', 0)]);
    driver.client(&[b"d\x3f\xff\xff\xfe"]);
    for _ in 0..100 {
        driver.client(&[&[b'\n'; 1000]]);
        assert_eq!(driver.held(), 0);
    }
    let mut driver = Driver::ready();
    driver.client(&[&query("a")]).server(&[b"D\x7f\xff\xff\xff"]);
    for _ in 0..100 {
        driver.server(&[&[0; 1000]]);
        assert!(driver.from_server.is_empty());
    }
    let mut driver = Driver::ready();
    driver.client(&[&query("a")]);
    driver.server(&[&[&b"E\x7f\xff\xff\xffSERROR\0VERROR\0C22P02\0M"[..], &[b'x'; 1000]].concat()]);
    assert!(driver.from_server.is_empty());
}

#[test]
fn answers_owed_are_bounded_and_free_what_waits() {
    let limits = Limits { answers_owed_max: 1, ..Limits::default() };
    let mut driver = Driver::ready_with(limits);
    let pipeline = sync().repeat(ANSWERS_OWED_MIN + 10);
    driver.client(&[&pipeline]);
    assert_eq!(driver.session.answers_owed(), ANSWERS_OWED_MIN);
    assert_eq!(driver.held(), 10 * 5);
    driver.server(&[&z('I').repeat(7)]);
    assert_eq!(driver.held(), 3 * 5);
    driver.server(&[&z('I').repeat(ANSWERS_OWED_MIN)]);
    assert_eq!((driver.held(), driver.session.answers_owed()), (0, 3));
}

#[test]
fn copy_ends_without_a_copy_cannot_grow_what_is_owed() {
    let mut driver = Driver::ready();
    let max = Limits::default().answers_owed_max;
    driver.client(&[&query("a"), &copy_done().repeat(max + 5)]);
    assert_eq!(driver.session.answers_owed(), max);
    driver.server(&[&complete("A"), &z('I')]);
    assert_eq!((driver.held(), driver.session.answers_owed()), (0, 0));
}

#[test]
fn statements_in_flight_beyond_the_budget_keep_the_beginning_of_their_text() {
    let limits = Limits { in_flight_bytes_max: 10_000, ..Limits::default() };
    let mut driver = Driver::ready_with(limits);
    let long = "x".repeat(8_000);
    driver.client(&[&query(&long), &query(&long), &query("short")]);
    let ready = driver.events.iter().filter_map(|event| match event {
        Event::StatementReady(ready) => Some(ready.text.len()),
        _ => None,
    });
    assert_eq!(ready.collect::<Vec<_>>(), [8_000, 8_000, 5]);
    driver.server(&[&[complete("A"), z('I')].concat().repeat(3)]);
    let kept: Vec<_> =
        driver.done().iter().map(|s| (s.text.len(), s.text_bytes, s.text_state)).collect();
    assert_eq!(
        kept,
        [
            (8_000, 8_000, TextState::Exact),
            (1_024, 8_000, TextState::Cut),
            (5, 5, TextState::Exact)
        ]
    );
}

#[test]
fn parameters_beyond_the_limits_keep_their_lengths() {
    let limits = Limits {
        parameter_bytes_max: 4,
        parameters_bytes_max: 6,
        parameters_max: 3,
        ..Limits::default()
    };
    let mut driver = Driver::ready_with(limits);
    let values = [Some(&b"abcdef"[..]), Some(b"ghi"), Some(b"j"), Some(b"k")];
    driver.client(&[&bind_values("", "", &[1], &values), &execute(""), &sync()]);
    driver.server(&[BOUND, &complete("A"), &z('I')]);
    let statement = driver.one_done();
    assert_eq!(statement.parameters_count(), 4);
    let kept: Vec<_> = statement.parameters().map(|p| (p.format, p.value, p.bytes)).collect();
    let expected = [(1, Some(&b"abcd"[..]), 6), (1, Some(&b"gh"[..]), 3), (1, Some(&b""[..]), 1)];
    assert_eq!(kept, expected);
}

#[test]
fn names_beyond_the_limits_run_with_unknown_or_cut_text() {
    let limits = Limits { statements_max: 2, named_bytes_max: 5_000, ..Limits::default() };
    let mut driver = Driver::ready_with(limits);
    let long = "y".repeat(4_000);
    for (name, text) in [("a", &long[..]), ("b", &long[..]), ("c", "short")] {
        driver.client(&[&parse(name, text), &sync()]).server(&[PARSED, &z('I')]);
    }
    for name in ["a", "b", "c"] {
        driver.client(&[&bind("", name), &execute(""), &sync()]);
        driver.server(&[BOUND, &complete("A"), &z('I')]);
    }
    let kept: Vec<_> =
        driver.done().iter().map(|s| (s.text.len(), s.text_bytes, s.text_state)).collect();
    assert_eq!(
        kept,
        [
            (4_000, 4_000, TextState::Exact),
            (1_024, 4_000, TextState::Cut),
            (0, 0, TextState::Unknown)
        ]
    );
}

#[test]
fn bytes_kept_for_names_come_back_to_nothing() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("s", "text"), &parse("", "text"), &bind("p", "s"), &bind("", "s")]);
    driver.client(&[&describe(Target::Statement, "s"), &sync()]);
    driver.server(&[PARSED, PARSED, BOUND, BOUND, &parameter_types(&[1, 2]), NO_DATA, &z('T')]);
    assert!(driver.session.names.bytes() > 0);
    driver.client(&[&close(Target::Statement, "s"), &close(Target::Statement, ""), &sync()]);
    driver.server(&[CLOSED, CLOSED, &z('I')]);
    assert_eq!(driver.session.names.bytes(), 0);
    assert_eq!(driver.session.owed.bytes(), 0);
}

#[test]
fn events_not_taken_stop_the_server() {
    let mut session = Session::new(Limits::default(), Gate::Hold, 0, authenticated());
    let flood = setting("a", "b").repeat(EVENTS_MAX + 10);
    let one = setting("a", "b").len();
    assert_eq!(session.handle_backend(0, &flood), Ok(Passed::as_is(EVENTS_MAX * one)));
    while session.poll_event().is_some() {}
    assert_eq!(session.handle_backend(0, &flood[EVENTS_MAX * one..]), Ok(Passed::as_is(10 * one)));
}

#[test]
fn pipeline_that_is_done_reports_the_oldest_when_many_wait_for_sync() {
    let mut driver = Driver::ready();
    let count = DONE_WAITING_MAX + 3;
    driver.client(&[&[bind("", ""), execute("")].concat().repeat(count), &sync()]);
    driver.server(&[&[BOUND, &complete("A")[..]].concat().repeat(count)]);
    assert_eq!(driver.done().len(), 3);
    driver.server(&[&z('I')]);
    assert_eq!(driver.done().len(), DONE_WAITING_MAX);
}
