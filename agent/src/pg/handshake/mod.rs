//! The start-up phase behind the startup packet, until the server takes requests.
//!
//! Two conversations that share one fate: the application's with us, and ours with the server. What the server asks for
//! decides how they go together ([`course`]); nothing the application sends reaches the server unless this machine wrote it
//! there, and the bytes behind belong to a [`Session`](crate::pg::Session), which asks for an [`Authenticated`].
//!
//! ```text
//!                        R ask                     terminated, same secret
//!   Started ───────────────────► Wanting ─────► Comparing ──R11──► Initial ─p─► Final ─p─► Answered ─R12─► Content ─R0─┐
//!      │  credentials are looked for │ └──────► Initial ─p─► Final ─p─► Beginning ─R11─► KeysWanted ─► Answered        │
//!      │  (terminated, account)      │                          └─────► PasswordWanted ─► Content ────────────────R0──►┤
//!      └─ E ─► Over                  └──────► Relaying ─────────────────────────────────────────────────────────R0──►│
//!                                                                                   Accepted ◄───────────────────────────┘
//!                                                                                      │ S* K N*
//!                                                                                      └── Z ──► Ready
//! ```
//!
//! With a verifier that the server has too, our own exchange with the server begins first, as far as its challenge: its salt
//! says whether the verifier is still the server's before the application is asked for anything.
//!
//! Source: PostgreSQL documentation, "Message Flow" ("Start-up"), "SASL Authentication"; `src/backend/libpq/auth.c`.

mod back;
pub mod course;
mod front;
pub mod hello;
mod refusal;
#[cfg(test)]
pub(crate) mod tests;

use std::{collections::VecDeque, sync::Arc};

use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use self::course::{Accepted, CertificateGiven, Demand, Mode, Offered, Secret, Upgrade};
pub use self::{
    hello::{Hello, Stamp},
    refusal::{HandshakeError, Refusal},
};
use super::{
    backend::{Authentication, Backend},
    codec::WriteError,
    list::Terminated,
    scram::{self, ClientBinding, EndPoint, Keys, Nonce, Offer, Verifier},
    session::CancelKey,
};

/// How a channel is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// Clear text.
    Clear,
    /// TLS; what SCRAM can bind to, where the certificate's signature defines it.
    Tls(Option<EndPoint>),
}

/// What is wanted of channel binding on one leg.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Binding {
    /// Never.
    Disable,
    /// Where it can be had.
    #[default]
    Prefer,
    /// Or nothing.
    Require,
}

/// Our connection to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLeg {
    /// Its protection.
    pub channel: Channel,
    /// Whether it took a certificate of ours.
    pub certificate: CertificateGiven,
}

/// Random bytes, each used once.
pub struct Random {
    /// For the exchange with the application.
    pub client_nonce: [u8; 18],
    /// For the exchange with the server.
    pub server_nonce: [u8; 18],
    /// The key that the application gets, as long as the server's: 4 to 256 bytes.
    pub cancel_key: Zeroizing<[u8; 256]>,
    /// Of the agent's run: what unknown users' salts are made of.
    pub mock_seed: Arc<Zeroizing<[u8; 32]>>,
}

/// Everything that is known when the startup packet is with the server.
pub struct Terms {
    /// The role that the application named.
    pub user: Box<[u8]>,
    /// The startup packet, both as it came and as the server got it.
    pub hello: Hello,
    /// The application's leg.
    pub client_leg: Channel,
    /// Channel binding there.
    pub client_binding: Binding,
    /// The server's leg.
    pub server_leg: ServerLeg,
    /// Channel binding there.
    pub server_binding: Binding,
    /// How the exchange goes.
    pub mode: Mode,
    /// Whether weak demands are met for who proved itself.
    pub upgrade: Upgrade,
    /// What may be relayed.
    pub accepted: Accepted,
    /// Random bytes.
    pub random: Random,
}

