//! Servers of one version that know every method: one with TLS, one without.
//!
//! Databases say how a connection must come: `tls_on` takes clear text and TLS, `tls_required` TLS only, and `tls_off` is on
//! the server without TLS. Roles say how it must prove itself: see [`Role`].

use std::path::PathBuf;

use anyhow::Context;
use pgward_tests::host;
use pgward_tests::pki::{self, Pki};
use pgward_tests::postgres::{Cluster, Version};

use crate::Result;

/// Addresses of the servers: 127.0.0.1 for clients without an agent, and tens for the agent's modes.
const LAST_ADDRESSES: [u8; 13] = [1, 11, 12, 13, 14, 21, 22, 23, 24, 31, 32, 33, 34];

/// Roles that no server has.
pub(crate) const UNKNOWN: [&str; 2] = ["nobody_here", "nobody_there"];

/// Whether and how a server speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerTls {
    /// It was not given a certificate.
    Off,
    /// It takes both.
    On,
    /// It refuses clear text.
    Required,
}

impl ServerTls {
    pub(crate) const ALL: [Self; 3] = [Self::Off, Self::On, Self::Required];

    /// Its word in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Required => "required",
        }
    }

    /// The database that is reached so.
    pub(crate) fn database(self) -> &'static str {
        match self {
            Self::Off => "tls_off",
            Self::On => "tls_on",
            Self::Required => "tls_required",
        }
    }
}

/// A role for each method of `pg_hba.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `scram-sha-256`.
    Scram,
    /// `md5`, with a stored MD5 secret.
    Md5,
    /// Clear-text `password`.
    Password,
    /// `trust`.
    Trust,
    /// `cert`: only over TLS, with the client certificate of its name.
    Cert,
}

impl Role {
    pub(crate) const ALL: [Self; 5] =
        [Self::Scram, Self::Md5, Self::Password, Self::Trust, Self::Cert];

    /// Its name on the servers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scram => "scram_user",
            Self::Md5 => "md5_user",
            Self::Password => "password_user",
            Self::Trust => "trust_user",
            Self::Cert => "cert_user",
        }
    }

    /// What an application says that has an account with the agent, mapped to this role.
    pub(crate) fn application(self) -> String {
        format!("app_{}", self.name())
    }

    fn method(self) -> &'static str {
        match self {
            Self::Scram => "scram-sha-256",
            Self::Md5 => "md5",
            Self::Password => "password",
            Self::Trust => "trust",
            Self::Cert => "cert",
        }
    }
}

/// Passwords of a run, different for each role, account and run: what is searched for must occur nowhere by chance.
#[derive(Clone, Debug)]
pub(crate) struct Passwords {
    salt: String,
}

impl Passwords {
    /// New ones.
    pub(crate) fn new() -> Self {
        Self { salt: format!("{:016x}", host::random()) }
    }

    /// Of a role of the servers.
    pub(crate) fn of(&self, role: Role) -> String {
        format!("{}-{}", role.name(), self.salt)
    }

    /// Of an application's account with the agent.
    pub(crate) fn of_application(&self, role: Role) -> String {
        format!("{}-{}", role.application(), self.salt)
    }

    /// All of them, with what each is.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        let each = Role::ALL.into_iter().flat_map(|role| {
            let own = (format!("password of {}", role.name()), self.of(role));
            [own, (format!("password of {}", role.application()), self.of_application(role))]
        });
        each.collect()
    }
}

/// Two servers of one version.
#[derive(Debug)]
pub(crate) struct Servers {
    /// Which version.
    pub(crate) version: Version,
    /// The one with a certificate: databases `tls_on` and `tls_required`.
    pub(crate) with_tls: Cluster,
    /// The one without: database `tls_off`.
    pub(crate) without_tls: Cluster,
}

