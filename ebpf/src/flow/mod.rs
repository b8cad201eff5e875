//! Flows: from the first packet's choice of a backend to the translation of every later one.

mod begin;
mod client;
mod conflict;
mod established;
mod opening;
mod pick;
mod redirect;
mod segment;
mod translate;
mod work;

pub(crate) use begin::direct;
pub(crate) use client::{Hook, is_for_other_host};
pub(crate) use established::{consider, find, forward, reverse};
pub(crate) use pick::{Picked, Pool};
pub(crate) use redirect::{answer_host, bounce, deliver_to_host};
pub(crate) use segment::{now, stands_alone};
pub(crate) use translate::{needs_more, note_special, special};
pub(crate) use work::{Client, Work, get as notes, on as note};

/// What is to be done with a packet to a frontend. Functions return it instead of doing it, because the kernel allows
/// eight functions to call each other, no more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Translate it; its flow was found or begun.
    Translate,
    /// Leave it as it is.
    Leave,
    /// It is to no frontend after all.
    Absent,
    /// End it; the reason was counted.
    Drop,
    /// Tell the client that nobody answers.
    Reject,
}
