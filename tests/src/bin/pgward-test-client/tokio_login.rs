//! The login of `tests/clients/README.md` through tokio-postgres, over TLS by rustls with channel binding.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use tokio_postgres::config::{ChannelBinding as Binding, SslMode};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Socket};
use tokio_rustls::TlsConnector;

use crate::Arguments;

const QUERY: &str = "select 6 * 7, current_user::text, pg_backend_pid(), \
                     (select ssl from pg_stat_ssl where pid = pg_backend_pid())";

const SLEEPS: &str = "select 1 from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'";

/// `tokio-login ADDRESS`, with JSON on standard input, where the address is too.
pub(crate) fn run(_: &Arguments) -> Result<Value> {
    let told: Value = serde_json::from_reader(io::stdin())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(login(&told))
}

async fn login(told: &Value) -> Result<Value> {
    let text = |name: &str| told[name].as_str().with_context(|| format!("no {name}"));
    let mut config = Config::new();
    config.hostaddr(text("address")?.parse()?).host(text("name")?);
    config.port(u16::try_from(told["port"].as_u64().context("no port")?)?);
    config.user(text("user")?).password(text("password")?).dbname(text("database")?);
    let roots = told["roots"].as_str();
    // Over TLS nothing less than channel binding will do: this driver can.
    let (mode, binding) = match roots {
        Some(_) => (SslMode::Require, Binding::Require),
        None => (SslMode::Disable, Binding::Prefer),
    };
    config.ssl_mode(mode).channel_binding(binding);
    let tls = Tls::new(roots)?;
    let (one, other) = (connect(&config, &tls).await?, connect(&config, &tls).await?);
    let row = one.query_one(QUERY, &[]).await?;
    let (answer, user): (i32, String) = (row.get(0), row.get(1));
    let (pid, server_tls): (i32, Option<bool>) = (row.get(2), row.get(3));
    let canceler = one.cancel_token();
    let sleep = one.batch_execute("select pg_sleep(30)");
    let cancel = async {
        while other.query_opt(SLEEPS, &[&pid]).await?.is_none() {
            tokio::task::yield_now().await;
        }
        canceler.cancel_query(tls.clone()).await
    };
    let (slept, cancelled) = futures_util::future::join(sleep, cancel).await;
    cancelled.context("cancel")?;
    let state = match slept {
        Ok(()) => "00000".to_owned(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    };
    let after: i32 = one.query_one("select 43", &[]).await?.get(0);
    ensure!(!one.is_closed() && !other.is_closed(), "a session was lost");
    Ok(json!({
        "answer": answer, "user": user, "cancel": state, "after": after, "server_tls": server_tls,
    }))
}

async fn connect(config: &Config, tls: &Tls) -> Result<Client> {
    let (client, connection) = config.connect(tls.clone()).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Makes rustls sessions for tokio-postgres.
#[derive(Clone)]
struct Tls {
    config: Arc<ClientConfig>,
}

impl Tls {
    fn new(roots: Option<&str>) -> Result<Self> {
        let mut store = RootCertStore::empty();
        if let Some(file) = roots {
            for certificate in CertificateDer::pem_file_iter(file)? {
                store.add(certificate?)?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config) })
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Self::Error> {
        let name = ServerName::try_from(host)?.to_owned();
        Ok(Handshake { connector: TlsConnector::from(Arc::clone(&self.config)), name })
    }
}

/// One handshake to be made.
struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(
            async move { Ok(Stream(Box::new(self.connector.connect(self.name, stream).await?))) },
        )
    }
}

/// An encrypted stream that knows its channel binding.
struct Stream(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        // The tests' certificates, the agent's minted ones included, are signed with SHA-256.
        match self.0.get_ref().1.peer_certificates() {
            Some([leaf, ..]) => ChannelBinding::tls_server_end_point(Sha256::digest(leaf).to_vec()),
            _ => ChannelBinding::none(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
