//! The file `cosigned`.

use std::fs;

use super::*;

fn key(name: &str) -> WitnessKey {
    WitnessKey::new(name, [3; 32]).expect("a good name")
}

fn cosignature(line: &str) -> Cosignature {
    Cosignature { time: 1, line: format!("{line}\n") }
}

#[test]
fn the_newest_note_gathers_the_lines_of_all_witnesses() {
    let folder = tempfile::tempdir().expect("a folder");
    let cosigned = Cosigned::new(folder.path());
    let (five, six) = (checkpoint(5, 1), checkpoint(6, 1));
    let add = |checkpoint: &Checkpoint, name: &str, line: &str| {
        cosigned.add(checkpoint, &key(name), &cosignature(line)).expect("kept");
        fs::read_to_string(folder.path().join("cosigned")).expect("there")
    };
    let (five_note, six_note) = (five.note(), six.note());
    assert_eq!(add(&five, "a", "— a 1"), format!("{five_note}— a 1\n"));
    assert_eq!(add(&five, "b", "— b 1"), format!("{five_note}— a 1\n— b 1\n"));
    assert_eq!(add(&five, "a", "— a 2"), format!("{five_note}— b 1\n— a 2\n"));
    assert_eq!(add(&six, "b", "— b 3"), format!("{six_note}— b 3\n"));
    assert_eq!(add(&five, "a", "— a 4"), format!("{six_note}— b 3\n"), "older than the newest");
    let names = fs::read_dir(folder.path()).expect("there").count();
    assert_eq!(names, 1, "nothing is left behind");
}

#[test]
fn what_an_interrupted_run_left_is_no_hindrance() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("cosigned.tmp"), "torn").expect("written");
    let cosigned = Cosigned::new(folder.path());
    cosigned.add(&checkpoint(5, 1), &key("a"), &cosignature("— a 1")).expect("kept");
    let gone = tempfile::tempdir().expect("a folder");
    let cosigned = Cosigned::new(&gone.path().join("gone"));
    assert!(cosigned.add(&checkpoint(5, 1), &key("a"), &cosignature("— a 1")).is_err());
}
