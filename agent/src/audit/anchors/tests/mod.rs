//! Anchors against folders, sockets and made-up places. Witnesses and databases are in `tests/tests/anchors`.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

mod cosignature;
mod cosigned;
mod file;
mod print;
mod worker;

const HOST: &str = "pgward/6f1c0000-0000-4000-8000-000000000001";

/// A checkpoint of the first epoch. Its signature is none: nothing here looks at it.
fn checkpoint(size: u64, root: u8) -> Checkpoint {
    checkpoint_of(1, size, root)
}

fn checkpoint_of(epoch: u64, size: u64, root: u8) -> Checkpoint {
    let (origin, root) = (format!("{HOST}/{epoch}"), STANDARD.encode([root; 32]));
    let note = format!("{origin}\n{size}\n{root}\n\n— {origin} c2lnbmVk\n");
    Checkpoint::parse(&note).expect("a checkpoint")
}

fn question() -> Question {
    Question { host: HOST.to_owned(), epoch: 1, newest: None }
}

#[test]
fn epochs_of_other_hosts_are_none_of_ours() {
    let question = question();
    for (origin, expected) in [
        (format!("{HOST}/1"), Some(1)),
        (format!("{HOST}/20"), Some(20)),
        (format!("{HOST}/0"), None),
        (format!("{HOST}/01"), None),
        (format!("{HOST}/1/2"), None),
        (format!("{HOST}1"), None),
        (HOST.to_owned(), None),
        (format!("x{HOST}/1"), None),
    ] {
        assert_eq!(question.epoch_of(&origin), expected, "{origin}");
    }
}
