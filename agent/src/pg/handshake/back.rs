//! The server's direction.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::course::OAUTHBEARER;
use super::course::{Demand, Offered, wants_secret};
use super::{
    Begun, Blame, Channel, Event, Handshake, HandshakeError, Negotiated, Refusal, Relaying, Retry,
    Step, Then, Turn,
};
use crate::pg::backend::{Authentication, Backend, ErrorHead, TransactionStatus};
use crate::pg::codec::{BACKEND_SHORT_BYTES_MAX, HEADER_BYTES, Header, WriteError};
use crate::pg::error::{BytesFault, Error, SequenceFault, Side};
use crate::pg::frontend::{Frontend, SaslInitialResponse};
use crate::pg::list::Terminated;
use crate::pg::scram::{self, ScramError, Verifier};
use crate::pg::session::CancelKey;

/// Largest length field of authentication requests: a GSSAPI token of 64 KiB.
const AUTHENTICATION_ASKED_BYTES_MAX: u32 = 1 << 17;

impl Handshake {
    /// Looks at the server's bytes and says how many of them were taken. What comes while the application or the driver is
    /// waited for is left alone, except an error.
    ///
    /// Errors: end the handshake; see [`HandshakeError::reply`].
    pub fn handle_backend(&mut self, input: &[u8]) -> Result<usize, HandshakeError> {
        let mut taken = 0;
        loop {
            let rest = &input[taken..];
            match self.step {
                Step::Over => {
                    self.to_client.extend_from_slice(rest);
                    return Ok(input.len());
                }
                Step::Ready | Step::Broken | Step::AccountRefused(_) => return Ok(taken),
                _ => {}
            }
            let Some(header) = Header::read(rest) else { return Ok(taken) };
            if header.tag != b'E' && !self.wants_server() {
                return Ok(taken);
            }
            let max = match header.tag {
                b'R' => AUTHENTICATION_ASKED_BYTES_MAX,
                // A trigger at login may have much to say.
                b'E' | b'N' if matches!(self.step, Step::Accepted) => {
                    AUTHENTICATION_ASKED_BYTES_MAX
                }
                b'E' if header.length > BACKEND_SHORT_BYTES_MAX => {
                    return self.protocol_2(rest).map(|()| input.len());
                }
                b'E' | b'N' | b'S' | b'K' | b'v' | b'Z' | b'A' => BACKEND_SHORT_BYTES_MAX,
                tag => return Err(self.unexpected(tag)),
            };
            let body = header.body_bytes(max).map_err(Error::server)? as usize;
            let Some(frame) = rest.get(..HEADER_BYTES + body) else { return Ok(taken) };
            self.server_said(header.tag, frame)?;
            taken += frame.len();
        }
    }

    /// Whether the server's next message is looked at now.
    fn wants_server(&self) -> bool {
        match self.step {
            Step::Started
            | Step::Comparing { .. }
            | Step::Pretending(_)
            | Step::Beginning(_)
            | Step::Answered(_)
            | Step::Content
            | Step::Relaying(..)
            | Step::Accepted
            | Step::Over => true,
            Step::Wanting(_)
            | Step::Stale(_)
            | Step::Initial(..)
            | Step::First(..)
            | Step::Final(..)
            | Step::KeysWanted(_)
            | Step::PasswordWanted(_)
            | Step::AccountRefused(_)
            | Step::Ready
            | Step::Broken => false,
        }
    }

    /// A server that could not even start a process for us says so in the words of protocol 2: text up to a zero.
    fn protocol_2(&mut self, rest: &[u8]) -> Result<(), HandshakeError> {
        if !matches!(self.step, Step::Started) {
            let fault =
                BytesFault::Length { tag: b'E', found: u32::MAX, max: BACKEND_SHORT_BYTES_MAX };
            return Err(Error::server(fault).into());
        }
        self.to_client.extend_from_slice(rest);
        self.events.push_back(Event::ServerError { sqlstate: None, blame: Blame::Nobody });
        self.step = Step::Over;
        Ok(())
    }

