//! The server with what is forbidden in it, and the agent in front of it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use pgward_tests::agent::Agent;
use pgward_tests::host;
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::Scene;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire::Session;

use crate::attempt::Site;

/// Whom the adversary logs in as.
pub(crate) const ADVERSARY: &str = "app";

/// The database that is attacked. Made anew of [`TEMPLATE`] after each attempt that wrote anything.
pub(crate) const DATABASE: &str = "attack";

const TEMPLATE: &str = "untouched";

/// Rows of `vault.cards`.
const CARDS: usize = 40;

/// The file below `tests/policies` that an agent enforces; without one it only watches.
pub(crate) type Policy = Option<&'static str>;

/// A server, an agent, and the superuser's own way in.
pub(crate) struct World {
    /// Connections of the superuser through the Unix socket, which nobody intercepts.
    admin: Session<UnixStream>,
    checker: Option<Session<UnixStream>>,
    /// Its last statement holds a canary, for all who may see what others do.
    victim: Session<UnixStream>,
    pub(crate) scene: Scene,
    pub(crate) cluster: Cluster,
    canaries: Canaries,
    next_transaction: String,
}

impl World {
    pub(crate) fn new(label: &str, policy: Policy) -> Result<Self> {
        let cluster = Cluster::builder()
            .setting("max_prepared_transactions", "5")
            .setting("wal_level", "logical")
            .start()?;
        let canaries = Canaries::new();
        let site = site(&cluster);
        cluster.sql("postgres", &format!("create database {TEMPLATE}"))?;
        cluster.sql(TEMPLATE, &canaries.fill(include_str!("schema.sql"), &site))?;
        fs::write(Path::new(&site.data).join("canary.txt"), format!("1,{}\n", canaries.file()))?;
        let scene = start_agent(label, policy, cluster.port())?;
        let admin = superuser(&cluster, "postgres", "admin")?;
        let mut victim = superuser(&cluster, "postgres", "victim")?;
        canaries.show(&mut victim)?;
        let mut world = Self {
            admin,
            checker: None,
            victim,
            scene,
            cluster,
            canaries,
            next_transaction: String::new(),
        };
        world.renew()?;
        Ok(world)
    }

    pub(crate) fn site(&self) -> Site {
        site(&self.cluster)
    }

    /// Canaries among these bytes, in any way of writing.
    pub(crate) fn found(&self, bytes: &[u8]) -> Option<String> {
        self.canaries.found(bytes)
    }

    /// What the superuser gets for a question about the attacked database.
    pub(crate) fn ask(&mut self, question: &str) -> Result<String> {
        self.checker.as_mut().context("a connection to the attacked database")?.value(question)
    }

    /// Waits until the server has nothing left of the adversary.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let admin = &mut self.admin;
        let left = format!("select count(*) from pg_stat_activity where usename = '{ADVERSARY}'");
        wait::until_true("the adversary's backends to end", PATIENCE, || {
            Ok(admin.value(&left)? == "0")
        })
    }

    /// Brings everything back to what it was, as far as it was changed.
    pub(crate) fn restore(&mut self, undo: Option<&str>) -> Result<()> {
        let next = self.admin.value(NEXT_TRANSACTION)?;
        if let Some(undo) = undo {
            self.admin.simple(undo)?;
        }
        for number in ["", "2", "3"] {
            let _ = fs::remove_file(format!("{}/leak{number}.txt", self.site().data));
        }
        let victims = "select count(*) from pg_stat_activity where application_name = 'victim'";
        if self.admin.value(victims)? == "0" {
            self.victim = superuser(&self.cluster, "postgres", "victim")?;
            self.canaries.show(&mut self.victim)?;
        }
        if next == self.next_transaction { Ok(()) } else { self.renew() }
    }

    fn renew(&mut self) -> Result<()> {
        self.checker = None;
        let prepared = "select count(*) from pg_prepared_xacts";
        if self.admin.value(prepared)? != "0" {
            self.cluster.sql(DATABASE, "rollback prepared 'x'")?;
        }
        self.admin.simple(&format!("drop database if exists {DATABASE} with (force)"))?;
        // Whoever looked at the template a moment ago may still be on its way out.
        let made = format!("create database {DATABASE} template {TEMPLATE}");
        let admin = &mut self.admin;
        wait::until_true("the attacked database to be made", PATIENCE, || {
            Ok(admin.simple(&made)?.iter().all(|frame| frame.tag != b'E'))
        })?;
        self.checker = Some(superuser(&self.cluster, DATABASE, "checker")?);
        self.next_transaction = self.admin.value(NEXT_TRANSACTION)?;
        Ok(())
    }
}

/// Tells whether anything was written since.
const NEXT_TRANSACTION: &str = "select pg_snapshot_xmax(pg_current_snapshot())";

