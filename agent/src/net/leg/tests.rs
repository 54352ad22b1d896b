//! A leg against a peer whose records are made by hand.

use std::{
    future::poll_fn,
    io::{self, Read as _, Write as _},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use rustls::{ClientConnection, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{records::MARKS_MAX, *};
use crate::tls::{
    Alpn,
    test_support::{OFFERED, client_leg, connection, plain_client},
};

/// A client whose bytes go out when the test says so.
struct Peer {
    tls: ClientConnection,
    tcp: TcpStream,
    /// Bytes sent, from the first of the connection.
    sent: u64,
}

impl Peer {
    /// Shakes hands with a leg, behind `before` bytes of something else.
    async fn new(before: u64) -> (Self, Leg) {
        let folder = tempfile::tempdir().expect("a folder");
        let (roots, client_leg) = client_leg(folder.path(), &[]);
        let config = plain_client(&[&rustls::version::TLS13], &roots, OFFERED);
        let name = ServerName::try_from("db.example.org").expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("a client");
        let (tcp, far) = connection().await;
        let mut peer = Self { tls, tcp, sent: before };
        let address = far.local_addr().expect("an address").ip();
        let (accepted, ()) = tokio::join!(
            client_leg.accept(far, before, Vec::new(), None, address, Alpn::Required),
            peer.shake_hands(),
        );
        (peer, accepted.expect("accepted").0)
    }

    async fn shake_hands(&mut self) {
        while self.tls.is_handshaking() {
            let bytes = self.encrypted();
            self.send(&bytes).await;
            if self.tls.is_handshaking() {
                self.receive().await;
            }
        }
        let bytes = self.encrypted();
        self.send(&bytes).await;
    }

    async fn receive(&mut self) -> usize {
        let mut bytes = [0; 20_000];
        let count = self.tcp.read(&mut bytes).await.expect("read");
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).expect("read");
            self.tls.process_new_packets().expect("good records");
        }
        count
    }

    /// What the library has to send.
    fn encrypted(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).expect("memory");
        }
        bytes
    }

    /// One record.
    fn record(&mut self, text: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(text).expect("memory");
        self.encrypted()
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.tcp.write_all(bytes).await.expect("sent");
        self.sent += bytes.len() as u64;
    }
}

/// Reads until all that was sent was taken off the socket, and nothing more is to be had.
async fn drain(leg: &mut Leg, sent: u64, room: usize) -> Vec<u8> {
    let mut text = Vec::new();
    let mut buffer = vec![0; room];
    poll_fn(|cx| {
        loop {
            let mut into = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *leg).poll_read(cx, &mut into) {
                Poll::Ready(result) => {
                    result.expect("good records");
                    assert!(!into.filled().is_empty(), "no end");
                    text.extend_from_slice(into.filled());
                }
                Poll::Pending if leg.raw_read() < sent => return Poll::Pending,
                Poll::Pending => return Poll::Ready(()),
            }
        }
    })
    .await;
    text
}

fn inner(leg: &Leg) -> &Tls {
    match leg {
        Leg::Tls(tls) => tls,
        Leg::Clear(_) => panic!("not in TLS"),
    }
}

#[tokio::test]
async fn offsets_are_exact_wherever_records_are_cut() {
    let texts: [&[u8]; 4] = [b"a", b"select 1, 2, 3, 4, 5", b"xy", b"0123456789"];
    let (mut peer, mut leg) = Peer::new(8).await;
    assert_eq!(drain(&mut leg, peer.sent, 100).await, b"");
    assert_eq!(leg.raw_read(), peer.sent);
    let mut plain = 0;
    let mut cut = 1;
    loop {
        let base = peer.sent;
        // Where each record begins, and what follows the last one.
        let mut starts = Vec::new();
        let mut bytes = Vec::new();
        let mut text_at = plain;
        for text in texts {
            starts.push((base + bytes.len() as u64, text_at));
            bytes.extend(peer.record(text));
            text_at += text.len() as u64;
        }
        starts.push((base + bytes.len() as u64, text_at));
        if cut > bytes.len() {
            break;
        }
        let room = [1, 3, 1000][cut % 3];
        peer.send(&bytes[..cut]).await;
        let mut got = drain(&mut leg, peer.sent, room).await;
        // Known is what begins within what came, or just behind it.
        for raw in base..=peer.sent + 1 {
            let expected = starts.iter().find(|(start, _)| *start >= raw);
            let expected = expected.filter(|(start, _)| *start <= peer.sent).map(|(_, at)| *at);
            assert_eq!(leg.plain_at(raw), expected, "cut at {cut}: {raw} of {starts:?}");
        }
        let behind = peer.sent + 1;
        peer.send(&bytes[cut..]).await;
        got.extend(drain(&mut leg, peer.sent, room).await);
        assert_eq!(got, texts.concat());
        for raw in behind..=peer.sent {
            let expected = starts.iter().find(|(start, _)| *start >= raw).map(|(_, at)| *at);
            assert_eq!(leg.plain_at(raw), expected, "cut at {cut}: {raw} of {starts:?}");
        }
        assert_eq!(leg.plain_at(peer.sent + 1), None);
        plain = text_at;
        cut += 1;
    }
    assert!(cut > 100);
}

