//! A server, an agent in front of it, and an auditor with a witness and the public keys.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use pgward_tests::agent::{Agent, Builder};
use pgward_tests::host;
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::{Scene, mark};
use pgward_tests::visitor::Visitor;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire;
use pgward_tests::witness::Witness;
use pgward_tests::witness::note::{Signer, log_key};
use serde_json::Value;
use tempfile::TempDir;

use crate::Result;

/// Exit codes of `pgward-verify`.
pub(crate) const INTACT: i32 = 0;
pub(crate) const TAMPERED: i32 = 1;
pub(crate) const INCOMPLETE: i32 = 2;

const WITNESS: &str = "witness.example/w1";

/// A session of a process that is intercepted, driven by the test.
pub(crate) type Client = wire::Session<Visitor>;

/// All of them. Dropped in this order: the agent first.
pub(crate) struct House {
    pub(crate) scene: Scene,
    pub(crate) cluster: Cluster,
    pub(crate) auditor: Auditor,
}

/// Has a witness on another machine, the host's public key as it was at enrolment, and a place for files.
pub(crate) struct Auditor {
    witness: Option<Witness>,
    address: SocketAddr,
    vkey: String,
    folder: TempDir,
}

impl Auditor {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("witness"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], host::free_port()?));
        let mut auditor = Self { witness: None, address, vkey: String::new(), folder };
        let witness = auditor.start_witness()?;
        auditor.vkey = witness.vkey();
        auditor.witness = Some(witness);
        Ok(auditor)
    }

    fn start_witness(&self) -> Result<Witness> {
        let signer = Signer::new(WITNESS, &[7; 32])?;
        Witness::start(&self.address.to_string(), signer, &self.witness_folder())
    }

    /// The witness's public key.
    pub(crate) fn witness_key(&self) -> String {
        self.vkey.clone()
    }

    /// Port of the witness.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The table of the anchor at the witness.
    pub(crate) fn anchor(&self) -> String {
        format!(
            "{{ name = 'witness', kind = 'witness', every_s = 1, url = 'http://{}', key = '{}' }}",
            self.address, self.vkey
        )
    }

    /// The witness is there no more.
    pub(crate) fn lose_witness(&mut self) {
        self.witness = None;
    }

    /// It is back, with what it knew.
    pub(crate) fn find_witness(&mut self) -> Result {
        let witness = self.start_witness()?;
        let key = fs::read_to_string(self.key())?;
        let (name, public) = log_key(&key)?;
        witness.trust(name, &public);
        self.witness = Some(witness);
        Ok(())
    }

    /// Copies the host's public key, and makes it known to the witness.
    pub(crate) fn enrol(&self, agent: &Agent) -> Result {
        let key = fs::read_to_string(agent.audit_directory().join("keys/host.vkey"))?;
        let (name, public) = log_key(&key)?;
        self.witness.as_ref().context("a witness")?.trust(name, &public);
        fs::write(self.key(), &key).context("keeping the host's public key")
    }

    /// The file with the host's public key.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("host.vkey")
    }

    /// What the witness keeps: the newest note of each log.
    pub(crate) fn witness_folder(&self) -> PathBuf {
        self.folder.path().join("witness")
    }

    /// A place for files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `pgward-verify` with the host's key and other arguments.
    pub(crate) fn verify(&self, what: &Path, more: &[&str]) -> Result<Checked> {
        let mut verify = Command::new(Agent::binary()?.with_file_name("pgward-verify"));
        verify.arg(what).arg("--key").arg(self.key()).args(more).arg("--json");
        let Output { status, stdout, stderr } = host::output(&mut verify)?;
        let text = String::from_utf8(stdout)?;
        let said = text.lines().map(serde_json::from_str).collect::<serde_json::Result<_>>()?;
        let code = status.code().context("ended by a signal")?;
        ensure!(code < 3, "{}", String::from_utf8_lossy(&stderr));
        Ok(Checked { code, said })
    }

    /// The same with the witness's key.
    pub(crate) fn verify_witnessed(&self, what: &Path) -> Result<Checked> {
        self.verify(what, &["--witness", &self.vkey])
    }
}

/// What `pgward-verify` said.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) code: i32,
    said: Vec<Value>,
}

