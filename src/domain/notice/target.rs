//! Where a webhook may go: not into our own network, unless the operator has allowed that part of it.
//!
//! Source: the IANA special-purpose address registries (RFC 6890 and its updates).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: its address and the bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether an address lies in it. An IPv4 address within IPv6 counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                same(net.to_bits().into(), address.to_bits().into(), 32, self.bits)
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => same(net.to_bits(), address.to_bits(), 128, self.bits),
            _ => false,
        }
    }
}

fn same(one: u128, other: u128, width: u32, bits: u8) -> bool {
    let shift = width.saturating_sub(bits.into());
    one.checked_shr(shift).unwrap_or(0) == other.checked_shr(shift).unwrap_or(0)
}

/// Reads `10.0.0.0/8, fd00::/8, 192.168.1.5`; empty: none.
///
/// # Errors
/// Names the part that is no network.
pub fn networks(text: &str) -> Result<Vec<Network>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (address, bits) = part.split_once('/').map_or((part, None), |(a, b)| (a, Some(b)));
            let wrong = || format!("{part:?} is no network such as 10.1.0.0/16");
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Ok(most), |bits| bits.parse::<u8>().map_err(|_| wrong()))?;
            if bits > most {
                return Err(wrong());
            }
            Ok(Network { address, bits })
        })
        .collect()
}

const fn v4(a: u8, b: u8, c: u8, bits: u8) -> (Ipv4Addr, u8) {
    (Ipv4Addr::new(a, b, c, 0), bits)
}

/// IPv4 networks that are not of the public Internet.
const SPECIAL_V4: [(Ipv4Addr, u8); 15] = [
    v4(0, 0, 0, 8),       // this network
    v4(10, 0, 0, 8),      // private
    v4(100, 64, 0, 10),   // shared with carriers
    v4(127, 0, 0, 8),     // loopback
    v4(169, 254, 0, 16),  // link local, with the metadata services of clouds
    v4(172, 16, 0, 12),   // private
    v4(192, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 24),    // documentation
    v4(192, 88, 99, 24),  // 6to4 relays
    v4(192, 168, 0, 16),  // private
    v4(198, 18, 0, 15),   // benchmarks
    v4(198, 51, 100, 24), // documentation
    v4(203, 0, 113, 24),  // documentation
    v4(224, 0, 0, 4),     // multicast
    v4(240, 0, 0, 4),     // reserved, broadcast
];

/// Whether an address is one of the public Internet.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !SPECIAL_V4
            .iter()
            .any(|(net, bits)| same(net.to_bits().into(), address.to_bits().into(), 32, *bits)),
        IpAddr::V6(address) => public_v6(address),
    }
}

/// Only 2000::/3 is given out; of it, what carries an IPv4 address or is set apart is none.
fn public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    (first & 0xe000) == 0x2000
        && first != 0x2002 // 6to4
        && !(first == 0x2001 && second < 0x0200) // Teredo, ORCHID, benchmarks and other assignments
        && !(first == 0x2001 && second == 0x0db8) // documentation
        && !(first == 0x3fff && second < 0x1000) // documentation
}

/// Whether a webhook may be sent to an address.
pub fn allowed(address: IpAddr, private: &[Network]) -> bool {
    is_public(address) || private.iter().any(|network| network.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn private_places_are_none() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700:4700::1111",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn networks_are_read_strictly() {
        let nets = networks(" 10.1.0.0/16, fd12::/16,192.168.1.5 ").unwrap();
        let is = |address: &str| allowed(address.parse().unwrap(), &nets);
        assert!(is("10.1.200.3") && is("fd12::8") && is("192.168.1.5") && is("::ffff:10.1.0.1"));
        assert!(!is("10.2.0.1") && !is("fd13::8") && !is("192.168.1.6") && !is("127.0.0.1"));
        assert!(networks("").unwrap().is_empty());
        for wrong in ["10.0.0.0/33", "10.0.0", "localhost", "10.0.0.0/x"] {
            assert!(networks(wrong).is_err(), "{wrong}");
        }
        assert!(allowed("127.0.0.1".parse().unwrap(), &networks("0.0.0.0/0").unwrap()));
    }

    proptest! {
        /// However an IPv4 address is wrapped, it is judged as itself.
        #[test]
        fn a_wrapped_address_is_the_same(bits in any::<u32>()) {
            let plain = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(is_public(plain.into()), is_public(plain.to_ipv6_mapped().into()));
        }
    }
}
