//! The connect program: refuses one IPv4 destination within a cgroup.

use std::{fmt, fs::File, net::SocketAddrV4};

use aya::{
    maps::{Array, MapData},
    programs::{CgroupAttachMode, cgroup_sock_addr::CgroupSockAddrLinkId},
};
use shunt_abi::probe::{CONNECT_MAP, ConnectProbe};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::object::{Object, ProbeError};

const LENGTH: usize = size_of::<ConnectProbe>();

/// The connect program in the kernel. Attachments end when it is dropped.
pub struct ConnectProbeProgram {
    object: Object,
    record: Array<MapData, [u8; LENGTH]>,
}

impl fmt::Debug for ConnectProbeProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectProbeProgram").field("object", &self.object).finish_non_exhaustive()
    }
}

impl ConnectProbeProgram {
    /// Loads the program. It refuses nothing yet.
    pub fn load() -> Result<Self, ProbeError> {
        let mut object = Object::load()?;
        object.connect_program()?;
        let record = Array::try_from(object.take_map(CONNECT_MAP)?).map_err(map_error("open"))?;
        Ok(Self { object, record })
    }

    /// Refuses connections to `target` with `errno` (positive) from now on.
    pub fn refuse(&mut self, target: SocketAddrV4, errno: u32) -> Result<(), ProbeError> {
        let probe = ConnectProbe {
            address: target.ip().octets(),
            port: target.port().to_be_bytes(),
            errno,
            ..ConnectProbe::default()
        };
        let mut bytes = [0; LENGTH];
        bytes.copy_from_slice(probe.as_bytes());
        self.record.set(0, bytes, 0).map_err(map_error("write"))
    }

    /// What was refused so far.
    pub fn record(&self) -> Result<ConnectProbe, ProbeError> {
        let bytes = self.record.get(&0, 0).map_err(map_error("read"))?;
        Ok(ConnectProbe::read_from_bytes(&bytes).unwrap_or_default())
    }

    /// Attaches to `cgroup` beside the programs that are there. A link always shares its cgroup: the kernel takes no
    /// mode with it (`cgroup_bpf_link_attach`), and aya's word for none is `Single`.
    pub fn attach(&mut self, cgroup: &File) -> Result<CgroupSockAddrLinkId, ProbeError> {
        Ok(self.object.connect_program()?.attach(cgroup, CgroupAttachMode::Single)?)
    }
}

fn map_error(operation: &'static str) -> impl FnOnce(aya::maps::MapError) -> ProbeError {
    move |error| ProbeError::Map { name: CONNECT_MAP, operation, source: std::io::Error::other(error) }
}