/// What is at hand of the role's secret.
pub enum Credentials {
    /// Nothing.
    Absent,
    /// The verifier that the server has, too.
    Shared(Arc<Verifier>),
    /// The application's own, and an account of ours to log in with.
    Account {
        /// What the application proves itself by.
        application: Arc<Verifier>,
    },
}

impl Credentials {
    fn secret(&self) -> Secret {
        match self {
            Self::Absent => Secret::Absent,
            Self::Shared(_) => Secret::Shared,
            Self::Account { application: _ } => Secret::Mapped,
        }
    }
}

/// Somebody proved to be who it says, to us or to the server: the only way to a [`Session`](crate::pg::Session).
///
/// Made in one place, behind the server's `AuthenticationOk`, with what led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authenticated {
    how: How,
}

/// What led to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The application proved itself to us, and we to the server by what it asked for.
    Terminated {
        /// What the server asked for.
        demand: Demand,
        /// Whether another account was used than the application's own.
        login: Login,
        /// Whether the application bound the channel.
        client_bound: Offered,
        /// Whether we did towards the server.
        server_bound: Offered,
    },
    /// The application answered the server through us.
    Relayed {
        /// What the server asked for.
        demand: Demand,
    },
}

/// As whom we are with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// With the application's own secret.
    Own,
    /// With an account of the configuration.
    Account,
}

impl Authenticated {
    /// What led to it.
    pub fn how(self) -> How {
        self.how
    }
}

/// What a driver learns, and what it is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The server's demand is known: for the record.
    Demand(Demand),
    /// Wanted: [`Handshake::handle_credentials`].
    CredentialsWanted,
    /// The verifier is not the server's (any more). Wanted: [`Handshake::handle_credentials`] with another.
    VerifierStale,
    /// Wanted: [`Handshake::handle_keys`], for the account's password.
    KeysWanted {
        /// The server's salt.
        salt: Vec<u8>,
        /// The server's iteration count, between the bounds that `scram` sets.
        iterations: u32,
    },
    /// Wanted: [`Handshake::handle_password`].
    PasswordWanted,
    /// The server refused what we gave for the account (SQLSTATE class 28). Wanted: [`Handshake::restart`] on a new
    /// connection, or [`Handshake::give_up`]. Once at most.
    AccountRefused,
    /// The server speaks an older protocol than asked for: the minor version that counts.
    NegotiatedMinor(u16),
    /// Somebody is authenticated.
    Authenticated(How),
    /// A setting's value, as the application is told.
    ParameterStatus {
        /// Setting.
        name: Box<[u8]>,
        /// Value.
        value: Box<[u8]>,
    },
    /// What cancels the server's work, and what the application was given instead.
    BackendKeyData {
        /// Process number of the server.
        pid: u32,
        /// The server's.
        server_key: CancelKey,
        /// The application's.
        client_key: CancelKey,
    },
    /// The server reported an error that ends the connection; it is among what goes to the client.
    ServerError {
        /// Code, if it gave one.
        sqlstate: Option<[u8; 5]>,
        /// Whose failure it is.
        blame: Blame,
    },
    /// The client said goodbye.
    Terminate,
    /// The server takes requests. What tells the client so is the last of what goes to it: take [`Handshake::finish`].
    Ready,
}

/// Whose failure an error of the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The application's: what it answered was not accepted (SQLSTATE class 28).
    Application,
    /// Nobody's who could have guessed.
    Nobody,
}

