//! Cgroup ids and the folders behind them.
//!
//! The id of a v2 cgroup is the inode of its folder below the cgroup2 mount. A process that is gone
//! has left only the id: the path comes from a map filled when living processes are read, and from
//! a walk over the tree when the map does not know.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cgroup_path::components;
use super::lru::Lru;

/// Most ids remembered, of cgroups that may be gone.
pub const CGROUP_IDS_MAX: usize = 16_384;
/// Most folders visited by one walk.
pub const CGROUP_WALK_MAX: usize = 16_384;
/// Deepest folder visited; systemd and all runtimes together stay below 16.
pub const CGROUP_DEPTH_MAX: usize = 32;
/// Shortest time between two walks: many ended processes must not make the agent walk all the time.
pub const CGROUP_WALK_PAUSE: Duration = Duration::from_secs(1);

/// Most bytes of `mountinfo` read.
pub(super) const MOUNTINFO_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Where the v2 hierarchy is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cgroup2Mount {
    /// Mount point.
    pub(super) at: PathBuf,
    /// Path of the mount's root within the hierarchy; `/` unless a part was bind-mounted.
    pub(super) root: String,
}

impl Cgroup2Mount {
    /// Finds it in `mountinfo` (proc(5)): the one that shows most of the hierarchy. Lines that are
    /// not understood are passed over, as users can mount things whose names are not UTF-8.
    pub(super) fn find(mountinfo: &[u8]) -> Option<Self> {
        mountinfo
            .split(|&b| b == b'\n')
            .filter_map(|line| {
                let (before, after) = std::str::from_utf8(line).ok()?.split_once(" - ")?;
                if after.split(' ').next()? != "cgroup2" {
                    return None;
                }
                let mut fields = before.split(' ').skip(3);
                let root = unescape_octal(fields.next()?);
                Some(Self { root, at: PathBuf::from(unescape_octal(fields.next()?)) })
            })
            .min_by_key(|mount| mount.root.len())
    }
}

/// What a cgroup's folder tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    /// Cgroup id.
    pub(super) id: u64,
    /// Owner of the outermost folder, above the `depth` asked for, that is not the host's own.
    pub(super) foreign_owner: Option<u32>,
}

/// The v2 hierarchy.
pub(super) struct CgroupTree {
    mount: Option<Cgroup2Mount>,
    host_uid: u32,
    state: Mutex<State>,
}

struct State {
    paths: Lru<u64, String>,
    walked: Option<Instant>,
}

impl CgroupTree {
    /// `host_uid` owns the cgroups that count as the host's own.
    pub(super) fn new(mount: Option<Cgroup2Mount>, host_uid: u32) -> Self {
        let state = State { paths: Lru::new(CGROUP_IDS_MAX), walked: None };
        Self { mount, host_uid, state: Mutex::new(state) }
    }

    pub(super) fn mount(&self) -> Option<&Cgroup2Mount> {
        self.mount.as_ref()
    }

    /// Looks at the folder of the cgroup `path`, and remembers its id. `None` when it is gone or
    /// out of reach.
    ///
    /// `depth` is the index of the component that names a container: folders above it, that one not
    /// included, decide who could have made it. Without one, all folders above the last decide.
    pub(super) fn look(&self, path: &str, depth: Option<usize>) -> Option<Folder> {
        let mut at = self.mount.as_ref()?.at.clone();
        let below = self.below_mount(path)?;
        let skipped = components(path).count() - below.len();
        let depth = depth.unwrap_or(usize::MAX).saturating_sub(skipped);
        let mut foreign_owner = None;
        let mut metadata = fs::symlink_metadata(&at).ok()?;
        for (index, component) in below.iter().enumerate() {
            let uid = metadata.uid();
            if foreign_owner.is_none() && index <= depth && uid != self.host_uid {
                foreign_owner = Some(uid);
            }
            at.push(component);
            metadata = fs::symlink_metadata(&at).ok()?;
            if !metadata.is_dir() {
                return None;
            }
        }
        let id = metadata.ino();
        self.lock().paths.insert(id, path.to_owned());
        Some(Folder { id, foreign_owner })
    }

    /// The path of a cgroup by its id; walks the tree when it is not remembered.
    pub(super) fn path_of(&self, id: u64) -> Option<String> {
        {
            let mut state = self.lock();
            if let Some(path) = state.paths.touch(&id) {
                return Some(path.clone());
            }
            let now = Instant::now();
            if state.walked.is_some_and(|last| now.duration_since(last) < CGROUP_WALK_PAUSE) {
                return None;
            }
            state.walked = Some(now);
        }
        self.walk();
        self.lock().paths.touch(&id).cloned()
    }

