//! What an application on tokio-postgres does: prepared statements, pipelines, portals, COPY, cancel, notices.

use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt, future};
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage};

use crate::Arguments;

/// `tokio-postgres ADDRESS [password=TEXT]`. Reports what came back.
pub(crate) fn run(arguments: &Arguments) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work(arguments))
}

async fn work(arguments: &Arguments) -> Result<Value> {
    let mut config = Config::new();
    config.user("postgres").dbname("postgres").port(arguments.address.port());
    config.host(arguments.address.ip().to_string()).connect_timeout(Duration::from_secs(20));
    if let Ok(password) = arguments.option("password") {
        config.password(password);
    }
    let (client, mut connection) = config.connect(NoTls).await.context("connect")?;
    let (messages, mut notes) = tokio::sync::mpsc::unbounded_channel();
    let driver = tokio::spawn(async move {
        let mut stream = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(message) = stream.try_next().await? {
            if let AsyncMessage::Notice(notice) = message {
                let _ = messages.send(notice.message().to_owned());
            }
        }
        Ok::<_, tokio_postgres::Error>(())
    });
    let mut report = serde_json::Map::new();
    report.insert("rows".into(), rows(&client).await?);
    report.insert("pipeline".into(), pipeline(&client).await?);
    report.insert("portal".into(), portal(&client).await?);
    report.insert("copy".into(), copy(&client).await?);
    report.insert("errors".into(), errors(&client).await?);
    report.insert("simple".into(), simple(&client).await?);
    report.insert("cancel".into(), cancel(&client).await?);
    drop(client);
    driver.await??;
    let mut told = Vec::new();
    while let Some(notice) = notes.recv().await {
        told.push(notice);
    }
    report.insert("notices".into(), told.into());
    Ok(report.into())
}

async fn rows(client: &Client) -> Result<Value> {
    let statement = client.prepare("select $1::int8 * 2, $2::text, $3::bytea, null::int4").await?;
    let row = client.query_one(&statement, &[&21_i64, &"\u{1f418}", &&b"\x00\xff"[..]]).await?;
    let (double, text): (i64, String) = (row.get(0), row.get(1));
    let (bytes, nothing): (Vec<u8>, Option<i32>) = (row.get(2), row.get(3));
    Ok(json!([double, text, bytes, nothing]))
}

async fn pipeline(client: &Client) -> Result<Value> {
    let statement = client.prepare("select $1::int4 + 1").await?;
    let numbers: Vec<i32> = (0..500).collect();
    let asked = numbers.iter().map(|number| {
        let statement = &statement;
        async move { client.query_one(statement, &[number]).await }
    });
    let rows = future::try_join_all(asked).await?;
    let sum: i64 = rows.iter().map(|row| i64::from(row.get::<_, i32>(0))).sum();
    Ok(json!(sum))
}

async fn portal(client: &Client) -> Result<Value> {
    client.batch_execute("begin").await?;
    let statement = client.prepare("select generate_series(1, 10)").await?;
    // `query_raw` streams; dropping it half way leaves the rest to be skipped.
    let none: [i32; 0] = [];
    let mut stream = Box::pin(client.query_raw(&statement, none).await?);
    let mut seen = Vec::new();
    while let Some(row) = stream.next().await {
        seen.push(row?.get::<_, i32>(0));
        if seen.len() == 3 {
            break;
        }
    }
    drop(stream);
    client.batch_execute("commit").await?;
    Ok(json!(seen))
}

async fn copy(client: &Client) -> Result<Value> {
    client.batch_execute("create temp table c(a int, b text)").await?;
    let mut sink = Box::pin(client.copy_in::<_, Bytes>("copy c from stdin").await?);
    for number in 0..20_000 {
        sink.feed(Bytes::from(format!("{number}\t{}\n", "b".repeat(200)))).await?;
    }
    let written = sink.as_mut().finish().await?;
    let mut stream = Box::pin(client.copy_out("copy c to stdout").await?);
    let mut hasher = DefaultHasher::new();
    while let Some(chunk) = stream.try_next().await? {
        hasher.write(&chunk);
    }
    let aborted = client.copy_in::<_, Bytes>("copy c from stdin").await?;
    drop(aborted);
    let count: i64 = client.query_one("select count(*) from c", &[]).await?.get(0);
    Ok(json!([written, count, format!("{:016x}", hasher.finish())]))
}

async fn errors(client: &Client) -> Result<Value> {
    let mut codes = Vec::new();
    for sql in ["selec 1", "select * from nowhere", "select 1/0"] {
        let error = client.query(sql, &[]).await.err().context("an error was due")?;
        codes.push(error.code().map(|code| code.code().to_owned()));
    }
    client.batch_execute("do $$begin raise notice 'noticed'; end$$").await?;
    Ok(json!(codes))
}

async fn simple(client: &Client) -> Result<Value> {
    let messages = client.simple_query("select 1 as a; select 2; create temp table s()").await?;
    let told = messages.iter().map(|message| match message {
        SimpleQueryMessage::Row(row) => format!("row {:?}", row.get(0)),
        SimpleQueryMessage::CommandComplete(count) => format!("complete {count}"),
        other => format!("{other:?}").chars().take(14).collect(),
    });
    Ok(told.collect())
}

async fn cancel(client: &Client) -> Result<Value> {
    let token = client.cancel_token();
    let running = client.batch_execute("select pg_sleep(100)");
    let cancelling = async {
        // A cancel that comes before the statement finds nothing: again until it hits.
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            token.cancel_query(NoTls).await?;
        }
    };
    let outcome = tokio::select! {
        outcome = running => outcome,
        failed = cancelling => failed,
    };
    let code = outcome.err().and_then(|error| error.code().cloned());
    ensure!(code == Some(SqlState::QUERY_CANCELED), "cancel gave {code:?}");
    Ok(json!("cancelled"))
}
