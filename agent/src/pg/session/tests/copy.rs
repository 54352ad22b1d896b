use super::*;

fn copy_in(statement: &Statement) -> (u64, Option<u64>) {
    let copied = statement.copy_in.expect("COPY from the client");
    (copied.bytes, copied.rows)
}

fn copy_out(statement: &Statement) -> (u64, Option<u64>) {
    let copied = statement.copy_out.expect("COPY to the client");
    (copied.bytes, copied.rows)
}

#[test]
fn copy_in_counts_bytes_and_lines_not_messages() {
    let mut driver = Driver::ready();
    driver.client(&[&query("copy t from stdin")]).server(&[&copy_response(b'G', 0)]);
    assert_eq!(driver.session.state(), State::CopyIn);
    driver.client(&[&data(b"1\n2\n3"), &data(b"\n"), &data(b""), &data(b"4"), &copy_done()]);
    driver.server(&[&complete("COPY 4"), &z('I')]);
    let statement = driver.one_done();
    assert_eq!(copy_in(&statement), (7, Some(4)));
    assert_eq!(statement.tag.as_bytes(), b"COPY 4");
}

#[test]
fn binary_copy_in_has_no_row_count() {
    let mut driver = Driver::ready();
    driver.client(&[&query("copy")]).server(&[&copy_response(b'G', 1)]);
    driver.client(&[&data(b"PGCOPY\n\xff\r\n\0"), &copy_done()]);
    driver.server(&[&complete("COPY 0"), &z('I')]);
    assert_eq!(copy_in(&driver.one_done()), (11, None));
}

#[test]
fn copy_sent_ahead_of_the_servers_consent_is_counted() {
    let mut driver = Driver::ready();
    let copy = [query("copy"), data(b"1\n"), flush(), data(b"2\n"), copy_done()].concat();
    driver.client(&[&copy, &query("next")]);
    assert_eq!(driver.held(), 0);
    driver.server(&[&copy_response(b'G', 0), &complete("COPY 2"), &z('I')]);
    assert_eq!(copy_in(&driver.one_done()), (4, Some(2)));
    driver.server(&[&complete("NEXT"), &z('I')]);
    assert_eq!(driver.outcomes(), [outcome("next", Outcome::Completed)]);
    assert_eq!(driver.session.answers_owed(), 0);
}

/// The Sync sent with the Execute is swallowed by the COPY: only the second is answered.
#[test]
fn early_sync_in_extended_copy_in_owes_no_answer() {
    for answers_at_once in [true, false] {
        let mut driver = Driver::ready();
        let start = [parse("", "copy"), bind("", ""), execute(""), sync()].concat();
        let rest = [data(b"1\n"), copy_done(), sync()].concat();
        let begin = [PARSED, BOUND, &copy_response(b'G', 0)].concat();
        if answers_at_once {
            driver.client(&[&start]).server(&[&begin]).client(&[&rest]);
        } else {
            driver.client(&[&start, &rest]).server(&[&begin]);
        }
        assert_eq!(driver.held(), 0);
        driver.server(&[&complete("COPY 1"), &z('I')]);
        let statement = driver.one_done();
        assert_eq!((statement.outcome, copy_in(&statement)), (Outcome::Completed, (2, Some(1))));
        assert_eq!(statement.transaction, Some(TransactionStatus::Idle));
        assert_eq!(driver.session.answers_owed(), 0);
        driver.client(&[&query("a")]).server(&[&complete("A"), &z('I')]);
        assert_eq!(driver.outcomes(), [outcome("a", Outcome::Completed)]);
    }
}

