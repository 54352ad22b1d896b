//! pgward.

pub mod attrib;
