//! Kubernetes: names of the links in `/var/log/containers`.

use std::path::PathBuf;

use super::facts::{Facts, fill};
use super::host::HostFiles;

/// Names only: the links lead to what containers wrote and are not followed.
pub(super) fn read(host: &HostFiles, folders: &[PathBuf], id: &str, facts: &mut Facts) {
    for folder in folders {
        for name in host.list(folder) {
            let Some((pod, namespace, container)) = parse(&name, id) else { continue };
            fill(&mut facts.pod, Some(pod.to_owned()));
            fill(&mut facts.namespace, Some(namespace.to_owned()));
            fill(&mut facts.name, Some(container.to_owned()));
            return;
        }
    }
}

/// Pod, namespace and container in `<pod>_<namespace>_<container>-<id>.log`. Neither of the names
/// may hold `_`.
fn parse<'n>(name: &'n str, id: &str) -> Option<(&'n str, &'n str, &'n str)> {
    let rest = name.strip_suffix(".log")?.strip_suffix(id)?.strip_suffix('-')?;
    let mut parts = rest.split('_');
    let found = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_names() {
        let got = parse("web-7d4b9_prod_app-main-abc.log", "abc");
        assert_eq!(got, Some(("web-7d4b9", "prod", "app-main")));
        for bad in ["web_prod_app-abd.log", "web_prod-abc.log", "a_b_c_d-abc.log", "abc.log", ""] {
            assert_eq!(parse(bad, "abc"), None, "{bad}");
        }
    }
}
