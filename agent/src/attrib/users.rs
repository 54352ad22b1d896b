//! Names and homes of the host's users, from its `/etc/passwd`.
//!
//! Read as it stands (passwd(5)), at most [`PASSWD_BYTES_MAX`] bytes of it; directories on the
//! network (LDAP, sssd) are not asked: their answers may take for ever and are not the host's own.

use std::path::Path;

use super::identity::Reason;
use super::runtime::{HostFiles, Owner};

/// Most bytes of `/etc/passwd` read: some 40 000 users.
pub const PASSWD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest name taken (`LOGIN_NAME_MAX`).
const NAME_BYTES_MAX: usize = 256;

/// A line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) home: String,
}

/// The first user with this uid. Reads the file each time, so that users made since are known.
pub(super) fn by_uid(host: &HostFiles, uid: u32) -> Result<User, Reason> {
    let contents = host.read(Path::new("/etc/passwd"), Owner::Any, PASSWD_BYTES_MAX)?;
    find(&contents, uid).ok_or(Reason::UnknownUid(uid))
}

/// Layout of a line: name, password, uid, gid, comment, home, shell, between colons.
fn find(passwd: &[u8], uid: u32) -> Option<User> {
    passwd.split(|&b| b == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let text = |n: usize| fields.get(n).map(|field| String::from_utf8_lossy(field));
        if text(2)?.parse::<u32>().ok()? != uid {
            return None;
        }
        let name = text(0).filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX)?;
        Some(User { name: name.into_owned(), home: text(5)?.into_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn finds_users() {
        let passwd = b"root:x:0:0:root:/root:/bin/bash\n\nbad\n:x:7::::\nb\xff:x:8:8::/b:\n\
            alice:x:1000:1000:Alice,,,:/home/alice:/bin/zsh\ntwin:x:1000:1000::/home/twin:\n";
        let alice = find(passwd, 1000).expect("there");
        assert_eq!((alice.name.as_str(), alice.home.as_str()), ("alice", "/home/alice"));
        assert_eq!(find(passwd, 8).map(|user| user.name).as_deref(), Some("b\u{fffd}"));
        assert_eq!(find(passwd, 7), None, "a user without a name");
        assert_eq!(find(passwd, 9), None);
        assert_eq!(find(b"a:x:5", 5), None, "a line without a home");
    }
}
