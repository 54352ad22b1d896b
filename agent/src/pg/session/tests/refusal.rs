//! Refused statements, in every state of the protocol.

use super::*;

const POISON: &str = "SELECT \"pgward: denied by policy\"";
const OWN: &str = "pgward: denied";

type Told = (Kind, Outcome, Option<String>, bool);

fn codes(done: &[Statement]) -> Vec<Told> {
    let code = |code: [u8; 5]| String::from_utf8_lossy(&code).into_owned();
    let told = |s: &Statement| (s.kind, s.outcome, s.sqlstate.map(code), s.refusal.is_some());
    done.iter().map(told).collect()
}

fn code(code: &str) -> Option<String> {
    Some(code.to_owned())
}

#[test]
fn idle_session_answers_by_itself() {
    let mut driver = Driver::refusing();
    driver.client(&[&query("select secret")]);
    assert_eq!(driver.to_server, b"");
    assert_eq!(driver.heard(), [told(), z('I')].concat());
    let statement = driver.one_done();
    assert_eq!(statement.transaction, Some(TransactionStatus::Idle));
    assert_eq!(codes(&[statement]), [(Kind::Simple, Outcome::Refused, code("42501"), true)]);
    driver.client(&[&query("a")]).server(&[&complete("A"), &z('I')]);
    assert_eq!(driver.sent(), query("a"));
    assert_eq!(driver.session.answers_owed(), 0);
    assert_eq!(
        driver.session.frontend_offset() as usize,
        [query("select secret"), query("a")].concat().len()
    );
}

#[test]
fn answer_of_our_own_waits_for_the_end_of_a_message_under_way() {
    let mut driver = Driver::refusing();
    let (begin, rest) = (&notification()[..9].to_vec(), &notification()[9..].to_vec());
    driver.server(&[begin]).client(&[&query("secret")]);
    assert_eq!(driver.heard(), *begin);
    assert!(!driver.session.backend_output_waits());
    driver.server(&[rest]);
    assert_eq!(driver.heard(), [rest, &told()[..], &z('I')].concat());
}

/// The server would have dropped the unnamed statement, so it must get a `Query`.
#[test]
fn server_is_asked_where_a_query_would_drop_the_unnamed_statement() {
    let mut driver = Driver::refusing();
    driver.client(&[&parse("", "a"), &sync()]).server(&[PARSED, &z('I')]);
    driver.sent();
    driver.client(&[&query("secret")]);
    assert_eq!(driver.sent(), query(POISON));
    driver.server(&[&poison_error(), &z('I')]).client(&[&query("secret")]);
    assert_eq!(driver.sent(), b"", "it is gone now");
}

#[test]
fn refused_in_a_transaction_fails_it_on_the_server() {
    let mut driver = Driver::refusing();
    driver.client(&[&query("begin")]).server(&[&complete("BEGIN"), &z('T')]);
    driver.sent();
    driver.heard();
    driver.client(&[&query("select secret")]);
    assert_eq!(driver.sent(), query(POISON));
    driver.server(&[&poison_error(), &z('E')]);
    assert_eq!(driver.heard(), [told(), z('E')].concat());
    let done = driver.done();
    assert_eq!(done[1].transaction, Some(TransactionStatus::Failed));
    assert_eq!(codes(&done[1..]), [(Kind::Simple, Outcome::Refused, code("42501"), true)]);
    assert_eq!(driver.session.state(), State::IdleInFailedTransaction);
}

#[test]
fn other_errors_in_its_place_are_the_servers() {
    for answer in [error("ERROR", "25P02"), error("ERROR", "57014"), error("FATAL", "57P01")] {
        let mut driver = Driver::refusing();
        driver.client(&[&query("begin")]).server(&[&complete("BEGIN"), &z('E')]);
        driver.heard();
        driver.client(&[&query("select secret")]).server(&[&answer]);
        assert_eq!(driver.heard(), answer);
        driver.close();
        let done = driver.done();
        assert_ne!(done[1].outcome, Outcome::Refused);
        assert_eq!(done[1].refusal, Some(*b"42501"));
    }
}

