//! Containers of every runtime, on a made-up host.

use std::path::PathBuf;

use nix::sys::stat::Mode;

use crate::attrib::fake::{FakeHost, link, own_uid};
use crate::attrib::{
    AttribSettings, Container, Evidence, Field, Identity, LABEL_VALUE_BYTES_MAX, LABELS_MAX,
    RUNTIME_FILE_BYTES_MAX, Reason, Resolver, Runtime,
};

const ID: &str = "3f8b2c6d9e0a1b4c5d6e7f80912a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c";
const SANDBOX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const POD: &str = "0a1b2c3d-1111-2222-3333-444455556666";

fn resolve(host: &FakeHost, cgroup: &str) -> Identity {
    let actor = host.process(50).cgroup(&format!("0::{cgroup}\n")).start();
    (*host.resolver().resolve(&actor)).clone()
}

fn container(identity: &Identity) -> &Container {
    identity.container.as_ref().unwrap_or_else(|| panic!("in none: {identity:?}"))
}

fn pod_cgroup(scope: &str) -> String {
    let pod = POD.replace('-', "_");
    format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{pod}.slice/{scope}")
}

#[test]
fn docker() {
    let host = FakeHost::new();
    host.write(
        &format!("root/var/lib/docker/containers/{ID}/config.v2.json"),
        r#"{"ID":"x","Name":"/web","Image":"sha256:aa","State":{"Pid":7},"Config":{
            "Image":"postgres:15","Env":["A=b"],"Labels":{"com.docker.compose.project":"shop"}}}"#,
    );
    let identity = resolve(&host, &format!("/system.slice/docker-{ID}.scope"));
    let json = serde_json::to_value(&identity).expect("plain data");
    assert_eq!(
        json["container"],
        serde_json::json!({
            "id": ID, "runtime": "docker", "name": "web", "image": "postgres:15",
            "labels": {"com.docker.compose.project": "shop"}, "evidence": "cgroup-path",
        })
    );
    assert!(identity.missing.is_empty() && identity.doubts.is_empty(), "{identity:?}");
    assert!(identity.summary().starts_with("psql[50] alice container=web(docker) "));
}

#[test]
fn docker_with_a_parent_of_its_own_and_no_labels() {
    let host = FakeHost::new();
    host.write(
        &format!("root/var/lib/docker/containers/{ID}/config.v2.json"),
        r#"{"Name":"/web","Image":"sha256:aa","Config":{"Image":"","Labels":null}}"#,
    );
    let identity = resolve(&host, &format!("/team/{ID}"));
    let found = container(&identity);
    assert_eq!((found.runtime, found.image.as_deref()), (Runtime::Docker, Some("sha256:aa")));
}

#[test]
fn containerd_under_kubernetes() {
    let host = FakeHost::new();
    host.write(
        &format!("root/run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"),
        r#"{"ociVersion":"1.0.2","process":{"env":["SECRET=x"]},"annotations":{
            "io.kubernetes.cri.container-name":"app","io.kubernetes.cri.container-type":"container",
            "io.kubernetes.cri.image-name":"registry.k8s.io/app:1",
            "io.kubernetes.cri.sandbox-id":"s","io.kubernetes.cri.sandbox-name":"app-7d4b9",
            "io.kubernetes.cri.sandbox-namespace":"shop","team":"payments"}}"#,
    );
    let identity = resolve(&host, &pod_cgroup(&format!("cri-containerd-{ID}.scope")));
    let found = container(&identity);
    assert_eq!(found.name.as_deref(), Some("app"));
    assert_eq!(found.image.as_deref(), Some("registry.k8s.io/app:1"));
    assert_eq!(found.pod.as_deref(), Some("app-7d4b9"));
    assert_eq!(found.namespace.as_deref(), Some("shop"));
    assert_eq!(found.pod_uid.as_deref(), Some(POD));
    assert_eq!(found.labels.len(), 1, "annotations that are no notes of the runtime");
    assert!(!found.sandbox);
    let doubt = identity.doubt(Field::ContainerLabels);
    assert_eq!(doubt, Some(&Reason::RuntimeDatabase("containerd")));
    assert!(identity.summary().contains("container=app(containerd) pod=shop/app-7d4b9"));
}

