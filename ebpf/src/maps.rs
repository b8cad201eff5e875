//! Every map of the programs. Names are those in `shunt_abi::name`, types those of `shunt_abi`.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray},
};
use shunt_abi::{
    affinity::{AffinityKey4, AffinityKey6, AffinityValue},
    backend::BackendValue,
    clock::ClockReading,
    config::Config,
    counter,
    flow::{FlowKey4, FlowKey6, FlowValue4, FlowValue6},
    fragment::{FragmentKey4, FragmentKey6, FragmentValue4, FragmentValue6},
    frontend::{FrontendKey4, FrontendKey6, FrontendValue},
    interface::InterfaceValue,
    known,
    name::capacity,
    reached::{self, ReachedValue},
    roles,
    service::ServiceCounters,
    socket::{OriginKey, OriginValue, PeerValue},
    source_range::{RangeKey4, RangeKey6},
    tail,
};

use crate::{
    family::{V4, V6},
    flow::Work,
};

#[map]
pub(crate) static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static CLOCK: Array<ClockReading> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static KNOWN: Array<u64> = Array::with_max_entries(known::WORDS, BPF_F_MMAPABLE);
#[map]
pub(crate) static REACHED: Array<ReachedValue> = Array::with_max_entries(reached::ELEMENTS, 0);
// Not mmap-able, which would take memory in small pages.
#[map]
pub(crate) static ROLES: Array<u64> = Array::with_max_entries(roles::WORDS, 0);
#[map]
pub(crate) static REACHED_HOSTS: Array<u64> = Array::with_max_entries(reached::HOSTS, 0);

// Not preallocated: capacities are generous, and most nodes need a fraction.
#[map]
pub(crate) static FRONTENDS4: HashMap<FrontendKey4, FrontendValue> =
    HashMap::with_max_entries(capacity::FRONTENDS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static FRONTENDS6: HashMap<FrontendKey6, FrontendValue> =
    HashMap::with_max_entries(capacity::FRONTENDS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static POOL: Array<u32> = Array::with_max_entries(capacity::POOL, BPF_F_MMAPABLE);
#[map]
pub(crate) static BACKENDS: Array<BackendValue> = Array::with_max_entries(capacity::BACKENDS, BPF_F_MMAPABLE);

#[map]
pub(crate) static FLOWS4: HashMap<FlowKey4, FlowValue4> =
    HashMap::with_max_entries(capacity::FLOWS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static FLOWS6: HashMap<FlowKey6, FlowValue6> =
    HashMap::with_max_entries(capacity::FLOWS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static HALF_OPEN4: Array<FlowKey4> = Array::with_max_entries(capacity::HALF_OPEN, 0);
#[map]
pub(crate) static HALF_OPEN6: Array<FlowKey6> = Array::with_max_entries(capacity::HALF_OPEN, 0);
#[map]
pub(crate) static ESTABLISHED: Array<i64> = Array::with_max_entries(2, BPF_F_MMAPABLE);

#[map]
pub(crate) static AFFINITY4: LruHashMap<AffinityKey4, AffinityValue> =
    LruHashMap::with_max_entries(capacity::AFFINITY, 0);
#[map]
pub(crate) static AFFINITY6: LruHashMap<AffinityKey6, AffinityValue> =
    LruHashMap::with_max_entries(capacity::AFFINITY, 0);
#[map]
pub(crate) static RANGES4: LpmTrie<[u32; 2], u32> = LpmTrie::with_max_entries(capacity::RANGES, 0);
#[map]
pub(crate) static RANGES6: LpmTrie<[u32; 5], u32> = LpmTrie::with_max_entries(capacity::RANGES, 0);
#[map]
pub(crate) static FRAGMENTS4: LruHashMap<FragmentKey4, FragmentValue4> =
    LruHashMap::with_max_entries(capacity::FRAGMENTS, 0);
#[map]
pub(crate) static FRAGMENTS6: LruHashMap<FragmentKey6, FragmentValue6> =
    LruHashMap::with_max_entries(capacity::FRAGMENTS, 0);

#[map]
pub(crate) static INTERFACES: HashMap<u32, InterfaceValue> =
    HashMap::with_max_entries(capacity::INTERFACES, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static ORIGINS: LruHashMap<OriginKey, OriginValue> =
    LruHashMap::with_max_entries(capacity::ORIGINS, 0);
#[map]
pub(crate) static PEERS: Array<PeerValue> = Array::with_max_entries(capacity::PEERS, 0);
#[map]
pub(crate) static OPTED_OUT: HashMap<u64, u32> =
    HashMap::with_max_entries(capacity::OPTED_OUT, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counter::COUNTERS, 0);
#[map]
pub(crate) static SERVICES: PerCpuArray<ServiceCounters> =
    PerCpuArray::with_max_entries(capacity::SERVICES, 0);

// The trie's key is its prefix length and then the data, which the agent knows as one type.
const _: () = assert!(size_of::<RangeKey4>() == 4 + size_of::<[u32; 2]>());
const _: () = assert!(size_of::<RangeKey6>() == 4 + size_of::<[u32; 5]>());

#[map]
pub(crate) static TAILS: ProgramArray = ProgramArray::with_max_entries(tail::TAILS, 0);

// Each CPU's notes of the packet in hand.
#[map]
pub(crate) static WORK4: PerCpuArray<Work<V4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static WORK6: PerCpuArray<Work<V6>> = PerCpuArray::with_max_entries(1, 0);

/// The settings; `None` never happens, but the verifier wants it asked.
#[inline]
pub(crate) fn config() -> Option<&'static Config> {
    CONFIG.get(0)
}

/// A backend by its id.
#[inline]
pub(crate) fn backend(id: u32) -> Option<&'static BackendValue> {
    BACKENDS.get(id)
}
