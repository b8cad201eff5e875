//! A node with all pods on it, and an API server full of services.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::bench::arguments::{Plan, Proxy};
use crate::bench::objects;
use crate::bench::program::{Running, Setup};
use crate::bench::seat::Seat;
use crate::bench::server::Api;
use crate::lab::{Namespace, Setting, Surroundings, ip, unique_name, write_sysctls};

/// The node's name.
pub(super) const NODE: &str = "node-a";
const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
/// Holds all addresses of endpoints.
const POD_RANGE: &str = "10.200.0.0/13";
/// Name of the service whose endpoint the benchmark moves.
pub(super) const MOVING: &str = "moving";
/// Its cluster IP.
pub(super) const MOVING_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Its first endpoint; it moves on from there.
pub(super) const MOVING_ENDPOINTS: Ipv4Addr = Ipv4Addr::new(10, 207, 0, 1);

/// Many short connections: ports for them, and no memory of those that are over.
const SYSCTLS: &[Setting] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/ip_local_port_range", "16384 65535"),
    ("net/netfilter/nf_conntrack_tcp_timeout_close", "1"),
    ("net/netfilter/nf_conntrack_tcp_timeout_syn_sent", "2"),
    ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1"),
];

/// The node. Fields are dropped in order: the proxy first, the namespace last.
#[derive(Debug)]
pub(super) struct Scene {
    proxy: Option<Running>,
    api: Api,
    surroundings: Surroundings,
    seat: Seat,
    namespace: Arc<Namespace>,
    /// Where packets to cluster IPs go that no proxy takes up.
    _nowhere: Namespace,
}

impl Scene {
    /// A node, and an API server with so many services besides the moving one. No proxy runs yet.
    pub(super) fn create(services: usize) -> Result<Self> {
        let unique = unique_name();
        let namespace = Arc::new(Namespace::create(&unique, "node")?);
        let nowhere = Namespace::create(&unique, "nowhere")?;
        ip(
            &namespace,
            None,
            &[
                // Cluster IPs have a route, as on a real node.
                format!("link add up0 type veth peer name up0 netns {}", nowhere.name()),
                format!("addr add {NODE_ADDRESS}/24 dev up0"),
                "link set up0 up arp off".to_owned(),
                "route add default dev up0".to_owned(),
                format!("route add local {POD_RANGE} dev lo"),
            ],
        )?;
        ip(&nowhere, None, &["link set up0 up"])?;
        write_sysctls(&namespace, SYSCTLS)?;
        let surroundings = Surroundings::create(&format!("{unique}-files"), &namespace)?;
        let api = Api::start(&namespace)?;
        api.put_all(objects::surroundings(NODE, NODE_ADDRESS, POD_RANGE))?;
        api.put_all(objects::fillers(0..services, NODE))?;
        api.put(objects::service(MOVING, MOVING_ADDRESS))?;
        api.put(objects::slice(MOVING, &[MOVING_ENDPOINTS], NODE))?;
        let seat = Seat::create()?;
        Ok(Self { proxy: None, api, surroundings, seat, namespace, _nowhere: nowhere })
    }

    /// Starts a proxy.
    pub(super) fn start(&mut self, plan: &Plan, proxy: &Proxy, services: usize) -> Result<()> {
        let name = format!("logs/control-{}-{services}.log", proxy.lane.replace(' ', "-"));
        let log = plan.output.parent().unwrap_or(Path::new(".")).join(name);
        let setup = Setup {
            proxy,
            node: NODE,
            kubeconfig: self.api.kubeconfig(),
            cluster_cidr: POD_RANGE,
            seat: proxy.socket_lb.then_some(&self.seat),
            verbosity: plan.verbosity,
            log: &log,
        };
        self.proxy = Some(Running::start(&setup, &self.surroundings)?);
        Ok(())
    }

    pub(super) fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// The cgroup of the node's processes.
    pub(super) fn seat(&self) -> &Seat {
        &self.seat
    }

    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    pub(super) fn proxy(&mut self) -> Result<&mut Running> {
        self.proxy.as_mut().context("no proxy was started")
    }

    /// Fails if the proxy does not have so many services, all of them programmed.
    pub(super) fn ensure_complete(&self, services: usize) -> Result<()> {
        let proxy = self.proxy.as_ref().context("no proxy was started")?;
        proxy.ensure_complete(&self.surroundings, services)
    }

    pub(super) fn last_words(&self) -> String {
        self.proxy.as_ref().map(Running::tail).unwrap_or_default()
    }
}
