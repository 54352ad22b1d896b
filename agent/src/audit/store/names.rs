//! Names of the files of an epoch.

/// Preallocated, becomes the next segment by being renamed.
pub(super) const NEXT: &str = "next.log";
/// Preallocated, becomes a segment when there is no other space.
pub(super) const RESERVE: &str = "reserve";

const PREFIX: &str = "segment-";

/// What a file of a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// As it was written.
    Raw,
    /// Compressed.
    Pack,
    /// Sealed values of a packed segment.
    Values,
}

impl Form {
    const ALL: [Self; 3] = [Self::Raw, Self::Pack, Self::Values];

    fn suffix(self) -> &'static str {
        match self {
            Self::Raw => ".log",
            Self::Pack => ".pack",
            Self::Values => ".values",
        }
    }
}

/// Name of a file of the segment that begins with entry `first`.
pub(super) fn segment(first: u64, form: Form) -> String {
    format!("{PREFIX}{first:020}{}", form.suffix())
}

/// What a name says; `None` for a file of another kind.
pub(super) fn parse(name: &str) -> Option<(u64, Form)> {
    let rest = name.strip_prefix(PREFIX)?;
    let (digits, suffix) = rest.split_at_checked(20)?;
    let form = Form::ALL.into_iter().find(|form| form.suffix() == suffix)?;
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok().map(|first| (first, form))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_only_they() {
        for first in [0, 65_536, u64::MAX] {
            for form in Form::ALL {
                assert_eq!(parse(&segment(first, form)), Some((first, form)));
            }
        }
        let others = [
            "next.log",
            "segment-1.log",
            "segment-+0000000000000000001.log",
            "segment-00000000000000000001.log.tmp",
            "segment-99999999999999999999.log",
            "segment-0000000000000000000é.log",
        ];
        for name in others {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
