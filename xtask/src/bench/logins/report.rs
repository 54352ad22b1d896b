//! The part of the document: tables of medians, targets beside what was found, whatever it says.

use std::fmt::Write;

use anyhow::Result;

use super::super::report::{Conditions, environment, median, shown};
use super::handshakes::{CONNECTIONS, Greeting};
use super::{Case, Encryption, IDLE_SESSIONS, LOGIN_CLIENTS, Legs, Results, SELECT_CLIENTS, Way};
use crate::bench::measure::Figures;

/// Processor time that a full TLS handshake may take, in microseconds.
const HANDSHAKE_US_MAX: f64 = 2000.0;

/// Memory of an idle session with TLS on both legs, and in the clear, in KiB.
const TLS_SESSION_KIB_MAX: f64 = 90.0;
const CLEAR_SESSION_KIB_MAX: f64 = 40.0;

/// The same proxies, in the order of the table of CPU.
const PROXIES: [Way; 5] = [Way::Pooled, Way::Fresh, Way::Relay, Way::Terminate, Way::Mapped];

/// Makes the Markdown text.
pub(super) fn document(
    results: &Results,
    conditions: &Conditions<'_>,
    failed: &[String],
) -> Result<String> {
    let Conditions { rounds, seconds, only, load } = conditions;
    let tables = Tables { results };
    let mut text = String::new();
    let filter = only.map(|only| format!(" --only {only}")).unwrap_or_default();
    write!(
        text,
        "## Logins and TLS\n\n\
         Written by `cargo xtask bench logins --rounds {rounds} --seconds {seconds}{filter}`; do not edit.\n\n\
         One server with TLS and SCRAM-SHA-256 on one machine, over loopback; certificates are ECDSA P-256 and verified in \
         full on both legs, client and server are OpenSSL's. `clear/TLS` is clear text from the client to what is in between, \
         and TLS from there to the server; a direct connection has one leg. The ways take turns, each round in the opposite \
         order; figures are medians over rounds, ratios are medians of the ratios within a round. CPU is user and system time \
         of the process in between. Figures of different runs or machines can't be compared, ratios can.\n\n\
         pgbouncer passes SCRAM through with the verifiers of its user list, in session mode. `kept` uses server sessions \
         again, as it is made for, so that most logins never reach the server; `once` closes each behind its client \
         (`server_lifetime = 0`), so that it logs in at the server as often as the others. pgward intercepts, with attribution and the audit trail on: `relay` passes SCRAM \
         on, `terminate` carries it out on both legs with a verifier file, `mapped` logs in at the server as another role, with a \
         password; pgbouncer 1.18 can't do that when both legs are SCRAM.\n\n"
    )?;
    text.push_str(&environment(load));
    tables.logins(&mut text)?;
    tables.costs(&mut text)?;
    tables.handshakes(&mut text)?;
    tables.selects(&mut text)?;
    tables.memory(&mut text)?;
    tables.targets(&mut text)?;
    if !failed.is_empty() {
        text.push_str("\n### Failed\n\nThese have no figures above, or fewer than the others.\n\n");
        for line in failed {
            writeln!(text, "- {}", line.lines().next().unwrap_or_default())?;
        }
    }
    Ok(text)
}

struct Tables<'a> {
    results: &'a Results,
}

