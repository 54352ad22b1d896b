//! A catalog made by hand, through the rows that a server would send.

use crate::catalog::{Oid, Row, Snapshot};

/// Rows of a catalog.
pub(super) struct World {
    pub(super) rows: Vec<Row>,
    schemas: Vec<(String, Oid)>,
    next: Oid,
    version: u32,
}

impl World {
    /// With `pg_catalog`, `public`, and a few built-in functions and types.
    pub(super) fn new() -> Self {
        let mut world =
            Self { rows: Vec::new(), schemas: Vec::new(), next: 16_384, version: 180_000 };
        for (name, oid) in [("pg_catalog", "11"), ("public", "2200"), ("pg_toast", "99")] {
            world.row('N', &[oid, name]);
            world.schemas.push((name.to_owned(), oid.parse().expect("a number")));
        }
        world.row(
            'B',
            &[
                "{65,66,67,68,69,70,71,72}",
                "{lower,now,pg_read_file,query_to_xml,count,nextval,to_json,set_config}",
                "{i,s,v,v,i,v,s,v}",
            ],
        );
        world.row('Y', &["{16,23,25}", "{bool,int4,text}"]);
        world
    }

    pub(super) fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    pub(super) fn row(&mut self, kind: char, values: &[&str]) {
        let kind = kind.to_string();
        let values = std::iter::once(kind.as_str()).chain(values.iter().copied());
        // An exclamation mark stands for NULL.
        let mut row: Row =
            values.map(|value| (value != "!").then(|| value.as_bytes().into())).collect();
        row.resize(9, None);
        self.rows.push(row);
    }

    fn number(&mut self) -> Oid {
        self.next += 1;
        self.next
    }

    pub(super) fn schema(&mut self, name: &str) -> Oid {
        if let Some((_, oid)) = self.schemas.iter().find(|(known, _)| known == name) {
            return *oid;
        }
        let oid = self.number();
        self.row('N', &[&oid.to_string(), name]);
        self.schemas.push((name.to_owned(), oid));
        oid
    }

    /// A relation of a kind given by its letter; columns get numbers from 1.
    pub(super) fn relation(&mut self, kind: &str, name: &str, columns: &[&str]) -> Oid {
        let (schema, name) = name.split_once('.').unwrap_or(("public", name));
        let schema = self.schema(schema).to_string();
        let oid = self.number();
        let server = if kind == "f" { "elsewhere" } else { "!" };
        let flags = format!("{kind}p");
        self.row('R', &[&oid.to_string(), &schema, name, &flags, "owner", "!", server]);
        if !columns.is_empty() {
            let list = |items: Vec<String>| format!("{{{}}}", items.join(","));
            let numbers = list((1..=columns.len()).map(|number| number.to_string()).collect());
            let names = list(columns.iter().map(|name| format!("\"{name}\"")).collect());
            let types = list(columns.iter().map(|_| "25".to_owned()).collect());
            self.row('A', &[&oid.to_string(), &numbers, &names, &types]);
        }
        oid
    }

    pub(super) fn table(&mut self, name: &str, columns: &[&str]) -> Oid {
        self.relation("r", name, columns)
    }

    pub(super) fn index(&mut self, name: &str, table: Oid) -> Oid {
        let oid = self.number();
        self.row('R', &[&oid.to_string(), "2200", name, "ip", "owner", &table.to_string()]);
        oid
    }

    /// A view that reads columns of relations, by number.
    pub(super) fn view(&mut self, name: &str, columns: &[&str], reads: &[(Oid, &str)]) -> Oid {
        let oid = self.relation("v", name, columns);
        self.rule(oid, "1i", reads, &[]);
        oid
    }

    /// A rule: its event and flags, what it reads, functions it calls.
    pub(super) fn rule(&mut self, on: Oid, event: &str, reads: &[(Oid, &str)], functions: &[Oid]) {
        let relations: Vec<String> = reads.iter().map(|(oid, _)| oid.to_string()).collect();
        let functions: Vec<String> = functions.iter().map(Oid::to_string).collect();
        let list = |items: &[String]| format!("{{{}}}", items.join(","));
        let on = on.to_string();
        self.row('V', &[&on, event, &list(&relations), &list(&functions)]);
        for (oid, columns) in reads {
            self.row('D', &[&on, &event[..1], &oid.to_string(), &format!("{{{columns}}}")]);
        }
    }

    pub(super) fn inherits(&mut self, child: Oid, parent: Oid) {
        self.row('I', &[&child.to_string(), &parent.to_string()]);
    }

    /// A function: flags as in the query, language, types of its arguments.
    pub(super) fn function(&mut self, name: &str, flags: &str, language: &str, types: &str) -> Oid {
        let (schema, name) = name.split_once('.').unwrap_or(("public", name));
        let schema = self.schema(schema).to_string();
        let oid = self.number();
        let row = [&oid.to_string(), &schema, name, flags, language, types, "0", "owner"];
        self.row('F', &row);
        oid
    }

    pub(super) fn snapshot(mut self) -> Snapshot {
        let version = self.version.to_string();
        self.row('E', &[&version, "app", "10:10:", "false", "1.2.3"]);
        Snapshot::read(&self.rows).expect("rows as a server sends them")
    }
}
