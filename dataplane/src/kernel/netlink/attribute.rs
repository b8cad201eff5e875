//! Reading and comparing netlink attributes.

use netlink_bindings::utils::chop_header;

/// The attributes of a message or of a nested attribute: number and payload. Ends at the first malformed one.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Attributes<'a> {
    /// Reads `bytes` from the start.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Number, without the flag bits.
    pub kind: u16,
    /// The sender says that it holds further attributes.
    pub nested: bool,
    /// What it holds.
    pub payload: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position > self.bytes.len() {
            return None;
        }
        let (header, payload) = chop_header(self.bytes, &mut self.position)?;
        Some(Attribute { kind: header.r#type, nested: header.is_nested, payload })
    }
}

/// Payload of the first attribute of that number.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    Attributes::new(bytes).find(|attribute| attribute.kind == kind).map(|attribute| attribute.payload)
}

/// A big-endian number, as nfnetlink has them.
pub fn find_u32(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind)?.try_into().ok().map(u32::from_be_bytes)
}

/// A NUL-terminated string; `None` if it is absent or not UTF-8.
pub fn find_text(bytes: &[u8], kind: u16) -> Option<&str> {
    let payload = find(bytes, kind)?;
    std::str::from_utf8(payload.strip_suffix(&[0]).unwrap_or(payload)).ok()
}

/// Whether `actual` (what the kernel dumps) says everything that `wanted` (what was sent) says. The kernel adds
/// attributes of its own, in an order of its own; repeated attributes are lists and have to agree in length.
pub fn contains(actual: &[u8], wanted: &[u8]) -> bool {
    let mut seen: Vec<u16> = Vec::new();
    for attribute in Attributes::new(wanted) {
        let kind = attribute.kind;
        let nth = seen.iter().filter(|other| **other == kind).count();
        let Some(twin) = Attributes::new(actual).filter(|other| other.kind == kind).nth(nth) else {
            return false;
        };
        let same = if attribute.nested {
            contains(twin.payload, attribute.payload)
        } else {
            twin.payload == attribute.payload
        };
        if !same {
            return false;
        }
        seen.push(kind);
    }
    let count = |bytes, kind| Attributes::new(bytes).filter(|other| other.kind == kind).count();
    seen.iter().all(|kind| count(actual, *kind) == count(wanted, *kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netlink::Writer;

    fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes).bytes(kind, payload);
        bytes
    }

    fn nested(kind: u16, inner: &[u8]) -> Vec<u8> {
        let mut bytes = attribute(kind | 0x8000, inner);
        bytes.truncate(inner.len() + 4);
        bytes
    }

    #[test]
    fn attributes_added_and_reordered_by_the_kernel_do_not_matter() {
        let wanted = nested(4, &[attribute(1, b"cmp\0"), attribute(2, &[0, 0, 0, 6])].concat());
        let actual =
            [attribute(9, b"x"), nested(4, &[attribute(2, &[0, 0, 0, 6]), attribute(1, b"cmp\0")].concat())];
        assert!(contains(&actual.concat(), &wanted));
    }

    #[test]
    fn another_value_a_missing_attribute_or_a_longer_list_differ() {
        let one = nested(1, &attribute(1, b"a"));
        let two = [one.clone(), nested(1, &attribute(1, b"b"))].concat();
        assert!(!contains(&one, &two));
        assert!(!contains(&two, &one));
        assert!(!contains(&nested(1, &attribute(1, b"c")), &one));
        assert!(contains(&two, &two));
    }

    #[test]
    fn a_truncated_attribute_ends_the_list() {
        let mut bytes = [attribute(1, b"a"), attribute(2, b"bcdefgh")].concat();
        bytes.truncate(bytes.len() - 2);
        assert_eq!(Attributes::new(&bytes).count(), 1);
    }
}
