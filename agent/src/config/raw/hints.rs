//! Hints for keys that nobody asked for.

/// Longest word that is compared, in characters.
const WORD_MAX: usize = 60;

/// Keys that were, with what took their place. Files with them are still around.
const GONE: [(&str, &str, &str); 2] = [
    (
        "audit",
        "path",
        "the query log is a trail of several files now: its folder is `audit.directory`",
    ),
    (
        "audit",
        "file_bytes_max",
        "files of the trail in `audit.directory` have `segment_bytes`, all together `quota_bytes`",
    ),
];

/// A key nobody asked for.
pub(super) struct Unknown {
    pub(super) line: usize,
    /// The table it stands in, with indices.
    pub(super) table: String,
    pub(super) key: String,
}

/// A key that was asked for.
pub(super) struct Known {
    /// The header of its table as it is written, without brackets.
    table: String,
    /// Whether the header has two brackets.
    repeats: bool,
    key: &'static str,
}

impl Known {
    /// `key` of the table `name`, which has indices.
    pub(super) fn new(name: &str, key: &'static str) -> Self {
        Self { table: without_indices(name), repeats: name.ends_with(']'), key }
    }

    /// The header and the key.
    #[cfg(test)]
    pub(super) fn named(&self) -> (String, &'static str) {
        let header = match (self.table.as_str(), self.repeats) {
            ("", _) => String::new(),
            (table, true) => format!("[[{table}]]"),
            (table, false) => format!("[{table}]"),
        };
        (header, self.key)
    }
}

/// What took the place of a key that is gone, else a key of the same table one edit away, else the same key in another table, else a near key of
/// the same table.
pub(super) fn hint_for(unknown: &Unknown, known: &[Known]) -> Option<String> {
    let table = without_indices(&unknown.table);
    let gone = GONE.iter().find(|(of, key, _)| *of == table && *key == unknown.key);
    if let Some((_, _, hint)) = gone {
        return Some((*hint).to_owned());
    }
    let here = known.iter().filter(|known| known.table == table).map(|known| known.key);
    let near = nearest(&unknown.key, here);
    let meant = |key: &str| format!("did you mean `{key}`?");
    if let Some(key) = near
        && distance(&unknown.key, key) == 1
    {
        return Some(meant(key));
    }
    match known.iter().find(|known| known.key == unknown.key && known.table != table) {
        None => near.map(meant),
        Some(Known { table, repeats, key }) => Some(match (table.as_str(), repeats) {
            ("", _) => format!("`{key}` stands at the top level"),
            (table, true) => format!("`{key}` belongs in `[[{table}]]`"),
            (table, false) => format!("`{key}` belongs in `[{table}]`"),
        }),
    }
}

/// The candidate that differs least, when it differs by at most a third of its letters.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, removals, replacements and swaps of neighbours that turn `a` into `b`; long words
/// count as far apart.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(WORD_MAX).collect(), b.chars().take(WORD_MAX).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

/// `destination[3].auth.exception[0]` as `destination.auth.exception`.
fn without_indices(table: &str) -> String {
    let mut depth = 0_u32;
    table
        .chars()
        .filter(|c| match c {
            '[' => {
                depth += 1;
                false
            }
            ']' => {
                depth = depth.saturating_sub(1);
                false
            }
            _ => depth == 0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits_and_swaps() {
        for (a, b, expected) in [
            ("", "abc", 3),
            ("port", "port", 0),
            ("prot", "port", 1),
            ("ports", "port", 1),
            ("pord", "port", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn nearest_gives_nothing_for_strangers() {
        assert_eq!(nearest("colour", ["port", "path"].into_iter()), None);
        assert_eq!(nearest("Port", ["port", "path"].into_iter()), Some("port"));
    }
}
