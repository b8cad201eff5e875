//! Lanes: machines, and what programs their node.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::conversation::{connect, datagram};
use super::empty_programs::{self, EmptyPrograms};
use super::iptables_layout;
use super::measure::{Target, Targets};
use super::nftables_layout;
use super::site::{
    CLUSTER_CIDR, LOCAL_PODS, NODE, NODE_ADDRESS, POD_CIDR, REMOTE_NODE, REMOTE_PODS, Route, Site,
};
use crate::bench::arguments::{Plan, Proxy};
use crate::bench::cpu::settle;
use crate::bench::objects::{
    TCP_PORT, TCP_TARGET, UDP_PORT, UDP_TARGET, fillers, node_port_service, service, slice, surroundings,
};
use crate::bench::program::{Running, Setup};
use crate::bench::server::Api;
use crate::lab::Surroundings;

/// Cluster IPs of the measured services.
const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const LOCAL_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const REMOTE_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);
/// Their node ports, TCP and UDP.
const LOCAL_NODE_PORTS: [u16; 2] = [30_080, 30_053];
const REMOTE_NODE_PORTS: [u16; 2] = [30_081, 30_054];
/// For the initial load of the slowest.
const PATIENCE: Duration = Duration::from_mins(5);

/// When everything should be programmed.
const SETTLED: Duration = Duration::from_secs(10);

/// A service that is measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) name: &'static str,
    pub(super) cluster_ip: Ipv4Addr,
    pub(super) node_ports: Option<[u16; 2]>,
    pub(super) endpoints: [Ipv4Addr; 2],
}

/// All of them. They come after the fillers wherever there is an order.
pub(super) const MEASURED: [Measured; 3] = [
    Measured { name: "z-cluster", cluster_ip: CLUSTER_IP, node_ports: None, endpoints: LOCAL_PODS },
    Measured {
        name: "z-local",
        cluster_ip: LOCAL_IP,
        node_ports: Some(LOCAL_NODE_PORTS),
        endpoints: LOCAL_PODS,
    },
    Measured {
        name: "z-remote",
        cluster_ip: REMOTE_IP,
        node_ports: Some(REMOTE_NODE_PORTS),
        endpoints: REMOTE_PODS,
    },
];

/// What programs the node. The proxy is stopped before its API server goes.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are a handful")]
enum Programmer {
    Nothing,
    /// Nothing but connection tracking.
    Conntrack,
    Empty(Option<EmptyPrograms>),
    Nftables,
    Iptables,
    Proxy {
        proxy: Proxy,
        running: Option<Running>,
        api: Box<Api>,
        log: PathBuf,
        verbosity: u8,
        barriers: usize,
    },
}

/// One lane. Fields are dropped in order.
#[derive(Debug)]
pub(super) struct Lane {
    name: String,
    programmer: Programmer,
    targets: Targets,
    /// Services that fill the node now.
    filled: usize,
    /// Whether packets pass connection tracking on the node.
    tracks: bool,
    site: Site,
}

/// Connection tracking is there for whoever asks for it; this chain is out of the way of what is forwarded.
const CONNTRACK_RULE: &str = "add table ip floor\nadd chain ip floor output { type filter hook output priority 0; }\n\
                              add rule ip floor output ct state invalid counter\n";

