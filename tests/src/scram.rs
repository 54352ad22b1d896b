//! SCRAM-SHA-256 by hand, independent of the agent's own: each message can be made wrong on purpose.
//!
//! Source: RFC 5802, RFC 7677.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// Base64, as in every attribute.
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The value of an attribute of a message, such as `r` of `r=...,s=...,i=...`.
pub fn attribute(message: &str, name: char) -> Option<&str> {
    message.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// What both sides of one exchange know of it.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// `n,,`, `y,,` or `p=tls-server-end-point,,`.
    pub header: String,
    /// Behind the header, for `c=`: the hash of the certificate, or nothing.
    pub binding: Vec<u8>,
    /// `n=...,r=...`.
    pub client_first_bare: String,
    /// `r=...,s=...,i=...`.
    pub server_first: String,
}

impl Exchange {
    /// A client's, without channel binding unless `header` and `binding` are changed afterwards.
    pub fn client(nonce: &str) -> Self {
        Self {
            header: "n,,".to_owned(),
            client_first_bare: format!("n=,r={nonce}"),
            ..Self::default()
        }
    }

    /// `client-first-message`.
    pub fn client_first(&self) -> String {
        format!("{}{}", self.header, self.client_first_bare)
    }

    /// `client-final-message` to `server_first`, for the nonce that was given in it.
    pub fn client_final(&self, password: &str) -> String {
        let nonce = attribute(&self.server_first, 'r').unwrap_or_default().to_owned();
        self.client_final_with(password, &nonce)
    }

    /// The same with another nonce.
    pub fn client_final_with(&self, password: &str, nonce: &str) -> String {
        let keys = Keys::of(password, &self.server_first);
        let without_proof = self.without_proof(nonce);
        let signature = hmac(&keys.stored, self.auth_message(&without_proof).as_bytes());
        let proof: Vec<u8> = keys.client.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        format!("{without_proof},p={}", encode(&proof))
    }

    /// What the server answers to a right proof in this exchange: `v=...`.
    pub fn server_final(&self, password: &str) -> String {
        let nonce = attribute(&self.server_first, 'r').unwrap_or_default();
        let keys = Keys::of(password, &self.server_first);
        let message = self.auth_message(&self.without_proof(nonce));
        format!("v={}", encode(&hmac(&keys.server, message.as_bytes())))
    }

    fn without_proof(&self, nonce: &str) -> String {
        let bound = [self.header.as_bytes(), &self.binding].concat();
        format!("c={},r={nonce}", encode(&bound))
    }

    fn auth_message(&self, without_proof: &str) -> String {
        format!("{},{},{without_proof}", self.client_first_bare, self.server_first)
    }
}

struct Keys {
    client: [u8; 32],
    stored: [u8; 32],
    server: [u8; 32],
}

impl Keys {
    /// For salt and iterations of a `server-first-message`; none of them counts as an empty salt and one iteration.
    fn of(password: &str, server_first: &str) -> Self {
        let salt = attribute(server_first, 's').unwrap_or_default();
        let salt = STANDARD.decode(salt).unwrap_or_default();
        let rounds = attribute(server_first, 'i').and_then(|i| i.parse().ok()).unwrap_or(1);
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, rounds, &mut salted);
        let client = hmac(&salted, b"Client Key");
        let server = hmac(&salted, b"Server Key");
        Self { client, stored: Sha256::digest(client).into(), server }
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_the_example_of_rfc_7677() {
        let exchange = Exchange {
            header: "n,,".to_owned(),
            binding: Vec::new(),
            client_first_bare: "n=user,r=rOprNGfwEbeRWgbNEkqO".to_owned(),
            server_first: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                           s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
                .to_owned(),
        };
        let told = exchange.client_final("pencil");
        let proof = attribute(&told, 'p').expect("a proof");
        assert_eq!(proof, "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let signature = exchange.server_final("pencil");
        assert_eq!(signature, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }
}
