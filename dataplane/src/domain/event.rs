//! What a source of objects tells the agent.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;

use super::{EndpointSlice, Node, OptedOutPod, Service, ServiceName, SliceName};

/// The kinds of object that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// Services.
    Service,
    /// EndpointSlices.
    EndpointSlice,
    /// This node's Node object.
    Node,
    /// ServiceCIDRs.
    ServiceCidr,
    /// Pods of this node.
    Pod,
}

impl ObjectKind {
    /// Plural resource name, as in metrics and logs.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::Node => "nodes",
            Self::ServiceCidr => "servicecidrs",
            Self::Pod => "pods",
        }
    }
}

/// One change in the objects. Sources give deletions explicitly, also after a new list: they remember what they gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A Service appeared or changed.
    Service(Box<Service>),
    /// A Service is gone, or is no longer ours to serve.
    ServiceGone(ServiceName),
    /// An EndpointSlice appeared or changed.
    Slice(Box<EndpointSlice>),
    /// An EndpointSlice is gone, or is not ours any more.
    SliceGone(SliceName),
    /// The Node object of this node; `None` if it does not exist.
    Node(Option<Box<Node>>),
    /// All CIDRs of all ServiceCIDR objects.
    ServiceCidrs(Vec<IpNet>),
    /// All pods of this node that asked for their sockets to be left alone.
    OptedOut(BTreeSet<OptedOutPod>),
    /// The first complete list of that kind has been given.
    Synced(ObjectKind),
    /// A part of an object cannot be used; the rest of it was.
    Problem(Box<Problem>),
}

/// A part of an object that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Kind of object.
    pub kind: ObjectKind,
    /// `namespace/name`, or a file name with a line number.
    pub object: String,
    /// Path of the field: `spec.externalIPs[1]`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}: {}", self.kind.resource(), self.object, self.field, self.reason)
    }
}