    fn server_said(&mut self, tag: u8, frame: &[u8]) -> Result<(), HandshakeError> {
        let body = &frame[HEADER_BYTES..];
        if tag == b'E' {
            self.server_failed(frame);
            return Ok(());
        }
        let message = Backend::read(tag, body).map_err(Error::server)?;
        match (&message, &self.step) {
            (Backend::NegotiateProtocolVersion { newest, options: _ }, Step::Started) => {
                // Said once, and of the first connection.
                if self.negotiated == Negotiated::Open(None) {
                    self.negotiated = Negotiated::Open(Some(*newest));
                }
                return Ok(());
            }
            (Backend::Authentication(request), _) => {
                self.negotiate();
                return self.authentication(request, frame);
            }
            _ => self.negotiate(),
        }
        match (message, &self.step) {
            (Backend::NoticeResponse(_), _) => self.to_client.extend_from_slice(frame),
            (Backend::NotificationResponse { .. }, Step::Accepted) => {
                self.to_client.extend_from_slice(frame);
            }
            (Backend::ParameterStatus { name, value }, Step::Accepted) => {
                let told: Box<[u8]> = self.terms.hello.told(name, value).into();
                match *told == *value {
                    true => self.to_client.extend_from_slice(frame),
                    false => self.tell_client(&Backend::ParameterStatus { name, value: &told }),
                }
                let (name, value) = (name.into(), told);
                self.events.push_back(Event::ParameterStatus { name, value });
            }
            (Backend::BackendKeyData { pid, key }, Step::Accepted) => {
                let own = self.terms.random.cancel_key[..key.len()].to_vec();
                self.tell_client(&Backend::BackendKeyData { pid, key: &own });
                let (server_key, client_key) = (CancelKey(key.into()), CancelKey(own.into()));
                self.events.push_back(Event::BackendKeyData { pid, server_key, client_key });
            }
            (Backend::ReadyForQuery(TransactionStatus::Idle), Step::Accepted) => {
                self.to_client.extend_from_slice(frame);
                self.events.push_back(Event::Ready);
                self.step = Step::Ready;
            }
            _ => return Err(self.unexpected(tag)),
        }
        Ok(())
    }

    /// Tells the client what version of the protocol is spoken, when that is not the one it asked for.
    fn negotiate(&mut self) {
        let Negotiated::Open(server) = std::mem::replace(&mut self.negotiated, Negotiated::Done)
        else {
            return;
        };
        let Some((newest, options)) = self.terms.hello.negotiated(server) else { return };
        let options = options.iter().map(AsRef::as_ref).collect();
        let message = Backend::NegotiateProtocolVersion { newest, options };
        message.write(&mut self.to_client).expect("the names fitted into a startup packet");
        // The lower half is the minor version, also of servers that say the whole number.
        self.events.push_back(Event::NegotiatedMinor(newest as u16));
    }

    fn server_failed(&mut self, frame: &[u8]) {
        self.negotiate();
        let head = ErrorHead::read(&frame[HEADER_BYTES..]);
        if matches!(self.step, Step::Accepted) && !head.severity.ends_session() {
            self.to_client.extend_from_slice(frame);
            return;
        }
        let login = self.proven.as_ref().map(|proven| proven.login);
        let class_28 = head.sqlstate.is_some_and(|code| code.starts_with(b"28"));
        if login == Some(super::Login::Account) && class_28 && self.retry == Retry::Open {
            self.retry = Retry::Used;
            self.events.push_back(Event::AccountRefused);
            self.step = Step::AccountRefused(frame.to_vec());
            return;
        }
        // What an application answered through us, and was not accepted. PostgreSQL 18 ends the discovery of OAUTHBEARER so, too.
        let blame = match self.step {
            Step::Relaying(Relaying::Oauth { .. }, _) => Blame::Nobody,
            Step::Relaying(_, Turn::Server) if class_28 => Blame::Application,
            _ => Blame::Nobody,
        };
        self.to_client.extend_from_slice(frame);
        self.events.push_back(Event::ServerError { sqlstate: head.sqlstate, blame });
        self.step = Step::Over;
    }

