//! Packets to run the classifier on, with what it must record of them.

use shunt_abi::probe::PacketFacts;

use super::object::ProbeError;

/// Where the fields of `struct __sk_buff` (linux/bpf.h) are that a test run may set.
const SKB_GSO_SEGS: usize = 164;
const SKB_GSO_SIZE: usize = 176;
const SKB_LENGTH: usize = 192;

/// Segmentation facts that a test run gives a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GsoFacts {
    /// Payload bytes of a segment.
    pub size: u32,
    /// Number of segments.
    pub segments: u32,
}

/// A packet with an Ethernet header, and what is true of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplePacket {
    /// The packet.
    pub bytes: Vec<u8>,
    /// Its EtherType.
    pub protocol: u16,
    /// Its segmentation facts.
    pub gso: GsoFacts,
}

const MAC_ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// A TCP segment without options: ports 40000 to 80, SYN; the checksum is not looked at.
const TCP: [u8; 20] = [0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];

impl SamplePacket {
    /// A TCP segment over IPv4, between documentation addresses.
    pub fn tcp4() -> Self {
        let header = [0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1];
        Self::ethernet(0x0800, &header)
    }

    /// A TCP segment over IPv6, between documentation addresses.
    pub fn tcp6() -> Self {
        let mut header = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
        header.extend(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets());
        header.extend(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2).octets());
        Self::ethernet(0x86dd, &header)
    }

    fn ethernet(protocol: u16, network_header: &[u8]) -> Self {
        let bytes = [&MAC_ADDRESSES[..], &protocol.to_be_bytes(), network_header, &TCP].concat();
        Self { bytes, protocol, gso: GsoFacts::default() }
    }

    /// The same packet with segmentation facts.
    #[must_use]
    pub const fn with_gso(mut self, size: u32, segments: u32) -> Self {
        self.gso = GsoFacts { size, segments };
        self
    }

    /// The `struct __sk_buff` of a test run. Every field that may not be set is zero.
    pub(super) fn context(&self) -> [u8; SKB_LENGTH] {
        let mut context = [0; SKB_LENGTH];
        set_field(&mut context, SKB_GSO_SEGS, self.gso.segments);
        set_field(&mut context, SKB_GSO_SIZE, self.gso.size);
        context
    }

    /// Compares what the classifier recorded of this packet with what is true of it.
    pub(super) fn check(&self, facts: &PacketFacts) -> Result<(), ProbeError> {
        let length = i64::try_from(self.bytes.len()).unwrap_or(i64::MAX);
        expect("length", facts.length, length)?;
        expect("directly readable bytes", facts.linear, length)?;
        expect("protocol", facts.protocol, self.protocol)?;
        expect("network header at", facts.network_offset, 14)?;
        expect("GSO size", facts.gso_size, self.gso.size)?;
        expect("GSO segments", facts.gso_segs, self.gso.segments)?;
        expect("VLAN tag", facts.vlan_tci, 0)?;
        self.check_route(facts)
    }

    /// The route does not matter (there may be none): that there is an answer does. A kernel booted without IPv6 says so.
    fn check_route(&self, facts: &PacketFacts) -> Result<(), ProbeError> {
        let no_ipv6 = self.protocol == 0x86dd && facts.fib_result == -libc::EAFNOSUPPORT;
        if facts.fib_result >= 0 || no_ipv6 {
            Ok(())
        } else {
            expect("bpf_fib_lookup result", facts.fib_result, 0)
        }
    }
}

fn set_field(context: &mut [u8; SKB_LENGTH], offset: usize, value: u32) {
    for (slot, byte) in context.iter_mut().skip(offset).zip(value.to_ne_bytes()) {
        *slot = byte;
    }
}

/// An error that names `field` if what was `seen` is not what was `expected`.
pub(super) fn expect(
    field: &'static str,
    seen: impl TryInto<i64>,
    expected: impl TryInto<i64>,
) -> Result<(), ProbeError> {
    let seen = seen.try_into().unwrap_or(i64::MAX);
    let expected = expected.try_into().unwrap_or(i64::MAX);
    if seen == expected { Ok(()) } else { Err(ProbeError::Unexpected { field, seen, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right_facts() -> PacketFacts {
        PacketFacts { length: 54, linear: 54, protocol: 0x0800, network_offset: 14, ..PacketFacts::default() }
    }

    #[test]
    fn facts_that_fit_the_packet_pass() {
        SamplePacket::tcp4().check(&right_facts()).unwrap();
    }

    #[test]
    fn a_wrong_fact_is_named() {
        let facts = PacketFacts { network_offset: 0, ..right_facts() };
        let error = SamplePacket::tcp4().check(&facts).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the program saw network header at 0 in a packet where it should have seen 14"
        );
    }

    #[test]
    fn a_route_lookup_that_fails_is_refused_except_where_ipv6_is_off() {
        let facts = PacketFacts { fib_result: -libc::EAFNOSUPPORT, ..right_facts() };
        assert!(SamplePacket::tcp4().check(&facts).is_err());
        let facts = PacketFacts { length: 74, linear: 74, protocol: 0x86dd, ..facts };
        assert!(SamplePacket::tcp6().check(&facts).is_ok());
    }

    #[test]
    fn segmentation_facts_are_put_where_the_kernel_reads_them() {
        let context = SamplePacket::tcp4().with_gso(1000, 2).context();
        assert_eq!(context.iter().filter(|byte| **byte != 0).count(), 3);
        assert_eq!(context[164..168], 2_u32.to_ne_bytes());
        assert_eq!(context[176..180], 1000_u32.to_ne_bytes());
    }
}
