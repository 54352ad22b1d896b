//! The client of witnesses.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use pgward::audit::anchors::{
    Alarm, CopyError, CosignatureError, Cosigned, Known, Place, Witness, WitnessError, WitnessKey,
};
use pgward::config::AnchorWitness;
use pgward_tests::pki::{Pki, Server};
use pgward_tests::witness::note::{COSIGNATURE, Signer};
use pgward_tests::witness::{self, Asked, Mood};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;
use ureq::tls::Certificate;

use crate::Result;
use crate::log::{HOST, Log};

const NAME: &str = "witness.example/w1";
/// Enough for an honest answer on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

struct Scene {
    server: witness::Witness,
    state: TempDir,
    epoch: TempDir,
}

impl Scene {
    fn new(log: &Log) -> Result<Self> {
        let (state, epoch) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let scene = Self { server: serve(&state)?, state, epoch };
        scene.server.trust(HOST, &log.public()?);
        Ok(scene)
    }

    fn client(&self, log: &Log) -> Result<Witness> {
        self.client_within(log, LIMIT)
    }

    fn client_within(&self, log: &Log, limit: Duration) -> Result<Witness> {
        let settings =
            AnchorWitness { url: self.server.url(), key: WitnessKey::parse(&self.server.vkey())? };
        let cosigned = Arc::new(Cosigned::new(self.epoch.path()));
        Ok(Witness::with_limit(&settings, Arc::new(log.clone()), cosigned, &[], limit))
    }

    fn cosigned(&self) -> Option<String> {
        fs::read_to_string(self.epoch.path().join("cosigned")).ok()
    }

    fn asked(&self) -> Vec<(u64, u64, u16)> {
        self.server
            .asked()
            .into_iter()
            .map(|Asked { old, size, status, .. }| (old, size, status))
            .collect()
    }
}

fn serve(state: &TempDir) -> Result<witness::Witness> {
    witness::Witness::start("127.0.0.1:0", Signer::new(NAME, &[7; 32])?, state.path())
}

fn alarm(result: std::result::Result<(), CopyError>) -> Result<Alarm> {
    match result {
        Err(CopyError::Alarm(alarm)) => Ok(alarm),
        other => anyhow::bail!("no alarm: {other:?}"),
    }
}

#[test]
fn checkpoints_are_cosigned_with_a_proof_from_the_last() -> Result {
    let log = Log::new(300, 0, 0);
    let scene = Scene::new(&log)?;
    let mut client = scene.client(&log)?;
    for size in [0, 1, 2, 3, 7, 8, 255, 256, 300, 300] {
        client.copy(&log.at(size)?)?;
        assert_eq!(scene.server.size(&log.origin()), Some(size));
    }
    let mut old = 0;
    for asked in scene.server.asked() {
        assert_eq!((asked.old, asked.status), (old, 200), "no question twice");
        old = asked.size;
    }
    let cosigned = scene.cosigned().context("kept")?;
    let checkpoint = log.at(300)?;
    let line = cosigned.strip_prefix(checkpoint.note()).context("the newest note")?;
    assert_eq!(line.lines().count(), 1);
    let key = WitnessKey::parse(&scene.server.vkey())?;
    assert!(key.find(line, checkpoint.body(), u64::MAX / 2).is_ok());
    Ok(())
}

#[test]
fn after_a_restart_the_witness_tells_where_to_go_on() -> Result {
    let log = Log::new(100, 0, 0);
    let mut scene = Scene::new(&log)?;
    scene.client(&log)?.copy(&log.at(40)?)?;
    // Both forget; the witness has its folder.
    drop(scene.server);
    scene.server = serve(&scene.state)?;
    scene.server.trust(HOST, &log.public()?);
    scene.client(&log)?.copy(&log.at(77)?)?;
    assert_eq!(scene.asked(), [(0, 77, 409), (40, 77, 200)]);
    Ok(())
}

