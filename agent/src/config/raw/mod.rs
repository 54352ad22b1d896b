//! Reading a TOML document so that every error is found, not only the first.
//!
//! A derived `Deserialize` stops at its first error. Here each value is asked for by name, with its
//! default and its bounds; an error is noted and the default handed out, so that reading goes on.
//! What was never asked for is an unknown key.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Problem, Report};
use hints::{Known, Unknown, hint_for};

pub(crate) use hints::nearest;

mod hints;

/// Longest array the configuration may hold.
pub(crate) const ITEMS_MAX: usize = 256;
/// Longest text of one value, in bytes (`PATH_MAX` of Linux).
pub(crate) const TEXT_BYTES_MAX: usize = 4096;
/// Longest part of a found value that an error repeats, in characters.
const SHOWN_MAX: usize = 60;

/// Collects the errors of one document.
pub(crate) struct Document<'i> {
    /// Where each line ends.
    line_feeds: Vec<usize>,
    items_max: usize,
    content: std::marker::PhantomData<&'i str>,
    problems: RefCell<Vec<Problem>>,
    unknown: RefCell<Vec<Unknown>>,
    known: RefCell<Vec<Known>>,
}

/// One table being read. [`Table::finish`] reports the keys that were not asked for.
pub(crate) struct Table<'d, 'i> {
    document: &'d Document<'i>,
    name: String,
    content: Option<&'d DeTable<'i>>,
    asked: RefCell<Vec<&'static str>>,
}

/// The texts of a key that the file names as it likes.
pub(crate) struct Named<'d> {
    /// Where they stand.
    pub(crate) place: Place,
    /// The key.
    pub(crate) name: &'d str,
    /// What it has; nothing where all of it was wrong.
    pub(crate) texts: Vec<&'d str>,
}

/// One value with its place, for checks that the reader can't make by itself.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    line: usize,
    key: String,
}

impl Place {
    /// Line, counted from 1.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// `table.key`, with indices.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

impl<'i> Document<'i> {
    /// A document without errors so far.
    pub(crate) fn new(text: &'i str) -> Self {
        Self::with_items_max(text, ITEMS_MAX)
    }

    /// The same, with arrays of up to `items_max`.
    pub(crate) fn with_items_max(text: &'i str, items_max: usize) -> Self {
        let bytes = text.bytes().enumerate();
        Self {
            line_feeds: bytes.filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect(),
            items_max,
            content: std::marker::PhantomData,
            problems: RefCell::default(),
            unknown: RefCell::default(),
            known: RefCell::default(),
        }
    }

    /// Notes an error of the TOML syntax.
    pub(crate) fn syntax(&self, error: &toml::de::Error) {
        let line = error.span().map(|span| self.line(span.start));
        let message = error.message().trim().replace('\n', ", ").replace(char::is_control, " ");
        self.problems.borrow_mut().push(Problem { line, key: String::new(), message, hint: None });
    }

    /// The outermost table.
    pub(crate) fn root<'d>(&'d self, table: &'d DeTable<'i>) -> Table<'d, 'i> {
        Table {
            document: self,
            name: String::new(),
            content: Some(table),
            asked: RefCell::default(),
        }
    }

    /// Notes an error at a known place.
    pub(crate) fn problem(&self, place: &Place, message: String, hint: Option<String>) {
        self.problems.borrow_mut().push(Problem {
            line: Some(place.line),
            key: place.key.clone(),
            message,
            hint,
        });
    }

    /// Notes that something is not there at all.
    pub(crate) fn missing(&self, key: &str, message: &str, hint: &str) {
        self.problems.borrow_mut().push(Problem {
            line: None,
            key: key.to_owned(),
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
        });
    }

    /// Ends the reading: `Err` when there was any error.
    pub(crate) fn finish(&self, file: &str) -> Result<(), Report> {
        let known = self.known.take();
        let mut problems = self.problems.take();
        for unknown in self.unknown.take() {
            let hint = hint_for(&unknown, &known);
            let key = joined(&unknown.table, &shown(&unknown.key));
            let message = "unknown key".to_owned();
            problems.push(Problem { line: Some(unknown.line), key, message, hint });
        }
        if problems.is_empty() { Ok(()) } else { Err(Report::new(file, problems)) }
    }

