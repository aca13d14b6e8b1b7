//! The addresses no relay reaches by itself: what the IANA special-purpose registries do not mark as globally reachable.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use ipnet::IpNet;

/// Whether packets to `address` may leave for the Internet at large. The longest matching block of [`BLOCKS`] decides.
pub(super) fn is_global(address: IpAddr) -> bool {
    let longest = TABLE.iter().filter(|(block, _)| block.contains(&address)).max_by_key(|(block, _)| block.prefix_len());
    longest.is_some_and(|(_, reach)| *reach == Global)
}

/// The IPv4 address that packets to `address` end at, where its form says one: IPv4-compatible (RFC 4291 §2.5.5.1), NAT64 (RFC 6052 §2.1),
/// 6to4 (RFC 3056 §2), Teredo (RFC 4380 §4: the client's, inverted). IPv4-mapped is not here: such an address *is* the IPv4 one.
pub(super) fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., w, x, y, z] = address.octets();
    match address.segments() {
        // Not `::` and `::1`, which embed nothing.
        [0, 0, 0, 0, 0, 0, 1..=0xffff, _] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(Ipv4Addr::new(w, x, y, z)),
        [0x2002, high, low, ..] => Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))),
        [0x2001, 0, ..] => Some(Ipv4Addr::new(!w, !x, !y, !z)),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Global,
    Not,
}
use Reach::{Global, Not};

/// Both registries (iana-ipv4-special-registry, iana-ipv6-special-registry), column "Globally Reachable"; N/A counts as no. With them what
/// they leave out: multicast, and all of IPv6 but 2000::/3, the only part given out as global unicast (site-local fec0::/10 falls here).
const BLOCKS: &[(&str, Reach)] = &[
    ("0.0.0.0/0", Global),
    ("0.0.0.0/8", Not),            // "this network"
    ("10.0.0.0/8", Not),           // private
    ("100.64.0.0/10", Not),        // shared address space of carriers
    ("127.0.0.0/8", Not),          // loopback
    ("169.254.0.0/16", Not),       // link-local, and the metadata services of clouds
    ("172.16.0.0/12", Not),        // private
    ("192.0.0.0/24", Not),         // IETF protocol assignments
    ("192.0.0.9/32", Global),      // Port Control Protocol anycast
    ("192.0.0.10/32", Global),     // TURN anycast
    ("192.0.2.0/24", Not),         // documentation
    ("192.31.196.0/24", Global),   // AS112
    ("192.52.193.0/24", Global),   // AMT
    ("192.88.99.0/24", Not),       // 6to4 relay anycast, deprecated; 6a44
    ("192.168.0.0/16", Not),       // private
    ("192.175.48.0/24", Global),   // AS112, direct delegation
    ("198.18.0.0/15", Not),        // benchmarking
    ("198.51.100.0/24", Not),      // documentation
    ("203.0.113.0/24", Not),       // documentation
    ("224.0.0.0/4", Not),          // multicast
    ("240.0.0.0/4", Not),          // reserved, and limited broadcast
    ("::/0", Not),                 // not given out, unless named below
    ("::/128", Not),               // unspecified
    ("::1/128", Not),              // loopback
    ("::ffff:0:0/96", Not),        // IPv4-mapped
    ("64:ff9b::/96", Global),      // NAT64
    ("64:ff9b:1::/48", Not),       // NAT64 inside one network
    ("100::/64", Not),             // discard-only
    ("100:0:0:1::/64", Not),       // dummy prefix
    ("2000::/3", Global),          // global unicast
    ("2001::/23", Not),            // IETF protocol assignments
    ("2001::/32", Not),            // Teredo
    ("2001:1::1/128", Global),     // Port Control Protocol anycast
    ("2001:1::2/128", Global),     // TURN anycast
    ("2001:1::3/128", Global),     // DNS-SD service registration anycast
    ("2001:2::/48", Not),          // benchmarking
    ("2001:3::/32", Global),       // AMT
    ("2001:4:112::/48", Global),   // AS112
    ("2001:10::/28", Not),         // ORCHID, deprecated
    ("2001:20::/28", Global),      // ORCHIDv2
    ("2001:30::/28", Global),      // drone remote identification
    ("2001:db8::/32", Not),        // documentation
    ("2002::/16", Not),            // 6to4
    ("2620:4f:8000::/48", Global), // AS112, direct delegation
    ("3fff::/20", Not),            // documentation
    ("5f00::/16", Not),            // segment routing identifiers
    ("fc00::/7", Not),             // unique local
    ("fe80::/10", Not),            // link-local
    ("ff00::/8", Not),             // multicast
];

