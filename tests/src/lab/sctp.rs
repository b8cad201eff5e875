//! SCTP packets, as far as the first exchange of an association goes.
//!
//! Built by hand, so that the kernel needs no SCTP support (RFC 9260).

const COMMON_HEADER: usize = 12;
const CHECKSUM: std::ops::Range<usize> = 8..12;
/// Chunk header and the fixed part of INIT and INIT ACK.
const INIT_CHUNK: usize = 20;
const RECEIVER_WINDOW: u32 = 65_536;
const STREAMS: u16 = 1;
/// Parameter type of the state cookie.
const STATE_COOKIE: u16 = 7;
const PARAMETER_HEADER: usize = 4;
/// The Castagnoli polynomial, bits reversed.
const CRC32C_POLYNOMIAL: u32 = 0x82F6_3B78;

/// The two chunks of the first exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk {
    Init,
    InitAck,
}

impl Chunk {
    fn number(self) -> u8 {
        match self {
            Self::Init => 1,
            Self::InitAck => 2,
        }
    }
}

/// One packet with one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub source_port: u16,
    pub dest_port: u16,
    /// Zero in an INIT, else the tag the receiver chose.
    pub verification_tag: u32,
    pub chunk: Chunk,
    /// The tag the sender wants to see in what it receives.
    pub initiate_tag: u32,
    /// State cookie of an INIT ACK, empty in an INIT.
    pub cookie: Vec<u8>,
}

impl Packet {
    /// The packet in network form, with its checksum.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(self.initiate_tag.to_be_bytes());
        body.extend(RECEIVER_WINDOW.to_be_bytes());
        body.extend(STREAMS.to_be_bytes());
        body.extend(STREAMS.to_be_bytes());
        body.extend(1_u32.to_be_bytes());
        if !self.cookie.is_empty() {
            body.extend(STATE_COOKIE.to_be_bytes());
            body.extend(length(PARAMETER_HEADER + self.cookie.len()).to_be_bytes());
            body.extend(&self.cookie);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut packet = Vec::new();
        packet.extend(self.source_port.to_be_bytes());
        packet.extend(self.dest_port.to_be_bytes());
        packet.extend(self.verification_tag.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend([self.chunk.number(), 0]);
        packet.extend(length(PARAMETER_HEADER + body.len()).to_be_bytes());
        packet.extend(body);
        // The checksum is the one field in little-endian order.
        let checksum = crc32c(&packet).to_le_bytes();
        if let Some(field) = packet.get_mut(CHECKSUM) {
            field.copy_from_slice(&checksum);
        }
        packet
    }

    /// Reads a packet; with it, whether its checksum was right. `None` for
    /// anything but an INIT or INIT ACK.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, bool)> {
        let mut zeroed = bytes.to_vec();
        zeroed.get_mut(CHECKSUM)?.fill(0);
        let intact = bytes.get(CHECKSUM)? == crc32c(&zeroed).to_le_bytes();
        let chunk = match bytes.get(COMMON_HEADER)? {
            1 => Chunk::Init,
            2 => Chunk::InitAck,
            _ => return None,
        };
        let packet = Self {
            source_port: u16_at(bytes, 0)?,
            dest_port: u16_at(bytes, 2)?,
            verification_tag: u32_at(bytes, 4)?,
            chunk,
            initiate_tag: u32_at(bytes, COMMON_HEADER + 4)?,
            cookie: cookie(bytes.get(COMMON_HEADER + INIT_CHUNK..)?),
        };
        Some((packet, intact))
    }
}

fn cookie(parameters: &[u8]) -> Vec<u8> {
    let found = (|| {
        let length = usize::from(u16_at(parameters, 2)?);
        (u16_at(parameters, 0)? == STATE_COOKIE).then(|| parameters.get(PARAMETER_HEADER..length))?
    })();
    found.unwrap_or_default().to_vec()
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

fn u16_at(bytes: &[u8], place: usize) -> Option<u16> {
    bytes.get(place..place + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    bytes.get(place..place + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// CRC32c bit by bit: a packet has a hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (CRC32C_POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{Chunk, Packet, crc32c};

    #[test]
    fn the_checksum_has_its_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn packets_survive_the_way_and_damage_is_noticed() {
        let packet = Packet {
            source_port: 1000,
            dest_port: 2000,
            verification_tag: 5,
            chunk: Chunk::InitAck,
            initiate_tag: 9,
            cookie: b"seven b".to_vec(),
        };
        let mut bytes = packet.encode();
        assert_eq!(Packet::decode(&bytes), Some((packet, true)));
        bytes[3] ^= 1;
        assert!(!Packet::decode(&bytes).expect("still a packet").1);
    }
}
