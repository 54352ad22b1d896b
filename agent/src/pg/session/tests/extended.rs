use super::*;

#[test]
fn execution_is_reported_with_text_parameters_and_types() {
    let mut driver = Driver::ready();
    let text = "select $1, $2, $3";
    driver.client(&[
        &parse_typed("s", text, &[23, 25]),
        &bind_values("", "s", &[0, 1, 0], &[Some(b"7"), None, Some(b"x")]),
        &describe(Target::Portal, ""),
        &execute(""),
        &sync(),
    ]);
    driver.server(&[PARSED, BOUND, &columns(), &row(b"1"), &complete("SELECT 1"), &z('I')]);
    let statement = driver.one_done();
    assert_eq!((statement.kind, &*statement.text), (Kind::Execute, text.as_bytes()));
    assert_eq!(statement.statement_name(), b"s");
    let parameters: Vec<_> =
        statement.parameters().map(|p| (p.format, p.type_oid, p.value, p.bytes)).collect();
    assert_eq!(
        parameters,
        [(0, 23, Some(&b"7"[..]), 1), (1, 25, None, 0), (0, 0, Some(&b"x"[..]), 1)]
    );
    assert_eq!(statement.transaction, Some(TransactionStatus::Idle));
    assert_eq!((statement.rows, statement.outcome), (1, Outcome::Completed));
}

#[test]
fn described_types_replace_declared_ones() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("s", "select $1"), &describe(Target::Statement, "s"), &sync()]);
    driver.server(&[PARSED, &parameter_types(&[20]), &columns(), &z('I')]);
    driver.client(&[&bind_values("", "s", &[], &[Some(b"1")]), &execute(""), &sync()]);
    driver.server(&[BOUND, &complete("SELECT 1"), &z('I')]);
    let statement = driver.one_done();
    assert_eq!(statement.parameters().map(|p| p.type_oid).collect::<Vec<_>>(), [20]);
}

#[test]
fn error_without_sync_reaches_the_client_at_once() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("", "selec"), &flush()]);
    let refusal = error("ERROR", "42601");
    driver.server(&[&refusal]);
    assert_eq!(driver.to_client, refusal);
    let statement = driver.one_done();
    assert_eq!((statement.kind, statement.outcome), (Kind::Parse, Outcome::Failed));
    assert_eq!(&*statement.text, b"selec");
    driver.client(&[&sync()]).server(&[&z('I')]);
    assert!(driver.done().is_empty());
}

#[test]
fn everything_up_to_sync_is_skipped_even_a_simple_query() {
    let mut driver = Driver::ready();
    driver.client(&[
        &parse("", "bad"),
        &bind("", ""),
        &execute(""),
        &query("q1"),
        &function_call(1, b""),
    ]);
    driver.server(&[&error("ERROR", "42601")]);
    // Sent behind the error, still in front of the Sync.
    driver.client(&[&query("q2"), &parse("", "p"), &sync(), &query("q3")]);
    driver.server(&[&z('I'), &complete("Q3"), &z('I')]);
    assert_eq!(
        driver.outcomes(),
        [
            outcome("bad", Outcome::Failed),
            outcome("bad", Outcome::Skipped),
            outcome("q1", Outcome::Skipped),
            outcome("", Outcome::Skipped),
            outcome("q2", Outcome::Skipped),
            outcome("q3", Outcome::Completed)
        ]
    );
}

#[test]
fn each_sync_of_a_pipeline_has_its_answer() {
    let mut driver = Driver::ready();
    let unit = |text| [parse("", text), bind("", ""), execute(""), sync()].concat();
    driver.client(&[&sync(), &unit("a"), &unit("b"), &sync(), &unit("c")]);
    driver.server(&[&z('I')]);
    driver.server(&[PARSED, BOUND, &complete("A"), &z('I'), PARSED, &error("ERROR", "22000")]);
    driver.server(&[&z('I'), &z('I'), PARSED, BOUND, &complete("C"), &z('I')]);
    assert_eq!(
        driver.outcomes(),
        [
            outcome("a", Outcome::Completed),
            outcome("b", Outcome::Failed),
            outcome("b", Outcome::Skipped),
            outcome("c", Outcome::Completed)
        ]
    );
    assert_eq!(driver.session.answers_owed(), 0);
}

