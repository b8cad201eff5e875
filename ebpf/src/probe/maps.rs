//! Every map of the programs. Names are those in `shunt_abi`.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use shunt_abi::probe::{ConnectProbe, PacketFacts};

/// What the classifier recorded; mmap-able because the dataplane's pool will be, so that loading proves it works.
#[map]
pub(crate) static PROBE_PACKET: Array<PacketFacts> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What the connect program refuses, and what it saw.
#[map]
pub(crate) static PROBE_CONNECT: Array<ConnectProbe> = Array::with_max_entries(1, 0);
