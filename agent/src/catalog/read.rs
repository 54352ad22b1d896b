//! Rows of the query for a snapshot become one.
//!
//! Whatever is not as expected makes the whole unreadable: half a catalog would hide what the other half holds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::array;
use super::snapshot::{
    BYTES_MAX, COLUMNS_MAX, Cast, Column, EDGES_MAX, Epoch, FUNCTIONS_MAX, ForeignKey, Function,
    FunctionKind, Language, Oid, Operator, Persistence, RELATIONS_MAX, RULES_MAX, Relation,
    RelationKind, Rule, RuleEvent, Snapshot, TYPES_MAX, Trigger, Type, Volatility,
};
use crate::sql::facts::Name;

/// A row as the server sent it, in the text format.
pub type Row = Vec<Option<Box<[u8]>>>;

/// Why rows are no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A row or value is not as the query makes it.
    #[error("the catalog's answer is malformed in row {row} of kind `{kind}`")]
    Malformed {
        /// Its number, from 0.
        row: usize,
        /// What it says it is.
        kind: char,
    },
    /// The last row is missing.
    #[error("the catalog's answer has no end")]
    Incomplete,
    /// There is more than a snapshot holds.
    #[error("the catalog has too many {what}: the limit is {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are taken.
        max: usize,
    },
}

impl Snapshot {
    /// Makes a snapshot of the rows of [`snapshot_sql`](super::snapshot_sql).
    ///
    /// Errors: [`ReadError`]; whatever was known before is then out of date, and nothing is known.
    pub fn read(rows: &[Row]) -> Result<Self, ReadError> {
        let mut reader = Reader::default();
        for (number, row) in rows.iter().enumerate() {
            let kind = kind(row);
            reader.bytes += row.iter().flatten().map(|value| value.len()).sum::<usize>();
            at_most("bytes", reader.bytes, BYTES_MAX)?;
            let malformed = ReadError::Malformed { row: number, kind };
            reader.row(kind, &Fields(row)).ok_or(malformed)?;
            reader.within_limits()?;
        }
        reader.finish()
    }
}

fn kind(row: &Row) -> char {
    match row.first() {
        Some(Some(value)) if value.len() == 1 => char::from(value[0]),
        Some(_) | None => '?',
    }
}

fn at_most(what: &'static str, count: usize, max: usize) -> Result<(), ReadError> {
    if count > max { Err(ReadError::TooMany { what, max }) } else { Ok(()) }
}

/// Values of a row by number, 0 being its kind.
struct Fields<'a>(&'a Row);

impl<'a> Fields<'a> {
    /// `None` for a value that is not UTF-8 as for one that is not there.
    fn text(&self, at: usize) -> Option<&'a str> {
        self.optional(at)?
    }

    /// Outer `None`: no such field, or not UTF-8. Inner: NULL.
    fn optional(&self, at: usize) -> Option<Option<&'a str>> {
        match self.0.get(at)? {
            None => Some(None),
            Some(value) => std::str::from_utf8(value).ok().map(Some),
        }
    }

    fn name(&self, at: usize) -> Option<Name> {
        self.text(at).map(Name::new)
    }

    fn number<T: std::str::FromStr>(&self, at: usize) -> Option<T> {
        self.text(at)?.parse().ok()
    }

    /// Numbers of an array; none for NULL.
    fn numbers<T: std::str::FromStr>(&self, at: usize) -> Option<Vec<T>> {
        self.optional(at)?.map_or_else(|| Some(Vec::new()), array::numbers)
    }
}

/// A rule and the columns that the server says it depends on come in separate rows.
type RuleKey = (Oid, char);

#[derive(Default)]
struct Reader {
    snapshot: Snapshot,
    bytes: usize,
    columns: usize,
    rules: usize,
    edges: usize,
    ended: bool,
    words: HashSet<Arc<str>>,
    relations: Vec<(Oid, Relation)>,
    columns_of: HashMap<Oid, Vec<Column>>,
    found_rules: Vec<(RuleKey, FoundRule)>,
    rule_columns: HashMap<(RuleKey, Oid), Vec<i16>>,
    inherits: Vec<(Oid, Oid)>,
    triggers: Vec<(Oid, Trigger)>,
    functions: Vec<(Oid, Function)>,
    operators: Vec<(Oid, Name, Operator)>,
    types: Vec<(Oid, Type)>,
}

struct FoundRule {
    event: RuleEvent,
    instead: bool,
    /// It holds a whole row of something: the server's list of columns then misses some.
    whole_rows: bool,
    relations: Vec<Oid>,
    functions: Vec<Oid>,
}