#[test]
fn flush_between_messages_is_just_passed() {
    let mut driver = Driver::ready();
    let sent = [parse("s", "a"), describe(Target::Statement, "s"), flush()].concat();
    driver.client(&[&sent]);
    driver.server(&[PARSED, &parameter_types(&[]), NO_DATA]);
    driver.client(&[&bind("", "s"), &flush(), &execute(""), &flush(), &sync()]);
    driver.server(&[BOUND, &complete("A"), &z('I')]);
    assert_eq!(driver.outcomes(), [outcome("a", Outcome::Completed)]);
}

#[test]
fn suspended_portal_goes_on() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("", "a"), &bind("c", ""), &execute("c"), &sync()]);
    driver.server(&[PARSED, BOUND, &row(b"1"), &row(b"2"), SUSPENDED, &z('T')]);
    let first = driver.one_done();
    assert_eq!((first.outcome, first.rows), (Outcome::Suspended, 2));
    driver.client(&[&execute("c"), &sync()]);
    driver.server(&[&row(b"3"), &complete("SELECT 1"), &z('T')]);
    let second = driver.one_done();
    assert_eq!((second.outcome, second.rows), (Outcome::Completed, 1));
    assert_eq!(&*second.text, b"a");
}

/// The statement that failed to be prepared must not lend its text to one that runs.
#[test]
fn failed_parse_leaves_the_old_statement() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("s", "old"), &sync()]).server(&[PARSED, &z('I')]);
    driver.client(&[&parse("s", "new"), &sync(), &bind("", "s"), &execute(""), &sync()]);
    driver.server(&[&error("ERROR", "42P05"), &z('I'), BOUND, &complete("A"), &z('I')]);
    assert_eq!(
        driver.outcomes(),
        [outcome("new", Outcome::Failed), outcome("old", Outcome::Completed)]
    );
}

#[test]
fn closed_statement_is_replaced_and_its_portals_keep_the_old_text() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("s", "old"), &bind("p", "s"), &sync()]);
    driver.server(&[PARSED, BOUND, &z('T')]);
    driver.client(&[
        &close(Target::Statement, "s"),
        &close(Target::Statement, "missing"),
        &parse("s", "new"),
        &bind("", "s"),
        &execute(""),
        &execute("p"),
        &close(Target::Portal, "p"),
        &sync(),
    ]);
    driver.server(&[CLOSED, CLOSED, PARSED, BOUND, &complete("N"), &complete("O"), CLOSED]);
    driver.server(&[&z('T')]);
    assert_eq!(
        driver.outcomes(),
        [outcome("new", Outcome::Completed), outcome("old", Outcome::Completed)]
    );
}

#[test]
fn portals_end_with_their_transaction() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("", "a"), &bind("p", ""), &sync()]);
    driver.server(&[PARSED, BOUND, &z('I')]);
    driver.client(&[&execute("p"), &sync()]);
    driver.server(&[&error("ERROR", "34000"), &z('I')]);
    let statement = driver.one_done();
    assert_eq!((&*statement.text, statement.text_state), (&b""[..], TextState::Unknown));
    assert_eq!(statement.outcome, Outcome::Failed);
}

#[test]
fn cursor_declared_by_sql_runs_with_unknown_text() {
    let mut driver = Driver::ready();
    driver.client(&[&execute("c"), &sync()]).server(&[&row(b"1"), &complete("FETCH 1"), &z('T')]);
    let statement = driver.one_done();
    assert_eq!((statement.outcome, statement.text_state), (Outcome::Completed, TextState::Unknown));
}

/// `DEALLOCATE s; PREPARE s AS ...` gives the name to a statement we do not know.
#[test]
fn name_that_sql_gave_away_loses_its_text() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("s", "select 1"), &sync()]).server(&[PARSED, &z('I')]);
    let use_it = [bind("", "s"), execute(""), sync()].concat();
    driver.client(&[&query("deallocate x")]).server(&[&complete("DEALLOCATE"), &z('I')]);
    driver.client(&[&use_it]).server(&[BOUND, &complete("SELECT 1"), &z('I')]);
    driver.client(&[&query("prepare s as delete from t")]);
    driver.server(&[&complete("PREPARE"), &z('I')]);
    driver.client(&[&use_it]).server(&[BOUND, &complete("DELETE 9"), &z('I')]);
    let states: Vec<_> = driver
        .done()
        .iter()
        .filter(|statement| statement.kind == Kind::Execute)
        .map(|statement| (statement.text.to_vec(), statement.text_state))
        .collect();
    assert_eq!(
        states,
        [(b"select 1".to_vec(), TextState::Exact), (Vec::new(), TextState::Unknown)]
    );
}

