//! Rows beyond a ceiling, and cancels of our own.

use super::*;

fn limited(rows_max: Option<u64>, bytes_max: Option<u64>) -> Driver {
    let mut driver = Driver::ready();
    driver.judge = Box::new(move |ready| {
        let ceiling = Ceiling { rows_max, bytes_max, reply: denied() };
        Some(Decision::Forward(permit(ready.id).with_ceiling(ceiling)))
    });
    driver
}

fn reached(driver: &Driver) -> usize {
    driver.events.iter().filter(|event| matches!(event, Event::CeilingReached(_))).count()
}

#[test]
fn exactly_as_many_rows_pass_and_the_cancel_is_explained() {
    let mut driver = limited(Some(2), None);
    driver.client(&[&query("a")]);
    let first = [columns(), row(b"1"), row(b"2")].concat();
    driver.server(&[&first, &row(b"3"), &row(b"4")[..6]]);
    assert_eq!(reached(&driver), 1);
    assert!(!driver.session.backend_is_mid_message());
    driver.client(&[&query("b")]);
    assert!(driver.held() > 0, "nothing else may be hit by the cancel");
    driver.server(&[&row(b"4")[6..], &error("ERROR", "57014"), &z('I')]);
    assert_eq!(driver.heard(), [first, told(), z('I')].concat());
    driver.session.handle_cancel_sent();
    driver.client(&[]);
    assert_eq!(driver.held(), 0);
    let statement = driver.one_done();
    assert_eq!((statement.rows, statement.rows_withheld), (2, 2));
    assert_eq!((statement.outcome, statement.sqlstate), (Outcome::Failed, Some(*b"42501")));
}

#[test]
fn as_many_rows_as_allowed_are_no_reason() {
    let mut driver = limited(Some(2), Some(14));
    driver.client(&[&query("a")]);
    let all = [columns(), row(b"1"), row(b"2"), complete("SELECT 2"), z('I')].concat();
    driver.server(&[&all]);
    assert_eq!((driver.heard(), reached(&driver)), (all, 0));
}

#[test]
fn bytes_are_counted_by_whole_rows() {
    // A row of one byte has a body of seven.
    let mut driver = limited(None, Some(13));
    driver.client(&[&query("a")]).server(&[&row(b"1"), &row(b"2")]);
    assert_eq!((driver.heard(), reached(&driver)), (row(b"1"), 1));
}

#[test]
fn result_that_was_cut_is_never_shown_as_complete() {
    let end = [complete("SELECT 3"), SUSPENDED.to_vec()];
    for (message, end) in [query("a"), execute("p")].into_iter().zip(end) {
        let mut driver = limited(Some(1), None);
        driver.client(&[&message]).server(&[&row(b"1"), &row(b"2"), &end]);
        let heard = driver.heard();
        assert!(heard.starts_with(&row(b"1")));
        assert_eq!(&heard[row(b"1").len()..][..1], b"E");
        assert!(memchr::memmem::find(&heard, b"VFATAL\0C57P01\0").is_some());
        assert!(driver.events.contains(&Event::Ended { sqlstate: *b"57P01" }));
        assert_eq!(driver.session.state(), State::Closing);
    }
}

#[test]
fn copy_to_the_client_is_counted_too() {
    let mut driver = limited(Some(1), None);
    driver.client(&[&query("copy")]);
    let first = [copy_response(b'H', 0), data(b"1\n")].concat();
    driver.server(&[&first, &data(b"2\n"), &error("ERROR", "57014"), &z('I')]);
    assert_eq!(driver.heard(), [first.clone(), told(), z('I')].concat());
    let mut driver = limited(Some(1), None);
    driver.client(&[&query("copy")]);
    driver.server(&[&first, &data(b"2\n"), &copy_done(), &complete("COPY 2"), &z('I')]);
    assert!(memchr::memmem::find(&driver.heard(), b"C57P01").is_some());
}

#[test]
fn other_errors_behind_a_ceiling_are_the_servers() {
    let mut driver = limited(Some(0), None);
    driver.client(&[&query("a")]);
    driver.server(&[&row(b"1"), &error("ERROR", "22012"), &z('I')]);
    assert_eq!(driver.heard(), [error("ERROR", "22012"), z('I')].concat());
}

#[test]
fn cancel_is_explained_once_and_only_for_the_statement_under_way() {
    let mut driver = Driver::ready();
    driver.client(&[&query("a"), &query("b")]);
    assert!(!driver.session.explain_cancel(StatementId(2), denied()));
    assert!(driver.session.explain_cancel(StatementId(1), denied()));
    let canceled = [error("ERROR", "57014"), z('I')].concat();
    driver.server(&[&canceled, &canceled]);
    assert_eq!(driver.heard(), [told(), z('I'), canceled].concat());
    assert!(!driver.session.explain_cancel(StatementId(1), denied()));
}
