//! Runs cells through libpq and says what became of each.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, ensure};
use pgward_tests::cgroup::Cgroup;
use pgward_tests::pki::{self, Pki};
use pgward_tests::postgres::Version;
use serde_json::{Value, json};

use super::cell::{Cell, Method, Mode};
use super::table::{Leg, Outcome, Who};
use crate::Result;
use crate::servers::{Passwords, Servers, libpq};

/// Clients at the same time.
const CLIENTS: usize = 4;

/// What clients need to reach the servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground<'g> {
    /// Interpreter of the client.
    pub(crate) python: &'g Path,
    /// One for each version.
    pub(crate) servers: &'g [Servers],
    pub(crate) passwords: &'g Passwords,
    pub(crate) pki: &'g Pki,
    /// Whom clients trust: the servers' authority, and the agent's when there is one.
    pub(crate) roots: &'g Path,
    /// Where clients run, to be intercepted.
    pub(crate) cgroup: Option<&'g Cgroup>,
}

/// What became of a cell.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) cell: Cell,
    report: Value,
}

impl Found {
    /// Compares with what was expected; what differs, in a line.
    pub(crate) fn difference(&self, expected: &Outcome) -> Option<String> {
        let told = match (expected, self.refusal()) {
            (Outcome::Ok { client, server }, None) => {
                let legs = (self.leg("tls"), self.leg("server_tls"));
                let role = self.cell.method.role().name();
                let own = self.report["user"] == role && self.report["pid_ok"] == true;
                if legs == (*client, *server) && own {
                    return None;
                }
                self.report.to_string()
            }
            (Outcome::Refused { sqlstate, who, text }, Some(refusal)) => {
                let same = refusal.who == *who
                    && refusal.sqlstate == *sqlstate
                    && refusal.text.to_lowercase().contains(&text.to_lowercase());
                if same {
                    return None;
                }
                refusal.shown()
            }
            (Outcome::Ok { .. }, Some(refusal)) => refusal.shown(),
            (Outcome::Refused { .. }, None) => self.report.to_string(),
        };
        Some(told)
    }

    /// In the words of the table.
    pub(crate) fn shown(&self) -> String {
        match self.refusal() {
            None => format!("ok {:?} {:?}", self.leg("tls"), self.leg("server_tls")),
            Some(refusal) => refusal.shown(),
        }
    }

    /// Milliseconds.
    pub(crate) fn duration_ms(&self) -> f64 {
        self.report["ms"].as_f64().unwrap_or_default()
    }

    fn leg(&self, field: &str) -> Leg {
        if self.report[field] == true { Leg::Tls } else { Leg::Clear }
    }

    fn refusal(&self) -> Option<Refusal> {
        if self.report["status"] == "ok" {
            return None;
        }
        let error = self.report["error"].as_str().unwrap_or_default();
        // libpq joins the errors of all its attempts; the last decides.
        let last = error.rfind("connection to server").map_or(error, |at| &error[at..]);
        let (sqlstate, who) = match last.split_once("FATAL:  ") {
            None => ("-".to_owned(), Who::Client),
            Some((_, rest)) => {
                let who = if rest.contains("LOCATION:") { Who::Server } else { Who::Agent };
                (rest.chars().take(5).collect(), who)
            }
        };
        Some(Refusal { sqlstate, who, text: last.replace('\n', " ") })
    }
}

struct Refusal {
    sqlstate: String,
    who: Who,
    text: String,
}

impl Refusal {
    fn shown(&self) -> String {
        let who = format!("{:?}", self.who).to_lowercase();
        format!("refused {} {who} {}", self.sqlstate, self.text)
    }
}

impl Ground<'_> {
    /// Runs all cells; what became of each, in their order.
    pub(crate) fn run(&self, cells: &[Cell]) -> Result<Vec<Found>> {
        let mut found: Vec<Option<Value>> = vec![None; cells.len()];
        for library in [Version::Debian, Version::Eighteen] {
            let numbered: Vec<_> =
                cells.iter().enumerate().filter(|(_, cell)| cell.client() == library).collect();
            // Dealt like cards: slow kinds of cells lie side by side.
            let hands = (0..CLIENTS).map(|hand| {
                let cards = numbered.iter().skip(hand).step_by(CLIENTS);
                cards.map(|(id, cell)| Ok((*id, self.conninfo(cell)?))).collect::<Result<Vec<_>>>()
            });
            let hands = hands.collect::<Result<Vec<_>>>()?;
            let reports = std::thread::scope(|scope| {
                let hands = hands.iter().map(Vec::as_slice);
                let running: Vec<_> =
                    hands.map(|hand| scope.spawn(move || self.client(library, hand))).collect();
                let ended = running
                    .into_iter()
                    .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
                ended.collect::<Result<Vec<Vec<Value>>>>()
            })?;
            for report in reports.into_iter().flatten() {
                let id = usize::try_from(report["id"].as_u64().context("id")?)?;
                found[id] = Some(report);
            }
        }
        let paired = cells.iter().zip(found);
        paired
            .map(|(&cell, report)| {
                Ok(Found { cell, report: report.context("a cell without end")? })
            })
            .collect()
    }

    /// One process with its cells.
    fn client(&self, library: Version, cells: &[(usize, String)]) -> Result<Vec<Value>> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/libpq_cells.py");
        let mut command = Command::new(self.python);
        command.arg(script).arg(libpq(library)?);
        // No certificate of the user who runs the tests.
        command.env("HOME", self.pki.folder());
        if let Some(cgroup) = self.cgroup {
            cgroup.enter(&mut command)?;
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("starting the client")?;
        let mut input = process.stdin.take().context("piped")?;
        let output = BufReader::new(process.stdout.take().context("piped")?);
        let tasks: String = cells
            .iter()
            .map(|(id, conninfo)| format!("{}\n", json!({ "id": id, "conninfo": conninfo })))
            .collect();
        let reports = std::thread::scope(|scope| {
            scope.spawn(move || input.write_all(tasks.as_bytes()));
            let lines = output.lines();
            lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<Vec<Value>>>()
        });
        let status = process.wait()?;
        ensure!(status.success(), "the client ended with {status}");
        reports
    }

    fn conninfo(&self, cell: &Cell) -> Result<String> {
        let servers = self.servers.iter().find(|servers| servers.version == cell.version);
        let servers = servers.context("a server of that version")?;
        let role = cell.method.role();
        let (user, password) = match cell.mode {
            Mode::Mapped => (role.application(), self.passwords.of_application(role)),
            Mode::None | Mode::Terminate | Mode::Relay => {
                (role.name().to_owned(), self.passwords.of(role))
            }
        };
        let sslmode = match cell.sslmode {
            "direct" => "require sslnegotiation=direct",
            mode => mode,
        };
        let mut text = format!(
            "host={} hostaddr=127.0.0.{} port={} dbname={} user={user} password={password} \
             gssencmode=disable connect_timeout=20 channel_binding={} sslmode={sslmode}",
            pki::HOST,
            cell.last_address(),
            servers.server(cell.tls).port(),
            cell.tls.database(),
            cell.binding,
        );
        // `require` with a root certificate would be `verify-ca`.
        if cell.sslmode.starts_with("verify") {
            text.push_str(&format!(" sslrootcert={}", self.roots.display()));
        }
        if cell.method == Method::Cert && cell.mode == Mode::None {
            let files = self.pki.client(role.name());
            let (certificate, key) = (files.certificate.display(), files.key.display());
            text.push_str(&format!(" sslcert={certificate} sslkey={key}"));
        }
        Ok(text)
    }
}
