//! Handshakes: our two legs with each other, with another client, with OpenSSL.

mod ca;
mod handshake;
mod openssl;
mod verification;
