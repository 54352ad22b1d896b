//! Facts of statements against what is written beside them.

use super::*;

#[test]
fn smoke() {
    let facts = analyse(b"select a from t", Encoding::Utf8, &Limits::default()).expect("parses");
    assert_eq!(facts.statements.len(), 1);
}
