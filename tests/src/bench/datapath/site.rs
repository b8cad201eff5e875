//! The machines of one lane.
//!
//! ```text
//!   client pod   server pod            remote pod
//!   10.244.1.2   10.244.1.3, .4        10.244.2.3, .4
//!         \       /                         |
//!          node-a 192.168.50.11 ------ node-b 192.168.50.12
//!                 192.168.60.1 ------- outside 192.168.60.200
//! ```
//! Everything from outside goes through node-a, also what comes back from
//! node-b, with or without a service.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, Type};

use crate::bench::objects::{TCP_TARGET, UDP_TARGET};
use crate::bench::processors::Processor;
use crate::bench::seat::Seat;
use crate::lab::{Cluster, Host, Namespace, Node, Pod, PodLink, Setting, write_sysctls};

/// The node that is measured.
pub(super) const NODE: &str = "node-a";
/// The node of the remote pod.
pub(super) const REMOTE_NODE: &str = "node-b";
/// Address of the node.
pub(super) const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 11);
/// All pods.
pub(super) const CLUSTER_CIDR: &str = "10.244.0.0/16";
/// Pods of the node.
pub(super) const POD_CIDR: &str = "10.244.1.0/24";
/// Addresses of the server pod: endpoints of the measured services.
pub(super) const LOCAL_PODS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 244, 1, 3), Ipv4Addr::new(10, 244, 1, 4)];
/// Addresses of the pod on the other node.
pub(super) const REMOTE_PODS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 244, 2, 3), Ipv4Addr::new(10, 244, 2, 4)];

/// No answer within this time is a failure.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections that are over are soon forgotten: the table is shared by all lanes.
const SYSCTLS: &[Setting] = &[
    ("net/netfilter/nf_conntrack_tcp_timeout_close", "1"),
    ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "5"),
    ("net/netfilter/nf_conntrack_tcp_timeout_last_ack", "5"),
    ("net/netfilter/nf_conntrack_udp_timeout", "10"),
];

/// Where a conversation begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// From a pod to a pod of the same node.
    PodToPod,
    /// From outside to a pod of the node.
    OutsideToLocal,
    /// From outside, through the node, to a pod of another node.
    OutsideToRemote,
}

/// The machines. Fields are dropped in order, sockets first.
#[derive(Debug)]
pub(super) struct Site {
    local: Server,
    remote: Server,
    client: Pod,
    server: Pod,
    outside: Host,
    remote_host: Host,
    node: Node,
    _cluster: Cluster,
    seat: Seat,
}

/// Both ends of a route.
struct Ends<'a> {
    client: &'a Arc<Namespace>,
    /// Where the server is.
    far: &'a Arc<Namespace>,
    server: &'a Server,
}

/// Sockets that answer; no thread belongs to them.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) listener: Socket,
    /// One per address, so that answers come from the address that was asked.
    datagrams: [Socket; 2],
}

impl Site {
    pub(super) fn create() -> Result<Self> {
        let cluster = Cluster::create()?;
        let node = cluster.node(NODE, &["192.168.50.11/24".parse()?, "192.168.60.1/24".parse()?])?;
        let remote_host = cluster.host(REMOTE_NODE, &["192.168.50.12/24".parse()?])?;
        let outside = cluster.host("outside", &["192.168.60.200/24".parse()?])?;
        let pod = |name: &str, address: &str| node.pod(name, PodLink::Routed, &[address.parse()?], &[]);
        let client = pod("client", "10.244.1.2/32")?;
        let server = pod("server", "10.244.1.3/32")?;
        let [_, second] = LOCAL_PODS;
        server.host().ip(&[format!("addr add {second}/32 dev eth0")])?;
        node.host().ip(&[
            format!("route add {second}/32 dev server"),
            "route add 10.244.2.0/24 via 192.168.50.12".to_owned(),
        ])?;
        outside.ip(&["route add default via 192.168.60.1"])?;
        remote_host.ip(&REMOTE_PODS.map(|address| format!("addr add {address}/32 dev lo")))?;
        remote_host.ip(&["route add default via 192.168.50.11"])?;
        write_sysctls(node.host().namespace(), SYSCTLS)?;
        let seat = Seat::create()?;
        let local = Server::open(server.host().namespace(), &seat, LOCAL_PODS)?;
        let remote = Server::open(remote_host.namespace(), &seat, REMOTE_PODS)?;
        Ok(Self { local, remote, client, server, outside, remote_host, node, _cluster: cluster, seat })
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// The cgroup of every pod, and of everybody else here.
    pub(super) fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Has a client at the beginning of a route talk to the sockets at its end.
    pub(super) fn converse<T: Send>(
        &self,
        route: Route,
        body: impl FnOnce(&Server) -> Result<T> + Send,
    ) -> Result<T> {
        let Ends { client, server, .. } = self.ends(route);
        server.drain()?;
        client.run(|| {
            self.seat.enter()?;
            body(server)
        })?
    }

    /// Has a client at the beginning of a route talk to a server at its end, each on a thread of its own: the first on the
    /// first processor, the second on the second. `serve` has to end when `body` has.
    pub(super) fn converse_in_two<T: Send>(
        &self,
        route: Route,
        [near, far_away]: [Processor; 2],
        serve: impl FnOnce(&Server) -> Result<()> + Send,
        body: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        let Ends { client, far, server } = self.ends(route);
        server.drain()?;
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| {
                far.run(|| {
                    self.seat.enter()?;
                    far_away.enter()?;
                    serve(server)
                })?
            });
            let outcome = client.run(|| -> Result<T> {
                self.seat.enter()?;
                near.enter()?;
                body()
            });
            let served = serving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (outcome.flatten(), served.context("at the server")) {
                (Err(near), Err(far)) => Err(near.context(format!("{far:#}"))),
                (outcome, served) => outcome.and_then(|outcome| served.map(|()| outcome)),
            }
        })
    }

    fn ends(&self, route: Route) -> Ends<'_> {
        let client = match route {
            Route::PodToPod => self.client.host(),
            Route::OutsideToLocal | Route::OutsideToRemote => &self.outside,
        };
        let (far, server) = match route {
            Route::PodToPod | Route::OutsideToLocal => (self.server.host(), &self.local),
            Route::OutsideToRemote => (&self.remote_host, &self.remote),
        };
        Ends { client: client.namespace(), far: far.namespace(), server }
    }
}