#[test]
fn an_answer_that_got_lost_is_made_up_for() -> Result {
    let log = Log::new(100, 0, 0);
    let scene = Scene::new(&log)?;
    let mut client = scene.client(&log)?;
    client.copy(&log.at(10)?)?;
    // As if the answer for 20 had never come.
    scene.client(&log)?.copy(&log.at(20)?)?;
    client.copy(&log.at(30)?)?;
    let last: Vec<_> = scene.asked().split_off(3);
    assert_eq!(last, [(10, 30, 409), (20, 30, 200)]);
    Ok(())
}

#[test]
fn a_witness_that_knows_more_raises_an_alarm() -> Result {
    let log = Log::new(100, 0, 0);
    let scene = Scene::new(&log)?;
    scene.client(&log)?.copy(&log.at(90)?)?;
    // An older state was put back, or a clone is ahead of us.
    let raised = alarm(scene.client(&log)?.copy(&log.at(60)?))?;
    assert_eq!(raised, Alarm::Ahead { origin: log.origin(), ours: 60, theirs: 90 });
    assert_eq!(scene.server.size(&log.origin()), Some(90));
    Ok(())
}

#[test]
fn a_log_that_was_rewritten_raises_an_alarm() -> Result {
    let log = Log::new(100, 0, 0);
    let scene = Scene::new(&log)?;
    scene.client(&log)?.copy(&log.at(50)?)?;
    let forged = Log::new(100, 49, 1);
    let expected = |size| Alarm::Inconsistent { origin: log.origin(), known: 50, size };
    for size in [50, 51, 100] {
        assert_eq!(alarm(scene.client(&forged)?.copy(&forged.at(size)?))?, expected(size));
    }
    assert_eq!(scene.server.size(&log.origin()), Some(50));
    // What continues what it saw is accepted as before.
    let honest = Log::new(100, 50, 1);
    scene.client(&honest)?.copy(&honest.at(100)?)?;
    Ok(())
}

/// Two machines with one identity: the first question of the second tells.
#[test]
fn a_clone_that_diverged_raises_an_alarm_at_once() -> Result {
    let (original, clone) = (Log::new(100, 50, 0), Log::new(100, 50, 1));
    let scene = Scene::new(&original)?;
    let (mut first, mut second) = (scene.client(&original)?, scene.client(&clone)?);
    first.copy(&original.at(50)?)?;
    second.copy(&clone.at(50)?)?;
    first.copy(&original.at(60)?)?;
    let raised = alarm(second.copy(&clone.at(70)?))?;
    assert_eq!(raised, Alarm::Inconsistent { origin: clone.origin(), known: 60, size: 70 });
    Ok(())
}

#[test]
fn of_many_at_once_the_witness_never_goes_back() -> Result {
    let log = Log::new(200, 0, 0);
    let scene = Scene::new(&log)?;
    scene.client(&log)?.copy(&log.at(10)?)?;
    let results = thread::scope(|scope| {
        let copies: Vec<_> = (0..8_u64)
            .map(|n| {
                let (scene, log) = (&scene, &log);
                scope.spawn(move || -> Result<(u64, bool)> {
                    let size = 20 + n * 10;
                    let mut client = scene.client(log)?;
                    Ok((size, client.copy(&log.at(size)?).is_ok()))
                })
            })
            .collect();
        copies.into_iter().map(|copy| copy.join().expect("no panic")).collect::<Result<Vec<_>>>()
    })?;
    // In the order of the witness: each that it cosigned continues the one before.
    let mut newest = 0;
    let accepted = scene.server.asked().into_iter().filter(|asked| asked.status == 200);
    let mut sizes = BTreeSet::new();
    for Asked { old, size, .. } in accepted {
        assert_eq!(old, newest);
        assert!(size >= newest, "{size} after {newest}");
        newest = size;
        sizes.insert(size);
    }
    assert_eq!(scene.server.size(&log.origin()), Some(newest));
    for (size, copied) in results {
        assert_eq!(sizes.contains(&size), copied, "{size}");
    }
    Ok(())
}

