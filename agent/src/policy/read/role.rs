//! `[[role]]`

use std::sync::Arc;

use super::{MODES, Reader};
use crate::config::raw::{Place, Table};
use crate::policy::model::{Counted, Hours, Limit, LimitAction, Role, Rule};

const ACTIONS: [(&str, LimitAction); 3] = [
    ("cancel", LimitAction::Cancel),
    ("warn", LimitAction::Warn),
    ("terminate", LimitAction::Terminate),
];

impl<'i> Reader<'_, 'i> {
    /// Reads a role. One that is wrong reads as something: the policy is refused then.
    pub(super) fn role(&mut self, place: &Place, table: Table<'_, 'i>) -> Role {
        let named = table.text("name").and_then(|(place, text)| self.plain(&place, text));
        if table.written("name").is_none() {
            let message = "`name` is missing".to_owned();
            self.document.problem(place, message, None);
        }
        let name: Arc<str> = named.map_or_else(|| place.key().into(), Arc::from);
        let mode = table.choice("mode", &MODES);
        let hint = self.hint(&table);
        let mut rules = |key: &'static str| -> Vec<Rule> {
            let tables = (0_usize..).zip(table.tables(key));
            tables
                .map(|(number, (place, rule))| {
                    self.rule(&place, rule, key, format!("{name}.{key}[{number}]"))
                })
                .collect()
        };
        let (grants, denials) = (rules("grant"), rules("deny"));
        let mut limits = Vec::new();
        let mut hours = Vec::new();
        for (number, (place, limit)) in (0_usize..).zip(table.tables("limit")) {
            let rule = self.name(&limit, &place, format!("{name}.limit[{number}]"));
            self.limit(&place, &limit, &rule, &mut limits, &mut hours);
            limit.finish();
        }
        table.finish();
        Role { name, mode, hint, grants, denials, limits, hours }
    }

    fn rule(
        &mut self,
        place: &Place,
        table: Table<'_, 'i>,
        key: &'static str,
        derived: String,
    ) -> Rule {
        let objects = self.objects(&table);
        let ceiling = |key| table.written_integer(key, 0..=i64::MAX as u64).map(|(_, max)| max);
        let mut rule = Rule {
            name: self.name(&table, place, derived),
            actions: self.actions(place, &table, &objects),
            columns: self.columns(&table),
            when: self.window(&table, "when", |_, _| ()).map(|(window, ())| window),
            objects,
            hint: None,
            terminate: false,
            rows: None,
            bytes: None,
        };
        // Each side has keys that the other would never use.
        match key {
            "grant" => (rule.rows, rule.bytes) = (ceiling("rows"), ceiling("bytes")),
            _ => (rule.hint, rule.terminate) = (self.hint(&table), table.flag("terminate")),
        }
        table.finish();
        rule
    }

    fn limit(
        &self,
        place: &Place,
        table: &Table<'_, 'i>,
        rule: &Arc<str>,
        limits: &mut Vec<Limit>,
        hours: &mut Vec<Hours>,
    ) {
        let action = table.choice("action", &ACTIONS);
        let window = self.window(table, "hours", |_, _| ()).map(|(window, ())| window);
        let before = limits.len();
        for (key, counted) in Counted::ALL {
            let Some((place, max)) = table.written_integer(key, 1..=i64::MAX as u64) else {
                continue;
            };
            if action == LimitAction::Cancel && !counted.is_of_statements() {
                let message = format!("no statement runs that `{key}` could cancel");
                let hint = "write `action = \"terminate\"` or `\"warn\"`".to_owned();
                self.document.problem(&place, message, Some(hint));
            }
            limits.push(Limit { counted, max, action, rule: rule.clone() });
        }
        let written = Counted::ALL.iter().any(|(key, _)| table.written(key).is_some());
        if limits.len() == before && !written && table.written("hours").is_none() {
            let message = "limits nothing".to_owned();
            let hint = "write for example `statement_rows = 10000`".to_owned();
            self.document.problem(place, message, Some(hint));
        }
        hours.extend(window.map(|window| Hours { window, action, rule: rule.clone() }));
    }
}
