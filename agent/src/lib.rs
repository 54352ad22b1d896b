//! pgward: transparent PostgreSQL interception, attribution and audit for client hosts.

pub mod bpf;