/// The lanes of a plan.
pub(super) fn all(plan: &Plan) -> Result<Vec<Lane>> {
    let mut lanes = vec![Lane::new(super::DIRECT, Site::create()?, Programmer::Nothing)];
    if plan.wants(super::CONNTRACK) {
        lanes.push(Lane::new(super::CONNTRACK, Site::create()?, Programmer::Conntrack));
    }
    if plan.wants(empty_programs::LANE) {
        lanes.push(Lane::new(empty_programs::LANE, Site::create()?, Programmer::Empty(None)));
    }
    for proxy in plan.proxies.iter().filter(|proxy| plan.wants(&proxy.lane)) {
        let site = Site::create()?;
        let api = Api::start(site.node().host().namespace())?;
        api.put_all(surroundings(NODE, NODE_ADDRESS, POD_CIDR))?;
        for measured in MEASURED.iter().filter(|measured| proxy.remote || measured.endpoints == LOCAL_PODS) {
            let node = if measured.endpoints == REMOTE_PODS { REMOTE_NODE } else { NODE };
            api.put(match measured.node_ports {
                None => service(measured.name, measured.cluster_ip),
                Some(ports) => node_port_service(measured.name, measured.cluster_ip, ports),
            })?;
            api.put(slice(measured.name, &measured.endpoints, node))?;
        }
        let name = format!("logs/datapath-{}.log", proxy.lane.replace(' ', "-"));
        let log = plan.output.parent().unwrap_or(Path::new(".")).join(name);
        let programmer = Programmer::Proxy {
            proxy: proxy.clone(),
            running: None,
            api: Box::new(api),
            log,
            verbosity: plan.verbosity,
            barriers: 0,
        };
        lanes.push(Lane::new(&proxy.lane, site, programmer));
    }
    let layouts =
        [(nftables_layout::LANE, Programmer::Nftables), (iptables_layout::LANE, Programmer::Iptables)];
    for (name, programmer) in layouts.into_iter().filter(|(name, _)| plan.wants(name)) {
        lanes.push(Lane::new(name, Site::create()?, programmer));
    }
    Ok(lanes)
}

impl Lane {
    fn new(name: &str, site: Site, programmer: Programmer) -> Self {
        let targets = match &programmer {
            Programmer::Nothing | Programmer::Conntrack | Programmer::Empty(_) => direct(),
            Programmer::Proxy { proxy, .. } if proxy.bystander => direct(),
            _ => through_services(),
        };
        Self { name: name.to_owned(), programmer, targets, filled: 0, tracks: false, site }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    pub(super) fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Whether so many services are not too many for it.
    pub(super) fn bears(&self, services: usize) -> bool {
        match &self.programmer {
            Programmer::Proxy { proxy, .. } => services <= proxy.up_to,
            _ => true,
        }
    }

    /// Whether there is a service to measure on a route.
    pub(super) fn serves(&self, route: Route) -> bool {
        match &self.programmer {
            Programmer::Proxy { proxy, .. } => proxy.remote || route != Route::OutsideToRemote,
            _ => true,
        }
    }

    /// What was found out about it when it was programmed.
    pub(super) fn conditions(&self) -> &'static str {
        if self.tracks { "connections are tracked on the node" } else { "no connection tracking on the node" }
    }

