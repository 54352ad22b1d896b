//! Patterns of one text: `*` stands for any run of characters, `?` for one. All of the text must match; case counts.

/// A pattern, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Every text is one.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether all of `text` matches. Takes at most the product of both lengths.
    pub fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut rest) = (&*self.0, text);
        // Behind the last `*`, and what it leaves to match there.
        let mut star: Option<(&str, &str)> = None;
        loop {
            let mut wanted = pattern.chars();
            let mut found = rest.chars();
            match (wanted.next(), found.next()) {
                (None, None) => return true,
                (Some('*'), _) => {
                    pattern = wanted.as_str();
                    star = Some((pattern, rest));
                }
                (Some(want), Some(have)) if want == '?' || want == have => {
                    (pattern, rest) = (wanted.as_str(), found.as_str());
                }
                (Some(_) | None, Some(_)) | (Some(_), None) => {
                    // The `*` takes one more, if there is one.
                    let Some((behind, left)) = star else { return false };
                    let mut left = left.chars();
                    if left.next().is_none() {
                        return false;
                    }
                    (pattern, rest) = (behind, left.as_str());
                    star = Some((behind, rest));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_characters() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("psql", "psql", true),
            ("psql", "Psql", false),
            ("psql", "psql2", false),
            ("psql?", "psql2", true),
            ("psql?", "psql", false),
            ("?", "é", true),
            ("*", "", true),
            ("*", "anything at all", true),
            ("/usr/*/psql", "/usr/lib/postgresql/15/bin/psql", true),
            ("/usr/*/psql", "/usr/psql", false),
            ("*a*b*c", "xxaxxbxxbxxc", true),
            ("*a*b*c", "xxaxxbxxbxx", false),
            ("**", "x", true),
            ("a*", "ba", false),
            ("*ab", "aab", true),
            ("*?", "", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "`{pattern}` on `{text}`");
        }
    }

    #[test]
    fn hostile_patterns_take_no_time() {
        let pattern = Pattern::new(&"a*".repeat(200));
        assert!(!pattern.matches(&format!("{}b", "b".repeat(4000))));
        assert!(!Pattern::new(&format!("{}c", "a*".repeat(200))).matches(&"a".repeat(4000)));
    }
}
