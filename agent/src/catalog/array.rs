//! One-dimensional arrays in the text format.

/// Elements of an array literal; `None` for one that is no such literal, or holds a NULL.
///
/// Layout: `{a,"b \"c\"",d}`; a backslash takes the next character as it is. The server quotes `NULL` when it is text.
/// Source: PostgreSQL documentation, "Array Input and Output Syntax".
pub(super) fn elements(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    if inner.is_empty() {
        return Some(Vec::new());
    }
    let mut elements = Vec::new();
    let mut rest = inner.chars();
    loop {
        let (element, more) = element(&mut rest)?;
        elements.push(element);
        if !more {
            return Some(elements);
        }
    }
}

/// Numbers of an array literal.
pub(super) fn numbers<T: std::str::FromStr>(text: &str) -> Option<Vec<T>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    if inner.is_empty() {
        return Some(Vec::new());
    }
    inner.split(',').map(|number| number.trim_matches('"').parse().ok()).collect()
}

/// The next element, and whether another follows.
fn element(rest: &mut std::str::Chars<'_>) -> Option<(String, bool)> {
    let mut element = String::new();
    let mut quoted = false;
    let mut was_quoted = false;
    loop {
        match rest.next() {
            None if quoted => return None,
            Some(',') if !quoted => return value(element, was_quoted).map(|e| (e, true)),
            None => return value(element, was_quoted).map(|e| (e, false)),
            Some('"') => {
                quoted = !quoted;
                was_quoted = true;
            }
            Some('{' | '}') if !quoted => return None,
            Some('\\') => element.push(rest.next()?),
            Some(other) => element.push(other),
        }
    }
}

fn value(element: String, quoted: bool) -> Option<String> {
    (quoted || !(element.is_empty() || element.eq_ignore_ascii_case("null"))).then_some(element)
}

#[cfg(test)]
mod tests {
    use super::{elements, numbers};

    #[test]
    fn elements_are_cut_as_the_server_quotes_them() {
        let cases: &[(&str, Option<&[&str]>)] = &[
            ("{}", Some(&[])),
            ("{a}", Some(&["a"])),
            ("{a,b c,\"d,e\"}", Some(&["a", "b c", "d,e"])),
            (r#"{"a\"b","\\"}"#, Some(&["a\"b", "\\"])),
            (r#"{"","NULL"}"#, Some(&["", "NULL"])),
            ("{NULL}", None),
            ("{a,}", None),
            ("{\"a}", None),
            ("{{a},{b}}", None),
            ("a", None),
            ("{", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = elements(text);
            let found: Option<Vec<&str>> =
                found.as_ref().map(|found| found.iter().map(String::as_str).collect());
            assert_eq!(found.as_deref(), *expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_all_numbers_or_nothing() {
        assert_eq!(numbers::<i16>("{1,-2,3}"), Some(vec![1, -2, 3]));
        assert_eq!(numbers::<i16>("{}"), Some(vec![]));
        assert_eq!(numbers::<i16>("{70000}"), None);
        assert_eq!(numbers::<u32>("{1,a}"), None);
        assert_eq!(numbers::<u32>("1"), None);
    }
}
