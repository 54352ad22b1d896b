//! Records of TLS of a size that asynchronous libpq programs do not hang on.
//!
//! libpq reads once for each event of its socket; what the TLS library has decrypted already makes none. Some sizes of rows in
//! records of 16 KiB therefore wait for ever. PostgreSQL writes smaller ones, and so does the agent.

use pgward_tests::pki::{self, Pki};
use pgward_tests::postgres::Version;
use pgward_tests::scene::Scene;
use serde_json::json;

use super::{agent, destination, report, server};
use crate::{Result, gate, here};

const LAST: u8 = 11;
/// Sizes of values, in bytes; the step meets those that are known to hang, 2330 to 2365 among them.
const SIZES: (u32, u32, u32) = (200, 4000, 7);
/// Longest wait for one result.
const PATIENCE_S: u32 = 5;

#[test]
fn results_of_all_sizes_arrive_at_asynchronous_clients() -> Result {
    gate!();
    let pki = Pki::new(&[])?;
    let cluster = server(&pki, "hostssl all all all trust\n").version(Version::Eighteen).start()?;
    let text = format!("{}[destination.auth]\nrequire = \"any\"\n", destination(&pki, LAST));
    let scene = Scene::with("frames", agent(&pki, cluster.port()).destination(&text))?;
    let (from, to, step) = SIZES;
    for library in [Version::Eighteen, Version::Debian] {
        let conninfo = format!(
            "host={} hostaddr=127.0.0.{LAST} port={} user=postgres dbname=postgres \
             gssencmode=disable connect_timeout=20 sslmode=verify-full sslrootcert={}",
            pki::HOST,
            cluster.port(),
            pki.all_roots().display()
        );
        let told = json!({
            "library": library.libpq()?, "conninfo": conninfo, "from": from, "to": to,
            "step": step, "patience_s": PATIENCE_S,
        });
        let told = report(here!(), "frames.py", &told, Some(&scene.cgroup))?;
        let Some(told) = told else { return Ok(()) };
        let all = (to - from) / step + 1;
        assert_eq!(told, json!({ "tls": true, "read": all, "stuck": [] }), "{library:?}");
    }
    scene.agent.finish()
}
