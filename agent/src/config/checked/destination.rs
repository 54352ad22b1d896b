//! `[[destination]]`

use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::auth::{PlacedAccount, accounts, auth, check as check_auth, check_unproven, required};
use super::intercept::{parsed, sorted};
use super::{PORTS, port};
use crate::config::raw::{Document, Place, Table, shown};
use crate::config::{
    CertificateFiles, ChannelBinding, ClientSettings, ClientTls, DESTINATIONS_MAX, Destination,
    IMPLICIT_NAME, NAME_BYTES_MAX, Negotiation, Network, ServerSettings, ServerTls, Tls,
};

const BINDINGS: [(&str, ChannelBinding); 3] = [
    ("prefer", ChannelBinding::Prefer),
    ("disable", ChannelBinding::Disable),
    ("require", ChannelBinding::Require),
];

/// Reads every `[[destination]]` and puts the implicit one behind them.
pub(super) fn destinations(
    document: &Document<'_>,
    root: &Table<'_, '_>,
    tls: &Tls,
) -> Vec<Arc<Destination>> {
    let tables = root.tables("destination");
    if let Some((place, _)) = tables.get(DESTINATIONS_MAX) {
        let message =
            format!("too many: found {}, expected at most {DESTINATIONS_MAX}", tables.len());
        document.problem(place, message, None);
    }
    let mut earlier: Vec<(Place, Arc<Destination>)> = Vec::new();
    for (place, table) in tables.into_iter().take(DESTINATIONS_MAX) {
        let destination = destination(document, &place, table, tls);
        check_against(document, &place, &destination, &earlier);
        earlier.push((place, Arc::new(destination)));
    }
    let written = earlier.into_iter().map(|(_, destination)| destination);
    written.chain([Arc::new(Destination::implicit())]).collect()
}

fn destination(
    document: &Document<'_>,
    place: &Place,
    table: Table<'_, '_>,
    tls: &Tls,
) -> Destination {
    let name = name(document, place, &table).unwrap_or_default();
    let networks = match table.texts("networks") {
        None => vec![Network::ALL_V4, Network::ALL_V6],
        Some(texts) => {
            not_empty(document, place, &table, "networks");
            sorted(parsed(document, texts))
        }
    };
    let ports = table.integers("ports", PORTS);
    if ports.is_some() {
        not_empty(document, place, &table, "ports");
    }
    let ports: Vec<_> =
        ports.unwrap_or_default().into_iter().map(|(p, number)| (p, port(number))).collect();
    let replication = table.flag("replication");
    let stamp_application_name = table.flag("stamp_application_name");

    let client_table = table.table("client");
    let client = client(document, &client_table, tls);
    let server_table = table.table("server");
    let auth = auth(document, table.table("auth"));
    let accounts = accounts(document, &table);
    let mut destination = Destination {
        name,
        networks,
        ports: sorted(ports),
        replication,
        stamp_application_name,
        client,
        server: server(document, &server_table),
        auth: auth.settings.clone(),
        accounts: Vec::new(),
    };
    check_server(document, &server_table, &destination, tls);
    check_auth(document, &auth, &accounts, place, destination.server.identity.is_some());
    // A bad account is an account all the same: without it more would seem wrong than is.
    let any_account = !accounts.is_empty();
    // A mode that was written wrong is none that was left out.
    if server_table.written("tls").is_none() {
        check_unproven(document, &auth, &accounts, &destination.server_tls_possible());
    }
    destination.accounts =
        accounts.into_iter().filter_map(|PlacedAccount { account, .. }| account).collect();
    if destination.only_relays() && !any_account {
        let client = destination.client.channel_binding;
        check_relayed_binding(document, &client_table, client);
        let server = destination.server.channel_binding;
        check_relayed_binding(document, &server_table, server);
    }
    client_table.finish();
    server_table.finish();
    table.finish();
    destination
}

fn name(document: &Document<'_>, place: &Place, table: &Table<'_, '_>) -> Option<String> {
    let name = plain_name(document, place, table)?;
    if name == IMPLICIT_NAME {
        let place = table.written("name")?;
        let message = format!("`{IMPLICIT_NAME}` is the name of what no destination matches");
        document.problem(&place, message, None);
    }
    Some(name)
}

/// `name`, of letters that need no quoting anywhere.
pub(super) fn plain_name(
    document: &Document<'_>,
    place: &Place,
    table: &Table<'_, '_>,
) -> Option<String> {
    let name = required(document, place, table, "name", NAME_BYTES_MAX)?;
    let place = table.written("name")?;
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    if !name.bytes().all(letters) {
        let message = format!(
            "found `{}`, expected lower-case letters, digits, `-`, `_` and `.`",
            shown(&name)
        );
        document.problem(&place, message, None);
    }
    Some(name)
}

