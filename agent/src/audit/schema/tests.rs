//! The table keeps its promises.

use std::collections::BTreeSet;

use super::*;

fn all_tables() -> Vec<&'static [Field]> {
    fn add(table: &'static [Field], tables: &mut Vec<&'static [Field]>) {
        tables.push(table);
        for field in table {
            match field.kind {
                Kind::Object(inner) | Kind::Objects(inner) => add(inner, tables),
                Kind::Uint
                | Kind::Uints
                | Kind::Flag
                | Kind::Text
                | Kind::Texts
                | Kind::Peer
                | Kind::Value
                | Kind::Hex
                | Kind::Wall
                | Kind::Word(_)
                | Kind::Words(_)
                | Kind::Pairs => {}
            }
        }
    }
    let mut tables = Vec::new();
    add(ENTRY, &mut tables);
    tables
}

#[test]
fn numbers_ascend_and_names_are_unique() {
    for table in all_tables() {
        assert!(table.is_sorted_by(|a, b| a.number < b.number));
        let names: BTreeSet<&str> = table.iter().map(|field| field.name).collect();
        assert_eq!(names.len(), table.len());
    }
}

#[test]
fn every_event_named_in_the_table_exists_and_is_numbered_once() {
    let known: BTreeSet<&str> = EventKind::ALL.iter().map(|event| event.name()).collect();
    for field in ENTRY {
        for event in field.events.split(' ') {
            assert!(event == "all" || known.contains(event), "`{event}` of `{}`", field.name);
        }
    }
    for event in EventKind::ALL {
        assert_eq!(EventKind::from_number(event.number()), Some(*event));
    }
}

/// What version 1 promised: a field may be added, none may be renamed, renumbered or removed.
#[test]
fn version_1_is_kept() {
    let frozen = include_str!("frozen-1.txt");
    let mut promised = 0;
    for line in frozen.lines() {
        let (number, name) = line.split_once(' ').expect("number and name");
        let number = number.parse().expect("a number");
        let found = by_number(ENTRY, number).map(|field| field.name);
        assert_eq!(found, Some(name), "field {number} of version {FORMAT_VERSION}");
        promised += 1;
    }
    assert!(promised > 100, "the frozen list is short: {promised}");
}

#[test]
fn fields_are_found_by_number_and_by_name() {
    assert_eq!(by_number(ENTRY, 255).map(|field| field.name), None, "never used");
    assert_eq!(by_number(ENTRY, 1 << 40).map(|field| field.name), None);
    for field in ENTRY {
        assert_eq!(by_number(ENTRY, field.number.into()).map(|f| f.name), Some(field.name));
        assert_eq!(by_name(ENTRY, field.name).map(|f| f.number), Some(field.number));
    }
}
