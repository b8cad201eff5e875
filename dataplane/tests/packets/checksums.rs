//! Every checksum of a packet that can be told from its bytes: found, judged, put right.

use std::ops::Range;

use crate::packet::{SCTP, TCP, UDP, crc32c, sum};

const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// One checksum.
struct Checksum {
    name: &'static str,
    at: usize,
    over: Range<usize>,
    /// Bytes that it covers, and the packet does not have.
    pseudo_header: Vec<u8>,
}

impl Checksum {
    fn is_right(&self, bytes: &[u8]) -> bool {
        if self.name == "SCTP" {
            return bytes[self.at..self.at + 4] == self.crc(bytes).to_le_bytes();
        }
        sum(&[&self.pseudo_header, &bytes[self.over.clone()]].concat()) == 0xffff
    }

    fn crc(&self, bytes: &[u8]) -> u32 {
        let mut covered = bytes[self.over.clone()].to_vec();
        covered[self.at - self.over.start..][..4].fill(0);
        crc32c(&covered)
    }

    fn put_right(&self, bytes: &mut [u8]) {
        if self.name == "SCTP" {
            let crc = self.crc(bytes).to_le_bytes();
            bytes[self.at..self.at + 4].copy_from_slice(&crc);
            return;
        }
        bytes[self.at..self.at + 2].fill(0);
        let checksum = !sum(&[&self.pseudo_header, &bytes[self.over.clone()]].concat());
        // Zero is a UDP packet without.
        let checksum = if checksum == 0 { 0xffff } else { checksum };
        bytes[self.at..self.at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// The first checksum that is wrong.
pub(crate) fn wrong(bytes: &[u8]) -> Option<&'static str> {
    find(bytes).into_iter().find(|checksum| !checksum.is_right(bytes)).map(|checksum| checksum.name)
}

/// Puts all of them right.
pub(crate) fn repair(bytes: &mut [u8]) {
    for checksum in find(bytes) {
        checksum.put_right(bytes);
    }
}

/// Inner ones first. None of what is cut off: not even whether it is right can be told then.
fn find(bytes: &[u8]) -> Vec<Checksum> {
    let network = match bytes.get(12..14) {
        Some([8, 0] | [0x86, 0xdd]) => 14,
        _ => 0,
    };
    match bytes.get(network).map(|byte| byte >> 4) {
        Some(4) => find4(bytes, network),
        Some(6) => find6(bytes, network).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn header4(bytes: &[u8], network: usize) -> Option<Checksum> {
    let length = usize::from(bytes.get(network)? & 15) * 4;
    bytes.get(network..network + length)?;
    let over = network..network + length;
    (length >= 20).then(|| Checksum { name: "IPv4", at: network + 10, over, pseudo_header: Vec::new() })
}

fn find4(bytes: &[u8], network: usize) -> Vec<Checksum> {
    let Some(header) = header4(bytes, network) else { return Vec::new() };
    let end = network + usize::from(u16::from_be_bytes([bytes[network + 2], bytes[network + 3]]));
    let is_fragment = [bytes[network + 6] & 0x3f, bytes[network + 7]] != [0, 0];
    let protocol = bytes[network + 9];
    let transport = header.over.end..end;
    let addresses = bytes[network + 12..network + 20].to_vec();
    let mut found =
        if is_fragment { Vec::new() } else { find_transport(bytes, transport, protocol, addresses) };
    found.push(header);
    found
}

fn find6(bytes: &[u8], network: usize) -> Option<Vec<Checksum>> {
    let end =
        network + 40 + usize::from(u16::from_be_bytes([*bytes.get(network + 4)?, *bytes.get(network + 5)?]));
    let addresses = bytes.get(network + 8..network + 40)?.to_vec();
    let (mut next, mut at) = (bytes[network + 6], network + 40);
    while matches!(next, 0 | 43 | 44 | 51 | 60) {
        let header = bytes.get(at..at + 8)?;
        if next == 44 && [header[2], header[3] & 0xf9] != [0, 0] {
            return None;
        }
        let length = match next {
            44 => 8,
            51 => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        (next, at) = (header[0], at + length);
    }
    Some(find_transport(bytes, at..end, next, addresses))
}

fn find_transport(bytes: &[u8], over: Range<usize>, protocol: u8, addresses: Vec<u8>) -> Vec<Checksum> {
    let Some(transport) = bytes.get(over.clone()) else { return Vec::new() };
    let (name, offset, least) = match (protocol, addresses.len()) {
        (TCP, _) => ("TCP", 16, 20),
        (UDP, _) => ("UDP", 6, 8),
        (SCTP, _) => ("SCTP", 8, 16),
        (ICMP, 8) => ("ICMP", 2, 8),
        (ICMP6, 32) => ("ICMPv6", 2, 8),
        _ => return Vec::new(),
    };
    if transport.len() < least {
        return Vec::new();
    }
    // Zero: there is none, or the device writes it.
    let is_absent = match name {
        "UDP" => transport[6..8] == [0; 2],
        "SCTP" => transport[8..12] == [0; 4],
        _ => false,
    };
    let mut found = Vec::new();
    if name == "ICMP" && matches!(transport[0], 3 | 4 | 11 | 12) {
        found.extend(header4(bytes, over.start + 8).filter(|inner| inner.over.end <= over.end));
    }
    if !is_absent {
        let mut pseudo_header = addresses;
        pseudo_header.extend(u32::try_from(transport.len()).unwrap().to_be_bytes());
        pseudo_header.extend(u32::from(protocol).to_be_bytes());
        let pseudo_header = if matches!(name, "ICMP" | "SCTP") { Vec::new() } else { pseudo_header };
        found.push(Checksum { name, at: over.start + offset, over, pseudo_header });
    }
    found
}
