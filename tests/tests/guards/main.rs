//! The guards themselves: what they make works, and nothing is left when they go.

mod client;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use pgward_tests::bpffs::BpfFs;
use pgward_tests::cgroup::Cgroup;
use pgward_tests::container::Container;
use pgward_tests::netns::{Loopback, NetNs};
use pgward_tests::postgres::{Auth, Cluster};
use pgward_tests::{gate, host};

type Result = anyhow::Result<()>;

#[test]
fn a_dropped_cgroup_takes_its_processes_along() -> Result {
    if !gate::privileged("a_dropped_cgroup_takes_its_processes_along") {
        return Ok(());
    }
    let cgroup = Cgroup::new("guard")?;
    let below = cgroup.child("below")?;
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    let mut child = below.spawn_in(sleep)?;
    let pid = i32::try_from(child.id())?;
    assert_eq!(cgroup.processes()?, [pid], "the child is inside before it runs");
    let line = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    assert!(line.lines().any(|line| line == format!("0::{}", below.in_hierarchy())), "{line}");
    let path = cgroup.path().to_owned();
    std::mem::forget(below); // as if the inner guard were lost: the outer one must cope
    drop(cgroup);
    assert!(!path.exists());
    assert!(!child.wait()?.success(), "killed");
    Ok(())
}

#[test]
fn guards_clean_up_when_a_test_panics() -> Result {
    if !gate::privileged("guards_clean_up_when_a_test_panics") {
        return Ok(());
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let outcome = std::thread::spawn(move || {
        let cgroup = Cgroup::new("panic").expect("cgroup");
        let bpffs = BpfFs::new().expect("bpffs");
        let cluster = Cluster::start().expect("cluster");
        let facts = (
            cgroup.path().to_owned(),
            bpffs.path(),
            cluster.socket_folder().to_owned(),
            cluster.pid(),
        );
        sender.send(facts).expect("the test waits");
        panic!("on purpose");
    })
    .join();
    assert!(outcome.is_err());
    let (cgroup, bpffs, cluster, pid) = receiver.recv()?;
    assert!(!cgroup.exists() && !bpffs.exists() && !cluster.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "the server ended");
    Ok(())
}

#[test]
fn a_namespace_is_joined_to_the_host_and_to_another() -> Result {
    if !gate::privileged("a_namespace_is_joined_to_the_host_and_to_another") {
        return Ok(());
    }
    let mut one = NetNs::new(Loopback::Up)?;
    let two = NetNs::new(Loopback::Down)?;
    let up = one.connect_to_host()?;
    let across = one.connect_to(&two)?;
    let at_host = TcpListener::bind((up.outside, 0))?;
    let far = at_host.local_addr()?;
    one.inside(|| Ok(TcpStream::connect(far)?))?;
    let at_two = two.inside(|| Ok(TcpListener::bind((across.outside, 0))?))?;
    let far = at_two.local_addr()?;
    one.inside(|| Ok(TcpStream::connect(far)?))?;
    let lost = two.inside(|| Ok(TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))));
    let lost = lost?.err().and_then(|error| error.raw_os_error());
    assert_eq!(lost, Some(nix::libc::ENETUNREACH), "loopback is down in the second");
    Ok(())
}

#[test]
fn clusters_ask_for_the_password_they_were_told_to() -> Result {
    for auth in [Auth::Trust, Auth::Scram, Auth::Md5, Auth::Password] {
        let cluster = Cluster::builder().auth(auth).start()?;
        let mut psql = cluster.client("psql", "127.0.0.1");
        let answer = host::run(psql.args(["-XAtc", "select 41 + 1"]))?;
        assert_eq!(answer, "42\n", "{auth:?}");
        let mut psql = cluster.client("psql", "127.0.0.1");
        psql.env_remove("PGPASSWORD").env("PGPASSFILE", "/dev/null");
        let output = psql.args(["-w", "-XAtc", "select 1"]).stderr(Stdio::piped()).output()?;
        assert_eq!(output.status.success(), auth == Auth::Trust, "{auth:?} without a password");
    }
    Ok(())
}

#[test]
fn a_container_runs_the_hosts_psql_in_a_given_namespace_and_cgroup() -> Result {
    let name = "a_container_runs_the_hosts_psql_in_a_given_namespace_and_cgroup";
    if !gate::privileged_with(name, "crun") {
        return Ok(());
    }
    let cgroup = Cgroup::new("container")?;
    let mut netns = NetNs::new(Loopback::Up)?;
    let cable = netns.connect_to_host()?;
    let cluster = Cluster::builder().listen("*").start()?;
    let address = format!("host={} port={} user=postgres", cable.outside, cluster.port());
    let arguments = ["psql", &address, "-XAtc", "select inet_client_addr()"];
    let mut container = Container::builder("guard").network(&netns).run(&cgroup, &arguments)?;
    let output = container.wait()?;
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        told.trim(),
        cable.inside.to_string(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let sleeping = Container::builder("guard").own_network().run(&cgroup, &["sleep", "1000"])?;
    let pid = sleeping.pid()?;
    let line = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    assert!(line.contains(sleeping.cgroup()), "{line}");
    let output = sleeping.exec(&["/busybox/busybox", "echo", "hello"])?;
    assert_eq!(output.stdout, b"hello\n", "{}", String::from_utf8_lossy(&output.stderr));
    drop(sleeping);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    Ok(())
}
