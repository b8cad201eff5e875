//! Pods that talk: servers that tell who asks, and clients.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use shunt::domain::IpFamily;
use shunt::plan::{Backend, FrontendSpec, Policy, Table, Target};

use crate::fixtures::{Pod, frontend, run, run_all, spec};

/// The frontend of [`table`].
pub(crate) const VIP: &str = "172.30.0.9:80";
/// Where [`backend`] listens.
const BACKEND: &str = "10.2.0.2:80";
/// Longer than the kernel takes to send a segment twice again.
const PATIENCE: Duration = Duration::from_secs(10);

/// A pod behind the interface `name`, with addresses 1 (the node) and 2 (the pod) of `subnet`.
pub(crate) fn pod(name: &str, subnet: &str) -> Pod {
    let pod = Pod::new();
    run(&format!("ip link add {name} type veth peer name eth0 netns {}", pod.process()));
    run(&format!("ip addr add {subnet}.1/24 dev {name}"));
    run(&format!("ip link set dev {name} up"));
    pod.run(&format!(
        "ip addr add {subnet}.2/24 dev eth0
         ip link set dev eth0 up
         ip link set dev lo up
         ip route add default via {subnet}.1"
    ));
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    pod
}

/// The pod that serves.
pub(crate) fn backend() -> Pod {
    let pod = pod("backend", "10.2.0");
    let listener = pod.inside(|| TcpListener::bind(BACKEND).unwrap());
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let client = stream.peer_addr().unwrap().ip().to_string();
            // The client may have gone.
            stream.write_all(client.as_bytes()).unwrap_or_default();
        }
    });
    pod
}

/// As which client the server sees the pod that connects to `to`.
pub(crate) fn ask(client: &Pod, to: &str) -> io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    client.inside(|| {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

/// A specification with the one backend, which is on this node or (as far as anybody here knows) another.
pub(crate) fn served(policy: Policy, local: bool) -> FrontendSpec {
    let socket: SocketAddr = BACKEND.parse().unwrap();
    let target = Target::Pool([Backend { address: socket.ip(), port: socket.port(), local }].into());
    FrontendSpec { inside: target.clone(), outside: target, ..spec(policy, &[BACKEND]) }
}

/// A cluster IP with the one backend.
pub(crate) fn table(local: bool) -> Table {
    let mut table = Table::default();
    table.frontends.insert(frontend(VIP), served(Policy::Internal, local).into());
    table
}

/// Whether the masquerade rule of a family is there.
pub(crate) fn masquerades(family: IpFamily) -> bool {
    let family = if family == IpFamily::V4 { "table ip shunt-ebpf" } else { "table ip6 shunt-ebpf" };
    run("nft list tables").contains(family)
}

/// Pairs of interfaces without anybody behind them.
pub(crate) fn add_pairs(prefix: &str, count: u32) {
    (0..count).for_each(|number| {
        run_all(&format!("ip link add {prefix}{number} type veth peer name {prefix}{number}p"));
    });
}
