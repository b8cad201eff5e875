//! The one rule that the eBPF dataplane leaves to the kernel: masquerade what carries the mark.

use std::io;

use crate::domain::IpFamily;
use crate::kernel::netlink::Socket;
use crate::kernel::nftables::{has_masquerade, install_masquerade, remove_masquerade};
use crate::plan::PerFamily;

/// The rule of both families.
#[derive(Debug)]
pub(super) struct Masquerade {
    mark: u32,
    /// Whether the rule is there, as far as it was ever looked.
    installed: PerFamily<Option<bool>>,
}

impl Masquerade {
    pub(super) const fn new(mark: u32) -> Self {
        Self { mark, installed: PerFamily { v4: None, v6: None } }
    }

    /// Installs or removes the rule of a family.
    pub(super) fn set(&mut self, family: IpFamily, wanted: bool) -> io::Result<()> {
        if *self.installed.get(family) == Some(wanted) {
            return Ok(());
        }
        let mut socket = Socket::netfilter()?;
        match (has_masquerade(&mut socket, family), wanted) {
            // Without nftables in the kernel there is nothing to remove.
            (Ok(true), true) | (Ok(false) | Err(_), false) => {}
            (_, true) => install_masquerade(&mut socket, family, self.mark)?,
            (Ok(true), false) => remove_masquerade(&mut socket, family)?,
        }
        *self.installed.get_mut(family) = Some(wanted);
        Ok(())
    }

    /// Whether the rule of a family is not as it was last set.
    pub(super) fn differs(&self, family: IpFamily) -> io::Result<bool> {
        match self.installed.get(family) {
            Some(true) => Ok(!has_masquerade(&mut Socket::netfilter()?, family)?),
            Some(false) | None => Ok(false),
        }
    }

    /// Looks again next time.
    pub(super) const fn distrust(&mut self) {
        self.installed = PerFamily { v4: None, v6: None };
    }
}