#[test]
fn a_witness_that_refuses_is_named_and_the_next_try_works() -> Result {
    let log = Log::new(100, 0, 0);
    let scene = Scene::new(&log)?;
    let mut client = scene.client(&log)?;
    client.copy(&log.at(10)?)?;
    let before = scene.cosigned();
    for (mood, expected) in [
        (Mood::Status(404), "the witness does not know"),
        (Mood::Status(403), "the witness does not accept the signature"),
        (Mood::Status(400), "the witness calls the request malformed"),
        (Mood::Status(422), "fork of"),
        (Mood::Status(500), "the witness answered with status 500"),
        (Mood::Status(204), "the witness answered with status 204"),
        (Mood::Redirect, "the witness answered with status 307"),
        (Mood::Conflict(10), "the witness contradicts itself: it knows size 10, and then size 10"),
        (Mood::Conflict(5), "the witness contradicts itself: it knows size 5, and then size 5"),
        (Mood::Conflict(u64::MAX), "rollback or clone of"),
        (Mood::UntypedConflict, "the witness's answer is not understood: expected a size"),
        (Mood::Garbage, "not a list of signature lines"),
        (Mood::Huge, "the witness's answer is not understood: expected a short one"),
        (Mood::NoHttp, "no answer from the witness"),
        (Mood::WrongKey, "a cosignature of `witness.example/w1` does not verify"),
        (Mood::UnknownKey, "no cosignature of `witness.example/w1`"),
        (Mood::Future, "a cosignature is 3"),
    ] {
        scene.server.be(mood);
        let error = client.copy(&log.at(20)?).err().with_context(|| format!("{mood:?} passed"))?;
        assert!(error.to_string().starts_with(expected), "{mood:?}: {error}");
        assert_eq!(scene.cosigned(), before, "{mood:?}: nothing of it is kept");
        assert_eq!(scene.server.size(&log.origin()), Some(10));
    }
    scene.server.be(Mood::Good);
    client.copy(&log.at(20)?)?;
    assert_ne!(scene.cosigned(), before);
    Ok(())
}

#[test]
fn a_witness_that_never_ends_its_answer_is_given_up() -> Result {
    let log = Log::new(100, 0, 0);
    let scene = Scene::new(&log)?;
    let mut client = scene.client_within(&log, Duration::from_millis(300))?;
    for mood in [Mood::Silent, Mood::Slow] {
        scene.server.be(mood);
        let begun = Instant::now();
        let error = client.copy(&log.at(10)?).err().context("an answer")?;
        let unanswered = matches!(error, CopyError::Witness(WitnessError::Unanswered(_)));
        assert!(unanswered, "{mood:?}: {error}");
        assert!(begun.elapsed() < LIMIT, "{mood:?}");
    }
    Ok(())
}

#[test]
fn a_witness_that_is_not_there_is_named() -> Result {
    let log = Log::new(100, 0, 0);
    let scene = Scene::new(&log)?;
    let mut client = scene.client(&log)?;
    drop(scene.server);
    let error = client.copy(&log.at(10)?).err().context("an answer")?;
    assert!(matches!(error, CopyError::Witness(WitnessError::Unanswered(_))), "{error}");
    Ok(())
}

/// The real statuses, by what the witness itself decides.
#[test]
fn logs_that_a_witness_was_not_told_of_are_refused() -> Result {
    let log = Log::new(100, 0, 0);
    let scene = Scene::new(&log)?;
    let other = log.of_another_key();
    let error = scene.client(&other)?.copy(&other.at(10)?).err().context("cosigned")?;
    assert!(matches!(error, CopyError::Witness(WitnessError::Signature { .. })), "{error}");
    let unknown = serve(&scene.state)?;
    let scene = Scene { server: unknown, ..scene };
    let error = scene.client(&log)?.copy(&log.at(10)?).err().context("cosigned")?;
    assert!(matches!(error, CopyError::Witness(WitnessError::UnknownLog { .. })), "{error}");
    Ok(())
}

