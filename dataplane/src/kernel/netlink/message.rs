//! Messages as they come out of a socket.

/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// One received netlink message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: the request it answers.
    pub sequence: u32,
    /// `nlmsg_pid`: the port of the sender that caused it.
    pub port: u32,
    /// Everything after the header.
    pub payload: &'a [u8],
}

/// The messages of one received datagram; ends at the first malformed one.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    bytes: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Reads a datagram.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..offset + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::try_from(u32_at(self.bytes, 0)?).ok()?;
        let message = Message {
            kind: u16_at(self.bytes, 4)?,
            flags: u16_at(self.bytes, 6)?,
            sequence: u32_at(self.bytes, 8)?,
            port: u32_at(self.bytes, 12)?,
            payload: self.bytes.get(HEADER..length)?,
        };
        self.bytes = self.bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_split_at_their_aligned_lengths() {
        let mut bytes = Vec::new();
        for (kind, payload) in [(3_u16, b"abcde".as_slice()), (4, b"xyz!")] {
            bytes.extend(u32::try_from(HEADER + payload.len()).unwrap().to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(payload);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let read: Vec<_> = Messages::new(&bytes).map(|message| (message.kind, message.payload)).collect();
        assert_eq!(read, [(3, b"abcde".as_slice()), (4, b"xyz!")]);
    }

    #[test]
    fn a_length_beyond_the_datagram_or_below_the_header_yields_nothing() {
        for length in [0_u32, 15, 17, u32::MAX] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend([0; 12]);
            assert_eq!(Messages::new(&bytes).count(), 0, "{length}");
        }
    }
}
