//! Real clients and raw messages against a real server: what they get through the agent equals what they get directly.

mod drivers;
mod libpq;
mod probes;
mod regression;

use std::process::{Command, Output};

use pgward_tests::host;
use pgward_tests::postgres::{Builder, Cluster};
use pgward_tests::scene::Scene;

use pgward_tests::{here, needs_kernel as gate};

/// What a test returns.
type Result<T = ()> = anyhow::Result<T>;

/// A server, and an agent in front of it for whoever is in the scene's cgroup.
struct Pair {
    scene: Scene,
    cluster: Cluster,
}

impl Pair {
    fn new(label: &str, cluster: Builder) -> Result<Self> {
        let cluster = cluster.start()?;
        let scene = Scene::new(label, cluster.port())?;
        Ok(Self { scene, cluster })
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.cluster.port())
    }

    /// Runs the command that `make` gives directly and through the agent; both outputs.
    fn both(&self, make: impl Fn() -> Result<Command>) -> Result<(Output, Output)> {
        let direct = host::output(&mut make()?)?;
        let through = self.scene.output(&mut make()?)?;
        Ok((direct, through))
    }

    /// [`Pair::both`], and status, standard output and standard error must be the same, byte for byte.
    fn same(&self, make: impl Fn() -> Result<Command>) -> Result<Output> {
        let (direct, through) = self.both(&make)?;
        let show = |output: &Output| {
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            format!("{}\n{out}\n{err}", output.status)
        };
        assert!(
            direct == through,
            "{:?}\ndirect: {}\nthrough: {}\n{}",
            make()?,
            show(&direct),
            show(&through),
            self.scene.agent.story()
        );
        Ok(through)
    }

    /// Number of statement records so far whose text contains this.
    fn statements(&self, part: &str) -> Result<usize> {
        let records = self.scene.agent.records()?;
        let found = records.iter().filter(|record| {
            record["event"] == "statement"
                && record["text"].as_str().is_some_and(|text| text.contains(part))
        });
        Ok(found.count())
    }
}

/// The first part of an output, for messages.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(3000).collect()
}
