//! A refusal against the server's own: the same messages and the same effects, in every state of the protocol.
//!
//! Each scene runs twice against one server: directly, as a role that may not use the schema `vault`, and through the
//! protocol core, as a role that may, with whatever names `vault` refused by decision. What the client gets and what is
//! left in the database must be equal. Nothing that names `vault` may reach the server in the second run, and nothing of
//! what it gets instead the client.
//!
//! What differs and is not compared: the text, detail and hint of the refusal itself, and the fields of it that name a
//! place in the server's source.

mod peers;
mod scenes;

use anyhow::{Context, ensure};
use pgward::pg::session::{Outcome, Question, Unanswered};
use pgward_tests::postgres::Cluster;
use pgward_tests::wire::{self, Frame, query};

use peers::{Direct, Judge, Peer, Through};
use scenes::{Difference, Scene, Step, scenes};

/// What a test returns.
type Result<T = ()> = anyhow::Result<T>;

/// May not use the schema.
const OUTSIDER: &str = "outsider";
/// May.
const INSIDER: &str = "insider";

const SETUP: &str = "create schema vault; \
    create table vault.cards (n int); insert into vault.cards values (7); \
    create function vault.pick(int) returns int language sql as 'select $1'; \
    create table notes (n int); \
    create role outsider login replication; create role insider login replication; \
    grant usage on schema vault to insider; \
    grant all on vault.cards, notes to insider, outsider; \
    create table shared (n int); grant all on shared to insider";

fn cluster() -> Result<Cluster> {
    let cluster = Cluster::builder()
        .hba("host all all all trust\nhost replication all all trust\n")
        .setting("wal_level", "logical")
        .start()?;
    cluster.sql("postgres", SETUP)?;
    Ok(cluster)
}

#[test]
fn a_refusal_is_what_the_server_itself_would_have_said_and_done() -> Result {
    let cluster = cluster()?;
    let oid: u32 = cluster.sql("postgres", "select 'vault.pick'::regproc::oid")?.trim().parse()?;
    let (mut different, mut known) = (Vec::new(), 0);
    let all = scenes(oid);
    for scene in &all {
        let direct =
            run_direct(&cluster, scene).with_context(|| format!("{}: direct", scene.name))?;
        let through = run_through(&cluster, scene, oid)
            .with_context(|| format!("{}: through", scene.name))?;
        println!("{}: {}", scene.name, direct.0);
        if let Some(Difference { through: expected, why }) = &scene.differs {
            let name = scene.name;
            ensure!(through.0 == *expected, "{name}: not as expected: {}", through.0);
            ensure!(direct.0 != through.0, "{name}: no difference any more");
            println!("  differs: {}: {why}", through.0);
            known += 1;
            continue;
        }
        if direct != through {
            different.push(format!(
                "{}\n  direct:  {} leaves {}\n  through: {} leaves {}",
                scene.name, direct.0, direct.1, through.0, through.1
            ));
        }
        if scene.is_refused && scene.differs.is_none() {
            ensure!(direct.0.contains("E(42501)"), "{}: the server refused nothing", scene.name);
        }
    }
    ensure!(different.is_empty(), "{} scenes differ:\n{}", different.len(), different.join("\n"));
    println!("{} scenes are equal, {known} differ as they must", all.len() - known);
    Ok(())
}

/// The messages that the client got, and what is left in the database.
type Trace = (String, String);

fn parameters<'p>(scene: &Scene, role: &'p str) -> Vec<(&'p str, &'p str)> {
    let mut parameters = vec![("user", role), ("database", "postgres")];
    if scene.is_replication {
        parameters.push(("replication", "database"));
    }
    parameters
}

fn run_direct(cluster: &Cluster, scene: &Scene) -> Result<Trace> {
    cluster.sql("postgres", "truncate notes; grant all on shared to outsider")?;
    let mut peer = Direct::start(cluster.port(), &parameters(scene, OUTSIDER))?;
    let mut frames = Vec::new();
    for step in &scene.steps {
        match step {
            Step::Revoke => drop(cluster.sql("postgres", "revoke all on shared from outsider")?),
            step => play(&mut peer, step, &mut frames)?,
        }
    }
    Ok((trace(&frames), left(cluster)?))
}

fn run_through(cluster: &Cluster, scene: &Scene, oid: u32) -> Result<Trace> {
    cluster.sql("postgres", "truncate notes")?;
    let later = scene.steps.iter().any(|step| matches!(step, Step::Revoke));
    let word = if later { "shared" } else { "vault" };
    let judge = Judge { word, function: oid, refuses: !later, rows_max: None };
    let mut peer = Through::start(cluster.port(), &parameters(scene, INSIDER), judge)?;
    peer.session.decide_under(1);
    let mut frames = Vec::new();
    for step in &scene.steps {
        match step {
            Step::Revoke => {
                peer.judge.refuses = true;
                peer.session.decide_under(2);
                peer.sent.clear();
            }
            step => play(&mut peer, step, &mut frames)?,
        }
    }
    for secret in [word, scenes::VALUE] {
        let sent = String::from_utf8_lossy(&peer.sent);
        ensure!(!sent.contains(secret), "`{secret}` reached the server");
    }
    for frame in &frames {
        let heard = String::from_utf8_lossy(&frame.body);
        ensure!(
            !heard.contains("pgward: denied by policy"),
            "the poison reached the client: {heard}"
        );
    }
    ensure!(peer.session.answers_owed() == 0, "the server owes answers");
    Ok((trace(&frames), left(cluster)?))
}

