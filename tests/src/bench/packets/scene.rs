//! A node with a real agent in mode `ebpf`, and the programs that the agent has attached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shunt::kernel::ebpf::{AttachedProgram, Direction};

use super::packet::{Family, SYN, Segment, destination};
use crate::bench::arguments::{Plan, Proxy};
use crate::bench::cpu::settle;
use crate::bench::objects::{self, TCP_PORT, TCP_TARGET};
use crate::bench::program::{Running, Setup};
use crate::bench::server::Api;
use crate::lab::{Namespace, Surroundings, ip, unique_name, write_sysctls};

const NODE: &str = "node-a";
/// Ranges, by the second group of an address.
const PODS: u16 = 244;
const FRONTENDS: u16 = 100;
const BACKENDS: u16 = 200;
const ODD_FRONTENDS: u16 = 108;
const PATIENCE: Duration = Duration::from_mins(2);

/// The node. Fields are dropped in order.
#[derive(Debug)]
pub(super) struct Scene {
    running: Running,
    _api: Api,
    surroundings: Surroundings,
    namespace: Arc<Namespace>,
    _pods: Namespace,
    pub(super) family: Family,
}

impl Scene {
    /// Starts the agent with so many services; returns when the last one is translated.
    pub(super) fn create(plan: &Plan, proxy: &Proxy, family: Family, services: usize) -> Result<Self> {
        let unique = unique_name();
        let namespace = Arc::new(Namespace::create(&unique, "node")?);
        let pods = Namespace::create(&unique, "pods")?;
        connect(&namespace, &pods, family)?;
        let surroundings = Surroundings::create(&format!("{unique}-files"), &namespace)?;
        let api = Api::start(&namespace)?;
        fill(&api, family, services)?;
        let name = format!("logs/packets-{}-{services}.log", family.name());
        let log = plan.output.parent().unwrap_or(Path::new(".")).join(name);
        let setup = Setup {
            proxy,
            node: NODE,
            kubeconfig: api.kubeconfig(),
            cluster_cidr: cidr(family),
            seat: None,
            verbosity: plan.verbosity,
            log: &log,
        };
        let running = Running::start(&setup, &surroundings)?;
        let mut scene = Self { running, _api: api, surroundings, namespace, _pods: pods, family };
        scene.wait(services).with_context(|| format!("last words:\n{}", scene.running.tail()))?;
        Ok(scene)
    }