#[test]
fn a_pods_sandbox_and_docker_by_way_of_containerd() {
    let host = FakeHost::new();
    let task = "root/run/containerd/io.containerd.runtime.v2.task";
    host.write(
        &format!("{task}/k8s.io/{SANDBOX}/config.json"),
        r#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox"}}"#,
    );
    let identity = resolve(&host, &format!("/kubepods/pod{POD}/{SANDBOX}"));
    assert!(container(&identity).sandbox);
    assert_eq!(container(&identity).runtime, Runtime::Containerd);
    assert_eq!(identity.missing(Field::ContainerPod), Some(&Reason::NoRuntimeFile));
    host.write(&format!("{task}/moby/{ID}/config.json"), r#"{"annotations":null}"#);
    let identity = resolve(&host, &format!("/x/{ID}"));
    assert_eq!(container(&identity).runtime, Runtime::Docker);
}

#[test]
fn crio_with_the_labels_of_its_pod() {
    let host = FakeHost::new();
    let storage = "root/var/lib/containers/storage/overlay-containers";
    let notes = serde_json::json!({"annotations": {
        "io.container.manager": "cri-o",
        "io.kubernetes.container.name": "app",
        "io.kubernetes.cri-o.ContainerType": "container",
        "io.kubernetes.cri-o.ImageName": "quay.io/app:2",
        "io.kubernetes.cri-o.SandboxID": SANDBOX,
        "io.kubernetes.cri-o.Labels": "{\"io.kubernetes.container.name\":\"app\"}",
        "io.kubernetes.pod.name": "app-0",
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.uid": POD,
    }});
    host.write(&format!("{storage}/{ID}/userdata/config.json"), notes.to_string());
    let notes = serde_json::json!({"annotations": {
        "io.kubernetes.cri-o.ContainerType": "sandbox",
        "io.kubernetes.cri-o.Labels": "{\"app\":\"shop\",\"io.kubernetes.pod.name\":\"app-0\"}",
    }});
    host.write(&format!("{storage}/{SANDBOX}/userdata/config.json"), notes.to_string());
    let identity = resolve(&host, &pod_cgroup(&format!("crio-{ID}.scope/container")));
    let found = container(&identity);
    assert_eq!((found.runtime, found.name.as_deref()), (Runtime::CriO, Some("app")));
    assert_eq!(found.image.as_deref(), Some("quay.io/app:2"));
    assert_eq!((found.pod.as_deref(), found.namespace.as_deref()), (Some("app-0"), Some("shop")));
    assert_eq!(found.labels.get("app").map(String::as_str), Some("shop"));
    assert_eq!((found.labels.len(), found.sandbox), (1, false));
    assert!(identity.missing.is_empty() && identity.doubts.is_empty(), "{identity:?}");
}

/// Podman's files below a storage folder.
fn podman(host: &FakeHost, storage: &str) {
    host.write(
        &format!("{storage}/overlay-containers/{ID}/userdata/config.json"),
        r#"{"annotations":{"io.container.manager":"libpod","org.opencontainers.image.version":"15"}}"#,
    );
    host.write(
        &format!("{storage}/overlay-containers/containers.json"),
        format!(
            r#"[{{"id":"other","names":["no"]}},{{"id":"{ID}","names":["db"],"image":"aa",
            "metadata":"{{\"image-name\":\"docker.io/library/postgres:15\",\"name\":\"db\"}}"}}]"#
        ),
    );
}

#[test]
fn podman_as_root() {
    let host = FakeHost::new();
    podman(&host, "root/var/lib/containers/storage");
    let identity = resolve(&host, &format!("/machine.slice/libpod-{ID}.scope/container"));
    let found = container(&identity);
    assert_eq!((found.runtime, found.name.as_deref()), (Runtime::Podman, Some("db")));
    assert_eq!(found.image.as_deref(), Some("docker.io/library/postgres:15"));
    assert_eq!(found.labels.len(), 1);
    assert_eq!(found.claimed_by, None);
    let doubt = identity.doubt(Field::ContainerLabels);
    assert_eq!(doubt, Some(&Reason::RuntimeDatabase("podman")));
}