    fn authentication(
        &mut self,
        request: &Authentication<'_>,
        frame: &[u8],
    ) -> Result<(), HandshakeError> {
        let step = std::mem::replace(&mut self.step, Step::Broken);
        match (step, request) {
            (Step::Started, request) => {
                let certificate = self.terms.server_leg.certificate;
                let demand =
                    Demand::of(request, certificate).ok_or_else(|| self.unexpected(b'R'))?;
                self.demanded(demand, frame)
            }
            (
                Step::Comparing { verifier, client, refetched },
                Authentication::SaslContinue(data),
            ) => {
                let challenge = client.handle_first(data).map_err(HandshakeError::Server)?;
                self.compare(challenge, verifier, refetched)
            }
            (Step::Pretending(client), Authentication::SaslContinue(data)) => {
                let challenge = client.handle_first(data).map_err(HandshakeError::Server)?;
                let (seed, user) = (&self.terms.random.mock_seed, &self.terms.user);
                let verifier = Verifier::mock_of(&challenge, seed, user);
                self.ask_application(Arc::new(verifier), Then::Nobody)
            }
            (Step::Beginning(client), Authentication::SaslContinue(data)) => {
                let challenge = client.handle_first(data).map_err(HandshakeError::Server)?;
                let (salt, iterations) = (challenge.salt().to_vec(), challenge.iterations());
                self.events.push_back(Event::KeysWanted { salt, iterations });
                self.step = Step::KeysWanted(challenge);
                Ok(())
            }
            (Step::Answered(awaiting), Authentication::SaslFinal(data)) => {
                awaiting.handle_final(data).map_err(HandshakeError::Server)?;
                self.step = Step::Content;
                Ok(())
            }
            // Accepted before it proved anything: not the server that has the secret.
            (
                Step::Comparing { .. }
                | Step::Pretending(_)
                | Step::Beginning(_)
                | Step::Answered(_),
                Authentication::Ok,
            ) => Err(HandshakeError::Server(ScramError::NotAuthenticated)),
            (Step::Content, Authentication::Ok) => {
                self.accept();
                Ok(())
            }
            (Step::Relaying(relaying, _), request) => self.relayed(relaying, request, frame),
            _ => Err(self.unexpected(b'R')),
        }
    }

    /// The server said what it wants.
    fn demanded(&mut self, demand: Demand, frame: &[u8]) -> Result<(), HandshakeError> {
        if let (Demand::Scram { plus: Offered::Yes, .. }, Channel::Clear) =
            (demand, &self.terms.server_leg.channel)
        {
            // Nothing can be bound there: not what a server says that has nothing to hide.
            return Err(HandshakeError::Server(ScramError::Mechanism));
        }
        self.demand = Some(demand);
        self.events.push_back(Event::Demand(demand));
        self.asked = frame.to_vec();
        let terms = &self.terms;
        if wants_secret(demand, terms.mode, terms.upgrade) {
            self.events.push_back(Event::CredentialsWanted);
            self.step = Step::Wanting(demand);
            return Ok(());
        }
        self.take_course(demand, super::Credentials::Absent)
    }

    /// Passes the server's demand on, and from here on what the two say.
    pub(super) fn relay(&mut self, demand: Demand) -> Result<(), HandshakeError> {
        let asked = std::mem::take(&mut self.asked);
        let relaying = match demand {
            Demand::Scram { plain: Offered::No, plus: _ } => {
                return Err(Refusal::RelayedWithoutBinding.into());
            }
            Demand::Scram { plain: Offered::Yes, plus } => {
                let oauth = self.offer_relayed(&asked)?;
                Relaying::Scram { begun: Begun::No, plus, oauth, signed: Offered::No }
            }
            Demand::Nothing | Demand::Certificate => {
                self.accept();
                return Ok(());
            }
            Demand::Cleartext | Demand::Md5 { salt: _ } => Relaying::Password(demand),
            Demand::Gss | Demand::Sspi => Relaying::Gss(demand),
            Demand::Oauth => {
                self.offer_relayed(&asked)?;
                Relaying::Oauth { begun: Begun::No }
            }
            Demand::OtherSasl | Demand::Obsolete => return Err(Refusal::Method(demand).into()),
        };
        if matches!(relaying, Relaying::Password(_) | Relaying::Gss(_)) {
            self.to_client.extend_from_slice(&asked);
        }
        self.step = Step::Relaying(relaying, Turn::Client);
        Ok(())
    }

    /// Offers what can be relayed: what the server offers without what binds to its channel, and without what is not accepted.
    /// Says whether OAUTHBEARER is among it.
    fn offer_relayed(&mut self, asked: &[u8]) -> Result<Offered, HandshakeError> {
        let read = Authentication::read(&asked[HEADER_BYTES..]).map_err(Error::server)?;
        let Authentication::Sasl(mechanisms) = read else { return Err(self.unexpected(b'R')) };
        let accepted = self.terms.accepted;
        let kept: Vec<&[u8]> = mechanisms
            .iter()
            .filter(|m| *m == scram::PLAIN || (*m == OAUTHBEARER && accepted.oauthbearer))
            .collect();
        let oauth = if kept.contains(&OAUTHBEARER) { Offered::Yes } else { Offered::No };
        if kept.len() == mechanisms.iter().count() {
            self.to_client.extend_from_slice(asked);
            return Ok(oauth);
        }
        let kept = Terminated::new(kept).map_err(|_| self.unexpected(b'R'))?;
        self.tell_client(&Backend::Authentication(Authentication::Sasl(kept)));
        Ok(oauth)
    }

