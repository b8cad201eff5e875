//! Packets: built with right checksums, and taken apart again with every checksum checked.

use std::net::{IpAddr, SocketAddr};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const SCTP: u8 = 132;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

const ETHERNET: usize = 14;

/// A packet to be built, or what was found in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) protocol: u8,
    /// TCP flags, or the type of an SCTP packet's chunk.
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
    /// Hardware addresses: destination, source. Empty without a link-layer header.
    pub(crate) hardware: Vec<u8>,
    /// IPv4 options or IPv6 extension headers (whose last "next header" is filled in).
    pub(crate) options: Vec<u8>,
    /// A UDP packet without a checksum.
    pub(crate) no_checksum: bool,
}

impl Packet {
    pub(crate) fn new(protocol: u8, source: &str, destination: &str) -> Self {
        Self {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol,
            flags: 0,
            payload: b"some payload".to_vec(),
            // Test runs are on the loopback interface, whose address is zero.
            hardware: vec![0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 9],
            options: Vec::new(),
            no_checksum: false,
        }
    }

    pub(crate) fn tcp(source: &str, destination: &str, flags: u8) -> Self {
        Self { flags, ..Self::new(TCP, source, destination) }
    }

    pub(crate) fn udp(source: &str, destination: &str) -> Self {
        Self::new(UDP, source, destination)
    }

    /// What the other end would answer.
    pub(crate) fn reply(&self) -> Self {
        Self { source: self.destination, destination: self.source, ..self.clone() }
    }

    pub(crate) fn with_flags(&self, flags: u8) -> Self {
        Self { flags, ..self.clone() }
    }

    /// The bytes.
    pub(crate) fn build(&self) -> Vec<u8> {
        let transport = self.transport();
        let mut bytes = self.hardware.clone();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                if !bytes.is_empty() {
                    bytes.extend([8, 0]);
                }
                let header_length = 20 + self.options.len();
                let total = u16::try_from(header_length + transport.len()).unwrap();
                let mut header = vec![0x40 | u8::try_from(header_length / 4).unwrap(), 0];
                header.extend(total.to_be_bytes());
                header.extend([0x12, 0x34, 0x40, 0, 64, self.protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(&self.options);
                let checksum = !sum(&header);
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                bytes.extend(header);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                if !bytes.is_empty() {
                    bytes.extend([0x86, 0xdd]);
                }
                let payload = u16::try_from(self.options.len() + transport.len()).unwrap();
                bytes.extend([0x60, 0, 0, 0]);
                bytes.extend(payload.to_be_bytes());
                bytes.extend([if self.options.is_empty() { self.protocol } else { 0 }, 64]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(&self.options);
            }
            _ => panic!("two families in one packet"),
        }
        bytes.extend(transport);
        bytes
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = self.source.port().to_be_bytes().to_vec();
        bytes.extend(self.destination.port().to_be_bytes());
        match self.protocol {
            TCP => {
                bytes.extend([0, 0, 0, 7, 0, 0, 0, 8, 0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes.extend(&self.payload);
                self.fill_checksum(&mut bytes, 16);
            }
            UDP => {
                bytes.extend(u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(&self.payload);
                if !self.no_checksum {
                    self.fill_checksum(&mut bytes, 6);
                }
            }
            SCTP => {
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, self.flags, 0]);
                bytes.extend(u16::try_from(4 + self.payload.len()).unwrap().to_be_bytes());
                bytes.extend(&self.payload);
                let checksum = crc32c(&bytes);
                bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
            }
            other => panic!("protocol {other}"),
        }
        bytes
    }

    fn fill_checksum(&self, bytes: &mut [u8], offset: usize) {
        let checksum = !sum(&[self.pseudo_header(bytes.len()), bytes.to_vec()].concat());
        let checksum = if checksum == 0 && self.protocol == UDP { 0xffff } else { checksum };
        bytes[offset..offset + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    fn pseudo_header(&self, length: usize) -> Vec<u8> {
        let mut bytes = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => [source.octets(), destination.octets()].concat(),
            (IpAddr::V6(source), IpAddr::V6(destination)) => [source.octets(), destination.octets()].concat(),
            _ => panic!("two families in one packet"),
        };
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        bytes.extend(u32::from(self.protocol).to_be_bytes());
        bytes
    }

    /// Takes `bytes` apart. A checksum that is wrong is a panic.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let ethernet = matches!(bytes.get(12..14), Some([8, 0] | [0x86, 0xdd]));
        let (hardware, network) =
            if ethernet { (&bytes[..12], &bytes[ETHERNET..]) } else { (&bytes[..0], bytes) };
        let (source, destination, protocol, options, transport) = split_network(network);
        let port = |at: usize| u16::from_be_bytes([transport[at], transport[at + 1]]);
        let header = match protocol {
            TCP => 20,
            UDP => 8,
            SCTP => 16,
            other => panic!("protocol {other}"),
        };
        let found = Self {
            source: SocketAddr::new(source, port(0)),
            destination: SocketAddr::new(destination, port(2)),
            protocol,
            flags: match protocol {
                TCP => transport[13],
                SCTP => transport[12],
                _ => 0,
            },
            payload: transport[header..].to_vec(),
            hardware: hardware.to_vec(),
            options,
            no_checksum: protocol == UDP && transport[6..8] == [0, 0],
        };
        found.check_transport(transport);
        found
    }

    fn check_transport(&self, transport: &[u8]) {
        if self.protocol == SCTP {
            let mut zeroed = transport.to_vec();
            zeroed[8..12].fill(0);
            assert_eq!(transport[8..12], crc32c(&zeroed).to_le_bytes(), "SCTP checksum of {self:?}");
        } else if !self.no_checksum {
            let all = [self.pseudo_header(transport.len()), transport.to_vec()].concat();
            assert_eq!(sum(&all), 0xffff, "transport checksum of {self:?}");
        }
    }
}

/// Addresses, protocol, options and transport of an IP packet.
fn split_network(network: &[u8]) -> (IpAddr, IpAddr, u8, Vec<u8>, &[u8]) {
    if network[0] >> 4 == 4 {
        let length = usize::from(network[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([network[2], network[3]]));
        assert_eq!(sum(&network[..length]), 0xffff, "IPv4 header checksum");
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&network[at..at + 4]).unwrap());
        return (address(12), address(16), network[9], network[20..length].to_vec(), &network[length..total]);
    }
    let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&network[at..at + 16]).unwrap());
    let end = 40 + usize::from(u16::from_be_bytes([network[4], network[5]]));
    let (mut next, mut offset) = (network[6], 40);
    while matches!(next, 0 | 43 | 60) {
        (next, offset) = (network[offset], offset + 8 * (usize::from(network[offset + 1]) + 1));
    }
    (address(8), address(24), next, network[40..offset].to_vec(), &network[offset..end])
}

/// The ones' complement sum (RFC 1071), straight from its definition.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// CRC32c, bit by bit.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

#[test]
fn checksums_are_those_of_the_standards() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(sum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
}
