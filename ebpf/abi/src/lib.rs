//! Layouts shared by the BPF programs and the agent, each defined once.
//!
//! Rules for every type here: `repr(C)`, fixed-width integers only (no `bool`, no enum, no `Option`), padding spelt
//! out, and const assertions for its size and the offset of each field, so that a change of layout shows in review.
//! The zerocopy derives refuse hidden padding at compile time, on both targets.
#![no_std]

pub mod probe;

/// Asserts the size of a `repr(C)` type and the offset of each of its fields at compile time.
macro_rules! assert_layout {
    ($type:ty, size $size:literal, $($field:ident @ $offset:literal),+ $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)+
        };
    };
}
pub(crate) use assert_layout;
