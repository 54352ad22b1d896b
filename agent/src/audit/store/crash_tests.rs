//! Power cuts and crashes at every step.

use proptest::prelude::*;

use super::names::{self, Form};
use super::rig::{Model, Rig, read_back};
use super::sim::{SimDisk, Survival};
use super::sink::Class;

/// Work of a few batches that crosses segments, packs them and has values, until power is gone.
fn work(disk: &SimDisk, model: &mut Model) {
    let Ok(mut rig) = Rig::open(disk, model) else { return };
    for batch in 0..9_usize {
        for record in 0..=batch % 3 {
            let values = vec![7; if record == 1 { 600 } else { 0 }];
            let bytes = 90 + 517 * ((batch + record) % 4);
            let _put = rig.put(model, record % 2, Class::Ordinary, bytes, &values);
        }
        let _ = rig.round(model);
        if batch % 2 == 1 {
            rig.keeper.round();
        }
    }
}

/// Starts again, checks what is there, goes on, and checks again.
fn continue_and_check(disk: &SimDisk, model: &Model, case: &str) {
    let found = read_back(disk).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(found.corrupt, None, "{case}: a crash was taken for damage");
    model.check(&found, case);

    let mut model = model.clone();
    let mut rig = Rig::open(disk, &mut model).unwrap_or_else(|error| panic!("{case}: {error}"));
    rig.put(&mut model, 0, Class::Ordinary, 33, b"").expect(case);
    rig.round(&mut model).expect(case);
    drop(rig);
    // The new run repeated what it built on: no later power cut may take that away.
    let disk = disk.after_power_loss(Survival::Nothing);
    let again = read_back(&disk).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(again.corrupt, None, "{case}: the second start");
    assert!(again.leaves.starts_with(&found.leaves), "{case}: something was forgotten");
    assert_eq!(again.leaves.len(), found.leaves.len() + 1, "{case}");
    model.check(&again, case);
}

#[test]
fn no_power_cut_loses_a_durable_record_or_invents_one() {
    let whole = SimDisk::default();
    let mut model = Model::default();
    work(&whole, &mut model);
    let operations = whole.operations();
    assert!(operations > 60, "{operations} operations");
    assert!(whole.names().iter().any(|name| name.ends_with(".pack")), "{:?}", whole.names());

    for cut in 0..=operations {
        let disk = SimDisk::default();
        let mut model = Model::default();
        disk.cut_power_after(cut);
        work(&disk, &mut model);
        let dirty = disk.dirty_sectors();
        let step = dirty / 8 + 1;
        let single = (0..dirty).step_by(step);
        let survivals = [Survival::Nothing, Survival::Everything]
            .into_iter()
            .chain(single.clone().map(Survival::Only))
            .chain(single.map(Survival::AllBut))
            .chain((0..6).map(|seed| Survival::Random(cut as u64 * 6 + seed)));
        for survival in survivals {
            let case = format!("power cut before operation {cut}, {survival:?}");
            continue_and_check(&disk.after_power_loss(survival), &model, &case);
        }
        continue_and_check(&disk.after_crash(), &model, &format!("crash before operation {cut}"));
    }
}

#[test]
fn every_lost_sector_of_a_batch_makes_a_torn_tail() {
    let prepare = || {
        let disk = SimDisk::default();
        let mut model = Model::default();
        let mut rig = Rig::open(&disk, &mut model).expect("opens");
        rig.put(&mut model, 0, Class::Ordinary, 100, b"").expect("put");
        rig.round(&mut model).expect("durable");
        for _ in 0..4 {
            rig.put(&mut model, 0, Class::Ordinary, 900, b"").expect("put");
        }
        disk.cut_power_after(1); // the write happens, its sync doesn't
        rig.round(&mut model).expect_err("power is gone");
        (disk, model)
    };
    let (disk, _) = prepare();
    let dirty = disk.dirty_sectors();
    assert!(dirty >= 7, "{dirty}");
    for lost in 0..dirty {
        let (disk, model) = prepare();
        let case = format!("sector {lost} lost");
        let disk = disk.after_power_loss(Survival::AllBut(lost));
        let found = read_back(&disk).expect("reads");
        assert_eq!((found.corrupt, found.tree.size()), (None, 1), "{case}");
        assert!(disk.names().contains(&"recovered-0".to_owned()), "{case}: put aside");
        continue_and_check(&disk, &model, &case);
    }
}

