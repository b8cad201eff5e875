//! Names for addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Who has which address.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(BTreeMap<IpAddr, String>);

impl Names {
    /// Notes the addresses of somebody.
    pub(super) fn note(&mut self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        self.0.extend(addresses.into_iter().map(|address| (address, name.to_owned())));
    }

    /// The name, or else the address itself.
    pub(super) fn of(&self, address: IpAddr) -> String {
        self.0.get(&address).cloned().unwrap_or_else(|| address.to_string())
    }

    /// `192.168.50.10 (node-a)`.
    pub(super) fn with_address(&self, address: IpAddr) -> String {
        match self.0.get(&address) {
            Some(name) => format!("{address} ({name})"),
            None => address.to_string(),
        }
    }
}
