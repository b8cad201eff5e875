//! The sets and maps of a table.

use std::borrow::Cow;
use std::sync::Arc;

use super::userdata;
use crate::domain::{IpFamily, Protocol};

/// Whether a key starts with the destination address or stands for every node port address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum By {
    Address,
    NodePort,
}

/// Which of a frontend's two pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Scope {
    /// `FrontendSpec::inside`.
    Inside,
    /// `FrontendSpec::outside` of a frontend that keeps the two apart.
    Outside,
}

/// The sets that each table has, whatever the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum StaticSet {
    /// Address . protocol . port -> where the choice of an endpoint is made.
    ServiceIps,
    /// Protocol . port -> the same.
    ServiceNodePorts,
    /// Addresses of this node that accept node ports.
    NodePortIps,
    /// The same for 127.0.0.0/8, for connections of the node itself only.
    NodePortLoopbackIps,
    /// (Address .) port . slot -> endpoint address . port.
    Endpoints(Protocol, By, Scope),
    /// Address . port . source, for load balancer addresses that not everybody may use.
    SourceRanges(Protocol),
    /// Address . protocol . port -> reject or drop.
    NoEndpointServices,
    /// Protocol . port -> reject or drop.
    NoEndpointNodePorts,
    /// Every cluster IP that is in use.
    ClusterIps,
    /// Ranges of cluster IPs.
    ServiceCidrs,
    /// Local endpoints that may meet themselves: source . destination . protocol . port.
    Hairpins,
}

/// Type of one part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Address,
    Protocol,
    Port,
    Slot,
}

/// What a map yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data {
    None,
    Verdict,
    /// Address . port of an endpoint.
    Endpoint,
}

/// Everything that the kernel is told about a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SetDefinition {
    pub(super) name: Arc<str>,
    pub(super) family: IpFamily,
    pub(super) key: Vec<Field>,
    pub(super) data: Data,
    /// Keys are ranges.
    pub(super) interval: bool,
    /// Keys are added by packets, and forgotten after so many milliseconds.
    pub(super) timeout: Option<u64>,
    pub(super) userdata: Vec<u8>,
}

impl StaticSet {
    /// All of them.
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![
            Self::ServiceIps,
            Self::ServiceNodePorts,
            Self::NodePortIps,
            Self::NodePortLoopbackIps,
            Self::NoEndpointServices,
            Self::NoEndpointNodePorts,
            Self::ClusterIps,
            Self::ServiceCidrs,
            Self::Hairpins,
        ];
        for protocol in Protocol::ALL {
            for by in [By::Address, By::NodePort] {
                all.extend([Scope::Inside, Scope::Outside].map(|scope| Self::Endpoints(protocol, by, scope)));
            }
            all.push(Self::SourceRanges(protocol));
        }
        all
    }

    pub(super) fn name(self) -> Cow<'static, str> {
        match self {
            Self::ServiceIps => "service-ips".into(),
            Self::ServiceNodePorts => "service-nodeports".into(),
            Self::NodePortIps => "nodeport-ips".into(),
            Self::NodePortLoopbackIps => "nodeport-loopback-ips".into(),
            Self::NoEndpointServices => "no-endpoint-services".into(),
            Self::NoEndpointNodePorts => "no-endpoint-nodeports".into(),
            Self::ClusterIps => "cluster-ips".into(),
            Self::ServiceCidrs => "service-cidrs".into(),
            Self::Hairpins => "hairpin-endpoints".into(),
            Self::SourceRanges(protocol) => format!("{}-source-ranges", protocol.lower()).into(),
            Self::Endpoints(protocol, by, scope) => {
                format!("{}-{}", protocol.lower(), endpoints_name(by, scope)).into()
            }
        }
    }

    fn key(self) -> Vec<Field> {
        use Field::{Address, Port, Protocol, Slot};
        match self {
            Self::ServiceIps | Self::NoEndpointServices => vec![Address, Protocol, Port],
            Self::ServiceNodePorts | Self::NoEndpointNodePorts => vec![Protocol, Port],
            Self::NodePortIps | Self::NodePortLoopbackIps | Self::ClusterIps | Self::ServiceCidrs => {
                vec![Address]
            }
            Self::Endpoints(_, By::Address, _) => vec![Address, Port, Slot],
            Self::Endpoints(_, By::NodePort, _) => vec![Port, Slot],
            Self::SourceRanges(_) => vec![Address, Port, Address],
            Self::Hairpins => vec![Address, Address, Protocol, Port],
        }
    }

    const fn data(self) -> Data {
        match self {
            Self::ServiceIps
            | Self::ServiceNodePorts
            | Self::NoEndpointServices
            | Self::NoEndpointNodePorts => Data::Verdict,
            Self::Endpoints(..) => Data::Endpoint,
            Self::NodePortIps
            | Self::NodePortLoopbackIps
            | Self::SourceRanges(_)
            | Self::ClusterIps
            | Self::ServiceCidrs
            | Self::Hairpins => Data::None,
        }
    }

    pub(super) fn definition(self, family: IpFamily) -> SetDefinition {
        let (key, data) = (self.key(), self.data());
        let userdata = match self {
            Self::Endpoints(protocol, by, _) => endpoints_userdata(family, protocol, by),
            _ if key.len() == 1 => userdata::set_of_addresses(),
            _ => userdata::plain(data != Data::None),
        };
        SetDefinition {
            name: self.name().as_ref().into(),
            family,
            key,
            data,
            interval: matches!(self, Self::ServiceCidrs | Self::SourceRanges(_)),
            timeout: None,
            userdata,
        }
    }
}

