//! Pods of different nodes that reach each other through a tunnel, as CNIs with an overlay have it (flannel's VXLAN): what
//! is between the nodes knows nothing of pods.

use anyhow::Result;

use super::Stage;
use crate::lab::{Host, NODE_SYSCTLS, write_sysctls};

const TUNNEL: &str = "vxlan0";
/// What is left of 1500 bytes by the headers of the tunnel.
pub const TUNNEL_MTU: u32 = 1450;

/// What leaves the cluster has the node's address: outside of the tunnel nobody knows a way back to pods.
const MASQUERADE: &str = "table inet overlay {
    chain postrouting {
        type nat hook postrouting priority 110;
        ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 oifname up0 masquerade
        ip6 saddr fd00:244::/32 ip6 daddr != fd00:244::/32 oifname up0 masquerade
    }
}";

impl Stage {
    /// Has the pods of the two nodes reach each other through a tunnel between the nodes, whose MTU is [`TUNNEL_MTU`].
    pub fn add_overlay(&self) -> Result<()> {
        for (own, node) in (1..).zip(&self.nodes) {
            connect(node.machine(), own, 3 - own)?;
            let file = node.node().surroundings().directory().join("overlay.nft");
            std::fs::write(&file, MASQUERADE)?;
            node.output("nft", &["-f", &file.display().to_string()])?;
        }
        Ok(())
    }
}

/// Both ends are numbered as their nodes are. Neighbours are fixed, as the daemon of such a CNI does it.
fn connect(machine: &Host, own: u8, other: u8) -> Result<()> {
    machine.ip(&[
        format!(
            "link add {TUNNEL} mtu {TUNNEL_MTU} address 02:76:78:00:00:0{own} type vxlan id 7 dstport 8472 \
             local 192.168.50.1{own} remote 192.168.50.1{other} dev up0"
        ),
        format!("link set {TUNNEL} up"),
        format!("addr add 10.244.{own}.0/32 dev {TUNNEL}"),
        format!("addr add fd00:244:{own}::fff0/128 dev {TUNNEL} nodad"),
    ])?;
    write_sysctls(machine.namespace(), NODE_SYSCTLS)?;
    machine.ip(&[
        format!("neigh replace 10.244.{other}.0 lladdr 02:76:78:00:00:0{other} dev {TUNNEL} nud permanent"),
        format!("neigh replace fe80::7:{other} lladdr 02:76:78:00:00:0{other} dev {TUNNEL} nud permanent"),
        format!("route replace 10.244.{other}.0/24 via 10.244.{other}.0 dev {TUNNEL} onlink"),
        format!("route add fd00:244:{other}::/64 via fe80::7:{other} dev {TUNNEL} onlink metric 1"),
    ])
}
