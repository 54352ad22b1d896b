//! `[[intercept]]`

use std::num::NonZeroU16;

use super::{PORTS, port};
use crate::config::raw::{Document, Place, Table};
use crate::config::{INTERCEPTS_MAX, Intercept, Network, NetworkError};

/// Where the parts of an intercept rule stand in the file.
pub(super) struct Placed {
    ports: Vec<(Place, NonZeroU16)>,
    networks: Vec<(Place, Network)>,
    exclude: Vec<(Place, Network)>,
}

/// Reads every `[[intercept]]`.
pub(super) fn intercept_rules(document: &Document<'_>, root: &Table<'_, '_>) -> Vec<Placed> {
    let tables = root.tables("intercept");
    if tables.is_empty() {
        document.missing(
            "intercept",
            "nothing to intercept: found no `[[intercept]]`, expected at least one",
            "begin with `[[intercept]]` and `ports = [5432]`",
        );
    }
    if let Some((place, _)) = tables.get(INTERCEPTS_MAX) {
        let message =
            format!("too many: found {}, expected at most {INTERCEPTS_MAX}", tables.len());
        document.problem(place, message, None);
    }
    tables.into_iter().take(INTERCEPTS_MAX).map(|(place, t)| rule(document, place, t)).collect()
}

fn rule(document: &Document<'_>, place: Place, table: Table<'_, '_>) -> Placed {
    let ports = table.integers("ports", PORTS);
    if table.written_items("ports").unwrap_or(0) == 0 {
        let message = "no `ports`: found none, expected at least one, for example `[5432]`";
        document.problem(&place, message.to_owned(), None);
    }
    let networks = match table.texts("networks") {
        None => {
            vec![(place.clone(), Network::ALL_V4), (place.clone(), Network::ALL_V6)]
        }
        Some(texts) => {
            if table.written_items("networks") == Some(0) {
                let message = "no `networks`: found an empty array, expected at least one";
                let hint = "leave the key out for all networks";
                document.problem(&place, message.to_owned(), Some(hint.to_owned()));
            }
            parsed(document, texts)
        }
    };
    let exclude = parsed(document, table.texts("exclude").unwrap_or_default());
    table.finish();
    let ports = ports.unwrap_or_default().into_iter().map(|(p, number)| (p, port(number)));
    Placed { ports: ports.collect(), networks, exclude }
}

/// Networks as texts, each with its place.
pub(super) fn parsed(document: &Document<'_>, texts: Vec<(Place, &str)>) -> Vec<(Place, Network)> {
    let mut networks = Vec::new();
    for (place, text) in texts {
        match text.parse::<Network>() {
            Ok(network) => networks.push((place, network)),
            Err(error) => {
                let hint = match &error {
                    NetworkError::HostBits { expected, .. } => {
                        Some(format!("write `{expected}`, or the one address without a prefix"))
                    }
                    _ => None,
                };
                document.problem(&place, shown_error(&error), hint);
            }
        }
    }
    networks
}

fn shown_error(error: &NetworkError) -> String {
    error.to_string().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Checks each rule by itself and each pair of rules.
pub(super) fn check_rules(document: &Document<'_>, rules: &[Placed], listen: NonZeroU16) {
    for rule in rules {
        for (place, port) in &rule.ports {
            if *port == listen {
                let message =
                    format!("port {port} is the agent's own: found it here and as `listen.port`");
                document.problem(place, message, None);
            }
        }
        check_excludes(document, rule);
    }
    for (index, rule) in rules.iter().enumerate() {
        for (other_index, other) in rules.iter().enumerate() {
            if index != other_index {
                check_pair(document, rule, other_index, other);
            }
        }
    }
}

/// Within a rule the longest prefix decides, which only says what was meant when excluded networks
/// lie inside the others.
fn check_excludes(document: &Document<'_>, rule: &Placed) {
    for (place, excluded) in &rule.exclude {
        if let Some((_, network)) =
            rule.networks.iter().find(|(_, network)| excluded.contains(*network))
        {
            let message = format!("`{excluded}` excludes all of `{network}` in `networks`");
            let hint = format!("remove `{network}` from `networks`");
            document.problem(place, message, Some(hint));
        } else if !rule.networks.iter().any(|(_, network)| network.contains(*excluded)) {
            let message =
                format!("`{excluded}` lies in none of `networks`, so it excludes nothing");
            document.problem(place, message, None);
        }
    }
}

/// Reports the networks of `rule` that `other` leaves alone, for a port both name.
fn check_pair(document: &Document<'_>, rule: &Placed, other_index: usize, other: &Placed) {
    let shared = |port: &NonZeroU16| other.ports.iter().any(|(_, theirs)| theirs == port);
    let Some((_, port)) = rule.ports.iter().find(|(_, port)| shared(port)) else { return };
    for (_, excluded) in &other.exclude {
        let agreed = rule.exclude.iter().any(|(_, ours)| ours.contains(*excluded));
        let against = rule.networks.iter().find(|(_, network)| network.overlaps(*excluded));
        if let (false, Some((place, network))) = (agreed, against) {
            let message = format!(
                "contradiction for port {port}: `{network}` is intercepted here, \
                 `{excluded}` is excluded in `intercept[{other_index}]`"
            );
            document.problem(place, message, None);
        }
    }
}

impl Placed {
    /// Without places, sorted.
    pub(super) fn unplaced(self) -> Intercept {
        Intercept {
            ports: sorted(self.ports),
            networks: sorted(self.networks),
            exclude: sorted(self.exclude),
        }
    }
}

/// Values without places, ascending, each once.
pub(super) fn sorted<T: Ord>(values: Vec<(Place, T)>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().map(|(_, value)| value).collect();
    values.sort_unstable();
    values.dedup();
    values
}