#[test]
fn simple_copy_in_that_fails_drops_what_is_still_sent() {
    let mut driver = Driver::ready();
    driver.client(&[&query("copy")]).server(&[&copy_response(b'G', 0)]);
    driver.client(&[&data(b"bad\n")]);
    driver.server(&[&error("ERROR", "22P02"), &z('I')]);
    let late = [data(b"2\n"), copy_done(), query("next")].concat();
    driver.client(&[&late]);
    assert!(driver.to_server.ends_with(&late));
    driver.server(&[&complete("NEXT"), &z('I')]);
    let done = driver.done();
    assert_eq!((done[0].outcome, copy_in(&done[0])), (Outcome::Failed, (4, Some(1))));
    assert_eq!((&*done[1].text, done[1].outcome), (&b"next"[..], Outcome::Completed));
}

#[test]
fn copy_fail_fails_the_statement() {
    let mut driver = Driver::ready();
    driver.client(&[&query("copy")]).server(&[&copy_response(b'G', 0)]);
    driver.client(&[&data(b"1\n"), &copy_fail()]);
    driver.server(&[&error("ERROR", "57014"), &z('I')]);
    assert_eq!(driver.one_done().sqlstate, Some(*b"57014"));
}

#[test]
fn extended_copy_in_that_fails_skips_to_the_last_sync() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("", "copy"), &bind("", ""), &execute(""), &sync()]);
    driver.server(&[PARSED, BOUND, &copy_response(b'G', 0)]);
    driver.client(&[&data(b"bad\n")]).server(&[&error("ERROR", "22P02")]);
    driver.client(&[&data(b"1\n"), &copy_done(), &sync()]).server(&[&z('I')]);
    assert_eq!(driver.one_done().outcome, Outcome::Failed);
    driver.client(&[&query("a")]).server(&[&complete("A"), &z('I')]);
    assert_eq!(driver.outcomes(), [outcome("a", Outcome::Completed)]);
}

/// A trigger can fail behind the consent and in front of the first data: then the early Sync is
/// a real one, and there is no way to tell but its answer.
#[test]
fn early_sync_that_a_failed_copy_did_not_swallow_is_accepted() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("", "copy"), &bind("", ""), &execute(""), &sync()]);
    driver.server(&[PARSED, BOUND, &copy_response(b'G', 0), &error("ERROR", "P0001")]);
    driver.server(&[&z('I')]);
    driver.client(&[&data(b"1\n"), &copy_done(), &sync()]).server(&[&z('I')]);
    assert_eq!(driver.one_done().outcome, Outcome::Failed);
    driver.client(&[&query("a")]).server(&[&complete("A"), &z('I')]);
    assert_eq!(driver.outcomes(), [outcome("a", Outcome::Completed)]);
    // But an answer that could not be that Sync's is none.
    assert!(driver.try_feed(&Step::Server(z('I'))).is_err());
}

#[test]
fn several_copies_in_one_query_each_end_with_their_tag() {
    let mut driver = Driver::ready();
    let data_of_both =
        [data(b"1\n2\n"), copy_done(), data(b"3\n"), copy_done(), query("next")].concat();
    driver.client(&[&query("copy a; copy b; select"), &data_of_both]);
    driver.server(&[&copy_response(b'G', 0), &complete("COPY 2")]);
    driver.server(&[&copy_response(b'G', 0), &complete("COPY 1")]);
    driver.server(&[&columns(), &row(b"1"), &complete("SELECT 1"), &z('I')]);
    let statement = driver.one_done();
    assert_eq!((copy_in(&statement), statement.rows), ((6, Some(3)), 1));
    assert_eq!(statement.results_total, 3);
    driver.server(&[&complete("NEXT"), &z('I')]);
    assert_eq!(driver.outcomes(), [outcome("next", Outcome::Completed)]);
}

