//! Any bytes as SQL: tokens lie in order and inside of the text, and a text without its literals is
//! written whatever is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgward::sql::lex::{Encoding, Lexer, Strings};
use pgward::sql::normalise::{Normalised, Replace};
use pgward_fuzz::Bytes;

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let choice = bytes.u8().unwrap_or(0);
    let text = bytes.0;
    let encoding = if choice & 1 == 0 { Encoding::Safe } else { Encoding::Unsafe };
    let strings = if choice & 2 == 0 { Strings::Standard } else { Strings::Unsure };
    let mut end = 0;
    for token in Lexer::new(text, encoding, strings) {
        assert!(end <= token.start && token.start < token.end && token.end <= text.len());
        end = token.end;
    }
    let normalised = Normalised::of(text, encoding, strings);
    for replace in [Replace::All, Replace::Secrets] {
        let mut out = Vec::new();
        normalised.write(text, replace, &mut out);
        // A place-holder is longer than a literal of one byte by the digits of its number.
        assert!(out.len() <= text.len() * 12 + 32);
    }
});
