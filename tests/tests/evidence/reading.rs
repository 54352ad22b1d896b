//! Searching, showing and following the trail; and that each look at it is on record.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use anyhow::Context;
use pgward_tests::agent::Agent;
use pgward_tests::container::Container;
use pgward_tests::scene::mark;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::witness::tree;
use serde_json::Value;

use crate::house::House;
use crate::{Result, gate};

/// The objects of JSON lines.
fn objects(text: &str) -> Result<Vec<Value>> {
    Ok(text.lines().map(serde_json::from_str).collect::<serde_json::Result<_>>()?)
}

/// The statements that `pgward audit search` finds.
fn search(house: &House, arguments: &[&str]) -> Result<Vec<Value>> {
    let all = [&["audit", "search", "--json", "--event", "statement"], arguments].concat();
    objects(&house.pgward_done(&all)?)
}

/// Which of these words the statements have.
fn words<'w>(found: &[Value], all: [&'w str; 3]) -> BTreeSet<&'w str> {
    let has =
        |word: &str| found.iter().any(|one| one["text"].as_str().unwrap_or("").contains(word));
    all.into_iter().filter(|word| has(word)).collect()
}

#[test]
fn searches_find_what_is_meant_and_nothing_else() -> Result {
    gate!(with "crun");
    let roots = tempfile::tempdir()?;
    let root = format!("[{:?}]", roots.path());
    let house =
        House::new("search", |builder| builder.set("attribution", "container_state_roots", &root))?;
    let cluster = &house.cluster;
    cluster.sql("postgres", "create role billing login; create table orders_of_today ()")?;
    let marks = ["shell", "role", "box"].map(|word| mark(word).replace('-', "_"));
    let [shell, role, boxed] = [&marks[0], &marks[1], &marks[2]].map(String::as_str);
    let all = [shell, role, boxed];

    let mut psql = cluster.client("psql", "127.0.0.1");
    psql.args(["-X", "-c", &format!("select 1 as {shell} from public.orders_of_today")]);
    house.scene.run(&mut psql)?;
    house.scene.statement(shell)?;
    let mut client = house.client_as("billing")?;
    client.simple(&format!("select 1 as {role} from orders"))?;
    house.scene.statement(role)?;
    let container = Container::builder("billing").state_root(roots.path());
    let id = container.id().to_owned();
    let address = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", cluster.port());
    let text = format!("select 1 as {boxed}, 'of the day' as day");
    let output = container.run(&house.scene.cgroup, &["psql", &address, "-XAtc", &text])?.wait()?;
    anyhow::ensure!(output.status.success(), "{output:?}\n{}", house.scene.agent.story());
    house.scene.statement(boxed)?;

    let everything = search(&house, &[])?;
    assert_eq!(words(&everything, all), all.into());
    let one = |word: &str| -> Result<&Value> {
        let text = |one: &&Value| one["text"].as_str().unwrap_or("").contains(word);
        everything.iter().find(text).context("a statement")
    };
    let time = |word: &str| -> Result<&str> { one(word)?["time"].as_str().context("a time") };
    let session = one(shell)?["session"].as_str().context("a session")?;
    let writer = format!("pid={}", std::process::id());
    let (then, later) = (time(role)?, time(boxed)?);
    let table: [(&[&str], &[&str]); 18] = [
        (&["--session", session], &[shell]),
        (&["--user", "billing"], &[role]),
        (&["--user", "postgres"], &[shell, boxed]),
        (&["--user", "bill"], &[]),
        (&["--database", "postgres"], &all),
        (&["--process", "psql"], &[shell, boxed]),
        (&["--process", &writer], &[role]),
        (&["--process", "psq"], &[]),
        (&["--container", &id], &[boxed]),
        (&["--container", &id[..12]], &[boxed]),
        (&["--relation", "orders_of_today"], &[shell]),
        (&["--relation", "public.orders_of_today"], &[shell]),
        (&["--relation", "orders"], &[role]),
        (&["--sqlstate", "42P01"], &[role]),
        (&["--text", "day of THE"], &[boxed]),
        (&["--since", then], &[role, boxed]),
        (&["--until", then], &[shell]),
        (&["--since", then, "--until", later, "--user", "billing"], &[role]),
    ];
    for (arguments, expected) in table {
        let found = search(&house, arguments)?;
        assert_eq!(words(&found, all), expected.iter().copied().collect(), "{arguments:?}");
    }

    // The same as a table.
    let told = house.pgward_done(&["audit", "search", "--sqlstate", "42P01", "--width", "0"])?;
    assert!(told.contains(role) && told.contains("42P01") && !told.contains(shell), "{told}");
    let tail = house.pgward_done(&["audit", "tail", "--width", "0"])?;
    assert!(all.iter().all(|word| tail.contains(word)), "{tail}");
    let tail = objects(&house.pgward_done(&["audit", "tail", "--json"])?)?;
    assert_eq!(words(&tail, all), all.into());
    let last = objects(&house.pgward_done(&["audit", "tail", "--json", "--rows", "1"])?)?;
    assert!(last.len() == 1 && words(&last, all).len() <= 1, "{last:?}");
    house.finish()
}

