//! What the kernel can do, and who else is there.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::compare::Desired;
use super::encode;
use super::marks;
use super::model::Model;
use super::operation::{Operation, Transaction, message};
use super::read::{Reader, attributes, nftables_message};
use super::settings::FamilySettings;
use crate::domain::{IpFamily, Protocol, ServiceName, ServicePortName};
use crate::kernel::DataplaneError;
use crate::kernel::netlink::{Socket, find, find_text};
use crate::plan::{
    Backend, Frontend, FrontendAddress, FrontendKind, FrontendSpec, Globals, Policy, Pool, Target,
};

/// Shows the kernel a table with one frontend of each shape, and takes it back before it takes effect.
pub(super) fn requirements(socket: &mut Socket, settings: &FamilySettings) -> Result<(), DataplaneError> {
    let family = settings.family;
    let unsupported = |source: io::Error| DataplaneError::Unsupported {
        feature: match source.kind() {
            io::ErrorKind::PermissionDenied => "the permission to change nftables (CAP_NET_ADMIN)".to_owned(),
            _ => format!("nftables for {family} (Linux 5.13 or newer has all that is needed)"),
        },
        source,
    };
    let exists = Reader { socket, family }.structure().map_err(unsupported)?.is_some();
    let mut operations: Vec<_> = exists.then_some(Operation::DeleteTable).into_iter().collect();
    operations.extend(sample(settings).create());
    let mut transaction = Transaction::new(family, &operations);
    let Err(error) = transaction.batch.check(socket) else { return Ok(()) };
    Err(match transaction.explain(family, error) {
        DataplaneError::Transaction { operation, source }
            if source.kind() != io::ErrorKind::PermissionDenied =>
        {
            let feature = format!(
                "what nftables needs to \"{operation}\" for {family} (Linux 5.13 or newer has it all)"
            );
            DataplaneError::Unsupported { feature, source }
        }
        DataplaneError::Transaction { source, .. }
        | DataplaneError::FrontendRefused { source, .. }
        | DataplaneError::Unsupported { source, .. } => unsupported(source),
    })
}

/// A table in which every kind of expression, set and chain occurs.
fn sample(settings: &FamilySettings) -> Desired {
    let address: IpAddr = match settings.family {
        IpFamily::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpFamily::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let pool: Pool = Arc::new([Backend { address, port: 80, local: true }]);
    let frontends = [
        (FrontendAddress::Ip(address), Policy::Internal, None),
        (FrontendAddress::Ip(address), Policy::ExternalLocal, Some(60)),
        (FrontendAddress::NodePort(settings.family), Policy::ExternalLocal, None),
    ];
    let frontends: Vec<_> = frontends
        .into_iter()
        .zip(1..)
        .map(|((at, policy, affinity), port)| {
            (
                Frontend { address: at, port, protocol: Protocol::Tcp },
                specification(address, &pool, (policy, affinity)),
            )
        })
        .collect();
    let globals = Globals {
        node_port_addresses: BTreeSet::from([address]),
        service_cidrs: BTreeSet::from([IpNet::from(address)]),
        health_check_node_ports: BTreeSet::new(),
    };
    let all = frontends.iter().map(|(frontend, spec)| (frontend, None, Some(spec)));
    let filling = Model::new(settings.family).change(all, Some(&globals));
    Desired::new(settings, filling)
}

fn specification(address: IpAddr, pool: &Pool, (policy, affinity): (Policy, Option<u32>)) -> FrontendSpec {
    let owner = ServicePortName {
        service: ServiceName::new("shunt", "probe"),
        port: Arc::from(""),
        protocol: Protocol::Tcp,
    };
    FrontendSpec {
        owner: Arc::new(owner),
        kind: FrontendKind::LoadBalancerIp,
        policy,
        inside: Target::Pool(Arc::clone(pool)),
        outside: Target::Pool(Arc::clone(pool)),
        affinity_seconds: affinity,
        source_ranges: Some(Arc::new([IpNet::from(address)])),
        serving: Arc::new([]),
    }
}

/// Rules of others that use the mark: one text for each chain.
pub(super) fn mark_users(socket: &mut Socket, mark: u32) -> io::Result<Vec<String>> {
    const TABLE: u16 = 1;
    const CHAIN: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    let every_family = [0; 4];
    let request = (nftables_message(message::GET_RULE), libc::NLM_F_DUMP);
    let chains = socket.request(request, &every_family, |chains: &mut BTreeSet<String>, message| {
        let family = message.payload.first().copied().unwrap_or(0);
        let Some(bytes) = attributes(&message) else { return };
        let (Some(table), Some(chain)) = (find_text(bytes, TABLE), find_text(bytes, CHAIN)) else { return };
        let used = find(bytes, EXPRESSIONS).is_some_and(|rule| marks::uses(rule, mark));
        if used && !is_known(table, chain) {
            chains.insert(format!(
                "chain {chain} of table {} {table} uses packet mark bits that shunt uses too ({mark:#x})",
                family_name(family)
            ));
        }
    })?;
    Ok(chains.into_iter().collect())
}

/// Our own tables, and kube-proxy's, which shunt replaces.
fn is_known(table: &str, chain: &str) -> bool {
    table == encode::TABLE || table == "kube-proxy" || chain.starts_with("KUBE-")
}

const fn family_name(number: u8) -> &'static str {
    match number {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "?",
    }
}
