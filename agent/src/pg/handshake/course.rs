//! What is done about what the server asks for: one table, from what was seen on the wire.
//!
//! | the server asks for | secret at hand | done |
//! |---|---|---|
//! | SCRAM | yes | [`Course::Terminate`]: the application proves itself to us, we prove ourselves to the server |
//! | SCRAM | no | [`Course::Relay`], or with [`Mode::Terminate`] [`Course::Pretend`] |
//! | what is below, where a secret would have been asked for | no, with [`Mode::Terminate`] | [`Course::Pretend`]: an exchange that cannot succeed |
//! | nothing, but took our certificate | yes | [`Course::Prove`]: the application proves itself, the server is content |
//! | nothing | yes, and upgrading | [`Course::Prove`]: so |
//! | MD5, clear text | of an account, and upgrading | [`Course::Prove`]: so, and we give the server what it wants |
//! | the same | else | [`Course::Relay`] where accepted by name, refused where not |
//! | GSSAPI, SSPI, OAUTHBEARER | - | [`Course::Relay`] where accepted by name, refused where not |

use super::refusal::Refusal;
use crate::pg::backend::Authentication;
use crate::pg::scram;

/// What a server asks of its client, in its first message about authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Demand {
    /// Nothing: it lets anyone in (`trust`), or knows who it is by other means.
    Nothing,
    /// Nothing more: it asked for our certificate in TLS, and got it.
    Certificate,
    /// A password in clear text (also LDAP, PAM, RADIUS).
    Cleartext,
    /// An MD5 digest with this salt.
    Md5 {
        /// The salt.
        salt: [u8; 4],
    },
    /// GSSAPI.
    Gss,
    /// SSPI.
    Sspi,
    /// SCRAM-SHA-256.
    Scram {
        /// It offers `SCRAM-SHA-256`.
        plain: Offered,
        /// It offers `SCRAM-SHA-256-PLUS`.
        plus: Offered,
    },
    /// OAUTHBEARER, and no SCRAM.
    Oauth,
    /// SASL by mechanisms that are none of these.
    OtherSasl,
    /// Kerberos 5 or SCM credentials: no current server has them.
    Obsolete,
}

/// Whether a mechanism is in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offered {
    /// It is.
    Yes,
    /// It isn't.
    No,
}

impl Offered {
    fn when(condition: bool) -> Self {
        if condition { Self::Yes } else { Self::No }
    }
}

impl Demand {
    /// Reads it from the server's first message about authentication. `None`: the message continues an exchange.
    pub fn of(request: &Authentication<'_>, certificate: CertificateGiven) -> Option<Self> {
        Some(match request {
            Authentication::Ok => match certificate {
                CertificateGiven::Yes => Self::Certificate,
                CertificateGiven::No => Self::Nothing,
            },
            Authentication::CleartextPassword => Self::Cleartext,
            Authentication::Md5Password { salt } => Self::Md5 { salt: *salt },
            Authentication::Gss => Self::Gss,
            Authentication::Sspi => Self::Sspi,
            Authentication::Sasl(mechanisms) => {
                let has = |name: &[u8]| mechanisms.iter().any(|m| m == name);
                let plain = Offered::when(has(scram::PLAIN));
                let plus = Offered::when(has(scram::PLUS));
                match (plain, plus) {
                    (Offered::No, Offered::No) if has(OAUTHBEARER) => Self::Oauth,
                    (Offered::No, Offered::No) => Self::OtherSasl,
                    (plain, plus) => Self::Scram { plain, plus },
                }
            }
            Authentication::KerberosV5 | Authentication::ScmCredential => Self::Obsolete,
            Authentication::GssContinue(_)
            | Authentication::SaslContinue(_)
            | Authentication::SaslFinal(_) => return None,
        })
    }

    /// Its name in records, logs and the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "trust",
            Self::Certificate => "cert",
            Self::Cleartext => "password",
            Self::Md5 { salt: _ } => "md5",
            Self::Gss => "gssapi",
            Self::Sspi => "sspi",
            Self::Scram { plain: _, plus: _ } => "scram-sha-256",
            Self::Oauth => "oauthbearer",
            Self::OtherSasl => "sasl",
            Self::Obsolete => "obsolete",
        }
    }
}

