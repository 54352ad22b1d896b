//! Any body: what is read writes back as it came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgward::pg::backend::{Backend, ErrorHead};
use pgward::pg::frontend::{Frontend, SaslInitialResponse};

fuzz_target!(|data: &[u8]| {
    let Some((tag, body)) = data.split_first() else { return };
    let expected = [&[*tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat();

    if let Ok(message) = Frontend::read(*tag, body) {
        assert_eq!(message.tag(), *tag);
        let mut out = Vec::new();
        message.write(&mut out).expect("what was read can be written");
        assert_eq!(out, expected);
        let again = Frontend::read(*tag, &out[5..]).expect("what was written can be read");
        assert!(again == message);
    }
    if let Ok(message) = Backend::read(*tag, body) {
        assert_eq!(message.tag(), *tag);
        let mut out = Vec::new();
        message.write(&mut out).expect("what was read can be written");
        assert_eq!(out, expected);
        let again = Backend::read(*tag, &out[5..]).expect("what was written can be read");
        assert!(again == message);
    }
    if let Ok(message) = SaslInitialResponse::read(body) {
        let mut out = Vec::new();
        message.write(&mut out).expect("what was read can be written");
        assert_eq!(&out[5..], body);
    }
    ErrorHead::read(body);
});