static TABLE: LazyLock<Vec<(IpNet, Reach)>> =
    LazyLock::new(|| BLOCKS.iter().map(|(block, reach)| (block.parse().expect("a block is a network"), *reach)).collect());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_begins_at_its_network_address() {
        for (block, _) in TABLE.iter() {
            assert_eq!(*block, block.trunc());
        }
    }

    #[test]
    fn the_edges_of_every_block_are_where_the_registries_say() {
        for (inside, outside) in [
            ("0.255.255.255", "1.0.0.0"),
            ("10.0.0.0", "9.255.255.255"),
            ("10.255.255.255", "11.0.0.0"),
            ("100.64.0.0", "100.63.255.255"),
            ("100.127.255.255", "100.128.0.0"),
            ("127.255.255.255", "128.0.0.0"),
            ("169.254.169.254", "169.253.255.255"),
            ("169.254.255.255", "169.255.0.0"),
            ("172.16.0.0", "172.15.255.255"),
            ("172.31.255.255", "172.32.0.0"),
            ("192.0.0.8", "192.0.0.9"),
            ("192.0.0.11", "192.0.0.10"),
            ("192.0.0.171", "192.0.1.0"),
            ("192.0.2.255", "192.0.3.0"),
            ("192.88.99.2", "192.88.100.0"),
            ("192.168.0.0", "192.167.255.255"),
            ("192.168.255.255", "192.169.0.0"),
            ("198.18.0.0", "198.17.255.255"),
            ("198.19.255.255", "198.20.0.0"),
            ("198.51.100.7", "198.51.101.0"),
            ("203.0.113.7", "203.0.114.0"),
            ("224.0.0.0", "223.255.255.255"),
            ("239.255.255.255", "192.31.196.1"),
            ("240.0.0.1", "192.52.193.1"),
            ("255.255.255.255", "192.175.48.1"),
            ("::", "64:ff9b::808:808"),
            ("::1", "2001:1::1"),
            ("64:ff9b:1::1", "2001:1::2"),
            ("100::1", "2001:1::3"),
            ("100:0:0:1::1", "2000::"),
            ("2001:1::4", "2001:3::1"),
            ("2001::1", "2001:200::1"),
            ("2001:2::1", "2001:4:112::1"),
            ("2001:4:113::1", "2001:20::1"),
            ("2001:10::1", "2001:2f:ffff::1"),
            ("2001:40::1", "2001:3f::1"),
            ("2001:db8::1", "2001:db9::1"),
            ("2002:808:808::1", "2003::1"),
            ("3fff:fff::1", "3fff:1000::1"),
            ("4000::1", "3ffe::1"),
            ("5f00::1", "2620:4f:8000::1"),
            ("fc00::1", "2606:4700::1111"),
            ("fdff::1", "2a00::1"),
            ("fe80::1", "2400::1"),
            ("febf::1", "2c00::1"),
            ("fec0::1", "2800::1"),
            ("ff02::1", "3fff:ffff::1"),
            ("::ffff:8.8.8.8", "8.8.8.8"),
            ("::8.8.8.8", "1.1.1.1"),
            ("8000::1", "9.9.9.9"),
        ] {
            assert!(!is_global(inside.parse().unwrap()), "{inside} is let through");
            assert!(is_global(outside.parse().unwrap()), "{outside} is refused");
        }
    }

    #[test]
    fn embedded_addresses_are_found() {
        for (address, want) in [
            ("::192.0.2.1", Some("192.0.2.1")),
            ("::", None),
            ("::1", None),
            ("64:ff9b::192.0.2.1", Some("192.0.2.1")),
            ("64:ff9b::1:192.0.2.1", None),
            ("2002:c000:201::5", Some("192.0.2.1")),
            ("2001:0:4136:e378:8000:63bf:3fff:fdfe", Some("192.0.2.1")),
            ("2001:db8::192.0.2.1", None),
            ("2606:4700::1111", None),
        ] {
            assert_eq!(embedded(address.parse().unwrap()), want.map(|want| want.parse().unwrap()), "{address}");
        }
    }
}
