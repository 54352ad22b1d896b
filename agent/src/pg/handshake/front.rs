//! The application's direction.

use zeroize::Zeroizing;

use super::course::{Demand, OAUTHBEARER, Offered};
use super::{
    Begun, Channel, Event, Handshake, HandshakeError, Login, Proven, Refusal, Relaying, Step, Then,
    Turn,
};
use crate::pg::backend::{Authentication, Backend};
use crate::pg::codec::{HEADER_BYTES, Header};
use crate::pg::error::{Error, SequenceFault, Side};
use crate::pg::frontend::{self, SaslInitialResponse};
use crate::pg::scram::{self, Gs2Flag, Initial, ScramError};

impl Handshake {
    /// Looks at the client's bytes and says how many of them were taken. What comes before it is asked for is left alone, and
    /// so is what follows the handshake.
    ///
    /// Errors: end the handshake; see [`HandshakeError::reply`].
    pub fn handle_frontend(&mut self, input: &[u8]) -> Result<usize, HandshakeError> {
        let mut taken = 0;
        while self.wants_client() {
            let rest = &input[taken..];
            let Some(header) = Header::read(rest) else { break };
            match header.tag {
                b'p' => {}
                b'X' => {
                    self.events.push_back(Event::Terminate);
                    self.step = Step::Broken;
                    return Ok(input.len());
                }
                tag => {
                    let expected = self.asked_for();
                    let fault = SequenceFault::NotAuthenticationResponse { expected, tag };
                    return Err(Error::Sequence { side: Side::Client, fault }.into());
                }
            }
            let max = frontend::length_max(b'p').unwrap_or_default();
            let body = header.body_bytes(max).map_err(Error::client)? as usize;
            let Some(frame) = rest.get(..HEADER_BYTES + body) else { break };
            self.client_answered(frame)?;
            taken += frame.len();
        }
        Ok(taken)
    }

    /// Whether the next message of the application is waited for.
    pub fn wants_client(&self) -> bool {
        match self.step {
            Step::Initial(..)
            | Step::First(..)
            | Step::Final(..)
            | Step::Relaying(_, Turn::Client) => true,
            Step::Started
            | Step::Wanting(_)
            | Step::Comparing { .. }
            | Step::Pretending(_)
            | Step::Stale(_)
            | Step::Beginning(_)
            | Step::KeysWanted(_)
            | Step::PasswordWanted(_)
            | Step::Answered(_)
            | Step::Content
            | Step::Relaying(_, Turn::Server)
            | Step::AccountRefused(_)
            | Step::Accepted
            | Step::Ready
            | Step::Over
            | Step::Broken => false,
        }
    }