#[test]
fn statements_in_front_run_and_those_behind_do_not() {
    let mut driver = Driver::refusing();
    driver.client(&[&query("insert a; -- x\nselect secret; insert b")]);
    assert_eq!(driver.sent(), query(&format!("insert a;\n{POISON}")));
    driver.server(&[&complete("INSERT 0 1"), &poison_error(), &z('I')]);
    assert_eq!(driver.heard(), [complete("INSERT 0 1"), told(), z('I')].concat());
    let statement = driver.one_done();
    assert_eq!((statement.outcome, statement.results_total), (Outcome::Refused, 1));
}

#[test]
fn error_of_a_statement_in_front_is_its_own_even_with_the_same_code() {
    let mut driver = Driver::refusing();
    driver.client(&[&query("select nothing; select secret")]);
    let own = error("ERROR", "42703");
    driver.server(&[&own, &z('I')]);
    assert_eq!(driver.heard(), [own, z('I')].concat());
    assert_eq!(codes(&driver.done()), [(Kind::Simple, Outcome::Failed, code("42703"), true)]);
}

#[test]
fn place_outside_of_the_text_keeps_nothing() {
    let text = "select 1; select 2";
    for keep in [text.len(), text.len() + 1, usize::MAX] {
        let mut driver = Driver::ready();
        driver.judge = Box::new(move |_| Some(refuse(keep)));
        driver.client(&[&parse("", "x"), &query(text)]);
        assert!(!memchr::memmem::find(&driver.sent(), b"select").is_some_and(|_| true));
    }
    // Nor does a text that the server would not read to its end.
    let mut driver = Driver::ready();
    driver.judge = Box::new(|_| Some(refuse(3)));
    driver.client(&[&parse("", "x"), b"Q\0\0\0\x0ba\0b;c\0\0"]);
    assert!(driver.to_server.ends_with(&query(POISON)));
}

#[test]
fn success_in_the_place_of_a_refused_statement_ends_the_session() {
    let mut driver = Driver::refusing();
    driver.client(&[&query("begin")]).server(&[&complete("BEGIN"), &z('T')]);
    driver.heard();
    driver.client(&[&query("select secret")]);
    assert!(driver.try_feed(&Step::Server(columns())).is_err());
    assert_eq!(driver.heard(), b"");

    let mut driver = Driver::refusing();
    driver.client(&[&query("a; select secret")]);
    assert!(driver.try_feed(&Step::Server([complete("A"), z('I')].concat())).is_err());
    assert_eq!(driver.heard(), complete("A"));

    let mut driver = Driver::refusing();
    driver.client(&[&parse("s", "select secret"), &sync()]);
    assert!(driver.try_feed(&Step::Server(PARSED.to_vec())).is_err());
}

#[test]
fn refused_parse_is_prepared_as_the_poison_and_skips_to_sync() {
    let mut driver = Driver::refusing();
    driver.client(&[
        &parse_typed("s", "select secret", &[23]),
        &bind("", "s"),
        &execute(""),
        &sync(),
    ]);
    // The `Execute` is of a statement that is never made: what runs there is not known.
    assert!(driver.sent().starts_with(&parse("s", POISON)));
    driver.server(&[&poison_error(), &z('I')]);
    assert_eq!(driver.heard(), [told(), z('I')].concat());
    let done = driver.done();
    assert_eq!((&*done[0].text, done[0].text_state), (&b"select secret"[..], TextState::Exact));
    assert_eq!(
        codes(&done),
        [
            (Kind::Parse, Outcome::Refused, code("42501"), true),
            (Kind::Execute, Outcome::Skipped, None, false)
        ]
    );
}

#[test]
fn refused_parse_without_sync_is_told_at_once() {
    let mut driver = Driver::refusing();
    driver.client(&[&parse("", "select secret"), &flush()]).server(&[&poison_error()]);
    assert_eq!(driver.heard(), told());
    driver.client(&[&query("select 1")]);
    assert_eq!(driver.session.answers_owed(), 0, "the server skips it");
    driver.client(&[&sync()]).server(&[&z('I')]);
    assert_eq!(driver.heard(), z('I'));
    driver.client(&[&query("select secret")]);
    assert_eq!(driver.heard(), [told(), z('I')].concat(), "and is quiet again");
}

