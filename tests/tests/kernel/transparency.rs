//! The same socket calls with and without the agent give the same results, with the attribution tiers off and on.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use pgward_tests::agent::Agent;
use pgward_tests::host;
use pgward_tests::scene::{Scene, client, report};
use pgward_tests::script::ScriptedServer;

use crate::{Result, gate};

#[test]
fn socket_calls_give_the_same_results_with_attribution_tiers_off() -> Result {
    gate!();
    compare("\"off\"")
}

#[test]
fn socket_calls_give_the_same_results_with_attribution_tiers_on() -> Result {
    gate!();
    compare("\"best-effort\"")
}

fn compare(tiers: &str) -> Result {
    let any = if host::has_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { [0, 0, 0, 0].into() };
    let server = ScriptedServer::start(SocketAddr::new(any, 0))?;
    let port = server.address().port();
    let builder = Agent::builder().intercept(port).set("bpf", "tx_timestamp", tiers).set(
        "bpf",
        "sendmsg_tracepoint",
        tiers,
    );
    let scene = Scene::with("same", builder)?;
    let mut addresses = vec![
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port)),
    ];
    if host::has_ipv6() {
        addresses.push(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    }
    let mut differences = Vec::new();
    for address in addresses {
        let address = address.to_string();
        let names = report(&mut client(&["sockets", &address, "script=list"])?)?;
        for name in names.as_array().expect("a list of names").iter().filter_map(|n| n.as_str()) {
            let script = format!("script={name}");
            let direct = report(&mut client(&["sockets", &address, &script])?)?;
            // A script that hangs or breaks is a difference like any other: the rest still runs.
            match scene.client(&["sockets", &address, &script]) {
                Ok(through) if through == direct => {}
                Ok(through) => differences.push(format!(
                    "{name} to {address}\n  direct:  {direct}\n  through: {through}"
                )),
                Err(error) => differences.push(format!("{name} to {address}: {error:#}")),
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let sessions = scene.agent.records()?;
    let sessions = sessions.iter().filter(|record| record["event"] == "session_start").count();
    assert!(sessions > 20, "the scripts went through the agent: {sessions} sessions");
    Ok(())
}