/// Row 45 of the table of tampers and faults.
#[test]
fn each_look_at_the_trail_is_an_entry() -> Result {
    gate!();
    let house = House::new("reads", |builder| builder)?;
    let (session, word) = house.session()?;
    house.wait_anchored(&["witness"])?;
    let (bundle, witness) = (house.auditor.file("a.bundle"), house.auditor.witness_key());
    let bundle = bundle.to_str().context("a path of text")?;
    let index = search(&house, &["--text", &word])?[0]["index"].to_string();
    let prove = format!("session={session} output={bundle}");
    let (shown, whole) =
        (format!("id={index} disclose=false"), format!("id={session} disclose=false"));
    let checked = format!("witness={witness}");
    let found = format!("text={word}");
    let table: [(&[&str], &str, &str); 8] = [
        (&["search", "--text", &word], "search", &found),
        (&["tail", "--rows", "7"], "tail", "rows=7 follow=false"),
        (&["show", &index], "show", &shown),
        (&["show", &session, "--json"], "show", &whole),
        (
            &["export", "--format", "csv", "--since", "2020-01-01", "--epoch", "1"],
            "export",
            "format=csv epoch=1 since=2020-01-01T00:00:00.000000000Z",
        ),
        (&["export", "--format", "jsonl", "--raw"], "export", "format=jsonl raw=true"),
        (&["verify", "--witness", &witness], "verify", &checked),
        (&["prove", "--session", &session, "-o", bundle], "prove", &prove),
    ];
    for (arguments, command, asked) in table {
        let before = reads(&house.scene.agent)?.len();
        let output = house.pgward(&[&["audit"], arguments].concat())?;
        assert!(!output.stdout.is_empty(), "{output:?}");
        let all = reads(&house.scene.agent)?;
        // It is durable before anything is shown, and once.
        let [read] = &all[before..] else { panic!("{arguments:?}: {:?}", &all[before..]) };
        assert_eq!(read["by_uid"], 0, "{read}");
        let recorded = read["arguments"].as_str().context("arguments")?;
        let said = |part: &str| recorded.split(' ').any(|one| one == part);
        assert!(asked.split(' ').all(said), "{recorded}: expected {asked}");
        assert_eq!(read["command"], command, "{read}");
    }
    house.finish()
}

fn reads(agent: &Agent) -> Result<Vec<Value>> {
    let entries = agent.entries()?.into_iter();
    Ok(entries.filter(|entry| entry.is("audit_read")).map(|entry| entry.fields).collect())
}

#[test]
fn an_entry_and_a_session_are_shown_with_the_facts_of_their_proof() -> Result {
    gate!();
    let house = House::new("show", |builder| builder)?;
    let (session, word) = house.session()?;
    let entries = house.scene.agent.entries()?;
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let own: Vec<_> = entries.iter().filter(|entry| entry.fields["session"] == session).collect();
    let shown = objects(&house.pgward_done(&["audit", "show", &session, "--json"])?)?;
    assert_eq!(shown.len(), own.len());
    for (shown, entry) in shown.iter().zip(&own) {
        assert_eq!(shown["index"], entry.index, "{shown}");
        assert_eq!(shown["leaf"], hex(&tree::leaf(&entry.bytes)), "{shown}");
        let one = house.pgward_done(&["audit", "show", &entry.index.to_string(), "--json"])?;
        assert_eq!(&objects(&one)?, std::slice::from_ref(shown));
        // Where it says that the entry lies, it lies.
        let file = house.trail().join(shown["file"].as_str().context("a file")?);
        let bytes = std::fs::read(file)?;
        let offset = shown["offset"].as_u64().context("an offset")? as usize;
        let length = shown["length"].as_u64().context("a length")? as usize;
        let part = bytes.get(offset..offset + length).context("inside of the file")?;
        assert!(part.windows(entry.bytes.len()).any(|part| part == entry.bytes), "{shown}");
    }
    let text = house.pgward_done(&["audit", "show", &session])?;
    assert!(text.contains(&word) && text.contains("session_end"), "{text}");
    for (id, why) in [("999999", "no entry 999999"), ("7:1", "no epoch 7"), ("beef", "no session")]
    {
        let output = house.pgward(&["audit", "show", id])?;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
    }
    house.finish()
}

#[test]
fn a_tail_that_is_followed_shows_what_comes() -> Result {
    gate!();
    let house = House::new("tail", |builder| builder)?;
    let mut command = house.scene.agent.command(&["audit", "tail", "--follow", "--json"])?;
    let mut tail = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(tail.stdout.take().context("piped")?).lines();
    let (tell, told) = mpsc::channel();
    let reader =
        thread::spawn(move || lines.map_while(|line| line.ok()).try_for_each(|l| tell.send(l)));
    let (_, word) = house.session()?;
    let seen = wait::until_true("the statement in the tail", PATIENCE, || {
        Ok(told.try_iter().any(|line| line.contains(&word)))
    });
    tail.kill()?;
    tail.wait()?;
    // It ends with the pipe; what it could not tell any more nobody wants.
    let _ = reader.join().expect("no panic");
    seen?;
    house.finish()
}
