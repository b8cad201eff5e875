//! Taking everything away again.

use std::io;
use std::path::Path;

use super::attachments::remove_filters;
use super::directory::Directory;
use crate::domain::IpFamily;
use crate::kernel::netlink::Socket;
use crate::kernel::nftables::{has_masquerade, remove_masquerade};

/// Removes links, pins, classic filters and the masquerade rule, whichever build made them. Nothing there is not an
/// error.
pub fn cleanup(bpffs_root: &Path) -> io::Result<()> {
    Directory::new(bpffs_root).remove_all()?;
    remove_filters()?;
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
    Directory::new(bpffs_root).exists()
}