    /// Brings the node to so many services; returns when the measured ones answer.
    pub(super) fn program(&mut self, services: usize) -> Result<()> {
        let tools = self.site.node().surroundings();
        match &mut self.programmer {
            Programmer::Nothing => {}
            Programmer::Conntrack if self.filled > 0 => {}
            Programmer::Conntrack => load(tools, CONNTRACK_RULE, "floor.nft", "nft", &["-f"])?,
            Programmer::Empty(programs) => {
                if programs.is_none() {
                    *programs = Some(EmptyPrograms::attach(&self.site)?);
                }
            }
            Programmer::Nftables => nftables_layout::load(tools, services)?,
            Programmer::Iptables => iptables_layout::load(tools, services)?,
            Programmer::Proxy { proxy, running, api, log, verbosity, barriers } => {
                api.put_all(fillers(self.filled..services, NODE))?;
                if running.is_none() {
                    let kubeconfig = api.kubeconfig();
                    let setup = Setup {
                        proxy,
                        node: NODE,
                        kubeconfig,
                        cluster_cidr: CLUSTER_CIDR,
                        seat: proxy.socket_lb.then(|| self.site.seat()),
                        verbosity: *verbosity,
                        log,
                    };
                    *running = Some(Running::start(&setup, tools)?);
                }
                let running = running.as_ref().context("no proxy was started")?;
                // Written after the fillers: when it answers, they are in.
                let barrier = Ipv4Addr::new(10, 97, 0, u8::try_from(self.filled % 251)?);
                let name = format!("z-barrier-{}", self.filled);
                api.put(service(&name, barrier))?;
                api.put(slice(&name, &LOCAL_PODS, NODE))?;
                wait_for(&self.site, Route::PodToPod, target(barrier, TCP_PORT, UDP_PORT), PATIENCE)
                    .with_context(|| format!("last words:\n{}", running.tail()))?;
                settle(running.id(), PATIENCE)?;
                *barriers += 1;
                let measured = MEASURED.iter().filter(|one| proxy.remote || one.endpoints == LOCAL_PODS);
                running.ensure_complete(tools, services + measured.count() + *barriers)?;
            }
        }
        self.filled = services;
        let routes = [Route::PodToPod, Route::OutsideToLocal, Route::OutsideToRemote];
        for route in routes.into_iter().filter(|route| self.serves(*route)) {
            let target = self.targets.of(route);
            wait_for(&self.site, route, target, SETTLED).with_context(|| format!("{route:?}"))?;
        }
        // There are the datagrams of a moment ago, if anything.
        let count = tools.output("cat", &["/proc/sys/net/netfilter/nf_conntrack_count"])?;
        self.tracks = count.trim() != "0";
        Ok(())
    }

    /// The process that has the BPF programs on the node's interfaces, if there may be some.
    pub(super) fn holder_of_programs(&self) -> Option<u32> {
        match &self.programmer {
            Programmer::Empty(_) => Some(std::process::id()),
            Programmer::Proxy { running: Some(running), proxy, .. } if proxy.mode == "ebpf" => {
                u32::try_from(running.id()).ok()
            }
            _ => None,
        }
    }

    /// Whether its programs return at once.
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self.programmer, Programmer::Empty(_))
    }

    /// Fails if its proxy has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        match &mut self.programmer {
            Programmer::Proxy { running: Some(running), .. } => running.check(),
            _ => Ok(()),
        }
    }
}

/// Waits until both protocols are answered, by the right pod.
fn wait_for(site: &Site, route: Route, target: Target, patience: Duration) -> Result<()> {
    site.converse(route, |server| {
        let started = Instant::now();
        loop {
            server.drain()?;
            let tried = connect(target.tcp, server).and_then(|_| datagram(target.udp, server));
            let Err(error) = tried else { return Ok(()) };
            ensure!(started.elapsed() < patience, "no answer after {patience:?}: {error:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    })
}

/// Writes a ruleset and has a tool load it.
pub(super) fn load(
    tools: &Surroundings,
    text: &str,
    name: &str,
    program: &str,
    arguments: &[&str],
) -> Result<()> {
    let path = tools.directory().join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let file = path.to_str().context("a path that is not text")?;
    tools.output(program, &[arguments, &[file]].concat())?;
    Ok(())
}

fn target(address: Ipv4Addr, tcp: u16, udp: u16) -> Target {
    Target { tcp: SocketAddrV4::new(address, tcp), udp: SocketAddrV4::new(address, udp) }
}

fn direct() -> Targets {
    let [local, _] = LOCAL_PODS;
    let [remote, _] = REMOTE_PODS;
    let to = |address| target(address, TCP_TARGET, UDP_TARGET);
    Targets { pod_to_pod: to(local), outside_to_local: to(local), outside_to_remote: to(remote) }
}

fn through_services() -> Targets {
    let node_port = |[tcp, udp]: [u16; 2]| target(NODE_ADDRESS, tcp, udp);
    Targets {
        pod_to_pod: target(CLUSTER_IP, TCP_PORT, UDP_PORT),
        outside_to_local: node_port(LOCAL_NODE_PORTS),
        outside_to_remote: node_port(REMOTE_NODE_PORTS),
    }
}
