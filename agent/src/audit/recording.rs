//! Records on their way into the log.

use super::record::{Record, Stamp};
use super::salt::salt;
use super::store::{Class, NotRecorded, Put, Sink};

impl Sink {
    /// Puts a record in line. Never waits: whether it is durable is asked with the ticket.
    ///
    /// Errors: see [`NotRecorded`].
    pub fn record<'r>(
        &self,
        stamp: &Stamp,
        record: impl Into<Record<'r>>,
    ) -> Result<Put, NotRecorded> {
        self.record_beside(Class::Ordinary, stamp, record, &[])
    }

    /// The same for what may use the reserve: ends of sessions, failures.
    pub fn record_closing<'r>(
        &self,
        stamp: &Stamp,
        record: impl Into<Record<'r>>,
    ) -> Result<Put, NotRecorded> {
        self.record_beside(Class::Closing, stamp, record, &[])
    }

    /// The same with values that are held beside the entry.
    pub fn record_beside<'r>(
        &self,
        class: Class,
        stamp: &Stamp,
        record: impl Into<Record<'r>>,
        values: &[u8],
    ) -> Result<Put, NotRecorded> {
        let (record, salt) = (record.into(), salt());
        self.put(class, |out| record.write(stamp, &salt, out), values)
    }
}
