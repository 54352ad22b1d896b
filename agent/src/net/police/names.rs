//! What names mean in one session: its own state, and the server's catalog as the session last knew it.

use std::sync::Arc;

use tracing::debug;

use super::{
    Shared,
    asking::{Asked, ToAsk},
    catalogs::Whose,
};
use crate::{
    audit::Now,
    catalog::{Meaning, SessionState, Snapshot, StateRow},
    pg::session::{Answer, Row},
    sql::{
        facts::{Encoding, Reading},
        lex::Strings,
    },
};

/// What names mean in the session.
pub(super) struct Names {
    pub(super) state: SessionState,
    pub(super) catalog: Option<Arc<Snapshot>>,
    whose: Whose,
    /// When the server was last asked, nanoseconds since boot.
    looked_at: Option<u64>,
    asked: Option<Asked>,
    /// To be asked as soon as the server rests: what the last answer left open.
    next: Option<Asked>,
    meaning: Option<Meaning>,
    /// What was sent since may have changed the meaning, or another catalog is in use.
    pub(super) touched: bool,
}

impl Names {
    pub(super) fn new(whose: Whose) -> Self {
        Self {
            state: SessionState::unknown(),
            catalog: None,
            whose,
            looked_at: None,
            asked: None,
            next: None,
            meaning: None,
            touched: true,
        }
    }

    /// How the server reads texts, as far as it is certain.
    pub(super) fn reading(&self) -> Reading {
        let readable = self.state.readable();
        Reading {
            encoding: match readable.utf8 {
                Some(true) => Encoding::Utf8,
                Some(false) | None => Encoding::Other,
            },
            strings: match readable.standard_strings {
                Some(true) => Strings::Standard,
                Some(false) | None => Strings::Unsure,
            },
        }
    }

    /// Whether names mean the same to all who share the catalog and the session's settings.
    pub(super) fn may_be_kept(&self) -> bool {
        self.meaning.is_some()
    }

    /// Whether names may mean something else than at the last look.
    pub(super) fn have_changed(&mut self) -> bool {
        if !std::mem::take(&mut self.touched) {
            return false;
        }
        let meaning = self.state.meaning();
        let changed = meaning != self.meaning;
        self.meaning = meaning;
        changed
    }

    /// What is to be asked before the next statement, now that the server rests.
    pub(super) fn question_due(&mut self, shared: &Shared, now: Now) -> Option<ToAsk> {
        if let Some(next) = self.next.take() {
            return Some(self.ask(next));
        }
        let age_max = shared.catalog_age_max.as_nanos() as u64;
        let fresh = |at: u64| now.boot.0.saturating_sub(at) < age_max;
        let current = self.looked_at.is_some_and(fresh);
        // Where it can't be read, it is tried again after a while.
        let wanted = self.state.wants_refresh() && self.catalog.is_some();
        (!current || wanted).then(|| self.ask(Asked::State))
    }

    /// The names are to be looked at anew.
    pub(super) fn refresh(&mut self) -> ToAsk {
        self.ask(Asked::State)
    }

    fn ask(&mut self, asked: Asked) -> ToAsk {
        self.asked = Some(asked);
        asked.question()
    }

    /// There is no answer. What names stand for is not known until it is tried again: whoever can keep the server from answering
    /// (a `statement_timeout` does) must not gain by it.
    pub(super) fn not_known(&mut self, now: Now) {
        (self.asked, self.next, self.catalog) = (None, None, None);
        self.looked_at = Some(now.boot.0);
        self.touched = true;
    }

    /// The server answered what it was asked. Returns whether another catalog is in use now.
    pub(super) fn answered(&mut self, answer: Answer, shared: &Shared, now: Now) -> bool {
        let Some(asked) = self.asked.take() else { return false };
        let before = self.catalog.clone();
        let rows = match answer.rows {
            Ok(rows) => rows,
            Err(why) => {
                debug!(?why, ?asked, "the catalog can't be read");
                self.not_known(now);
                return before.is_some();
            }
        };
        match asked {
            Asked::State => self.state_known(&rows, shared, now),
            Asked::Stamp => self.stamp_known(&rows, shared, now),
            Asked::Snapshot => self.snapshot_known(&rows, shared, now),
        }
        self.touched = true;
        before.as_ref().map(Arc::as_ptr) != self.catalog.as_ref().map(Arc::as_ptr)
    }

    fn state_known(&mut self, rows: &[Row], shared: &Shared, now: Now) {
        let Some(row) = rows.first().and_then(StateRow::read) else {
            debug!("the session's state is not as asked for");
            return self.not_known(now);
        };
        let horizon = row.horizon.clone();
        self.state.learned(row);
        match shared.catalogs.newest(&self.whose) {
            None => self.next = Some(Asked::Snapshot),
            Some(newest) if newest.epoch().still_at(&horizon) => self.use_catalog(newest, now),
            Some(_) => self.next = Some(Asked::Stamp),
        }
    }

    fn stamp_known(&mut self, rows: &[Row], shared: &Shared, now: Now) {
        let stamp = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
        match shared.catalogs.newest(&self.whose) {
            Some(newest) if stamp == Some(newest.epoch().stamp.as_bytes()) => {
                self.use_catalog(newest, now);
            }
            Some(_) | None => self.next = Some(Asked::Snapshot),
        }
    }

    fn snapshot_known(&mut self, rows: &[Row], shared: &Shared, now: Now) {
        match Snapshot::read(rows) {
            Ok(snapshot) => self.use_catalog(shared.catalogs.put(&self.whose, snapshot), now),
            Err(error) => {
                debug!(%error, "the catalog is not as asked for");
                self.not_known(now);
            }
        }
    }

    fn use_catalog(&mut self, catalog: Arc<Snapshot>, now: Now) {
        self.catalog = Some(catalog);
        self.looked_at = Some(now.boot.0);
        self.state.catalog_refreshed();
    }
}