impl Tables<'_> {
    fn logins(&self, text: &mut String) -> Result<()> {
        write!(
            text,
            "\n### Logins per second\n\n`pgbench -C` with `SELECT 1`, {LOGIN_CLIENTS} clients. The last columns are ratios \
             to pgbouncer `once` over the same legs. libpq's part of SCRAM, 4096 rounds of a hash, and the server's new \
             process are in all figures.\n\n"
        )?;
        let header = Way::ALL.map(Way::name).join(" | ");
        let ratios = [Way::Relay, Way::Terminate, Way::Mapped];
        let header = format!("{header} | relay of once | terminate of once | mapped of once");
        writeln!(text, "| legs | {header} |")?;
        writeln!(text, "| --- |{}", " --: |".repeat(Way::ALL.len() + ratios.len()))?;
        for legs in Legs::all() {
            let case = Case::Login(legs);
            write!(text, "| {} |", legs.name())?;
            for way in Way::ALL {
                write!(text, " {} |", shown(self.rate(case, way), 0))?;
            }
            for way in ratios {
                write!(text, " {} |", shown(self.ratio(case, way, Way::Fresh), 2))?;
            }
            text.push('\n');
        }
        Ok(())
    }

    fn costs(&self, text: &mut String) -> Result<()> {
        text.push_str("\n### CPU of the proxy for a login, µs\n\n");
        writeln!(text, "| legs | {} |", PROXIES.map(Way::name).join(" | "))?;
        writeln!(text, "| --- |{}", " --: |".repeat(PROXIES.len()))?;
        for legs in Legs::all() {
            write!(text, "| {} |", legs.name())?;
            for way in PROXIES {
                write!(text, " {} |", shown(self.cost(Case::Login(legs), way), 0))?;
            }
            text.push('\n');
        }
        Ok(())
    }

    fn handshakes(&self, text: &mut String) -> Result<()> {
        write!(
            text,
            "\n### CPU of the proxy for one full TLS handshake, µs\n\nBy difference: what a login costs more with TLS on that \
             leg and clear text on the other. Directly: {CONNECTIONS} clients one after the other that ask for encryption, \
             do the handshake (TLS 1.3, no resumption) and go, less what those cost that ask and go. PostgreSQL 15 gives no \
             tickets, so that every handshake with it is a full one.\n\n\
             | | pgbouncer, sessions once | pgward terminate |\n| --- | --: | --: |\n"
        )?;
        let ways = [Way::Fresh, Way::Terminate];
        let mut row = |name: &str, value: &dyn Fn(Way) -> Option<f64>| {
            let cells = ways.map(|way| shown(value(way), 0)).join(" | ");
            writeln!(text, "| {name} | {cells} |")
        };
        row("client leg, by difference", &|way| self.client_leg(way))?;
        row("server leg, by difference", &|way| self.server_leg(way))?;
        row("client leg, directly, X25519", &|way| self.direct(way, Greeting::Classic))?;
        row("client leg, directly, X25519MLKEM768", &|way| self.direct(way, Greeting::Hybrid))?;
        Ok(())
    }

    fn selects(&self, text: &mut String) -> Result<()> {
        write!(
            text,
            "\n### Statements over TLS\n\n`pgbench -S` in simple mode, {SELECT_CLIENTS} clients, 10 x 100 000 accounts; \
             CPU for one transaction.\n\n\
             | legs | direct | pgbouncer | pgward | of direct | of pgbouncer | pgbouncer CPU µs | pgward CPU µs |\n\
             | --- | --: | --: | --: | --: | --: | --: | --: |\n"
        )?;
        for legs in [Legs::CLEAR, Legs::TLS] {
            let case = Case::Select(legs);
            write!(text, "| {} |", legs.name())?;
            for way in [Way::Direct, Way::Pooled, Way::Terminate] {
                write!(text, " {} |", shown(self.rate(case, way), 0))?;
            }
            for other in [Way::Direct, Way::Pooled] {
                write!(text, " {} |", shown(self.ratio(case, Way::Terminate, other), 2))?;
            }
            for way in [Way::Pooled, Way::Terminate] {
                write!(text, " {} |", shown(self.cost(case, way), 1))?;
            }
            text.push('\n');
        }
        Ok(())
    }

    fn memory(&self, text: &mut String) -> Result<()> {
        write!(
            text,
            "\n### Memory\n\nResident memory of the proxy process before any session, and its growth with {IDLE_SESSIONS} \
             sessions that logged in, ran `SELECT 1` and stay idle; once, in a fresh process.\n\n\
             | legs | pgbouncer before, MiB | pgward before, MiB | pgbouncer for a session, KiB | pgward for a session, KiB |\n\
             | --- | --: | --: | --: | --: |\n"
        )?;
        for legs in [Legs::CLEAR, Legs::TLS] {
            let case = Case::Idle(legs);
            let before = |way| shown(self.cost(case, way).map(|kib| kib / 1024.0), 1);
            let each = |way| shown(self.session_kib(legs, way), 1);
            writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                legs.name(),
                before(Way::Pooled),
                before(Way::Terminate),
                each(Way::Pooled),
                each(Way::Terminate),
            )?;
        }
        Ok(())
    }

    fn targets(&self, text: &mut String) -> Result<()> {
        text.push_str("\n### Targets\n\n| case | target | found | |\n| --- | --- | --: | --- |\n");
        let mut row = |case: &str, target: &str, found: Option<f64>, digits, met: Option<bool>| {
            let verdict = match met {
                Some(true) => "met",
                Some(false) => "**missed**",
                None => "not measured",
            };
            writeln!(text, "| {case} | {target} | {} | {verdict} |", shown(found, digits))
        };
        let at_least = |found: Option<f64>| found.map(|ratio| ratio >= 1.0);
        for legs in Legs::all() {
            let case = Case::Login(legs);
            let pairs = [
                (Way::Relay, Way::Fresh),
                (Way::Terminate, Way::Fresh),
                (Way::Mapped, Way::Fresh),
                (Way::Terminate, Way::Pooled),
            ];
            for (way, other) in pairs {
                let name = format!("login {}, {}", legs.name(), way.name());
                let target = format!("at least the rate of {}", other.name());
                let found = self.ratio(case, way, other);
                row(&name, &target, found, 2, at_least(found))?;
            }
        }
        let found = self.ratio(Case::Select(Legs::TLS), Way::Terminate, Way::Pooled);
        row("select TLS/TLS", "at least pgbouncer's rate", found, 2, at_least(found))?;
        for (name, found) in [
            ("client leg, by difference", self.client_leg(Way::Terminate)),
            ("server leg, by difference", self.server_leg(Way::Terminate)),
            ("client leg, directly, X25519", self.direct(Way::Terminate, Greeting::Classic)),
            ("client leg, directly, X25519MLKEM768", self.direct(Way::Terminate, Greeting::Hybrid)),
        ] {
            let met = found.map(|us| us <= HANDSHAKE_US_MAX);
            row(&format!("TLS handshake, {name}"), "at most 2 ms of CPU", found, 0, met)?;
        }
        for (legs, max) in [(Legs::CLEAR, CLEAR_SESSION_KIB_MAX), (Legs::TLS, TLS_SESSION_KIB_MAX)]
        {
            let found = self.session_kib(legs, Way::Terminate);
            let met = found.map(|kib| kib <= max);
            let target = format!("at most {max:.0} KiB for a session");
            row(&format!("idle {}", legs.name()), &target, found, 1, met)?;
        }
        Ok(())
    }

    fn figures(&self, case: Case, way: Way) -> &[Figures] {
        self.results.get(&(case, way)).map_or(&[], Vec::as_slice)
    }

    fn rate(&self, case: Case, way: Way) -> Option<f64> {
        median(self.figures(case, way).iter().map(Figures::main))
    }

    fn cost(&self, case: Case, way: Way) -> Option<f64> {
        median(self.figures(case, way).iter().map(Figures::cost))
    }

    /// Median over rounds of one's rate over the other's in the same round.
    fn ratio(&self, case: Case, way: Way, other: Way) -> Option<f64> {
        let pairs = self.figures(case, way).iter().zip(self.figures(case, other));
        median(pairs.map(|(own, other)| own.main() / other.main()))
    }

    /// Median over rounds of what one case costs more than another.
    fn more(&self, way: Way, case: Case, than: Case) -> Option<f64> {
        let pairs = self.figures(case, way).iter().zip(self.figures(than, way));
        median(pairs.map(|(case, than)| case.cost() - than.cost()))
    }

    fn client_leg(&self, way: Way) -> Option<f64> {
        let legs = Legs { client: Encryption::Tls, server: Encryption::Clear };
        self.more(way, Case::Login(legs), Case::Login(Legs::CLEAR))
    }

    fn server_leg(&self, way: Way) -> Option<f64> {
        let legs = Legs { client: Encryption::Clear, server: Encryption::Tls };
        self.more(way, Case::Login(legs), Case::Login(Legs::CLEAR))
    }

    fn direct(&self, way: Way, greeting: Greeting) -> Option<f64> {
        self.more(way, Case::Handshake(greeting), Case::Handshake(Greeting::Ask))
    }

    fn session_kib(&self, legs: Legs, way: Way) -> Option<f64> {
        self.rate(Case::Idle(legs), way).map(|kib| kib / f64::from(IDLE_SESSIONS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_pair_the_rounds_and_targets_say_what_was_missed() {
        let login = |client, server| Case::Login(Legs { client, server });
        let round = |per_second, cpu_us| Figures::Transactions { per_second, cpu_us };
        let (clear, tls) = (Encryption::Clear, Encryption::Tls);
        let results = Results::from([
            ((login(clear, clear), Way::Fresh), vec![round(100.0, 1.0), round(50.0, 1.0)]),
            ((login(clear, clear), Way::Terminate), vec![round(90.0, 300.0), round(60.0, 500.0)]),
            ((login(tls, clear), Way::Terminate), vec![round(1.0, 2400.0), round(1.0, 2700.0)]),
            (
                (Case::Idle(Legs::TLS), Way::Terminate),
                vec![Figures::Memory { base_kib: 1.0, growth_kib: 91_000.0 }],
            ),
        ]);
        let tables = Tables { results: &results };
        assert_eq!(tables.client_leg(Way::Terminate), Some(2150.0));
        assert_eq!(tables.server_leg(Way::Terminate), None);
        let mut text = String::new();
        tables.targets(&mut text).expect("text");
        let has = |line: &str| assert!(text.contains(line), "{text}");
        has(
            "| login clear/clear, pgward terminate | at least the rate of pgbouncer, sessions once | 1.05 | met |",
        );
        has(
            "| TLS handshake, client leg, by difference | at most 2 ms of CPU | 2150 | **missed** |",
        );
        has(
            "| TLS handshake, server leg, by difference | at most 2 ms of CPU | – | not measured |",
        );
        has("| idle TLS/TLS | at most 90 KiB for a session | 91.0 | **missed** |");
    }
}
