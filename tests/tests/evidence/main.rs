//! What an auditor does with the trail of a real agent: anchors, proofs, exports, searches, disclosure.

mod anchors;
mod cut;
mod disclosure;
mod export;
mod house;
mod prove;
mod reading;
mod tiles;

use pgward_tests::needs_kernel as gate;

/// What a test returns.
type Result<T = ()> = anyhow::Result<T>;