#[test]
fn pipeline_around_a_refusal_keeps_its_order() {
    let mut driver = Driver::refusing();
    let unit = |text| [parse("", text), bind("", ""), execute("")].concat();
    driver.client(&[&unit("a"), &unit("select secret"), &unit("b"), &sync(), &unit("c"), &sync()]);
    let before = [PARSED, BOUND, &complete("A")].concat();
    let after = [&z('I')[..], PARSED, BOUND, &complete("C"), &z('I')].concat();
    driver.server(&[&before, &poison_error(), &after]);
    assert_eq!(driver.heard(), [before, told(), after].concat());
    let outcomes: Vec<_> = driver.outcomes().into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Completed,
            Outcome::Refused,
            Outcome::Skipped,
            Outcome::Skipped,
            Outcome::Completed
        ]
    );
}

#[test]
fn refused_execution_becomes_a_parse_and_nothing_of_the_portal_runs() {
    let mut driver = Driver::ready();
    driver.client(&[&parse("s", "a"), &bind("p", "s"), &sync()]);
    driver.server(&[PARSED, BOUND, &z('T')]);
    driver.sent();
    driver.heard();
    driver.judge = Box::new(|_| Some(refuse(0)));
    driver.client(&[&execute("p"), &sync()]);
    assert_eq!(driver.sent(), [parse(OWN, POISON), sync()].concat());
    driver.server(&[&poison_error(), &z('E')]);
    assert_eq!(driver.heard(), [told(), z('E')].concat());
    let statement = driver.one_done();
    assert_eq!((&*statement.text, statement.kind), (&b"a"[..], Kind::Execute));
    assert_eq!((statement.outcome, statement.sqlstate), (Outcome::Refused, Some(*b"42501")));
}

/// Under a new epoch, what was prepared under an old one is asked about before its values go.
#[test]
fn statements_decided_under_another_epoch_are_decided_again_at_bind_and_describe() {
    let mut driver = Driver::ready();
    driver.session.decide_under(1);
    driver.client(&[&parse("s", "a"), &sync()]).server(&[PARSED, &z('I')]);
    driver.client(&[&bind("", "s"), &describe(Target::Statement, "s"), &sync()]);
    driver.server(&[BOUND, &parameter_types(&[]), NO_DATA, &z('I')]);
    let asked = |driver: &mut Driver| {
        let ready = driver.events.drain(..).filter_map(|event| match event {
            Event::StatementReady(ready) => Some((ready.kind, ready.text.to_vec())),
            _ => None,
        });
        ready.collect::<Vec<_>>()
    };
    assert_eq!(asked(&mut driver), [(Kind::Parse, b"a".to_vec())]);
    driver.session.decide_under(2);
    driver.sent();
    driver.heard();
    for message in [
        bind_values("", "s", &[], &[Some(b"value")]),
        describe(Target::Statement, "s"),
        describe(Target::Portal, "p"),
    ] {
        driver.judge = Box::new(|_| Some(refuse(0)));
        driver.client(&[&message, &sync()]);
        assert_eq!(driver.sent(), [parse(OWN, POISON), sync()].concat());
        driver.server(&[&poison_error(), &z('I')]);
        assert_eq!(driver.heard(), [told(), z('I')].concat());
    }
    let kinds: Vec<_> = asked(&mut driver).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::Bind, Kind::Describe, Kind::Describe]);
    // Decided anew, it is not asked about again.
    driver.judge = Box::new(|ready| Some(forward(ready.id)));
    driver.client(&[&close(Target::Statement, "s"), &parse("s", "b"), &bind("", "s"), &sync()]);
    assert_eq!(asked(&mut driver), [(Kind::Parse, b"b".to_vec())]);
}

