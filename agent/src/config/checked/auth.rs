//! `[destination.auth]` and `[[destination.account]]`

use super::intercept::sorted;
use super::secret::{APPLICATION_PASSWORD, PASSWORD, password_source, verifier};
use crate::config::raw::{Document, Place, Table, shown};
use crate::config::{
    ACCOUNTS_MAX, Account, ApplicationSecret, AuthException, AuthMode, AuthRequire, AuthSettings,
    EXCEPTIONS_MAX, LOOKUP_QUERY, Lookup, PassMethod, QUERY_BYTES_MAX, REASON_BYTES_MAX,
    ROLE_BYTES_MAX, Roles, ServerTls, WeakMethod,
};

/// Longest name of a database, in bytes: `NAMEDATALEN` less its zero.
pub(super) const DATABASE_BYTES_MAX: usize = ROLE_BYTES_MAX;

/// Settings with the places of what may contradict the rest of the destination.
pub(super) struct PlacedAuth {
    pub(super) settings: AuthSettings,
    /// `mode`
    mode: Option<Place>,
    /// `upgrade`
    upgrade: Option<Place>,
    /// `lookup` and `verifiers`, good or bad.
    lookup: Option<Place>,
    verifiers: Option<Place>,
}

/// An account with its place.
pub(super) struct PlacedAccount {
    place: Place,
    pub(super) account: Option<Account>,
}

/// Reads `[destination.auth]`.
pub(super) fn auth(document: &Document<'_>, table: Table<'_, '_>) -> PlacedAuth {
    let mode = table.written_choice(
        "mode",
        &[("auto", AuthMode::Auto), ("terminate", AuthMode::Terminate), ("relay", AuthMode::Relay)],
    );
    let require = table.choice(
        "require",
        &[("scram-sha-256", AuthRequire::ScramSha256), ("any", AuthRequire::Any)],
    );
    let pass = [
        ("gssapi", PassMethod::Gssapi),
        ("sspi", PassMethod::Sspi),
        ("oauthbearer", PassMethod::OauthBearer),
    ];
    let pass = sorted(table.choices("pass", &pass).unwrap_or_default());
    let verifiers = table.written("verifiers");
    let upgrade = table.flag("upgrade");
    let lookup = table.written_table("lookup");
    let (lookup_place, lookup) = match lookup {
        Some((place, table)) => {
            let lookup = read_lookup(document, &place, table);
            (Some(place), lookup)
        }
        None => (None, None),
    };
    let placed = PlacedAuth {
        upgrade: table.written("upgrade").filter(|_| upgrade),
        verifiers,
        lookup: lookup_place,
        settings: AuthSettings {
            mode: mode.as_ref().map_or(AuthMode::Auto, |(_, mode)| *mode),
            require,
            upgrade,
            pass,
            verifiers: table.written_path("verifiers").map(|(_, path)| path),
            exceptions: exceptions(document, &table, require),
            lookup,
        },
        mode: mode.map(|(place, _)| place),
    };
    table.finish();
    placed
}

/// Reads every `[[destination.account]]`.
pub(super) fn accounts(document: &Document<'_>, table: &Table<'_, '_>) -> Vec<PlacedAccount> {
    let tables = table.tables("account");
    if let Some((place, _)) = tables.get(ACCOUNTS_MAX) {
        let message = format!("too many: found {}, expected at most {ACCOUNTS_MAX}", tables.len());
        document.problem(place, message, None);
    }
    let mut accounts: Vec<PlacedAccount> = Vec::new();
    for (place, table) in tables.into_iter().take(ACCOUNTS_MAX) {
        let account = account(document, &place, table);
        let same = |other: &&PlacedAccount| {
            let role = account.as_ref().map(|account| &account.role);
            role.is_some() && other.account.as_ref().map(|other| &other.role) == role
        };
        if let Some((account, other)) = account.as_ref().zip(accounts.iter().find(same)) {
            let message = format!(
                "role `{}` has an account already: `{}`",
                shown(&account.role),
                other.place.key()
            );
            document.problem(&place, message, None);
        }
        accounts.push(PlacedAccount { place, account });
    }
    accounts
}

