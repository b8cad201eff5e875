//! Names of chains and sets that exist for some services only. They are made from what the object is, so that an
//! agent that starts again finds its objects, and two objects with one name are the same.

use std::net::SocketAddr;

use crate::domain::ServicePortName;

/// Longest part of a name that tells people which Service it is (the kernel allows 255 bytes for all of it).
const LABEL: usize = 150;

/// `namespace/name/protocol/port`, in characters that `nft` takes.
pub(super) fn label(owner: &ServicePortName) -> String {
    let service = &owner.service;
    let mut text =
        format!("{}/{}/{}/{}", service.namespace, service.name, owner.protocol.lower(), owner.port);
    text.truncate(text.floor_char_boundary(LABEL));
    text.chars().map(acceptable).collect()
}

/// `address/port`; IPv6 addresses have dots for their colons.
pub(super) fn endpoint(endpoint: SocketAddr) -> String {
    format!("{}/{}", endpoint.ip(), endpoint.port()).chars().map(|c| if c == ':' { '.' } else { c }).collect()
}

const fn acceptable(character: char) -> char {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '/' | '-' | '_' | '.' => character,
        _ => '_',
    }
}

/// A short text that stands for all of `parts`; the same in every version of shunt (64-bit FNV-1a, base 32).
pub(super) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.into_iter().flat_map(|part| part.iter().chain(&[0xff])) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (0..13)
        .filter_map(|index| ALPHABET.get(((hash >> (5 * index)) & 31) as usize))
        .map(|c| char::from(*c))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Protocol, ServiceName};

    #[test]
    fn names_have_only_characters_that_nft_reads_back() {
        let owner = ServicePortName {
            service: ServiceName::new("name space", "web:1"),
            port: "h\u{e9}".into(),
            protocol: Protocol::Udp,
        };
        assert_eq!(label(&owner), "name_space/web_1/udp/h_");
        assert_eq!(endpoint("[fd00::1]:80".parse().unwrap()), "fd00..1/80");
    }

    #[test]
    fn a_long_label_is_cut() {
        let owner = ServicePortName {
            service: ServiceName::new("n".repeat(300), "web"),
            port: "p".into(),
            protocol: Protocol::Tcp,
        };
        assert_eq!(label(&owner).len(), LABEL);
    }

    #[test]
    fn digests_stay_the_same_and_tell_parts_apart() {
        let digest = |parts: &[&str]| digest(parts.iter().map(|part| part.as_bytes()));
        assert_eq!(digest(&["a", "b"]), digest(&["a", "b"]));
        assert_ne!(digest(&["a", "b"]), digest(&["ab"]));
        assert_eq!(digest(&[]), "fzieccs44u4xm");
    }
}
