//! Networks in CIDR notation.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network: an address whose host bits are all zero, and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    addr: IpAddr,
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not an IP address before the slash.
    #[error("not an IP address or network: found `{0}`, expected for example `10.0.0.0/8`")]
    Address(String),
    /// Prefix missing a number or too long for the family.
    #[error("bad prefix length: found `{found}`, expected 0..={max}")]
    Prefix {
        /// What stands after the slash.
        found: String,
        /// 32 or 128.
        max: u8,
    },
    /// Bits to the right of the prefix are set.
    #[error("host bits are set: found `{found}`, expected `{expected}`")]
    HostBits {
        /// As written.
        found: String,
        /// The network the address lies in.
        expected: Network,
    },
    /// An IPv4 network in IPv6 clothes.
    #[error("IPv4-mapped network: found `{0}`, expected its IPv4 form")]
    Mapped(String),
}

impl Network {
    /// All of IPv4.
    pub const ALL_V4: Self = Self { addr: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), prefix: 0 };
    /// All of IPv6.
    pub const ALL_V6: Self = Self { addr: IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), prefix: 0 };

    /// A network of `prefix` bits. Refused: a prefix longer than the address, host bits set,
    /// IPv4-mapped addresses with a prefix of 96 or more.
    pub fn new(addr: IpAddr, prefix: u8) -> Result<Self, NetworkError> {
        let max = bits(addr);
        let found = || format!("{addr}/{prefix}");
        if prefix > max {
            return Err(NetworkError::Prefix { found: prefix.to_string(), max });
        }
        if matches!(addr, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) && prefix >= 96 {
            return Err(NetworkError::Mapped(found()));
        }
        let network = Self { addr: masked(addr, prefix), prefix };
        if network.addr == addr {
            Ok(network)
        } else {
            Err(NetworkError::HostBits { found: found(), expected: network })
        }
    }

    /// Lowest address of the network.
    pub fn addr(self) -> IpAddr {
        self.addr
    }

    /// How many leading bits all its addresses share.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether every address of `other` is in this network. Families never contain each other.
    pub fn contains(self, other: Self) -> bool {
        self.prefix <= other.prefix
            && self.addr.is_ipv4() == other.addr.is_ipv4()
            && masked(other.addr, self.prefix) == self.addr
    }

    /// Whether `addr` is in this network.
    pub fn holds(self, addr: IpAddr) -> bool {
        self.addr.is_ipv4() == addr.is_ipv4() && masked(addr, self.prefix) == self.addr
    }

    /// The two networks that make it up; none for a single address.
    pub fn halves(self) -> Option<[Self; 2]> {
        let prefix = self.prefix + 1;
        let addr = match self.addr {
            IpAddr::V4(v4) if prefix <= 32 => {
                IpAddr::V4((v4.to_bits() | 1 << (32 - u32::from(prefix))).into())
            }
            IpAddr::V6(v6) if prefix <= 128 => {
                IpAddr::V6((v6.to_bits() | 1 << (128 - u32::from(prefix))).into())
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        Some([Self { addr: self.addr, prefix }, Self { addr, prefix }])
    }

    /// Whether every address of this network is in one of `others`.
    pub fn covered_by(self, others: &[Self]) -> bool {
        // Only a network with one of the others strictly inside is cut: at most one cut per bit of each.
        others.iter().any(|other| other.contains(self))
            || others.iter().any(|other| self.contains(*other))
                && self
                    .halves()
                    .is_some_and(|halves| halves.into_iter().all(|half| half.covered_by(others)))
    }

    /// Whether the two share an address: networks do when one contains the other.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other) || other.contains(self)
    }
}

/// `address/prefix`, or an address alone, which stands for itself.
impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let addr: IpAddr = address.parse().map_err(|_| NetworkError::Address(text.to_owned()))?;
        let max = bits(addr);
        let prefix = match prefix {
            None => max,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits
                .parse()
                .map_err(|_| NetworkError::Prefix { found: digits.to_owned(), max })?,
            Some(other) => {
                return Err(NetworkError::Prefix { found: other.to_owned(), max });
            }
        };
        Self::new(addr, prefix)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

fn bits(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// `addr` with everything right of `prefix` zero.
fn masked(addr: IpAddr, prefix: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect("a network of the test")
    }

    #[test]
    fn parses_and_prints_back() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32", "::/0", "fd00::/8", "::1/128"] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("10.1.2.3").to_string(), "10.1.2.3/32");
        assert_eq!(network("::1").to_string(), "::1/128");
    }

    #[test]
    fn refuses_what_is_not_a_network() {
        for (text, message) in [
            ("ten", "not an IP address or network: found `ten`, expected for example `10.0.0.0/8`"),
            ("10.0.0.0/", "bad prefix length: found ``, expected 0..=32"),
            ("10.0.0.0/33", "bad prefix length: found `33`, expected 0..=32"),
            ("10.0.0.0/+8", "bad prefix length: found `+8`, expected 0..=32"),
            ("::/129", "bad prefix length: found `129`, expected 0..=128"),
            ("10.0.0.1/8", "host bits are set: found `10.0.0.1/8`, expected `10.0.0.0/8`"),
            ("fd00::1/8", "host bits are set: found `fd00::1/8`, expected `fd00::/8`"),
            (
                "::ffff:10.0.0.0/104",
                "IPv4-mapped network: found `::ffff:10.0.0.0/104`, expected its IPv4 form",
            ),
        ] {
            let error = Network::from_str(text).expect_err("not a network");
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn contains_follows_the_prefix_and_the_family() {
        assert!(network("10.0.0.0/8").contains(network("10.200.0.0/16")));
        assert!(!network("10.200.0.0/16").contains(network("10.0.0.0/8")));
        assert!(network("0.0.0.0/0").contains(network("10.0.0.0/8")));
        assert!(!network("::/0").contains(network("10.0.0.0/8")));
        assert!(!network("10.0.0.0/8").overlaps(network("11.0.0.0/8")));
        assert!(network("10.0.0.0/9").overlaps(network("10.0.0.0/8")));
        assert!(network("::1").contains(network("::1")));
        let holds = |text: &str, addr: &str| network(text).holds(addr.parse().expect("an address"));
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
    }

    #[test]
    fn covered_by_joins_what_lies_side_by_side() {
        let covered = |text: &str, others: &[&str]| {
            let others: Vec<_> = others.iter().map(|text| network(text)).collect();
            network(text).covered_by(&others)
        };
        assert!(covered("10.0.0.0/8", &["10.0.0.0/9", "10.128.0.0/9"]));
        assert!(covered("10.0.0.0/8", &["10.0.0.0/9", "10.192.0.0/10", "10.128.0.0/10"]));
        assert!(!covered("10.0.0.0/8", &["10.0.0.0/9", "10.192.0.0/10"]));
        assert!(covered("10.0.0.0/31", &["10.0.0.0", "10.0.0.1"]));
        assert!(!covered("10.0.0.0/31", &["10.0.0.0"]));
        assert!(covered("::/0", &["8000::/1", "::/1"]));
        assert!(!covered("::/0", &["0.0.0.0/0"]));
        assert!(covered("::/127", &["::", "::1"]));
        assert_eq!(network("::1").halves(), None);
    }
}
