//! What destinations amount to, and what about them is likely not meant: for people, before the
//! first connection.

mod audit;

use super::{
    AuthMode, AuthRequire, ChannelBinding, ClientTls, Config, Destination, Negotiation, PassMethod,
    ServerTls,
};

/// Something that works, and that somebody should know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// A destination or a key: ``destination `orders` ``.
    pub about: String,
    /// What is so.
    pub message: String,
    /// What to do about it, where something is to be done.
    pub hint: Option<String>,
}

impl Warning {
    /// About a destination.
    pub fn of(destination: &Destination, message: String, hint: Option<&str>) -> Self {
        let about = format!("destination `{}`", destination.name);
        Self { about, message, hint: hint.map(str::to_owned) }
    }
}

/// How SCRAM comes to be terminated.
const TERMINATE: &str = "add `[destination.auth.lookup]`, `verifiers` or a \
     `[[destination.account]]`, so that the agent has secrets to terminate SCRAM with";

/// What the configuration alone shows; files are not looked at.
pub fn warnings(config: &Config) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for destination in config.destinations_in_use() {
        relayed(destination, &mut warnings);
        weak_tls(destination, &mut warnings);
        unproven(destination, &mut warnings);
        weak_logins(destination, &mut warnings);
    }
    audit::warn(&config.audit, &mut warnings);
    warnings
}

fn relayed(destination: &Destination, warnings: &mut Vec<Warning>) {
    let server = destination.server_tls_possible();
    if !destination.only_relays() || server == [ServerTls::Disable] {
        return;
    }
    let message = match destination.client.tls {
        ClientTls::Off => return,
        ClientTls::Optional => {
            "the agent has no secrets, so it relays SCRAM: clients that insist on TLS and bind \
             channels (libpq with sslmode=require and channel_binding=prefer) are refused where \
             the server has TLS"
        }
        ClientTls::Required => {
            "the agent has no secrets, so it relays SCRAM, and TLS is required of clients: those \
             that bind channels (libpq by default) are refused where the server has TLS"
        }
    };
    let hint = match destination.auth.mode {
        AuthMode::Auto | AuthMode::Terminate => TERMINATE.to_owned(),
        AuthMode::Relay => format!("set `mode = \"auto\"`, and {TERMINATE}"),
    };
    warnings.push(Warning::of(destination, message.to_owned(), Some(&hint)));
}

fn weak_tls(destination: &Destination, warnings: &mut Vec<Warning>) {
    // Who can read loopback is on this host already.
    if destination.only_loopback() {
        return;
    }
    let message = match destination.server.tls {
        None | Some(ServerTls::VerifyCa | ServerTls::VerifyFull) => return,
        Some(ServerTls::Disable) => {
            "`server.tls` is `disable`: everything crosses the network in clear text"
        }
        Some(ServerTls::Prefer) => {
            "`server.tls` is `prefer`: it falls back to clear text, and verifies nothing"
        }
        Some(ServerTls::Require) => {
            "`server.tls` is `require`: it verifies nothing, so anybody in between may answer"
        }
    };
    let hint = "set `tls = \"verify-full\"` in `[destination.server]`, with `roots` where the \
                system's do not fit";
    warnings.push(Warning::of(destination, message.to_owned(), Some(hint)));
}

/// What the agent itself knows should go to servers that were named, and prove it. Loopback is no
/// exception: any user of this host may listen there.
fn unproven(destination: &Destination, warnings: &mut Vec<Warning>) {
    if !destination.sends_secrets() {
        return;
    }
    let full = destination.server_tls_possible().iter().all(|tls| *tls == ServerTls::VerifyFull);
    let missing = [
        (!full).then_some("`server.tls` is not `verify-full`"),
        destination.server.name.is_none().then_some("`server.name` is not set"),
        (!destination.leaves_addresses_out()).then_some("`networks` is every address"),
    ];
    let missing: Vec<_> = missing.into_iter().flatten().collect();
    if missing.is_empty() {
        return;
    }
    let message = format!(
        "secrets of the agent's own (a lookup's, an account's, `upgrade`) may go to a server that \
         is not the one that is meant: {}",
        missing.join(", ")
    );
    let hint = "set `tls = \"verify-full\"` and `name` in `[destination.server]`, and `networks`";
    warnings.push(Warning::of(destination, message, Some(hint)));
}

