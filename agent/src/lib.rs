//! pgward.
