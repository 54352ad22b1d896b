//! Who asks: the process, where it runs, and its login.

use std::collections::BTreeMap;

/// Who asks. Fields without a value match no rule that names them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Path of the program in its own mount namespace.
    pub exe: Option<Box<str>>,
    /// SHA-256 of the program's file, lower case hex.
    pub exe_sha256: Option<Box<str>>,
    /// Programs of its parents, nearest first.
    pub parents: Vec<Box<str>>,
    /// User id in the initial user namespace.
    pub uid: Option<u32>,
    /// Group id, likewise.
    pub gid: Option<u32>,
    /// Name of `uid` on the host.
    pub user: Option<Box<str>>,
    /// User who logged in.
    pub loginuid: Option<u32>,
    /// Cgroup path.
    pub cgroup: Option<Box<str>>,
    /// Unit of the system's service manager.
    pub unit: Option<Box<str>>,
    /// Its container.
    pub container: Option<Container>,
    /// User of the database, as in the startup packet.
    pub role: Box<str>,
    /// Database.
    pub database: Box<str>,
    /// Name of the destination in the configuration.
    pub destination: Option<Box<str>>,
    /// `application_name`: the application chooses it, so it should only tighten.
    pub application: Option<Box<str>>,
    /// Tags of a sqlcommenter comment of the statement; likewise.
    pub tags: BTreeMap<Box<str>, Box<str>>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Container {
    /// Id.
    pub id: Box<str>,
    /// Name.
    pub name: Option<Box<str>>,
    /// Image.
    pub image: Option<Box<str>>,
    /// Kubernetes pod.
    pub pod: Option<Box<str>>,
    /// Kubernetes namespace.
    pub namespace: Option<Box<str>>,
    /// Labels.
    pub labels: BTreeMap<Box<str>, Box<str>>,
}