pub(super) fn not_empty(
    document: &Document<'_>,
    place: &Place,
    table: &Table<'_, '_>,
    key: &'static str,
) {
    if table.written_items(key) == Some(0) {
        let message = format!("no `{key}`: found an empty array, expected at least one");
        let hint = format!("leave the key out for all {key}");
        document.problem(place, message, Some(hint));
    }
}

fn client(document: &Document<'_>, table: &Table<'_, '_>, tls: &Tls) -> ClientSettings {
    let mode = table.choice(
        "tls",
        &[
            ("optional", ClientTls::Optional),
            ("off", ClientTls::Off),
            ("required", ClientTls::Required),
        ],
    );
    let identity = identity(document, table, tls);
    let binding = table.choice("channel_binding", &BINDINGS);
    match mode {
        ClientTls::Optional | ClientTls::Required => {}
        ClientTls::Off => {
            let why = "`tls` is `off`";
            no_effect(document, table, &["certificate", "key"], why);
            impossible_binding(document, table, binding, why);
        }
    }
    ClientSettings { tls: mode, identity, channel_binding: binding }
}

fn server(document: &Document<'_>, table: &Table<'_, '_>) -> ServerSettings {
    let tls = table.written_choice(
        "tls",
        &[
            ("disable", ServerTls::Disable),
            ("prefer", ServerTls::Prefer),
            ("require", ServerTls::Require),
            ("verify-ca", ServerTls::VerifyCa),
            ("verify-full", ServerTls::VerifyFull),
        ],
    );
    let negotiation = table.choice(
        "negotiation",
        &[("postgres", Negotiation::Postgres), ("direct", Negotiation::Direct)],
    );
    let name = table.text("name").and_then(|(place, text)| {
        let name = ServerName::try_from(text).ok();
        if name.is_none() {
            let message =
                format!("found `{}`, expected the name of a host or an IP address", shown(text));
            document.problem(&place, message, None);
        }
        name.map(|name| name.to_owned())
    });
    ServerSettings {
        tls: tls.map(|(_, tls)| tls),
        negotiation,
        name,
        roots: table.written_path("roots").map(|(_, path)| path),
        crl: table.written_path("crl").map(|(_, path)| path),
        identity: identity_of(document, table),
        channel_binding: table.choice("channel_binding", &BINDINGS),
    }
}

/// What the server's settings must agree on, for every address that the destination matches.
fn check_server(
    document: &Document<'_>,
    table: &Table<'_, '_>,
    destination: &Destination,
    tls: &Tls,
) {
    // A mode that was written wrong was reported, and says nothing about the other keys.
    if table.written("tls").is_some() && destination.server.tls.is_none() {
        return;
    }
    let possible = destination.server_tls_possible();
    if let Some(identity) = &destination.server.identity {
        not_the_authority(document, table, &identity.key, tls);
    }
    match destination.server.tls {
        Some(ServerTls::Disable) => {
            let why = "`tls` is `disable`";
            let keys = ["name", "roots", "crl", "certificate", "key"];
            no_effect(document, table, &keys, why);
            impossible_binding(document, table, destination.server.channel_binding, why);
        }
        Some(tls @ (ServerTls::Prefer | ServerTls::Require)) => {
            let why = format!("`tls` is `{}`, which verifies nothing", tls.name());
            no_effect(document, table, &["roots", "crl"], &why);
        }
        None if !possible.iter().any(|tls| tls.verifies()) => {
            let why = "`tls` is `prefer` for loopback addresses, which verifies nothing";
            no_effect(document, table, &["roots", "crl"], why);
        }
        None | Some(ServerTls::VerifyCa | ServerTls::VerifyFull) => {}
    }
    let clear =
        possible.into_iter().find(|tls| matches!(tls, ServerTls::Disable | ServerTls::Prefer));
    if let (Negotiation::Direct, Some(clear)) = (destination.server.negotiation, clear)
        && let Some(place) = table.written("negotiation")
    {
        let name = clear.name();
        let (message, hint) = match destination.server.tls {
            Some(_) => {
                (format!("contradiction: `tls` is `{name}`, and `direct` has no way back"), None)
            }
            None => (
                format!("contradiction: for loopback addresses `tls` is `{name}`"),
                Some("set `tls`, or `networks` without loopback".to_owned()),
            ),
        };
        document.problem(&place, message, hint);
    }
}

