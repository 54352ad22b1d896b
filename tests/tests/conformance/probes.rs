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
        eprintln!("{name}");
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

#[test]
fn requests_for_encryption_are_declined_in_any_order() -> Result {
    gate!();
    let pair = Pair::new("encrypt", Cluster::builder())?;
    // A server built with GSSAPI says yes to the second kind; the agent, for its leg, says no to both.
    for name in ["name=ssl-then-gss", "name=gss-then-ssl"] {
        let notes = pair.scene.client(&["probe", &pair.address(), name])?;
        assert_eq!((&notes[0], &notes[1]), (&"bytes N".into(), &"bytes N".into()), "{notes}");
        let last = notes.as_array().and_then(|lines| lines.last());
        assert_eq!(last.and_then(Value::as_str), Some("Z I"), "{notes}");
    }
    Ok(())
}

#[test]
fn unknown_major_versions_are_refused_as_a_server_does() -> Result {
    gate!();
    let pair = Pair::new("version", Cluster::builder())?;
    for name in ["name=old-major-version", "name=future-major-version"] {
        let notes = pair.scene.client(&["probe", &pair.address(), name])?;
        let refusal = notes[0].as_str().unwrap_or_default();
        assert!(refusal.starts_with("E ") && refusal.contains("C0A000"), "{notes}");
        assert_eq!(notes[1], "end", "{notes}");
    }
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
