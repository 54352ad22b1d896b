//! The login of `tests/clients/README.md` through sqlx, which has no function that cancels and takes no name apart from the
//! address: with TLS it verifies the issuer.

use std::io;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Row};

use crate::Arguments;

const QUERY: &str = "select 6 * 7, current_user::text, \
                     (select ssl from pg_stat_ssl where pid = pg_backend_pid())";

/// `sqlx-login ADDRESS`, with JSON on standard input, where the address is too.
pub(crate) fn run(_: &Arguments) -> Result<Value> {
    let told: Value = serde_json::from_reader(io::stdin())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(login(&told))
}

async fn login(told: &Value) -> Result<Value> {
    let text = |name: &str| told[name].as_str().with_context(|| format!("no {name}"));
    let options = PgConnectOptions::new_without_pgpass()
        .host(text("address")?)
        .port(u16::try_from(told["port"].as_u64().context("no port")?)?)
        .username(text("user")?)
        .password(text("password")?)
        .database(text("database")?);
    let options = match told["roots"].as_str() {
        Some(roots) => options.ssl_mode(PgSslMode::VerifyCa).ssl_root_cert(roots),
        None => options.ssl_mode(PgSslMode::Disable),
    };
    let mut connection = options.connect().await?;
    let row = sqlx::query(QUERY).fetch_one(&mut connection).await?;
    let (answer, user): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    let server_tls: Option<bool> = row.try_get(2)?;
    let after: i32 = sqlx::query("select 43").fetch_one(&mut connection).await?.try_get(0)?;
    connection.close().await?;
    Ok(json!({
        "answer": answer, "user": user, "cancel": "none", "after": after, "server_tls": server_tls,
    }))
}
