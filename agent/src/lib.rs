//! pgward.

/// Kernel events and process facts to identities, with what is missing and why.
pub mod attrib;
