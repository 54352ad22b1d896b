//! Cgroup paths as they are found on hosts.

use super::*;

const H: &str = "3f8b2c6d9e0a1b4c5d6e7f80912a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c";
const I: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const U: &str = "0a1b2c3d-1111-2222-3333-444455556666";

/// `{H}`, `{I}`, `{U}` and `{u}` (the uid with `_`) in `text`, filled in.
fn fill(text: &str) -> String {
    text.replace("{H}", H).replace("{I}", I).replace("{U}", U).replace("{u}", &U.replace('-', "_"))
}

/// Path, runtime, id, pod uid, unit, nested; `""` for none.
type Row = (&'static str, Option<Runtime>, &'static str, &'static str, &'static str, &'static str);

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn table() {
    use Runtime::{
        Buildkit, Containerd, CriO, Crun, Docker, Garden, Lxc, Nspawn, Oci, Podman, Runc,
    };
    #[rustfmt::skip]
    let rows: &[Row] = &[
        // Not in a container.
        ("/", None, "", "", "", ""),
        ("/init.scope", None, "", "", "init.scope", ""),
        ("/system.slice/postgresql@15-main.service", None, "", "", "postgresql@15-main.service", ""),
        ("/system.slice/system-postgresql.slice/postgresql@15-main.service", None, "", "", "postgresql@15-main.service", ""),
        ("/system.slice/ssh.service", None, "", "", "ssh.service", ""),
        ("/system.slice/docker.service", None, "", "", "docker.service", ""),
        ("/system.slice/snap.app.daemon.service", None, "", "", "snap.app.daemon.service", ""),
        ("/system.slice/run-docker-runtime\\x2drunc.mount", None, "", "", "run-docker-runtime\\x2drunc.mount", ""),
        ("/system.slice/_cpu.service", None, "", "", "cpu.service", ""),
        ("/user.slice/user-1000.slice/session-2.scope", None, "", "", "session-2.scope", ""),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-term.scope", None, "", "", "user@1000.service", ""),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", None, "", "", "user@1000.service", ""),
        ("/process_api/91f63f04f2c2496d7e0e603e0ff4af20", None, "", "", "", ""),
        ("/kubepods/besteffort", None, "", "", "", ""),
        ("/libpod_parent/libpod-conmon-{H}", None, "", "", "", ""),
        ("/machine.slice/libpod-conmon-{H}.scope", None, "", "", "libpod-conmon-{H}.scope", ""),
        ("/kubepods.slice/crio-conmon-{H}.scope", None, "", "", "crio-conmon-{H}.scope", ""),
        ("/lxc.monitor.web", None, "", "", "", ""),
        ("/lxc.monitor/web", None, "", "", "", ""),
        ("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", None, "", "", "machine-qemu\\x2d1\\x2dvm.scope", ""),
        ("/machine.slice/machine-libpod_pod_{H}.slice", None, "", "", "", ""),
        ("/nomad.slice/share.slice/0b1e7d2a.task.scope", None, "", "", "0b1e7d2a.task.scope", ""),
        // Docker: cgroupfs and systemd drivers, own parents, in systemd's own hierarchy.
        ("/docker/{H}", Some(Docker), "{H}", "", "", ""),
        ("/system.slice/docker-{H}.scope", Some(Docker), "{H}", "", "docker-{H}.scope", ""),
        ("/my.slice/my-team.slice/docker-{H}.scope", Some(Docker), "{H}", "", "docker-{H}.scope", ""),
        ("/team/{H}", Some(Oci), "{H}", "", "", ""),
        ("/actions_job/{H}", Some(Docker), "{H}", "", "", ""),
        ("/docker/{H}/system.slice/cron.service", Some(Docker), "{H}", "", "", ""),
        ("/system.slice/docker-{H}.scope/init.scope", Some(Docker), "{H}", "", "docker-{H}.scope", ""),
        ("/docker/{H}/docker/{I}", Some(Docker), "{H}", "", "", "docker:{I}"),
        ("/docker/buildx/{H}", Some(Oci), "{H}", "", "", ""),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/docker-{H}.scope", Some(Docker), "{H}", "", "user@1000.service", ""),
        ("/system.slice:docker:{H}", Some(Docker), "{H}", "", "", ""),
        ("/docker/buildkit/kx1rq2b7m4zj", Some(Buildkit), "kx1rq2b7m4zj", "", "", ""),
        // ECS.
        ("/ecs/0123456789abcdef0123456789abcdef/{H}", Some(Docker), "{H}", "", "", ""),
        ("/ecs/cluster/0123456789abcdef0123456789abcdef/{H}", Some(Docker), "{H}", "", "", ""),
        ("/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-2704463158", Some(Docker),
         "0123456789abcdef0123456789abcdef-2704463158", "", "", ""),
        ("/ecstasks.slice/ecstasks-0123456789abcdef0123456789abcdef.slice/docker-{H}.scope", Some(Docker), "{H}", "", "docker-{H}.scope", ""),
        // Kubernetes.
        ("/kubepods/besteffort/pod{U}/{H}", Some(Oci), "{H}", "{U}", "", ""),
        ("/kubepods/burstable/pod{U}/{H}", Some(Oci), "{H}", "{U}", "", ""),
        ("/kubepods/pod{U}/{H}", Some(Oci), "{H}", "{U}", "", ""),
        ("/kubepods/burstable/pod9fd4ee4e4ab44e56a2f6a47ac1b3e5f7/{H}", Some(Oci), "{H}", "9fd4ee4e4ab44e56a2f6a47ac1b3e5f7", "", ""),
        ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{u}.slice/cri-containerd-{H}.scope", Some(Containerd), "{H}", "{U}", "cri-containerd-{H}.scope", ""),
        ("/kubepods.slice/kubepods-pod{u}.slice/cri-containerd-{H}.scope", Some(Containerd), "{H}", "{U}", "cri-containerd-{H}.scope", ""),
        ("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{u}.slice/crio-{H}.scope", Some(CriO), "{H}", "{U}", "crio-{H}.scope", ""),
        ("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{u}.slice/crio-{H}.scope/container", Some(CriO), "{H}", "{U}", "crio-{H}.scope", ""),
        ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{u}.slice/docker-{H}.scope", Some(Docker), "{H}", "{U}", "docker-{H}.scope", ""),
        ("/kubepods/burstable/pod{U}/crio-{H}", Some(CriO), "{H}", "{U}", "", ""),
        ("/system.slice/containerd.service/kubepods-burstable-pod{u}.slice:cri-containerd:{H}", Some(Containerd), "{H}", "{U}", "containerd.service", ""),
        ("/kubepods-besteffort-pod{u}.slice:cri-containerd:{H}", Some(Containerd), "{H}", "{U}", "", ""),
        ("/system.slice/k3s.service/kubepods/besteffort/pod{U}/{H}", Some(Oci), "{H}", "{U}", "k3s.service", ""),
        ("/docker/{H}/kubelet/kubepods/besteffort/pod{U}/{I}", Some(Docker), "{H}", "", "", "oci:{I}"),
        ("/system.slice/docker-{H}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{u}.slice/cri-containerd-{I}.scope", Some(Docker), "{H}", "", "docker-{H}.scope", "containerd:{I}"),
        ("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{u}.slice/cri-containerd-{H}.scope", Some(Containerd), "{H}", "{U}", "cri-containerd-{H}.scope", ""),
        ("/kubepods/burstable/pod{U}/kata_{H}", Some(Containerd), "{H}", "{U}", "", ""),
        ("/../../kubepods-pod{u}.slice/cri-containerd-{H}.scope", Some(Containerd), "{H}", "{U}", "", ""),
        // containerd without Kubernetes.
        ("/k8s.io/{H}", Some(Containerd), "{H}", "", "", ""),
        ("/default/{H}", Some(Oci), "{H}", "", "", ""),
        ("/moby/{H}", Some(Docker), "{H}", "", "", ""),
        ("/system.slice/nerdctl-{H}.scope", Some(Containerd), "{H}", "", "nerdctl-{H}.scope", ""),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/nerdctl-{H}.scope", Some(Containerd), "{H}", "", "user@1000.service", ""),
        // Podman: root, rootless, in a pod, split, cgroupfs.
        ("/machine.slice/libpod-{H}.scope", Some(Podman), "{H}", "", "libpod-{H}.scope", ""),
        ("/machine.slice/libpod-{H}.scope/container", Some(Podman), "{H}", "", "libpod-{H}.scope", ""),
        ("/machine.slice/machine-libpod_pod_{I}.slice/libpod-{H}.scope/container", Some(Podman), "{H}", "", "libpod-{H}.scope", ""),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{H}.scope/container", Some(Podman), "{H}", "", "user@1000.service", ""),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_{I}.slice/libpod-{H}.scope", Some(Podman), "{H}", "", "user@1000.service", ""),
        ("/system.slice/web.service/libpod-payload-{H}", Some(Podman), "{H}", "", "web.service", ""),
        ("/libpod_parent/libpod-{H}", Some(Podman), "{H}", "", "", ""),
        ("/libpod_parent/{I}/libpod-{H}", Some(Podman), "{H}", "", "", ""),
        // crun and runc on their own.
        ("/system.slice/crun-web.scope", Some(Crun), "web", "", "crun-web.scope", ""),
        ("/user.slice/crun-web_1.scope", Some(Crun), "web_1", "", "crun-web_1.scope", ""),
        ("/system.slice/runc-web.scope", Some(Runc), "web", "", "runc-web.scope", ""),
        ("/user.slice:runc:web", Some(Runc), "web", "", "", ""),
        // System containers.
        ("/lxc/web", Some(Lxc), "web", "", "", ""),
        ("/lxc/101/ns", Some(Lxc), "101", "", "", ""),
        ("/lxc.payload/web", Some(Lxc), "web", "", "", ""),
        ("/lxc.payload.web/system.slice/ssh.service", Some(Lxc), "web", "", "", ""),
        ("/lxc.payload.web/docker/{H}", Some(Lxc), "web", "", "", "docker:{H}"),
        ("/machine.slice/machine-lxc\\x2d42\\x2dweb.scope", Some(Lxc), "42-web", "", "machine-lxc\\x2d42\\x2dweb.scope", ""),
        ("/machine.slice/systemd-nspawn@my\\x2ddb.service/payload/system.slice", Some(Nspawn), "my-db", "", "systemd-nspawn@my\\x2ddb.service", ""),
        ("/machine.slice/machine-my\\x2ddb.scope/payload", Some(Nspawn), "my-db", "", "machine-my\\x2ddb.scope", ""),
        ("/garden/8e6b1c1e-7f5b-4d5c-6a3b-2f1e", Some(Garden), "8e6b1c1e-7f5b-4d5c-6a3b-2f1e", "", "", ""),
        // Look-alikes.
        ("/docker/not-an-id", None, "", "", "", ""),
        ("/system.slice/docker-abc.scope", None, "", "", "docker-abc.scope", ""),
        ("/system.slice/crun-..%2f.scope", None, "", "", "crun-..%2f.scope", ""),
        ("/lxc/..", None, "", "", "", ""),
        ("/a/{H}0", None, "", "", "", ""),
        ("/team/podium", None, "", "", "", ""),
    ];
    assert!(rows.len() >= 80, "{} rows", rows.len());
    for (path, runtime, id, pod, unit, nested) in rows {
        let path = fill(path);
        let got = parse(&path);
        let got = (
            got.container.as_ref().map(|found| found.runtime),
            got.container.map(|found| found.id).unwrap_or_default(),
            got.pod_uid.unwrap_or_default(),
            got.unit.unwrap_or_default(),
            got.nested.join(" "),
        );
        assert_eq!(got, (*runtime, fill(id), fill(pod), fill(unit), fill(nested)), "{path}");
    }
}