#[test]
fn podman_as_a_user_is_that_users_claim() {
    let host = FakeHost::new();
    // Folders below belong to whoever runs this test: that is "the user" here, and the host's own
    // uid is another.
    let uid = own_uid();
    host.write("root/etc/passwd", format!("bob:x:{uid}:{uid}::/home/bob:/bin/sh\n"));
    podman(&host, "root/home/bob/.local/share/containers/storage");
    let cgroup = format!(
        "/user.slice/user-{uid}.slice/user@{uid}.service/user.slice/libpod-{ID}.scope/container"
    );
    let actor = host.process(50).cgroup(&format!("0::{cgroup}\n")).start();
    let resolver =
        |host_uid| Resolver::new(AttribSettings { host_uid, ..host.settings() }).expect("a root");
    let identity = resolver(uid.wrapping_add(1)).resolve(&actor);
    let found = container(&identity);
    assert_eq!((found.name.as_deref(), found.claimed_by), (Some("db"), Some(uid)));
    assert_eq!(identity.user_unit.as_deref(), Some(format!("libpod-{ID}.scope").as_str()));
    assert!(identity.summary().contains(&format!("(podman, claimed by uid {uid})")));
    // The host's own folders are not asked about a user's container.
    let identity = resolver(uid).resolve(&actor);
    assert_eq!(identity.missing(Field::ContainerName), Some(&Reason::NoRuntimeFile));
}

#[test]
fn a_users_files_must_be_that_users() {
    let host = FakeHost::new();
    let other = own_uid().wrapping_add(4242);
    host.write("root/etc/passwd", format!("bob:x:{other}:1::/home/bob:/bin/sh\n"));
    podman(&host, "root/home/bob/.local/share/containers/storage");
    let cgroup = format!("/user.slice/user-{other}.slice/user@{other}.service/libpod-{ID}.scope");
    let actor = host.process(50).cgroup(&format!("0::{cgroup}\n")).start();
    // Without its folder the path alone tells whose the container is.
    std::fs::remove_dir_all(host.path("cgroup/user.slice")).expect("was made");
    let identity = host.resolver().resolve(&actor);
    assert_eq!(container(&identity).claimed_by, Some(other));
    let foreign = Reason::ForeignFile { found: own_uid(), expected: other };
    assert_eq!(identity.missing(Field::ContainerName), Some(&foreign));
}

fn crun_status(pid: u32, start: u64, cgroup: &str, bundle: &str) -> String {
    format!(
        r#"{{"pid": {pid}, "process-start-time": {start}, "cgroup-path": "{cgroup}", "scope": "",
        "rootfs": "rootfs", "systemd-cgroup": false, "bundle": "{bundle}", "owner": "root"}}"#
    )
}

const CRUN_CONFIG: &str =
    r#"{"annotations":{"org.opencontainers.image.ref.name":"job:3","team":"data"}}"#;

