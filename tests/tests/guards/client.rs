//! The test client without any agent: every way to connect and to write works, and every script of socket calls gives the
//! same lines each time, which is what comparing them with an agent in the way rests on.

use std::net::{Ipv4Addr, SocketAddr};

use pgward_tests::cgroup::Cgroup;
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::{client, report};
use pgward_tests::script::ScriptedServer;
use pgward_tests::{gate, host};

type Result = anyhow::Result<()>;

#[test]
fn every_way_to_connect_works_directly() -> Result {
    let cluster = Cluster::start()?;
    let port = cluster.port();
    let ways = [
        "blocking",
        "non-blocking",
        "fastopen-sendto",
        "fastopen-connect",
        "reconnect",
        "thread",
        "io-uring-inline",
        "io-uring-async",
        "io-uring-sqpoll",
    ];
    let addresses = [format!("127.0.0.1:{port}"), format!("[::ffff:127.0.0.1]:{port}")];
    for address in &addresses {
        for way in ways {
            let how = format!("how={way}");
            let report = report(&mut client(&["connect", address, &how, "mark=m"])?)?;
            assert_eq!(report["answer"], "127.0.0.1/32|m", "{way}");
            assert_eq!(report["peer"].as_str(), Some(address.as_str()), "{way}");
        }
    }
    let arguments = ["connect", &addresses[0], "how=bound-source", "mark=m", "bind=127.0.0.9:0"];
    let report = report(&mut client(&arguments)?)?;
    assert!(report["source"].as_str().is_some_and(|source| source.starts_with("127.0.0.9:")));
    Ok(())
}

#[test]
fn every_way_to_write_works_directly() -> Result {
    if !gate::privileged("every_way_to_write_works_directly") {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    let cgroup = Cgroup::new("elsewhere")?;
    let address = format!("127.0.0.1:{}", cluster.port());
    let folder = format!("cgroup={}", cgroup.path().display());
    let ways = [
        "main",
        "thread",
        "fork",
        "exec-child",
        "exec-same-pid",
        "passed",
        "sendfile",
        "splice",
        "io-uring-inline",
        "io-uring-async",
        "io-uring-sqpoll",
        "ring-of-child",
        "early",
        "short-lived",
        "pid-reused",
        "pid-reused-by-writer",
        "halves",
        "alternating",
    ];
    for way in ways {
        let how = format!("how={way}");
        let report = report(&mut client(&["write", &address, &how, "mark=m", &folder])?)?;
        assert!(report["opener"].is_u64(), "{way}: {report}");
    }
    Ok(())
}

#[test]
fn scripts_of_socket_calls_give_the_same_lines_each_time() -> Result {
    let server = ScriptedServer::start((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = server.address().port();
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port));
    for address in [v4, v6] {
        let address = address.to_string();
        let names = report(&mut client(&["sockets", &address, "script=list"])?)?;
        for name in names.as_array().expect("a list").iter().filter_map(|name| name.as_str()) {
            let script = format!("script={name}");
            let run = || report(&mut client(&["sockets", &address, &script])?);
            let (first, second) = (run()?, run()?);
            assert_eq!(first, second, "{name}");
            assert!(first.as_array().is_some_and(|lines| !lines.is_empty()), "{name}");
        }
    }
    Ok(())
}

#[test]
fn a_crowd_gets_its_answers_directly() -> Result {
    let server = ScriptedServer::start((Ipv4Addr::LOCALHOST, 0))?;
    let address = server.address().to_string();
    let arguments = ["crowd", &address, "threads=4", "each=50", "mark=m"];
    let report = report(&mut client(&arguments)?)?;
    assert_eq!(report["done"], 200, "{report}");
    assert_eq!(server.accepted(), 200);
    Ok(())
}

#[test]
fn a_hundred_namespaces_come_and_go_directly() -> Result {
    if !gate::privileged("a_hundred_namespaces_come_and_go_directly") {
        return Ok(());
    }
    let address = format!("127.0.0.1:{}", host::free_port()?);
    let report = report(&mut client(&["namespaces", &address, "count=100", "mark=m"])?)?;
    assert_eq!(report["done"], 100, "{report}");
    Ok(())
}
