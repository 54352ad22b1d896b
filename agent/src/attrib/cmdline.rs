//! Command lines: cut to size, secrets blotted out.

use super::identity::CmdlineSize;
use super::source::Bounded;

/// Most arguments kept.
pub const ARGS_MAX: usize = 64;
/// Most bytes of all kept arguments together, after blotting out.
pub const ARG_BYTES_MAX: usize = 4096;
/// Bytes read for that. More than is kept: a secret at the cut is then recognised by what follows
/// it.
pub const CMDLINE_WINDOW: usize = 64 * 1024;
/// Bytes read to count the full length; the kernel's own limit is 6 MB with default stack limits.
pub const CMDLINE_READ_MAX: u64 = 8 * 1024 * 1024;

/// What stands for a secret.
const BLOT: &str = "***";

/// A command line as it is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cmdline {
    pub(super) args: Vec<String>,
    pub(super) full: Option<CmdlineSize>,
    pub(super) redacted: u32,
}

/// Splits `/proc/PID/cmdline` at its zeros. `None` when it is empty.
///
/// A process that rewrote its title leaves one argument and zeros behind it: those at the end are
/// dropped.
pub(super) fn parse(read: &Bounded) -> Option<Cmdline> {
    let end = read.bytes.iter().rposition(|&b| b != 0)? + 1;
    let mut out = Cmdline::default();
    let mut room = ARG_BYTES_MAX;
    let mut cut = read.is_cut();
    let mut blot_next = false;
    let mut args = 0;
    for raw in read.bytes[..end].split(|&b| b == 0) {
        args += 1;
        if out.args.len() == ARGS_MAX || room == 0 {
            cut = true;
            continue;
        }
        let text = String::from_utf8_lossy(raw);
        let (mut text, found) =
            if blot_next && !text.starts_with('-') { (BLOT.to_owned(), 1) } else { redact(&text) };
        blot_next = is_secret_option(&String::from_utf8_lossy(raw));
        out.redacted += found;
        if text.len() > room {
            let at = (0..=room).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            text.truncate(at);
            cut = true;
            room = 0;
        } else {
            room -= text.len();
        }
        out.args.push(text);
    }
    if cut {
        // Beyond the window only zeros were counted: each ends an argument.
        let args = if read.is_cut() { read.zeros.max(args) } else { args };
        out.full = Some(CmdlineSize { args, bytes: read.total, at_least: read.at_least });
    }
    Some(out)
}

/// Blots out what is obviously a secret in one argument; returns how many were found.
///
/// Covered, names in any case: `--password=X`, `PGPASSWORD=X` and whatever other name holds a word
/// like `secret` or `token`, as the whole argument, in libpq connection strings (`host=h
/// password='a b'`), in the query part of URIs and in shell scripts; passwords in URIs
/// (`postgres://user:X@host`); SQL `PASSWORD 'X'`; `Authorization: X`. The value of an option that
/// stands as an argument of its own (`--password X`) is the caller's to blot out.
///
/// Not covered, as it can't be told from other text: `-pX` of mysql, positional secrets, names that
/// don't say so. It is a courtesy to those who type passwords on command lines, where every user of
/// the host can read them, not a guarantee.
pub fn redact(arg: &str) -> (String, u32) {
    let mut spans = Vec::new();
    uri_passwords(arg, &mut spans);
    assignments(arg, &mut spans);
    spans.sort_unstable();
    let mut out = String::with_capacity(arg.len());
    let (mut at, mut found) = (0, 0);
    for (start, end) in spans {
        if start < at {
            at = at.max(end); // overlaps the one before: one blot for both
            continue;
        }
        out.push_str(&arg[at..start]);
        out.push_str(BLOT);
        found += 1;
        at = end;
    }
    out.push_str(&arg[at..]);
    (out, found)
}

/// Whether `arg` is an option without a value whose value, if it takes one, is a secret:
/// `--password`.
fn is_secret_option(arg: &str) -> bool {
    arg.strip_prefix("--").is_some_and(|name| !name.contains('=') && is_secret_name(name))
}

/// A name that holds one of these is that of a secret.
const SECRET_WORDS: [&str; 9] =
    ["password", "passwd", "passphrase", "pwd", "secret", "token", "apikey", "api-key", "api_key"];

/// Names that hold a word of [`SECRET_WORDS`] without being that of a secret.
const OPEN_NAMES: [&str; 4] = ["no-password", "pwd", "oldpwd", "passwordfile"];

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let bare = name.trim_start_matches('-');
    !OPEN_NAMES.contains(&bare)
        && !bare.ends_with("_file")
        && !bare.ends_with("-file")
        && SECRET_WORDS.iter().any(|word| bare.contains(word))
}