/// The mechanism of PostgreSQL 18's `oauth` method.
pub const OAUTHBEARER: &[u8] = b"OAUTHBEARER";

/// Whether the server asked for our certificate in TLS and we had one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateGiven {
    /// It did, and got it.
    Yes,
    /// It did not ask, or we have none.
    No,
}

/// How the configuration wants the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Terminated where a secret is at hand, else relayed.
    Auto,
    /// Terminated; who has no secret is refused as an unknown user would be.
    Terminate,
    /// Relayed.
    Relay,
}

/// Whether a weak demand of the server may be met on behalf of an application that proved itself by SCRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// It may.
    Yes,
    /// It may not.
    No,
}

/// What the configuration accepts to be relayed, besides SCRAM. An exception by destination and role is part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Servers that let clients in without a secret.
    pub trust: bool,
    /// Servers that take the agent's certificate for the application's word.
    pub cert: bool,
    /// MD5 digests.
    pub md5: bool,
    /// Passwords in clear text.
    pub password: bool,
    /// GSSAPI.
    pub gssapi: bool,
    /// SSPI.
    pub sspi: bool,
    /// OAUTHBEARER.
    pub oauthbearer: bool,
}

impl Accepted {
    /// Everything: `auth.require = "any"`.
    pub const ANY: Self = Self {
        trust: true,
        cert: true,
        md5: true,
        password: true,
        gssapi: true,
        sspi: true,
        oauthbearer: true,
    };

    fn accepts(self, demand: Demand) -> bool {
        match demand {
            Demand::Nothing => self.trust,
            Demand::Certificate => self.cert,
            Demand::Cleartext => self.password,
            Demand::Md5 { salt: _ } => self.md5,
            Demand::Gss => self.gssapi,
            Demand::Sspi => self.sspi,
            Demand::Scram { plain: _, plus: _ } => true,
            Demand::Oauth => self.oauthbearer,
            Demand::OtherSasl | Demand::Obsolete => false,
        }
    }
}

/// What the agent has of a role's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// Nothing.
    Absent,
    /// The verifier that the server has: whoever proves itself gives us what the server wants.
    Shared,
    /// A verifier of the application, and a way of our own to log in.
    Mapped,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// The application proves itself to us by SCRAM, and we prove ourselves to the server by SCRAM.
    Terminate,
    /// The application proves itself to us by SCRAM; the server gets what it asks for, which may be nothing.
    Prove,
    /// The application runs an exchange that cannot succeed, as for an unknown user.
    Pretend,
    /// Messages pass.
    Relay,
}

/// Whether a secret could change what is done, so that it is worth being looked for.
pub fn wants_secret(demand: Demand, mode: Mode, upgrade: Upgrade) -> bool {
    match (mode, demand) {
        (Mode::Relay, _) => false,
        (_, Demand::Scram { .. } | Demand::Certificate) => true,
        (_, Demand::Nothing | Demand::Cleartext | Demand::Md5 { .. }) => upgrade == Upgrade::Yes,
        (_, Demand::Gss | Demand::Sspi | Demand::Oauth | Demand::OtherSasl | Demand::Obsolete) => {
            false
        }
    }
}

