//! Python drivers, from the tool folder that `cargo xtask test` fills.

use std::path::Path;
use std::process::Command;

use pgward_tests::gate::python;
use pgward_tests::postgres::{Auth, Cluster};

use crate::{Pair, Result, gate, here};

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name)
}

fn runs(label: &str, python: &Path, name: &str) -> Result {
    for auth in [Auth::Trust, Auth::Scram, Auth::Md5] {
        let pair = Pair::new(label, Cluster::builder().auth(auth))?;
        let output = pair.same(|| {
            let mut command = Command::new(python);
            command.arg(script(name));
            pair.cluster.point(&mut command, "127.0.0.1");
            Ok(command)
        })?;
        assert!(output.status.success(), "{auth:?}: {}", crate::text(&output.stderr));
        assert!(output.stdout.ends_with(b"done\n"), "{auth:?}: {}", crate::text(&output.stdout));
        assert!(pair.statements("driver_table")? > 0, "its statements are recorded");
    }
    Ok(())
}

#[test]
fn psycopg_gets_the_same() -> Result {
    gate!();
    match python(here!(), "psycopg") {
        Some(python) => runs("psycopg", &python, "psycopg_client.py"),
        None => Ok(()),
    }
}

#[test]
fn asyncpg_gets_the_same() -> Result {
    gate!();
    match python(here!(), "asyncpg") {
        Some(python) => runs("asyncpg", &python, "asyncpg_client.py"),
        None => Ok(()),
    }
}
