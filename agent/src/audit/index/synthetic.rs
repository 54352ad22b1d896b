//! A trail made up.
