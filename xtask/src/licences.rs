//! Licence, ban and source policy of the dependencies, read from `deny.toml` and checked without compiling another tool.
//!
//! Advisories need a database from the network and are left to `cargo deny check advisories`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::run::{cargo, root, say, stdout};

/// Checks every package that any target of the workspace may use, and reports all that break the policy.
pub(crate) fn check() -> Result<()> {
    let policy = Policy::read()?;
    let metadata = stdout(cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("output of cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;

    let mut broken = Vec::new();
    let mut versions = BTreeMap::<&str, BTreeSet<&str>>::new();
    for package in packages {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let (name, version) = (text("name"), text("version"));
        versions.entry(name).or_default().insert(version);
        let found = policy.judge(name, text("license"), package["source"].as_str());
        broken.extend(found.map(|reason| format!("{name} {version}: {reason}")));
    }
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        let versions: Vec<_> = versions.iter().copied().collect();
        say(format_args!(
            "note: {name} is there in {} versions: {}",
            versions.len(),
            versions.join(", ")
        ));
    }
    if !broken.is_empty() {
        bail!(
            "{} packages break the policy of deny.toml:\n  {}",
            broken.len(),
            broken.join("\n  ")
        );
    }
    say(format_args!("{} packages: licences, bans and sources as in deny.toml", packages.len()));
    say("advisories: not checked, their database is not in the tree (cargo deny check advisories)");
    Ok(())
}

/// The part of `deny.toml` that is checked here.
#[derive(Debug, Default)]
struct Policy {
    licences: BTreeSet<String>,
    exceptions: BTreeMap<String, BTreeSet<String>>,
    bans: BTreeMap<String, String>,
    registries: BTreeSet<String>,
}

impl Policy {
    fn read() -> Result<Self> {
        let path = root().join("deny.toml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let file: toml::Table = text.parse().context("deny.toml")?;
        let file = serde_json::to_value(file).context("deny.toml")?;
        let mut policy = Self {
            licences: strings(&file["licenses"]["allow"])?,
            registries: strings(&file["sources"]["allow-registry"])?,
            ..Self::default()
        };
        for exception in file["licenses"]["exceptions"].as_array().into_iter().flatten() {
            let name = exception["crate"].as_str().context("an exception without `crate`")?;
            policy.exceptions.insert(name.to_owned(), strings(&exception["allow"])?);
        }
        for ban in file["bans"]["deny"].as_array().into_iter().flatten() {
            let name = ban["crate"].as_str().context("a ban without `crate`")?;
            let reason = ban["reason"].as_str().context("a ban without `reason`")?;
            policy.bans.insert(name.to_owned(), reason.to_owned());
        }
        Ok(policy)
    }

    /// Why a package may not be used, if so. `source` is `None` for members of the workspace.
    fn judge(&self, name: &str, licence: &str, source: Option<&str>) -> Option<String> {
        if let Some(reason) = self.bans.get(name) {
            return Some(format!("banned: {reason}"));
        }
        if let Some(source) = source {
            let registry = source.strip_prefix("registry+");
            if !registry.is_some_and(|registry| self.registries.contains(registry)) {
                return Some(format!("source `{source}` is not allowed"));
            }
        }
        let exceptions = self.exceptions.get(name);
        let allows = |id: &str| {
            self.licences.contains(id) || exceptions.is_some_and(|more| more.contains(id))
        };
        match satisfies(licence, &allows) {
            Ok(true) => None,
            Ok(false) => Some(format!("licence `{licence}` is not allowed")),
            Err(error) => Some(format!("licence `{licence}` is not understood: {error}")),
        }
    }
}

fn strings(value: &Value) -> Result<BTreeSet<String>> {
    let list = value.as_array().ok_or_else(|| anyhow!("found `{value}`, expected a list"))?;
    let string = |item: &Value| item.as_str().map(str::to_owned);
    list.iter().map(|item| string(item).context("found another type, expected a string")).collect()
}

/// Whether an SPDX expression can be met with the allowed licences.
///
/// Grammar (SPDX specification, annex "SPDX license expressions"), `AND` binds tighter than `OR`; `/` is an old spelling
/// of `OR` on crates.io. `X WITH exception` counts as X: exceptions only add permissions.
fn satisfies(expression: &str, allows: &dyn Fn(&str) -> bool) -> Result<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allows };
    let result = parser.any()?;
    match parser.words.first() {
        None => Ok(result),
        Some(word) => bail!("`{word}` after the end"),
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    allows: &'a dyn Fn(&str) -> bool,
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<bool> {
        let mut result = self.all()?;
        while self.take("OR") {
            result |= self.all()?;
        }
        Ok(result)
    }

    fn all(&mut self) -> Result<bool> {
        let mut result = self.one()?;
        while self.take("AND") {
            result &= self.one()?;
        }
        Ok(result)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take("(") {
            let result = self.any()?;
            if !self.take(")") {
                bail!("`)` is missing");
            }
            return Ok(result);
        }
        let name = self.word()?;
        let result = (self.allows)(name);
        if self.take("WITH") {
            self.word()?;
        }
        Ok(result)
    }

    /// The name of a licence or an exception.
    fn word(&mut self) -> Result<&'a str> {
        let Some((&word, rest)) = self.words.split_first() else { bail!("a name is missing") };
        if ["(", ")", "AND", "OR", "WITH"].contains(&word) {
            bail!("found `{word}`, expected a name");
        }
        self.words = rest;
        Ok(word)
    }

    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluates_licence_expressions() {
        let allows = |id: &str| ["MIT", "Apache-2.0", "Unicode-3.0"].contains(&id);
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT/Apache-2.0", true),
            ("GPL-3.0-only OR MIT", true),
            ("GPL-3.0-only AND MIT", false),
            ("(MIT OR GPL-3.0-only) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only AND GPL-2.0-only", true),
            ("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only", true),
        ] {
            assert_eq!(satisfies(expression, &allows).expect(expression), expected, "{expression}");
        }
        for broken in ["", "MIT OR", "(MIT", "MIT Apache-2.0", "MIT)", "AND MIT", "MIT WITH"] {
            assert!(satisfies(broken, &allows).is_err(), "{broken}");
        }
    }

    #[test]
    fn refuses_bans_foreign_sources_and_licences_outside_the_list() {
        let policy = Policy::read().expect("deny.toml of the workspace");
        let index = Some("registry+https://github.com/rust-lang/crates.io-index");
        assert_eq!(policy.judge("serde", "MIT OR Apache-2.0", index), None);
        assert!(
            policy.judge("openssl-sys", "MIT", index).is_some_and(|why| why.contains("banned"))
        );
        let foreign = policy.judge("serde", "MIT", Some("git+https://example.org/serde"));
        assert!(foreign.is_some_and(|why| why.contains("source")));
        assert!(policy.judge("serde", "AGPL-3.0-only", index).is_some());
        assert_eq!(policy.judge("pgward-ebpf", "GPL-2.0-only", None), None);
        assert!(policy.judge("pgward", "GPL-2.0-only", None).is_some());
    }
}
