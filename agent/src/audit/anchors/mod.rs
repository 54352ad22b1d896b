//! Copies of checkpoints at places that root of this host does not control.

mod cosignature;

pub use cosignature::{
    AHEAD_SECONDS_MAX, Cosignature, CosignatureError, KEY_TEXT_BYTES_MAX, WitnessKey,
    WitnessKeyError,
};
