//! Any first bytes: what is read writes back as it came, and every prefix of a packet waits or is
//! refused for the same reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgward::pg::Error;
use pgward::pg::error::BytesFault;
use pgward::pg::startup::{
    FirstPacket, Opening, Transport, write_gssenc_request, write_ssl_request, write_startup,
};

fuzz_target!(|data: &[u8]| {
    let Some((options, mut rest)) = data.split_first() else { return };
    let transport = if options & 1 == 0 { Transport::Clear } else { Transport::Encrypted };
    let mut opening = Opening::new(transport);
    for _ in 0..4 {
        // Requests for encryption may have nothing behind them: cut to the packet half the time.
        let input = match rest.first_chunk::<4>() {
            Some(field) if options & 2 == 0 => {
                &rest[..rest.len().min(u32::from_be_bytes(*field) as usize)]
            }
            _ => rest,
        };
        let before = opening;
        let read = opening.handle(input);
        let consumed = match &read {
            Ok(Some((packet, consumed))) => {
                assert!(*consumed <= input.len());
                check_written(packet, &input[..*consumed]);
                *consumed
            }
            Ok(None) | Err(_) => 0,
        };
        for end in 0..consumed {
            let prefix = before.clone().handle(&input[..end]);
            assert_eq!(prefix, Ok(None), "prefix of {end} bytes");
        }
        if let Err(Error::Bytes { side: _, fault: BytesFault::Stuffed { found } }) = read {
            assert_eq!(found, input.len() - 8);
        }
        if consumed == 0 {
            return;
        }
        rest = &rest[consumed..];
    }
});

fn check_written(packet: &FirstPacket, bytes: &[u8]) {
    let mut out = Vec::new();
    match packet {
        FirstPacket::Startup { minor, parameters } => write_startup(&mut out, *minor, parameters),
        FirstPacket::SslRequest => write_ssl_request(&mut out),
        FirstPacket::GssEncRequest => write_gssenc_request(&mut out),
        FirstPacket::Cancel(cancel) => cancel.write(&mut out),
        FirstPacket::DirectTls
        | FirstPacket::Unsupported { major: _, minor: _ }
        | FirstPacket::Other { first: _ } => return,
    }
    .expect("what was read can be written");
    assert_eq!(out, bytes);
}
