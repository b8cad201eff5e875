//! The version of the layouts, derived from them, and their descriptions, by which a later build reads what this one
//! has left in the kernel.

use crate::{
    affinity::{AffinityKey4, AffinityKey6, AffinityValue},
    backend::BackendValue,
    clock::ClockReading,
    config::Config,
    counter::Counter,
    flow::{FlowKey4, FlowKey6, FlowValue4, FlowValue6},
    fragment::{FragmentKey4, FragmentKey6, FragmentValue4, FragmentValue6},
    frontend::{FrontendKey4, FrontendKey6, FrontendValue},
    interface::InterfaceValue,
    reached::ReachedValue,
    service::ServiceCounters,
    socket::{OriginKey, OriginValue, PeerValue},
    source_range::{RangeKey4, RangeKey6},
};

/// A type whose layout both sides must agree on.
pub trait Layout {
    /// Name, size, and name and offset of each field: `Name:8:first@0,second@4,`. There is no padding, so that each
    /// field ends where the next begins.
    const DESCRIPTION: &'static str;
}

/// Raised by hand when the meaning of a field changes while every layout stays as it is.
pub const MEANING: u32 = 6;

/// Maps of builds with this [`MEANING`] up to the present one can be carried over field by field. Raised by hand when a
/// field of a flow, of affinity or of a socket's origin gets another meaning. (Up to 5 flows had two halves, whose keys have
/// other fields: they are not read, and all else is.)
pub const OLDEST_READABLE: u32 = 4;

const _: () = assert!(OLDEST_READABLE <= MEANING);

/// Every layout that programs and agent share.
pub const DESCRIPTIONS: &[&str] = &[
    AffinityKey4::DESCRIPTION,
    AffinityKey6::DESCRIPTION,
    AffinityValue::DESCRIPTION,
    BackendValue::DESCRIPTION,
    ClockReading::DESCRIPTION,
    Config::DESCRIPTION,
    FlowKey4::DESCRIPTION,
    FlowKey6::DESCRIPTION,
    FlowValue4::DESCRIPTION,
    FlowValue6::DESCRIPTION,
    FragmentKey4::DESCRIPTION,
    FragmentKey6::DESCRIPTION,
    FragmentValue4::DESCRIPTION,
    FragmentValue6::DESCRIPTION,
    FrontendKey4::DESCRIPTION,
    FrontendKey6::DESCRIPTION,
    FrontendValue::DESCRIPTION,
    InterfaceValue::DESCRIPTION,
    OriginKey::DESCRIPTION,
    OriginValue::DESCRIPTION,
    PeerValue::DESCRIPTION,
    RangeKey4::DESCRIPTION,
    RangeKey6::DESCRIPTION,
    ReachedValue::DESCRIPTION,
    ServiceCounters::DESCRIPTION,
];

/// Names the folder of the pinned maps: programs and agent of different versions never share a map. (Counters are told
/// by their place, so their names count.)
pub const LAYOUT_VERSION: u32 = fold(&[Counter::LABELS, DESCRIPTIONS]);

/// FNV-1a over all descriptions.
const fn fold(mut lists: &[&[&str]]) -> u32 {
    let mut hash = 0x811c_9dc5 ^ MEANING;
    while let [list, other_lists @ ..] = lists {
        let mut rest = *list;
        while let [first, others @ ..] = rest {
            hash = fold_one(hash, first.as_bytes());
            rest = others;
        }
        lists = other_lists;
    }
    hash
}

const fn fold_one(mut hash: u32, mut bytes: &[u8]) -> u32 {
    while let [byte, tail @ ..] = bytes {
        hash = (hash ^ *byte as u32).wrapping_mul(0x0100_0193);
        bytes = tail;
    }
    hash
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{format, fs, path::Path, string::String};

    use super::*;

    #[test]
    fn every_layout_is_described() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for entry in fs::read_dir(sources).unwrap() {
            let path = entry.unwrap().path();
            // The probe's maps are never pinned, and the library only defines the macro.
            if ["probe.rs", "lib.rs", "version.rs"].iter().any(|name| path.ends_with(name)) {
                continue;
            }
            let text: String = fs::read_to_string(&path).unwrap();
            for found in text.split("assert_layout!(").skip(1) {
                let name = found.trim_start().split(',').next().unwrap();
                let start = format!("{name}:");
                let is_described = DESCRIPTIONS.iter().any(|text| text.starts_with(&start));
                assert!(is_described, "{name} of {} is missing in DESCRIPTIONS", path.display());
            }
        }
    }

    #[test]
    fn a_changed_layout_changes_the_version() {
        assert_ne!(fold(&[&["Type:8:a@0,"]]), fold(&[&["Type:8:a@4,"]]));
        assert_ne!(fold(&[&["A"], &["B"]]), fold(&[&["B", "A"]]));
    }
}