#[test]
fn error_at_sync_is_told_by_the_statements_it_undoes() {
    let mut driver = Driver::ready();
    let insert = [parse("", "insert"), bind("", ""), execute(""), sync()].concat();
    driver.client(&[&insert]);
    driver.server(&[PARSED, BOUND, &complete("INSERT 0 1"), &error("ERROR", "23503"), &z('I')]);
    let statement = driver.one_done();
    assert_eq!(statement.outcome, Outcome::Completed);
    assert_eq!((statement.sqlstate, statement.sync_sqlstate), (None, Some(*b"23503")));
}

#[test]
fn statement_without_sync_is_reported_at_once() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("", "a"), &bind("", ""), &execute(""), &flush()]);
    driver.server(&[PARSED, BOUND, &complete("A")]);
    let statement = driver.one_done();
    assert_eq!((statement.outcome, statement.transaction), (Outcome::Completed, None));
}

#[test]
fn malformed_messages_pass_and_must_fail() {
    let bad_bind = b"B\0\0\0\x0a\0\0\0\0\xff\xff";
    for bad in [
        &b"P\0\0\0\x08abc\0"[..],
        bad_bind,
        b"D\0\0\0\x06X\0",
        b"C\0\0\0\x06X\0",
        b"E\0\0\0\x06\0\0",
    ] {
        let mut driver = Driver::ready();
        driver.client(&[bad, &sync()]);
        assert_eq!(driver.to_server, [bad, &sync()].concat());
        let accepted = match bad[0] {
            b'P' => PARSED,
            b'B' => BOUND,
            b'C' => CLOSED,
            _ => NO_DATA,
        };
        assert!(driver.try_feed(&Step::Server(accepted.to_vec())).is_err());
        driver.from_server.clear();
        driver.server(&[&error("ERROR", "08P01"), &z('I')]);
        let statement = driver.one_done();
        assert_eq!(
            (statement.outcome, statement.text_state),
            (Outcome::Failed, TextState::Malformed)
        );
    }
}

#[test]
fn ready_text_of_an_execution_is_that_of_the_messages_in_front() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("s", "one"), &sync()]).server(&[PARSED, &z('I')]);
    driver.events.clear();
    driver.client(&[
        &close(Target::Statement, "s"),
        &parse("s", "two"),
        &bind("p", "s"),
        &bind("q", "s"),
        &execute("q"),
        &execute("p"),
        &sync(),
    ]);
    let texts: Vec<_> = driver
        .events
        .iter()
        .filter_map(|event| match event {
            Event::StatementReady(ready) => Some((ready.kind, ready.text.to_vec())),
            _ => None,
        })
        .collect();
    let two = || b"two".to_vec();
    assert_eq!(texts, [(Kind::Parse, two()), (Kind::Execute, two()), (Kind::Execute, two())]);
}

#[test]
fn wrong_kind_of_answer_ends_the_session() {
    for answer in [BOUND.to_vec(), complete("A"), row(b""), z('I'), columns()] {
        let mut driver = Driver::ready();
        driver.client(&[&parse("", "a"), &sync()]);
        assert!(driver.try_feed(&Step::Server(answer)).is_err());
    }
}

/// The server looks at 63 bytes of a name, so closing one and preparing another can change what a
/// third runs.
#[test]
fn names_alike_in_what_the_server_reads_lend_no_text_to_each_other() {
    let name = |last: char| format!("{}{last}", "n".repeat(Name::KEY_BYTES));
    let mut driver = Driver::ready();
    driver.client(&[&parse(&name('x'), "harmless"), &sync()]).server(&[PARSED, &z('I')]);
    let use_it = [bind("", &name('x')), execute(""), sync()].concat();
    let used = [BOUND, &complete("A"), &z('I')].concat();
    driver.client(&[&use_it]).server(&[&used]);
    driver.client(&[&close(Target::Statement, &name('y')), &parse(&name('y'), "other"), &use_it]);
    driver.server(&[CLOSED, PARSED, &used]);
    driver.client(&[&use_it]).server(&[&used]);
    assert_eq!(
        driver.outcomes(),
        [
            outcome("harmless", Outcome::Completed),
            outcome("", Outcome::Completed),
            outcome("", Outcome::Completed)
        ]
    );
}

#[test]
fn flush_and_sync_with_a_body_are_refused() {
    for tag in [b'H', b'S'] {
        let mut driver = Driver::ready();
        let fault = crate::pg::error::BytesFault::Trailing { found: 1 };
        let refused = driver.try_feed(&Step::Client(vec![tag, 0, 0, 0, 5, b'x']));
        assert_eq!(refused, Err(Error::client(fault)));
    }
}
