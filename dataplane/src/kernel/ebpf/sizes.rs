//! How many elements the maps hold.
//!
//! Tables that follow the cluster (frontends, backends, pools, Service ports, source ranges) have room for 30,000
//! Services with two ports each, node ports on six addresses included; nodes with less than 2 GiB of memory get half of
//! that for each halving, down to an eighth. Tables that follow the node's traffic (flows, affinity, sockets) share a
//! part of its memory, 1 % unless configured otherwise: this is what they take when all of them are full in both address
//! families. Every size can be set by itself.

use std::num::NonZeroU32;

use shunt_abi::name;
use shunt_abi::name::capacity;

/// Nodes with less memory get smaller tables for the cluster.
const AMPLE_MEMORY: u64 = 2 << 30;
/// Bytes that room for one flow takes in the two flow maps (with the kernel's 48 bytes of an element and 16 of a bucket, and a
/// quarter more for half-open flows), and its share of the smaller tables that go with them.
const BYTES_PER_FLOW: u64 = 512;
/// Flows, however little or much memory there is: below, a node would not do; above, looking through them takes seconds.
const FLOWS: (u64, u64) = (1 << 15, 1 << 20);
/// Flows that begin at one CPU are forgotten when so many others began there and they were not established.
const HALF_OPEN_PER_CPU: u32 = 4_096;
/// Cookies that the kernel lets each CPU give to sockets before it gets others: with less room, sockets of one CPU would
/// take the places that another has just filled.
const COOKIES_PER_CPU: u32 = 4_096;
/// Each family: 30,000 Services, two ports on a cluster IP and six node addresses, and the cluster IP itself.
const FRONTENDS: u32 = 1 << 19;
const SERVICE_PORTS: u32 = 1 << 17;

/// What the operator wants of the sizes. `None` for what `memory_millionths`, or the default of the cluster's tables, says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Millionths of the node's memory that the tables of traffic may take when all of them are full.
    pub memory_millionths: u32,
    /// Clients with affinity, for each family.
    pub affinity_clients: Option<NonZeroU32>,
    /// Backends of both families.
    pub backends: Option<NonZeroU32>,
    /// Established flows, for each family.
    pub flows: Option<NonZeroU32>,
    /// Frontends, for each family.
    pub frontends: Option<NonZeroU32>,
    /// Slots of all pools.
    pub pool_slots: Option<NonZeroU32>,
    /// Service ports.
    pub service_ports: Option<NonZeroU32>,
    /// Sockets that were connected to a backend.
    pub sockets: Option<NonZeroU32>,
    /// Source ranges, for each family.
    pub source_ranges: Option<NonZeroU32>,
}

/// Elements of each map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Frontends, for each family.
    pub frontends: u32,
    /// Backends of both families.
    pub backends: u32,
    /// Slots of all pools.
    pub pool: u32,
    /// Service ports.
    pub services: u32,
    /// Source ranges, for each family.
    pub source_ranges: u32,
    /// Established flows, for each family.
    pub flows: u32,
    /// Half-open flows, for each family: a power of two.
    pub half_open: u32,
    /// CPUs that there can be, each of which has a part of the half-open flows.
    pub cpus: u32,
    /// Clients with affinity, for each family.
    pub affinity: u32,
    /// Connected sockets that got a backend: a power of two.
    pub peers: u32,
    /// Backends of sockets that are not connected, or that were connected to others before.
    pub origins: u32,
    /// Service ports whose traffic is counted: all of them, or (where nobody counts) one.
    pub counted: u32,
}

impl Sizes {
    /// Sizes for this node, by its memory and CPUs.
    pub fn of_this_node(wanted: &Wanted, counts: bool) -> Self {
        // Where nobody knows: little, and one.
        let memory = nix::sys::sysinfo::sysinfo().map_or(1 << 30, |info| info.ram_total());
        let cpus = aya::util::nr_cpus().map_or(1, |cpus| u32::try_from(cpus).unwrap_or(u32::MAX));
        Self::new(wanted, memory, cpus, counts)
    }

