//! The agent with a destination for each mode: which one a client meets depends on the address 127.0.0.x that it asks for.
//!
//! | Last number | Settings |
//! | --- | --- |
//! | 11 to 14 | terminate, with the server's verifiers |
//! | 21 to 24 | relay, without any secret for the role |
//! | 31 to 34 | mapped accounts, which may be upgraded |
//! | x1 | nothing else |
//! | x2 | channel binding required of the application |
//! | x3 | channel binding required of the server |
//! | x4 | a client certificate for the server |

use std::fmt::Write;
use std::path::Path;

use pgward_tests::agent::{Agent, Builder};
use pgward_tests::pki::{self, Pki};
use pgward_tests::scene::Scene;

use crate::Result;
use crate::servers::{Passwords, Role, ServerTls, Servers};

/// Last number of an address at which the agent terminates SCRAM.
pub(crate) const TERMINATE: u8 = 11;
/// Last number of an address at which the agent relays SCRAM.
pub(crate) const RELAY: u8 = 21;
/// Last number of an address with accounts.
pub(crate) const MAPPED: u8 = 31;

/// Starts it in front of these servers. It knows which secrets it must not tell.
pub(crate) fn start(
    label: &str,
    servers: &[Servers],
    pki: &Pki,
    passwords: &Passwords,
) -> Result<Scene> {
    start_with(label, Agent::builder(), servers, pki, passwords)
}

/// The same with other settings.
pub(crate) fn start_with(
    label: &str,
    mut builder: Builder,
    servers: &[Servers],
    pki: &Pki,
    passwords: &Passwords,
) -> Result<Scene> {
    let authority = pki.agent_authority();
    builder = builder.set("tls", "ca_certificate", &quoted(&authority.certificate));
    builder = builder.set("tls", "ca_key", &quoted(&authority.key));
    let mut verifiers = Vec::new();
    for servers in servers {
        for tls in [ServerTls::On, ServerTls::Off] {
            let site = Site { servers, tls, pki, passwords };
            verifiers.extend(servers.verifiers(tls)?);
            builder = builder.intercept(servers.server(tls).port());
            let file = site.verifier_file()?;
            for mode in [Mode::Terminate, Mode::Relay, Mode::Mapped] {
                for last in 1..=4 {
                    builder = builder.destination(&site.destination(mode, last, &file)?);
                }
            }
        }
    }
    let scene = Scene::with(label, builder)?;
    let secrets = scene.agent.secrets();
    for (label, password) in passwords.all() {
        secrets.add(&label, password.as_bytes());
    }
    for (role, verifier) in verifiers {
        secrets.add_verifier(&format!("verifier of {role}"), &verifier);
    }
    Ok(scene)
}

#[derive(Clone, Copy)]
enum Mode {
    Terminate,
    Relay,
    Mapped,
}

impl Mode {
    fn tens(self) -> u8 {
        match self {
            Self::Terminate => 10,
            Self::Relay => 20,
            Self::Mapped => 30,
        }
    }
}

/// One server, with the files made for it.
struct Site<'s> {
    servers: &'s Servers,
    tls: ServerTls,
    pki: &'s Pki,
    passwords: &'s Passwords,
}

impl Site<'_> {
    fn name(&self) -> String {
        format!("{}-{}", self.servers.version.name(), self.tls.name())
    }

    /// Verifiers of all roles and accounts, in the format of a verifier file.
    fn verifier_file(&self) -> Result<String> {
        let mut text = String::new();
        for (role, verifier) in self.servers.verifiers(self.tls)? {
            writeln!(text, "\"{role}\" \"{verifier}\"")?;
        }
        let path = self.pki.write_secret(&format!("verifiers-{}", self.name()), &text)?;
        Ok(quoted(&path))
    }

    fn destination(&self, mode: Mode, last: u8, verifiers: &str) -> Result<String> {
        let address = mode.tens() + last;
        let mut text = format!(
            "name = \"at-{address}-{}\"\nnetworks = [\"127.0.0.{address}\"]\nports = [{}]\n",
            self.name(),
            self.servers.server(self.tls).port()
        );
        if last == 2 {
            text.push_str("[destination.client]\nchannel_binding = \"require\"\n");
        }
        text.push_str("[destination.server]\n");
        if self.tls != ServerTls::Off {
            let roots = quoted(&self.pki.roots());
            writeln!(text, "tls = \"verify-full\"\nname = \"{}\"\nroots = {roots}", pki::HOST)?;
        } else {
            // What loopback has by default, and accounts with passwords must be told.
            text.push_str("tls = \"prefer\"\n");
        }
        if last == 3 {
            text.push_str("channel_binding = \"require\"\n");
        }
        if last == 4 {
            let files = self.pki.client(Role::Cert.name());
            let (certificate, key) = (quoted(&files.certificate), quoted(&files.key));
            writeln!(text, "certificate = {certificate}\nkey = {key}")?;
        }
        text.push_str("[destination.auth]\n");
        match mode {
            Mode::Terminate => {
                writeln!(text, "mode = \"terminate\"\nverifiers = {verifiers}")?;
            }
            // A destination that can only relay may not require what relaying can't give. This one has an account, but not
            // of the role that comes.
            Mode::Relay if last == 2 || last == 3 => {
                text.push_str("mode = \"auto\"\n");
                self.account(&mut text, Role::Scram, "somebody_else", verifiers)?;
            }
            Mode::Relay => text.push_str("mode = \"relay\"\n"),
            Mode::Mapped => {
                text.push_str("mode = \"terminate\"\nupgrade = true\n");
                for role in Role::ALL {
                    self.account(&mut text, role, &role.application(), verifiers)?;
                }
            }
        }
        Ok(text)
    }

    fn account(&self, text: &mut String, role: Role, name: &str, verifiers: &str) -> Result {
        let login = role.name();
        write!(text, "[[destination.account]]\nrole = \"{name}\"\nlogin = \"{login}\"\n")?;
        writeln!(text, "verifier_file = {verifiers}")?;
        match role {
            Role::Scram | Role::Md5 | Role::Password => {
                let password = self.passwords.of(role);
                let file = self.pki.write_secret(&format!("password-{login}"), &password)?;
                writeln!(text, "password_file = {}", quoted(&file))?;
            }
            Role::Trust | Role::Cert => {}
        }
        Ok(())
    }
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}
