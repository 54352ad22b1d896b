//! A C2SP tlog-witness to try anchors with: not for use, since its key is in a file.
//!
//!     pgward-test-witness ADDRESS NAME SEED_FILE STATE_FOLDER HOST_KEY...
//!
//! `HOST_KEY` is a line as in `keys/host.vkey` of a trail. Its own key goes to standard output.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pgward_tests::witness::Witness;
use pgward_tests::witness::note::{NOTE, Signer, key_id};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, name, seed, folder, hosts @ ..] = &arguments[..] else {
        anyhow::bail!("usage: pgward-test-witness ADDRESS NAME SEED_FILE STATE_FOLDER HOST_KEY...");
    };
    let seed = std::fs::read(seed).with_context(|| format!("reading {seed}"))?;
    let seed: [u8; 32] = seed.try_into().ok().context("a seed has 32 bytes")?;
    let witness = Witness::start(address, Signer::new(name, &seed)?, Path::new(folder))?;
    for host in hosts {
        let (host, public) = public(host.trim_end())?;
        witness.trust(host, &public);
    }
    println!("{} {}", witness.url(), witness.vkey());
    witness.join();
    Ok(())
}

/// Name and public half of a verifier key.
fn public(vkey: &str) -> Result<(&str, Vec<u8>)> {
    let mut parts = vkey.splitn(3, '+');
    let (name, id, key) = (parts.next(), parts.next(), parts.next());
    let (name, id) = (name.context("no name")?, id.context("no key id")?);
    let key = STANDARD.decode(key.context("no key")?)?;
    let (kind, public) = key.split_first().context("an empty key")?;
    ensure!(*kind == NOTE && public.len() == 32, "not an Ed25519 key");
    let expected: String = key_id(name, NOTE, public).iter().map(|b| format!("{b:02x}")).collect();
    ensure!(id == expected, "key id {id}, expected {expected}");
    Ok((name, public.to_vec()))
}
