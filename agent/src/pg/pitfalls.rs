//! How proxies of this kind failed, and what excludes it here.