#[test]
fn crun_by_its_cgroup_where_the_path_has_no_id() {
    let host = FakeHost::new();
    host.write("root/run/crun/job/status", crun_status(7, 1, "/batch/nightly", "/srv/job"));
    host.write("root/srv/job/config.json", CRUN_CONFIG);
    let identity = resolve(&host, "/batch/nightly/sub");
    let found = container(&identity);
    assert_eq!((found.id.as_str(), found.runtime), ("job", Runtime::Crun));
    assert_eq!(found.evidence, Evidence::StateCgroup);
    assert_eq!(identity.doubt(Field::Container), Some(&Reason::CgroupAlone));
    assert_eq!((found.name.as_deref(), found.image.as_deref()), (Some("job"), Some("job:3")));
    assert_eq!(found.labels.get("team").map(String::as_str), Some("data"));
    assert_eq!(resolve(&host, "/batch/nightly-2").container, None, "a neighbour");
    // The copy that crun keeps comes before the bundle.
    host.write("root/run/crun/job/config.json", r#"{"annotations":{"team":"copy"}}"#);
    let identity = resolve(&host, "/batch/nightly");
    assert_eq!(container(&identity).labels.get("team").map(String::as_str), Some("copy"));
}

#[test]
fn a_cgroup_shared_with_a_container_does_not_put_others_into_it() {
    let host = FakeHost::new();
    let first = host.process(40).cgroup("0::/batch\n").start();
    let start = first.start_boottime_ns / 10_000_000;
    host.write("root/run/crun/job/status", crun_status(40, start, "/batch", "/srv/job"));
    // The first process lives and has other namespaces (here: other files).
    assert_eq!(resolve(&host, "/batch").container, None);
    std::fs::remove_file(host.path("proc/50/ns/mnt")).expect("was made");
    std::fs::hard_link(host.path("proc/40/ns/mnt"), host.path("proc/50/ns/mnt")).expect("free");
    let identity = host.resolver().resolve(&host.actor(50));
    assert_eq!(container(&identity).evidence, Evidence::StateCgroup);
    assert_eq!(identity.doubt(Field::Container), None);
    // A container that has the host's namespaces is not told by them.
    host.process(1).start();
    for kind in ["mnt", "pid"] {
        let at = |pid: u32| host.path(&format!("proc/{pid}/ns/{kind}"));
        for pid in [40, 50] {
            std::fs::remove_file(at(pid)).expect("was made");
            std::fs::hard_link(at(1), at(pid)).expect("free");
        }
    }
    let identity = host.resolver().resolve(&host.actor(50));
    assert_eq!(identity.doubt(Field::Container), Some(&Reason::CgroupAlone));
}

#[test]
fn a_containers_first_process_is_known_after_its_end() {
    let host = FakeHost::new();
    let actor = host.process(40).cgroup("0::/\n").start();
    host.write("root/run/crun/job/status", crun_status(40, 100_040, "", "/srv/job"));
    host.remove(40);
    let identity = host.resolver().resolve(&actor);
    assert_eq!(container(&identity).evidence, Evidence::StatePid);
    assert_eq!(
        (identity.missing(Field::Container), identity.doubt(Field::Container)),
        (None, None)
    );
    // Another one that is gone, in a container's cgroup: likely, not certain.
    let actor = host.process(41).cgroup("0::/batch\n").start();
    host.write("root/run/crun/job/status", crun_status(40, 100_040, "/batch", "/srv/job"));
    host.remove(41);
    let identity = host.resolver().resolve(&actor);
    assert_eq!(container(&identity).id, "job");
    assert_eq!(identity.doubt(Field::Container), Some(&Reason::CgroupAlone));
    // And one of which nothing is known.
    let actor = host.process(42).cgroup("0::/other\n").start();
    host.remove(42);
    let identity = host.resolver().resolve(&actor);
    assert_eq!(identity.missing(Field::Container), Some(&Reason::Ended));
}

#[test]
fn crun_by_its_first_process_where_it_has_no_cgroup() {
    let host = FakeHost::new();
    let settings =
        AttribSettings { extra_state_roots: vec![PathBuf::from("/opt/state")], ..host.settings() };
    let resolver = || Resolver::new(settings.clone()).expect("a root");
    host.process(1).cgroup("0::/\n").start();
    host.process(40).cgroup("0::/\n").with(|p| p.ppid = 1).start();
    let child = host.process(41).cgroup("0::/\n").with(|p| p.ppid = 40).start();
    host.write("root/opt/state/job/status", crun_status(40, 100_040, "", "/srv/job"));
    host.write("root/opt/state/job/config.json", CRUN_CONFIG);
    let identity = resolver().resolve(&child);
    let found = container(&identity);
    assert_eq!((found.id.as_str(), found.evidence), ("job", Evidence::StatePid));
    assert_eq!(found.image.as_deref(), Some("job:3"));
    let identity = resolver().resolve(&host.actor(40));
    assert_eq!(container(&identity).id, "job", "the first process itself");
    assert_eq!(resolver().resolve(&host.actor(1)).container, None, "the host's");
    // Left behind: pid 40 is another process now.
    host.write("root/opt/state/job/status", crun_status(40, 99_000, "", "/srv/job"));
    assert_eq!(resolver().resolve(&child).container, None);
}

#[test]
fn of_containers_within_each_other_the_outermost_counts() {
    let host = FakeHost::new();
    host.process(40).cgroup("0::/\n").start();
    host.process(41).cgroup("0::/\n").with(|p| p.ppid = 40).start();
    let actor = host.process(42).cgroup("0::/\n").with(|p| p.ppid = 41).start();
    host.write("root/run/crun/inner/status", crun_status(41, 100_041, "", "/x"));
    host.write("root/run/crun/outer/status", crun_status(40, 100_040, "", "/x"));
    let identity = host.resolver().resolve(&actor);
    assert_eq!(container(&identity).id, "outer");
}

#[test]
fn runc_v1_and_v2() {
    let host = FakeHost::new();
    host.write(
        "root/run/runc/job/state.json",
        r#"{"id":"job","init_process_pid":7,"init_process_start":1,"cgroup_paths":{
            "memory":"/sys/fs/cgroup/memory/free/form","":"/sys/fs/cgroup/unified/free/form2"},
            "config":{"labels":["bundle=/srv/job","team=ops"]}}"#,
    );
    host.write("root/srv/job/config.json", CRUN_CONFIG);
    for cgroup in ["4:memory:/free/form\n0::/\n", "0::/free/form2/x\n"] {
        let actor = host.process(50).cgroup(cgroup).start();
        let identity = host.resolver().resolve(&actor);
        let found = container(&identity);
        assert_eq!((found.id.as_str(), found.runtime), ("job", Runtime::Runc), "{cgroup}");
        assert_eq!(found.labels.get("team").map(String::as_str), Some("data"), "bundle first");
    }
    let identity = resolve(&host, "/free/form");
    assert_eq!(container(&identity).id, "job");
    assert_eq!(resolve(&host, "/free").container, None);
}

