//! `maps` of ShuntConfiguration: how much the tables of the eBPF dataplane can hold.

use std::num::NonZeroU32;

use super::section::{go_float, section};
use super::validation::Findings;
use crate::kernel::ebpf::WantedSizes;

/// No table has more elements than this: keys and values of so many would take gigabytes.
const MOST: i32 = 1 << 26;
/// The share of memory that is the default, as a number and as text.
const DEFAULT_RATIO: f64 = 0.01;
/// Beyond this the node itself would be short of memory.
const HIGHEST_RATIO: f64 = 0.5;

section! {
    /// Sizes; 0 is for what `memoryRatio`, or the default of the cluster's tables, says.
    pub struct MapDocument {
        /// Clients with affinity, for each address family.
        pub affinity_clients: i32,
        /// Endpoints of Service ports, both address families together.
        pub backends: i32,
        /// Established flows, for each address family.
        pub flows: i32,
        /// Addresses with ports that clients may name, for each address family: a node port counts once for each
        /// address that accepts it, and each cluster IP once more.
        pub frontends: i32,
        /// The share of the node's memory that the tables of traffic may take when all of them are full.
        #[serde(serialize_with = "go_float")]
        pub memory_ratio: f64,
        /// Endpoints in all pools together.
        pub pool_slots: i32,
        /// Service ports.
        pub service_ports: i32,
        /// Sockets that were connected to an endpoint.
        pub sockets: i32,
        /// Ranges of `loadBalancerSourceRanges`, for each address family.
        pub source_ranges: i32,
    }
}

impl MapDocument {
    /// Fills in every field that was left out.
    pub(super) fn set_defaults(&mut self) {
        if self.memory_ratio == 0.0 {
            self.memory_ratio = DEFAULT_RATIO;
        }
    }

    /// Checks a document that has its defaults.
    pub(super) fn validate(&self, found: &mut Findings) {
        let sizes = [
            ("maps.affinityClients", self.affinity_clients),
            ("maps.backends", self.backends),
            ("maps.flows", self.flows),
            ("maps.frontends", self.frontends),
            ("maps.poolSlots", self.pool_slots),
            ("maps.servicePorts", self.service_ports),
            ("maps.sockets", self.sockets),
            ("maps.sourceRanges", self.source_ranges),
        ];
        for (path, size) in sizes {
            found.require((0..=MOST).contains(&size), path, size, "must be within the range [0, 67108864]");
        }
        let ratio = self.memory_ratio;
        found.require(
            ratio > 0.0 && ratio <= HIGHEST_RATIO,
            "maps.memoryRatio",
            ratio,
            "must be greater than 0 and at most 0.5",
        );
    }

    /// The settings; the document has passed validation.
    pub(super) fn settings(&self) -> WantedSizes {
        let size = |written: i32| u32::try_from(written).ok().and_then(NonZeroU32::new);
        WantedSizes {
            memory_millionths: millionths(self.memory_ratio),
            affinity_clients: size(self.affinity_clients),
            backends: size(self.backends),
            flows: size(self.flows),
            frontends: size(self.frontends),
            pool_slots: size(self.pool_slots),
            service_ports: size(self.service_ports),
            sockets: size(self.sockets),
            source_ranges: size(self.source_ranges),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "validated: more than 0, at most one half"
)]
fn millionths(ratio: f64) -> u32 {
    ((ratio * 1_000_000.0).round() as u32).max(1)
}