    fn relayed(
        &mut self,
        relaying: Relaying,
        request: &Authentication<'_>,
        frame: &[u8],
    ) -> Result<(), HandshakeError> {
        let next = match (relaying, request) {
            (
                Relaying::Scram { begun: begun @ Begun::Yes, plus, oauth, signed: Offered::No },
                Authentication::SaslFinal(_),
            ) => {
                let relaying = Relaying::Scram { begun, plus, oauth, signed: Offered::Yes };
                Step::Relaying(relaying, Turn::Server)
            }
            // The answer to a first message without data.
            (Relaying::Scram { begun: Begun::Empty, .. }, Authentication::SaslContinue(b"")) => {
                Step::Relaying(relaying, Turn::Client)
            }
            (Relaying::Scram { .. }, Authentication::SaslContinue(data)) => {
                // Its first is checked; what follows in an exchange of SCRAM is `SASLFinal`.
                scram::check_server_first(data).map_err(HandshakeError::Server)?;
                Step::Relaying(relaying, Turn::Client)
            }
            (Relaying::Oauth { .. }, Authentication::SaslContinue(_))
            | (Relaying::Gss(_), Authentication::GssContinue(_)) => {
                Step::Relaying(relaying, Turn::Client)
            }
            // Accepted before it proved anything, which the application may not notice.
            (Relaying::Scram { signed: Offered::No, .. }, Authentication::Ok) => {
                return Err(HandshakeError::Server(ScramError::NotAuthenticated));
            }
            (
                Relaying::Scram { .. }
                | Relaying::Oauth { .. }
                | Relaying::Password(_)
                | Relaying::Gss(_),
                Authentication::Ok,
            ) => {
                self.accept();
                return Ok(());
            }
            _ => return Err(self.unexpected(b'R')),
        };
        self.to_client.extend_from_slice(frame);
        self.step = next;
        Ok(())
    }

    fn unexpected(&self, tag: u8) -> HandshakeError {
        let awaited = match self.step {
            Step::Accepted => "the start of the session",
            _ => "the startup packet",
        };
        let fault = SequenceFault::UnexpectedAnswer { tag, awaited };
        Error::Sequence { side: Side::Server, fault }.into()
    }
}

/// Appends a `SASLInitialResponse`.
pub(super) fn write_initial(out: &mut Vec<u8>, mechanism: &[u8], data: &[u8]) {
    let initial = SaslInitialResponse { mechanism, data: Some(data) };
    initial.write(out).expect("our own first message is short");
}

/// Appends a `SASLResponse`.
pub(super) fn write_response(out: &mut Vec<u8>, data: &[u8]) {
    Frontend::Authentication(data).write(out).expect("our own proof is short");
}

/// Appends a `PasswordMessage` with what `demand` asks for.
///
/// Errors: a password with a zero in it.
pub(super) fn write_password(
    out: &mut Vec<u8>,
    demand: Demand,
    user: &[u8],
    password: &[u8],
) -> Result<(), WriteError> {
    let mut body = match demand {
        Demand::Md5 { salt } => Zeroizing::new(md5_response(user, password, salt)),
        _ => Zeroizing::new(password.to_vec()),
    };
    if let Some(offset) = body.iter().position(|byte| *byte == 0) {
        return Err(WriteError::ZeroInString { offset });
    }
    body.push(0);
    Frontend::Authentication(&body).write(out)
}

/// `md5` and the digest of the digest of password and user, and the salt; all digests in hexadecimal digits.
/// (PostgreSQL documentation, "Message Flow", `AuthenticationMD5Password`)
fn md5_response(user: &[u8], password: &[u8], salt: [u8; 4]) -> Vec<u8> {
    use md5::{Digest, Md5};
    let inner = Zeroizing::new(hex::encode(
        Md5::new().chain_update(password).chain_update(user).finalize(),
    ));
    let outer = Md5::new().chain_update(inner.as_bytes()).chain_update(salt).finalize();
    format!("md5{}", hex::encode(outer)).into_bytes()
}