#[test]
fn copy_out_in_the_middle_of_a_query() {
    let mut driver = Driver::ready();
    driver.client(&[&query("select; copy to stdout; copy from stdin; select")]);
    driver.server(&[&columns(), &row(b"1"), &complete("SELECT 1"), &copy_response(b'H', 0)]);
    assert_eq!(driver.session.state(), State::CopyOut);
    driver.server(&[&data(b"1\n"), &notice(), &data(b"22\n"), &copy_done()]);
    driver.server(&[&complete("COPY 2"), &copy_response(b'G', 0)]);
    driver.client(&[&data(b"x\n"), &copy_done()]);
    driver.server(&[&complete("COPY 1"), &columns(), &complete("SELECT 0"), &z('I')]);
    let statement = driver.one_done();
    assert_eq!((copy_out(&statement), copy_in(&statement)), ((5, Some(2)), (2, Some(1))));
    assert_eq!(statement.results_total, 4);
}

#[test]
fn copy_out_through_the_extended_protocol() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("", "copy"), &bind("", ""), &execute(""), &sync()]);
    driver.server(&[PARSED, BOUND, &copy_response(b'H', 1), &data(&[0; 30]), &copy_done()]);
    driver.server(&[&complete("COPY 0"), &z('I')]);
    assert_eq!(copy_out(&driver.one_done()), (30, Some(1)));
}

#[test]
fn copy_out_that_fails() {
    let mut driver = Driver::ready();
    driver.client(&[&query("copy")]);
    driver.server(&[&copy_response(b'H', 0), &data(b"1\n"), &error("ERROR", "22012"), &z('I')]);
    let statement = driver.one_done();
    assert_eq!((statement.outcome, copy_out(&statement)), (Outcome::Failed, (2, Some(1))));
    assert_eq!(driver.session.state(), State::Idle);
}

#[test]
fn replication_streams_both_ways_and_goes_on() {
    let mut driver = Driver::ready();
    driver.client(&[&query("START_REPLICATION 0/0")]).server(&[&copy_response(b'W', 0)]);
    assert_eq!(driver.session.state(), State::CopyBoth);
    driver.server(&[&data(b"wal")]).client(&[&data(b"status")]).server(&[&data(b"wal")]);
    driver.server(&[&copy_done()]).client(&[&copy_done()]);
    driver.server(&[&columns(), &row(b"2"), &complete("SELECT 1"), &complete("START_STREAMING")]);
    driver.server(&[&z('I')]);
    let statement = driver.one_done();
    assert_eq!((copy_out(&statement).0, copy_in(&statement).0), (6, 6));
    assert_eq!(statement.outcome, Outcome::Completed);
}

#[test]
fn copy_data_outside_of_a_copy_is_passed_and_forgotten() {
    let mut driver = Driver::ready();
    driver.client(&[&data(b"x"), &copy_done(), &copy_fail()]);
    assert_eq!((driver.held(), driver.session.answers_owed()), (0, 0));
    driver.client(&[&query("a"), &data(b"x"), &copy_done(), &query("b")]);
    driver.server(&[&complete("A"), &z('I'), &complete("B"), &z('I')]);
    let done = driver.done();
    assert_eq!(done.len(), 2);
    assert!(done.iter().all(|statement| statement.copy_in.is_none()));
}

#[test]
fn lost_connection_tells_how_far_a_copy_came() {
    let mut driver = Driver::ready();
    driver.client(&[&query("copy")]).server(&[&copy_response(b'G', 0)]);
    driver.client(&[&data(b"1\n2\n")]).close();
    let statement = driver.one_done();
    assert_eq!((statement.outcome, copy_in(&statement)), (Outcome::Unfinished, (4, Some(2))));
}