#[test]
fn a_key_that_is_not_the_witness_s_believes_nothing() -> Result {
    let log = Log::new(100, 0, 0);
    let scene = Scene::new(&log)?;
    let settings = AnchorWitness {
        url: scene.server.url(),
        key: WitnessKey::parse(&Signer::new(NAME, &[8; 32])?.vkey(COSIGNATURE))?,
    };
    let cosigned = Arc::new(Cosigned::new(scene.epoch.path()));
    let mut client = Witness::with_limit(&settings, Arc::new(log.clone()), cosigned, &[], LIMIT);
    let error = client.copy(&log.at(10)?).err().context("believed")?;
    let absent = CosignatureError::Absent(NAME.to_owned());
    assert!(
        matches!(&error, CopyError::Witness(WitnessError::Cosignature(found)) if *found == absent),
        "{error}"
    );
    assert_eq!(scene.cosigned(), None);
    Ok(())
}

#[test]
fn over_tls_the_witness_has_to_prove_itself() -> Result {
    let (log, state, epoch) = (Log::new(100, 0, 0), tempfile::tempdir()?, tempfile::tempdir()?);
    let pki = Pki::new(&[])?;
    let roots = CertificateDer::pem_file_iter(pki.roots())?
        .map(|der| Ok(Certificate::from_der(&der?).to_owned()))
        .collect::<Result<Vec<_>>>()?;
    let tried = |files: Server, roots: &[Certificate<'static>]| -> Result<_> {
        let signer = Signer::new(NAME, &[7; 32])?;
        let files = pki.server(files);
        let server = witness::Witness::start_tls("127.0.0.1:0", signer, state.path(), &files)?;
        server.trust(HOST, &log.public()?);
        let settings = AnchorWitness { url: server.url(), key: WitnessKey::parse(&server.vkey())? };
        let cosigned = Arc::new(Cosigned::new(epoch.path()));
        let mut client =
            Witness::with_limit(&settings, Arc::new(log.clone()), cosigned, roots, LIMIT);
        Ok(client.copy(&log.at(10)?))
    };
    for (files, roots) in [
        (Server::UnknownIssuer, &roots[..]),
        (Server::OtherName, &roots),
        (Server::Expired, &roots),
        (Server::Good, &[]),
    ] {
        let error = tried(files, roots)?.err().with_context(|| format!("{files:?} passed"))?;
        let unanswered = matches!(error, CopyError::Witness(WitnessError::Unanswered(_)));
        assert!(unanswered, "{files:?}: {error}");
    }
    Ok(tried(Server::Good, &roots)??)
}

#[test]
fn at_start_a_witness_tells_the_newest_of_this_epoch_and_the_next() -> Result {
    let log = Log::new(100, 0, 0);
    let scene = Scene::new(&log)?;
    let mut client = scene.client(&log)?;
    // It never saw the log: what we know is new to it, and it is not told of it yet.
    assert_eq!(client.newest_known(&log.question(40)?)?, []);
    assert_eq!(scene.server.size(&log.origin()), None);
    client.copy(&log.at(60)?)?;
    let known = client.newest_known(&log.question(40)?)?;
    let [Known { origin, size: 60, root, note: Some(note) }] = &known[..] else {
        anyhow::bail!("{known:?}");
    };
    assert_eq!((origin, *root), (&log.origin(), Some(log.root(60))));
    assert!(note.starts_with(log.at(60)?.note()));
    // The state that was put back is older than the epoch.
    let next = log.in_epoch(2);
    scene.client(&next)?.copy(&next.at(5)?)?;
    let known = client.newest_known(&log.question(40)?)?;
    let known: Vec<_> = known.iter().map(|known| (known.origin.clone(), known.size)).collect();
    assert_eq!(known, [(log.origin(), 60), (next.origin(), 5)]);
    Ok(())
}