impl Reader {
    fn row(&mut self, kind: char, row: &Fields<'_>) -> Option<()> {
        if self.ended {
            return None;
        }
        match kind {
            'N' => self.schema(row),
            'R' => self.relation(row),
            'A' => self.columns(row),
            'V' => self.rule(row),
            'D' => self.rule_columns(row),
            'I' => self.inheritance(row),
            'K' => self.foreign_key(row),
            'G' => self.trigger(row),
            'B' => self.builtins(row),
            'F' => self.function(row),
            'O' => self.operator(row),
            'C' => self.cast(row),
            'T' => self.user_type(row),
            'Y' => self.builtin_types(row),
            'E' => self.end(row),
            _ => None,
        }
    }

    fn within_limits(&self) -> Result<(), ReadError> {
        let snapshot = &self.snapshot;
        at_most("relations", self.relations.len(), RELATIONS_MAX)?;
        at_most("columns", self.columns, COLUMNS_MAX)?;
        at_most("rules", self.rules, RULES_MAX)?;
        at_most("edges", self.edges, EDGES_MAX)?;
        at_most("functions", self.functions.len(), FUNCTIONS_MAX)?;
        at_most("operators", self.operators.len(), FUNCTIONS_MAX)?;
        at_most("casts", snapshot.casts.len(), FUNCTIONS_MAX)?;
        at_most("types", self.types.len(), TYPES_MAX)
    }

    fn word(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.words.get(word) {
            return Arc::clone(known);
        }
        let word: Arc<str> = word.into();
        self.words.insert(Arc::clone(&word));
        word
    }

    fn schema(&mut self, row: &Fields<'_>) -> Option<()> {
        let (oid, name) = (row.number(1)?, row.name(2)?);
        self.snapshot.schemas.insert(oid, name.clone());
        self.snapshot.schema_numbers.insert(name, oid);
        Some(())
    }

    fn relation(&mut self, row: &Fields<'_>) -> Option<()> {
        let mut letters = row.text(4)?.chars();
        let kind = relation_kind(letters.next()?);
        let persistence = match letters.next()? {
            'p' => Persistence::Permanent,
            'u' => Persistence::Unlogged,
            _ => return None,
        };
        let flags = letters.as_str();
        let oid = row.number(1)?;
        let relation = Relation {
            oid,
            // Its schema's name is put in at the end, when all schemas are known.
            schema: Name::new(""),
            name: row.name(3)?,
            kind,
            persistence,
            owner: self.word(row.text(5)?),
            row_security: (flags.contains('r'), flags.contains('f')),
            partition: flags.contains('p'),
            columns: Vec::new(),
            parents: Vec::new(),
            children: Vec::new(),
            rules: Vec::new(),
            triggers: Vec::new(),
            table: row.optional(6)?.map(str::parse).transpose().ok()?,
            server: row.optional(7)?.map(Name::new),
        };
        self.relations.push((row.number(2)?, relation));
        Some(())
    }

    fn columns(&mut self, row: &Fields<'_>) -> Option<()> {
        let numbers: Vec<i16> = row.numbers(2)?;
        let names = array::elements(row.text(3)?)?;
        let types: Vec<Oid> = row.numbers(4)?;
        let generated: Vec<i16> = row.numbers(5)?;
        if names.len() != numbers.len() || types.len() != numbers.len() {
            return None;
        }
        let columns: Vec<Column> = numbers
            .iter()
            .zip(names)
            .zip(types)
            .map(|((&number, name), type_oid)| Column {
                number,
                name: Name::new(name),
                type_oid,
                generated: generated.contains(&number),
            })
            .collect();
        self.columns += columns.len();
        self.columns_of.insert(row.number(1)?, columns);
        Some(())
    }

    fn rule(&mut self, row: &Fields<'_>) -> Option<()> {
        let mut letters = row.text(2)?.chars();
        let letter = letters.next()?;
        let flags = letters.as_str();
        let found = FoundRule {
            event: rule_event(letter)?,
            instead: flags.contains('i'),
            whole_rows: flags.contains('w'),
            relations: some(row.numbers(3)?),
            functions: some(row.numbers(4)?),
        };
        self.rules += 1;
        self.found_rules.push(((row.number(1)?, letter), found));
        Some(())
    }

    fn rule_columns(&mut self, row: &Fields<'_>) -> Option<()> {
        let key = (row.number(1)?, row.text(2)?.chars().next()?);
        let columns: Vec<i16> = row.numbers(4)?;
        self.edges += 1;
        self.rule_columns.insert((key, row.number(3)?), columns);
        Some(())
    }

    fn inheritance(&mut self, row: &Fields<'_>) -> Option<()> {
        self.edges += 1;
        self.inherits.push((row.number(1)?, row.number(2)?));
        Some(())
    }

