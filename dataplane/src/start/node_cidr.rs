//! Mode NodeCIDR cannot begin before the node has its pod CIDRs.

use std::time::Duration;

use anyhow::bail;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::config::{LocalMode, Settings};
use crate::domain::{Event, Node};
use crate::watch::Stamped;

/// As long as kube-proxy waits.
const WAIT_FOR_POD_CIDRS: Duration = Duration::from_mins(5);

/// Waits for the pod CIDRs where they are needed. Returns the node, and the events that arrived meanwhile.
pub(super) async fn wait(
    settings: &Settings,
    events: &mut mpsc::Receiver<Stamped>,
) -> anyhow::Result<(Node, Vec<Stamped>)> {
    let mut early = Vec::new();
    if settings.local_mode != LocalMode::NodeCidr {
        return Ok((Node::default(), early));
    }
    let deadline = Instant::now() + WAIT_FOR_POD_CIDRS;
    loop {
        match timeout_at(deadline, events.recv()).await {
            Err(_) => bail!(
                "node {} has no spec.podCIDRs after {WAIT_FOR_POD_CIDRS:?}, which detectLocalMode NodeCIDR needs",
                settings.node_name
            ),
            Ok(None) => bail!("the source of objects ended before the node was known"),
            Ok(Some(stamped)) => {
                let node = match &stamped.event {
                    Event::Node(Some(node)) if !node.pod_cidrs.is_empty() => Some(Node::clone(node)),
                    _ => None,
                };
                early.push(stamped);
                if let Some(node) = node {
                    return Ok((node, early));
                }
            }
        }
    }
}
