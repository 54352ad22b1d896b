//! Rows that are no catalog.

use super::World;
use crate::catalog::{ReadError, RelationKind, Snapshot};
use crate::sql::facts::Name;

#[test]
fn a_catalog_without_its_end_is_none() {
    assert_eq!(Snapshot::read(&[]).err(), Some(ReadError::Incomplete));
    let mut world = World::new();
    world.table("cards", &["id"]);
    assert_eq!(Snapshot::read(&world.rows).err(), Some(ReadError::Incomplete));
}

#[test]
fn whatever_is_not_as_the_query_makes_it_is_refused() {
    let cases: &[(char, &[&str])] = &[
        ('?', &[]),
        ('N', &["x", "public"]),
        ('N', &["1"]),
        ('R', &["1", "2200", "t", "r", "owner", "!", "!"]),
        ('R', &["1", "2200", "t", "rt", "owner", "!", "!"]),
        ('R', &["1", "2200", "t", "\u{e9}p", "!", "!", "!"]),
        ('A', &["1", "{1,2}", "{a}", "{25,25}"]),
        ('A', &["1", "{1}", "{NULL}", "{25}"]),
        ('V', &["1", "5", "{}", "{}"]),
        ('V', &["1", "", "{}", "{}"]),
        ('F', &["1", "11", "f", "fx", "sql", "", "0", "o"]),
        ('I', &["1", "4294967296"]),
    ];
    for (kind, values) in cases {
        let mut world = World::new();
        let row = world.rows.len();
        world.row(*kind, values);
        let error = Snapshot::read(&world.rows).err();
        assert_eq!(error, Some(ReadError::Malformed { row, kind: *kind }), "{values:?}");
    }
    let mut world = World::new();
    let row = world.rows.len();
    world.rows.push(vec![Some(b"N"[..].into()), Some(b"1"[..].into()), Some(b"\xff"[..].into())]);
    let error = Snapshot::read(&world.rows).err();
    assert_eq!(error, Some(ReadError::Malformed { row, kind: 'N' }));
}

#[test]
fn a_row_behind_the_end_is_refused() {
    let mut world = World::new();
    world.row('E', &["180000", "app", "1:1:", "false", "1"]);
    let row = world.rows.len();
    world.row('N', &["1", "late"]);
    let error = Snapshot::read(&world.rows).err();
    assert_eq!(error, Some(ReadError::Malformed { row, kind: 'N' }));
}

#[test]
fn every_prefix_of_a_catalog_is_an_error_and_none_a_panic() {
    let mut world = World::new();
    let cards = world.table("cards", &["id"]);
    world.view("v", &["id"], &[(cards, "1")]);
    world.row('E', &["180000", "app", "1:1:", "false", "1"]);
    assert!(Snapshot::read(&world.rows).is_ok());
    for end in 0..world.rows.len() {
        assert!(Snapshot::read(&world.rows[..end]).is_err(), "{end}");
    }
    for row in 0..world.rows.len() {
        for field in 0..9 {
            let mut rows = world.rows.clone();
            rows[row].truncate(field);
            // Some fields are not needed; none is a panic.
            let _ = Snapshot::read(&rows);
        }
    }
}

#[test]
fn too_much_is_refused() {
    let mut world = World::new();
    let row = world.rows.len();
    for number in 0..=crate::catalog::snapshot::RULES_MAX {
        world.row('V', &[&number.to_string(), "1", "{}", "{}"]);
    }
    assert!(world.rows.len() > row);
    let max = crate::catalog::snapshot::RULES_MAX;
    assert_eq!(Snapshot::read(&world.rows).err(), Some(ReadError::TooMany { what: "rules", max }));
}

#[test]
fn a_relation_is_found_by_number_and_by_name() {
    let mut world = World::new();
    let cards = world.table("cards", &["id", "we\\\"ird"]);
    let snapshot = world.snapshot();
    let relation = snapshot.relation(cards).expect("it was put in");
    assert_eq!(relation.kind, RelationKind::Table);
    assert_eq!(relation.columns[1].name, Name::new("we\"ird"));
    assert_eq!(relation.column_number(2).map(|column| &column.name), Some(&Name::new("we\"ird")));
    let by_name = snapshot.relation_named(&Name::new("public"), &Name::new("cards"));
    assert_eq!(by_name, Some(relation));
    assert!(snapshot.epoch().still_at("10:10:"));
    assert!(!snapshot.epoch().still_at("10:11:"));
}
