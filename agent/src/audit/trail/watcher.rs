//! What happens to the store and to the anchors becomes records.

use std::sync::{OnceLock, Weak};

use tracing::{error, info, warn};

use crate::audit::anchors::Notice as AnchorNotice;
use crate::audit::happening::{EventsLost, LostSource};
use crate::audit::maintenance::{Capacity, Failure};
use crate::audit::publish::Publisher;
use crate::audit::record::{Record, Stamp};
use crate::audit::store::{Finished, Level, Notice, Sink, Watch};
use crate::audit::time::Now;

/// Called with the epoch and each finished segment of it, on the store's own thread.
pub(super) type OnFinished = Box<dyn Fn(u64, &Finished) + Send + Sync>;

/// Hears of everything, and records it once there is a way into the log.
pub(super) struct Watcher {
    /// Not kept alive: it ends with the store.
    pub(super) publisher: Weak<Publisher>,
    pub(super) sink: OnceLock<Sink>,
    /// The epoch that is written.
    pub(super) epoch: u64,
    pub(super) on_finished: OnFinished,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

impl Watcher {
    fn record<'r>(&self, record: impl Into<Record<'r>>) {
        let record = record.into();
        let Some(sink) = self.sink.get() else { return };
        if let Err(error) = sink.record_closing(&Stamp::agent(Now::read()), record) {
            warn!(%error, event = record.kind().name(), "not recorded");
        }
    }

    fn failure(&self, action: &str, reason: &str, detail: Option<&str>) {
        self.record(&Failure { reason, detail, since: None, action, anchor: None });
    }

    /// What an anchor has to say.
    pub(super) fn anchor(&self, notice: AnchorNotice) {
        let (anchor, action, reason, detail) = match notice {
            AnchorNotice::Failing { anchor, error } => {
                warn!(anchor, error, "an anchor does not take checkpoints");
                (anchor, "begin", "anchor_failing", error)
            }
            AnchorNotice::Restored { anchor, failed_for, failures } => {
                info!(anchor, ?failed_for, failures, "an anchor takes checkpoints again");
                let detail = format!("failed {failures} times within {failed_for:?}");
                (anchor, "end", "anchor_failing", detail)
            }
            AnchorNotice::Raised { anchor, alarm } => {
                error!(anchor, %alarm, "an anchor holds something against this log");
                (anchor, "begin", "anchor_alarm", alarm.to_string())
            }
        };
        self.record(&Failure {
            reason,
            detail: Some(&detail),
            since: None,
            action,
            anchor: Some(&anchor),
        });
    }
}

impl Watch for Watcher {
    fn notice(&self, notice: Notice) {
        match notice {
            Notice::Watermark { level, used_bytes, quota_bytes } => {
                warn!(percent = level.percent(), used_bytes, quota_bytes, "quota of the trail");
                self.record(&Capacity {
                    watermark: level.percent().into(),
                    used_bytes,
                    quota_bytes,
                    rising: level > Level::Low,
                });
            }
            Notice::WriteFailed { operation, errno } => {
                let detail = format!("{operation}: {}", std::io::Error::from_raw_os_error(errno));
                error!(detail, "the audit trail cannot be written");
                self.failure("begin", "write_failed", Some(&detail));
            }
            Notice::SegmentAbandoned { first, size } => {
                let detail = format!("segment {first} counts up to {size}");
                error!(detail, "a segment is written no more after an error");
                self.failure("begin", "segment_abandoned", Some(&detail));
            }
            Notice::ReserveInUse => {
                error!("the reserve of the audit trail is in use: no new statements");
                self.failure("begin", "reserve_in_use", None);
            }
            Notice::Recovered => {
                info!("the audit trail can be written again");
                self.failure("end", "write_failed", None);
            }
            Notice::Lost { count, since } => {
                error!(count, "records were lost");
                let record = EventsLost {
                    source: LostSource::Records,
                    count,
                    since: Some(since),
                    detail: None,
                };
                self.record(&record);
            }
            Notice::PackFailed { first, operation, errno } => {
                let error = std::io::Error::from_raw_os_error(errno);
                let detail = format!("segment {first}, {operation}: {error}");
                warn!(detail, "a finished segment stays as it is");
                self.failure("begin", "pack_failed", Some(&detail));
            }
            Notice::SegmentDamaged { first, damage } => {
                let detail = format!("segment {first}, byte {}: {}", damage.offset, damage.found);
                error!(detail, "a finished segment is not what was written");
                self.failure("begin", "segment_damaged", Some(&detail));
            }
            Notice::DirectoryReplaced => {
                error!("the folder of the audit trail was replaced");
                self.failure("begin", "directory_replaced", None);
            }
        }
    }

    fn finished(&self, segment: &Finished) {
        if let Some(publisher) = self.publisher.upgrade() {
            publisher.segment_end(segment.end, segment.root);
        }
        (self.on_finished)(self.epoch, segment);
    }
}
