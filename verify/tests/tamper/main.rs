//! The table of tampers and faults: what is done to a trail, and what the verifier must say.
//!
//! Each case has a trail, a change, and the class, the range of records and the exit code that
//! are expected. A verifier that lets everything pass must fail every case that tampers.

mod bits;
mod bundles;
mod cases;
mod cuts;
mod entries;
mod events;
mod log;
mod notes;
mod reading;
mod scene;
mod values;
mod watch;