    fn wait(&mut self, services: usize) -> Result<()> {
        let started = Instant::now();
        let last = self.frontend(services - 1);
        let segment = Segment { source: self.client(0), destination: last, flags: SYN };
        while let Err(error) = self.within(|| {
            let frame = segment.frame(self.hardware("client")?);
            let out = self.trial(Direction::Ingress)?.run(&frame, 1)?;
            ensure!(destination(&out.packet)? != last, "the last service is not translated");
            Ok(())
        }) {
            self.running.check()?;
            ensure!(started.elapsed() < PATIENCE, "not ready after {PATIENCE:?}: {error:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
        settle(self.running.id(), PATIENCE)?;
        // Those of all, one mirror, one without endpoints.
        self.running.ensure_complete(&self.surroundings, services + 2)
    }

    /// Runs on a thread in the node's network namespace, where its interfaces are.
    pub(super) fn within<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.namespace.run(body)?
    }

    /// The agent's program at the client's interface. Packets that enter come from the client, those that leave from
    /// the server.
    pub(super) fn trial(&self, direction: Direction) -> Result<AttachedProgram> {
        let came_by = match direction {
            Direction::Ingress => "client",
            Direction::Egress => "server",
        };
        let client = self.index("client")?;
        Ok(AttachedProgram::attached(&self.bpffs(), client, direction, self.index(came_by)?)?)
    }

    /// The program that does nothing, at the same interface.
    pub(super) fn empty(&self) -> Result<AttachedProgram> {
        let client = self.index("client")?;
        Ok(AttachedProgram::empty(client, client)?)
    }

    /// The agent's BPF file system is in its mount namespace.
    fn bpffs(&self) -> PathBuf {
        format!("/proc/{}/root/sys/fs/bpf", self.running.id()).into()
    }

    fn index(&self, interface: &str) -> Result<u32> {
        let text = self.surroundings.output("cat", &[&format!("/sys/class/net/{interface}/ifindex")])?;
        text.trim().parse().context("an interface's index")
    }

    /// The Ethernet address of an interface.
    pub(super) fn hardware(&self, interface: &str) -> Result<[u8; 6]> {
        let text = self.surroundings.output("cat", &[&format!("/sys/class/net/{interface}/address")])?;
        let bytes: Result<Vec<_>, _> =
            text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
        bytes?.try_into().ok().context("an Ethernet address of another length")
    }

    /// Client number `number`: an address and a port of its own.
    pub(super) fn client(&self, number: usize) -> SocketAddr {
        const PORTS: usize = 50_000;
        let port = 10_000 + u16::try_from(number % PORTS).unwrap_or(0);
        SocketAddr::new(self.family.address(PODS, 0x102 + number / PORTS), port)
    }

    /// The TCP port of service number `number`.
    pub(super) fn frontend(&self, number: usize) -> SocketAddr {
        SocketAddr::new(self.family.address(FRONTENDS, 1 + number), TCP_PORT)
    }

    /// An endpoint of the first service.
    pub(super) fn backend(&self) -> SocketAddr {
        SocketAddr::new(self.family.address(BACKENDS, 1), TCP_TARGET)
    }

    /// A service whose only endpoint has the address and port of the service: its packets stay as they are.
    pub(super) fn mirror(&self) -> SocketAddr {
        SocketAddr::new(mirror(self.family), TCP_TARGET)
    }

    /// A service without endpoints.
    pub(super) fn rejected(&self) -> SocketAddr {
        SocketAddr::new(rejected(self.family), TCP_PORT)
    }

    /// A pod that no service has.
    pub(super) fn stranger(&self) -> SocketAddr {
        SocketAddr::new(self.family.address(PODS, 0x909), TCP_PORT)
    }
}

const fn cidr(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.244.0.0/16",
        Family::V6 => "fd00:f4::/32",
    }
}

fn mirror(family: Family) -> IpAddr {
    family.address(ODD_FRONTENDS, 1)
}

fn rejected(family: Family) -> IpAddr {
    family.address(ODD_FRONTENDS, 2)
}

/// Links like those of pods, and a way out.
fn connect(node: &Namespace, pods: &Namespace, family: Family) -> Result<()> {
    let mut lines = Vec::new();
    for name in ["up0", "client", "server"] {
        lines.push(format!("link add {name} type veth peer name {name} netns {}", pods.name()));
        lines.push(format!("link set {name} up"));
    }
    lines.push("addr add 192.168.77.1/24 dev up0".to_owned());
    let server = family.address(BACKENDS, 0);
    let length = if family == Family::V4 { 13 } else { 32 };
    lines.push(format!("route add {server}/{length} dev server"));
    ip(node, None, &lines)?;
    ip(pods, None, &["up0", "client", "server"].map(|name| format!("link set {name} up")))?;
    write_sysctls(node, &[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])
}

fn fill(api: &Api, family: Family, services: usize) -> Result<()> {
    api.put_all(objects::surroundings(NODE, Ipv4Addr::new(192, 168, 77, 1), cidr(family)))?;
    for index in 0..services {
        let name = objects::filler_name(index);
        let pods = [0, 1].map(|number| family.address(BACKENDS, 1 + 2 * index + number));
        api.put(objects::service(&name, family.address(FRONTENDS, 1 + index)))?;
        api.put(objects::slice(&name, &pods, NODE))?;
    }
    let mut service = objects::service("mirror", mirror(family));
    if let Some(port) = service.pointer_mut("/spec/ports/0/port") {
        *port = TCP_TARGET.into();
    }
    api.put(service)?;
    api.put(objects::slice("mirror", &[mirror(family)], NODE))?;
    api.put(objects::service("rejected", rejected(family)))
}