/// A name may fall back to what it meant before, if what redefines it fails.
#[test]
fn execution_waits_while_an_answer_decides_what_it_runs() {
    let mut driver = Driver::ready();
    driver.session.decide_under(1);
    driver.client(&[&parse("s", "old"), &sync()]).server(&[PARSED, &z('I')]);
    driver.session.decide_under(2);
    driver.events.clear();
    driver.client(&[&close(Target::Statement, "s"), &parse("s", "new"), &sync()]);
    driver.client(&[&bind("", "s"), &sync()]);
    assert!(driver.held() > 0, "it is not known which statement is meant");
    driver.server(&[&error("ERROR", "XX000"), &z('I')]);
    let texts: Vec<_> = driver
        .events
        .iter()
        .filter_map(|event| match event {
            Event::StatementReady(ready) => Some((ready.kind, ready.text.to_vec())),
            _ => None,
        })
        .collect();
    assert_eq!(texts, [(Kind::Parse, b"new".to_vec()), (Kind::Bind, b"old".to_vec())]);
    assert_eq!(driver.held(), 0);
}

#[test]
fn failed_or_refused_parse_keeps_a_name_and_drops_the_unnamed() {
    let mut driver = Driver::refusing();
    driver.client(&[&parse("s", "old"), &parse("", "old"), &sync()]);
    driver.server(&[PARSED, PARSED, &z('I')]);
    for name in ["s", ""] {
        driver.client(&[&parse(name, "secret"), &sync(), &bind("p", name), &execute("p"), &sync()]);
        driver.server(&[&poison_error(), &z('I')]);
        driver.server(&[BOUND, &complete("A"), &z('I')]);
    }
    let texts: Vec<_> = driver
        .events
        .iter()
        .filter_map(|event| match event {
            Event::StatementReady(ready) if ready.kind == Kind::Execute => Some(&*ready.text),
            _ => None,
        })
        .collect();
    assert_eq!(texts, [&b"old"[..], b""]);
    let ran = driver.done();
    let ran: Vec<_> = ran.iter().filter(|s| s.kind == Kind::Execute).map(|s| &*s.text).collect();
    assert_eq!(ran, [&b"old"[..], b""]);
}

#[test]
fn refused_function_call_is_one_of_no_function() {
    let mut driver = Driver::refusing();
    driver.client(&[&query("begin")]).server(&[&complete("BEGIN"), &z('T')]);
    driver.sent();
    driver.heard();
    driver.client(&[&function_call(7, b"value")]);
    assert_eq!(driver.sent(), b"F\0\0\0\x0e\0\0\0\0\0\0\0\0\0\0");
    driver.server(&[&error("ERROR", "42883"), &z('E')]);
    assert_eq!(driver.heard(), [told(), z('E')].concat());
    let mut driver = Driver::refusing();
    driver.client(&[&function_call(7, b"value")]);
    assert_eq!((driver.sent(), driver.heard()), (Vec::new(), [told(), z('I')].concat()));
}

#[test]
fn data_of_a_refused_copy_does_not_reach_the_server() {
    let mut driver = Driver::refusing();
    let copy = [query("copy secret from stdin"), data(b"1\n"), data(b"2\n"), copy_done()].concat();
    driver.client(&[&copy, &query("next")]);
    assert_eq!(driver.sent(), query("next"));
}

#[test]
fn log_of_the_poison_is_withheld() {
    let log = |severity: &[u8]| {
        let fields = [
            ErrorField { code: b'S', text: b"LOG" },
            ErrorField { code: b'V', text: severity },
            ErrorField { code: b'C', text: b"00000" },
            ErrorField { code: b'M', text: POISON.as_bytes() },
        ];
        back(Backend::NoticeResponse(Terminated::new(fields).expect("no zeros")))
    };
    let mut driver = Driver::refusing();
    driver.client(&[&parse("", "secret"), &sync()]);
    driver.server(&[&log(b"LOG"), &log(b"DEBUG2"), &notice(), &poison_error(), &z('I')]);
    assert_eq!(driver.heard(), [notice(), told(), z('I')].concat());
}

