//! Map types, helpers and program types that the eBPF dataplane uses, each asked for by itself.

use aya::{
    maps::MapType,
    programs::{ProgramError, ProgramType},
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};

use super::{
    object::ProbeError,
    report::{Feature, Need},
};

/// Maps: frontends and flows, the pool, counters, affinity, source ranges.
const MAPS: [(&str, MapType); 5] = [
    ("hash map", MapType::Hash),
    ("array map", MapType::Array),
    ("per-CPU array map", MapType::PerCpuArray),
    ("LRU hash map", MapType::LruHash),
    ("LPM trie map", MapType::LpmTrie),
];

/// What is done without a feature.
const NO_RETVAL: (&str, &str) =
    ("bpf_set_retval in connect", "sockets are refused by an answer to their packets");

const NO_XDP: (&str, &str) = ("XDP program", "tc programs accelerate");

const HELPERS: [(&str, Need, ProgramType, BpfHelper); 11] = {
    use BpfHelper as H;
    use Need::{Acceleration, Datapath, SocketLb};
    use ProgramType::{CgroupSockAddr, SchedClassifier};
    [
        ("bpf_l3_csum_replace in tc", Datapath, SchedClassifier, H::BPF_FUNC_l3_csum_replace),
        ("bpf_l4_csum_replace in tc", Datapath, SchedClassifier, H::BPF_FUNC_l4_csum_replace),
        ("bpf_csum_level in tc", Datapath, SchedClassifier, H::BPF_FUNC_csum_level),
        ("bpf_fib_lookup in tc", Acceleration, SchedClassifier, H::BPF_FUNC_fib_lookup),
        ("bpf_redirect_neigh in tc", Acceleration, SchedClassifier, H::BPF_FUNC_redirect_neigh),
        ("bpf_redirect_peer in tc", Acceleration, SchedClassifier, H::BPF_FUNC_redirect_peer),
        // Not used: it came with (5.12) bpf_fib_lookup minding the MTU of routes.
        ("bpf_check_mtu in tc", Acceleration, SchedClassifier, H::BPF_FUNC_check_mtu),
        (NO_RETVAL.0, SocketLb, CgroupSockAddr, H::BPF_FUNC_set_retval),
        ("bpf_get_netns_cookie in connect", SocketLb, CgroupSockAddr, H::BPF_FUNC_get_netns_cookie),
        ("bpf_get_socket_cookie in connect", SocketLb, CgroupSockAddr, H::BPF_FUNC_get_socket_cookie),
        (ANCESTOR_ID, SocketLb, CgroupSockAddr, H::BPF_FUNC_get_current_ancestor_cgroup_id),
    ]
};

const ANCESTOR_ID: &str = "bpf_get_current_ancestor_cgroup_id in connect";

const PROGRAMS: [(&str, Need, ProgramType); 3] = [
    ("tc program", Need::Datapath, ProgramType::SchedClassifier),
    ("cgroup socket address program", Need::SocketLb, ProgramType::CgroupSockAddr),
    (NO_XDP.0, Need::Acceleration, ProgramType::Xdp),
];

/// If this process may not load BPF programs at all: that, once for each need, in place of everything else.
pub(super) fn denied() -> Option<Vec<Feature>> {
    let error = ProbeError::from(is_program_supported(ProgramType::SchedClassifier).err()?);
    let reason = error.is_denied().then(|| error.reason())?;
    let needs = [Need::Datapath, Need::SocketLb, Need::Acceleration];
    Some(needs.map(|need| Feature::tried("permission to load programs", need, Err(reason.clone()))).into())
}

pub(super) fn maps() -> Vec<Feature> {
    MAPS.into_iter()
        .map(|(name, map)| {
            let answer = is_map_supported(map).map_err(|error| ProbeError::from(ProgramError::from(error)));
            feature(name, Need::Datapath, answer)
        })
        .collect()
}

pub(super) fn helpers() -> Vec<Feature> {
    HELPERS
        .into_iter()
        .map(|(name, need, program, helper)| {
            let found = feature(name, need, is_helper_supported(program, helper).map_err(ProbeError::from));
            if name == NO_RETVAL.0 { found.or_else(NO_RETVAL.1) } else { found }
        })
        .collect()
}

pub(super) fn programs() -> Vec<Feature> {
    PROGRAMS
        .into_iter()
        .map(|(name, need, program)| {
            let found = feature(name, need, is_program_supported(program).map_err(ProbeError::from));
            if name == NO_XDP.0 { found.or_else(NO_XDP.1) } else { found }
        })
        .collect()
}

fn feature(name: &'static str, need: Need, answer: Result<bool, ProbeError>) -> Feature {
    let outcome = match answer {
        Ok(true) => Ok("supported".to_owned()),
        Ok(false) => Err("not supported by this kernel".to_owned()),
        Err(error) => Err(error.reason()),
    };
    Feature::tried(name, need, outcome)
}
