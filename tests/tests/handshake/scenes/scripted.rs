//! A server that says only what a scene wants of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use pgward_tests::host;
use pgward_tests::wire;

use crate::Result;

/// Largest startup packet that is read.
const STARTUP_BYTES_MAX: usize = 10_004;

/// Answers every startup packet with the same bytes and reads until the client closes. It declines encryption, and ends with
/// the test's process.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Scripted {
    pub(super) fn start(answer: Vec<u8>) -> Result<Self> {
        // Below the ephemeral ports, so that no other test's connection is taken for one to this server.
        let listener = TcpListener::bind(("127.0.0.1", host::free_port()?))?;
        let address = listener.local_addr()?;
        let accepted = Arc::<AtomicUsize>::default();
        let theirs = Arc::clone(&accepted);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                theirs.fetch_add(1, Ordering::SeqCst);
                // The client's side shows what happened.
                let answer = answer.clone();
                std::thread::spawn(move || serve(stream, &answer));
            }
        });
        Ok(Self { address, accepted })
    }

    /// Connections so far.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, answer: &[u8]) -> Result {
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        let (length, code) = head.split_at(4);
        let length = u32::from_be_bytes(length.try_into()?) as usize;
        let rest = length.checked_sub(8).filter(|rest| *rest <= STARTUP_BYTES_MAX);
        stream.read_exact(&mut vec![0; rest.context("length")?])?;
        match u32::from_be_bytes(code.try_into()?) {
            wire::SSL_REQUEST | wire::GSSENC_REQUEST => stream.write_all(b"N")?,
            _ => break,
        }
    }
    stream.write_all(answer)?;
    if answer.first() != Some(&b'E') {
        while stream.read(&mut [0; 1024])? > 0 {}
    }
    Ok(())
}