#[tokio::test]
async fn text_that_comes_with_the_handshake_has_its_offset() {
    let folder = tempfile::tempdir().expect("a folder");
    let (roots, client_leg) = client_leg(folder.path(), &[]);
    let config = plain_client(&[&rustls::version::TLS13], &roots, OFFERED);
    let name = ServerName::try_from("db.example.org").expect("a name");
    let tls = ClientConnection::new(Arc::new(config), name).expect("a client");
    let (tcp, far) = connection().await;
    let mut peer = Peer { tls, tcp, sent: 0 };
    let address = far.local_addr().expect("an address").ip();
    let client = async {
        let hello = peer.encrypted();
        peer.send(&hello).await;
        while peer.tls.is_handshaking() {
            peer.receive().await;
        }
        let finished = peer.encrypted();
        let (one, two) = (peer.record(b"startup"), peer.record(b"query"));
        let at = peer.sent + finished.len() as u64;
        peer.send(&[finished, one.clone(), two].concat()).await;
        (at, at + one.len() as u64)
    };
    let (accepted, (one, two)) =
        tokio::join!(client_leg.accept(far, 0, Vec::new(), None, address, Alpn::Required), client);
    let mut leg = accepted.expect("accepted").0;
    assert_eq!(leg.plain_at(0), Some(0));
    assert_eq!(drain(&mut leg, peer.sent, 3).await, b"startupquery");
    assert_eq!(leg.plain_at(one), Some(0));
    assert_eq!(leg.plain_at(one + 1), Some(7));
    assert_eq!(leg.plain_at(two), Some(7));
    assert_eq!(leg.plain_at(two + 1), Some(12));
}

#[tokio::test]
async fn the_library_gets_one_record_at_a_time() {
    let (mut peer, leg) = Peer::new(0).await;
    let Leg::Tls(tls) = leg else { panic!("not in TLS") };
    let mut bytes = Vec::new();
    let mut lengths = Vec::new();
    for length in [1, 100, 5_000, 16_384, 7] {
        let record = peer.record(&vec![3; length]);
        lengths.push(record.len());
        bytes.extend(record);
    }
    let mut records = match tls.stream {
        TlsStream::Server(stream) => stream.into_inner().0,
        TlsStream::Client(_) => panic!("the other role"),
    };
    peer.send(&bytes).await;
    for length in lengths {
        let mut left = length;
        while left > 0 {
            let mut buffer = [0; 4096];
            let count = records.read(&mut buffer).await.expect("read");
            assert!((1..=left).contains(&count), "{count} of {left}");
            left -= count;
        }
    }
    assert_eq!(records.raw_read(), peer.sent);
}

#[tokio::test]
async fn a_leg_at_rest_holds_no_buffer() {
    let (mut peer, mut leg) = Peer::new(0).await;
    let mut bytes = Vec::new();
    for _ in 0..3 * MARKS_MAX {
        bytes.extend(peer.record(b"x"));
    }
    let (_, text) = tokio::join!(
        async {
            peer.tcp.write_all(&bytes).await.expect("sent");
        },
        async {
            let mut text = vec![0; 3 * MARKS_MAX];
            leg.read_exact(&mut text).await.expect("read");
            text.len()
        }
    );
    assert_eq!(text, 3 * MARKS_MAX);
    // The last records are still known, and their number was bounded.
    let raw = leg.raw_read();
    let each = (bytes.len() / (3 * MARKS_MAX)) as u64;
    poll_fn(|cx| {
        let mut buffer = [0; 10];
        let mut into = ReadBuf::new(&mut buffer);
        assert!(Pin::new(&mut leg).poll_read(cx, &mut into).is_pending());
        Poll::Ready(())
    })
    .await;
    let held = inner(&leg).stream.get_ref().0.memory_bytes();
    assert!(held <= 1024, "{held} bytes");
    assert_eq!(leg.plain_at(raw - 3 * each), Some(3 * MARKS_MAX as u64 - 3));
    assert_eq!(leg.plain_at(raw), Some(3 * MARKS_MAX as u64));
}

