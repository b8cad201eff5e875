//! Writing netlink attributes.

use netlink_bindings::utils::{align, finalize_nested_header, push_header, push_nested_header};

/// Appends attributes to a message. Numbers are in network byte order, as nfnetlink wants them.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Appends to `bytes`.
    pub const fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Length of what is written to so far.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is written yet.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes as they are. An attribute holds less than 64 KiB; callers see to that.
    pub fn bytes(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        push_header(self.bytes, kind, u16::try_from(payload.len()).unwrap_or(0));
        self.bytes.extend(payload);
        align(self.bytes);
        self
    }

    /// One byte.
    pub fn u8(&mut self, kind: u16, number: u8) -> &mut Self {
        self.bytes(kind, &[number])
    }

    /// Four bytes.
    pub fn u32(&mut self, kind: u16, number: u32) -> &mut Self {
        self.bytes(kind, &number.to_be_bytes())
    }

    /// Eight bytes.
    pub fn u64(&mut self, kind: u16, number: u64) -> &mut Self {
        self.bytes(kind, &number.to_be_bytes())
    }

    /// A string with the NUL that the kernel expects.
    pub fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        push_header(self.bytes, kind, u16::try_from(text.len() + 1).unwrap_or(0));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        align(self.bytes);
        self
    }

    /// An attribute that holds the attributes that `inside` writes.
    pub fn nested(&mut self, kind: u16, inside: impl FnOnce(&mut Writer<'_>)) -> &mut Self {
        let header = push_nested_header(self.bytes, kind);
        inside(&mut Writer { bytes: self.bytes });
        finalize_nested_header(self.bytes, header);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_ones_know_their_length() {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes).nested(2, |inner| {
            inner.text(1, "ab").u32(3, 0x0102_0304);
        });
        let expected = [
            &20_u16.to_ne_bytes()[..],
            &0x8002_u16.to_ne_bytes(),
            &7_u16.to_ne_bytes(),
            &1_u16.to_ne_bytes(),
            b"ab\0\0",
            &8_u16.to_ne_bytes(),
            &3_u16.to_ne_bytes(),
            &[1, 2, 3, 4],
        ];
        assert_eq!(bytes, expected.concat());
    }
}
