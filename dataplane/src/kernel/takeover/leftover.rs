//! One thing that kube-proxy left.

use std::fmt;

use super::{StepError, Variant, device, ipset, iptables, ipvs, nftables_table};
use crate::domain::IpFamily;

/// One thing that kube-proxy left, in whatever mode it ran. Displayed for logs and dry runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// The table `kube-proxy` of a family (nftables mode).
    NftablesTable {
        /// Its family.
        family: IpFamily,
    },
    /// Chains in a table of iptables, and the rules that lead to them (iptables and ipvs mode).
    Iptables {
        /// Which iptables.
        variant: Variant,
        /// Its family.
        family: IpFamily,
        /// `nat`, `filter` or `mangle`.
        table: String,
        /// How many chains are to go.
        chains: usize,
        /// How many rules in built-in chains are to go.
        jumps: usize,
    },
    /// Virtual servers (ipvs mode). All of them go, as kube-proxy itself would do.
    IpvsServers {
        /// How many.
        count: usize,
    },
    /// The device `kube-ipvs0` that holds the addresses of Services (ipvs mode).
    IpvsDevice,
    /// A set of addresses (ipvs mode).
    Ipset {
        /// Its name.
        name: String,
    },
}

impl Leftover {
    /// Rules go before the sets they name, servers before the device with their addresses.
    pub(super) const fn order(&self) -> u8 {
        match self {
            Self::NftablesTable { .. } => 0,
            Self::Iptables { .. } => 1,
            Self::IpvsServers { .. } => 2,
            Self::IpvsDevice => 3,
            Self::Ipset { .. } => 4,
        }
    }

    /// Whether there was anything left to remove.
    pub(super) fn remove(&self) -> Result<bool, StepError> {
        match self {
            Self::NftablesTable { family } => nftables_table::remove(*family),
            Self::Iptables { variant, family, table, .. } => iptables::remove(*variant, *family, table),
            Self::IpvsServers { .. } => ipvs::remove_servers(),
            Self::IpvsDevice => device::remove(ipvs::DEVICE),
            Self::Ipset { name } => ipset::remove(name),
        }
    }
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NftablesTable { family: IpFamily::V4 } => f.write_str("nftables table ip kube-proxy"),
            Self::NftablesTable { family: IpFamily::V6 } => f.write_str("nftables table ip6 kube-proxy"),
            Self::Iptables { variant, family, table, chains, jumps } => {
                let tool = variant.tool(*family, "");
                write!(f, "{chains} chains and {jumps} jump rules in table {table} of {tool}")
            }
            Self::IpvsServers { count } => write!(f, "{count} IPVS virtual servers"),
            Self::IpvsDevice => write!(f, "device {}", ipvs::DEVICE),
            Self::Ipset { name } => write!(f, "ipset {name}"),
        }
    }
}