    /// Remembers the ids of all cgroups there are, nearest the root first, up to
    /// [`CGROUP_WALK_MAX`].
    pub(super) fn walk(&self) {
        let Some(mount) = &self.mount else { return };
        let root = mount.root.trim_end_matches('/').to_owned();
        let mut queue = VecDeque::from([(mount.at.clone(), root, 0)]);
        let mut visited = 0;
        while let Some((folder, path, depth)) = queue.pop_front() {
            let Ok(metadata) = fs::symlink_metadata(&folder) else { continue };
            let shown = if path.is_empty() { "/".to_owned() } else { path.clone() };
            self.lock().paths.insert(metadata.ino(), shown);
            visited += 1;
            if visited + queue.len() >= CGROUP_WALK_MAX || depth == CGROUP_DEPTH_MAX {
                continue;
            }
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let name = entry.file_name();
                if let Some(name) = name.to_str().filter(|_| is_dir) {
                    queue.push_back((entry.path(), format!("{path}/{name}"), depth + 1));
                }
            }
        }
    }

    /// Components of `path` below the mount's root. `None` when it is elsewhere, above the agent's
    /// cgroup namespace included.
    fn below_mount<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        let mut rest = components(path);
        for expected in components(&self.mount.as_ref()?.root) {
            if rest.next() != Some(expected) {
                return None;
            }
        }
        let rest: Vec<&str> = rest.take(CGROUP_DEPTH_MAX + 1).collect();
        let is_inside = rest.len() <= CGROUP_DEPTH_MAX && !rest.contains(&"..");
        is_inside.then_some(rest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A map of strings has no state that a panic elsewhere could have broken.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line of `/proc/PID/cgroup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// `v2`, or `v1:` and controllers or name.
    pub(super) hierarchy: String,
    pub(super) path: String,
}

/// Most lines looked at; there are 14 controllers.
const LINES_MAX: usize = 64;

/// Lines of `/proc/PID/cgroup`, best first: v2, then systemd's own hierarchy, then the others as
/// they come; those of the root last, as they say nothing. (So does procfs's own parser, but it
/// fails on the first name that is not UTF-8.)
pub(super) fn lines(contents: &[u8]) -> Vec<Line> {
    let mut lines: Vec<Line> = contents
        .split(|&b| b == b'\n')
        .take(LINES_MAX)
        .filter_map(|line| {
            let mut fields = line.splitn(3, |&b| b == b':').map(String::from_utf8_lossy);
            let (number, controllers) = (fields.next()?, fields.next()?);
            let path = fields.next()?;
            let path = path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned();
            let hierarchy = if number == "0" && controllers.is_empty() {
                "v2".to_owned()
            } else {
                format!("v1:{controllers}")
            };
            path.starts_with('/').then_some(Line { hierarchy, path })
        })
        .collect();
    lines.sort_by_key(|line| {
        let rank = match line.hierarchy.as_str() {
            "v2" => 0,
            "v1:name=systemd" => 1,
            _ => 2,
        };
        (line.path == "/", rank)
    });
    lines
}

/// `major:minor` of a mount by its id, as the kernel's `dev_t` (`major << 20 | minor`).
pub(super) fn device_of_mount(mountinfo: &[u8], mount_id: u64) -> Option<u32> {
    let wanted = mount_id.to_string();
    mountinfo.split(|&b| b == b'\n').find_map(|line| {
        let mut fields = line.split(|&b| b == b' ');
        if fields.next()? != wanted.as_bytes() {
            return None;
        }
        let device = std::str::from_utf8(fields.nth(1)?).ok()?;
        let (major, minor) = device.split_once(':')?;
        Some(kernel_dev(major.parse().ok()?, minor.parse().ok()?))
    })
}

/// The kernel's `MKDEV` (include/linux/kdev_t.h): 12 bits of major, 20 of minor. `st_dev` of user
/// space has another layout.
pub(super) fn kernel_dev(major: u32, minor: u32) -> u32 {
    (major << 20) | (minor & 0xf_ffff)
}

/// Undoes the escapes of `mountinfo`: `\040` is a space.
fn unescape_octal(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = (bytes[at] == b'\\').then(|| text.get(at + 1..at + 4)).flatten();
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Root of the hierarchy the mount shows, as seen by `doctor`: whether only a part is visible.
pub(super) fn shows_all(mount: &Cgroup2Mount) -> bool {
    const ROOT_ID: u64 = 1; // kernfs gives the root of each hierarchy inode 1
    mount.root == "/" && inode(&mount.at) == Some(ROOT_ID)
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"9:name=systemd:/\n8:pids:/docker/x\n4:memory:/docker/x\n0::/\n";

    #[test]
    fn orders_lines() {
        let paths = |contents: &[u8]| -> Vec<(String, String)> {
            lines(contents).into_iter().map(|line| (line.hierarchy, line.path)).collect()
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(paths(HYBRID)[0], pair("v1:pids", "/docker/x"));
        assert_eq!(paths(HYBRID)[2], pair("v2", "/"));
        assert_eq!(paths(b"1:cpu:/a\n2:name=systemd:/b\n0::/c\n")[0], pair("v2", "/c"));
        assert_eq!(paths(b"1:cpu:/a\n2:name=systemd:/b\n0::/\n")[0], pair("v1:name=systemd", "/b"));
        assert_eq!(paths(b"0::/a:b/c (deleted)\n")[0], pair("v2", "/a:b/c"));
        assert_eq!(paths(b"1:cpu,cpuacct:/a\xff\n")[0], pair("v1:cpu,cpuacct", "/a\u{fffd}"));
        assert!(paths(b"garbage\n\n0:\n1:2\n1:2:relative\n").is_empty());
        assert_eq!(paths(&b"1:cpu:/a\n".repeat(1000)).len(), LINES_MAX);
    }

    #[test]
    fn finds_the_mount() {
        let info = b"41 31 0:38 /part /mnt/a\\040b rw shared:5 - cgroup2 none rw\n\
            \xff\xff bad\n\
            42 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
            43 31 8:1 / /x rw - ext4 /dev/sda1 rw\n";
        let mount = Cgroup2Mount::find(info).expect("there are two");
        assert_eq!(mount.at, Path::new("/sys/fs/cgroup/unified"));
        let first = Cgroup2Mount::find(info.split(|&b| b == b'\n').next().expect("a line"));
        let first = first.expect("one");
        assert_eq!((first.at.as_path(), first.root.as_str()), (Path::new("/mnt/a b"), "/part"));
        assert_eq!(Cgroup2Mount::find(b"1 2 3"), None);
        assert_eq!(device_of_mount(info, 43), Some(0x0080_0001));
        assert_eq!(device_of_mount(info, 4), None);
    }

    fn tree(root: &str) -> (tempfile::TempDir, CgroupTree, u32) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("a/b/c")).expect("made");
        let uid = fs::metadata(folder.path()).expect("made").uid();
        let mount = Cgroup2Mount { at: folder.path().to_owned(), root: root.to_owned() };
        (folder, CgroupTree::new(Some(mount), uid), uid)
    }

    #[test]
    fn remembers_ids_of_cgroups_that_are_gone() {
        let (folder, tree, _) = tree("/");
        let seen = tree.look("/a/b/c", None).expect("there");
        assert_eq!(seen.foreign_owner, None);
        fs::remove_dir(folder.path().join("a/b/c")).expect("empty");
        assert_eq!(tree.path_of(seen.id).as_deref(), Some("/a/b/c"));
        assert_eq!(tree.look("/a/b/c", None), None);
    }

    #[test]
    fn walks_for_an_id_it_has_not_seen() {
        let (folder, tree, _) = tree("/");
        let id = inode(&folder.path().join("a/b")).expect("there");
        assert_eq!(tree.path_of(id).as_deref(), Some("/a/b"));
        let root = inode(folder.path()).expect("there");
        assert_eq!(tree.path_of(root).as_deref(), Some("/"));
        assert_eq!(tree.path_of(u64::MAX), None);
    }

    #[test]
    fn a_mount_of_a_part_shows_only_that() {
        let (folder, tree, _) = tree("/x/y");
        let id = inode(&folder.path().join("a")).expect("there");
        assert_eq!(tree.look("/x/y/a", None).map(|folder| folder.id), Some(id));
        assert_eq!(tree.look("/a", None), None);
        assert_eq!(tree.look("/x/y/a/../a", None), None);
        assert_eq!(tree.path_of(id).as_deref(), Some("/x/y/a"));
    }

    #[test]
    fn says_who_could_have_made_a_cgroup() {
        let (folder, _, uid) = tree("/");
        let mount = Cgroup2Mount { at: folder.path().to_owned(), root: "/".to_owned() };
        let tree = CgroupTree::new(Some(mount), uid.wrapping_add(1));
        let seen = tree.look("/a/b", Some(0)).expect("there");
        assert_eq!(seen.foreign_owner, Some(uid));
    }

    #[test]
    fn without_a_mount_nothing_is_known() {
        let tree = CgroupTree::new(None, 0);
        assert_eq!((tree.look("/", None), tree.path_of(1)), (None, None));
    }
}
