//! What a run reads of the one before.

use pgward::audit::ledger::Coverage;
use pgward::audit::{Now, Stamp, WallNanos};

use crate::rig::{Result, fill, open, settings};

/// An account of connects may lie many segments back when much is recorded behind it.
#[test]
fn the_account_of_connects_is_found_however_far_back() -> Result {
    let folder = tempfile::tempdir()?;
    let audit = settings(folder.path());
    let account = Coverage {
        seen: 9,
        intercepted: 8,
        refused: 1,
        connect_base: 1,
        ledger: 77,
        since: WallNanos(5),
        ..Coverage::default()
    };
    let trail = open(&audit)?;
    let sink = trail.sink();
    let put = sink.record(&Stamp::agent(Now::read()), &account)?;
    let _durable = sink.durable_blocking(put.ticket)?;
    // Twelve segments of a mebibyte.
    for _ in 0..12 {
        fill(&sink, 1100, 1000)?;
    }
    let segments = pgward_verify::Trail::open(trail.directory())?.epochs()[0].pieces().len();
    assert!(segments > 9, "{segments}");
    trail.close()?;
    let found = open(&audit)?.previous().coverage.clone().ok_or("no account")?;
    assert_eq!((found.seen, found.intercepted, found.ledger), (9, 8, 77));
    Ok(())
}