fn identity(document: &Document<'_>, table: &Table<'_, '_>, tls: &Tls) -> Option<CertificateFiles> {
    let identity = identity_of(document, table)?;
    not_the_authority(document, table, &identity.key, tls);
    Some(identity)
}

/// `certificate` and `key`: both or none.
fn identity_of(document: &Document<'_>, table: &Table<'_, '_>) -> Option<CertificateFiles> {
    match (table.written("certificate"), table.written("key")) {
        (Some(place), None) => {
            document.problem(&place, "`certificate` without `key`".to_owned(), None);
        }
        (None, Some(place)) => {
            document.problem(&place, "`key` without `certificate`".to_owned(), None);
        }
        (None, None) | (Some(_), Some(_)) => {}
    }
    let certificate = table.written_path("certificate");
    let key = table.written_path("key");
    let ((_, certificate), (_, key)) = certificate.zip(key)?;
    Some(CertificateFiles { certificate, key })
}

fn not_the_authority(document: &Document<'_>, table: &Table<'_, '_>, key: &Path, tls: &Tls) {
    if let (true, Some(place)) = (key == tls.ca_key, table.written("key")) {
        let message = "the key of the certificate authority, `tls.ca_key`".to_owned();
        let hint = "it signs certificates and is used for nothing else".to_owned();
        document.problem(&place, message, Some(hint));
    }
}

pub(super) fn no_effect(
    document: &Document<'_>,
    table: &Table<'_, '_>,
    keys: &[&'static str],
    why: &str,
) {
    for place in keys.iter().filter_map(|key| table.written(key)) {
        document.problem(&place, format!("has no effect: {why}"), None);
    }
}

fn impossible_binding(
    document: &Document<'_>,
    table: &Table<'_, '_>,
    binding: ChannelBinding,
    why: &str,
) {
    if let (ChannelBinding::Require, Some(place)) = (binding, table.written("channel_binding")) {
        document.problem(&place, format!("contradiction: {why}"), None);
    }
}

/// Both legs have certificates of their own: what the application bound to, the server can't check.
fn check_relayed_binding(document: &Document<'_>, table: &Table<'_, '_>, binding: ChannelBinding) {
    if let (ChannelBinding::Require, Some(place)) = (binding, table.written("channel_binding")) {
        let message = "contradiction: a relayed exchange can't be bound to a channel".to_owned();
        let hint = "let the agent terminate SCRAM: add `[destination.auth.lookup]`, `verifiers` \
                    or a `[[destination.account]]`";
        document.problem(&place, message, Some(hint.to_owned()));
    }
}

/// Names are unique, and no destination hides another.
fn check_against(
    document: &Document<'_>,
    place: &Place,
    destination: &Destination,
    earlier: &[(Place, Arc<Destination>)],
) {
    let same = |(_, other): &&(Place, Arc<Destination>)| {
        !other.name.is_empty() && other.name == destination.name
    };
    if let Some((other, _)) = earlier.iter().find(same) {
        let message = format!("name `{}` is taken by `{}`", shown(&destination.name), other.key());
        document.problem(place, message, None);
    }
    if destination.networks.is_empty() {
        return;
    }
    let covered = if destination.ports.is_empty() {
        covered_for(destination, None, earlier)
    } else {
        destination.ports.iter().all(|port| covered_for(destination, Some(*port), earlier))
    };
    if covered {
        let by = earlier.iter().filter(|(_, other)| {
            other.networks.iter().any(|n| destination.networks.iter().any(|m| n.overlaps(*m)))
        });
        let by: Vec<_> = by.map(|(place, _)| format!("`{}`", place.key())).collect();
        let message = format!("never used: {} in front of it covers it", by.join(" with "));
        let hint = "the first destination that matches serves: put this one in front".to_owned();
        document.problem(place, message, Some(hint));
    }
}

/// Whether all networks of `destination` are served by earlier ones for `port`; for all ports
/// without one.
fn covered_for(
    destination: &Destination,
    port: Option<NonZeroU16>,
    earlier: &[(Place, Arc<Destination>)],
) -> bool {
    let serving: Vec<Network> = earlier
        .iter()
        .map(|(_, other)| other)
        .filter(|other| {
            other.ports.is_empty() || port.is_some_and(|port| other.ports.contains(&port))
        })
        .flat_map(|other| other.networks.iter().copied())
        .collect();
    destination.networks.iter().all(|network| network.covered_by(&serving))
}
