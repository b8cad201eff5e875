//! The packet programs on every interface of the node, and what the programs are told of each interface.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use aya::programs::TcAttachType;
use shunt_abi::interface::{BRIDGE_PORT, InterfaceValue, NO_LINK_HEADER, POD};
use shunt_abi::name;

use super::directory::entries;
use super::interfaces::{self, Interface, Role};
use super::link::{self, Target};
use super::map::{MapError, TypedMap};
use super::programs::{Programs, ProgramsError, SOCKET_PROGRAMS};
use super::sys::AttachType;
use crate::domain::LocalDetector;
use crate::plan::PerFamily;

/// Direction of packets, as seen from the interface: program, tcx and classic attach point, name of the pin.
const DIRECTIONS: [(&str, AttachType, TcAttachType, &str); 2] = [
    (name::INGRESS_PROGRAM, AttachType::TcxIngress, TcAttachType::Ingress, "ingress"),
    (name::EGRESS_PROGRAM, AttachType::TcxEgress, TcAttachType::Egress, "egress"),
];

/// Why an interface or a cgroup could not be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttachError {
    /// The list of interfaces, or the pins, could not be read.
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Programs(#[from] ProgramsError),
}

/// Attached programs.
#[derive(Debug)]
pub(super) struct Attachments {
    pub(super) programs: Programs,
    links: PathBuf,
    detectors: PerFamily<LocalDetector>,
    /// What is served, as it was last seen.
    known: BTreeMap<u32, Interface>,
    /// The kernel has tcx links.
    has_tcx: bool,
    /// Where the array of continuations is pinned.
    tails: Option<PathBuf>,
}

impl Attachments {
    pub(super) const fn new(programs: Programs, links: PathBuf, detectors: PerFamily<LocalDetector>) -> Self {
        Self { programs, links, detectors, known: BTreeMap::new(), has_tcx: true, tails: None }
    }

    /// The interface with programs that packets of this interface come by: itself, or (of a bridge) a port of it.
    pub(super) fn serving(&self, index: u32) -> Option<&Interface> {
        let port = || self.known.values().find(|interface| interface.master == index);
        self.known.get(&index).or_else(port)
    }

    /// Interfaces that are served.
    pub(super) fn interfaces(&self) -> usize {
        self.known.len()
    }

    /// Serves what is there now and was not; forgets what is gone. An interface that cannot be served stops none of the
    /// others.
    pub(super) fn sync(&mut self, map: &TypedMap<u32, InterfaceValue>) -> Result<(), AttachError> {
        let found = interfaces::current().map_err(failed("list the interfaces"))?;
        let found: BTreeMap<u32, Interface> =
            found.into_iter().filter(is_served).map(|interface| (interface.index, interface)).collect();
        let bridges = interfaces_by_index(&found)?;
        for (index, interface) in &found {
            if self.known.get(index) == Some(interface) {
                continue;
            }
            map.set(index, &self.describe(interface, &bridges))?;
            if !self.known.contains_key(index)
                && let Err(error) = self.attach(interface)
            {
                // Most likely it is gone again, which the next look will tell.
                tracing::warn!(interface = interface.name, "{}", crate::kernel::ebpf::words(&error));
                continue;
            }
            self.known.insert(*index, interface.clone());
        }
        self.forget_gone(&found, map)
    }

    fn forget_gone(
        &mut self,
        found: &BTreeMap<u32, Interface>,
        map: &TypedMap<u32, InterfaceValue>,
    ) -> Result<(), AttachError> {
        let gone: Vec<u32> = self.known.keys().filter(|index| !found.contains_key(index)).copied().collect();
        for index in gone {
            for (_, _, _, direction) in DIRECTIONS {
                link::detach(&self.pin(direction, index)).map_err(failed("end a link"))?;
            }
            map.delete(&index)?;
            self.known.remove(&index);
        }
        Ok(())
    }

    /// Keeps what the programs continue in, under a name of its own. Before they are attached.
    pub(super) fn pin_tails(&mut self) -> Result<(), AttachError> {
        if self.tails.is_none() {
            let process = std::process::id();
            let mut names =
                (0_u32..).map(|number| self.folder().join(format!("{}-{process}-{number}", name::TAILS)));
            let free = names.find(|path| !path.exists()).unwrap_or_default();
            self.programs.pin_tails(&free).map_err(failed("pin the continuations"))?;
            self.tails = Some(free);
        }
        Ok(())
    }

