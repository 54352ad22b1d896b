//! The `pgward` binary.
fn main() {}
