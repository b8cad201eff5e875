//! TCP segments as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};

pub(super) const SYN: u8 = 2;
pub(super) const ACK: u8 = 16;

const ETHERNET: usize = 14;
const TCP: u8 = 6;
const TCP_HEADER: usize = 20;
/// Payload; the first and the second packet have it too, which makes no difference to the programs.
const PAYLOAD: &[u8] = b"some payload";

/// An IP version, and where the benchmark's addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// Address number `number` of a range, by its second group.
    pub(super) fn address(self, range: u16, number: usize) -> IpAddr {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        match self {
            Self::V4 => {
                IpAddr::V4(Ipv4Addr::from_bits((10 << 24 | u32::from(range) << 16).saturating_add(number)))
            }
            Self::V6 => {
                let base = Ipv6Addr::new(0xfd00, range, 0, 0, 0, 0, 0, 0).to_bits();
                IpAddr::V6(Ipv6Addr::from_bits(base | u128::from(number)))
            }
        }
    }
}

/// A segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) flags: u8,
}

impl Segment {
    /// What the other end answers, if `from` is the other end.
    pub(super) fn reply(self, from: SocketAddr) -> Self {
        Self { source: from, destination: self.source, flags: ACK }
    }

    /// The frame, to the Ethernet address of the interface it is met on.
    pub(super) fn frame(self, hardware: [u8; 6]) -> Vec<u8> {
        let mut frame = hardware.to_vec();
        frame.extend([2, 0, 0, 0, 0, 9]);
        let length = TCP_HEADER + PAYLOAD.len();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([8, 0]);
                let mut header = vec![0x45, 0, 0, low(20 + length), 0x12, 0x34, 0x40, 0, 64, TCP, 0, 0];
                header.extend(source.octets().into_iter().chain(destination.octets()));
                let checksum = !sum(&header);
                header.splice(10..12, checksum.to_be_bytes());
                frame.extend(header);
            }
            (source, destination) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, low(length), TCP, 64]);
                frame.extend(octets(source).into_iter().chain(octets(destination)));
            }
        }
        frame.extend(self.transport());
        frame
    }

    fn transport(self) -> Vec<u8> {
        let mut bytes = self.source.port().to_be_bytes().to_vec();
        bytes.extend(self.destination.port().to_be_bytes());
        bytes.extend([0, 0, 0, 7, 0, 0, 0, 8, 0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(PAYLOAD);
        let mut pseudo = octets(self.source.ip());
        pseudo.extend(octets(self.destination.ip()));
        pseudo.extend([0, 0, 0, low(bytes.len()), 0, 0, 0, TCP]);
        pseudo.extend(&bytes);
        let checksum = !sum(&pseudo);
        bytes.splice(16..18, checksum.to_be_bytes());
        bytes
    }
}

/// Where a frame goes to.
pub(super) fn destination(frame: &[u8]) -> Result<SocketAddr> {
    let bytes = |at: usize, length: usize| frame.get(at..at + length).context("a frame that is too short");
    let version = bytes(ETHERNET, 1)?.first().map_or(0, |byte| byte >> 4);
    ensure!(version == 4 || version == 6, "a frame that is not IP");
    let (address, transport): (IpAddr, usize) = if version == 4 {
        (<[u8; 4]>::try_from(bytes(ETHERNET + 16, 4)?)?.into(), ETHERNET + 20)
    } else {
        (<[u8; 16]>::try_from(bytes(ETHERNET + 24, 16)?)?.into(), ETHERNET + 40)
    };
    let port = u16::from_be_bytes(bytes(transport + 2, 2)?.try_into()?);
    Ok(SocketAddr::new(address, port))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A length below 256.
fn low(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

/// The ones' complement sum of RFC 1071.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        let byte = |index| pair.get(index).copied().map_or(0, u32::from);
        sum += byte(0) << 8 | byte(1);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_right_and_the_destination_is_found_again() {
        for (family, header) in [(Family::V4, 20), (Family::V6, 40)] {
            let at = |range, port| SocketAddr::new(family.address(range, 300), port);
            let segment = Segment { source: at(244, 4000), destination: at(100, 80), flags: SYN };
            let frame = segment.frame([0; 6]);
            assert_eq!(destination(&frame).unwrap(), segment.destination);
            if family == Family::V4 {
                assert_eq!(sum(&frame[14..34]), 0xffff);
            }
            let mut pseudo = [octets(segment.source.ip()), octets(segment.destination.ip())].concat();
            let transport = &frame[14 + header..];
            pseudo.extend([0, 0, 0, u8::try_from(transport.len()).unwrap(), 0, 0, 0, TCP]);
            pseudo.extend(transport);
            assert_eq!(sum(&pseudo), 0xffff);
        }
    }
}
