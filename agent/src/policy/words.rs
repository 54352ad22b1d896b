//! Words for actions.

use crate::sql::facts::{Effect, Effects};

/// Words that stand for several actions, with them.
///
/// None has `unknown` in it: what can't be understood is granted by that name alone, and denied by it or by anything that it
/// could be. What gets away from the database's own privileges (files and programs of the
/// server, other sessions) is in `admin` and `all` alone.
pub const GROUPS: &[(&str, &[Effect])] = &[
    ("all", UNDERSTOOD),
    ("read", &[Effect::Select, Effect::CopyOut]),
    (
        "write",
        &[
            Effect::Insert,
            Effect::Update,
            Effect::Delete,
            Effect::Truncate,
            Effect::CopyIn,
            Effect::Lock,
        ],
    ),
    ("ddl", &[Effect::Create, Effect::Alter, Effect::Drop]),
    ("run", &[Effect::Execute, Effect::Call]),
    (
        "session",
        &[
            Effect::Show,
            Effect::Transaction,
            Effect::Prepare,
            Effect::ExecutePrepared,
            Effect::Discard,
            Effect::Cursor,
            Effect::Explain,
        ],
    ),
    (
        "admin",
        &[
            Effect::Grant,
            Effect::RoleAdmin,
            Effect::Maintenance,
            Effect::Server,
            Effect::CopyFile,
            Effect::CopyProgram,
            Effect::Replication,
        ],
    ),
];

/// All but the last.
const UNDERSTOOD: &[Effect] = match Effect::ALL {
    [understood @ .., Effect::Unknown] => understood,
    _ => panic!("`unknown` is the last of the effects"),
};

/// The actions of a word.
pub fn actions(word: &str) -> Option<Effects> {
    let group = GROUPS.iter().find(|(name, _)| *name == word);
    match group {
        Some((_, effects)) => Some(effects.iter().copied().collect()),
        None => Effect::ALL.iter().find(|effect| effect.name() == word).map(|e| Effects::of(*e)),
    }
}

/// Every word.
pub fn all() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().map(|(name, _)| *name).chain(Effect::ALL.iter().map(|effect| effect.name()))
}

/// Whether `action` is never done to an object that has a name: rules that name objects don't concern it.
pub(super) fn is_of_session(action: Effect) -> bool {
    match action {
        Effect::Transaction
        | Effect::TwoPhase
        | Effect::Prepare
        | Effect::ExecutePrepared
        | Effect::Discard
        | Effect::Do
        | Effect::Replication
        | Effect::Unknown => true,
        Effect::Select
        | Effect::Insert
        | Effect::Update
        | Effect::Delete
        | Effect::Truncate
        | Effect::Lock
        | Effect::CopyIn
        | Effect::CopyOut
        | Effect::CopyFile
        | Effect::CopyProgram
        | Effect::Create
        | Effect::Alter
        | Effect::Drop
        | Effect::Grant
        | Effect::RoleAdmin
        | Effect::SetRole
        | Effect::Set
        | Effect::Show
        | Effect::Execute
        | Effect::Cursor
        | Effect::Call
        | Effect::Explain
        | Effect::ExplainAnalyze
        | Effect::Listen
        | Effect::Notify
        | Effect::Maintenance
        | Effect::LargeObject
        | Effect::FunctionCall
        | Effect::Server => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_known() {
        let words: Vec<_> = all().collect();
        for (index, word) in words.iter().enumerate() {
            assert!(!words[..index].contains(word), "{word} twice");
            assert!(actions(word).is_some_and(|actions| !actions.is_empty()), "{word}");
        }
        assert_eq!(actions("reed"), None);
    }

    #[test]
    fn what_is_not_understood_has_a_word_of_its_own() {
        for (word, _) in GROUPS {
            let has = actions(word).is_some_and(|actions| actions.contains(Effect::Unknown));
            assert!(!has, "{word}");
        }
        let all = actions("all").expect("a word");
        for effect in Effect::ALL {
            assert_eq!(all.contains(*effect), *effect != Effect::Unknown, "{}", effect.name());
        }
    }
}