#[test]
fn containers_known_by_name_alone() {
    let host = FakeHost::new();
    for (cgroup, runtime) in [
        ("/lxc.payload.web/system.slice/x.service", Runtime::Lxc),
        ("/machine.slice/systemd-nspawn@web.service/payload", Runtime::Nspawn),
        ("/system.slice/crun-web.scope", Runtime::Crun),
        ("/system.slice/runc-web.scope", Runtime::Runc),
        ("/garden/web", Runtime::Garden),
    ] {
        let identity = resolve(&host, cgroup);
        let found = container(&identity);
        assert_eq!((found.runtime, found.name.as_deref()), (runtime, Some("web")));
        assert_eq!(identity.missing(Field::ContainerImage), Some(&Reason::NoRuntimeFile));
    }
}

#[test]
fn kubernetes_by_the_names_of_its_logs() {
    let host = FakeHost::new();
    host.write(&format!("root/var/log/containers/app-0_shop_app-{ID}.log"), "");
    let identity = resolve(&host, &format!("/kubepods/besteffort/pod{POD}/{ID}"));
    let found = container(&identity);
    assert_eq!(found.name.as_deref(), Some("app"));
    assert_eq!((found.pod.as_deref(), found.namespace.as_deref()), (Some("app-0"), Some("shop")));
    assert_eq!(found.runtime, Runtime::Oci);
    assert_eq!(identity.missing(Field::ContainerImage), Some(&Reason::NoRuntimeFile));
}

#[test]
fn a_container_is_known_after_its_process_is_gone() {
    let host = FakeHost::new();
    podman(&host, "root/var/lib/containers/storage");
    let cgroup = format!("0::/machine.slice/libpod-{ID}.scope\n");
    let actor = host.process(50).cgroup(&cgroup).start();
    host.remove(50);
    let identity = host.resolver().resolve(&actor);
    assert_eq!(container(&identity).name.as_deref(), Some("db"));
    assert_eq!(identity.missing(Field::Exe), Some(&Reason::Ended));
}

