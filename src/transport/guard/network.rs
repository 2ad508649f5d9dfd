//! The sender of a request, as the unit of limits that apply before authentication.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// An IPv4 address or an IPv6 /64 network, all of whose addresses one machine may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_one(a: &str, b: &str) -> bool {
        let network = |text: &str| Network::from(text.parse::<IpAddr>().unwrap());
        network(a) == network(b)
    }

    #[test]
    fn an_ipv4_address_and_its_mapped_form_are_one_sender() {
        assert!(are_one("127.0.0.1", "::ffff:127.0.0.1"));
        assert!(!are_one("127.0.0.1", "127.0.0.2"));
        assert!(!are_one("::ffff:10.0.0.1", "::ffff:10.0.0.2"));
    }

    #[test]
    fn all_addresses_of_an_ipv6_network_are_one_sender() {
        assert!(are_one("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
        assert!(!are_one("2001:db8:1:2::1", "2001:db8:1:3::1"));
    }
}