/// A handshake under way.
///
/// Order of calls: bytes of either side go to `handle_frontend` and `handle_backend`, which say how many they took; the rest
/// is given again, with more behind it, when anything changed. After each call take all events and answer what is wanted, send
/// what [`Handshake::for_client`] and [`Handshake::for_server`] hold. After an error send what is held and then its reply.
pub struct Handshake {
    terms: Terms,
    step: Step,
    /// The application's part is done: what it is told when the server's is, too.
    proven: Option<Proven>,
    /// What the server asked for, once it did.
    demand: Option<Demand>,
    /// Whether we bound the server's channel.
    server_bound: Offered,
    /// Whether an account may be tried again.
    retry: Retry,
    negotiated: Negotiated,
    authenticated: Option<Authenticated>,
    /// The server's demand as it came, until it is passed on.
    asked: Vec<u8>,
    to_client: Vec<u8>,
    /// May hold proofs and passwords.
    to_server: Zeroizing<Vec<u8>>,
    events: VecDeque<Event>,
}

/// Version negotiation with the client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Negotiated {
    /// Not said yet; what the server said, if it did.
    Open(Option<u32>),
    /// Said, or nothing to say.
    Done,
}

/// Whether an account that the server refused may be tried once more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Retry {
    Open,
    Used,
}

struct Proven {
    scram: scram::Proven,
    login: Login,
    bound: Offered,
}

enum Step {
    /// The server owes its demand.
    Started,
    /// The driver owes credentials.
    Wanting(Demand),
    /// The server owes its challenge, whose salt is compared.
    Comparing { verifier: Arc<Verifier>, client: scram::Client, refetched: Refetched },
    /// The same for a role without a secret, of which nothing will be proven.
    Pretending(scram::Client),
    /// The driver owes another verifier.
    Stale(scram::Challenge),
    /// The application owes the beginning of its exchange.
    Initial(Box<scram::Server>, Then),
    /// The application was given an empty challenge and owes what it left out.
    First(Box<scram::AwaitingFirst>, Then),
    /// The application owes its proof.
    Final(Box<scram::AwaitingFinal>, Then),
    /// The server owes its challenge for the account.
    Beginning(scram::Client),
    /// The driver owes keys for this challenge.
    KeysWanted(scram::Challenge),
    /// The driver owes the account's password.
    PasswordWanted(Demand),
    /// The server owes its signature.
    Answered(scram::AwaitingServer),
    /// The server owes its `AuthenticationOk`.
    Content,
    /// Messages pass.
    Relaying(Relaying, Turn),
    /// The driver decides on another attempt; the server's error.
    AccountRefused(Vec<u8>),
    /// The server prepares the session.
    Accepted,
    /// It takes requests.
    Ready,
    /// The server refused: what it still says passes.
    Over,
    /// An error was returned, or a step is being made.
    Broken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Refetched {
    No,
    Yes,
}

/// What is done when the application has proven itself.
enum Then {
    /// The server's challenge is answered with the application's own key.
    Answer(scram::Challenge, Arc<Verifier>),
    /// The account is logged in as the server asked for.
    Login,
    /// The server is content already.
    Accept,
    /// Nobody can have proven that: the verifier was made up.
    Nobody,
}

/// What passes between the two.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Relaying {
    /// SCRAM; whether the client began, and whether the server signed.
    Scram { begun: Begun, plus: Offered, oauth: Offered, signed: Offered },
    /// OAUTHBEARER; whether the client chose it.
    Oauth { begun: Begun },
    /// One message from the client.
    Password(Demand),
    /// GSSAPI or SSPI.
    Gss(Demand),
}

/// How far the client's first message is in a relayed exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    No,
    /// It named the mechanism and left out its data.
    Empty,
    Yes,
}

/// Whose message may come in a relayed exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Client,
    Server,
}

