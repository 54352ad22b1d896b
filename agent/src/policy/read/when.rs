//! Times of the week.

use super::Reader;
use crate::config::raw::{Place, Table, shown};
use crate::policy::window::{DAY_MINUTES, DAYS, Window, minute, offset};

impl<'i> Reader<'_, 'i> {
    /// The window `key`, if there is a good one. Its table is read to the end by `rest`, which gets it and its place.
    pub(super) fn window<T>(
        &self,
        table: &Table<'_, 'i>,
        key: &'static str,
        rest: impl FnOnce(&Place, &Table<'_, 'i>) -> T,
    ) -> Option<(Window, T)> {
        let (place, table) = table.written_table(key)?;
        let days = self.days(&table);
        let from = self.minute(&table, "from");
        let to = self.minute(&table, "to");
        let offset = match table.text("timezone") {
            None => Some(0),
            Some((place, text)) => {
                let minutes = offset(text);
                if minutes.is_none() {
                    let message =
                        format!("found `{}`, expected `UTC` or for example `+02:00`", shown(text));
                    let hint = "summer time is not followed".to_owned();
                    self.document.problem(&place, message, Some(hint));
                }
                minutes
            }
        };
        if ["days", "from", "to"].iter().all(|key| table.written(key).is_none()) {
            let message = "no days and no hours".to_owned();
            self.document.problem(&place, message, None);
        }
        let rest = rest(&place, &table);
        table.finish();
        let window = Window {
            days: days?,
            from: from?.unwrap_or(0) % DAY_MINUTES,
            to: to?.unwrap_or(DAY_MINUTES),
            offset: offset?,
        };
        if window.from == window.to || window.to == 0 {
            let message = "begins when it ends".to_owned();
            let hint = "a whole day is from 00:00 to 24:00".to_owned();
            self.document.problem(&place, message, Some(hint));
            return None;
        }
        Some((window, rest))
    }

    /// Bits of days; `None` when anything is wrong.
    fn days(&self, table: &Table<'_, 'i>) -> Option<u8> {
        if table.written("days").is_none() {
            return Some(0x7f);
        }
        let mut numbered = DAYS.iter().zip(0_u8..);
        let choices: [(&str, u8); 7] =
            std::array::from_fn(|_| numbered.next().map_or(("", 0), |(day, bit)| (*day, bit)));
        let places = table.choices("days", &choices)?;
        if table.written_items("days") == Some(0) {
            self.empty(&table.written("days")?);
            return None;
        }
        (Some(places.len()) == table.written_items("days"))
            .then(|| places.iter().fold(0, |days, (_, bit)| days | 1 << bit))
    }

    /// A minute of the day, `Some(None)` when there is none, `None` when it is wrong.
    #[expect(clippy::option_option, reason = "absent and wrong are different, and both go on")]
    fn minute(&self, table: &Table<'_, 'i>, key: &'static str) -> Option<Option<u16>> {
        let Some((place, text)) = table.text(key) else {
            return table.written(key).is_none().then_some(None);
        };
        let minute = minute(text);
        if minute.is_none() {
            let message = format!("found `{}`, expected 00:00 to 24:00", shown(text));
            self.document.problem(&place, message, None);
        }
        minute.map(Some)
    }
}