#[test]
fn a_torn_tail_is_put_aside_byte_for_byte() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    let mut rig = Rig::open(&disk, &mut model).expect("opens");
    for _ in 0..2 {
        rig.put(&mut model, 0, Class::Ordinary, 100, b"").expect("put");
        rig.round(&mut model).expect("durable"); // the second trailer does not end with a zero
    }
    drop(rig);
    let name = names::segment(0, Form::Raw);
    let end = disk.content(&name).expect("there").iter().rposition(|b| *b != 0).expect("content");
    disk.tamper(&name, |bytes| bytes[end + 1..end + 4].copy_from_slice(b"abc"));
    let rig = Rig::open(&disk, &mut model).expect("opens");
    let torn = rig.torn.clone().expect("a torn tail");
    assert_eq!((torn.bytes, torn.file.as_str(), rig.crashed), (3, "recovered-0", true));
    assert_eq!(torn.sha256, crate::audit::chain::sha256(b"abc"));
    assert_eq!(disk.content(&torn.file).as_deref(), Some(&b"abc"[..]));
    drop(rig);
    continue_and_check(&disk, &model, "after a torn tail");
}

#[test]
fn a_byte_appended_before_two_starts_costs_nothing_that_comes_later() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    for start in 0..2 {
        let mut rig = Rig::open(&disk, &mut model).expect("opens");
        for _ in 0..5 {
            rig.put(&mut model, 1, Class::Ordinary, 200, b"").expect("put");
            rig.round(&mut model).expect("durable");
        }
        drop(rig);
        let found = read_back(&disk).expect("reads");
        assert_eq!(found.tree.size(), 5 * (start + 1));
        let raw = |name: &String| names::parse(name).is_some_and(|(_, form)| form == Form::Raw);
        let newest = disk.names().into_iter().filter(raw).max().expect("a segment");
        let content = disk.content(&newest).expect("there");
        let end = content.iter().rposition(|byte| *byte != 0).expect("content") + 1;
        disk.tamper(&newest, |bytes| bytes[end] = 1);
    }
    let rig = Rig::open(&disk, &mut model).expect("opens");
    assert_eq!(rig.torn.as_ref().map(|torn| torn.bytes), Some(1));
    drop(rig);
    continue_and_check(&disk, &model, "two starts");
}

#[test]
fn damage_to_what_was_durable_is_never_taken_for_a_torn_tail() {
    let mut model = Model::default();
    let make = |model: &mut Model| {
        let disk = SimDisk::default();
        let mut rig = Rig::open(&disk, model).expect("opens");
        for _ in 0..3 {
            rig.put(model, 0, Class::Ordinary, 700, b"values").expect("put");
            rig.round(model).expect("durable");
        }
        disk
    };
    let name = names::segment(0, Form::Raw);
    let content = make(&mut model).content(&name).expect("there");
    let end = content.iter().rposition(|byte| *byte != 0).expect("content") + 1;
    let last_trailer = end - super::frame::TRAILER_BYTES;
    for at in 0..end {
        let disk = make(&mut Model::default());
        disk.tamper(&name, |bytes| bytes[at] ^= 0x10);
        let found = read_back(&disk).expect("reads");
        if at < last_trailer {
            assert!(found.corrupt.is_some(), "byte {at} of {end}");
            let refused = Rig::open(&disk, &mut Model::default());
            assert!(refused.is_err(), "byte {at}: goes on with a damaged log");
        } else {
            // Nothing tells the last trailer, damaged, from one that was never written: what was
            // known of the log elsewhere does.
            assert!(found.corrupt.is_some() || found.tree.size() == 2, "byte {at} of {end}");
        }
    }
    // Only the very last batch may lack a sector.
    let disk = make(&mut Model::default());
    disk.tamper(&name, |bytes| bytes[512..1024].fill(0));
    assert!(read_back(&disk).expect("reads").corrupt.is_some(), "a sector of the first batch");
}