const fn endpoints_name(by: By, scope: Scope) -> &'static str {
    match (by, scope) {
        (By::Address, Scope::Inside) => "endpoints",
        (By::Address, Scope::Outside) => "local-endpoints",
        (By::NodePort, Scope::Inside) => "nodeport-endpoints",
        (By::NodePort, Scope::Outside) => "nodeport-local-endpoints",
    }
}

/// A number below a modulus has no type of its own in `nft`, so these maps are declared with `typeof`. One map a
/// protocol: `typeof ... : ip daddr . th dport` is something that nft 1.0.6 prints and cannot read again.
fn endpoints_userdata(family: IpFamily, protocol: Protocol, by: By) -> Vec<u8> {
    let (address, port, slot) = (userdata::destination(family), userdata::port(protocol), userdata::slot());
    let key = match by {
        By::Address => userdata::concatenation(&[address.clone(), port.clone(), slot]),
        By::NodePort => userdata::concatenation(&[port.clone(), slot]),
    };
    userdata::typed(&key, &userdata::concatenation(&[address, port]))
}

impl Field {
    /// nft's number of the type.
    const fn kind(self, family: IpFamily) -> u32 {
        match (self, family) {
            (Self::Slot, _) => 4,
            (Self::Address, IpFamily::V4) => 7,
            (Self::Address, IpFamily::V6) => 8,
            (Self::Protocol, _) => 12,
            (Self::Port, _) => 13,
        }
    }

    /// Bytes that matter.
    pub(super) const fn length(self, family: IpFamily) -> u32 {
        match (self, family) {
            (Self::Address, IpFamily::V6) => 16,
            (Self::Address, IpFamily::V4) | (Self::Slot, _) => 4,
            (Self::Protocol, _) => 1,
            (Self::Port, _) => 2,
        }
    }
}

fn concatenated_kind(fields: &[Field], family: IpFamily) -> u32 {
    fields.iter().fold(0, |kind, field| (kind << 6) | field.kind(family))
}

fn padded_length(fields: &[Field], family: IpFamily) -> u32 {
    fields.iter().map(|field| field.length(family).next_multiple_of(4)).sum()
}

impl SetDefinition {
    pub(super) fn key_kind(&self) -> u32 {
        concatenated_kind(&self.key, self.family)
    }

    pub(super) fn key_length(&self) -> u32 {
        padded_length(&self.key, self.family)
    }

    /// nft's number of the data's type, and its length.
    pub(super) fn data_kind(&self) -> Option<(u32, u32)> {
        const VERDICT: u32 = 0xffff_ff00;
        let endpoint = [Field::Address, Field::Port];
        match self.data {
            Data::None => None,
            Data::Verdict => Some((VERDICT, 16)),
            Data::Endpoint => {
                Some((concatenated_kind(&endpoint, self.family), padded_length(&endpoint, self.family)))
            }
        }
    }

    pub(super) fn flags(&self) -> u32 {
        const INTERVAL: u32 = 1 << 2;
        const MAP: u32 = 1 << 3;
        const TIMEOUT: u32 = 1 << 4;
        const DYNAMIC: u32 = 1 << 5;
        const CONCATENATION: u32 = 1 << 7;
        let mut flags = 0;
        if self.data != Data::None {
            flags |= MAP;
        }
        if self.interval {
            flags |= INTERVAL;
        }
        if self.interval && self.key.len() > 1 {
            flags |= CONCATENATION;
        }
        if self.timeout.is_some() {
            flags |= TIMEOUT | DYNAMIC;
        }
        flags
    }

    /// Most keys a set that packets fill may hold.
    pub(super) const fn size(&self) -> Option<u32> {
        /// nft's own limit for such sets, and kube-proxy's.
        const CLIENTS: u32 = 65535;
        if self.timeout.is_some() { Some(CLIENTS) } else { None }
    }

    /// The lengths of the key's parts, for sets that need to know them.
    pub(super) fn part_lengths(&self) -> Vec<u32> {
        if self.interval && self.key.len() > 1 {
            self.key.iter().map(|field| field.length(self.family)).collect()
        } else {
            Vec::new()
        }
    }
}