/// `scheme://user:PASSWORD@host`, anywhere. The password reaches to the last `@` before the path,
/// as an unescaped `@` may be in it.
fn uri_passwords(arg: &str, spans: &mut Vec<(usize, usize)>) {
    let mut from = 0;
    while let Some(at) = arg[from..].find("://") {
        let start = from + at + 3;
        let rest = &arg[start..];
        let authority_end = rest.find(|c: char| matches!(c, '/' | '?' | '#') || c.is_whitespace());
        let authority = &rest[..authority_end.unwrap_or(rest.len())];
        // A password may hold an unescaped `/`: then the `@` is behind the authority.
        let host = authority.rfind('@').or_else(|| {
            let word = &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())];
            authority.contains(':').then(|| word.rfind('@')).flatten()
        });
        if let Some(host) = host
            && let Some(colon) = rest[..host].find(':')
            && colon + 1 < host
        {
            spans.push((start + colon + 1, start + host));
        }
        from = start;
    }
}

/// `name=VALUE`, `name = 'VALUE'`, `password 'VALUE'` and `authorization: VALUE`.
fn assignments(arg: &str, spans: &mut Vec<(usize, usize)>) {
    let bytes = arg.as_bytes();
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let mut at = 0;
    while at < bytes.len() {
        if !is_name(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && is_name(bytes[at]) {
            at += 1;
        }
        let name = &arg[start..at];
        let spaces = |mut at: usize| {
            while at < bytes.len() && bytes[at].is_ascii_whitespace() {
                at += 1;
            }
            at
        };
        let next = spaces(at);
        let quoted = |at: usize| matches!(bytes.get(at), Some(b'\'' | b'"'));
        let value = match bytes.get(next) {
            Some(b'=') if is_secret_name(name) => {
                // The whole argument is the value when the name begins it: spaces are part of it
                // then.
                if start == 0 && next == at {
                    Some((next + 1, arg.len()))
                } else {
                    let from = spaces(next + 1);
                    Some((from, value_end(bytes, from)))
                }
            }
            Some(b':') if name.eq_ignore_ascii_case("authorization") => Some((next + 1, arg.len())),
            Some(b'\'' | b'"') if next > at && is_secret_name(name) && quoted(next) => {
                Some((next, value_end(bytes, next)))
            }
            _ => None,
        };
        if let Some((from, to)) = value
            && from < to
        {
            spans.push((from, to));
            at = to;
        }
    }
}

/// End of a value that begins at `at`: quoted strings, then plain text up to a space, `&`, `;`, or
/// a quote, which then is that of the text around.
fn value_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&quote @ (b'\'' | b'"')) = bytes.get(at) {
        at = quoted_end(bytes, at + 1, quote);
    }
    let plain = |b: &u8| !b.is_ascii_whitespace() && !matches!(b, b'&' | b';' | b'\'' | b'"');
    at + bytes.iter().skip(at).take_while(|b| plain(b)).count()
}