fn play(peer: &mut impl Peer, step: &Step, frames: &mut Vec<Frame>) -> Result {
    match step {
        Step::Send(bytes) => peer.send(bytes),
        Step::Until(tag) => loop {
            let frame = peer.next().with_context(|| format!("so far {}", trace(frames)))?;
            let last = frame.tag == *tag;
            frames.push(frame);
            if last {
                return Ok(());
            }
        },
        Step::Revoke => Ok(()),
    }
}

/// Types of messages with what of them must be equal: codes, tags, rows and status.
fn trace(frames: &[Frame]) -> String {
    let one = |frame: &Frame| match frame.tag {
        b'E' | b'N' => {
            format!("{}({})", char::from(frame.tag), wire::error_field(&frame.body, b'C'))
        }
        b'Z' => format!("Z{} ", char::from(frame.body.first().copied().unwrap_or(b'?'))),
        b'C' => format!("C[{}]", String::from_utf8_lossy(&frame.body).trim_end_matches('\0')),
        b'D' => format!("D[{}]", frame.body.escape_ascii()),
        tag => char::from(tag).to_string(),
    };
    frames.iter().map(one).collect()
}

fn left(cluster: &Cluster) -> Result<String> {
    let notes = cluster.sql("postgres", "select array_agg(n order by n) from notes")?;
    let locks = "select count(*) from pg_locks where relation = 'notes'::regclass";
    Ok(format!("notes {} locks {}", notes.trim(), cluster.sql("postgres", locks)?.trim()))
}

#[test]
fn a_result_is_cut_at_its_ceiling_and_the_statement_cancelled() -> Result {
    let cluster = cluster()?;
    let judge = Judge { word: "vault", function: 0, refuses: false, rows_max: Some(10) };
    let who = [("user", INSIDER), ("database", "postgres")];
    let mut peer = Through::start(cluster.port(), &who, judge)?;
    for (text, status) in [
        ("select generate_series(1, 100000000)", 'I'),
        ("copy (select generate_series(1, 100000000)) to stdout", 'I'),
        ("begin; select generate_series(1, 100000000)", 'E'),
    ] {
        let mut frames = Vec::new();
        play(&mut peer, &Step::Send(query(text)), &mut frames)?;
        play(&mut peer, &Step::Until(b'Z'), &mut frames)?;
        let rows = frames.iter().filter(|frame| matches!(frame.tag, b'D' | b'd')).count();
        ensure!(rows == 10, "{rows} rows of `{text}`");
        let trace = trace(&frames);
        ensure!(trace.ends_with(&format!("E(42501)Z{status} ")), "{trace}");
        let done = peer.done.pop().context("nothing was reported")?;
        ensure!(done.rows_withheld > 0 && done.outcome == Outcome::Failed, "{done:?}");
    }
    Ok(())
}

#[test]
fn a_question_leaves_the_clients_session_as_it_was() -> Result {
    let cluster = cluster()?;
    let judge = Judge { word: "vault", function: 0, refuses: true, rows_max: None };
    let who = [("user", INSIDER), ("database", "postgres")];
    let mut peer = Through::start(cluster.port(), &who, judge)?;
    let question = |text| Question { text, values: &[], rows_max: 5, bytes_max: 1000 };
    let ask = |peer: &mut Through, text: &'static [u8]| -> Result<_> {
        peer.session.ask(question(text))?;
        peer.pump()?;
        while peer.answers.is_empty() {
            peer.read()?;
        }
        Ok(peer.answers.remove(0).rows)
    };
    // Before the client's first request.
    let rows =
        ask(&mut peer, b"select nspname from pg_catalog.pg_namespace where nspname = 'vault'")?;
    ensure!(rows == Ok(vec![vec![Some(b"vault"[..].into())]]), "{rows:?}");
    let mut frames = Vec::new();
    let prepared = [
        wire::parse("", "select 'unnamed'"),
        wire::parse("s", "select 'named'"),
        wire::sync(),
        query("declare c cursor with hold for select 'cursor'"),
    ];
    for part in [prepared.concat(), wire::parse("", "select 'unnamed'"), wire::sync()] {
        peer.send(&part)?;
    }
    for _ in 0..3 {
        play(&mut peer, &Step::Until(b'Z'), &mut frames)?;
    }
    for _ in 0..2 {
        ensure!(ask(&mut peer, b"select 1/0")? == Err(Unanswered::Failed(*b"22012")));
        ensure!(ask(&mut peer, b"select generate_series(1, 100)")? == Err(Unanswered::TooLarge));
        ensure!(ask(&mut peer, b"not SQL")? == Err(Unanswered::Failed(*b"42601")));
    }
    let use_all = [
        wire::bind("", "", &[]),
        wire::execute("", 0),
        wire::bind("", "s", &[]),
        wire::execute("", 0),
        wire::sync(),
        query("fetch c; select string_agg(name, ',') from pg_prepared_statements"),
    ];
    let mut frames = Vec::new();
    peer.send(&use_all.concat())?;
    for _ in 0..2 {
        play(&mut peer, &Step::Until(b'Z'), &mut frames)?;
    }
    let trace = trace(&frames);
    for value in ["unnamed", "named", "cursor", "\\x01s]"] {
        ensure!(trace.contains(value), "no {value} in {trace}");
    }
    Ok(())
}
