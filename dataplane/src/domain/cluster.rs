//! All objects as they are now.

use std::collections::{BTreeMap, HashMap};

use ipnet::IpNet;

use super::{EndpointSlice, Event, Node, Service, ServiceName, SliceName};

/// The objects known at this moment.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    services: HashMap<ServiceName, Service>,
    slices: HashMap<ServiceName, BTreeMap<SliceName, EndpointSlice>>,
    slice_owner: HashMap<SliceName, ServiceName>,
    node: Option<Node>,
    service_cidrs: Vec<IpNet>,
}

/// What has to be planned again after an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dirty {
    /// Nothing.
    Nothing,
    /// These Services (a slice that changes its owner makes two dirty).
    Services(Vec<ServiceName>),
    /// Every Service: the node's name or zone changed.
    AllServices,
    /// Only what does not belong to a Service: node addresses, ServiceCIDRs.
    Globals,
}
