//! Support for the tests of pgward, and for the demo and the benchmarks: guards for everything a run needs from the
//! host, each of which removes what it made, also when a test panics.
//!
//! | Module | Guards |
//! | --- | --- |
//! | [`cgroup`] | a cgroup of one's own below the cgroup v2 mount |
//! | [`netns`] | a network namespace, with or without loopback, with virtual cables |
//! | [`bpffs`] | a private mount of the BPF file system |
//! | [`postgres`] | a throw-away PostgreSQL cluster, with or without TLS |
//! | [`pki`] | certificates, right and wrong |
//! | [`container`] | a real OCI container, run by `crun` |
//! | [`disk`] | a small disk, to be filled, frozen and broken |
//! | [`script`] | a scripted PostgreSQL server |
//! | [`visitor`] | a connection made in the cgroup, driven by the test |
//! | [`suites`] | test suites of others, run directly and through an agent |
//! | [`sweep`] | the search for secrets |
//! | [`witness`] | a C2SP tlog-witness |
//! | [`trail`] | the audit trail of an agent, read from its folder |
//! | [`agent`] | the `pgward` binary on a cgroup, its log, and the proof that it left nothing behind |
//!
//! Nothing here touches the root cgroup or a fixed port, so tests run in parallel with others of their kind.

pub mod agent;
pub mod bpffs;
pub mod cgroup;
pub mod container;
pub mod disk;
pub mod gate;
pub mod host;
pub mod kernel;
pub mod manager;
pub mod netns;
pub mod pki;
pub mod postgres;
pub mod scene;
pub mod scram;
pub mod script;
pub mod suites;
pub mod sweep;
pub mod tls;
pub mod trail;
pub mod visitor;
pub mod wait;
pub mod wire;
pub mod witness;