/// The only place where an agent is started here: what it enforces is decided by one line of its configuration.
fn start_agent(label: &str, policy: Policy, port: u16) -> Result<Scene> {
    let builder = Agent::builder().intercept(port).set("log", "level", "\"warn\"");
    let builder = match policy {
        None => builder,
        Some(name) => {
            let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(name);
            builder.set("policy", "file", &format!("{:?}", file.display().to_string()))
        }
    };
    Scene::with(label, builder)
}

fn site(cluster: &Cluster) -> Site {
    let socket = cluster.socket_folder().display().to_string();
    Site { data: format!("{socket}/data"), socket, port: cluster.port() }
}

fn superuser(cluster: &Cluster, database: &str, name: &str) -> Result<Session<UnixStream>> {
    let path = cluster.socket_folder().join(format!(".s.PGSQL.{}", cluster.port()));
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let parameters = [("user", "postgres"), ("database", database), ("application_name", name)];
    std::io::Write::write_all(&mut stream, &pgward_tests::wire::startup(&parameters))?;
    Session::finish_start(stream)
}

/// Random texts that stand for what must not leave.
struct Canaries {
    texts: Vec<String>,
    automaton: AhoCorasick,
    automaton_anyhow: AhoCorasick,
}

impl Canaries {
    fn new() -> Self {
        // The letter in front keeps them from being numbers.
        let texts: Vec<_> = (0..CARDS + 13)
            .map(|_| format!("k{:016x}{:03x}", host::random(), host::random() & 0xfff))
            .collect();
        let anyhow = texts.iter().flat_map(|text| {
            let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            [text.clone(), hex, text.chars().rev().collect()]
        });
        let base64 = texts.iter().flat_map(|text| base64_forms(text.as_bytes()));
        let automaton_anyhow = AhoCorasick::builder().ascii_case_insensitive(true).build(anyhow);
        Self {
            automaton_anyhow: automaton_anyhow.expect("few and short"),
            automaton: AhoCorasick::new(base64).expect("few and short"),
            texts,
        }
    }

    fn file(&self) -> &str {
        &self.texts[CARDS]
    }

    fn show(&self, session: &mut Session<UnixStream>) -> Result<()> {
        session.simple(&format!("select '{}'", self.texts[CARDS + 1])).map(|_| ())
    }

    fn fill(&self, schema: &str, site: &Site) -> String {
        let cards: Vec<_> = (self.texts[..CARDS].iter().zip(1..))
            .map(|(text, id)| format!("({id}, '{text}', 'holder {id}', '{}')", id % 3))
            .collect();
        let rows = |from: usize, first: usize| {
            let rows = (0..3).map(|n| format!("({}, '{}')", first + n, self.texts[from + n]));
            rows.collect::<Vec<_>>().join(", ")
        };
        schema
            .replace("@CARDS@", &cards.join(", "))
            .replace("@PAYMENTS@", &rows(CARDS + 2, 110))
            .replace("@NOTES@", &rows(CARDS + 5, 2))
            .replace("@ARCHIVE@", &rows(CARDS + 8, 1))
            .replace("@LARGE@", &self.texts[CARDS + 11])
            .replace("@SOCKET@", &site.socket)
            .replace("@PORT@", &site.port.to_string())
    }

    fn found(&self, bytes: &[u8]) -> Option<String> {
        let found = self.automaton_anyhow.find(bytes).or_else(|| self.automaton.find(bytes))?;
        Some(String::from_utf8_lossy(&bytes[found.range()]).into_owned())
    }
}

/// What base64 makes of `text` at each of the three places that it may have among groups of three bytes, without the
/// characters that its neighbours have a part in.
fn base64_forms(text: &[u8]) -> Vec<String> {
    (0..3)
        .map(|before| {
            let shifted = [&vec![0; before][..], text].concat();
            let whole = shifted.len() / 3 * 4;
            let skip = (before * 8).div_ceil(6);
            STANDARD_NO_PAD.encode(&shifted)[skip..whole].to_owned()
        })
        .collect()
}

#[test]
fn canaries_are_found_however_they_are_written() -> Result<()> {
    let canaries = Canaries::new();
    let text = &canaries.texts[7];
    let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
    for written in [
        text.clone(),
        text.to_uppercase(),
        text.chars().rev().collect(),
        hex,
        base64::engine::general_purpose::STANDARD.encode(text),
        base64::engine::general_purpose::STANDARD.encode(format!("x{text}yz")),
        base64::engine::general_purpose::STANDARD.encode(format!("xx{text}y")),
    ] {
        if canaries.found(format!("before {written} after").as_bytes()).is_none() {
            bail!("not found: {written}");
        }
    }
    assert_eq!(canaries.found(b"nothing of that kind: k0123456789abcdef012"), None);
    Ok(())
}
