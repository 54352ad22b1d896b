//! What a startup packet asks for.

use super::session::is_pinned;
use crate::pg::startup::{StartupOption, options};
use crate::policy::{Need, Object, Reached, Request};
use crate::sql::facts::{ANY_SETTING, Effect, Kind, Unknown};

/// What a startup packet asks for: its settings, those in `options` included, and the replication protocol.
///
/// The user and database are the subject's.
pub fn startup_request(parameters: &[(&[u8], &[u8])]) -> Request {
    let mut request =
        Request { kind: Kind("startup"), needs: Vec::new(), unknown: Vec::new(), fingerprint: 0 };
    for (name, value) in parameters {
        match *name {
            b"user" | b"database" => {}
            b"replication" => {
                let off = [&b"false"[..], b"off", b"no", b"0", b"f", b"n"];
                if !off.iter().any(|off| value.eq_ignore_ascii_case(off)) {
                    add(&mut request, Effect::Replication, Object::Session, Reached::Named);
                }
            }
            b"options" => add_options(&mut request, value),
            // Options of the protocol are no settings.
            name if name.starts_with(b"_pq_.") => {}
            name => setting(&mut request, name, value),
        }
    }
    request
}

fn add_options(request: &mut Request, value: &[u8]) {
    let Ok(options) = options(value) else {
        request.unknown.push(Unknown::Code("options of the startup packet"));
        return;
    };
    for option in options {
        match option {
            StartupOption::Setting { name, value } => setting(request, &name, &value),
            StartupOption::Switch { letter, argument } => switch(request, letter, argument),
            // The server refuses the connection.
            StartupOption::Invalid(_) => {}
        }
    }
}

/// Switches that stand for a setting of no consequence are told from the rest.
fn switch(request: &mut Request, letter: u8, argument: Option<Vec<u8>>) {
    let name: &[u8] = match letter {
        b'B' => b"shared_buffers",
        b'd' => b"log_min_messages",
        b'e' => b"datestyle",
        b'S' => b"work_mem",
        b's' | b't' => b"log_statement_stats",
        b'O' => b"allow_system_table_mods",
        _ => ANY_SETTING.as_bytes(),
    };
    setting(request, name, &argument.unwrap_or_default());
}

fn setting(request: &mut Request, name: &[u8], value: &[u8]) {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let action = match name.as_str() {
        "role" | "session_authorization" => Effect::SetRole,
        _ => Effect::Set,
    };
    // What every session should have anyway.
    let usual = match name.as_str() {
        "client_encoding" => [&b"utf8"[..], b"utf-8", b"unicode"]
            .iter()
            .any(|known| value.eq_ignore_ascii_case(known)),
        "standard_conforming_strings" => value.eq_ignore_ascii_case(b"on"),
        _ => false,
    };
    let named = name == ANY_SETTING || is_pinned(&name) && !usual;
    let reached = if named { Reached::Named } else { Reached::Through };
    add(request, action, Object::Setting(name.into()), reached);
}

fn add(request: &mut Request, action: Effect, object: Object, reached: Reached) {
    let need = Need { action, object, reached };
    if !request.needs.contains(&need) {
        request.needs.push(need);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(parameters: &[(&[u8], &[u8])]) -> Vec<(Effect, Object, Reached)> {
        let request = startup_request(parameters);
        request.needs.into_iter().map(|need| (need.action, need.object, need.reached)).collect()
    }

    #[test]
    fn settings_of_a_startup_packet_are_asked_for_by_every_road() {
        let named = |action, name: &str| (action, Object::Setting(name.into()), Reached::Named);
        let counted = |name: &str| (Effect::Set, Object::Setting(name.into()), Reached::Through);
        assert_eq!(asked(&[(b"user", b"a"), (b"database", b"b")]), []);
        assert_eq!(asked(&[(b"application_name", b"x")]), [counted("application_name")]);
        assert_eq!(asked(&[(b"client_encoding", b"UTF8")]), [counted("client_encoding")]);
        assert_eq!(
            asked(&[(b"client_encoding", b"SJIS")]),
            [named(Effect::Set, "client_encoding")]
        );
        assert_eq!(asked(&[(b"Search_Path", b"x")]), [named(Effect::Set, "search_path")]);
        assert_eq!(
            asked(&[(b"options", b"-c search_path=x --role=y -cwork_mem=1MB")]),
            [
                named(Effect::Set, "search_path"),
                named(Effect::SetRole, "role"),
                counted("work_mem")
            ]
        );
        assert_eq!(asked(&[(b"options", b"-O")]), [named(Effect::Set, "allow_system_table_mods")]);
        assert_eq!(asked(&[(b"options", b"-P")]), [named(Effect::Set, "*")]);
        let replication = (Effect::Replication, Object::Session, Reached::Named);
        assert_eq!(asked(&[(b"replication", b"database")]), [replication]);
        assert_eq!(asked(&[(b"replication", b"off")]), []);
    }
}