#[test]
fn owners_and_user_units() {
    let got = parse("/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.service");
    assert_eq!((got.owner, got.user_unit.as_deref()), (Some(1000), Some("app-x.service")));
    assert_eq!(got.slice.as_deref(), Some("user-1000.slice"));
    let got = parse("/user.slice/user-7.slice/session-2.scope");
    assert_eq!((got.owner, got.user_unit), (Some(7), None));
    assert_eq!(parse("/system.slice/user@x.service").owner, None);
    assert_eq!(parse("/system.slice/a.service").owner, None);
}

#[test]
fn unescapes() {
    for (name, expected) in [
        ("my\\x2ddb", "my-db"),
        ("\\x2f", "/"),
        ("\\x2", "\\x2"),
        ("\\xzz", "\\xzz"),
        ("\\x+1", "\\x+1"),
        ("a\\", "a\\"),
        ("\\xé", "\\xé"),
        ("\\xc3\\xa9", "é"),
        ("\\xff", "\u{fffd}"),
    ] {
        assert_eq!(unescape(name), expected, "{name}");
    }
}

#[test]
fn bounds() {
    let deep = "/docker/".to_owned() + H;
    let got = parse(&deep.repeat(20));
    assert_eq!(got.nested.len(), NESTED_MAX);
    assert_eq!(parse(&deep.repeat(100)), Placement::default(), "longer than a path can be");
    assert!(!is_plain_id(&"x".repeat(ID_BYTES_MAX + 1)));
    assert!(!is_plain_id("a/b") && !is_plain_id("..") && !is_plain_id("") && is_plain_id("a.b"));
}

proptest::proptest! {
    #[test]
    fn never_panics(path in "(/(docker|pod|kubepods|machine-|\\\\x2d|[a-f0-9]{64}|user@1|\\PC{0,9}|.scope|:)){0,8}") {
        if let Some(found) = parse(&path).container {
            proptest::prop_assert!(is_plain_id(&found.id));
        }
    }
}