/// What the parts of one destination must agree on. `certificate`: the agent has one of its own
/// for the server.
pub(super) fn check(
    document: &Document<'_>,
    auth: &PlacedAuth,
    accounts: &[PlacedAccount],
    place: &Place,
    certificate: bool,
) {
    let sources = auth.lookup.is_some() || auth.verifiers.is_some() || !accounts.is_empty();
    match auth.settings.mode {
        AuthMode::Auto => {}
        AuthMode::Terminate if sources => {}
        AuthMode::Terminate => {
            let message = "nobody could log in: found no source of secrets, and `terminate` needs \
                           one";
            let hint = "add `[destination.auth.lookup]`, `verifiers` or a \
                        `[[destination.account]]`";
            let place = auth.mode.as_ref().unwrap_or(place);
            document.problem(place, message.to_owned(), Some(hint.to_owned()));
        }
        AuthMode::Relay => {
            let accounts = accounts.iter().map(|account| &account.place);
            for unused in auth.lookup.iter().chain(&auth.verifiers).chain(accounts) {
                let message = "has no effect: `mode` is `relay`, so the agent uses no secret";
                let hint = "set `mode` to `auto` or `terminate`, or remove this";
                document.problem(unused, message.to_owned(), Some(hint.to_owned()));
            }
        }
    }
    if let Some(place) = &auth.upgrade {
        let hint = "the agent needs a secret to carry out SCRAM with the application";
        let message = match (auth.settings.mode, sources) {
            (AuthMode::Relay, _) => Some("contradiction: `mode` is `relay`"),
            (AuthMode::Auto | AuthMode::Terminate, false) => {
                Some("has no effect: found no source of secrets")
            }
            (AuthMode::Auto | AuthMode::Terminate, true) => None,
        };
        if let Some(message) = message {
            document.problem(place, message.to_owned(), Some(hint.to_owned()));
        }
    }
    if let (Some(place), Some(lookup)) = (&auth.lookup, &auth.settings.lookup)
        && lookup.password.is_none()
        && !certificate
        // Elsewhere a server that asks a lookup for nothing is refused.
        && auth.settings.require != AuthRequire::Any
    {
        nothing_to_log_in_with(document, place, &lookup.login);
    }
    for PlacedAccount { place, account } in accounts {
        let Some(account) = account else { continue };
        let recoverable = account.login == account.role
            && match account.application {
                ApplicationSecret::Verifier(_) | ApplicationSecret::VerifierFile(_) => true,
                // Made with a salt of the agent's own: never the server's verifier.
                ApplicationSecret::Password(_) => false,
            };
        if account.password.is_none()
            && !certificate
            && !recoverable
            // Else a server that asks an account for nothing is refused.
            && !auth.settings.upgrade
        {
            nothing_to_log_in_with(document, place, &account.login);
        }
    }
}

/// Secrets of the agent's own that whoever listens on a loopback address would get. `possible`: TLS
/// with the server, where `server.tls` was not written.
pub(super) fn check_unproven(
    document: &Document<'_>,
    auth: &PlacedAuth,
    accounts: &[PlacedAccount],
    possible: &[ServerTls],
) {
    match auth.settings.mode {
        AuthMode::Auto | AuthMode::Terminate => {}
        // No secret is used then, which was said.
        AuthMode::Relay => return,
    }
    if !possible.contains(&ServerTls::Prefer) {
        return;
    }
    let sources = auth.lookup.is_some() || auth.verifiers.is_some() || !accounts.is_empty();
    let upgrade = auth.upgrade.as_ref().filter(|_| sources);
    let with_password = |account: &&PlacedAccount| {
        account.account.as_ref().is_some_and(|account| account.password.is_some())
    };
    let accounts = accounts.iter().filter(with_password).map(|account| &account.place);
    for place in auth.lookup.iter().chain(upgrade).chain(accounts) {
        let message = "would go to servers that prove nothing: for loopback addresses TLS is \
                       `prefer`, and any user of this host may listen there";
        let hint = "write `server.tls`, or `networks` without loopback";
        document.problem(place, message.to_owned(), Some(hint.to_owned()));
    }
}

fn nothing_to_log_in_with(document: &Document<'_>, place: &Place, login: &str) {
    let message = format!("found no secret to log in with as `{}`", shown(login));
    let hint = "add `password_file`, `password_env` or `password_command`, or a certificate in \
                `[destination.server]`";
    document.problem(place, message, Some(hint.to_owned()));
}

fn exceptions(
    document: &Document<'_>,
    table: &Table<'_, '_>,
    require: AuthRequire,
) -> Vec<AuthException> {
    let tables = table.tables("exception");
    if let Some((place, _)) = tables.get(EXCEPTIONS_MAX) {
        let message =
            format!("too many: found {}, expected at most {EXCEPTIONS_MAX}", tables.len());
        document.problem(place, message, None);
    }
    let mut exceptions = Vec::new();
    for (place, table) in tables.into_iter().take(EXCEPTIONS_MAX) {
        match require {
            AuthRequire::ScramSha256 => {}
            AuthRequire::Any => {
                let message = "has no effect: `require` is `any`".to_owned();
                document.problem(&place, message, None);
            }
        }
        exceptions.extend(exception(document, &place, table));
    }
    exceptions
}

fn exception(
    document: &Document<'_>,
    place: &Place,
    table: Table<'_, '_>,
) -> Option<AuthException> {
    let missing = |key: &str, expected: &str| {
        let message = format!("no `{key}`: found none, expected {expected}");
        document.problem(place, message, None);
    };
    let roles = roles(document, &table);
    if table.written_items("roles").unwrap_or(0) == 0 {
        missing("roles", "at least one, or `[\"*\"]` for all");
    }
    let methods = [
        ("trust", WeakMethod::Trust),
        ("cert", WeakMethod::Cert),
        ("md5", WeakMethod::Md5),
        ("password", WeakMethod::Password),
    ];
    let methods = sorted(table.choices("methods", &methods).unwrap_or_default());
    if table.written_items("methods").unwrap_or(0) == 0 {
        missing("methods", "at least one of `trust`, `cert`, `md5` and `password`");
    }
    let reason = required(document, place, &table, "reason", REASON_BYTES_MAX);
    table.finish();
    Some(AuthException { roles: roles?, methods, reason: reason? })
}

