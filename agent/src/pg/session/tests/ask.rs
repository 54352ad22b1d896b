//! Questions of the driver's own.

use super::*;

const QUESTION: Question<'static> =
    Question { text: b"select 1", values: &[Some(b"v")], rows_max: 2, bytes_max: 100 };

/// The answer in front of its rows.
fn begin() -> Vec<u8> {
    [CLOSED, CLOSED, PARSED, BOUND].concat()
}

fn answers(driver: &mut Driver) -> Vec<Answer> {
    let answers = driver.events.drain(..).filter_map(|event| match event {
        Event::Answer(answer) => Some(*answer),
        _ => None,
    });
    answers.collect()
}

fn asked() -> Driver {
    let mut driver = Driver::ready();
    driver.session.ask(QUESTION).expect("it is idle");
    assert!(driver.session.frontend_output_waits());
    driver.client(&[]);
    driver
}

#[test]
fn question_and_answer_are_invisible_and_what_the_client_sends_waits() {
    let mut driver = asked();
    let sent = driver.sent();
    assert!(sent.starts_with(b"C") && sent.ends_with(&sync()));
    driver.client(&[&query("a")]);
    assert_eq!(driver.sent(), b"");
    driver.server(&[&begin(), &notice(), &setting("x", "y"), &row(b"1"), &notification()]);
    driver.server(&[&complete("SELECT 1"), CLOSED, &z('I')]);
    assert_eq!(driver.heard(), [setting("x", "y"), notification()].concat());
    let rows = vec![vec![Some(b"1"[..].into())]];
    assert_eq!(answers(&mut driver), [Answer { rows: Ok(rows) }]);
    assert_eq!(driver.sent(), query("a"), "it goes on now");
}

#[test]
fn answers_come_byte_by_byte_too() {
    let mut driver = asked();
    let all = [begin(), row(b"1"), row(b"2"), complete("SELECT 2"), CLOSED.to_vec(), z('I')];
    for byte in all.concat() {
        driver.server(&[&[byte]]);
    }
    assert_eq!(driver.heard(), b"");
    assert_eq!(answers(&mut driver)[0].rows.as_ref().map(Vec::len), Ok(2));
}

#[test]
fn failed_question_is_told_to_nobody_else() {
    let mut driver = asked();
    driver.server(&[CLOSED, CLOSED, &error("ERROR", "42P01"), &z('I')]);
    assert_eq!(driver.heard(), b"");
    let answer = Answer { rows: Err(Unanswered::Failed(*b"42P01")) };
    assert_eq!(answers(&mut driver), [answer]);
    assert!(driver.session.may_ask());
}

#[test]
fn too_many_rows_or_bytes_are_not_kept() {
    for rows in [row(b"1").repeat(3), row(&[b'x'; 101]), row(&[b'x'; 10_000])] {
        let mut driver = asked();
        driver.server(&[&begin(), &rows, &complete("SELECT"), CLOSED, &z('I')]);
        assert_eq!(driver.heard(), b"");
        assert_eq!(answers(&mut driver), [Answer { rows: Err(Unanswered::TooLarge) }]);
    }
}

#[test]
fn end_of_the_session_reaches_the_client() {
    let mut driver = asked();
    let fatal = error("FATAL", "57P01");
    driver.server(&[&begin(), &fatal]);
    assert_eq!(driver.heard(), fatal);
    assert_eq!(answers(&mut driver)[0].rows, Err(Unanswered::Failed(*b"57P01")));
    let mut driver = asked();
    driver.close();
    assert_eq!(answers(&mut driver)[0].rows, Err(Unanswered::Closed));
}

#[test]
fn only_an_idle_session_can_be_asked() {
    let mut driver = Driver::ready();
    driver.client(&[&query("a")]);
    assert_eq!(driver.session.ask(QUESTION), Err(NotAsked::Busy));
    driver.server(&[&complete("A"), &z('T')]);
    assert_eq!(driver.session.ask(QUESTION), Err(NotAsked::Busy));
    driver.client(&[&query("b")]).server(&[&complete("B"), &z('I')]);
    assert!(driver.session.may_ask());
    driver.client(&[&parse("", "c"), &flush()]).server(&[PARSED]);
    assert!(!driver.session.may_ask(), "no Sync yet: a transaction is open");
    driver.client(&[&sync()]).server(&[&z('I')]);
    assert_eq!(driver.session.ask(QUESTION), Ok(()));
    assert_eq!(driver.session.ask(QUESTION), Err(NotAsked::Busy));
    let zero = Question { text: b"a\0b", ..QUESTION };
    assert!(matches!(Driver::ready().session.ask(zero), Err(NotAsked::Unwritable(_))));
}

#[test]
fn statement_that_waits_for_its_decision_does_not_hinder() {
    let mut driver = Driver::ready();
    driver.judge = Box::new(|_| None);
    driver.client(&[&query("a")]);
    assert_eq!(driver.session.ask(QUESTION), Ok(()));
    driver.client(&[]);
    driver.session.handle_decision(StatementId(1), forward(StatementId(1)));
    driver.client(&[]);
    assert!(!driver.sent().ends_with(&query("a")));
    driver.server(&[&begin(), &complete("SELECT 0"), CLOSED, &z('I')]);
    assert_eq!(driver.sent(), query("a"));
}

#[test]
fn answer_that_fits_no_question_ends_the_session() {
    for answer in [copy_response(b'H', 0), data(b"x"), SUSPENDED.to_vec()] {
        let mut driver = asked();
        assert!(driver.try_feed(&Step::Server([begin(), answer].concat())).is_err());
    }
}
