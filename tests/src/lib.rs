//! Support for the tests of pgward.