fn roles(document: &Document<'_>, table: &Table<'_, '_>) -> Option<Roles> {
    let mut roles = Vec::new();
    let texts = table.texts("roles")?;
    let all = texts.iter().any(|(_, text)| *text == "*");
    for (place, text) in texts {
        if text == "*" {
            continue;
        }
        if all {
            let message = format!("`{}` has no effect: `*` stands for all", shown(text));
            document.problem(&place, message, None);
        }
        roles.extend(plain(document, &place, text, ROLE_BYTES_MAX).map(|text| (place, text)));
    }
    Some(if all { Roles::All } else { Roles::Listed(sorted(roles)) })
}

fn read_lookup(document: &Document<'_>, place: &Place, table: Table<'_, '_>) -> Option<Lookup> {
    let login = required(document, place, &table, "login", ROLE_BYTES_MAX);
    let database = match table.text("database") {
        None => Some("postgres".to_owned()),
        Some((place, text)) => plain(document, &place, text, DATABASE_BYTES_MAX),
    };
    let query = match table.text("query") {
        None => Some(LOOKUP_QUERY.to_owned()),
        Some((place, text)) => query(document, &place, text),
    };
    let ttl = table.millis("ttl_ms", 300_000, 1_000..=86_400_000);
    let password = password_source(document, &table, &PASSWORD).source;
    table.finish();
    Some(Lookup { login: login?, database: database?, query: query?, ttl, password })
}

fn query(document: &Document<'_>, place: &Place, text: &str) -> Option<String> {
    if text.len() > QUERY_BYTES_MAX {
        let found = text.len();
        let message = format!("too long: found {found} bytes, expected at most {QUERY_BYTES_MAX}");
        document.problem(place, message, None);
        return None;
    }
    if !text.contains("$1") || text.contains('\0') {
        let message = "not a query for one role: expected a statement with `$1`, which stands for \
                       the role";
        document.problem(place, message.to_owned(), None);
        return None;
    }
    Some(text.to_owned())
}

fn account(document: &Document<'_>, place: &Place, table: Table<'_, '_>) -> Option<Account> {
    let role = required(document, place, &table, "role", ROLE_BYTES_MAX);
    let login = match table.text("login") {
        None => role.clone(),
        Some((place, text)) => plain(document, &place, text, ROLE_BYTES_MAX),
    };
    let application = application_secret(document, place, &table);
    let password = password_source(document, &table, &PASSWORD).source;
    table.finish();
    Some(Account { role: role?, application: application?, login: login?, password })
}

fn application_secret(
    document: &Document<'_>,
    place: &Place,
    table: &Table<'_, '_>,
) -> Option<ApplicationSecret> {
    let inline = table.written("verifier");
    let file = table.written("verifier_file");
    let password = password_source(document, table, &APPLICATION_PASSWORD);
    let mut written = inline.iter().chain(&file).chain(&password.place);
    let expected = "expected one of `verifier`, `verifier_file` and `application_password_file` \
                    (or `_env`, `_command`)";
    if written.next().is_none() {
        let message = format!("no secret for the application: found none, {expected}");
        document.problem(place, message, None);
    }
    if let Some(second) = written.next() {
        let message = format!("more than one secret for the application: {expected}");
        document.problem(second, message, None);
    }
    let file = table.written_path("verifier_file").map(|(_, path)| path);
    verifier(document, table, "verifier")
        .map(ApplicationSecret::Verifier)
        .or_else(|| file.map(ApplicationSecret::VerifierFile))
        .or_else(|| password.source.map(ApplicationSecret::Password))
}

/// A text that must be there.
pub(super) fn required(
    document: &Document<'_>,
    place: &Place,
    table: &Table<'_, '_>,
    key: &'static str,
    bytes_max: usize,
) -> Option<String> {
    if table.written(key).is_none() {
        let message = format!("no `{key}`: found none, expected a text");
        document.problem(place, message, None);
        return None;
    }
    let (place, text) = table.text(key)?;
    plain(document, &place, text, bytes_max)
}

/// A text that is not blank, not too long, and of one line.
pub(super) fn plain(
    document: &Document<'_>,
    place: &Place,
    text: &str,
    bytes_max: usize,
) -> Option<String> {
    let message = if text.trim().is_empty() {
        "expected a text that is not empty".to_owned()
    } else if text.len() > bytes_max {
        format!("too long: found {} bytes, expected at most {bytes_max}", text.len())
    } else if text.chars().any(char::is_control) {
        format!("holds a control character: found `{}`", shown(text))
    } else {
        return Some(text.to_owned());
    };
    document.problem(place, message, None);
    None
}