/// Behind the quote that ends the string which begins at `at`; `\` makes the next byte part of it.
/// SQL's `''` is two strings without anything between, which is the same here.
fn quoted_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b if b == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Bounded {
        Bounded::read(bytes, CMDLINE_WINDOW, CMDLINE_READ_MAX).expect("memory")
    }

    #[test]
    fn redacts() {
        let cases: &[(&str, &str)] = &[
            ("--password=hunter2", "--password=***"),
            ("--password=two words", "--password=***"),
            ("--db-password=x", "--db-password=***"),
            ("PGPASSWORD=x", "PGPASSWORD=***"),
            ("MYSQL_PWD=x", "MYSQL_PWD=***"),
            ("AWS_SECRET_ACCESS_KEY=x/y+z==", "AWS_SECRET_ACCESS_KEY=***"),
            ("--token=x", "--token=***"),
            ("postgres://bob:s3cret@db/app", "postgres://bob:***@db/app"),
            ("postgresql://bob:a@b@db:5432/app", "postgresql://bob:***@db:5432/app"),
            ("postgres://bob:a/b@db/app", "postgres://bob:***@db/app"),
            (
                "postgres://db/app?user=bob&password=x&sslmode=require",
                "postgres://db/app?user=bob&password=***&sslmode=require",
            ),
            ("--dsn=postgres://bob:x@db/app", "--dsn=postgres://bob:***@db/app"),
            ("host=db password=x dbname=app", "host=db password=*** dbname=app"),
            ("host=db password = 'a b\\'c' dbname=app", "host=db password = *** dbname=app"),
            ("host=db sslpassword=x", "host=db sslpassword=***"),
            ("exec env PGPASSWORD=x psql -h db", "exec env PGPASSWORD=*** psql -h db"),
            ("exec env PGPASSWORD='x y' psql", "exec env PGPASSWORD=*** psql"),
            ("alter role bob password 'x y'", "alter role bob password ***"),
            ("ALTER ROLE bob PASSWORD 'it''s'", "ALTER ROLE bob PASSWORD ***"),
            ("Authorization: Bearer abc", "Authorization:***"),
            ("a://u:1@h b://u:2@h", "a://u:***@h b://u:***@h"),
        ];
        for (arg, expected) in cases {
            let (got, found) = redact(arg);
            assert_eq!(&got, expected, "{arg}");
            assert!(found > 0, "{arg}");
        }
    }

    #[test]
    fn leaves_the_rest_alone() {
        for arg in [
            "",
            "-h",
            "db",
            "--no-password",
            "--host=db",
            "postgres://bob@db/app",
            "postgres://db:5432/app",
            "http://[::1]:80/a?b=c",
            "PWD=/home/bob",
            "OLDPWD=/",
            "--password-file=/run/secrets/x",
            "POSTGRES_PASSWORD_FILE=/run/x",
            "--password=",
            "select 1 where a = 'b'",
            "é=ü",
            "://:@",
            "://",
            ":",
            "=",
            "password",
            "sécret=x",
        ] {
            assert_eq!(redact(arg), (arg.to_owned(), 0), "{arg}");
        }
    }

    #[test]
    fn value_of_a_secret_option_in_the_next_argument() {
        let cmdline = parse(&read(b"tool\0--password\0hunter2\0--token\0--verbose\0db\0"));
        let cmdline = cmdline.expect("not empty");
        assert_eq!(cmdline.args, ["tool", "--password", "***", "--token", "--verbose", "db"]);
        assert_eq!((cmdline.redacted, cmdline.full), (1, None));
    }

    #[test]
    fn empty_arguments_stay_and_padding_goes() {
        let cmdline = parse(&read(b"a\0\0b\0\0\0\0")).expect("not empty");
        assert_eq!(cmdline.args, ["a", "", "b"]);
        assert_eq!(parse(&read(b"")), None);
        assert_eq!(parse(&read(b"\0\0")), None);
    }

    #[test]
    fn many_arguments_are_counted() {
        let raw = b"x\0".repeat(1000);
        let cmdline = parse(&read(&raw)).expect("not empty");
        assert_eq!(cmdline.args.len(), ARGS_MAX);
        let full = CmdlineSize { args: 1000, bytes: 2000, at_least: false };
        assert_eq!(cmdline.full, Some(full));
    }

    #[test]
    fn huge_command_line_is_bounded_and_its_length_told() {
        let mut raw = b"psql\0".to_vec();
        raw.extend(std::iter::repeat_n(b'x', 3_000_000));
        raw.extend(b"\0end\0");
        let cmdline = parse(&read(&raw)).expect("not empty");
        assert_eq!(cmdline.args.iter().map(String::len).sum::<usize>(), ARG_BYTES_MAX);
        let full = CmdlineSize { args: 3, bytes: 3_000_010, at_least: false };
        assert_eq!(cmdline.full, Some(full));
        let endless = Bounded::read(std::io::repeat(b'x'), CMDLINE_WINDOW, CMDLINE_READ_MAX);
        let cmdline = parse(&endless.expect("memory")).expect("not empty");
        assert!(cmdline.full.is_some_and(|full| full.at_least));
    }

    #[test]
    fn a_secret_at_the_cut_stays_hidden() {
        for pad in ARG_BYTES_MAX - 40..ARG_BYTES_MAX + 4 {
            let mut raw = vec![b'x'; pad];
            raw.extend(b"\0postgres://bob:hunter2@db/app\0");
            let cmdline = parse(&read(&raw)).expect("not empty");
            let shown = cmdline.args.concat();
            assert!(!shown.contains("hun"), "padding of {pad}: {}", &shown[pad.min(shown.len())..]);
        }
    }

    #[test]
    fn cuts_between_characters_and_marks_what_is_not_utf8() {
        let mut raw = vec![b'x'; ARG_BYTES_MAX - 1];
        raw.extend("é".as_bytes());
        let cmdline = parse(&read(&raw)).expect("not empty");
        assert_eq!(cmdline.args[0].len(), ARG_BYTES_MAX - 1);
        let cmdline = parse(&read(b"a\xff\0")).expect("not empty");
        assert_eq!(cmdline.args, ["a\u{fffd}"]);
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_keeps_its_bounds(raw: Vec<u8>) {
            if let Some(cmdline) = parse(&read(&raw)) {
                proptest::prop_assert!(cmdline.args.len() <= ARGS_MAX);
                proptest::prop_assert!(cmdline.args.concat().len() <= ARG_BYTES_MAX);
            }
        }

        #[test]
        fn secrets_do_not_show(
            before in "[a-z =:/@'?&-]{0,24}",
            secret in "[A-Z0-9]{6,12}",
            after in "[a-z =:/@'?&-]{0,24}",
            form in 0..5_usize,
        ) {
            let forms = ["--password=*", " password=*", "p://u:*@h/", "PGPASSWORD='*'", "?password=*"];
            let text = forms[form].replace('*', &secret);
            let (shown, found) = redact(&format!("{before} {text} {after}"));
            proptest::prop_assert!(found > 0 && !shown.contains(&secret), "{}", shown);
        }
    }
}
