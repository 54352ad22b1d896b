//! Entries for other programs.