#[tokio::test]
async fn the_end_needs_no_goodbye() {
    for goodbye in [true, false] {
        let (mut peer, mut leg) = Peer::new(0).await;
        let mut bytes = peer.record(b"bye");
        if goodbye {
            peer.tls.send_close_notify();
            bytes.extend(peer.encrypted());
        }
        peer.send(&bytes).await;
        peer.tcp.shutdown().await.expect("closed");
        let mut text = Vec::new();
        leg.read_to_end(&mut text).await.expect("an end");
        assert_eq!(text, b"bye");
        assert_eq!(leg.read(&mut [0; 1]).await.expect("still the end"), 0);
        // Half of it is closed: what the client waits for still comes.
        leg.write_all(b"last words").await.expect("written");
        leg.shutdown().await.expect("closed");
        let mut got = vec![0; 10];
        while peer.receive().await > 0 {}
        peer.tls.reader().read_exact(&mut got).expect("text");
        assert_eq!(got, b"last words");
        let end = peer.tls.reader().read(&mut got).expect("the leg says goodbye");
        assert_eq!(end, 0);
    }
}

#[tokio::test]
async fn a_leg_that_said_goodbye_still_reads() {
    let (mut peer, mut leg) = Peer::new(0).await;
    leg.shutdown().await.expect("closed");
    while peer.receive().await > 0 {}
    let bytes = peer.record(b"answer");
    peer.send(&bytes).await;
    let mut text = [0; 6];
    leg.read_exact(&mut text).await.expect("read");
    assert_eq!(&text, b"answer");
    leg.write_all(b"more").await.expect_err("closed");
}

#[tokio::test]
async fn a_record_that_was_changed_ends_the_leg_behind_what_came_before() {
    let (mut peer, mut leg) = Peer::new(0).await;
    let good = peer.record(b"good");
    let mut bad = peer.record(b"bad!");
    let last = bad.len() - 1;
    bad[last] ^= 1;
    peer.send(&[good, bad].concat()).await;
    let mut text = Vec::new();
    let error = leg.read_to_end(&mut text).await.expect_err("a wrong tag");
    assert_eq!(text, b"good");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn what_a_write_reports_is_with_the_socket() {
    let (mut peer, mut leg) = Peer::new(0).await;
    let sent: Vec<u8> = (0..4_000_000_u32).map(|number| number as u8).collect();
    // The peer reads only when the leg says that it must wait.
    let mut reported = 0;
    let mut got = Vec::new();
    while reported < sent.len() {
        let wrote = poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut leg).poll_write(cx, &sent[reported..]) {
                Poll::Ready(result) => Some(result.expect("written")),
                Poll::Pending => None,
            })
        })
        .await;
        match wrote {
            Some(count) => {
                reported += count;
                assert!(!inner(&leg).stream.get_ref().1.wants_write());
            }
            None => {
                assert!(inner(&leg).unreported > 0 || got.len() < reported);
                peer.receive().await;
                let mut text = Vec::new();
                let end = peer.tls.reader().read_to_end(&mut text).expect_err("no end");
                assert_eq!(end.kind(), io::ErrorKind::WouldBlock);
                got.extend(text);
            }
        }
    }
    leg.shutdown().await.expect("closed");
    while peer.receive().await > 0 {
        let mut text = Vec::new();
        let _ = peer.tls.reader().read_to_end(&mut text);
        got.extend(text);
    }
    assert!(got == sent);
}

#[tokio::test]
async fn keys_may_change() {
    let (mut peer, mut leg) = Peer::new(0).await;
    for round in 0..3 {
        peer.tls.refresh_traffic_keys().expect("possible");
        let bytes = peer.record(b"text");
        peer.send(&bytes).await;
        assert_eq!(drain(&mut leg, peer.sent, 100).await, b"text", "{round}");
        assert_eq!(leg.plain_at(peer.sent), Some(4 * (round + 1)));
        // The answer to the change goes in front of the next text (RFC 8446, section 4.6.3).
        leg.write_all(b"more").await.expect("written");
        let mut got = [0; 4];
        peer.receive().await;
        peer.tls.reader().read_exact(&mut got).expect("text");
        assert_eq!(&got, b"more");
    }
}

#[tokio::test]
async fn in_the_clear_offsets_are_what_they_are() {
    let (mut near, far) = connection().await;
    let mut leg = Leg::clear(far, 8);
    near.write_all(b"hello").await.expect("sent");
    let mut text = [0; 5];
    leg.read_exact(&mut text).await.expect("read");
    leg.write_all(b"world").await.expect("sent");
    near.read_exact(&mut text).await.expect("read");
    assert_eq!((&text, leg.raw_read(), leg.plain_at(11)), (b"world", 13, Some(11)));
    assert!(leg.tls_state().is_none());
}
