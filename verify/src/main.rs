//! `pgward-verify`: checks an audit trail.
fn main() {}