    /// What the application was asked for, in the server's words.
    fn asked_for(&self) -> &'static str {
        match self.step {
            Step::Relaying(Relaying::Password(_), _) => "password",
            Step::Relaying(Relaying::Gss(Demand::Sspi), _) => "SSPI",
            Step::Relaying(Relaying::Gss(_), _) => "GSS",
            _ => "SASL",
        }
    }

    fn client_answered(&mut self, frame: &[u8]) -> Result<(), HandshakeError> {
        let body = &frame[HEADER_BYTES..];
        match std::mem::replace(&mut self.step, Step::Broken) {
            Step::Initial(server, then) => {
                let initial = SaslInitialResponse::read(body).map_err(Error::client)?;
                let step = server.handle_initial(initial.mechanism, initial.data);
                match step.map_err(HandshakeError::Application)? {
                    Initial::Empty(awaiting) => {
                        self.challenge_client(b"");
                        self.step = Step::First(Box::new(awaiting), then);
                    }
                    Initial::Challenged(awaiting, first) => {
                        self.challenge_client(&first);
                        self.step = Step::Final(Box::new(awaiting), then);
                    }
                }
                Ok(())
            }
            Step::First(awaiting, then) => {
                let step = awaiting.handle_first(body);
                let (awaiting, first) = step.map_err(HandshakeError::Application)?;
                self.challenge_client(&first);
                self.step = Step::Final(Box::new(awaiting), then);
                Ok(())
            }
            Step::Final(awaiting, then) => {
                let scram = awaiting.handle_final(body).map_err(HandshakeError::Application)?;
                let bound = match scram.channel() {
                    scram::Channel::Bound => Offered::Yes,
                    scram::Channel::Unbound => Offered::No,
                };
                let login = match then {
                    Then::Login => Login::Account,
                    Then::Answer(..) | Then::Accept | Then::Nobody => Login::Own,
                };
                self.proven = Some(Proven { scram, login, bound });
                self.log_in(then)
            }
            Step::Relaying(relaying, Turn::Client) => {
                let relaying = self.check_relayed(relaying, body)?;
                grow(&mut self.to_server, frame);
                self.step = Step::Relaying(relaying, Turn::Server);
                Ok(())
            }
            _ => unreachable!("`wants_client` lists the steps that take a message"),
        }
    }

    /// A message of the application that goes to the server: an exchange must begin with what was left in the server's offer,
    /// and SCRAM in a way that can succeed.
    fn check_relayed(&self, relaying: Relaying, body: &[u8]) -> Result<Relaying, HandshakeError> {
        let malformed = |fault| HandshakeError::Protocol(Error::client(fault));
        let no_such = || HandshakeError::Application(ScramError::Mechanism);
        match relaying {
            Relaying::Scram { begun: Begun::No, plus, oauth, signed } => {
                let initial = SaslInitialResponse::read(body).map_err(malformed)?;
                match (initial.mechanism, oauth) {
                    (OAUTHBEARER, Offered::Yes) => {
                        return Ok(Relaying::Oauth { begun: Begun::Yes });
                    }
                    (scram::PLAIN, _) => {}
                    _ => return Err(no_such()),
                }
                let begun = match initial.data {
                    None => Begun::Empty,
                    Some(data) => self.check_flag(data, plus)?,
                };
                Ok(Relaying::Scram { begun, plus, oauth, signed })
            }
            Relaying::Scram { begun: Begun::Empty, plus, oauth, signed } => {
                let begun = self.check_flag(body, plus)?;
                Ok(Relaying::Scram { begun, plus, oauth, signed })
            }
            Relaying::Oauth { begun: Begun::No } => {
                let initial = SaslInitialResponse::read(body).map_err(malformed)?;
                match initial.mechanism == OAUTHBEARER {
                    true => Ok(Relaying::Oauth { begun: Begun::Yes }),
                    false => Err(no_such()),
                }
            }
            Relaying::Scram { begun: Begun::Yes, .. }
            | Relaying::Oauth { begun: Begun::Empty | Begun::Yes }
            | Relaying::Password(_)
            | Relaying::Gss(_) => Ok(relaying),
        }
    }

    fn check_flag(&self, data: &[u8], plus: Offered) -> Result<Begun, HandshakeError> {
        match Gs2Flag::of(data).map_err(HandshakeError::Application)? {
            Gs2Flag::NotOffered
                if plus == Offered::Yes && matches!(self.terms.client_leg, Channel::Tls(_)) =>
            {
                Err(Refusal::RelayedOverTwoChannels.into())
            }
            Gs2Flag::NotSupported | Gs2Flag::NotOffered | Gs2Flag::Used(_) => Ok(Begun::Yes),
        }
    }

    fn challenge_client(&mut self, data: &[u8]) {
        self.tell_client(&Backend::Authentication(Authentication::SaslContinue(data)));
    }
}

/// Appends without leaving a copy behind where the buffer moves: it may be a password.
fn grow(buffer: &mut Zeroizing<Vec<u8>>, bytes: &[u8]) {
    let needed = buffer.len() + bytes.len();
    if needed > buffer.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed));
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
    buffer.extend_from_slice(bytes);
}
