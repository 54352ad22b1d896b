//! Raw messages: each probe of the test client notes the same answers directly and through the agent.

use pgward_tests::postgres::{Auth, Cluster};
use pgward_tests::scene::{client, report};
use serde_json::Value;

use crate::{Pair, Result, gate};

#[test]
fn raw_messages_get_the_same_answers() -> Result {
    gate!();
    let pair = Pair::new("probes", Cluster::builder())?;
    let address = pair.address();
    let names = report(&mut client(&["probe", &address, "name=list"])?)?;
    let mut differences = Vec::new();
    for name in names.as_array().expect("a list of names").iter().filter_map(Value::as_str) {
        let told = format!("name={name}");
        let direct = report(&mut client(&["probe", &address, &told])?)?;
        match pair.scene.client(&["probe", &address, &told]) {
            Ok(through) if through == direct => {}
            Ok(through) => differences.push(difference(name, &direct, &through)),
            Err(error) => differences.push(format!("{name}: {error:#}")),
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

/// The lines up to and with the first that differs.
fn difference(name: &str, direct: &Value, through: &Value) -> String {
    let none = Vec::new();
    let (one, two) = (direct.as_array().unwrap_or(&none), through.as_array().unwrap_or(&none));
    let same = one.iter().zip(two).take_while(|(a, b)| a == b).count();
    let rest = |lines: &[Value]| {
        let lines = lines.iter().skip(same).take(4).filter_map(Value::as_str);
        lines.collect::<Vec<_>>().join(" | ")
    };
    format!("{name} after {same} lines\n  direct:  {}\n  through: {}", rest(one), rest(two))
}

#[test]
fn tokio_postgres_gets_the_same() -> Result {
    gate!();
    for auth in [Auth::Trust, Auth::Scram, Auth::Md5] {
        let pair = Pair::new("tokio", Cluster::builder().auth(auth))?;
        let password = format!("password={}", pair.cluster.password());
        let output = pair.same(|| client(&["tokio-postgres", &pair.address(), &password]))?;
        assert!(output.status.success(), "{auth:?}: {}", crate::text(&output.stderr));
    }
    Ok(())
}