    /// Lets go of what earlier programs continued in. After every link has those of now.
    pub(super) fn drop_old_tails(&self) -> Result<(), AttachError> {
        for path in entries(self.folder()).map_err(failed("list the pins"))? {
            let is_tails =
                path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name::TAILS));
            if is_tails && self.tails.as_ref() != Some(&path) {
                link::detach(&path).map_err(failed("remove a pin"))?;
            }
        }
        Ok(())
    }

    fn folder(&self) -> &Path {
        self.links.parent().unwrap_or(&self.links)
    }

    /// Ends links of interfaces that went away while nobody looked.
    pub(super) fn sweep(&self, map: &TypedMap<u32, InterfaceValue>) -> Result<(), AttachError> {
        for path in entries(&self.links).map_err(failed("list the links"))? {
            let index = path
                .file_name()
                .and_then(|name| name.to_str()?.split_once('-')?.1.parse::<u32>().ok())
                .filter(|index| !self.known.contains_key(index));
            if let Some(index) = index {
                link::detach(&path).map_err(failed("end a link"))?;
                map.delete(&index)?;
            }
        }
        Ok(())
    }

    fn pin(&self, direction: &str, index: u32) -> PathBuf {
        self.links.join(format!("{direction}-{index}"))
    }

    fn attach(&mut self, interface: &Interface) -> Result<(), AttachError> {
        for (program, tcx, classic, direction) in DIRECTIONS {
            if self.has_tcx {
                let pin = self.pin(direction, interface.index);
                let fd = self.programs.fd(program)?;
                match link::attach(&pin, fd, Target::Interface(interface.index), tcx) {
                    Ok(()) => continue,
                    Err(error) if !lacks_tcx(&error) => return Err(failed("make a tcx link")(error)),
                    Err(_) => self.has_tcx = false,
                }
            }
            self.programs.attach_filter(program, &interface.name, classic)?;
        }
        Ok(())
    }

    fn describe(&self, interface: &Interface, all: &BTreeMap<u32, Interface>) -> InterfaceValue {
        let master = all.get(&interface.master);
        let is_pod = |detector: &LocalDetector| match detector {
            LocalDetector::None | LocalDetector::Cidrs(_) => false,
            LocalDetector::BridgeInterface(name) => {
                interface.name == *name || master.is_some_and(|master| master.name == *name)
            }
            LocalDetector::InterfaceNamePrefix(prefix) => interface.name.starts_with(prefix.as_str()),
        };
        let flags = [
            (is_pod(&self.detectors.v4) || is_pod(&self.detectors.v6), POD),
            (interface.role == Role::BridgePort, BRIDGE_PORT),
            (interface.role == Role::Layer3, NO_LINK_HEADER),
        ];
        let flags = flags.into_iter().filter(|(holds, _)| *holds).fold(0, |flags, (_, bit)| flags | bit);
        let bridge = master.filter(|_| interface.role == Role::BridgePort);
        let address = bridge.map_or(interface.mac, |bridge| bridge.mac);
        InterfaceValue { flags, address, pad: [0; 2] }
    }

    /// Attaches the socket programs to a cgroup.
    pub(super) fn attach_sockets(&mut self, cgroup: &File) -> Result<(), AttachError> {
        for (program, kind) in SOCKET_PROGRAMS {
            let pin = self.links.join(program);
            let fd = self.programs.fd(program)?;
            link::attach(&pin, fd.as_fd(), Target::Cgroup(cgroup), kind)
                .map_err(failed("make a cgroup link"))?;
        }
        Ok(())
    }

    /// Ends the links of the socket programs.
    pub(super) fn detach_sockets(&self) -> Result<(), AttachError> {
        detach_sockets(&self.links)
    }

    /// Whether this kernel has no tcx links, so that classic filters are used.
    pub(super) const fn uses_filters(&self) -> bool {
        !self.has_tcx
    }

    /// Links that should be there and are not.
    pub(super) fn missing_links(&self, sockets: bool) -> usize {
        let interfaces = self
            .known
            .keys()
            .filter(|_| self.has_tcx)
            .flat_map(|index| DIRECTIONS.map(|(_, _, _, direction)| self.pin(direction, *index)));
        let programs = SOCKET_PROGRAMS.iter().filter(|_| sockets).map(|(name, _)| self.links.join(name));
        interfaces.chain(programs).filter(|pin| !pin.exists()).count()
    }

    /// Forgets what is attached, so that the next [`Self::sync`] attaches everything again.
    pub(super) fn distrust(&mut self) {
        self.known.clear();
    }
}

/// Ends the links of the socket programs whose pins are in this folder.
pub(super) fn detach_sockets(links: &Path) -> Result<(), AttachError> {
    SOCKET_PROGRAMS
        .iter()
        .try_for_each(|(program, _)| link::detach(&links.join(program)))
        .map_err(failed("end a cgroup link"))
}

/// Removes classic filters from every interface; links go with their pins.
pub(super) fn remove_filters() -> io::Result<()> {
    for interface in interfaces::current()? {
        for (_, _, classic, _) in DIRECTIONS {
            Programs::detach_filter(&interface.name, classic);
        }
    }
    Ok(())
}

/// What carries packets of members is served at the master; a bridge is served at its ports.
const fn is_served(interface: &Interface) -> bool {
    !interface.is_member && !matches!(interface.role, Role::Bridge)
}

/// Masters are not among those served.
fn interfaces_by_index(served: &BTreeMap<u32, Interface>) -> Result<BTreeMap<u32, Interface>, AttachError> {
    if served.values().all(|interface| interface.master == 0) {
        return Ok(BTreeMap::new());
    }
    let all = interfaces::current().map_err(failed("list the interfaces"))?;
    Ok(all.into_iter().map(|interface| (interface.index, interface)).collect())
}

/// Kernels before 6.6 do not know the kind of link.
fn lacks_tcx(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

fn failed(what: &str) -> impl Fn(io::Error) -> AttachError + '_ {
    move |source| AttachError::Io { what: what.to_owned(), source }
}
