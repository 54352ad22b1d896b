//! The application's direction.

use super::course::{Demand, OAUTHBEARER, Offered};
use super::{
    Channel, Event, Handshake, HandshakeError, Login, Proven, Refusal, Relaying, Step, Then, Turn,
};
use crate::pg::backend::{Authentication, Backend};
use crate::pg::codec::{HEADER_BYTES, Header};
use crate::pg::error::{Error, SequenceFault, Side};
use crate::pg::frontend::{self, SaslInitialResponse};
use crate::pg::scram::{self, Gs2Flag, Initial};

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
                self.to_server.extend_from_slice(frame);
                self.step = Step::Relaying(relaying, Turn::Server);
                Ok(())
            }
            _ => unreachable!("`wants_client` lists the steps that take a message"),
        }
    }

    /// A message of the application that goes to the server: SCRAM must begin in a way that can succeed.
    fn check_relayed(&self, relaying: Relaying, body: &[u8]) -> Result<Relaying, HandshakeError> {
        let Relaying::Scram { begun: Offered::No, plus, signed } = relaying else {
            return Ok(relaying);
        };
        let begun = Relaying::Scram { begun: Offered::Yes, plus, signed };
        let initial = SaslInitialResponse::read(body).map_err(Error::client)?;
        if initial.mechanism == OAUTHBEARER {
            return Ok(Relaying::Oauth);
        }
        if initial.mechanism != scram::PLAIN {
            // Another of the mechanisms that were left in the list; the server judges it.
            return Ok(begun);
        }
        let flag = Gs2Flag::of(initial.data.unwrap_or_default());
        match flag.map_err(HandshakeError::Application)? {
            Gs2Flag::NotOffered
                if plus == Offered::Yes && matches!(self.terms.client_leg, Channel::Tls(_)) =>
            {
                Err(Refusal::RelayedOverTwoChannels.into())
            }
            Gs2Flag::NotSupported | Gs2Flag::NotOffered | Gs2Flag::Used(_) => Ok(begun),
        }
    }

    fn challenge_client(&mut self, data: &[u8]) {
        self.tell_client(&Backend::Authentication(Authentication::SaslContinue(data)));
    }
}
