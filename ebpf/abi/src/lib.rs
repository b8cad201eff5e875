//! Layouts shared by the BPF programs and the agent, each defined once.
//!
//! Rules for every type here: `repr(C)`, fixed-width integers only (no `bool`, no enum, no `Option`), padding spelt
//! out, and const assertions for its size and the offset of each field, so that a change of layout shows in review.
//! The zerocopy derives refuse hidden padding at compile time, on both targets.
//!
//! Addresses and ports are **in network order**: the integer whose bytes in memory are those of the packet
//! ([`address`] converts). IPv6 addresses are four such words; IPv4 addresses that share a type with IPv6 are mapped
//! (`::ffff:a.b.c.d`), so the fourth word is the IPv4 address.
#![no_std]

pub mod address;
pub mod affinity;
pub mod backend;
pub mod clock;
pub mod config;
pub mod counter;
pub mod flow;
pub mod fragment;
pub mod frontend;
pub mod interface;
pub mod known;
pub mod name;
pub mod probe;
pub mod reached;
pub mod roles;
pub mod service;
pub mod socket;
pub mod source_range;
pub mod tail;
pub mod version;

/// Asserts the size of a `repr(C)` type and the offset of each of its fields at compile time, and describes the type
/// for [`version::LAYOUT_VERSION`].
macro_rules! assert_layout {
    ($type:ty, size $size:literal, $($field:ident @ $offset:literal),+ $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)+
        };

        impl $crate::version::Layout for $type {
            const DESCRIPTION: &'static str =
                concat!(stringify!($type), ":", $size, ":", $(stringify!($field), "@", $offset, ","),+);
        }

        #[cfg(feature = "aya")]
        // SAFETY: the type is `repr(C)`, holds integers only and has no padding (derive of zerocopy's `IntoBytes`).
        #[expect(unsafe_code, reason = "aya's marker for plain data is an unsafe trait")]
        unsafe impl aya::Pod for $type {}
    };
}
pub(crate) use assert_layout;
