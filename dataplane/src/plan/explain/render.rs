//! Explanations as text.

use std::fmt::{self, Display, Formatter};

use super::{
    Client, DropReason, EndpointAnswer, Explanation, FrontendAnswer, RejectReason, Scope, Source, Standing,
    UntouchedReason, Verdict,
};
use crate::plan::{FrontendKind, Policy};

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({}) -> {}/{}", self.from, self.client, self.to, self.protocol)?;
        if let Some(frontend) = &self.frontend {
            write!(f, "{frontend}")?;
        }
        writeln!(f, "  verdict    {}", self.verdict)?;
        if !self.endpoints.is_empty() {
            writeln!(f, "  endpoints")?;
        }
        let width = self.endpoints.iter().map(|answer| answer.endpoint.to_string().len()).max().unwrap_or(0);
        for answer in &self.endpoints {
            write_endpoint(f, answer, width)?;
        }
        for slice in &self.slices_without_port {
            writeln!(f, "  note       EndpointSlice {slice} does not have this port")?;
        }
        Ok(())
    }
}

fn write_endpoint(f: &mut Formatter<'_>, answer: &EndpointAnswer, width: usize) -> fmt::Result {
    let mark = if answer.standing.is_eligible() { '+' } else { '-' };
    let node = answer.node.as_deref().unwrap_or("unknown node");
    let here = if answer.local { " (this node)" } else { "" };
    let endpoint = answer.endpoint.to_string();
    write!(f, "    {mark} {endpoint:width$}  {node}{here}: {}", answer.standing)?;
    if answer.is_client && answer.standing.is_eligible() {
        write!(f, "; it is the client itself, and sees a node address as source")?;
    }
    writeln!(f)
}

impl Display for FrontendAnswer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            FrontendKind::ClusterIp => "cluster IP",
            FrontendKind::NodePort => "node port",
            FrontendKind::ExternalIp => "external IP",
            FrontendKind::LoadBalancerIp => "load balancer IP",
        };
        writeln!(f, "  frontend   {}, {kind} of {}", self.name, self.service_port)?;
        let policy = match (self.policy, self.scope) {
            (Policy::Internal, Scope::Cluster) => "internal Cluster: any endpoint",
            (Policy::Internal, Scope::Local) => "internal Local: endpoints of this node only",
            (Policy::ExternalCluster, _) => "external Cluster: any endpoint",
            (Policy::ExternalLocal, Scope::Local) => "external Local: endpoints of this node only",
            (Policy::ExternalLocal, Scope::Cluster) => {
                "external Local, which does not bind this node and its pods: any endpoint"
            }
        };
        writeln!(f, "  policy     {policy}")?;
        if let Some(seconds) = self.affinity_seconds {
            writeln!(f, "  affinity   by client address, for {seconds} s")?;
        }
        match self.source_ranges.as_deref() {
            None => Ok(()),
            Some([]) => writeln!(f, "  sources    none: no range of this family is given"),
            Some(ranges) => writeln!(f, "  sources    {}", ranges.join(", ")),
        }
    }
}

impl Display for Client {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "a pod of this node",
            Self::Node => "this node",
            Self::Outside => "from outside this node",
        })
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward(source) => write!(f, "goes to one of the eligible endpoints; {source}"),
            Self::Reject(reason) => write!(f, "refused: {reason}"),
            Self::Drop(reason) => write!(f, "dropped: {reason}"),
            Self::Untouched(reason) => write!(f, "left alone: {reason}"),
        }
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "it sees the client's address",
            Self::MasqueradeAll => "it sees a node address (masqueradeAll)",
            Self::NotAPod => "it sees a node address (the client is not a pod of this node)",
            Self::ExternalTraffic => {
                "it sees a node address (external traffic that may leave the node again)"
            }
            Self::FromNode => "it sees a node address (the node talks to an external address)",
        })
    }
}

impl Display for RejectReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEndpoints => "no endpoint of the Service can serve",
            Self::NoSuchPort => "the cluster IP does not have this port",
        })
    }
}

impl Display for DropReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLocalEndpoints => "the traffic policy is Local and no endpoint on this node can serve",
            Self::SourceRanges => "the client is outside the Service's load balancer source ranges",
            Self::UnallocatedClusterIp => "no Service has this cluster IP",
        })
    }
}

impl Display for UntouchedReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchFrontend => "no Service has this address and port",
            Self::NodePortElsewhere => "the port is a node port, but this address does not accept node ports",
            Self::RefusedByKernel => "the kernel refused the frontend",
        })
    }
}

impl Display for Standing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eligible => f.write_str("eligible"),
            Self::EligibleWhileTerminating => f.write_str("eligible: terminating, but none is ready"),
            Self::NotReady => f.write_str("not ready"),
            Self::TerminatingNotServing => f.write_str("terminating and no longer serving"),
            Self::TerminatingWhileOthersAreReady => f.write_str("terminating while others are ready"),
            Self::OnAnotherNode => f.write_str("not on this node"),
            Self::HintedForNodes(nodes) => write!(f, "hinted for node {}", nodes.join(", ")),
            Self::HintedForZones(zones) => write!(f, "hinted for zone {}", zones.join(", ")),
            Self::Duplicate => f.write_str("another slice's entry for it is believed"),
        }
    }
}