#[test]
fn oversized_and_broken_files_are_said() {
    let host = FakeHost::new();
    let path = format!("root/var/lib/docker/containers/{ID}/config.v2.json");
    let cgroup = format!("/docker/{ID}");
    host.write(&path, vec![b' '; 10 << 20]);
    let identity = resolve(&host, &cgroup);
    let too_large = Reason::TooLarge { found: 10 << 20, max: RUNTIME_FILE_BYTES_MAX as u64 };
    assert_eq!(identity.missing(Field::ContainerName), Some(&too_large));
    assert_eq!(identity.missing(Field::ContainerImage), Some(&too_large));
    for broken in ["", "{", "[]", "{\"Name\":7}", &"[".repeat(100_000)] {
        host.write(&path, broken);
        let identity = resolve(&host, &cgroup);
        let reason = identity.missing(Field::ContainerName);
        assert_eq!(reason, Some(&Reason::Malformed("config.v2.json")), "{broken:.20}");
    }
}

#[test]
fn a_pipe_in_place_of_a_file_does_not_block() {
    let host = FakeHost::new();
    let folder = host.path(&format!("root/var/lib/docker/containers/{ID}"));
    std::fs::create_dir_all(&folder).expect("folders");
    nix::unistd::mkfifo(&folder.join("config.v2.json"), Mode::S_IRWXU).expect("free");
    let identity = resolve(&host, &format!("/docker/{ID}"));
    assert_eq!(identity.missing(Field::ContainerName), Some(&Reason::NotRegular));
}

#[test]
fn links_and_paths_do_not_lead_out_of_the_host_root() {
    let host = FakeHost::new();
    host.write("outside/config.json", CRUN_CONFIG);
    let outside = host.path("outside");
    host.write("root/run/crun/job/status", crun_status(7, 1, "/batch", "/link"));
    link(&outside, &host.path("root/link"));
    let identity = resolve(&host, "/batch");
    assert_eq!(identity.missing(Field::ContainerImage), Some(&Reason::NoRuntimeFile));
    // Within the root an absolute link is one of the root.
    host.write("root/srv/real/config.json", CRUN_CONFIG);
    link(&PathBuf::from("/srv/real"), &host.path("root/link"));
    let identity = resolve(&host, "/batch");
    assert_eq!(container(&identity).image.as_deref(), Some("job:3"));
    for bundle in ["/srv/../srv/real", "srv/real", ""] {
        host.write("root/run/crun/job/status", crun_status(7, 1, "/batch", bundle));
        let identity = resolve(&host, "/batch");
        assert_eq!(container(&identity).image, None, "{bundle}");
    }
}

#[test]
fn labels_are_bounded() {
    let host = FakeHost::new();
    let mut labels = serde_json::Map::new();
    for n in 0..1000 {
        labels.insert(format!("label-{n:04}"), "x".repeat(5000).into());
    }
    let config = serde_json::json!({"Name": "/web", "Config": {"Image": "i", "Labels": labels}});
    // 5 MB do not pass; half of the values' length does.
    let config = config.to_string().replace(&"x".repeat(5000), &"x".repeat(2500));
    host.write(&format!("root/var/lib/docker/containers/{ID}/config.v2.json"), config);
    let identity = resolve(&host, &format!("/docker/{ID}"));
    let labels = &container(&identity).labels;
    assert_eq!(labels.len(), LABELS_MAX);
    assert!(labels.values().all(|value| value.len() == LABEL_VALUE_BYTES_MAX));
    let cut = Reason::LabelsCut { kept: 0, found: 1000 };
    assert_eq!(identity.doubt(Field::ContainerLabels), Some(&cut));
}

#[test]
fn nested_containers_are_the_outer_ones_claim() {
    let host = FakeHost::new();
    let identity = resolve(&host, &format!("/docker/{ID}/docker/{SANDBOX}"));
    let found = container(&identity);
    assert_eq!((found.id.as_str(), found.nested.len()), (ID, 1));
    assert_eq!(found.nested[0], format!("docker:{SANDBOX}"));
}
