//! Functions of pg_catalog.