    fn foreign_key(&mut self, row: &Fields<'_>) -> Option<()> {
        let (from, to): (Oid, Oid) = (row.number(1)?, row.number(2)?);
        let mut letters = row.text(3)?.chars();
        let (on_update, on_delete) = (letters.next()?, letters.next()?);
        self.edges += 1;
        let key = ForeignKey { from, on_update, on_delete };
        self.snapshot.foreign_keys.entry(to).or_default().push(key);
        Some(())
    }

    fn trigger(&mut self, row: &Fields<'_>) -> Option<()> {
        self.edges += 1;
        let trigger = Trigger { function: row.number(2)?, bits: row.number(3)? };
        self.triggers.push((row.number(1)?, trigger));
        Some(())
    }

    fn builtins(&mut self, row: &Fields<'_>) -> Option<()> {
        let numbers: Vec<Oid> = row.numbers(1)?;
        let names = array::elements(row.text(2)?)?;
        let volatilities = array::elements(row.text(3)?)?;
        if names.len() != numbers.len() || volatilities.len() != numbers.len() {
            return None;
        }
        for ((oid, name), letter) in numbers.into_iter().zip(names).zip(volatilities) {
            let name = Name::new(name);
            let volatility = volatility(letter.chars().next()?)?;
            let least = self.snapshot.builtins_by_name.entry(name.clone()).or_insert(volatility);
            *least = volatility.max(*least);
            self.snapshot.builtins.insert(oid, name);
        }
        Some(())
    }

    fn function(&mut self, row: &Fields<'_>) -> Option<()> {
        let mut letters = row.text(4)?.chars();
        let kind = match letters.next()? {
            'f' => FunctionKind::Function,
            'p' => FunctionKind::Procedure,
            'a' => FunctionKind::Aggregate,
            'w' => FunctionKind::Window,
            _ => return None,
        };
        let volatility = volatility(letters.next()?)?;
        let flags = letters.as_str();
        let language = match row.text(5)? {
            "internal" => Language::Internal,
            "c" => Language::C,
            "sql" => Language::Sql,
            other => Language::Other(self.word(other)),
        };
        let arguments: Option<Vec<Oid>> =
            row.text(6)?.split_ascii_whitespace().map(|oid| oid.parse().ok()).collect();
        let function = Function {
            oid: row.number(1)?,
            schema: Name::new(""),
            name: row.name(3)?,
            kind,
            volatility,
            security_definer: flags.contains('d'),
            returns_set: flags.contains('s'),
            variadic: flags.contains('v'),
            of_extension: flags.contains('e'),
            sets: flags.contains('c'),
            language,
            arguments: arguments?,
            defaults: row.number(7)?,
            owner: self.word(row.text(8)?),
        };
        self.functions.push((row.number(2)?, function));
        Some(())
    }

    fn operator(&mut self, row: &Fields<'_>) -> Option<()> {
        let operator = Operator {
            schema: Name::new(""),
            left: row.number(4)?,
            right: row.number(5)?,
            function: row.number(6)?,
        };
        self.operators.push((row.number(2)?, row.name(3)?, operator));
        Some(())
    }

    fn cast(&mut self, row: &Fields<'_>) -> Option<()> {
        self.snapshot.casts.push(Cast {
            source: row.number(1)?,
            target: row.number(2)?,
            function: row.number(3)?,
            implicit: row.text(4)? != "e",
        });
        Some(())
    }

    fn user_type(&mut self, row: &Fields<'_>) -> Option<()> {
        let found = Type {
            oid: row.number(1)?,
            schema: Name::new(""),
            name: row.name(3)?,
            kind: row.text(4)?.chars().next()?,
            base: row.number(5)?,
            checks: row.numbers(7)?,
        };
        self.types.push((row.number(2)?, found));
        Some(())
    }

    fn builtin_types(&mut self, row: &Fields<'_>) -> Option<()> {
        let numbers: Vec<Oid> = row.numbers(1)?;
        let names = array::elements(row.text(2)?)?;
        if names.len() != numbers.len() {
            return None;
        }
        let types = names.into_iter().map(Name::new).zip(numbers);
        self.snapshot.builtin_types.extend(types);
        Some(())
    }

    fn end(&mut self, row: &Fields<'_>) -> Option<()> {
        self.snapshot.server_version = row.number(1)?;
        self.snapshot.database = row.text(2)?.into();
        // A standby's snapshot does not list all transactions that run.
        let horizon = match row.text(4)? {
            "false" => row.text(3)?,
            "true" => "",
            _ => return None,
        };
        self.snapshot.epoch = Epoch { stamp: row.text(5)?.into(), horizon: horizon.into() };
        self.ended = true;
        Some(())
    }