impl Handshake {
    /// The startup packet of `terms.hello` is with the server.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            step: Step::Started,
            proven: None,
            demand: None,
            server_bound: Offered::No,
            retry: Retry::Open,
            negotiated: Negotiated::Open(None),
            authenticated: None,
            asked: Vec::new(),
            to_client: Vec::new(),
            to_server: Zeroizing::new(Vec::new()),
            events: VecDeque::new(),
        }
    }

    /// Oldest event not taken yet.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes what is to be sent to the client.
    pub fn for_client(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_client)
    }

    /// Takes what is to be sent to the server. It may be a proof or a password.
    pub fn for_server(&mut self) -> Zeroizing<Vec<u8>> {
        std::mem::take(&mut self.to_server)
    }

    /// The role that the application named.
    pub fn user(&self) -> &[u8] {
        &self.terms.user
    }

    /// Whether the server ended it by an error of its own: what it says until it closes passes.
    pub fn is_over(&self) -> bool {
        matches!(self.step, Step::Over)
    }

    /// The end of a handshake that is [`Event::Ready`]; `None` of any other.
    pub fn finish(self) -> Option<Authenticated> {
        match self.step {
            Step::Ready => self.authenticated,
            _ => None,
        }
    }

    /// Answers [`Event::CredentialsWanted`] and [`Event::VerifierStale`]; ignored when nothing is wanted.
    pub fn handle_credentials(&mut self, credentials: Credentials) -> Result<(), HandshakeError> {
        match std::mem::replace(&mut self.step, Step::Broken) {
            Step::Wanting(demand) => self.take_course(demand, credentials),
            Step::Stale(challenge) => match credentials {
                Credentials::Shared(verifier) => self.compare(challenge, verifier, Refetched::Yes),
                Credentials::Absent | Credentials::Account { application: _ } => {
                    Err(Refusal::StaleVerifier.into())
                }
            },
            step => {
                self.step = step;
                Ok(())
            }
        }
    }

    /// Answers [`Event::KeysWanted`].
    pub fn handle_keys(&mut self, keys: &Keys) {
        match std::mem::replace(&mut self.step, Step::Broken) {
            Step::KeysWanted(challenge) => self.answer(challenge, keys),
            step => self.step = step,
        }
    }

    /// Answers [`Event::PasswordWanted`]. `None`: there is none.
    ///
    /// Errors: [`Refusal::AccountWithoutPassword`].
    pub fn handle_password(&mut self, password: Option<&[u8]>) -> Result<(), HandshakeError> {
        let Step::PasswordWanted(demand) = self.step else { return Ok(()) };
        let password = password.ok_or(Refusal::AccountWithoutPassword)?;
        back::write_password(&mut self.to_server, demand, self.terms.hello.login(), password)
            .map_err(|_: WriteError| Refusal::AccountWithoutPassword)?;
        self.step = Step::Content;
        Ok(())
    }

    /// Answers [`Event::AccountRefused`]: the startup packet is with the server again, on another connection.
    pub fn restart(&mut self, server_leg: ServerLeg, nonce: [u8; 18]) {
        if matches!(self.step, Step::AccountRefused(_)) {
            self.terms.server_leg = server_leg;
            self.terms.random.server_nonce = nonce;
            self.step = Step::Started;
        }
    }

    /// Answers [`Event::AccountRefused`]: the application hears what the server said.
    pub fn give_up(&mut self) {
        if let Step::AccountRefused(frame) = &mut self.step {
            let sqlstate =
                super::backend::ErrorHead::read(&frame[super::codec::HEADER_BYTES..]).sqlstate;
            self.to_client.append(frame);
            self.events.push_back(Event::ServerError { sqlstate, blame: Blame::Nobody });
            self.step = Step::Over;
        }
    }

    /// Begins what the table says.
    fn take_course(
        &mut self,
        demand: Demand,
        credentials: Credentials,
    ) -> Result<(), HandshakeError> {
        let terms = &self.terms;
        let required = [terms.client_binding, terms.server_binding].map(|b| b == Binding::Require);
        let secret = credentials.secret();
        let course = course::course(demand, terms.mode, terms.upgrade, secret, terms.accepted)?;
        match (course, required) {
            (course::Course::Relay, [true, _] | [_, true]) => {
                return Err(Refusal::RelayedWithoutBinding.into());
            }
            (course::Course::Prove, [_, true]) => return Err(Refusal::ServerWithoutBinding.into()),
            _ => {}
        }
        match (course, credentials) {
            // Asked once more would be twice too often: a second attempt is for the account that proved itself.
            (_, Credentials::Absent | Credentials::Shared(_)) if self.proven.is_some() => {
                Err(Refusal::StaleVerifier.into())
            }
            (course::Course::Relay, _) => self.relay(demand),
            (course::Course::Pretend, _) if !matches!(demand, Demand::Scram { .. }) => {
                let (seed, user) = (&self.terms.random.mock_seed, &self.terms.user);
                self.ask_application(Arc::new(Verifier::mock(seed, user)), Then::Nobody)
            }
            (course::Course::Pretend, _) | (_, Credentials::Absent) => {
                // The server is asked for its challenge as for any role: what it says of unknown ones is what they hear.
                let client = self.begin_with_server(demand)?;
                self.step = Step::Pretending(client);
                Ok(())
            }
            (course::Course::Terminate, Credentials::Shared(verifier)) => {
                let client = self.begin_with_server(demand)?;
                self.step = Step::Comparing { verifier, client, refetched: Refetched::No };
                Ok(())
            }
            (course::Course::Prove, Credentials::Shared(verifier)) => {
                self.ask_application(verifier, Then::Accept)
            }
            (_, Credentials::Account { application }) => match self.proven {
                Some(_) => self.log_in(Then::Login),
                None => self.ask_application(application, Then::Login),
            },
        }
    }

    /// Compares the server's challenge with what the application's proof can answer.
    fn compare(
        &mut self,
        challenge: scram::Challenge,
        verifier: Arc<Verifier>,
        refetched: Refetched,
    ) -> Result<(), HandshakeError> {
        if challenge.is_of(&verifier) {
            let then = Then::Answer(challenge, verifier.clone());
            return self.ask_application(verifier, then);
        }
        match refetched {
            Refetched::No => {
                self.events.push_back(Event::VerifierStale);
                self.step = Step::Stale(challenge);
                Ok(())
            }
            Refetched::Yes => Err(Refusal::StaleVerifier.into()),
        }
    }

    /// Asks the application for SCRAM.
    fn ask_application(
        &mut self,
        verifier: Arc<Verifier>,
        then: Then,
    ) -> Result<(), HandshakeError> {
        let offer = match (&self.terms.client_leg, self.terms.client_binding) {
            (Channel::Tls(Some(end_point)), Binding::Prefer) => Offer::Plus(end_point.clone()),
            (Channel::Tls(Some(end_point)), Binding::Require) => {
                Offer::PlusRequired(end_point.clone())
            }
            (Channel::Clear | Channel::Tls(None), Binding::Require) => {
                return Err(Refusal::ApplicationInClear.into());
            }
            (Channel::Clear | Channel::Tls(_), Binding::Disable | Binding::Prefer) => Offer::Plain,
        };
        let nonce = Nonce::from_random(self.terms.random.client_nonce);
        let mechanisms = Terminated::new(scram::Server::mechanisms(&offer).iter().copied());
        let ask = Authentication::Sasl(mechanisms.expect("names without zeros"));
        self.tell_client(&Backend::Authentication(ask));
        let server = scram::Server::new(verifier, offer, nonce);
        self.step = Step::Initial(Box::new(server), then);
        Ok(())
    }

    /// Sends the beginning of our exchange.
    fn begin_with_server(&mut self, demand: Demand) -> Result<scram::Client, HandshakeError> {
        let Demand::Scram { plain, plus } = demand else {
            unreachable!("only a demand for SCRAM leads here")
        };
        let terms = &self.terms;
        let binding = bind_to_server(&terms.server_leg.channel, terms.server_binding, plain, plus)?;
        self.server_bound = match binding {
            ClientBinding::EndPoint(_) => Offered::Yes,
            ClientBinding::NotOverTls
            | ClientBinding::Disabled
            | ClientBinding::NoHash
            | ClientBinding::NotOffered => Offered::No,
        };
        let nonce = Nonce::from_random(self.terms.random.server_nonce);
        let (client, mechanism, first) = scram::Client::new(binding, nonce);
        back::write_initial(&mut self.to_server, mechanism, &first);
        Ok(client)
    }

    /// The application is proven: our part with the server.
    fn log_in(&mut self, then: Then) -> Result<(), HandshakeError> {
        let demand = self.demand.expect("the server asked, or nobody would have been");
        match then {
            Then::Answer(challenge, verifier) => {
                let proven = self.proven.as_ref().expect("log_in comes behind the proof");
                let keys = Keys::recovered(proven.scram.client_key(), &verifier);
                self.answer(challenge, &keys);
            }
            Then::Login => match demand {
                Demand::Scram { .. } => {
                    let client = self.begin_with_server(demand)?;
                    self.step = Step::Beginning(client);
                }
                Demand::Cleartext | Demand::Md5 { .. } => {
                    self.events.push_back(Event::PasswordWanted);
                    self.step = Step::PasswordWanted(demand);
                }
                Demand::Nothing | Demand::Certificate => self.accept(),
                Demand::Gss
                | Demand::Sspi
                | Demand::Oauth
                | Demand::OtherSasl
                | Demand::Obsolete => {
                    return Err(Refusal::Method(demand).into());
                }
            },
            Then::Accept => self.accept(),
            Then::Nobody => return Err(Refusal::Method(demand).into()),
        }
        Ok(())
    }

    /// The server is content, and whoever had to prove something did.
    fn accept(&mut self) {
        let demand = self.demand.expect("the server asked before it accepted");
        let how = match self.proven.take() {
            Some(proven) => {
                let last = Authentication::SaslFinal(proven.scram.server_final());
                self.tell_client(&Backend::Authentication(last));
                let (login, server_bound) = (proven.login, self.server_bound);
                How::Terminated { demand, login, client_bound: proven.bound, server_bound }
            }
            None => How::Relayed { demand },
        };
        self.tell_client(&Backend::Authentication(Authentication::Ok));
        self.authenticated = Some(Authenticated { how });
        self.events.push_back(Event::Authenticated(how));
        self.step = Step::Accepted;
    }

    fn answer(&mut self, challenge: scram::Challenge, keys: &Keys) {
        let (awaiting, last) = challenge.answer(keys);
        back::write_response(&mut self.to_server, last.expose_secret());
        self.step = Step::Answered(awaiting);
    }

    fn tell_client(&mut self, message: &Backend<'_>) {
        message.write(&mut self.to_client).expect("what we say ourselves fits into a message");
    }
}

/// What our own exchange with a server says of channel binding.
///
/// Errors: [`Refusal::ServerWithoutBinding`] where it is required, or all that the server offers, and cannot be had.
pub fn bind_to_server(
    channel: &Channel,
    wanted: Binding,
    plain: Offered,
    plus: Offered,
) -> Result<ClientBinding, Refusal> {
    let binding = match (channel, wanted, plus) {
        (Channel::Tls(Some(end_point)), Binding::Prefer | Binding::Require, Offered::Yes) => {
            ClientBinding::EndPoint(end_point.clone())
        }
        (_, Binding::Require, _) => return Err(Refusal::ServerWithoutBinding),
        (_, Binding::Disable, _) => ClientBinding::Disabled,
        (Channel::Clear, Binding::Prefer, _) => ClientBinding::NotOverTls,
        (Channel::Tls(None), Binding::Prefer, Offered::Yes) => ClientBinding::NoHash,
        (Channel::Tls(_), Binding::Prefer, Offered::No) => ClientBinding::NotOffered,
    };
    match (plain, &binding) {
        (Offered::Yes, _) | (Offered::No, ClientBinding::EndPoint(_)) => Ok(binding),
        (Offered::No, _) => Err(Refusal::ServerWithoutBinding),
    }
}
