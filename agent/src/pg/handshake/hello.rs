//! The startup packet as it came, and as the server gets it.

use crate::pg::codec::WriteError;
use crate::pg::startup::{self, Parameters};

/// Newest minor version of protocol 3 that we speak.
pub const MINOR_MAX: u16 = 2;
/// Names of options of the protocol begin so; they are no settings.
const PROTOCOL_OPTION: &[u8] = b"_pq_.";
/// Longest `application_name` that a server keeps, in bytes: `NAMEDATALEN` - 1.
pub const APPLICATION_NAME_BYTES_MAX: usize = 63;

/// What the application asked for, and what we ask for in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    asked_minor: u16,
    asked_options: Vec<Box<[u8]>>,
    minor: u16,
    parameters: Parameters,
    stamp: Option<Stamp>,
}

/// An `application_name` with the process behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// What the application calls itself, empty if nothing.
    original: Box<[u8]>,
    /// What the server is told.
    stamped: Box<[u8]>,
}

impl Stamp {
    /// Puts `origin` (process and container) behind the name. Both are shortened so that the whole fits into what a server keeps,
    /// the origin at the cost of the name; what is not printable ASCII becomes `?`, as in the server.
    pub fn new(original: &[u8], origin: &str) -> Self {
        let origin = origin.as_bytes();
        let origin = &origin[..origin.len().min(APPLICATION_NAME_BYTES_MAX - 2)];
        // What two brackets and the space before them leave: cut further, a process number would be another process.
        let room = (APPLICATION_NAME_BYTES_MAX - origin.len()).saturating_sub(3);
        let name = &original[..original.len().min(room)];
        let parts = [name, if name.is_empty() { b"" } else { b" " }, b"[", origin, b"]"];
        let mut stamped = parts.concat();
        for byte in &mut stamped {
            if !(b' '..=b'~').contains(byte) {
                *byte = b'?';
            }
        }
        Self { original: original.into(), stamped: stamped.into() }
    }
}

impl Hello {
    /// `login` takes the place of `user`; options of the protocol are none of ours and are not passed on.
    pub fn new(minor: u16, parameters: &Parameters, login: &[u8], stamp: Option<Stamp>) -> Self {
        let is_option = |name: &[u8]| name.starts_with(PROTOCOL_OPTION);
        let asked_options = parameters.iter().map(|(name, _)| name).filter(|name| is_option(name));
        let asked_options = asked_options.map(Box::from).collect();
        let mut passed: Vec<(&[u8], &[u8])> = Vec::new();
        let stamped = stamp.as_ref().map(|stamp| stamp.stamped.as_ref());
        let user = parameters.value(b"user").unwrap_or_default();
        for (name, value) in parameters.iter().filter(|(name, _)| !is_option(name)) {
            passed.push(match name {
                b"user" => (name, login),
                b"application_name" => (name, stamped.unwrap_or(value)),
                _ => (name, value),
            });
        }
        if let Some(stamped) = stamped
            && parameters.value(b"application_name").is_none()
        {
            passed.push((b"application_name", stamped));
        }
        // Without a name the database is called as the user, whom the server must not take the login for.
        if login != user && parameters.value(b"database").is_none_or(<[u8]>::is_empty) {
            passed.retain(|(name, _)| *name != b"database");
            passed.push((b"database", user));
        }
        Self {
            asked_minor: minor,
            asked_options,
            minor: minor.min(MINOR_MAX),
            parameters: passed.into_iter().collect(),
            stamp,
        }
    }

    /// Appends the packet for the server.
    ///
    /// Errors: when it is too long with what was added.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        startup::write_startup(out, self.minor, &self.parameters)
    }

    /// Role that the server is told.
    pub fn login(&self) -> &[u8] {
        self.parameters.value(b"user").unwrap_or_default()
    }

    /// A setting's value as the application expects it: its own name where the server has ours.
    pub fn told<'v>(&'v self, name: &[u8], value: &'v [u8]) -> &'v [u8] {
        match &self.stamp {
            Some(stamp) if name == b"application_name" && value == &*stamp.stamped => {
                &stamp.original
            }
            _ => value,
        }
    }

    /// What `NegotiateProtocolVersion` has to tell the application: newest version, and options that nobody knows. `None`: it
    /// got what it asked for. `server` is what the server said, if it did.
    pub fn negotiated(&self, server: Option<u32>) -> Option<(u32, &[Box<[u8]>])> {
        let ours = u32::from(3_u16) << 16 | u32::from(MINOR_MAX);
        match server {
            Some(newest) => Some((newest, &self.asked_options)),
            None if self.asked_minor > MINOR_MAX || !self.asked_options.is_empty() => {
                let newest = if self.asked_minor > MINOR_MAX {
                    ours
                } else {
                    3 << 16 | u32::from(self.minor)
                };
                Some((newest, &self.asked_options))
            }
            None => None,
        }
    }
}
