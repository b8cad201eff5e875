//! A tracked UDP flow.

use std::net::SocketAddr;

/// The two ends of one direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Who sends.
    pub source: SocketAddr,
    /// Who is addressed.
    pub destination: SocketAddr,
}

/// One UDP entry of the conntrack table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// What the client sends, before translation.
    pub original: Tuple,
    /// What answers look like, before they are translated back: its source is the endpoint.
    pub reply: Tuple,
    /// The kernel's number of the entry, told apart from a later entry of the same addresses.
    pub id: u32,
    /// Zone of both directions, 0 by default.
    pub zone: u16,
    /// Zone of the original direction alone, 0 by default.
    pub original_zone: u16,
}

impl Flow {
    /// Something changed the destination.
    pub fn is_translated(&self) -> bool {
        self.reply.source != self.original.destination
    }

    /// In the zone the host itself tracks in. Others belong to virtual switches, which may see packets before they
    /// are translated.
    pub const fn is_in_default_zone(&self) -> bool {
        self.zone == 0 && self.original_zone == 0
    }
}
