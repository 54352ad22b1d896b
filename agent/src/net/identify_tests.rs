//! Identities as records hold them.

use std::collections::BTreeSet;

use super::*;
use crate::attrib::{
    CmdlineSize, Confidence, Container, Evidence, Field, Parent, Reason, Remark, Runtime, Sha256,
};
use crate::audit::schema::{CONTAINER, Field as Column};
use crate::audit::{Tier, Writer, samples, view};

/// An identity with everything in it.
fn full() -> Identity {
    let container = Container {
        id: "0123456789abcdef".to_owned(),
        runtime: Runtime::Crun,
        name: Some("web".to_owned()),
        image: Some("shop:1".to_owned()),
        pod: Some("p".to_owned()),
        pod_uid: Some("u".to_owned()),
        namespace: Some("n".to_owned()),
        labels: [("team".to_owned(), "shop".to_owned())].into(),
        evidence: Evidence::CgroupPath,
        claimed_by: Some(1000),
        nested: vec!["docker:ab".to_owned()],
        sandbox: true,
    };
    Identity {
        pid: 7,
        start_ns: Some(8),
        exec: Some(9),
        boot_id: Some("b".into()),
        confidence: Confidence::Confirmed,
        comm: "psql".to_owned(),
        exe: Some("/usr/bin/psql".to_owned()),
        exe_deleted: true,
        exe_sha256: Some(Sha256([1; 32])),
        cmdline: Some(vec!["psql".to_owned(), "-c".to_owned()]),
        cmdline_full: Some(CmdlineSize { args: 70, bytes: 9_000, at_least: true }),
        cmdline_redacted: 1,
        cwd: Some("/".to_owned()),
        uid: 1000,
        gid: 1000,
        user: Some("app".to_owned()),
        loginuid: Some(1000),
        parents: vec![Parent {
            pid: 1,
            start_ns: 2,
            exe: Some("/sbin/init".to_owned()),
            comm: "init".to_owned(),
        }],
        cgroup: Some("/a".to_owned()),
        cgroup_hierarchy: Some("v2".to_owned()),
        unit: Some("a.service".to_owned()),
        slice: Some("system.slice".to_owned()),
        user_unit: Some("b.service".to_owned()),
        container: Some(container),
        doubts: vec![Remark { field: Field::Exe, reason: Reason::Zombie }],
        missing: vec![Remark { field: Field::Cwd, reason: Reason::Ended }],
    }
}

/// The identity as a record shows it.
fn shown(identity: &Identity) -> Value {
    let who = Who::of(identity);
    let record = Writer { actor: &who.full, tier: Tier::T2 };
    let entry = samples::entry(&samples::stamp(1), &record);
    view::object(&entry).expect("an entry")["actor"].clone()
}

fn names(table: &[Column]) -> BTreeSet<&str> {
    table.iter().map(|field| field.name).collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_record_holds_an_identity_as_attribution_tells_it() {
    let shown = shown(&full());
    assert_eq!(shown, serde_json::to_value(full()).expect("JSON"));
    assert_eq!(keys(&shown), names(ACTOR));
    assert_eq!(keys(&shown["container"]), names(CONTAINER));
}

#[test]
fn an_identity_that_is_too_long_keeps_who_it_is() {
    let mut identity = full();
    let container = identity.container.as_mut().expect("it has one");
    container.labels = (0..64).map(|n| (format!("label-{n}"), "x".repeat(1_024))).collect();
    let told = shown(&identity);
    assert_eq!(told["container"]["labels"], json!({}));
    assert_eq!(told["parents"][0]["exe"], "/sbin/init");
    assert_eq!(told["missing"][1]["field"], "container.labels");

    let parent = Parent { exe: Some("/".repeat(4_096)), ..identity.parents[0].clone() };
    identity.parents = vec![parent; 16];
    let told = shown(&identity);
    assert_eq!((&told["parents"], &told["exe"]), (&json!([]), &json!("/usr/bin/psql")));
    assert_eq!(
        (&told["loginuid"], &told["container"]["id"]),
        (&json!(1000), &json!("0123456789abcdef"))
    );
    assert_eq!(told["missing"][2]["field"], "parents");
}