    /// Sizes for a node with `memory` bytes and so many CPUs. With `counts`, Service ports have counters.
    pub fn new(wanted: &Wanted, memory: u64, cpus: u32, counts: bool) -> Self {
        let of = |wanted: Option<NonZeroU32>, default: u32| wanted.map_or(default, NonZeroU32::get);
        let shrink = (AMPLE_MEMORY / memory.max(1)).checked_ilog2().unwrap_or(0).min(3);
        let flows = flows(memory, wanted.memory_millionths);
        let services = of(wanted.service_ports, SERVICE_PORTS >> shrink);
        Self {
            frontends: of(wanted.frontends, FRONTENDS >> shrink),
            backends: of(wanted.backends, capacity::BACKENDS >> shrink).saturating_add(1),
            pool: of(wanted.pool_slots, capacity::POOL >> shrink),
            services: services.saturating_add(1),
            source_ranges: of(wanted.source_ranges, capacity::RANGES),
            flows: of(wanted.flows, flows),
            half_open: (flows / 4).max(HALF_OPEN_PER_CPU.saturating_mul(cpus).next_power_of_two()),
            cpus,
            affinity: of(wanted.affinity_clients, flows / 4),
            peers: of(wanted.sockets, (flows / 2).max(COOKIES_PER_CPU.saturating_mul(cpus)))
                .checked_next_power_of_two()
                .unwrap_or(1 << 31),
            origins: of(wanted.sockets, flows / 4),
            counted: if counts { services.saturating_add(1) } else { 1 },
        }
    }

    /// log2 of the half-open flows that each CPU can have.
    pub(super) fn half_open_shift(&self) -> u32 {
        let places = self.half_open.max(1).ilog2();
        places.saturating_sub(self.cpus.max(1).next_power_of_two().ilog2())
    }

    /// Whether the traffic of Service ports is counted.
    pub(super) const fn counts_services(&self) -> bool {
        self.counted > 1
    }

