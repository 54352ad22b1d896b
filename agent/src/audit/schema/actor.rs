//! The table of identities, as the attribution module describes them.

use super::{Field, Kind, Sensitivity};

macro_rules! table {
    ($($number:literal $name:literal $kind:expr, $ocsf:literal, $meaning:literal;)+) => {
        &[$(Field {
            number: $number,
            name: $name,
            kind: $kind,
            sensitivity: Sensitivity::Identity,
            ocsf: $ocsf,
            events: "all",
            meaning: $meaning,
            answers: "who",
        },)+]
    };
}

/// Fields of `actor`.
pub const ACTOR: &[Field] = table! {
    0 "pid" Kind::Uint, "actor.process.pid", "process id in the initial pid namespace";
    1 "start_ns" Kind::Uint, "", "start of the process, nanoseconds since boot";
    2 "exec" Kind::Uint, "", "exec generation: which program of that process";
    3 "boot_id" Kind::Text, "", "boot that `pid`, `start_ns` and `exec` belong to";
    4 "confidence" Kind::Text, "", "how far facts from `/proc` are of this process";
    5 "comm" Kind::Text, "actor.process.name", "name of the process";
    6 "exe" Kind::Text, "actor.process.file.path", "path of the program";
    7 "exe_deleted" Kind::Flag, "", "the program's file has no name any more";
    8 "exe_sha256" Kind::Text, "actor.process.file.hashes", "SHA-256 of the program's file";
    9 "cmdline" Kind::Texts, "actor.process.cmd_line", "arguments, secrets blotted out";
    10 "cmdline_full" Kind::Object(CMDLINE), "", "size of a command line that was cut";
    11 "cmdline_redacted" Kind::Uint, "", "secrets that were blotted out";
    12 "cwd" Kind::Text, "actor.process.working_directory", "working directory";
    13 "uid" Kind::Uint, "actor.user.uid", "user id";
    14 "gid" Kind::Uint, "", "group id";
    15 "user" Kind::Text, "actor.user.name", "name of the user on the host";
    16 "loginuid" Kind::Uint, "", "user who logged in";
    17 "parents" Kind::Objects(PARENT), "actor.process.lineage", "parents, nearest first";
    18 "cgroup" Kind::Text, "", "path of the cgroup";
    19 "cgroup_hierarchy" Kind::Text, "", "hierarchy of the cgroup";
    20 "unit" Kind::Text, "", "unit of the service manager";
    21 "slice" Kind::Text, "", "slice of that unit";
    22 "user_unit" Kind::Text, "", "unit of a user's service manager";
    23 "container" Kind::Object(CONTAINER), "actor.process.container", "container";
    24 "doubts" Kind::Objects(REMARK), "", "what is to be said of a value";
    25 "missing" Kind::Objects(REMARK), "", "fields without a value, with the reason";
};

/// Fields of `actor.container`.
pub const CONTAINER: &[Field] = table! {
    0 "id" Kind::Text, "container.uid", "id as the runtime gave it";
    1 "runtime" Kind::Text, "container.runtime", "who runs it";
    2 "name" Kind::Text, "container.name", "name";
    3 "image" Kind::Text, "container.image.name", "image";
    4 "pod" Kind::Text, "container.pod_uuid", "Kubernetes pod";
    5 "pod_uid" Kind::Text, "", "uid of the pod";
    6 "namespace" Kind::Text, "", "Kubernetes namespace";
    7 "labels" Kind::Pairs, "", "labels of container and pod";
    8 "evidence" Kind::Text, "", "how the process was tied to it";
    9 "claimed_by" Kind::Uint, "", "user who could have made it up";
    10 "nested" Kind::Texts, "", "containers inside it";
    11 "sandbox" Kind::Flag, "", "it is a pod's sandbox";
};

const PARENT: &[Field] = table! {
    0 "pid" Kind::Uint, "", "process id";
    1 "start_ns" Kind::Uint, "", "start, nanoseconds since boot";
    2 "exe" Kind::Text, "", "path of the program";
    3 "comm" Kind::Text, "", "name of the process";
};

const CMDLINE: &[Field] = table! {
    0 "args" Kind::Uint, "", "arguments";
    1 "bytes" Kind::Uint, "", "their bytes";
    2 "at_least" Kind::Flag, "", "there was more than was counted";
};

const REMARK: &[Field] = table! {
    0 "field" Kind::Text, "", "which field";
    1 "reason" Kind::Text, "", "what";
};
