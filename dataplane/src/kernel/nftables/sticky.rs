//! Session affinity. Each endpoint of such a Service port has a set of the clients it serves, which packets fill and
//! which forgets them after the timeout; a client that is in the set of an eligible endpoint goes there again.

use std::net::SocketAddr;
use std::sync::Arc;

use super::element::{Element, Key};
use super::expression::{Load, LookupTarget, Rule, Verdict};
use super::name::{digest, endpoint as endpoint_name, label};
use super::set::{Data, Field, SetDefinition};
use super::userdata;
use crate::domain::{IpFamily, Protocol, ServicePortName};
use crate::plan::{Backend, Pool};

/// A pool of a Service port with affinity, and the chain that chooses from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StickyPool {
    owner: Arc<ServicePortName>,
    seconds: u32,
    pool: Pool,
    digest: String,
    label: String,
}

/// One endpoint of a Service port with affinity: its clients, and the chain that leads to it. Shared by all pools of
/// the Service port, hence by all its frontends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StickyEndpoint {
    endpoint: SocketAddr,
    protocol: Protocol,
    seconds: u32,
    name: String,
}

impl StickyPool {
    pub(super) fn new(owner: &Arc<ServicePortName>, seconds: u32, pool: &Pool) -> Self {
        let members: Vec<_> = pool.iter().map(|backend| endpoint_name(backend.socket())).collect();
        let digest = digest(identity(owner, &seconds.to_be_bytes(), members.iter().map(String::as_bytes)));
        Self { owner: Arc::clone(owner), seconds, pool: Arc::clone(pool), digest, label: label(owner) }
    }

    /// Stands for the Service port, its timeout and the endpoints.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    /// The Service port, for people.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn chain_name(&self) -> String {
        format!("sticky-{}-{}", self.digest, self.label)
    }

    pub(super) fn set_name(&self) -> String {
        format!("slots-{}-{}", self.digest, self.label)
    }

    pub(super) fn endpoints(&self) -> impl Iterator<Item = StickyEndpoint> {
        self.pool.iter().map(|backend| self.endpoint(backend))
    }

    fn endpoint(&self, backend: &Backend) -> StickyEndpoint {
        let endpoint = backend.socket();
        let name = endpoint_name(endpoint);
        let seconds = self.seconds.to_be_bytes();
        let digest = digest(identity(&self.owner, &seconds, std::iter::once(name.as_bytes())));
        StickyEndpoint {
            endpoint,
            protocol: self.owner.protocol,
            seconds: self.seconds,
            name: format!("{digest}-{}__{name}", self.label),
        }
    }

    /// Where the client was before; otherwise at random.
    pub(super) fn rules(&self, family: IpFamily) -> Vec<Rule> {
        let known = self.endpoints().map(|endpoint| {
            Rule::new()
                .look_up(family, &[Load::Source], &endpoint.set_name(), LookupTarget::Member)
                .goto(&endpoint.chain_name())
        });
        let slots = u32::try_from(self.pool.len()).unwrap_or(u32::MAX);
        let new = Rule::new().look_up(family, &[Load::Slot(slots)], &self.set_name(), LookupTarget::Verdict);
        known.chain([new]).collect()
    }

    /// Slot -> chain of an endpoint.
    pub(super) fn set(&self, family: IpFamily) -> (SetDefinition, Vec<Element>) {
        let definition = SetDefinition {
            name: self.set_name().into(),
            family,
            key: vec![Field::Slot],
            data: Data::Verdict,
            interval: false,
            timeout: None,
            userdata: userdata::verdict_by_slot(),
        };
        let elements = self.endpoints().zip(0..).map(|(endpoint, slot)| {
            Element::verdict(Key::new().slot(slot), Verdict::Goto(endpoint.chain_name().into()))
        });
        (definition, elements.collect())
    }
}

/// What makes a pool or an endpoint of a Service port the same one.
fn identity<'a>(
    owner: &'a ServicePortName,
    seconds: &'a [u8],
    members: impl Iterator<Item = &'a [u8]>,
) -> impl Iterator<Item = &'a [u8]> {
    let service = &owner.service;
    let texts = [&*service.namespace, &*service.name, owner.protocol.lower(), &*owner.port];
    texts.into_iter().map(str::as_bytes).chain([seconds]).chain(members)
}

impl StickyEndpoint {
    pub(super) fn chain_name(&self) -> String {
        format!("endpoint-{}", self.name)
    }

    pub(super) fn set_name(&self) -> String {
        format!("clients-{}", self.name)
    }

    pub(super) fn rules(&self, family: IpFamily) -> Vec<Rule> {
        vec![
            Rule::new().record_source(family, &self.set_name()),
            Rule::new().protocol_is(self.protocol).dnat_to(self.endpoint.ip(), self.endpoint.port()),
        ]
    }

    pub(super) fn set(&self, family: IpFamily) -> SetDefinition {
        SetDefinition {
            name: self.set_name().into(),
            family,
            key: vec![Field::Address],
            data: Data::None,
            interval: false,
            timeout: Some(u64::from(self.seconds) * 1000),
            userdata: userdata::set_of_addresses(),
        }
    }
}
