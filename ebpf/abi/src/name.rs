//! Names and default capacities of programs and maps. The agent may create every hash map, the rings, and the pool, backend,
//! service and peer arrays, with another capacity.

/// tc ingress of every host-side interface.
pub const INGRESS_PROGRAM: &str = "shunt_ingress";
/// The same, if flows are accelerated.
pub const ACCELERATED_INGRESS_PROGRAM: &str = "shunt_ingress_accelerated";
/// tc egress of every host-side interface.
pub const EGRESS_PROGRAM: &str = "shunt_egress";
/// Run by the agent alone (`BPF_PROG_TEST_RUN`), to read the clock.
pub const CLOCK_PROGRAM: &str = "shunt_clock";
/// Does nothing; what runs of the others are measured against.
pub const EMPTY_PROGRAM: &str = "shunt_empty";

/// The socket programs, with the attach point each is for.
pub const SOCKET_PROGRAMS: [&str; 8] = [
    "shunt_connect4",
    "shunt_connect6",
    "shunt_sendmsg4",
    "shunt_sendmsg6",
    "shunt_recvmsg4",
    "shunt_recvmsg6",
    "shunt_getpeername4",
    "shunt_getpeername6",
];

/// Array of one [`crate::config::Config`].
pub const CONFIG: &str = "CONFIG";
/// Array of one [`crate::clock::ClockReading`].
pub const CLOCK: &str = "CLOCK";
/// Array of `u64` ([`crate::known`]), mmap-able.
pub const KNOWN: &str = "KNOWN";
/// Array of [`crate::reached::ReachedValue`].
pub const REACHED: &str = "REACHED";
/// Array of [`crate::reached::HOSTS`] elements of eight bytes each.
pub const REACHED_HOSTS: &str = "REACHED_HOSTS";
/// Array of `u64` ([`crate::roles`]).
pub const ROLES: &str = "ROLES";
/// Hash of [`crate::frontend::FrontendKey4`] to [`crate::frontend::FrontendValue`].
pub const FRONTENDS4: &str = "FRONTENDS4";
/// Hash of [`crate::frontend::FrontendKey6`] to [`crate::frontend::FrontendValue`].
pub const FRONTENDS6: &str = "FRONTENDS6";
/// Array of backend ids (`u32`), mmap-able.
pub const POOL: &str = "POOL";
/// Array of [`crate::backend::BackendValue`], mmap-able.
pub const BACKENDS: &str = "BACKENDS";
/// Hash of [`crate::flow::FlowKey4`] to [`crate::flow::FlowValue4`].
pub const FLOWS4: &str = "FLOWS4";
/// Hash of [`crate::flow::FlowKey6`] to [`crate::flow::FlowValue6`].
pub const FLOWS6: &str = "FLOWS6";
/// Array of [`crate::flow::FlowKey4`]: the ring of half-open flows. Its capacity is a power of two, of which each
/// possible CPU has a part ([`crate::config::Config::half_open_shift`]).
pub const HALF_OPEN4: &str = "HALF_OPEN4";
/// Array of [`crate::flow::FlowKey6`], likewise.
pub const HALF_OPEN6: &str = "HALF_OPEN6";
/// Array of two `i64`, mmap-able: the number of established flows, IPv4 and IPv6. Programs add and subtract atomically,
/// and so does the agent. Below 0 for a moment if it is corrected meanwhile.
pub const ESTABLISHED: &str = "ESTABLISHED";
/// LRU hash of [`crate::affinity::AffinityKey4`] to [`crate::affinity::AffinityValue`].
pub const AFFINITY4: &str = "AFFINITY4";
/// LRU hash of [`crate::affinity::AffinityKey6`] to [`crate::affinity::AffinityValue`].
pub const AFFINITY6: &str = "AFFINITY6";
/// LPM trie of [`crate::source_range::RangeKey4`].
pub const RANGES4: &str = "RANGES4";
/// LPM trie of [`crate::source_range::RangeKey6`].
pub const RANGES6: &str = "RANGES6";
/// LRU hash of [`crate::fragment::FragmentKey4`] to [`crate::fragment::FragmentValue4`].
pub const FRAGMENTS4: &str = "FRAGMENTS4";
/// LRU hash of [`crate::fragment::FragmentKey6`] to [`crate::fragment::FragmentValue6`].
pub const FRAGMENTS6: &str = "FRAGMENTS6";
/// Hash of interface index (`u32`) to [`crate::interface::InterfaceValue`].
pub const INTERFACES: &str = "INTERFACES";
/// LRU hash of [`crate::socket::OriginKey`] to [`crate::socket::OriginValue`].
pub const ORIGINS: &str = "ORIGINS";
/// Array of [`crate::socket::PeerValue`], by the socket's cookie; [`PEERS_ELEMENTS`] says how many.
pub const PEERS: &str = "PEERS";
/// The socket programs' constant (`u32`) for the number of elements of [`PEERS`], a power of two.
pub const PEERS_ELEMENTS: &str = "PEERS_ELEMENTS";
/// Hash of cgroup id (`u64`) to 1 (`u32`): processes in it, or below, whose sockets are left alone.
pub const OPTED_OUT: &str = "OPTED_OUT";
/// Per-CPU array of `u64`, indexed by [`crate::counter::Counter`].
pub const COUNTERS: &str = "COUNTERS";
/// Per-CPU array of [`crate::service::ServiceCounters`], indexed by service.
pub const SERVICES: &str = "SERVICES";
/// Program array, indexed by [`crate::tail::Tail::index`].
pub const TAILS: &str = "TAILS";
/// Per-CPU arrays of one element, in which programs keep notes on a packet; of no interest to the agent.
pub const WORK: [&str; 2] = ["WORK4", "WORK6"];

