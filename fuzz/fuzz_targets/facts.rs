//! Any bytes as statements: each has facts or a named reason, spans lie in order and inside of the text, and what is in
//! front of a statement holds exactly the statements before it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgward::sql::facts::{Encoding, Limits, Reading, STACK_BYTES, analyse, tags};
use pgward::sql::lex::Strings;
use pgward_fuzz::Bytes;

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let choice = bytes.u8().unwrap_or(0);
    let text = bytes.0;
    let encoding = if choice & 1 == 0 { Encoding::Utf8 } else { Encoding::Other };
    let strings = if choice & 2 == 0 { Strings::Standard } else { Strings::Unsure };
    let reading = Reading { encoding, strings };
    tags(text);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let work = || check(text, reading);
        thread.spawn_scoped(scope, work).expect("a thread").join().expect("no panic");
    });
});

fn check(text: &[u8], reading: Reading) {
    let limits = Limits::default();
    let Ok(facts) = analyse(text, reading, &limits) else { return };
    let mut end = 0;
    for (index, statement) in facts.statements.iter().enumerate() {
        let span = &statement.span;
        assert!(end <= span.start && span.start <= span.end && span.end <= text.len());
        end = span.end;
        for relation in &statement.relations {
            assert!((relation.scope as usize) < statement.parents.len());
        }
        for column in &statement.columns {
            assert!((column.scope as usize) < statement.parents.len());
        }
        let before = facts.cut(text, index).expect("inside of the text");
        let before = analyse(before, reading, &limits).expect("what is in front parses");
        assert_eq!(before.statements, facts.statements[..index]);
    }
}
