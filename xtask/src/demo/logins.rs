//! Compares how each session of the demo logged in with how it should have.

use anyhow::{Result, bail, ensure};
use comfy_table::{Table, presets};
use serde_json::Value;

/// TLS on the legs of the demo, where there is any: both ends can do it.
const TLS: &str = "TLSv1.3";

/// A leg without TLS.
const CLEAR: &str = "clear";

/// How a session must have logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Login {
    /// Which client it is, for people.
    pub(super) client: &'static str,
    /// Role that the client says.
    pub(super) role: &'static str,
    /// Between client and agent.
    pub(super) leg: Leg,
    /// How it went.
    pub(super) came_to: CameTo,
}

/// Whether a leg is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leg {
    Clear,
    Tls,
}

/// What a login came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CameTo {
    /// The client proved itself by SCRAM to the agent, and the agent to the server with what was proven.
    Terminated,
    /// The client proved itself by SCRAM to the agent, and the agent to the server as this role.
    Mapped(&'static str),
    /// The agent refused it, with this SQLSTATE.
    Refused(&'static str),
}

/// What the records say of a session, in the words that are shown.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    role: String,
    client: String,
    server: String,
    handshake: String,
}

/// Prints, for each session in the order in which they were opened, what its legs and its handshake were.
///
/// Errors: when one was not as it should have been, or when there are more or fewer.
pub(super) fn compare(records: &[Value], expected: &[Login]) -> Result<()> {
    let told = told(records);
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["CLIENT", "ROLE", "CLIENT LEG", "SERVER LEG", "HANDSHAKE"]);
    let mut faults = Vec::new();
    for (told, login) in told.iter().zip(expected) {
        let Told { role, client, server, handshake } = told;
        table.add_row([login.client, role, client, server, handshake]);
        let wanted = login.wanted();
        if *told != wanted {
            faults.push(format!("{}: expected {wanted:?}, found {told:?}", login.client));
        }
    }
    println!("\nHow each session logged in:\n");
    for line in table.to_string().lines() {
        println!("{}", line.trim());
    }
    ensure!(
        told.len() == expected.len(),
        "{} sessions, expected {}: {told:?}",
        told.len(),
        expected.len()
    );
    if !faults.is_empty() {
        bail!("not as it should be:\n  {}", faults.join("\n  "));
    }
    println!("\nAll {} as they should be.", told.len());
    Ok(())
}

/// Compares what `pgward status --json` counted with the logins that were to be refused.
///
/// Errors: when it is another number, or when others failed.
pub(super) fn compare_counters(status: &Value, expected: &[Login]) -> Result<()> {
    let refused = expected.iter().filter(|login| matches!(login.came_to, CameTo::Refused(_)));
    let wanted = [0, refused.count() as u64, 0];
    let names = ["logins_failed", "logins_refused", "logins_throttled"];
    let counted = names.map(|name| status[name].as_u64().unwrap_or(u64::MAX));
    ensure!(counted == wanted, "{names:?}: expected {wanted:?}, found {counted:?}");
    Ok(())
}

impl Login {
    /// Every leg to the server has TLS, and SCRAM is bound to each leg that has it.
    fn wanted(&self) -> Told {
        let (client, bound) = match self.leg {
            Leg::Clear => (CLEAR, "server"),
            Leg::Tls => (TLS, "client and server"),
        };
        let handshake = match self.came_to {
            CameTo::Terminated => format!("terminated, bound to {bound}"),
            CameTo::Mapped(login) => format!("mapped to {login}, bound to {bound}"),
            CameTo::Refused(sqlstate) => format!("refused, {sqlstate}"),
        };
        Told {
            role: self.role.to_owned(),
            client: client.to_owned(),
            server: TLS.to_owned(),
            handshake,
        }
    }
}

fn told(records: &[Value]) -> Vec<Told> {
    let of = |event: &'static str| records.iter().filter(move |record| record["event"] == event);
    let mut starts: Vec<&Value> = of("session_start").collect();
    // Sessions are numbered as they come.
    starts.sort_by_key(|start| start["session"].as_str());
    let sqlstate = |session: &Value| {
        let end = of("session_end").find(|end| end["session"] == *session);
        end.and_then(|end| end["sqlstate"].as_str()).unwrap_or("no reason").to_owned()
    };
    let each = starts.into_iter().map(|start| {
        let text = |field: &str| start[field].as_str();
        let leg = |field: &str| text(field).and_then(|tls| tls.split(' ').next()).unwrap_or(CLEAR);
        let handshake = match (text("handshake"), text("login")) {
            (None, _) => format!("refused, {}", sqlstate(&start["session"])),
            (Some(kind), login) => {
                let login = login.map(|login| format!(" to {login}")).unwrap_or_default();
                format!("{kind}{login}{}", bound(start))
            }
        };
        Told {
            role: text("database_user").unwrap_or_default().to_owned(),
            client: leg("client_tls").to_owned(),
            server: leg("server_tls").to_owned(),
            handshake,
        }
    });
    each.collect()
}

fn bound(start: &Value) -> String {
    let legs: Vec<&str> =
        start["bound"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if legs.is_empty() { String::new() } else { format!(", bound to {}", legs.join(" and ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn start(session: &str, server: Option<&str>) -> Value {
        json!({
            "event": "session_start", "session": session, "database_user": "shop",
            "server_tls": server, "handshake": "terminated", "bound": ["server"]
        })
    }

    #[test]
    fn a_login_that_went_otherwise_is_a_fault() {
        let login =
            Login { client: "psql", role: "shop", leg: Leg::Clear, came_to: CameTo::Terminated };
        let tls = Some("TLSv1.3 TLS_AES_256_GCM_SHA384");
        let good = [start("02", tls), start("01", tls)];
        compare(&good, &[login; 2]).expect("as expected");
        compare(&good, &[login]).expect_err("one too many");
        let clear = [start("01", tls), start("02", None)];
        let error = compare(&clear, &[login; 2]).expect_err("a leg in clear text").to_string();
        assert!(error.starts_with("not as it should be:\n  psql: expected"), "{error}");
        let refused = Login { came_to: CameTo::Refused("28000"), ..login };
        let end = json!({"event": "session_end", "session": "03", "sqlstate": "28000"});
        let mut failed = start("03", tls);
        failed["handshake"] = Value::Null;
        compare(&[failed, end], &[refused]).expect("refused as expected");
        let status =
            |count| json!({"logins_failed": 0, "logins_refused": count, "logins_throttled": 0});
        compare_counters(&status(1), &[login, refused]).expect("counted");
        compare_counters(&status(0), &[login, refused]).expect_err("one was not counted");
        compare_counters(&json!({}), &[login]).expect_err("nothing is counted");
    }
}
