//! What the sealed trail is worth: a search, the proof of one session, and a copy in which one bit was changed. What
//! checks it is a program of its own, with public keys and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use pgward_tests::agent::{Agent, Builder};
use pgward_tests::host;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::witness::Witness;
use pgward_tests::witness::note::{Signer, log_key};

use super::database::{BILLING, BILLING_LOGIN};
use crate::run::{announce, quiet, run, say, target};

/// Milliseconds between two seals: the demo does not want to wait for ten seconds.
const SEAL_EVERY_MS: &str = "1000";

/// Name of the witness's key.
const WITNESS: &str = "witness.example/demo";

/// Exit codes of `pgward-verify`.
const INTACT: i32 = 0;
const TAMPERED: i32 = 1;

/// Which byte of the segment is changed in the copy: behind the header of 512 bytes, among the first entries.
const CHANGED_BYTE: usize = 600;

/// What an auditor has: a witness, the host's public key as it was at enrolment, and a place for files.
pub(super) struct Evidence {
    witness: Witness,
    folder: PathBuf,
}

impl Evidence {
    /// Starts the witness: a server that signs checkpoints of the trail, but only those that continue what it signed before.
    /// It stands for one on another machine.
    pub(super) fn new(scratch: &Path) -> Result<Self> {
        let folder = scratch.join("auditor");
        let state = folder.join("witness");
        fs::create_dir_all(&state)?;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&host::random().to_ne_bytes());
        let witness = Witness::start("127.0.0.1:0", Signer::new(WITNESS, &seed)?, &state)?;
        Ok(Self { witness, folder })
    }

    /// The agent's settings: values sealed, as by default, and the witness.
    pub(super) fn configure(&self, builder: Builder) -> Builder {
        builder
            .set("audit", "values", "\"sealed\"")
            .set("audit", "seal_every_ms", SEAL_EVERY_MS)
            .set(
                "audit",
                "anchor",
                &format!(
                    "[{{ name = \"witness\", kind = \"witness\", every_s = 1, url = {:?}, key = {:?} }}]",
                    self.witness.url(),
                    self.witness.vkey()
                ),
            )
    }

    /// Copies the host's public key, and makes it known to the witness.
    pub(super) fn enrol(&self, agent: &Agent) -> Result<()> {
        let key = fs::read_to_string(agent.audit_directory().join("keys/host.vkey"))?;
        let (name, public) = log_key(&key)?;
        self.witness.trust(name, &public);
        fs::write(self.key(), &key).context("keeping the host's public key")
    }

    /// Searches, proves the session of the mapped application, and tampers with a copy of the trail.
    pub(super) fn show(&self, agent: &Agent) -> Result<()> {
        say(format_args!(
            "\nWhat psql asked as {BILLING}. Literals are sealed, the text has numbers in their place:\n"
        ));
        let mut search =
            agent.command(&["audit", "search", "--process", "psql", "--user", BILLING])?;
        search.args(["--columns", "time,session,exe,user,handshake,statement,rows"]);
        run(&mut search)?;

        let records = agent.records()?;
        let mapped = records
            .iter()
            .find(|record| record["event"] == "session_start" && record["login"] == BILLING_LOGIN);
        let session =
            mapped.and_then(|start| start["session"].as_str()).context("no such session")?;
        say(
            "\nThat session in one file, for somebody who gets no other and has the keys of host and witness:\n",
        );
        let bundle = self.prove(agent, session)?;
        self.checked(&bundle, INTACT)?;

        say("\nThe trail as a whole, and a copy with one bit changed:\n");
        self.checked(agent.audit_directory(), INTACT)?;
        let copy = self.tampered(agent.audit_directory())?;
        self.checked(&copy, TAMPERED)?;
        say("\nThe proof holds, the trail is intact, and the changed bit was found.");
        Ok(())
    }

    /// The bundle, once the witness has signed a checkpoint that covers it.
    fn prove(&self, agent: &Agent, session: &str) -> Result<PathBuf> {
        let bundle = self.folder.join("session.bundle");
        let path = bundle.to_str().context("the path of the scratch folder is text")?;
        let prove = || agent.command(&["audit", "prove", "--session", session, "--output", path]);
        announce(&prove()?);
        let mut said = Vec::new();
        wait::until_true("a proof that the witness vouches for", PATIENCE, || {
            let _ = fs::remove_file(&bundle);
            let made = quiet(&mut prove()?)?;
            said = made.stdout;
            Ok(made.status.success() && quiet(&mut self.verify(&bundle)?)?.status.success())
        })?;
        print!("{}", String::from_utf8_lossy(&said));
        Ok(bundle)
    }

    /// Runs `pgward-verify`, which must end with `expected`.
    fn checked(&self, what: &Path, expected: i32) -> Result<()> {
        let mut verify = self.verify(what)?;
        announce(&verify);
        let status = verify.stdin(Stdio::null()).status().context("starting pgward-verify")?;
        ensure!(
            status.code() == Some(expected),
            "pgward-verify: {status}, expected exit status {expected}"
        );
        Ok(())
    }

    fn verify(&self, what: &Path) -> Result<Command> {
        let mut verify = Command::new(target().join("debug/pgward-verify"));
        verify.arg(what).arg("--key").arg(self.key()).args(["--witness", &self.witness.vkey()]);
        verify.args(["--seal-every", "1"]);
        Ok(verify)
    }

    /// A copy of the trail in which somebody who can write there changed one bit of the first entries.
    fn tampered(&self, trail: &Path) -> Result<PathBuf> {
        let copy = self.folder.join("copy");
        run(Command::new("cp").arg("-a").arg(trail).arg(&copy))?;
        let segment = copy.join("epoch-1/segment-00000000000000000000.log");
        let mut bytes = fs::read(&segment).context("the first segment, which is still written")?;
        *bytes.get_mut(CHANGED_BYTE).context("a first entry")? ^= 1;
        fs::write(&segment, bytes)?;
        Ok(copy)
    }

    fn key(&self) -> PathBuf {
        self.folder.join("host.vkey")
    }
}