    fn finish(mut self) -> Result<Snapshot, ReadError> {
        if !self.ended {
            return Err(ReadError::Incomplete);
        }
        self.place_relations();
        self.place_rules();
        self.place_edges();
        self.place_functions();
        let mut snapshot = self.snapshot;
        snapshot.bytes = self.bytes;
        Ok(snapshot)
    }

    /// What lies in schemas of other sessions' temporary objects has no place here.
    fn place_relations(&mut self) {
        let snapshot = &mut self.snapshot;
        for (schema, mut relation) in self.relations.drain(..) {
            let Some(schema) = snapshot.schemas.get(&schema) else { continue };
            relation.schema = schema.clone();
            relation.columns = self.columns_of.remove(&relation.oid).unwrap_or_default();
            snapshot.relations_by_name.entry(relation.name.clone()).or_default().push(relation.oid);
            snapshot.relations.insert(relation.oid, relation);
        }
    }

    fn place_rules(&mut self) {
        for ((owner, letter), found) in self.found_rules.drain(..) {
            let columns_of = |target: Oid| {
                // Relations of the system have no entry, nor is a whole row one of their columns.
                let known = self.rule_columns.get(&((owner, letter), target));
                let known = known.filter(|_| !found.whole_rows)?;
                let columns: Vec<i16> = known.iter().copied().filter(|&n| n != 0).collect();
                Some(columns)
            };
            // Older servers list a view among the relations of its own rule.
            let of_itself = |target: Oid| found.event == RuleEvent::Select && target == owner;
            let relations = found.relations.iter().filter(|&&target| !of_itself(target));
            let rule = Rule {
                event: found.event,
                instead: found.instead,
                relations: relations.map(|&target| (target, columns_of(target))).collect(),
                functions: found.functions,
            };
            if let Some(relation) = self.snapshot.relations.get_mut(&owner) {
                relation.rules.push(rule);
            }
        }
    }

    fn place_edges(&mut self) {
        let relations = &mut self.snapshot.relations;
        for (child, parent) in self.inherits.drain(..) {
            if !relations.contains_key(&child) || !relations.contains_key(&parent) {
                continue;
            }
            if let Some(relation) = relations.get_mut(&child) {
                relation.parents.push(parent);
            }
            if let Some(relation) = relations.get_mut(&parent) {
                relation.children.push(child);
            }
        }
        for (table, trigger) in self.triggers.drain(..) {
            if let Some(relation) = relations.get_mut(&table) {
                relation.triggers.push(trigger);
            }
        }
    }

    fn place_functions(&mut self) {
        let snapshot = &mut self.snapshot;
        for (schema, mut function) in self.functions.drain(..) {
            let Some(schema) = snapshot.schemas.get(&schema) else { continue };
            function.schema = schema.clone();
            snapshot.functions_by_name.entry(function.name.clone()).or_default().push(function.oid);
            snapshot.functions.insert(function.oid, function);
        }
        for (schema, name, mut operator) in self.operators.drain(..) {
            let Some(schema) = snapshot.schemas.get(&schema) else { continue };
            operator.schema = schema.clone();
            snapshot.operators.entry(name).or_default().push(operator);
        }
        for (schema, mut found) in self.types.drain(..) {
            let Some(schema) = snapshot.schemas.get(&schema) else { continue };
            found.schema = schema.clone();
            snapshot.types_by_name.entry(found.name.clone()).or_default().push(found.oid);
            snapshot.types.insert(found.oid, found);
        }
    }
}

/// Without those that stand for none: a subquery is a source of rows without a relation.
fn some(mut oids: Vec<Oid>) -> Vec<Oid> {
    oids.retain(|oid| *oid != 0);
    oids
}

fn relation_kind(letter: char) -> RelationKind {
    match letter {
        'r' => RelationKind::Table,
        'p' => RelationKind::PartitionedTable,
        'v' => RelationKind::View,
        'm' => RelationKind::MaterializedView,
        'f' => RelationKind::ForeignTable,
        'S' => RelationKind::Sequence,
        'i' | 'I' => RelationKind::Index,
        'c' => RelationKind::Composite,
        _ => RelationKind::Unknown,
    }
}

fn rule_event(letter: char) -> Option<RuleEvent> {
    Some(match letter {
        '1' => RuleEvent::Select,
        '2' => RuleEvent::Update,
        '3' => RuleEvent::Insert,
        '4' => RuleEvent::Delete,
        _ => return None,
    })
}

fn volatility(letter: char) -> Option<Volatility> {
    Some(match letter {
        'i' => Volatility::Immutable,
        's' => Volatility::Stable,
        'v' => Volatility::Volatile,
        _ => return None,
    })
}
