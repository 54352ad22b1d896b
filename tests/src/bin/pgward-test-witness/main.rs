//! A C2SP tlog-witness to try anchors with: not for use, since its key is in a file.
//!
//!     pgward-test-witness ADDRESS NAME SEED_FILE STATE_FOLDER HOST_KEY...
//!
//! `HOST_KEY` is a line as in `keys/host.vkey` of a trail. Its own key goes to standard output.

use std::path::Path;

use anyhow::{Context, Result};
use pgward_tests::witness::Witness;
use pgward_tests::witness::note::{Signer, log_key};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, name, seed, folder, hosts @ ..] = &arguments[..] else {
        anyhow::bail!("usage: pgward-test-witness ADDRESS NAME SEED_FILE STATE_FOLDER HOST_KEY...");
    };
    let seed = std::fs::read(seed).with_context(|| format!("reading {seed}"))?;
    let seed: [u8; 32] = seed.try_into().ok().context("a seed has 32 bytes")?;
    let witness = Witness::start(address, Signer::new(name, &seed)?, Path::new(folder))?;
    for host in hosts {
        let (host, public) = log_key(host)?;
        witness.trust(host, &public);
    }
    println!("{} {}", witness.url(), witness.vkey());
    witness.join();
    Ok(())
}