    /// Every key that was asked for so far, with the header of its table.
    #[cfg(test)]
    pub(crate) fn known(&self) -> std::collections::BTreeSet<(String, &'static str)> {
        self.known.borrow().iter().map(Known::named).collect()
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.line_feeds.partition_point(|end| *end < offset)
    }

    fn place(&self, key: String, value: &Spanned<DeValue<'_>>) -> Place {
        Place { line: self.line(value.span().start), key }
    }
}

impl<'d, 'i> Table<'d, 'i> {
    /// Reports the keys nobody asked for.
    pub(crate) fn finish(self) {
        let asked = self.asked.into_inner();
        let known = asked.iter().map(|&key| Known::new(&self.name, key));
        self.document.known.borrow_mut().extend(known);
        for key in self.content.iter().flat_map(|table| table.keys()) {
            if !asked.contains(&key.get_ref().as_ref()) {
                self.document.unknown.borrow_mut().push(Unknown {
                    line: self.document.line(key.span().start),
                    table: self.name.clone(),
                    key: key.get_ref().to_string(),
                });
            }
        }
    }

    /// The table `key`; an absent one reads as empty.
    pub(crate) fn table(&self, key: &'static str) -> Table<'d, 'i> {
        let content = match self.value(key) {
            None => None,
            Some((_, DeValue::Table(table))) => Some(table),
            Some((place, other)) => {
                self.wrong_type(&place, other, "a table");
                None
            }
        };
        Table {
            document: self.document,
            name: joined(&self.name, key),
            content,
            asked: RefCell::default(),
        }
    }

    /// The tables of `[[key]]`, with the place of each.
    pub(crate) fn tables(&self, key: &'static str) -> Vec<(Place, Table<'d, 'i>)> {
        let mut tables = Vec::new();
        for (place, value) in self.items(key).unwrap_or_default() {
            match value {
                DeValue::Table(content) => {
                    let table = Table {
                        document: self.document,
                        name: place.key.clone(),
                        content: Some(content),
                        asked: RefCell::default(),
                    };
                    tables.push((place, table));
                }
                other => self.wrong_type(&place, other, "a table"),
            }
        }
        tables
    }

    /// The table `key`, with its place, when it is there.
    pub(crate) fn written_table(&self, key: &'static str) -> Option<(Place, Table<'d, 'i>)> {
        let place = self.written(key)?;
        Some((place, self.table(key)))
    }

    /// Where the value of `key` stands, of whatever type.
    pub(crate) fn written(&self, key: &'static str) -> Option<Place> {
        self.value(key).map(|(place, _)| place)
    }

    /// `true` or `false`; the default is `false`.
    pub(crate) fn flag(&self, key: &'static str) -> bool {
        match self.value(key) {
            None => false,
            Some((_, DeValue::Boolean(value))) => *value,
            Some((place, other)) => {
                self.wrong_type(&place, other, "`true` or `false`");
                false
            }
        }
    }

    /// A whole number within `range`.
    pub(crate) fn integer(
        &self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        self.written_integer(key, range).map_or(default, |(_, number)| number)
    }

