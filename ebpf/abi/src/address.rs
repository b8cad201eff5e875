//! Addresses and ports in network order.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv6 address, or a mapped IPv4 address, as in the packet.
pub type Words = [u32; 4];

/// Transport protocols (IANA numbers).
pub const TCP: u8 = 6;
/// User datagrams.
pub const UDP: u8 = 17;
/// Stream control transmission.
pub const SCTP: u8 = 132;

/// The third word of every mapped IPv4 address.
const MAPPED: u32 = 0xffff_u32.to_be();

/// An IPv4 address as in the packet.
pub const fn word(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// An IPv6 address as in the packet.
pub const fn words(address: Ipv6Addr) -> Words {
    zerocopy::transmute!(address.octets())
}

/// Any address, IPv4 mapped.
pub const fn mapped_words(address: IpAddr) -> Words {
    match address {
        IpAddr::V4(address) => map_word(word(address)),
        IpAddr::V6(address) => words(address),
    }
}

/// An IPv4 address as in the packet, mapped.
pub const fn map_word(word: u32) -> Words {
    [0, 0, MAPPED, word]
}

/// The address again; mapped ones become IPv4.
pub const fn from_words(words: Words) -> IpAddr {
    let [a, b, c, d] = words;
    if a == 0 && b == 0 && c == MAPPED {
        return IpAddr::V4(from_word(d));
    }
    IpAddr::V6(Ipv6Addr::from_octets(zerocopy::transmute!(words)))
}

/// The IPv4 address again.
pub const fn from_word(word: u32) -> Ipv4Addr {
    Ipv4Addr::from_octets(word.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_both_ways() {
        for text in ["10.96.0.1", "fd00:10::abcd", "::1", "255.1.2.3"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(from_words(mapped_words(address)), address);
        }
    }

    #[test]
    fn bytes_in_memory_are_those_of_the_packet() {
        assert_eq!(word(Ipv4Addr::new(1, 2, 3, 4)).to_ne_bytes(), [1, 2, 3, 4]);
    }
}
