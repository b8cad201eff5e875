//! Clients behind a link with a small MTU, on the far side of `ext`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;

use super::topology::{
    GATEWAY_V4, GATEWAY_V6, Machine, OUTPUT_TABLE, PEER_LINK, Topology, by_family, gateway_lines, mac,
};
use crate::lab::{PEER_SYSCTLS, Setting, ip, write_sysctls};

/// Number of the link between `ext` and `far`.
pub(crate) const FAR_LINK_NUMBER: u32 = 2;
const FAR_LINK: &str = "far0";
/// Routing table of `ext` that leads to `far`.
const FAR_TABLE: u32 = 101;
const FORWARDING: &[Setting] = &[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/*/forwarding", "1")];

impl Topology {
    /// Joins `ext` and `far`. Only the side of `ext` has the small MTU, so that
    /// far clients announce a large segment size, and what is sent to them has
    /// to be told about the path by an ICMP error.
    pub(crate) fn link_far(&self, far: &Machine, clients: &BTreeMap<IpAddr, u32>) -> Result<()> {
        let number = FAR_LINK_NUMBER;
        let link = format!(
            "link add {FAR_LINK} address {} type veth peer name {PEER_LINK} address {} netns {}",
            mac(number, 1),
            mac(number, 2),
            far.namespace.name(),
        );
        ip(&self.ext.namespace, None, &[link])?;
        write_sysctls(&self.ext.namespace, PEER_SYSCTLS)?;
        write_sysctls(&self.ext.namespace, FORWARDING)?;
        write_sysctls(&far.namespace, PEER_SYSCTLS)?;
        let mut lines = gateway_lines(FAR_LINK, &mac(number, 2));
        let mtu = clients.values().min().copied().unwrap_or(1500);
        lines.push(format!("link set {FAR_LINK} mtu {mtu}"));
        for (flag, gateway) in [("-4", GATEWAY_V4), ("-6", GATEWAY_V6)] {
            lines.push(format!(
                "{flag} route add default via {gateway} dev {FAR_LINK} onlink table {FAR_TABLE}"
            ));
            lines.push(format!("{flag} rule add pref 5 iif {FAR_LINK} lookup {OUTPUT_TABLE}"));
        }
        lines.extend(clients.keys().map(|client| {
            let flag = if client.is_ipv4() { "-4" } else { "-6" };
            format!("{flag} rule add pref 6 to {client} iif {PEER_LINK} lookup {FAR_TABLE}")
        }));
        by_family(&self.ext.namespace, lines)
    }
}