    /// A whole number within `range`, with its place, when there is a good one.
    pub(crate) fn written_integer(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<(Place, u64)> {
        let (place, value) = self.value(key)?;
        let number = self.integer_of(&place, value, &range)?;
        Some((place, number))
    }

    /// A duration in milliseconds within `range`.
    pub(crate) fn millis(
        &self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Duration {
        Duration::from_millis(self.integer(key, default, range))
    }

    /// Whole numbers, each within `range`; `None` when the key is absent or not an array.
    pub(crate) fn integers(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Vec<(Place, u64)>> {
        let items = self.items(key)?;
        Some(
            items
                .into_iter()
                .filter_map(|(place, value)| {
                    let number = self.integer_of(&place, value, &range)?;
                    Some((place, number))
                })
                .collect(),
        )
    }

    /// How many items the array `key` has as written, good or bad; another type counts as one,
    /// `None` is absent.
    pub(crate) fn written_items(&self, key: &str) -> Option<usize> {
        match self.content?.get(key)?.get_ref() {
            DeValue::Array(array) => Some(array.len()),
            _ => Some(1),
        }
    }

    /// A text.
    pub(crate) fn text(&self, key: &'static str) -> Option<(Place, &'d str)> {
        let (place, value) = self.value(key)?;
        let text = self.text_of(&place, value)?;
        Some((place, text))
    }

    /// A text that no error repeats: a secret, or what somebody may have taken for one.
    pub(crate) fn secret_text(&self, key: &'static str) -> Option<(Place, &'d str)> {
        let (place, value) = self.value(key)?;
        match value {
            DeValue::String(text) if text.len() <= TEXT_BYTES_MAX => Some((place, text)),
            DeValue::String(_) => {
                let message = format!("too long: expected at most {TEXT_BYTES_MAX} bytes");
                self.document.problem(&place, message, None);
                None
            }
            _ => {
                self.document.problem(&place, "wrong type: expected a string".to_owned(), None);
                None
            }
        }
    }

    /// Texts that no error repeats; `None` when the key is absent or anything in it is wrong.
    pub(crate) fn secret_texts(&self, key: &'static str) -> Option<(Place, Vec<&'d str>)> {
        let (place, value) = self.value(key)?;
        let text = |item: &'d Spanned<DeValue<'i>>| match item.get_ref() {
            DeValue::String(text) if text.len() <= TEXT_BYTES_MAX => Some(text.as_ref()),
            _ => None,
        };
        let texts = match value {
            DeValue::Array(items) if items.len() <= ITEMS_MAX => items.iter().map(text).collect(),
            _ => None,
        };
        if texts.is_none() {
            let message = "wrong type: expected an array of strings".to_owned();
            self.document.problem(&place, message, None);
        }
        texts.map(|texts| (place, texts))
    }

    /// Texts; `None` when the key is absent or not an array.
    pub(crate) fn texts(&self, key: &'static str) -> Option<Vec<(Place, &'d str)>> {
        let items = self.items(key)?;
        Some(
            items
                .into_iter()
                .filter_map(|(place, value)| {
                    let text = self.text_of(&place, value)?;
                    Some((place, text))
                })
                .collect(),
        )
    }

    /// The texts of each key of the table `key`, whatever its keys are: one text or an array of them. `None` when
    /// the key is absent or not a table.
    pub(crate) fn texts_by_name(&self, key: &'static str) -> Option<Vec<Named<'d>>> {
        let (place, value) = self.value(key)?;
        let DeValue::Table(table) = value else {
            self.wrong_type(&place, value, "a table");
            return None;
        };
        let mut named = Vec::new();
        for (name, value) in table {
            let name: &'d str = name.get_ref();
            let place = self.document.place(joined(&place.key, &shown(name)), value);
            let texts = match value.get_ref() {
                DeValue::Array(items) if items.len() > self.document.items_max => {
                    self.too_many(&place, items.len());
                    Vec::new()
                }
                DeValue::Array(items) => {
                    let texts = items.iter().map(|item| self.text_of(&place, item.get_ref()));
                    texts.flatten().collect()
                }
                text => self.text_of(&place, text).into_iter().collect(),
            };
            named.push(Named { place, name, texts });
        }
        Some(named)
    }

    /// One of the named choices; the first is the default.
    pub(crate) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> T {
        self.written_choice(key, choices).map_or(choices[0].1, |(_, value)| value)
    }

    /// One of the named choices, with its place, when there is a good one.
    pub(crate) fn written_choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<(Place, T)> {
        let (place, text) = self.text(key)?;
        let value = self.choice_of(&place, text, choices)?;
        Some((place, value))
    }

    /// Named choices; `None` when the key is absent or not an array.
    pub(crate) fn choices<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<Vec<(Place, T)>> {
        let of = |(place, text): (Place, &str)| {
            let value = self.choice_of(&place, text, choices)?;
            Some((place, value))
        };
        Some(self.texts(key)?.into_iter().filter_map(of).collect())
    }

    /// An absolute path without `.` and `..`, with its place when it was written.
    pub(crate) fn path(&self, key: &'static str, default: &str) -> (Option<Place>, PathBuf) {
        match self.text(key) {
            None => (None, PathBuf::from(default)),
            Some((place, text)) => {
                let path = self.path_of(&place, text).unwrap_or_else(|| PathBuf::from(default));
                (Some(place), path)
            }
        }
    }

    /// An absolute path without a default, with its place.
    pub(crate) fn written_path(&self, key: &'static str) -> Option<(Place, PathBuf)> {
        let (place, text) = self.text(key)?;
        let path = self.path_of(&place, text)?;
        Some((place, path))
    }

    /// Absolute paths.
    pub(crate) fn paths(&self, key: &'static str) -> Vec<PathBuf> {
        let texts = self.texts(key).unwrap_or_default();
        texts.into_iter().filter_map(|(place, text)| self.path_of(&place, text)).collect()
    }

    /// Checks that `text` is an absolute path in plain form.
    pub(crate) fn path_of(&self, place: &Place, text: &str) -> Option<PathBuf> {
        if let Some(path) = plain_path(text) {
            return Some(path);
        }
        let message = format!(
            "not an absolute path in plain form: found `{}`, expected for example `/run/pgward`",
            shown(text)
        );
        self.document.problem(place, message, None);
        None
    }

    fn value(&self, key: &'static str) -> Option<(Place, &'d DeValue<'i>)> {
        self.asked.borrow_mut().push(key);
        let value = self.content?.get(key)?;
        let place = self.document.place(joined(&self.name, key), value);
        Some((place, value.get_ref()))
    }

    fn items(&self, key: &'static str) -> Option<Vec<(Place, &'d DeValue<'i>)>> {
        let (place, value) = self.value(key)?;
        let DeValue::Array(array) = value else {
            self.wrong_type(&place, value, "an array");
            return None;
        };
        let items_max = self.document.items_max;
        if array.len() > items_max {
            self.too_many(&place, array.len());
        }
        let numbered = array.iter().take(items_max).enumerate().map(|(index, item)| {
            let key = format!("{}[{index}]", place.key);
            (self.document.place(key, item), item.get_ref())
        });
        Some(numbered.collect())
    }

    fn choice_of<T: Copy>(&self, place: &Place, text: &str, choices: &[(&str, T)]) -> Option<T> {
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let hint = nearest(text, choices.iter().map(|(name, _)| *name))
            .map(|name| format!("did you mean `{name}`?"));
        let names = alternatives(choices.iter().map(|(name, _)| *name));
        let message = format!("found `{}`, expected {names}", shown(text));
        self.document.problem(place, message, hint);
        None
    }

    fn integer_of(
        &self,
        place: &Place,
        value: &DeValue<'_>,
        range: &RangeInclusive<u64>,
    ) -> Option<u64> {
        let DeValue::Integer(integer) = value else {
            self.wrong_type(place, value, "a whole number");
            return None;
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let message = format!(
                    "out of range: found {}, expected {}..={}",
                    shown(integer.as_str()),
                    range.start(),
                    range.end()
                );
                self.document.problem(place, message, None);
                None
            }
        }
    }

    fn text_of<'v>(&self, place: &Place, value: &'v DeValue<'_>) -> Option<&'v str> {
        let DeValue::String(text) = value else {
            self.wrong_type(place, value, "a string");
            return None;
        };
        if text.len() > TEXT_BYTES_MAX {
            let message =
                format!("too long: found {} bytes, expected at most {TEXT_BYTES_MAX}", text.len());
            self.document.problem(place, message, None);
            return None;
        }
        Some(text)
    }

    fn too_many(&self, place: &Place, found: usize) {
        let expected = self.document.items_max;
        let message = format!("too many: found {found}, expected at most {expected}");
        self.document.problem(place, message, None);
    }

    fn wrong_type(&self, place: &Place, found: &DeValue<'_>, expected: &str) {
        let message = format!("wrong type: found {}, expected {expected}", described(found));
        self.document.problem(place, message, None);
    }
}

/// `text` when it is an absolute path without `.`, `..` and doubled slashes.
pub(crate) fn plain_path(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let plain = path.components().collect::<PathBuf>().as_os_str() == path.as_os_str()
        && !path.components().any(|part| part == std::path::Component::ParentDir);
    (path.is_absolute() && plain && text.len() > 1 && !text.contains('\0')).then(|| path.to_owned())
}

/// `text` for an error message: one line of bounded length, nothing that steers a terminal.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(|c| c.escape_debug()).collect();
    if text.chars().count() > SHOWN_MAX {
        shown.push('…');
    }
    shown
}

/// `a`, `b` or `c`, each in backticks.
pub(crate) fn alternatives<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{}\"", shown(text)),
        DeValue::Integer(number) => format!("the number {}", shown(number.as_str())),
        DeValue::Float(number) => format!("the number {}", shown(number.as_str())),
        DeValue::Boolean(value) => format!("`{value}`"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn joined(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_is_one_harmless_line() {
        assert_eq!(shown("a\nb\u{1b}[0m"), "a\\nb\\u{1b}[0m");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), SHOWN_MAX + 1);
    }
}
