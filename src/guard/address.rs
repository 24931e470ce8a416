//! Which addresses are public: the special-purpose registries of IANA, as data.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// IPv4 that no push service answers from (RFC 6890, classify/README.md §9).
const SPECIAL_V4: [Ipv4Net; 15] = [
    v4([0, 0, 0, 0], 8),       // this network
    v4([10, 0, 0, 0], 8),      // private
    v4([100, 64, 0, 0], 10),   // shared by carriers
    v4([127, 0, 0, 0], 8),     // loopback
    v4([169, 254, 0, 0], 16),  // link-local: metadata of clouds
    v4([172, 16, 0, 0], 12),   // private
    v4([192, 0, 0, 0], 24),    // protocol assignments
    v4([192, 0, 2, 0], 24),    // documentation
    v4([192, 88, 99, 0], 24),  // 6to4 relays
    v4([192, 168, 0, 0], 16),  // private
    v4([198, 18, 0, 0], 15),   // benchmarks
    v4([198, 51, 100, 0], 24), // documentation
    v4([203, 0, 113, 0], 24),  // documentation
    v4([224, 0, 0, 0], 4),     // multicast
    v4([240, 0, 0, 0], 4),     // reserved, broadcast
];

/// The only IPv6 that is routed between networks; everything special but what follows is outside:
/// loopback, unique local, link-local, multicast, discard, local NAT64 (RFC 4291 §2.4).
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// IPv6 inside it that no push service answers from.
const SPECIAL_V6: [Ipv6Net; 3] = [
    v6([0x2001, 0, 0], 23),     // protocol assignments: Teredo, benchmarks, ORCHID
    v6([0x2001, 0xdb8, 0], 32), // documentation
    v6([0x3fff, 0, 0], 20),     // documentation
];

/// IPv6 that carries an IPv4 address to be reached, and the bit at which it begins.
const EMBEDDING: [(Ipv6Net, u32); 3] = [
    (
        Ipv6Net::new_assert(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(), 96),
        96,
    ),
    (v6([0x64, 0xff9b, 0], 96), 96), // NAT64 (RFC 6052)
    (v6([0x2002, 0, 0], 16), 16),    // 6to4 (RFC 3056)
];

/// Returns whether `address` belongs to the public Internet, where push services are.
///
/// IPv6 that stands for an IPv4 address is judged as that address.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => embedded(address).map_or_else(
            || GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|net| net.contains(&address)),
            is_public_v4,
        ),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !SPECIAL_V4.iter().any(|net| net.contains(&address))
}

/// Returns the IPv4 address that an IPv6 address leads to: mapped, NAT64 by the well-known prefix, or
/// 6to4.
pub(super) fn reached_v4(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => embedded(address).map(IpAddr::from),
    }
}

/// Returns the IPv4 address that `address` stands for.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (_, bit) = EMBEDDING.iter().find(|(net, _)| net.contains(&address))?;
    let rest = address.to_bits() << bit;
    Some(Ipv4Addr::from_bits((rest >> 96) as u32))
}