impl Servers {
    /// Starts both, with all roles.
    pub(crate) fn start(version: Version, pki: &Pki, passwords: &Passwords) -> Result<Self> {
        let builder = || {
            let addresses = LAST_ADDRESSES.map(|last| format!("127.0.0.{last}")).join(",");
            Cluster::builder()
                .version(version)
                .listen(&addresses)
                .setting("log_connections", "on")
                .setting("max_connections", "300")
        };
        let both = [ServerTls::On, ServerTls::Required];
        let good = pki.server(pki::Server::Good);
        let with_tls = builder().tls(&good, &pki.roots()).hba(&hba(&both)).start()?;
        let without_tls = builder().hba(&hba(&[ServerTls::Off])).start()?;
        for server in [&with_tls, &without_tls] {
            server.sql("postgres", &roles(passwords))?;
        }
        for tls in both {
            with_tls.sql("postgres", &format!("create database {}", tls.database()))?;
        }
        without_tls.sql("postgres", &format!("create database {}", ServerTls::Off.database()))?;
        Ok(Self { version, with_tls, without_tls })
    }

    /// The server that is reached so.
    pub(crate) fn server(&self, tls: ServerTls) -> &Cluster {
        match tls {
            ServerTls::Off => &self.without_tls,
            ServerTls::On | ServerTls::Required => &self.with_tls,
        }
    }

    /// SCRAM verifiers on one server for the passwords of all roles, and for those of the applications' accounts: also of
    /// roles whose own stored secret is another.
    pub(crate) fn verifiers(&self, tls: ServerTls) -> Result<Vec<(String, String)>> {
        let sql =
            "select rolname || ' ' || rolpassword from pg_authid where rolname like 'verifier_%'";
        let rows = self.server(tls).sql("postgres", sql)?;
        let mut found = Vec::new();
        for row in rows.lines() {
            let (name, verifier) = row.split_once(' ').context("name and verifier")?;
            let name = name.strip_prefix("verifier_").context("its prefix")?;
            found.push((name.to_owned(), verifier.to_owned()));
        }
        Ok(found)
    }
}

/// Path of a libpq, for clients that load it.
pub(crate) fn libpq(version: Version) -> Result<PathBuf> {
    version.libpq()
}

fn hba(kinds: &[ServerTls]) -> String {
    let mut lines = String::new();
    for tls in kinds {
        let database = tls.database();
        for role in Role::ALL {
            let kind = match (tls, role) {
                (ServerTls::Off, Role::Cert) => continue,
                (ServerTls::Required, _) | (_, Role::Cert) => "hostssl",
                (ServerTls::Off | ServerTls::On, _) => "host",
            };
            let (name, method) = (role.name(), role.method());
            lines.push_str(&format!("{kind} {database} {name} 127.0.0.0/8 {method}\n"));
        }
        // Who does not exist is asked for a password like anyone.
        let unknown = UNKNOWN.join(",");
        lines.push_str(&format!("host {database} {unknown} 127.0.0.0/8 scram-sha-256\n"));
    }
    lines
}

/// All roles; and for each a `verifier_` role that cannot log in, from which its SCRAM verifier is read. The verifier of
/// `scram_user` is that of the role itself: only with the server's own salt can a proof be used upstream.
fn roles(passwords: &Passwords) -> String {
    let mut sql = String::from("set password_encryption = 'scram-sha-256';\n");
    for role in Role::ALL {
        let (name, password) = (role.name(), passwords.of(role));
        let kind = if role == Role::Md5 { "md5" } else { "scram-sha-256" };
        sql.push_str(&format!(
            "set password_encryption = '{kind}'; set client_min_messages = error;\n\
             create role {name} login password '{password}';\n\
             set password_encryption = 'scram-sha-256';\n\
             create role verifier_{name} password '{password}';\n\
             create role verifier_{application} password '{of_application}';\n",
            application = role.application(),
            of_application = passwords.of_application(role),
        ));
    }
    sql.push_str(
        "update pg_authid set rolpassword =\n\
         (select rolpassword from pg_authid where rolname = 'scram_user')\n\
         where rolname = 'verifier_scram_user';\n",
    );
    sql
}