impl Server {
    pub(super) fn open(namespace: &Namespace, seat: &Seat, addresses: [Ipv4Addr; 2]) -> Result<Self> {
        namespace.run(|| {
            // Programs for sockets that receive concern servers, too.
            seat.enter()?;
            let listener = bound(Type::STREAM, Ipv4Addr::UNSPECIFIED, TCP_TARGET)?;
            listener.listen(1024).context("listening")?;
            let [first, second] = addresses.map(|address| bound(Type::DGRAM, address, UDP_TARGET));
            let datagrams = [first?, second?];
            for socket in &datagrams {
                socket.set_nonblocking(true).context("preparing a socket")?;
            }
            Ok(Self { listener, datagrams })
        })?
    }

    /// Waits for a datagram and answers it. Both sockets are always asked, so that it costs the same whichever
    /// address a lane chose.
    pub(super) fn answer_datagram(&self) -> Result<()> {
        let begun = Instant::now();
        let mut buffer = [std::mem::MaybeUninit::uninit(); 64];
        loop {
            let mut answered = false;
            for socket in &self.datagrams {
                match socket.recv_from(&mut buffer) {
                    Ok((length, peer)) => {
                        socket.send_to(&[1; 64], &peer).context("answering a datagram")?;
                        ensure!(length == 64, "a datagram of {length} bytes arrived");
                        answered = true;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error).context("waiting for a datagram"),
                }
            }
            if answered {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "no datagram arrives");
        }
    }

    /// Sleeps until there is a datagram; both sockets are always asked.
    pub(super) fn wait_for_datagram(&self) -> Result<()> {
        let mut both = self.datagrams.each_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        let patience = PollTimeout::try_from(PATIENCE).context("waiting for a datagram")?;
        ensure!(poll(&mut both, patience).context("waiting for a datagram")? > 0, "no datagram arrives");
        Ok(())
    }

    /// Takes datagrams that have arrived, as many as there are.
    pub(super) fn take_datagrams(&self) -> Result<u32> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 64];
        let mut taken = 0;
        for socket in &self.datagrams {
            loop {
                match socket.recv(&mut buffer) {
                    Ok(_) => taken += 1,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("taking a datagram"),
                }
            }
        }
        Ok(taken)
    }

    /// Forgets what an earlier conversation that failed may have left.
    pub(super) fn drain(&self) -> Result<()> {
        self.listener.set_nonblocking(true).context("preparing a socket")?;
        while self.listener.accept().is_ok() {}
        self.listener.set_nonblocking(false).context("preparing a socket")?;
        let mut buffer = [std::mem::MaybeUninit::uninit(); 64];
        for socket in &self.datagrams {
            while socket.recv_from(&mut buffer).is_ok() {}
        }
        Ok(())
    }
}

fn bound(kind: Type, address: Ipv4Addr, port: u16) -> Result<Socket> {
    let socket = socket(kind)?;
    socket.set_reuse_address(true).context("preparing a socket")?;
    let at = SocketAddr::from((address, port));
    socket.bind(&at.into()).with_context(|| format!("binding {at}"))?;
    Ok(socket)
}

/// A socket that waits, but not for ever.
pub(super) fn socket(kind: Type) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind, None).context("opening a socket")?;
    socket.set_read_timeout(Some(PATIENCE)).context("preparing a socket")?;
    socket.set_write_timeout(Some(PATIENCE)).context("preparing a socket")?;
    Ok(socket)
}
