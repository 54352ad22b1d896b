//! Reads and checks an audit trail of pgward, sharing no code with what writes it.
