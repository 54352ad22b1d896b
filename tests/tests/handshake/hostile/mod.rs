//! Clients and servers that break the rules.
//!
//! Each script runs against real servers first: what they answer is written down, and shows that the script does what it
//! says. Then it runs through the agent.

mod crowd;
pub(crate) mod peer;
mod sasl;
mod servers;
mod startup;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use pgward_tests::cgroup::Cgroup;
use pgward_tests::pki::Pki;
use pgward_tests::postgres::Version;
use pgward_tests::scene::Scene;
use pgward_tests::visitor::Visitor;

use crate::Result;
use crate::agents;
use crate::servers::{Passwords, Role, ServerTls, Servers};

/// A server, and what is needed to talk to it.
struct Target<'t> {
    address: SocketAddr,
    /// Where visitors come from, to be intercepted.
    cgroup: Option<&'t Cgroup>,
    roots: PathBuf,
    passwords: &'t Passwords,
}

impl Target<'_> {
    fn visit(&self) -> Result<Visitor> {
        Visitor::connect(self.address, self.cgroup)
    }
}

/// A server of one version with its certificates.
struct Stage {
    pki: Pki,
    passwords: Passwords,
    servers: Servers,
}

impl Stage {
    fn new(version: Version) -> Result<Self> {
        let (pki, passwords) = (Pki::new(&[Role::Cert.name()])?, Passwords::new());
        let servers = Servers::start(version, &pki, &passwords)?;
        Ok(Self { pki, passwords, servers })
    }

    /// The server with a certificate, itself.
    fn direct(&self) -> Target<'_> {
        let address = address(1, self.port());
        let roots = self.pki.roots();
        Target { address, cgroup: None, roots, passwords: &self.passwords }
    }

    /// The same behind an agent that terminates SCRAM.
    fn behind<'t>(&'t self, scene: &'t Scene) -> Target<'t> {
        let address = address(agents::TERMINATE, self.port());
        let (cgroup, roots) = (Some(&scene.cgroup), self.pki.all_roots());
        Target { address, cgroup, roots, passwords: &self.passwords }
    }

    fn port(&self) -> u16 {
        self.servers.server(ServerTls::On).port()
    }
}

fn address(last: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, last), port).into()
}