#[test]
fn long_error_is_replaced_with_all_of_its_body() {
    let mut driver = Driver::ready();
    driver.client(&[&query("long")]);
    assert!(driver.session.explain_cancel(StatementId(1), denied()));
    driver.session.handle_cancel_sent();
    let mut long = error("ERROR", "57014");
    long.pop();
    long.extend([&b"W"[..], &[b'x'; 100_000], b"\0\0"].concat());
    let length = (long.len() as u32 - 1).to_be_bytes();
    long[1..5].copy_from_slice(&length);
    for part in long.chunks(1_000) {
        driver.server(&[part]);
        assert!(driver.session.backend_rest_may_pass() || driver.held() == 0);
        assert!(!driver.session.backend_is_mid_message());
    }
    driver.server(&[&z('I')]);
    assert_eq!(driver.heard(), [told(), z('I')].concat());
    assert_eq!(driver.one_done().outcome, Outcome::Failed);
}

#[test]
fn notices_come_in_front_of_the_first_answer() {
    let said = Notice {
        severity: NoticeSeverity::Warning,
        sqlstate: *b"01000",
        text: "careful".into(),
        detail: None,
        hint: Some("ask".into()),
    };
    let mut frame = Vec::new();
    said.write(&mut frame).expect("fits");
    let mut driver = Driver::ready();
    driver.judge =
        Box::new(move |ready| Some(Decision::Forward(permit(ready.id).with_notice(said.clone()))));
    driver.client(&[&query("a"), &parse("", "b"), &sync()]);
    let first = [columns(), row(b"1"), complete("A"), z('I')].concat();
    driver.server(&[&notification(), &first, PARSED, &z('I')]);
    let expected = [&notification()[..], &frame, &first, &frame, PARSED, &z('I')].concat();
    assert_eq!(driver.heard(), expected);
}

#[test]
fn terminated_session_hears_earlier_answers_first() {
    let mut driver = Driver::ready();
    driver.judge = Box::new(|ready| {
        Some(match &*ready.text {
            b"drop" => Decision::Terminate(denied()),
            _ => forward(ready.id),
        })
    });
    driver.client(&[&parse("", "a"), &bind("", ""), &execute(""), &parse("", "drop"), &sync()]);
    let sent = [parse("", "a"), bind("", ""), execute(""), flush()].concat();
    assert_eq!(driver.sent(), sent, "the server is asked for what it owes, and for nothing else");
    let answers = [PARSED, BOUND, &complete("A")].concat();
    driver.server(&[&answers, &notice()]);
    let fatal = Reply { severity: Severity::Fatal, ..denied() };
    let mut frame = Vec::new();
    fatal.write(&mut frame).expect("fits");
    assert_eq!(driver.heard(), [answers, notice(), frame].concat());
    assert_eq!(driver.session.state(), State::Closing);
    assert!(driver.events.contains(&Event::Ended { sqlstate: *b"42501" }));
    driver.server(&[&notice()]).client(&[&query("more")]);
    assert_eq!((driver.heard(), driver.sent()), (Vec::new(), Vec::new()));
    let done = driver.close().done();
    assert_eq!((done[1].kind, done[1].outcome), (Kind::Parse, Outcome::Refused));
}

#[test]
fn permit_is_for_one_statement() {
    let mut driver = Driver::ready();
    driver.judge = Box::new(|ready| Some(forward(StatementId(ready.id.0 + 1))));
    driver.try_feed(&Step::Client(query("a"))).expect("in order");
    assert_eq!((driver.sent(), driver.held()), (Vec::new(), query("a").len()));
}

#[test]
fn refusal_with_a_text_that_no_message_can_hold_is_told_in_bare_words() {
    let mut driver = Driver::ready();
    driver.judge = Box::new(|_| {
        let reply = Reply { text: "a\0b".into(), ..denied() };
        Some(Decision::Refuse(Refusal { reply, keep_bytes: 0 }))
    });
    driver.client(&[&query("a")]);
    let heard = driver.heard();
    assert!(memchr::memmem::find(&heard, b"C42501\0Mpermission denied\0").is_some());
    assert!(heard.ends_with(&z('I')));
}
