//! Versions and options of the protocol: the same bytes as without the agent.

use std::io::Write;

use anyhow::Context;
use pgward_tests::postgres::{Cluster, Version};
use pgward_tests::scene::Scene;
use pgward_tests::visitor::Visitor;
use pgward_tests::wire::{self, Frame, startup_version};

use super::address;
use crate::{Result, gate};

/// Minor versions of protocol 3: 1 is reserved, 2 is of PostgreSQL 18, 9999 is asked for by testing versions of libpq.
const MINORS: [u32; 5] = [0, 1, 2, 3, 9999];
/// Options of the protocol that no server knows.
const OPTIONS: [&[(&str, &str)]; 4] = [
    &[],
    &[("_pq_.test_protocol_negotiation", "on")],
    &[("_pq_.x", "1")],
    &[("_pq_.test_protocol_negotiation", "on"), ("_pq_.x", "")],
];

/// All that a server says up to `ReadyForQuery`; but of `BackendKeyData`, which is different each time, how long its key is.
fn answers(
    scene: Option<&Scene>,
    cluster: &Cluster,
    minor: u32,
    options: &[(&str, &str)],
) -> Result<Vec<Frame>> {
    let mut visitor = Visitor::connect(address(1, cluster.port()), scene.map(|s| &s.cgroup))?;
    let own = [("user", "postgres"), ("database", "postgres")];
    visitor.write_all(&startup_version(3 << 16 | minor, &[&own, options].concat()))?;
    let mut frames = wire::read_until_ready(&mut visitor)?;
    for frame in frames.iter_mut().filter(|frame| frame.tag == b'K') {
        frame.body.drain(..4);
        frame.body.fill(0);
    }
    visitor.write_all(&wire::terminate())?;
    Ok(frames)
}

/// `NegotiateProtocolVersion`: the newest version that the server has, and the options that it does not know.
fn negotiation(newest_minor: u32, options: &[(&str, &str)]) -> Result<Vec<u8>> {
    let count = u32::try_from(options.len())?;
    let mut body = [(3_u32 << 16 | newest_minor).to_be_bytes(), count.to_be_bytes()].concat();
    options.iter().for_each(|(name, _)| body.extend(wire::text(name)));
    Ok(body)
}

#[test]
fn versions_and_options_are_negotiated_as_by_the_server() -> Result {
    gate!();
    for version in [Version::Debian, Version::Eighteen] {
        let cluster = Cluster::builder().version(version).start()?;
        let scene = Scene::new("protocol", cluster.port())?;
        for minor in MINORS {
            for options in OPTIONS {
                let case = format!("{} minor {minor} {options:?}", version.name());
                let direct = answers(None, &cluster, minor, options).context(case.clone())?;
                let through =
                    answers(Some(&scene), &cluster, minor, options).context(case.clone())?;
                assert_eq!(through, direct, "{case}");
                // What the server does is what this test takes it for.
                let newest = if version == Version::Eighteen { 2 } else { 0 };
                let negotiated = direct.iter().find(|frame| frame.tag == b'v');
                let negotiated = negotiated.map(|frame| frame.body.clone());
                let expected = (minor > newest || !options.is_empty()).then_some(());
                assert_eq!(negotiated.is_some(), expected.is_some(), "{case}");
                if minor >= newest && expected.is_some() {
                    assert_eq!(negotiated, Some(negotiation(newest, options)?), "{case}");
                }
                let key = direct.iter().find(|frame| frame.tag == b'K').context("a key")?;
                let long = version == Version::Eighteen && minor >= 2;
                assert_eq!(key.body.len(), if long { 32 } else { 4 }, "{case}");
            }
        }
        scene.agent.finish()?;
    }
    Ok(())
}
