//! Taking everything away again.

use std::io;
use std::path::Path;

use super::attachments::remove_filters;
use super::classic::{Classic, PRIORITY};
use super::directory;
use super::markers::Markers;
use crate::domain::IpFamily;
use crate::kernel::netlink::Socket;
use crate::kernel::nftables::{has_masquerade, remove_masquerade};

/// Removes links, pins, classic filters (of whatever priority) and the masquerade rule, whichever build made them; qdiscs
/// that shunt made and nobody else uses. Nothing there is not an error.
pub fn cleanup(bpffs_root: &Path) -> io::Result<()> {
    let own_qdiscs = Markers::everywhere(&directory::base(bpffs_root))?;
    directory::remove_all(bpffs_root)?;
    let mut classic = Classic::new(PRIORITY)?;
    for interface in classic.qdiscs()? {
        remove_filters(&mut classic, interface, own_qdiscs.contains(&interface))?;
    }
    let mut socket = Socket::netfilter()?;
    for family in IpFamily::ALL {
        if has_masquerade(&mut socket, family).unwrap_or(false) {
            remove_masquerade(&mut socket, family)?;
        }
    }
    Ok(())
}

/// Whether something of the eBPF dataplane is in the kernel.
pub fn is_present(bpffs_root: &Path) -> bool {
    directory::exists(bpffs_root)
}