/// The table.
///
/// Errors: [`Refusal::Method`] for what is not accepted.
pub fn course(
    demand: Demand,
    mode: Mode,
    upgrade: Upgrade,
    secret: Secret,
    accepted: Accepted,
) -> Result<Course, Refusal> {
    match (demand, secret) {
        (Demand::Scram { .. }, Secret::Shared | Secret::Mapped) => return Ok(Course::Terminate),
        (Demand::Scram { .. }, Secret::Absent) => {
            return Ok(match mode {
                Mode::Terminate => Course::Pretend,
                Mode::Auto | Mode::Relay => Course::Relay,
            });
        }
        (Demand::Certificate, Secret::Shared | Secret::Mapped) => return Ok(Course::Prove),
        (Demand::Nothing, Secret::Shared | Secret::Mapped) if upgrade == Upgrade::Yes => {
            return Ok(Course::Prove);
        }
        // The server's verifier gives no password: only an account of ours has one.
        (Demand::Cleartext | Demand::Md5 { .. }, Secret::Mapped) if upgrade == Upgrade::Yes => {
            return Ok(Course::Prove);
        }
        _ => {}
    }
    match (accepted.accepts(demand), mode, secret) {
        (true, _, _) => Ok(Course::Relay),
        // Who has a secret would be asked to prove it: so is who has none.
        (false, Mode::Terminate, Secret::Absent) if wants_secret(demand, mode, upgrade) => {
            Ok(Course::Pretend)
        }
        (false, _, _) => Err(Refusal::Method(demand)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAM: Demand = Demand::Scram { plain: Offered::Yes, plus: Offered::Yes };
    const MD5: Demand = Demand::Md5 { salt: [1, 2, 3, 4] };
    const ALL: [Demand; 10] = [
        Demand::Nothing,
        Demand::Certificate,
        Demand::Cleartext,
        MD5,
        Demand::Gss,
        Demand::Sspi,
        SCRAM,
        Demand::Oauth,
        Demand::OtherSasl,
        Demand::Obsolete,
    ];
    const SECRETS: [Secret; 3] = [Secret::Absent, Secret::Shared, Secret::Mapped];
    const MODES: [Mode; 3] = [Mode::Auto, Mode::Terminate, Mode::Relay];
    const UPGRADES: [Upgrade; 2] = [Upgrade::Yes, Upgrade::No];

    #[test]
    fn nothing_but_scram_is_relayed_unless_accepted_by_name() {
        for demand in ALL {
            for mode in MODES {
                for upgrade in UPGRADES {
                    for secret in SECRETS {
                        let found = course(demand, mode, upgrade, secret, Accepted::default());
                        let relayed = found == Ok(Course::Relay);
                        let scram = demand == SCRAM && secret == Secret::Absent;
                        assert_eq!(relayed, scram && mode != Mode::Terminate, "{demand:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn weak_demands_are_met_only_for_who_proved_itself_and_with_upgrade() {
        for demand in [Demand::Nothing, Demand::Cleartext, MD5] {
            let with =
                |upgrade, secret| course(demand, Mode::Auto, upgrade, secret, Accepted::default());
            assert_eq!(with(Upgrade::Yes, Secret::Mapped), Ok(Course::Prove));
            assert_eq!(with(Upgrade::No, Secret::Mapped), Err(Refusal::Method(demand)));
            assert_eq!(with(Upgrade::Yes, Secret::Absent), Err(Refusal::Method(demand)));
            let shared = with(Upgrade::Yes, Secret::Shared);
            // A verifier proves the application, but is no password.
            assert_eq!(shared.is_ok(), demand == Demand::Nothing);
        }
    }

    #[test]
    fn upgrade_is_preferred_to_an_exception() {
        for demand in [Demand::Nothing, Demand::Cleartext, MD5, Demand::Certificate] {
            let found = course(demand, Mode::Auto, Upgrade::Yes, Secret::Mapped, Accepted::ANY);
            assert_eq!(found, Ok(Course::Prove));
        }
    }

    #[test]
    fn unknown_methods_pass_under_no_setting() {
        for demand in [Demand::OtherSasl, Demand::Obsolete] {
            for secret in SECRETS {
                let found = course(demand, Mode::Auto, Upgrade::Yes, secret, Accepted::ANY);
                assert_eq!(found, Err(Refusal::Method(demand)));
            }
        }
    }

    #[test]
    fn who_has_no_secret_gets_an_exchange_that_fails() {
        let found =
            course(SCRAM, Mode::Terminate, Upgrade::No, Secret::Absent, Accepted::default());
        assert_eq!(found, Ok(Course::Pretend));
    }
}
