//! Tables for people: one line a row, within the width of the terminal, without colour.

use std::fmt::Write as _;

use comfy_table::{
    Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, Width, presets,
};

/// Longest cell, in characters, also where the line has no limit.
const CELL_CHARS_MAX: usize = 500;
/// Space between columns, in characters.
const GAP: u16 = 2;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heading {
    /// What stands above it.
    pub(super) title: &'static str,
    /// Numbers stand to the right.
    pub(super) right: bool,
    /// Usual width of its cells, for tables that grow while they are printed. 0 takes a share of
    /// what is left.
    pub(super) usual: u16,
}

/// Renders `rows` under `headings`, with columns as wide as their cells or, when that is more than
/// `width`, narrower. Ends with a line feed.
pub(super) fn render(headings: &[Heading], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = table(headings, width);
    table.set_header(titles(headings));
    fill(&mut table, rows);
    align(&mut table, headings);
    trimmed(&table)
}

/// Renders `rows` with the usual width of each column, so that tables of the same width can follow
/// each other; `header` only the first time.
pub(super) fn render_part(
    headings: &[Heading],
    rows: Vec<Vec<String>>,
    width: Option<u16>,
    header: bool,
) -> String {
    let mut table = table(headings, None);
    if header {
        table.set_header(titles(headings));
    }
    fill(&mut table, rows);
    align(&mut table, headings);
    for (index, chars) in usual_widths(headings, width).into_iter().enumerate() {
        if let (Some(chars), Some(column)) = (chars, table.column_mut(index)) {
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(chars)));
        }
    }
    trimmed(&table)
}

/// Names and values, one pair a line.
pub(super) fn render_pairs(pairs: &[(&str, String)], width: Option<u16>) -> String {
    let heading = |title| Heading { title, right: false, usual: 0 };
    let headings = [heading(""), heading("")];
    let mut table = table(&headings, width);
    fill(&mut table, pairs.iter().map(|(n, v)| vec![(*n).to_owned(), v.clone()]).collect());
    align(&mut table, &headings);
    trimmed(&table)
}

/// `text` on one line and without anything that steers a terminal or the direction of writing; at
/// most `CELL_CHARS_MAX` characters. Runs of white space become one space: statements are written
/// over many lines.
///
/// What processes, clients and servers choose freely must go through this before it is shown.
pub fn printable(text: &str) -> String {
    let mut shown = String::new();
    let mut chars = 0;
    let mut gap = false;
    for c in text.trim().chars() {
        if c.is_whitespace() {
            gap = true;
            continue;
        }
        if chars >= CELL_CHARS_MAX {
            shown.push('…');
            break;
        }
        if gap {
            shown.push(' ');
            gap = false;
        }
        if c.is_control() || is_format(c) {
            // Writing to a string does not fail.
            let _ = write!(shown, "{}", c.escape_unicode());
        } else {
            shown.push(c);
        }
        chars += 1;
    }
    shown
}

/// Characters that are not seen but change how others are: direction marks, zero-width joiners,
/// tags, separators.
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

fn table(headings: &[Heading], width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_truncation_indicator("…");
    table.set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = width {
        // Narrower than this no column has room for a character.
        let least = headings.len() as u16 * (GAP + 1);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width.max(least).saturating_add(GAP));
    }
    table
}

fn titles(headings: &[Heading]) -> Row {
    let mut row = Row::from(headings.iter().map(|heading| Cell::new(heading.title)));
    row.max_height(1);
    row
}

fn fill(table: &mut Table, rows: Vec<Vec<String>>) {
    for cells in rows {
        let mut row = Row::from(cells);
        row.max_height(1);
        table.add_row(row);
    }
}

fn align(table: &mut Table, headings: &[Heading]) {
    for (heading, column) in headings.iter().zip(table.column_iter_mut()) {
        column.set_padding((0, GAP));
        // Cells hold no such character, so that they are cut where the column ends, not behind a
        // word.
        column.set_delimiter('\u{1}');
        if heading.right {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn trimmed(table: &Table) -> String {
    table.lines().fold(String::new(), |mut text, line| {
        text.push_str(line.trim_end());
        text.push('\n');
        text
    })
}

/// Widths with padding: the usual ones, and what is left in equal shares. `None`: as wide as the
/// content. The gap behind the last column is trimmed, so it does not count.
fn usual_widths(headings: &[Heading], width: Option<u16>) -> Vec<Option<u16>> {
    let fixed: u16 = headings.iter().map(|h| if h.usual > 0 { h.usual + GAP } else { 0 }).sum();
    let open = headings.iter().filter(|heading| heading.usual == 0).count() as u16;
    let share = width.map(|width| width.saturating_add(GAP).saturating_sub(fixed) / open.max(1));
    headings
        .iter()
        .map(|heading| match heading.usual {
            0 => share.map(|share| share.max(GAP + 8)),
            usual => Some(usual + GAP),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADINGS: [Heading; 3] = [
        Heading { title: "PID", right: true, usual: 5 },
        Heading { title: "EXE", right: false, usual: 10 },
        Heading { title: "STATEMENT", right: false, usual: 0 },
    ];

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![
            row(["7", "/usr/bin/psql", "select a, b, c from t where x = 1 and y = 2"]),
            row(["4711", "pgbench", "begin"]),
        ]
    }

    #[test]
    fn without_a_width_nothing_is_cut() {
        assert_eq!(
            render(&HEADINGS, rows(), None),
            " PID  EXE            STATEMENT\n   \
             7  /usr/bin/psql  select a, b, c from t where x = 1 and y = 2\n\
             4711  pgbench        begin\n"
        );
    }

    #[test]
    fn rows_stay_one_line_within_the_width() {
        for width in [9_u16, 20, 33, 40, 79] {
            let text = render(&HEADINGS, rows(), Some(width));
            assert_eq!(text.lines().count(), 3, "{width}:\n{text}");
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(longest <= usize::from(width), "{width}:\n{text}");
        }
        let text = render(&HEADINGS, rows(), Some(40));
        assert!(text.lines().nth(1).is_some_and(|line| line.ends_with('…')), "{text}");
    }

    #[test]
    fn parts_line_up() {
        let first = render_part(&HEADINGS, rows()[..1].to_vec(), Some(40), true);
        let second = render_part(&HEADINGS, rows()[1..].to_vec(), Some(40), false);
        assert_eq!(
            first + &second,
            "  PID  EXE         STATEMENT\n    \
             7  /usr/bin/…  select a, b, c from …\n \
             4711  pgbench     begin\n"
        );
    }

    #[test]
    fn nothing_in_a_cell_steers_the_terminal() {
        for (text, shown) in [
            ("select\n\t 1 ;\r\n", "select 1 ;"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\u{9b}b\u{7f}\0", "a\\u{9b}b\\u{7f}\\u{0}"),
            ("a\u{202e}b\u{2066}c\u{200b}", "a\\u{202e}b\\u{2066}c\\u{200b}"),
            ("a\u{2028}b", "a b"),
            ("é🐘", "é🐘"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable(&"x".repeat(600)).chars().count(), CELL_CHARS_MAX + 1);
    }
}
