//! Flows: from the first packet's choice of a backend to the translation of every later one.

mod accelerate;
mod begin;
mod client;
mod conclude;
mod conflict;
mod consider;
mod decide;
mod direct;
mod ended;
mod follow;
mod half_open;
mod pick;
mod redirect;
mod segment;
mod slots;
mod source;
mod store;
mod translate;
mod way;
mod work;

pub(crate) use accelerate::{note_reply, of_backend as accelerated};
pub(crate) use client::{Hook, is_for_other_host};
pub(crate) use consider::consider;
pub(crate) use decide::decide;
pub(crate) use direct::direct;
pub(crate) use follow::{client, forward, of_backend, of_client, reply};
pub(crate) use pick::{Picked, Pool};
pub(crate) use redirect::{answer_host, bounce, deliver_to_host, is_too_long, route};
pub(crate) use segment::{now, stands_alone};
pub(crate) use slots::Slots;
pub(crate) use source::{replace as replace_client, seen};
pub(crate) use store::settle;
pub(crate) use translate::{needs_more, note_special, special};
pub(crate) use way::{Way, find, send};
pub(crate) use work::{Client, Work, get as notes, on as note};

/// What is to be done with a packet to a frontend. Functions return it instead of doing it, because the kernel allows
/// eight functions to call each other, no more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Store the flow in the notes, which begins with it; translate it then.
    Begin,
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
