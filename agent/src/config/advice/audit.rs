//! What about the audit trail is likely not meant.

use super::Warning;
use crate::config::{AnchorPlace, Audit, AuditMode, AuditRule, OnFull, ValueMode};

const ASYNC: &str = "`mode` is `async`: a crash of this host loses records of statements that ran";
const DURABLE: &str = "leave `mode` out, or set it to `group`";
const CLEAR: &str = "`values` is `clear`: whatever stands in statements can be read in the trail, \
                     and never be erased";
const SEALED: &str = "set `values = \"sealed\"`";

/// Notes what is risky.
pub(super) fn warn(audit: &Audit, warnings: &mut Vec<Warning>) {
    let mut warn = |about: &str, message: String, hint: &str| {
        let hint = Some(hint.to_owned());
        warnings.push(Warning { about: about.to_owned(), message, hint });
    };
    match audit.on_full {
        OnFull::Block => {}
        OnFull::Allow => {
            let message = "`on_full` is `allow`: while nothing can be recorded, statements go \
                           unrecorded, and only their number is known later";
            warn("`audit`", message.to_owned(), "set `on_full = \"block\"`");
        }
    }
    if audit.mode == AuditMode::Async {
        warn("`audit`", ASYNC.to_owned(), DURABLE);
    }
    if audit.values == ValueMode::Clear {
        warn("`audit`", CLEAR.to_owned(), SEALED);
    }
    for (index, rule) in audit.rules.iter().enumerate() {
        let about = format!("`audit.rule[{index}]`");
        if rule.mode == Some(AuditMode::Async) {
            warn(&about, format!("{}{ASYNC}", whose(rule)), DURABLE);
        }
        if rule.values == Some(ValueMode::Clear) && rule.numbers.is_empty() {
            warn(&about, format!("{}{CLEAR}", whose(rule)), SEALED);
        }
    }
    if audit.anchors.iter().any(|anchor| anchor.place.outside()) {
        return;
    }
    let folder = audit.anchors.iter().any(|anchor| matches!(anchor.place, AnchorPlace::File(_)));
    let message = if folder {
        "checkpoints are copied only to folders: a folder on a file system of this host proves \
         nothing against its root"
    } else {
        "no checkpoint is copied to another machine: root of this host could rewrite the whole \
         trail, and nobody would know"
    };
    let hint = "add an `[[audit.anchor]]` of kind `database` or `witness`";
    warn("`audit`", message.to_owned(), hint);
}

/// The beginning of a sentence about a rule that has narrowed itself down.
fn whose(rule: &AuditRule) -> String {
    let parts =
        [("destination", &rule.destination), ("database", &rule.database), ("role", &rule.user)];
    let parts: Vec<String> = parts
        .into_iter()
        .filter_map(|(what, name)| name.as_ref().map(|name| format!("{what} `{name}`")))
        .collect();
    if parts.is_empty() { String::new() } else { format!("for {}: ", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, warnings};

    const KEY: &str = "witness.example/w1+a5b1519f+BA0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0N";
    const NONE: (&str, &str) = ("`audit`", "no checkpoint is copied to a");

    /// What is told of the trail: about, and the beginning of the message.
    fn told(text: &str) -> Vec<(String, String)> {
        let text = format!("intercept = [{{ ports = [5432] }}]\n[audit]\n{text}");
        let config = Config::parse("t.toml", &text).expect("a good configuration");
        warnings(&config)
            .into_iter()
            .filter(|warning| warning.about.starts_with("`audit"))
            .map(|warning| (warning.about, warning.message.chars().take(28).collect()))
            .collect()
    }

    fn assert_told(text: &str, expected: &[(&str, &str)]) {
        let told = told(text);
        let told: Vec<_> = told.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(told, expected, "{text}");
    }

    fn anchor(rest: &str) -> String {
        format!("anchor = [{{ name = 'a', kind = {rest} }}]\n")
    }

    fn witness(url: &str) -> String {
        anchor(&format!("'witness', url = '{url}', key = '{KEY}'"))
    }

    fn database(address: &str) -> String {
        anchor(&format!(
            "'database', destination = 'default', address = '{address}', database = 'a', user = 'a'"
        ))
    }

    #[test]
    fn a_trail_without_a_copy_elsewhere_is_told() {
        assert_told("", &[NONE]);
        assert_told(&anchor("'print'"), &[NONE]);
        let folders = ("`audit`", "checkpoints are copied only ");
        assert_told(&anchor("'file', directory = '/a/b'"), &[folders]);
        for here in ["127.0.0.1:5432", "[::1]:5432", "[::ffff:127.0.0.1]:5432"] {
            assert_told(&database(here), &[NONE]);
        }
        assert_told(&database("10.0.0.1:5432"), &[]);
        assert_told(&witness("https://witness.example"), &[]);
        for here in ["http://localhost:8080", "http://127.0.0.1", "https://[::1]:1/a"] {
            assert_told(&witness(here), &[NONE]);
        }
    }

    #[test]
    fn settings_that_lose_or_show_something_are_told() {
        let text = format!(
            "on_full = 'allow'\nmode = 'async'\nvalues = 'clear'\nrule = [\n\
             {{ user = 'u', mode = 'async', values = 'clear' }},\n\
             {{ values = 'clear', numbers = [1] }}]\n{}",
            witness("https://witness.example")
        );
        let expected = [
            ("`audit`", "`on_full` is `allow`: while "),
            ("`audit`", "`mode` is `async`: a crash o"),
            ("`audit`", "`values` is `clear`: whateve"),
            ("`audit.rule[0]`", "for role `u`: `mode` is `asy"),
            ("`audit.rule[0]`", "for role `u`: `values` is `c"),
        ];
        assert_told(&text, &expected);
    }
}