/// Every map of the dataplane but [`WORK`].
pub const MAPS: [&str; 28] = [
    CONFIG,
    CLOCK,
    KNOWN,
    REACHED,
    REACHED_HOSTS,
    ROLES,
    FRONTENDS4,
    FRONTENDS6,
    POOL,
    BACKENDS,
    FLOWS4,
    FLOWS6,
    HALF_OPEN4,
    HALF_OPEN6,
    ESTABLISHED,
    AFFINITY4,
    AFFINITY6,
    RANGES4,
    RANGES6,
    FRAGMENTS4,
    FRAGMENTS6,
    INTERFACES,
    ORIGINS,
    PEERS,
    OPTED_OUT,
    COUNTERS,
    SERVICES,
    TAILS,
];

/// Capacities unless the agent says otherwise.
pub mod capacity {
    /// Each of the frontend maps.
    pub const FRONTENDS: u32 = 65_536;
    /// Elements of the pool array.
    pub const POOL: u32 = 1 << 20;
    /// Elements of the backend array.
    pub const BACKENDS: u32 = 1 << 18;
    /// Flows, established and half-open, each of the flow maps.
    pub const FLOWS: u32 = (1 << 18) + HALF_OPEN;
    /// Places for half-open flows, each of the rings, shared out among the CPUs: a power of two.
    pub const HALF_OPEN: u32 = 1 << 15;
    /// Clients with affinity, each of the maps.
    pub const AFFINITY: u32 = 65_536;
    /// Source ranges, each of the tries.
    pub const RANGES: u32 = 65_536;
    /// Fragmented packets under way, each of the maps.
    pub const FRAGMENTS: u32 = 8_192;
    /// Interfaces.
    pub const INTERFACES: u32 = 4_096;
    /// Peers of sockets that are not connected, or were connected to others before.
    pub const ORIGINS: u32 = 1 << 16;
    /// Connected sockets whose peer is a backend.
    pub const PEERS: u32 = 1 << 16;
    /// Cgroups whose sockets are left alone.
    pub const OPTED_OUT: u32 = 4_096;
    /// Service ports.
    pub const SERVICES: u32 = 65_536;
}
