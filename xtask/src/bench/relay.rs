//! The plainest relay there is: the floor for a proxy in user space, and the measure of pgward.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};

/// Threads of every way that has threads.
pub(super) const WORKERS: usize = 2;

/// Bytes of each of the two buffers of a connection; tokio's default is 8 KiB.
const BUFFER_BYTES: usize = 16 * 1024;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Where to listen and what to connect to.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct RelayOptions {
    /// Address to listen on
    #[arg(long)]
    listen: SocketAddr,
    /// Address to connect to for each connection accepted
    #[arg(long)]
    to: SocketAddr,
}

/// Relays until it is killed.
pub(crate) fn relay(options: &RelayOptions) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_io()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(options.listen).context("binding")?;
        let listener = socket.listen(BACKLOG).context("listening")?;
        accept(listener, options.to).await
    })
}

async fn accept(listener: TcpListener, to: SocketAddr) -> Result<()> {
    loop {
        let (client, _) = listener.accept().await.context("accepting")?;
        tokio::spawn(async move {
            // A connection that breaks ends alone; whoever measures sees it at the client.
            if let Err(error) = copy(client, to).await {
                eprintln!("relay: {error}");
            }
        });
    }
}

async fn copy(mut client: TcpStream, to: SocketAddr) -> std::io::Result<()> {
    let mut server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER_BYTES, BUFFER_BYTES)
        .await?;
    Ok(())
}
