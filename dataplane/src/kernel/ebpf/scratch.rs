//! A BPF file system and maps of a test's own. Needs root.

use std::os::fd::AsFd as _;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use shunt_abi::flow::{FlowKey4, FlowValue4};
use shunt_abi::name;
use shunt_abi::reached::{self, ReachedValue};
use shunt_abi::roles;

use super::established::Established;
use super::flow_maps::FlowMaps;
use super::map::{Plain, TypedMap};
use super::sys::{self, MapKind, create_map, create_memory};
use crate::domain::IpFamily;

/// Runs a test on a thread of its own with a BPF file system, which is gone afterwards.
pub(super) fn in_bpffs(test: impl FnOnce(&Path) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let folder = tempfile::tempdir().unwrap();
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).expect("this test needs root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), none).unwrap();
        test(folder.path());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The maps of IPv4 flows, without programs.
pub(super) struct Flows {
    pub(super) map: TypedMap<FlowKey4, FlowValue4>,
    pub(super) established: Established,
    pub(super) reached: TypedMap<u32, ReachedValue>,
    reached_hosts: TypedMap<u32, u64>,
    roles: TypedMap<u32, u64>,
}

impl Flows {
    pub(super) fn new(root: &Path) -> Self {
        let memory = create_memory(8, 2).unwrap();
        sys::pin(memory.as_fd(), &root.join(name::ESTABLISHED)).unwrap();
        Self {
            map: map(MapKind::Hash, 64),
            established: Established::open(root).unwrap(),
            reached: map(MapKind::Array, reached::ELEMENTS),
            reached_hosts: map(MapKind::Array, reached::HOSTS),
            roles: map(MapKind::Array, roles::WORDS),
        }
    }

    pub(super) fn maps(&self, limit: u32) -> FlowMaps<'_, FlowKey4> {
        let Self { map: flows, established, reached, reached_hosts, roles } = self;
        FlowMaps { family: IpFamily::V4, flows, established, limit, reached, reached_hosts, roles }
    }

    /// Everything that is there, by port and slot.
    pub(super) fn all(&self) -> Vec<(FlowKey4, FlowValue4)> {
        let mut found = self.map.entries().unwrap();
        found.sort_by_key(|(key, _)| (key.client, key.client_port, key.slot));
        found
    }

    pub(super) fn count(&self) -> i64 {
        self.established.read(IpFamily::V4)
    }
}

fn map<K: Plain, V: Plain>(kind: MapKind, entries: u32) -> TypedMap<K, V> {
    let bytes = |size: usize| u32::try_from(size).unwrap();
    let map = create_map(kind, [bytes(size_of::<K>()), bytes(size_of::<V>()), entries]).unwrap();
    TypedMap::new("TEST", map).unwrap()
}