#[test]
fn a_text_that_looks_like_a_trailer_changes_nothing_in_a_whole_batch() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    let rig = Rig::open(&disk, &mut model).expect("opens");
    let mut trailer = Vec::new();
    super::frame::Trailer { size: 9, root: [0; 32], number: 0 }.append(&mut trailer);
    let sink = &rig.sinks[0].sink;
    let put = sink.put(Class::Ordinary, |out| out.extend_from_slice(&trailer), b"").expect("put");
    let mut committer = rig.committer;
    committer.round().expect("durable");
    let found = read_back(&disk).expect("reads");
    assert_eq!((found.corrupt, found.leaves), (None, vec![put.leaf]));
}

#[test]
fn a_segment_that_is_gone_or_of_another_log_is_damage() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    work(&disk, &mut model);
    let newest = |form| {
        let names = disk.names();
        let found = names.iter().filter_map(|name| names::parse(name)).filter(|(_, f)| *f == form);
        found.max().map(|(first, form)| names::segment(first, form)).expect("one")
    };
    let raw = newest(Form::Raw);
    let content = disk.content(&raw).expect("there");
    let strange = super::frame::Header {
        origin: "test/another/1".to_owned(),
        ..super::frame::Header::decode(&content).expect("a header")
    };
    disk.tamper(&raw, |bytes| bytes[..512].copy_from_slice(&strange.encode()));
    let corrupt = read_back(&disk).expect("reads").corrupt.expect("damage");
    assert_eq!((corrupt.file, corrupt.damage.found), (raw.clone(), "header of another log"));

    disk.tamper(&raw, |bytes| bytes.copy_from_slice(&content));
    while let Some(name) = disk.names().into_iter().find(|name| name.ends_with(".log")) {
        super::disk::Disk::remove(&disk, &name).expect("removed");
    }
    let corrupt = read_back(&disk).expect("reads").corrupt.expect("damage");
    assert!(corrupt.file.ends_with(".pack"), "{corrupt:?}");
}

/// One thing that happens to the store.
#[derive(Clone, Debug)]
enum Step {
    Put { sink: usize, bytes: usize, values: usize },
    Commit,
    Keep,
    Crash,
    PowerLoss(u64),
    CutPowerAfter(usize),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let put = (0..2_usize, 1..3_000_usize, prop_oneof![3 => Just(0), 1 => 1..5_000_usize]);
    let step = prop_oneof![
        8 => put.prop_map(|(sink, bytes, values)| Step::Put { sink, bytes, values }),
        6 => Just(Step::Commit),
        2 => Just(Step::Keep),
        1 => Just(Step::Crash),
        1 => any::<u64>().prop_map(Step::PowerLoss),
        1 => (0..20_usize).prop_map(Step::CutPowerAfter),
        1 => Just(Step::Close),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_model_whatever_happens(steps in steps()) {
        let mut disk = SimDisk::default();
        let mut model = Model::default();
        let mut rig = Rig::open(&disk, &mut model).expect("opens");
        for (number, step) in steps.into_iter().enumerate() {
            let case = format!("step {number}: {step:?}");
            match step {
                Step::Put { sink, bytes, values } => {
                    let _ = rig.put(&mut model, sink, Class::Ordinary, bytes, &vec![1; values]);
                    continue;
                }
                Step::Commit => {
                    let _ = rig.round(&mut model);
                    continue;
                }
                Step::Keep => {
                    rig.keeper.round();
                    continue;
                }
                Step::CutPowerAfter(operations) => {
                    disk.cut_power_after(operations);
                    continue;
                }
                Step::Crash => disk = disk.after_crash(),
                Step::PowerLoss(seed) => disk = disk.after_power_loss(Survival::Random(seed)),
                Step::Close => {
                    rig.committer.close();
                    rig.note(&mut model);
                    disk = disk.after_crash();
                }
            }
            drop(rig);
            let found = read_back(&disk).expect("reads");
            prop_assert_eq!(&found.corrupt, &None, "{}", case);
            model.check(&found, &case);
            rig = Rig::open(&disk, &mut model).expect("opens");
        }
    }
}