fn weak_logins(destination: &Destination, warnings: &mut Vec<Warning>) {
    match destination.auth.require {
        AuthRequire::ScramSha256 => {}
        AuthRequire::Any => {
            let message = "`auth.require` is `any`: clients send clear-text and MD5 passwords to \
                           servers that ask for them, and are let in without any";
            let hint = "set `require = \"scram-sha-256\"`, with a `[[destination.auth.exception]]` \
                        for who can't do it yet";
            warnings.push(Warning::of(destination, message.to_owned(), Some(hint)));
        }
    }
    for exception in &destination.auth.exceptions {
        let methods: Vec<_> = exception.methods.iter().map(|method| method.name()).collect();
        let message = format!(
            "exception in force: {} for {}: {}",
            methods.join(", "),
            exception.roles,
            exception.reason
        );
        warnings.push(Warning::of(destination, message, None));
    }
}

impl Config {
    /// The destinations that can serve a connection: all, but the implicit one where those in front
    /// of it leave nothing.
    pub fn destinations_in_use(&self) -> impl Iterator<Item = &Destination> {
        let last = self.destinations.len().saturating_sub(1);
        let everywhere: Vec<_> = self
            .destinations
            .iter()
            .take(last)
            .filter(|destination| destination.ports.is_empty())
            .flat_map(|destination| destination.networks.iter().copied())
            .collect();
        let implicit = &self.destinations[last..];
        let hidden = implicit.iter().all(|destination| {
            destination.networks.iter().all(|network| network.covered_by(&everywhere))
        });
        let used = if hidden { last } else { last + 1 };
        self.destinations.iter().take(used).map(|destination| &**destination)
    }
}

impl Destination {
    /// One line that says what happens on each leg.
    pub fn describe(&self) -> String {
        format!("{}; {}; {}", self.describe_client(), self.describe_login(), self.describe_server())
    }

    fn describe_client(&self) -> String {
        let tls = match self.client.tls {
            ClientTls::Off => return "clients: clear text".to_owned(),
            ClientTls::Optional => "TLS as they like",
            ClientTls::Required => "TLS required",
        };
        let certificate = match &self.client.identity {
            None => "a certificate of the local authority".to_owned(),
            Some(files) => format!("certificate `{}`", files.certificate.display()),
        };
        format!("clients: {tls} with {certificate}{}", binding(self.client.channel_binding))
    }

    fn describe_login(&self) -> String {
        let mut sources = Vec::new();
        sources.extend(self.auth.lookup.as_ref().map(|l| format!("looked up as `{}`", l.login)));
        sources.extend(self.auth.verifiers.as_ref().map(|path| format!("`{}`", path.display())));
        match self.accounts.len() {
            0 => {}
            1 => sources.push("1 account".to_owned()),
            several => sources.push(format!("{several} accounts")),
        }
        let sources = sources.join(", ");
        let by = match self.auth.mode {
            AuthMode::Auto if self.has_secret_source() => {
                format!("SCRAM with the agent where it has a secret ({sources}), else relayed")
            }
            AuthMode::Auto | AuthMode::Relay => "SCRAM relayed".to_owned(),
            AuthMode::Terminate => format!("SCRAM with the agent ({sources})"),
        };
        let server = match (self.auth.require, self.auth.upgrade) {
            (AuthRequire::Any, _) => ", any method passes",
            (AuthRequire::ScramSha256, true) => ", older methods with the server only",
            (AuthRequire::ScramSha256, false) => "",
        };
        let pass: Vec<_> = self.auth.pass.iter().map(|method| method.name()).collect();
        let pass = if pass.is_empty() { String::new() } else { format!(", {}", pass.join(", ")) };
        format!("login: {by}{server}{pass}")
    }

    fn describe_server(&self) -> String {
        let tls = match self.server.tls {
            Some(ServerTls::Disable) => return "server: clear text".to_owned(),
            Some(tls) => tls.name().to_owned(),
            None => {
                let possible = self.server_tls_possible();
                let names = possible.into_iter().map(|tls| match tls {
                    ServerTls::Prefer => "prefer on loopback",
                    other => other.name(),
                });
                names.rev().collect::<Vec<_>>().join(", ")
            }
        };
        let mut parts = vec![format!("server: TLS {tls}")];
        if let Some(name) = &self.server.name {
            parts.push(format!("as `{}`", name.to_str()));
        }
        if self.server_tls_possible().iter().any(|tls| tls.verifies()) {
            parts.push(match &self.server.roots {
                None => "with the system's roots".to_owned(),
                Some(path) => format!("with roots `{}`", path.display()),
            });
        }
        match self.server.negotiation {
            Negotiation::Postgres => {}
            Negotiation::Direct => parts.push("at once".to_owned()),
        }
        if let Some(files) = &self.server.identity {
            parts.push(format!("showing `{}`", files.certificate.display()));
        }
        parts.join(" ") + binding(self.server.channel_binding)
    }
}

