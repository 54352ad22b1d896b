//! Where secrets are. No error repeats what was written: somebody may have put the secret there.

use crate::config::raw::{Document, Place, Table, plain_path};
use crate::config::{COMMAND_ARGUMENTS_MAX, PasswordSource, VerifierText};
use crate::pg::scram::Verifier;

/// Names of the keys of one password source.
pub(super) struct Keys {
    file: &'static str,
    environment: &'static str,
    command: &'static str,
    /// What people write instead.
    inline: &'static str,
}

/// The password of an upstream login.
pub(super) const PASSWORD: Keys = Keys {
    file: "password_file",
    environment: "password_env",
    command: "password_command",
    inline: "password",
};

/// The password an application proves that it knows.
pub(super) const APPLICATION_PASSWORD: Keys = Keys {
    file: "application_password_file",
    environment: "application_password_env",
    command: "application_password_command",
    inline: "application_password",
};

/// A password source as it was found.
pub(super) struct Found {
    /// Where the first of its keys stands, good or bad.
    pub(super) place: Option<Place>,
    /// The source, when there is exactly one and it is good.
    pub(super) source: Option<PasswordSource>,
}

/// Reads the source with these `keys`: at most one of the three.
pub(super) fn password_source(
    document: &Document<'_>,
    table: &Table<'_, '_>,
    keys: &Keys,
) -> Found {
    let Keys { file, environment, command, inline } = *keys;
    let inline = table.written(inline);
    if let Some(place) = &inline {
        let message = "a password is never written here".to_owned();
        let hint = format!("expected `{file}`, `{environment}` or `{command}`");
        document.problem(place, message, Some(hint));
    }
    let written = [file, environment, command].map(|key| table.written(key));
    let mut places = written.iter().flatten();
    let place = places.next().cloned().or(inline);
    if let Some(second) = places.next() {
        let message = format!(
            "more than one source of the same password: expected one of `{file}`, \
             `{environment}` and `{command}`"
        );
        document.problem(second, message, None);
    }
    let source = path(document, table, file)
        .map(PasswordSource::File)
        .or_else(|| variable(document, table, environment).map(PasswordSource::Environment))
        .or_else(|| program(document, table, command).map(PasswordSource::Command));
    Found { place, source }
}

/// Reads a verifier that is written in the file.
pub(super) fn verifier(
    document: &Document<'_>,
    table: &Table<'_, '_>,
    key: &'static str,
) -> Option<VerifierText> {
    let (place, text) = table.secret_text(key)?;
    if let Err(error) = Verifier::parse(text.as_bytes()) {
        let message = error.to_string();
        let hint = "expected `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as in \
                    `pg_authid.rolpassword`";
        document.problem(&place, message, Some(hint.to_owned()));
        return None;
    }
    Some(VerifierText::new(text))
}

fn path(
    document: &Document<'_>,
    table: &Table<'_, '_>,
    key: &'static str,
) -> Option<std::path::PathBuf> {
    let (place, text) = table.secret_text(key)?;
    let path = plain_path(text);
    if path.is_none() {
        let message = "not an absolute path in plain form".to_owned();
        document.problem(&place, message, None);
    }
    path
}

fn variable(document: &Document<'_>, table: &Table<'_, '_>, key: &'static str) -> Option<String> {
    let (place, text) = table.secret_text(key)?;
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain && text.starts_with(|c: char| !c.is_ascii_digit()) {
        return Some(text.to_owned());
    }
    let message = "not the name of an environment variable: expected letters, digits and `_`";
    document.problem(&place, message.to_owned(), None);
    None
}

fn program(
    document: &Document<'_>,
    table: &Table<'_, '_>,
    key: &'static str,
) -> Option<Vec<String>> {
    let (place, argv) = table.secret_texts(key)?;
    let problem = |message: String| document.problem(&place, message, None);
    if argv.first().is_none_or(|program| plain_path(program).is_none()) {
        problem("the program is not an absolute path in plain form".to_owned());
        return None;
    }
    if argv.len() > COMMAND_ARGUMENTS_MAX {
        let found = argv.len();
        problem(format!("too many: found {found}, expected at most {COMMAND_ARGUMENTS_MAX}"));
        return None;
    }
    if argv.iter().any(|argument| argument.contains('\0')) {
        problem("an argument holds a zero byte".to_owned());
        return None;
    }
    Some(argv.into_iter().map(str::to_owned).collect())
}