    /// Each map that has one of these sizes.
    pub(super) const fn maps(&self) -> [(&'static str, u32); 16] {
        let all_flows = self.flows.saturating_add(self.half_open);
        [
            (name::FRONTENDS4, self.frontends),
            (name::FRONTENDS6, self.frontends),
            (name::BACKENDS, self.backends),
            (name::POOL, self.pool),
            (name::RANGES4, self.source_ranges),
            (name::RANGES6, self.source_ranges),
            (name::FLOWS4, all_flows),
            (name::FLOWS6, all_flows),
            (name::HALF_OPEN4, self.half_open),
            (name::HALF_OPEN6, self.half_open),
            (name::AFFINITY4, self.affinity),
            (name::AFFINITY6, self.affinity),
            (name::PEERS, self.peers),
            (name::ORIGINS, self.origins),
            (name::SERVICES, self.counted),
            // Of one size, and named here to be part of the folder's name.
            (name::FRAGMENTS4, capacity::FRAGMENTS),
        ]
    }

    /// Tells these sizes from others, in the name of the folder of pins. (FNV-1a.)
    pub(super) fn tag(&self) -> u32 {
        let bytes = self.maps().into_iter().flat_map(|(_, size)| size.to_le_bytes());
        bytes.fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }
}

/// Flows that the share of the memory is enough for: a power of two, so that a little more or less memory (which kernels
/// report) makes no difference.
fn flows(memory: u64, millionths: u32) -> u32 {
    let budget = memory / 1_000_000 * u64::from(millionths);
    let (least, most) = FLOWS;
    let flows = (budget / BYTES_PER_FLOW).clamp(least, most);
    u32::try_from(1_u64 << flows.ilog2()).unwrap_or(1 << 15)
}

/// The setting of ShuntConfiguration that gives a map more room.
pub(super) fn setting_of(map: &str) -> &'static str {
    match map {
        name::FRONTENDS4 | name::FRONTENDS6 => "maps.frontends",
        name::BACKENDS => "maps.backends",
        name::POOL => "maps.poolSlots",
        name::SERVICES => "maps.servicePorts",
        name::RANGES4 | name::RANGES6 => "maps.sourceRanges",
        name::FLOWS4 | name::FLOWS6 => "maps.flows",
        _ => "maps.memoryRatio",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn default_for(memory: u64) -> Sizes {
        Sizes::new(&Wanted { memory_millionths: 10_000, ..Wanted::default() }, memory, 2, false)
    }

    #[test]
    fn thirty_thousand_services_with_two_ports_on_seven_addresses_fit_by_default() {
        let sizes = default_for(4 * GIB);
        let (services, ports, node_addresses) = (30_000, 2, 6);
        let frontends = services * ports * (1 + node_addresses) + services;
        assert!(frontends <= sizes.frontends, "{frontends}");
        assert!(services * ports < sizes.services);
        assert!(services * ports * 4 < sizes.backends && services * ports * 4 <= sizes.pool);
    }

    #[test]
    fn tables_of_traffic_follow_the_memory_and_those_of_the_cluster_do_not() {
        let flows = |memory: u64| default_for(memory).flows;
        assert_eq!(
            [GIB / 2, 4 * GIB, 24 * GIB, 64 * GIB, 1024 * GIB].map(flows),
            [1 << 15, 1 << 16, 1 << 18, 1 << 20, 1 << 20]
        );
        assert_eq!(default_for(24 * GIB).frontends, default_for(1024 * GIB).frontends);
        let small = default_for(GIB / 2);
        assert_eq!((small.frontends, small.backends), (1 << 17, (1 << 16) + 1));
        assert_eq!(default_for(24 * GIB - 12_345_678), default_for(24 * GIB));
    }

    #[test]
    fn every_cpu_has_room_for_flows_that_begin() {
        let wanted = Wanted { memory_millionths: 10_000, ..Wanted::default() };
        for (cpus, memory, places, each) in [
            (1, 4 * GIB, 1 << 14, 1 << 14),
            (3, 4 * GIB, 1 << 14, 1 << 12),
            (128, 4 * GIB, 128 * HALF_OPEN_PER_CPU, HALF_OPEN_PER_CPU),
            (100, 64 * GIB, 1 << 19, HALF_OPEN_PER_CPU),
            (2, 64 * GIB, 1 << 18, 1 << 17),
        ] {
            let sizes = Sizes::new(&wanted, memory, cpus, false);
            assert_eq!((sizes.half_open, 1 << sizes.half_open_shift()), (places, each), "{cpus} CPUs");
        }
    }

    #[test]
    fn sockets_have_a_power_of_two_of_places_and_no_cpu_fills_anothers() {
        assert_eq!(default_for(4 * GIB).peers, 1 << 15);
        let places = |sockets, cpus| {
            let wanted = Wanted { memory_millionths: 10_000, sockets, ..Wanted::default() };
            Sizes::new(&wanted, 4 * GIB, cpus, false).peers
        };
        assert_eq!(places(None, 24), (24 * COOKIES_PER_CPU).next_power_of_two());
        assert_eq!([1, 100, 1 << 26].map(|sockets| places(NonZeroU32::new(sockets), 24)), [1, 128, 1 << 26]);
    }

    #[test]
    fn what_is_configured_is_taken_and_named_in_the_folder() {
        let wanted = Wanted {
            memory_millionths: 10_000,
            frontends: NonZeroU32::new(100),
            flows: NonZeroU32::new(50),
            ..Wanted::default()
        };
        let sizes = Sizes::new(&wanted, 4 * GIB, 2, false);
        assert_eq!((sizes.frontends, sizes.flows), (100, 50));
        let elements = sizes.maps().into_iter().find(|(map, _)| *map == name::FLOWS4);
        assert_eq!(
            elements,
            Some((name::FLOWS4, 50 + sizes.half_open)),
            "half-open flows have room of their own"
        );
        assert_ne!(sizes.tag(), default_for(4 * GIB).tag());
        let counting = Sizes::new(&wanted, 4 * GIB, 2, true);
        assert_eq!((sizes.counted, counting.counted), (1, counting.services));
        assert_ne!(sizes.tag(), counting.tag());
    }

    #[test]
    fn every_map_that_can_be_full_names_the_setting_that_helps() {
        for (map, _) in default_for(4 * GIB).maps() {
            assert!(setting_of(map).starts_with("maps."), "{map}");
        }
    }
}
