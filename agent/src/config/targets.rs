//! Intercept rules as the entries of a longest-prefix-match trie.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;

use super::{Intercept, Network};

/// Largest number of entries all rules together may need.
pub const TARGETS_MAX: usize = pgward_common::TARGETS_MAX as usize;

/// `::ffff:0:0/96`: where IPv4 lies among IPv6 addresses.
const MAPPED: (Ipv6Addr, u8) = (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);

/// What is done with a connect that an entry matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It goes where it was meant to go.
    Pass,
    /// It goes to the agent.
    Intercept,
}

/// One entry: a port and an IPv6 network, with IPv4 networks in IPv4-mapped form (10.0.0.0/8 is
/// ::ffff:10.0.0.0/104).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Destination port.
    pub port: NonZeroU16,
    /// Lowest address of the network.
    pub addr: Ipv6Addr,
    /// How many leading bits of the address count: 0..=128.
    pub prefix: u8,
    /// What the longest match does.
    pub verdict: Verdict,
}

/// All entries of `rules`, in ascending order, each (port, network) once.
///
/// An IPv6 network that covers the IPv4-mapped block, as `::/0` does, says nothing about IPv4: such
/// a port gets an entry that passes the block, unless a rule names all of IPv4.
pub fn targets(rules: &[Intercept]) -> Vec<Target> {
    let mut targets = Vec::new();
    for rule in rules {
        for &port in &rule.ports {
            let of = |networks: &[Network], verdict| {
                networks
                    .iter()
                    .map(move |network| entry(port, *network, verdict))
                    .collect::<Vec<_>>()
            };
            targets.extend(of(&rule.networks, Verdict::Intercept));
            targets.extend(of(&rule.exclude, Verdict::Pass));
        }
    }
    let passes: Vec<Target> = targets
        .iter()
        .filter(|target| target.verdict == Verdict::Intercept && covers_mapped(target))
        .map(|target| Target {
            addr: MAPPED.0,
            prefix: MAPPED.1,
            verdict: Verdict::Pass,
            ..*target
        })
        .filter(|pass| {
            !targets
                .iter()
                .any(|t| (t.port, t.addr, t.prefix) == (pass.port, pass.addr, pass.prefix))
        })
        .collect();
    targets.extend(passes);
    targets.sort_unstable();
    targets.dedup();
    targets
}

fn entry(port: NonZeroU16, network: Network, verdict: Verdict) -> Target {
    let (addr, prefix) = match network.addr() {
        IpAddr::V4(v4) => (v4.to_ipv6_mapped(), network.prefix() + MAPPED.1),
        IpAddr::V6(v6) => (v6, network.prefix()),
    };
    Target { port, addr, prefix, verdict }
}

fn covers_mapped(target: &Target) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(target.prefix)).unwrap_or(0);
    target.prefix < MAPPED.1 && MAPPED.0.to_bits() & mask == target.addr.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(ports: &[u16], networks: &[&str], exclude: &[&str]) -> Intercept {
        let parse = |texts: &[&str]| {
            texts.iter().map(|text| text.parse().expect("a network of the test")).collect()
        };
        Intercept {
            ports: ports.iter().map(|p| NonZeroU16::new(*p).expect("not zero")).collect(),
            networks: parse(networks),
            exclude: parse(exclude),
        }
    }

    fn listed(rules: &[Intercept]) -> Vec<String> {
        let one = |t: Target| format!("{} {}/{} {:?}", t.port, t.addr, t.prefix, t.verdict);
        targets(rules).into_iter().map(one).collect()
    }

    #[test]
    fn ipv4_is_held_in_mapped_form() {
        assert_eq!(
            listed(&[rule(&[5432], &["0.0.0.0/0", "::/0"], &["10.1.0.0/16"])]),
            [
                "5432 ::/0 Intercept",
                "5432 ::ffff:0.0.0.0/96 Intercept",
                "5432 ::ffff:10.1.0.0/112 Pass",
            ]
        );
    }

    #[test]
    fn ipv6_alone_leaves_ipv4_alone() {
        assert_eq!(
            listed(&[rule(&[5432], &["::/0"], &[])]),
            ["5432 ::/0 Intercept", "5432 ::ffff:0.0.0.0/96 Pass"]
        );
        assert_eq!(listed(&[rule(&[5432], &["fd00::/8"], &[])]), ["5432 fd00::/8 Intercept"]);
    }

    #[test]
    fn rules_that_agree_share_their_entries() {
        let rules =
            [rule(&[5432, 6432], &["10.0.0.0/8"], &[]), rule(&[5432], &["10.0.0.0/8"], &[])];
        assert_eq!(
            listed(&rules),
            ["5432 ::ffff:10.0.0.0/104 Intercept", "6432 ::ffff:10.0.0.0/104 Intercept"]
        );
    }
}
