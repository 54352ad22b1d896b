//! Some of PostgreSQL's own regression tests. `cargo xtask conformance` runs all of them, and the drivers' suites.

use pgward_tests::gate;
use pgward_tests::postgres::Version;
use pgward_tests::suites::regress::Regress;
use pgward_tests::suites::{self, Way};

use crate::{Pair, Result, gate};

/// Those that say most about a connection: large values, COPY, cursors, prepared statements, errors, notifications,
/// settings. The first makes the tables that others read.
const TESTS: [&str; 12] = [
    "test_setup",
    "strings",
    "copydml",
    "portals",
    "prepare",
    "prepared_xacts",
    "transactions",
    "largeobject",
    "plpgsql",
    "async",
    "guc",
    "returning",
];

#[test]
fn regression_tests_of_postgres_give_the_same_output() -> Result {
    gate!();
    let tools = gate::target_folder()?.join("tools/conformance");
    let regress = Regress {
        version: Version::Debian,
        sources: tools.join("postgres-15.18"),
        libraries: tools.join("postgres-15-libraries"),
        psql: None,
    };
    let schedule = regress.schedule()?;
    let tests: Vec<_> = TESTS.iter().map(|test| (*test).to_owned()).collect();
    assert!(tests.iter().all(|test| schedule.contains(test)), "not in the schedule: {tests:?}");

    let outputs = tempfile::tempdir()?;
    let direct = {
        let cluster = regress.server().start()?;
        regress.run(&tests, &cluster, Way::Direct, &outputs.path().join("direct"))?
    };
    let pair = Pair::new("regress", regress.server())?;
    let through = outputs.path().join("through");
    let through = regress.run(&tests, &pair.cluster, Way::Through(&pair.scene), &through)?;
    assert_eq!(suites::differences(&direct, &through), std::collections::BTreeMap::new());
    assert_eq!(direct.len(), tests.len());
    assert!(pair.statements("LARGEOBJECT")? > 0 || pair.statements("lo_creat")? > 0);
    Ok(())
}