impl Checked {
    /// Whether there is a finding of this class.
    pub(crate) fn has(&self, class: &str) -> bool {
        self.said.iter().any(|finding| finding["class"] == class)
    }
}

impl House {
    /// A house with a witness, its agent set up further by `more`.
    pub(crate) fn new(label: &str, more: impl FnOnce(Builder) -> Builder) -> Result<Self> {
        let (cluster, auditor) = (Cluster::start()?, Auditor::new()?);
        let anchors = format!("[{}]", auditor.anchor());
        Self::with(label, cluster, auditor, |builder| {
            more(builder.set("audit", "anchor", &anchors))
        })
    }

    /// The same with any server and auditor, and no anchor but those of `more`.
    pub(crate) fn with(
        label: &str,
        cluster: Cluster,
        auditor: Auditor,
        more: impl FnOnce(Builder) -> Builder,
    ) -> Result<Self> {
        let builder = Agent::builder().intercept(cluster.port());
        let scene = Scene::with(label, more(builder.set("audit", "seal_every_ms", "1000")))?;
        auditor.enrol(&scene.agent)?;
        Ok(Self { scene, cluster, auditor })
    }

    /// Folder of the trail.
    pub(crate) fn trail(&self) -> &Path {
        self.scene.agent.audit_directory()
    }

    /// A client in the scene's cgroup, logged in as `postgres`.
    pub(crate) fn client(&self) -> Result<Client> {
        self.client_as("postgres")
    }

    /// The same as another role.
    pub(crate) fn client_as(&self, role: &str) -> Result<Client> {
        use std::io::Write as _;
        let address = ([127, 0, 0, 1], self.cluster.port()).into();
        let mut stream = Visitor::connect(address, Some(&self.scene.cgroup))?;
        stream.write_all(&wire::startup(&[("user", role), ("database", "postgres")]))?;
        Client::finish_start(stream)
    }

    /// Runs `pgward` with the agent's configuration, whatever its exit status.
    pub(crate) fn pgward(&self, arguments: &[&str]) -> Result<Output> {
        host::output(&mut self.scene.agent.command(arguments)?)
    }

    /// The same, which must end with 0: its standard output.
    pub(crate) fn pgward_done(&self, arguments: &[&str]) -> Result<String> {
        host::run(&mut self.scene.agent.command(arguments)?)
    }

    /// What `pgward status --json` says.
    pub(crate) fn status(&self) -> Result<Value> {
        let Output { stdout, .. } = self.pgward(&["status", "--json"])?;
        Ok(serde_json::from_slice(&stdout)?)
    }

    /// Waits until the anchors of these names hold a checkpoint of all that is durable now.
    pub(crate) fn wait_anchored(&self, names: &[&str]) -> Result {
        let now = self.status()?["audit"]["store"]["entries"].as_u64().context("entries")?;
        let held = |status: &Value, name: &str| {
            let anchors = status["audit"]["anchors"].as_array();
            let mut named = anchors.into_iter().flatten().filter(|anchor| anchor["name"] == name);
            named.any(|anchor| anchor["size"].as_u64().is_some_and(|size| size >= now))
        };
        wait::until_true("the anchors to hold all", PATIENCE, || {
            let status = self.status()?;
            Ok(names.iter().all(|name| held(&status, name)))
        })
        .with_context(|| format!("{:?}", self.status().map(|status| status["audit"].clone())))
    }

    /// A session with a statement that has a word of its own, from its start to its end on record. Gives id and word.
    pub(crate) fn session(&self) -> Result<(String, String)> {
        let word = mark("word").replace('-', "_");
        let mut client = self.client()?;
        client.value(&format!("select 1 as {word}"))?;
        drop(client);
        let id = self.session_of(&word)?;
        let ended = |record: &Value| record["event"] == "session_end" && record["session"] == id;
        self.scene.agent.wait_for(ended, PATIENCE)?;
        Ok((id, word))
    }

    /// Id of the session whose statement has a word.
    pub(crate) fn session_of(&self, word: &str) -> Result<String> {
        let (statement, _) = self.scene.statement(word)?;
        Ok(statement["session"].as_str().context("a session")?.to_owned())
    }

    /// Stops the agent and checks that it left nothing behind.
    pub(crate) fn finish(self) -> Result {
        self.scene.agent.finish()
    }
}
