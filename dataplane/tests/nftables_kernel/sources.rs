//! Which source address an endpoint sees: real connections through a node, from pods, from outside and from the node.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use shunt::domain::{IpFamily, Protocol};
use shunt::kernel::Dataplane as _;
use shunt::kernel::nftables::Nftables;
use shunt::plan::{Backend, FrontendSpec, Globals, Policy, Table, Target};

use crate::fixtures::{dataplane, frontend, in_namespace, node_port, spec};

const NODE: &str = "192.168.0.1";

fn ip(command: &str) {
    assert!(Command::new("ip").args(command.split(' ')).status().unwrap().success(), "ip {command}");
}

type Job = Box<dyn FnOnce() + Send>;

/// A host with a namespace of its own, on a link to the node: 10.0.`n`.2 (a pod) or 203.0.113.2 (outside).
struct Host {
    jobs: Sender<Job>,
}

impl Host {
    /// Link, address and gateway; a listener on port 8080 tells clients what their address is.
    fn new(link: &str, address: &str, gateway: &str) -> Self {
        let (jobs, work) = channel::<Job>();
        let (ready, is_ready) = channel();
        std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(nix::unistd::gettid()).unwrap();
            for job in work {
                job();
            }
        });
        let thread = is_ready.recv().unwrap();
        ip(&format!("link add {link} type veth peer name eth0 netns {thread}"));
        ip(&format!("address add {gateway}/24 dev {link}"));
        ip(&format!("link set {link} up"));
        let host = Self { jobs };
        let (address, gateway) = (address.to_owned(), gateway.to_owned());
        host.run(move || {
            ip("link set lo up");
            ip(&format!("address add {address}/24 dev eth0"));
            ip("link set eth0 up");
            ip(&format!("route add default via {gateway}"));
            let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
            std::thread::spawn(move || {
                for connection in listener.incoming() {
                    let mut connection = connection.unwrap();
                    let peer = connection.peer_addr().unwrap().ip();
                    connection.write_all(peer.to_string().as_bytes()).unwrap();
                }
            });
        });
        host
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        self.jobs.send(Box::new(move || done.send(job()).unwrap())).unwrap();
        result.recv().unwrap()
    }

    fn connect(&self, to: &'static str) -> Result<String, ErrorKind> {
        self.run(move || connect(to))
    }
}

/// What the endpoint says our address is.
fn connect(to: &str) -> Result<String, ErrorKind> {
    let patience = Duration::from_millis(700);
    let attempt = || {
        let mut stream = TcpStream::connect_timeout(&to.parse().unwrap(), patience)?;
        stream.set_read_timeout(Some(patience))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    attempt().map_err(|error: std::io::Error| error.kind())
}

fn pool(local: &[&str], remote: &[&str]) -> Target {
    let backend = |text: &&str, local| {
        let socket: SocketAddr = text.parse().unwrap();
        Backend { address: socket.ip(), port: socket.port(), local }
    };
    Target::Pool(
        local
            .iter()
            .map(|text| backend(text, true))
            .chain(remote.iter().map(|text| backend(text, false)))
            .collect(),
    )
}

/// A node with two pods and a client outside.
struct Lab {
    one: Host,
    two: Host,
    outside: Host,
    _dataplane: Nftables,
}

fn lab() -> Lab {
    ip("link set lo up");
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    ip(&format!("address add {NODE}/32 dev lo"));
    let one = Host::new("pod1", "10.0.1.2", "10.0.1.1");
    let two = Host::new("pod2", "10.0.2.2", "10.0.2.1");
    let outside = Host::new("out0", "203.0.113.2", "203.0.113.1");
    ip("route add default via 203.0.113.2");
    let both = || pool(&["10.0.1.2:8080"], &["10.0.2.2:8080"]);
    let first = || pool(&["10.0.1.2:8080"], &[]);
    let second = || pool(&[], &["10.0.2.2:8080"]);
    let local = |outside| FrontendSpec { outside, ..spec(Policy::ExternalLocal, second()) };
    let frontends = [
        (frontend("172.30.0.1:80", Protocol::Tcp), spec(Policy::Internal, both())),
        (frontend("172.30.0.1:81", Protocol::Tcp), spec(Policy::Internal, first())),
        (frontend("172.30.0.1:82", Protocol::Tcp), spec(Policy::Internal, second())),
        (frontend("1.2.3.4:80", Protocol::Tcp), spec(Policy::ExternalCluster, second())),
        (frontend("1.2.3.4:81", Protocol::Tcp), local(first())),
        (frontend("1.2.3.4:82", Protocol::Tcp), local(Target::Drop)),
        (node_port(IpFamily::V4, 30081, Protocol::Tcp), local(first())),
    ];
    let globals = Globals { node_port_addresses: [NODE.parse().unwrap()].into(), ..Globals::default() };
    let frontends = frontends.into_iter().map(|(frontend, spec)| (frontend, Arc::new(spec))).collect();
    let mut dataplane = dataplane();
    dataplane.restore(&Table { frontends, globals }).unwrap();
    Lab { one, two, outside, _dataplane: dataplane }
}

#[test]
fn clients_are_masqueraded_where_they_must_be_and_nowhere_else() {
    in_namespace(|| {
        let lab = lab();
        let ok = |source: &str| Ok(source.to_owned());
        // Cluster IPs: pods keep their address, strangers do not.
        assert_eq!(lab.one.connect("172.30.0.1:82"), ok("10.0.1.2"));
        assert_eq!(lab.outside.connect("172.30.0.1:82"), ok("10.0.2.1"));
        assert_eq!(connect("172.30.0.1:82"), ok("10.0.2.1"));
        // External addresses, policy Cluster: everybody is masqueraded.
        assert_eq!(lab.one.connect("1.2.3.4:80"), ok("10.0.2.1"));
        assert_eq!(lab.outside.connect("1.2.3.4:80"), ok("10.0.2.1"));
        // Policy Local: strangers keep their address and meet the outside pool; pods and the node meet the other.
        assert_eq!(lab.outside.connect("1.2.3.4:81"), ok("203.0.113.2"));
        assert_eq!(lab.outside.connect("192.168.0.1:30081"), ok("203.0.113.2"));
        assert_eq!(lab.one.connect("1.2.3.4:81"), ok("10.0.1.2"));
        assert_eq!(connect("1.2.3.4:81"), ok("10.0.2.1"));
        assert_eq!(lab.one.connect("192.168.0.1:30081"), ok("10.0.1.2"));
        // No local endpoint: silence for strangers only.
        assert_eq!(lab.outside.connect("1.2.3.4:82"), Err(ErrorKind::TimedOut));
        assert_eq!(lab.two.connect("172.30.0.1:81"), ok("10.0.2.2"));
        assert_eq!(lab.one.connect("1.2.3.4:82"), ok("10.0.1.2"));
    });
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    in_namespace(|| {
        let lab = lab();
        assert_eq!(lab.one.connect("172.30.0.1:81"), Ok("10.0.1.1".to_owned()));
        let mut seen: Vec<_> = (0..30).map(|_| lab.one.connect("172.30.0.1:80").unwrap()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, ["10.0.1.1", "10.0.1.2"], "itself through the node, the other pod directly");
    });
}