fn binding(binding: ChannelBinding) -> &'static str {
    match binding {
        ChannelBinding::Prefer => "",
        ChannelBinding::Disable => ", no channel binding",
        ChannelBinding::Require => ", channel binding required",
    }
}

impl PassMethod {
    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gssapi => "gssapi",
            Self::Sspi => "sspi",
            Self::OauthBearer => "oauthbearer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let text = format!("intercept = [{{ ports = [5432] }}]\n{text}");
        Config::parse("t.toml", &text).expect("a good configuration")
    }

    /// A destination that serves everything, so that no other is spoken of.
    fn one(text: &str) -> Config {
        config(&format!("[[destination]]\nname = 'a'\n{text}"))
    }

    /// What is told of destinations.
    fn told(config: &Config) -> Vec<Warning> {
        let mut told = warnings(config);
        told.retain(|warning| warning.about.starts_with("destination "));
        told
    }

    /// The beginnings of the messages, up to the first comma or colon.
    fn messages(config: &Config) -> Vec<String> {
        let begin = |text: &str| text.split([',', ':']).next().unwrap_or_default().to_owned();
        told(config).iter().map(|warning| begin(&warning.message)).collect()
    }

    const RELAYS: &str = "the agent has no secrets";

    #[test]
    fn relayed_scram_that_some_clients_refuse_is_told() {
        let told = super::tests::told(&config(""));
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].about, "destination `default`");
        assert!(told[0].message.contains("sslmode=require and channel_binding=prefer"));
        let hint = told[0].hint.as_deref().expect("a hint");
        for setting in ["`[destination.auth.lookup]`", "`verifiers`", "`[[destination.account]]`"] {
            assert!(hint.contains(setting), "{hint}");
        }
        let mode = warnings(&one("auth.mode = 'relay'"));
        assert!(mode[0].hint.as_deref().is_some_and(|hint| hint.contains("mode = \"auto\"")));
        for (text, expected) in [
            ("", &[RELAYS][..]),
            ("client.tls = 'required'", &[RELAYS]),
            ("client.tls = 'off'", &[]),
            (
                "networks = ['127.0.0.1']\nserver.tls = 'disable'\n[[destination]]\nname = 'b'\nclient.tls = 'off'",
                &[],
            ),
            (
                "networks = ['127.0.0.1']\n[[destination]]\nname = 'b'\nclient.tls = 'off'",
                &[RELAYS],
            ),
            ("auth.verifiers = '/v'", &[]),
            (
                "auth.lookup = { login = 'l', password_env = 'P' }\nnetworks = ['10.0.0.1']\n\
                 server.name = 'x'\n[[destination]]\nname = 'b'\nclient.tls = 'off'",
                &[],
            ),
            ("account = [{ role = 'r', verifier_file = '/v' }]", &[]),
        ] {
            assert_eq!(messages(&one(text)), expected, "{text}");
        }
    }

    #[test]
    fn tls_that_verifies_nothing_is_told() {
        for (tls, expected) in [
            ("disable", Some("`server.tls` is `disable`")),
            ("prefer", Some("`server.tls` is `prefer`")),
            ("require", Some("`server.tls` is `require`")),
            ("verify-ca", None),
            ("verify-full", None),
        ] {
            let rest = format!("server.tls = '{tls}'\nclient.tls = 'off'");
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(messages(&one(&rest)), expected);
            let loopback = format!(
                "networks = ['127.0.0.0/8', '::1']\n{rest}\n[[destination]]\nname = 'b'\nclient.tls = 'off'"
            );
            assert_eq!(messages(&one(&loopback)), [""; 0]);
        }
    }

    #[test]
    fn secrets_for_servers_that_are_not_pinned_are_told() {
        let lookup = "auth.lookup = { login = 'l', password_env = 'P' }\n";
        let account = "account = [{ role = 'r', verifier_file = '/v', password_env = 'P' }]\n";
        let upgrade = "auth.verifiers = '/v'\nauth.upgrade = true\n";
        let (tls, name) = ("server.tls = 'verify-full'\n", "server.name = 'x'\n");
        let networks = "networks = ['10.0.0.1', '127.0.0.1']\n";
        let all = "networks = ['0.0.0.0/1', '128.0.0.0/1', '::/0']\n";
        let told = |text: &str| {
            let told = warnings(&one(text));
            told.iter()
                .filter(|warning| warning.message.starts_with("secrets of the agent's own"))
                .map(|warning| warning.message.split_once(": ").expect("a colon").1.to_owned())
                .collect::<Vec<_>>()
        };
        for secret in [lookup, account, upgrade] {
            for (text, expected) in [
                (format!("{tls}{name}{networks}"), None),
                (format!("{name}networks = ['10.0.0.1']\n"), None),
                (format!("{tls}{networks}"), Some("`server.name` is not set")),
                (format!("{tls}{name}"), Some("`networks` is every address")),
                (format!("{tls}{name}{all}"), Some("`networks` is every address")),
                (
                    format!("server.tls = 'verify-ca'\n{name}{networks}"),
                    Some("`server.tls` is not `verify-full`"),
                ),
                (
                    "server.tls = 'prefer'\nnetworks = ['127.0.0.1']\n".to_owned(),
                    Some("`server.tls` is not `verify-full`, `server.name` is not set"),
                ),
            ] {
                let expected: Vec<_> = expected.into_iter().collect();
                assert_eq!(told(&format!("{secret}{text}")), expected, "{secret}{text}");
            }
        }
        for none in
            ["auth.verifiers = '/v'\n", "account = [{ role = 'r', verifier_file = '/v' }]\n"]
        {
            assert_eq!(told(none), [""; 0], "{none}");
        }
    }

    #[test]
    fn weak_logins_are_told() {
        let told = told(&one("client.tls = 'off'\nauth.exception = [\n\
             { roles = ['*'], methods = ['trust'], reason = 'no secrets here' },\n\
             { roles = ['b', 'a'], methods = ['md5', 'password'], reason = 'old' }]"));
        let messages_of: Vec<_> = told.iter().map(|warning| warning.message.as_str()).collect();
        assert_eq!(
            messages_of,
            [
                "exception in force: trust for *: no secrets here",
                "exception in force: md5, password for a, b: old"
            ]
        );
        assert_eq!(
            messages(&one("client.tls = 'off'\nauth.require = 'any'")),
            ["`auth.require` is `any`"]
        );
    }

    #[test]
    fn the_implicit_destination_counts_where_something_is_left_for_it() {
        let used = |text: &str| config(text).destinations_in_use().count();
        assert_eq!(used(""), 1);
        assert_eq!(used("[[destination]]\nname = 'a'"), 1);
        assert_eq!(used("[[destination]]\nname = 'a'\nports = [5432]"), 2);
        assert_eq!(used("[[destination]]\nname = 'a'\nnetworks = ['0.0.0.0/0']"), 2);
        let both = "[[destination]]\nname = 'a'\nnetworks = ['0.0.0.0/0']\n\
                    [[destination]]\nname = 'b'\nnetworks = ['::/1', '8000::/1']";
        assert_eq!(used(both), 2);
    }

    #[test]
    fn each_leg_is_described() {
        for (text, expected) in [
            (
                "",
                "clients: TLS as they like with a certificate of the local authority; \
                 login: SCRAM relayed; \
                 server: TLS verify-full, prefer on loopback with the system's roots",
            ),
            (
                "client.tls = 'off'\nauth.verifiers = '/v'\nauth.upgrade = true\n\
                 auth.pass = ['gssapi']\nserver.tls = 'disable'",
                "clients: clear text; \
                 login: SCRAM with the agent where it has a secret (`/v`), else relayed, \
                 older methods with the server only, gssapi; server: clear text",
            ),
            (
                "networks = ['10.0.0.0/8']\nauth = { mode = 'terminate', lookup = { login = 'l' } }\n\
                 client = { tls = 'required', certificate = '/c', key = '/k', channel_binding = 'disable' }\n\
                 server = { tls = 'verify-ca', name = 'db', roots = '/r', certificate = '/s', \
                 key = '/t', negotiation = 'direct', channel_binding = 'require' }",
                "clients: TLS required with certificate `/c`, no channel binding; \
                 login: SCRAM with the agent (looked up as `l`); \
                 server: TLS verify-ca as `db` with roots `/r` at once showing `/s`, \
                 channel binding required",
            ),
        ] {
            assert_eq!(one(text).destinations[0].describe(), expected);
        }
    }
}