const fn v4(address: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = address;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(start: [u16; 3], prefix: u8) -> Ipv6Net {
    let [a, b, c] = start;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Both ends of every special range, with their neighbours outside where these are public.
    const RANGES: [(&str, &str, Option<&str>, Option<&str>); 31] = [
        ("0.0.0.0", "0.255.255.255", None, Some("1.0.0.0")),
        (
            "10.0.0.0",
            "10.255.255.255",
            Some("9.255.255.255"),
            Some("11.0.0.0"),
        ),
        (
            "100.64.0.0",
            "100.127.255.255",
            Some("100.63.255.255"),
            Some("100.128.0.0"),
        ),
        (
            "127.0.0.0",
            "127.255.255.255",
            Some("126.255.255.255"),
            Some("128.0.0.0"),
        ),
        (
            "169.254.0.0",
            "169.254.255.255",
            Some("169.253.255.255"),
            Some("169.255.0.0"),
        ),
        (
            "172.16.0.0",
            "172.31.255.255",
            Some("172.15.255.255"),
            Some("172.32.0.0"),
        ),
        (
            "192.0.0.0",
            "192.0.0.255",
            Some("191.255.255.255"),
            Some("192.0.1.0"),
        ),
        (
            "192.0.2.0",
            "192.0.2.255",
            Some("192.0.1.255"),
            Some("192.0.3.0"),
        ),
        (
            "192.88.99.0",
            "192.88.99.255",
            Some("192.88.98.255"),
            Some("192.88.100.0"),
        ),
        (
            "192.168.0.0",
            "192.168.255.255",
            Some("192.167.255.255"),
            Some("192.169.0.0"),
        ),
        (
            "198.18.0.0",
            "198.19.255.255",
            Some("198.17.255.255"),
            Some("198.20.0.0"),
        ),
        (
            "198.51.100.0",
            "198.51.100.255",
            Some("198.51.99.255"),
            Some("198.51.101.0"),
        ),
        (
            "203.0.113.0",
            "203.0.113.255",
            Some("203.0.112.255"),
            Some("203.0.114.0"),
        ),
        (
            "224.0.0.0",
            "239.255.255.255",
            Some("223.255.255.255"),
            None,
        ),
        ("240.0.0.0", "255.255.255.255", None, None),
        ("::", "::1", None, None),
        ("::1.2.3.4", "::feff:ffff:ffff", None, None),
        (
            "::ffff:10.0.0.0",
            "::ffff:10.255.255.255",
            Some("::ffff:9.255.255.255"),
            Some("::ffff:11.0.0.0"),
        ),
        (
            "64:ff9b::127.0.0.0",
            "64:ff9b::127.255.255.255",
            Some("64:ff9b::126.255.255.255"),
            Some("64:ff9b::128.0.0.0"),
        ),
        ("64:ff9b:0:0:0:1::", "64:ff9b:0:ffff::", None, None),
        (
            "64:ff9b:1::",
            "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
            None,
            None,
        ),
        ("100::", "100::ffff:ffff:ffff:ffff", None, None),
        (
            "2001::",
            "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
            Some("2000:ffff::"),
            Some("2001:200::"),
        ),
        (
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            Some("2001:db7:ffff::"),
            Some("2001:db9::"),
        ),
        (
            "2002:a00::",
            "2002:aff:ffff:ffff:ffff:ffff:ffff:ffff",
            Some("2002:9ff:ffff::"),
            Some("2002:b00::"),
        ),
        (
            "3fff::",
            "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
            Some("3ffe:ffff::"),
            Some("3fff:1000::"),
        ),
        ("4000::", "fbff:ffff::", Some("3fff:ffff::"), None),
        ("5f00::", "5f00:ffff::", None, None),
        (
            "fc00::",
            "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            None,
            None,
        ),
        (
            "fe80::",
            "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            None,
            None,
        ),
        (
            "ff00::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            None,
            None,
        ),
    ];

    fn public(text: &str) -> bool {
        is_public(text.parse().unwrap_or_else(|_| panic!("{text}")))
    }

    #[test]
    fn every_special_range_is_refused_from_its_first_address_to_its_last() {
        for (first, last, below, above) in RANGES {
            assert!(!public(first), "{first}");
            assert!(!public(last), "{last}");
            for neighbour in [below, above].into_iter().flatten() {
                assert!(public(neighbour), "{neighbour}");
            }
        }
    }

    #[test]
    fn addresses_of_large_services_are_public() {
        for text in [
            "142.250.74.138",
            "34.107.243.93",
            "17.188.143.98",
            "2a00:1450:4001:82f::200a",
            "2600:1901:0:92a9::",
            "::ffff:142.250.74.138",
            "64:ff9b::142.250.74.138",
            "2002:8efa:4a8a::1",
        ] {
            assert!(public(text), "{text}");
        }
        for text in [
            "169.254.169.254",
            "fd00:ec2::254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
        ] {
            assert!(!public(text), "{text}");
        }
    }

    /// The rules of classify/README.md §9 as text, read bit by bit.
    const DENIED: &str = "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 \
        172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 \
        198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 ::/128 ::1/128 64:ff9b:1::/48 \
        100::/64 2001::/23 2001:db8::/32 3fff::/20 fc00::/7 fe80::/10 ff00::/8";

    fn bits(address: IpAddr) -> String {
        match address {
            IpAddr::V4(address) => format!("{:032b}", address.to_bits()),
            IpAddr::V6(address) => format!("{:0128b}", address.to_bits()),
        }
    }

    fn is_in(address: IpAddr, net: &str) -> bool {
        let (base, prefix) = net.split_once('/').unwrap();
        let base: IpAddr = base.parse().unwrap();
        let prefix: usize = prefix.parse().unwrap();
        base.is_ipv4() == address.is_ipv4() && bits(address).starts_with(&bits(base)[..prefix])
    }

    fn oracle(address: IpAddr) -> bool {
        for (net, from) in [
            ("::ffff:0:0/96", 96),
            ("64:ff9b::/96", 96),
            ("2002::/16", 16),
        ] {
            if is_in(address, net) {
                let inner = u32::from_str_radix(&bits(address)[from..from + 32], 2).unwrap();
                return oracle(Ipv4Addr::from_bits(inner).into());
            }
        }
        let routed = address.is_ipv4() || is_in(address, "2000::/3");
        routed && !DENIED.split_whitespace().any(|net| is_in(address, net))
    }

    /// Addresses all over, and as many from inside and around the special ranges.
    fn addresses() -> impl Strategy<Value = IpAddr> {
        let anchors: Vec<u128> = RANGES
            .iter()
            .flat_map(|(first, last, ..)| [*first, *last])
            .chain(["::ffff:0:0", "64:ff9b::", "2002::", "2000::"])
            .filter_map(|text| text.parse().ok())
            .map(Ipv6Addr::to_bits)
            .collect();
        let near = (prop::sample::select(anchors), 0u32..128, any::<u128>())
            .prop_map(|(anchor, kept, low)| anchor ^ low.checked_shr(kept).unwrap_or(0));
        let v4_anchors: Vec<u32> = RANGES
            .iter()
            .flat_map(|(first, last, ..)| [*first, *last])
            .filter_map(|text| text.parse().ok())
            .map(Ipv4Addr::to_bits)
            .collect();
        let near_v4 = (prop::sample::select(v4_anchors), 0u32..32, any::<u32>())
            .prop_map(|(anchor, kept, low)| anchor ^ (low >> kept));
        let v4 = prop_oneof![any::<u32>(), near_v4];
        let v4 = v4.prop_map(Ipv4Addr::from_bits).boxed();
        let embedded = (v4.clone(), any::<u16>()).prop_map(|(v4, low)| {
            let bits = u128::from(v4.to_bits());
            [
                0xffff << 32 | bits,
                0x64_ff9b << 96 | bits,
                0x2002 << 112 | bits << 80 | u128::from(low),
            ]
        });
        let v6 = prop_oneof![
            any::<u128>(),
            near,
            (embedded, 0usize..3).prop_map(|(forms, which)| forms[which]),
        ];
        prop_oneof![
            v4.prop_map(IpAddr::from),
            v6.prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn an_address_is_public_exactly_when_the_rules_read_bit_by_bit_say_so(
            address in addresses(),
        ) {
            prop_assert_eq!(is_public(address), oracle(address), "{}", address);
        }
    }
}