/// With the first Sync real, the query runs; with it swallowed, the query is skipped. It must not
/// be possible to send it before that is known.
#[test]
fn fate_of_a_request_never_hangs_on_a_doubtful_sync() {
    let early = [parse("", "copy"), bind("", ""), execute(""), sync()].concat();
    let begin = [PARSED, BOUND, &copy_response(b'G', 0)].concat();
    let fault = crate::pg::error::SequenceFault::InCopy { tag: b'Q' };
    let refused = Err(Error::Sequence { side: crate::pg::error::Side::Client, fault });

    // Inside the data, and behind it without a Sync of its own.
    let ended = [data(b"1\n"), copy_done()].concat();
    for data in [data(b"1\n"), ended.clone(), [ended, copy_done()].concat()] {
        let mut driver = Driver::ready();
        driver.client(&[&early]).server(&[&begin]).client(&[&data]);
        assert_eq!(driver.try_feed(&Step::Client(query("q"))), refused);
    }

    // Behind the error, until a Sync or its answer settles it.
    for settled in [Step::Client(sync()), Step::Server(z('I'))] {
        let mut driver = Driver::ready();
        driver.client(&[&early]).server(&[&begin]).client(&[&data(b"1\n")]);
        driver.server(&[&error("ERROR", "P0001")]);
        assert_eq!(driver.one_done().outcome, Outcome::Failed);
        driver.client(&[&data(b"late\n"), &copy_fail()]);
        driver.try_feed(&settled).expect("in order");
        driver.client(&[&query("q")]);
        assert_eq!(driver.held(), 0);
        if let Step::Client(_) = &settled {
            driver.server(&[&z('I')]);
        }
        driver.server(&[&complete("Q"), &z('I')]);
        assert_eq!(driver.outcomes(), [outcome("q", Outcome::Completed)]);
    }
    let mut driver = Driver::ready();
    driver.client(&[&early]).server(&[&begin]).client(&[&data(b"1\n")]);
    driver.server(&[&error("ERROR", "P0001")]);
    assert_eq!(driver.try_feed(&Step::Client(query("q"))), refused);
}

/// Requests behind the Sync mean that the server did not take it for a part of the COPY.
#[test]
fn requests_sent_ahead_behind_an_early_sync_are_not_skipped() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("", "copy"), &bind("", ""), &execute(""), &sync(), &query("q")]);
    driver.server(&[PARSED, BOUND, &copy_response(b'G', 0), &error("ERROR", "P0001"), &z('I')]);
    driver.server(&[&complete("Q"), &z('I')]);
    assert_eq!(
        driver.outcomes(),
        [outcome("copy", Outcome::Failed), outcome("q", Outcome::Completed)]
    );
}

#[test]
fn copy_data_behind_a_sync_waits_for_the_servers_consent() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("", "copy"), &bind("", ""), &execute(""), &sync(), &data(b"1\n")]);
    assert_eq!(driver.held(), data(b"1\n").len());
    driver.server(&[PARSED, BOUND, &copy_response(b'G', 0)]);
    assert_eq!(driver.held(), 0);
}

#[test]
fn simple_copy_that_failed_behind_a_sync_may_or_may_not_have_swallowed_it() {
    for swallowed in [true, false] {
        let mut driver = Driver::ready();
        driver.client(&[&query("copy")]).server(&[&copy_response(b'G', 0)]);
        driver.client(&[&sync(), &data(b"bad\n"), &parse("", "p"), &sync()]);
        driver.server(&[&error("ERROR", "22P02"), &z('I')]);
        if !swallowed {
            driver.server(&[&z('I')]);
        }
        driver.server(&[PARSED, &z('I')]);
        assert_eq!(driver.outcomes(), [outcome("copy", Outcome::Failed)]);
        assert_eq!(driver.session.answers_owed(), 0);
    }
}

#[test]
fn error_of_the_next_message_ends_the_doubt() {
    let mut driver = Driver::ready();
    driver.client(&[&query("copy")]).server(&[&copy_response(b'G', 0)]);
    driver.client(&[&sync(), &copy_fail(), &bind("", "missing")]);
    driver.server(&[&error("ERROR", "57014"), &z('I'), &error("ERROR", "26000")]);
    driver.client(&[&query("skipped"), &sync()]);
    assert_eq!(driver.held(), 0);
    driver.server(&[&z('I')]);
    assert_eq!(driver.session.state(), State::Idle);
}
