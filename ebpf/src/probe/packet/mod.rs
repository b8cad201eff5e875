//! Reading packet headers. Nothing here assumes that an interface has an Ethernet header.

pub(crate) mod ethernet;
pub(crate) mod ip;
