//! Records of the ledger as entries.

use super::{Coverage, Hooks, Named};
use crate::audit::cbor::Map;
use crate::audit::schema::f;

impl Coverage {
    pub(in crate::audit) fn fill(&self, entry: &mut Map<'_>) {
        entry.wall(f::SINCE, self.since);
        entry.uint(f::SEEN, self.seen);
        entry.uint(f::INTERCEPTED, self.intercepted);
        entry.uint(f::REFUSED, self.refused);
        entry.uint(f::FAILED, self.failed);
        entry.uint(f::ALLOWED, self.allowed);
        entry.uint(f::OPEN, self.open);
        entry.uint(f::UNEXPLAINED, self.unexplained);
        entry.uint(f::CONNECT_BASE, self.connect_base);
        entry.uint(f::LEDGER, self.ledger);
        named(entry, f::FAILURES, &self.failures);
        named(entry, f::REFUSALS, &self.refusals);
    }
}

impl Hooks {
    pub(in crate::audit) fn fill(&self, entry: &mut Map<'_>) {
        entry.text(f::CGROUP, &self.cgroup);
        entry.text_if(f::DETAIL, self.detail.as_deref());
        entry.text(f::ACTION, self.action.name());
        let programs: Vec<String> = self
            .programs
            .iter()
            .map(|program| format!("{}#{}", program.name, program.id))
            .collect();
        entry.texts(f::PROGRAMS, programs.iter().map(String::as_str));
    }
}

fn named(entry: &mut Map<'_>, number: u8, all: &[Named]) {
    if all.is_empty() {
        return;
    }
    entry.objects(number, all.len(), |list| {
        for Named { name, count } in all {
            list.object(|object| {
                object.text(0, name);
                object.uint(1, *count);
            });
        }
    });
}
