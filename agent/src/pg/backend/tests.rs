use super::*;
use crate::pg::codec::{HEADER_BYTES, Header};

fn every_message() -> Vec<Backend<'static>> {
    let auth = Backend::Authentication;
    let fields = || {
        let fields = [
            ErrorField { code: b'S', text: b"ERROR" },
            ErrorField { code: b'C', text: b"42P01" },
            ErrorField { code: b'?', text: b"" },
        ];
        Terminated::new(fields).expect("no zeros")
    };
    let copy = || CopyFormat { format: 1, columns: Formats::new([1, 1]).expect("few") };
    let column = Column {
        name: b"x",
        table: 1,
        attribute: 2,
        type_oid: 25,
        type_bytes: 0xffff,
        type_modifier: -1,
        format: 0,
    };
    let mechanisms = Terminated::new([&b"SCRAM-SHA-256"[..], b"OAUTHBEARER"]);
    vec![
        auth(Authentication::Ok),
        auth(Authentication::KerberosV5),
        auth(Authentication::CleartextPassword),
        auth(Authentication::Md5Password { salt: *b"salt" }),
        auth(Authentication::ScmCredential),
        auth(Authentication::Gss),
        auth(Authentication::GssContinue(b"token")),
        auth(Authentication::Sspi),
        auth(Authentication::Sasl(mechanisms.expect("no zeros"))),
        auth(Authentication::SaslContinue(b"r=")),
        auth(Authentication::SaslFinal(b"v=")),
        Backend::BackendKeyData { pid: 1, key: &[1; 4] },
        Backend::BackendKeyData { pid: u32::MAX, key: &[2; 256] },
        Backend::ParameterStatus { name: b"TimeZone", value: b"" },
        Backend::NegotiateProtocolVersion { newest: 0, options: vec![b"_pq_.a", b"_pq_.b"] },
        Backend::RowDescription(Columns::new([column, column]).expect("few")),
        Backend::DataRow(Values::new([None, Some(&b"row"[..])]).expect("few")),
        Backend::CommandComplete(b"SELECT 1"),
        Backend::EmptyQueryResponse,
        Backend::ErrorResponse(fields()),
        Backend::NoticeResponse(fields()),
        Backend::NotificationResponse { pid: 3, channel: b"c", payload: b"p" },
        Backend::NoData,
        Backend::ParameterDescription(Oids::new([23]).expect("few")),
        Backend::ParseComplete,
        Backend::BindComplete,
        Backend::CloseComplete,
        Backend::PortalSuspended,
        Backend::ReadyForQuery(TransactionStatus::Idle),
        Backend::ReadyForQuery(TransactionStatus::Open),
        Backend::ReadyForQuery(TransactionStatus::Failed),
        Backend::CopyInResponse(copy()),
        Backend::CopyOutResponse(copy()),
        Backend::CopyBothResponse(copy()),
        Backend::CopyData(b"data"),
        Backend::CopyDone,
        Backend::FunctionCallResponse(None),
        Backend::FunctionCallResponse(Some(b"result")),
    ]
}

/// Messages that end with data of any length.
fn is_open_ended(message: &Backend<'_>) -> bool {
    matches!(
        message,
        Backend::CopyData(_)
            | Backend::BackendKeyData { .. }
            | Backend::Authentication(
                Authentication::GssContinue(_)
                    | Authentication::SaslContinue(_)
                    | Authentication::SaslFinal(_)
            )
    )
}

#[test]
fn every_message_round_trips() {
    for message in every_message() {
        let mut frame = Vec::new();
        message.write(&mut frame).expect("fits");
        let header = Header::read(&frame).expect("complete");
        assert_eq!((header.tag, header.length as usize), (message.tag(), frame.len() - 1));
        let read = Backend::read(header.tag, &frame[HEADER_BYTES..]);
        assert_eq!(read.as_ref(), Ok(&message));
    }
}

#[test]
fn every_shorter_or_longer_body_is_refused() {
    for message in every_message().into_iter().filter(|message| !is_open_ended(message)) {
        let mut frame = Vec::new();
        message.write(&mut frame).expect("fits");
        let body = &frame[HEADER_BYTES..];
        for end in 0..body.len() {
            let read = Backend::read(message.tag(), &body[..end]);
            assert!(read.is_err(), "{message:?} cut to {end} bytes");
        }
        let longer = [body, b"\0"].concat();
        let trailing = Backend::read(message.tag(), &longer);
        assert_eq!(trailing, Err(BytesFault::Trailing { found: 1 }), "{message:?}");
    }
}

#[test]
fn cancel_key_has_4_to_256_bytes() {
    for length in [0, 3, 257] {
        let body = vec![0; 4 + length];
        let refused = BytesFault::Value { field: "length of cancel key", found: length as u32 };
        assert_eq!(Backend::read(b'K', &body), Err(refused));
    }
}

#[test]
fn options_claimed_reserve_nothing() {
    let body = [&[0, 3, 0, 2][..], &[0xff; 4]].concat();
    assert_eq!(Backend::read(b'v', &body), Err(BytesFault::Unterminated));
}

#[test]
fn error_head_is_read_from_any_prefix() {
    let body = b"SFATAL\0VFATAL\0C57P01\0Mbye\0\0";
    let fatal = ErrorHead { severity: Severity::Fatal, sqlstate: Some(*b"57P01") };
    assert_eq!(ErrorHead::read(body), fatal);
    for end in 0..body.len() {
        let head = ErrorHead::read(&body[..end]);
        assert!(head.sqlstate.is_none() || head == fatal, "prefix of {end} bytes");
    }
    // `V` decides over a localised `S`, whatever that says.
    let localised = b"SFATAL\0VERROR\0C22012\0\0";
    assert_eq!(ErrorHead::read(localised).severity, Severity::Error);
    assert_eq!(ErrorHead::read(b"CABC\0\0").sqlstate, None);
}
