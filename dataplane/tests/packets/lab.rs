//! A node with two pods on a bridge, an outsider on one link and another node's pod on a second, and the programs on all
//! interfaces. Strict `rp_filter`, and a firewall that drops what conntrack does not know.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, setns, unshare};
use shunt_abi::{
    config::ACCELERATE,
    interface::{ACCELERATES, BEGINS, BRIDGE_PORT, HANDS_OVER, InterfaceValue},
    name,
};

use crate::{packet::TCP, world::World};

/// Addresses of everybody, in one family.
pub(crate) struct Addresses {
    pub(crate) pod: &'static str,
    pub(crate) other_pod: &'static str,
    pub(crate) remote_pod: &'static str,
    pub(crate) node: &'static str,
    pub(crate) outsider: &'static str,
    pub(crate) cluster_ip: &'static str,
}

pub(crate) const FAMILIES: [Addresses; 2] = [
    Addresses {
        pod: "10.244.1.5",
        other_pod: "10.244.1.6",
        remote_pod: "10.244.2.7",
        node: "192.0.2.2",
        outsider: "192.0.2.9",
        cluster_ip: "10.96.0.10",
    },
    Addresses {
        pod: "[fd00:1::5]",
        other_pod: "[fd00:1::6]",
        remote_pod: "[fd00:2::7]",
        node: "[2001:db8:2::2]",
        outsider: "[2001:db8:2::9]",
        cluster_ip: "[fd00:96::10]",
    },
];

/// `{ns}` stands for a prefix of its own; the first word `node:` or a namespace says where.
const TOPOLOGY: &str = "
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1
sysctl -qw net.ipv4.conf.lo.accept_local=1
ip link add cni0 type bridge
ip link set cni0 up
ip addr add 10.244.1.1/24 dev cni0
ip addr add fd00:1::1/64 dev cni0 nodad
ip link add pod5 type veth peer name eth0 netns {ns}a
ip link add pod6 type veth peer name eth0 netns {ns}b
ip link set pod5 master cni0 up
ip link set pod6 master cni0 up
ip link add up0 type veth peer name eth0 netns {ns}out
ip link add up1 type veth peer name eth0 netns {ns}far
ip link set up0 up
ip link set up1 up
ip addr add 192.0.2.2/24 dev up0
ip addr add 2001:db8:2::2/64 dev up0 nodad
ip addr add 192.0.3.2/24 dev up1
ip addr add 2001:db8:3::2/64 dev up1 nodad
ip route add default via 192.0.2.9
ip route add default via 2001:db8:2::9
ip route add 10.244.2.0/24 via 192.0.3.9
ip route add fd00:2::/64 via 2001:db8:3::9
ip -n {ns}a link set lo up
ip -n {ns}a link set eth0 up
ip -n {ns}a addr add 10.244.1.5/24 dev eth0
ip -n {ns}a addr add fd00:1::5/64 dev eth0 nodad
ip -n {ns}a route add default via 10.244.1.1
ip -n {ns}a route add default via fd00:1::1
ip -n {ns}b link set lo up
ip -n {ns}b link set eth0 up
ip -n {ns}b addr add 10.244.1.6/24 dev eth0
ip -n {ns}b addr add fd00:1::6/64 dev eth0 nodad
ip -n {ns}b route add default via 10.244.1.1
ip -n {ns}b route add default via fd00:1::1
ip -n {ns}out link set lo up
ip -n {ns}out link set eth0 up
ip -n {ns}out addr add 192.0.2.9/24 dev eth0
ip -n {ns}out addr add 2001:db8:2::9/64 dev eth0 nodad
ip -n {ns}out route add 10.96.0.0/16 via 192.0.2.2
ip -n {ns}out route add fd00:96::/64 via 2001:db8:2::2
ip -n {ns}far link set lo up
ip -n {ns}far link set eth0 up
ip -n {ns}far addr add 192.0.3.9/24 dev eth0
ip -n {ns}far addr add 2001:db8:3::9/64 dev eth0 nodad
ip -n {ns}far addr add 10.244.2.7/32 dev lo
ip -n {ns}far addr add fd00:2::7/128 dev lo nodad
ip -n {ns}far route add 10.244.1.0/24 via 192.0.3.2
ip -n {ns}far route add fd00:1::/64 via 2001:db8:3::2
ip -n {ns}far route add 192.0.2.2/32 via 192.0.3.2
ip -n {ns}far route add 2001:db8:2::2/128 via 2001:db8:3::2
";

const FIREWALL: &str = "
table inet firewall {
  chain incoming { type filter hook input priority 0; ct state invalid counter drop; }
  chain outgoing { type filter hook output priority 0; ct state invalid counter drop; }
  chain passing { type filter hook forward priority 0; ct state invalid counter drop; }
  chain masquerading { type nat hook postrouting priority 100; meta mark & 0x4000 != 0 masquerade fully-random; }
  chain cleaning { type filter hook postrouting priority 101; meta mark & 0x4000 != 0 meta mark set meta mark & 0xffffbfff; }
}
";

/// Namespaces that go away at the end.
struct Namespaces(String);

impl Drop for Namespaces {
    fn drop(&mut self) {
        for role in ["a", "b", "out", "far"] {
            Command::new("ip").args(["netns", "del", &format!("{}{role}", self.0)]).output().unwrap();
        }
    }
}

/// Where something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Node,
    Pod,
    OtherPod,
    Outsider,
    Remote,
}

/// The lab; it exists in the thread that made it.
pub(crate) struct Lab {
    pub(crate) world: World,
    namespaces: Namespaces,
    own: File,
}

/// Port on which everybody answers.
pub(crate) const PORT: u16 = 8080;

fn run(command: &str) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Builds the lab in a thread of its own and runs `body` in it.
pub(crate) fn in_lab(body: impl FnOnce(&mut Lab) + Send) {
    in_lab_with(Acceleration::Off, body);
}

/// How packets between interfaces of the node go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acceleration {
    /// Through its stack.
    Off,
    /// Past it, to the neighbour.
    ToNeighbours,
    /// Past it, into pods.
    IntoPods,
}

/// The same, and whether flows are accelerated.
pub(crate) fn in_lab_with(acceleration: Acceleration, body: impl FnOnce(&mut Lab) + Send) {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
            body(&mut Lab::new(acceleration));
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

impl Lab {
    fn new(acceleration: Acceleration) -> Self {
        let prefix = format!("shpk{}x{}", std::process::id(), nix::unistd::gettid());
        let namespaces = Namespaces(prefix.clone());
        for role in ["a", "b", "out", "far"] {
            run(&format!("ip netns add {prefix}{role}"));
        }
        for line in TOPOLOGY.trim().lines() {
            run(&line.replace("{ns}", &prefix));
        }
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(FIREWALL.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success());
        let own = File::open("/proc/thread-self/ns/net").unwrap();
        let mut lab = Self { world: World::new(), namespaces, own };
        lab.attach(acceleration);
        for place in [Place::Node, Place::Pod, Place::OtherPod, Place::Outsider, Place::Remote] {
            lab.within(place, || serve(place));
        }
        for (place, addresses) in [
            (Place::Node, ["192.0.2.2", "2001:db8:2::2"]),
            (Place::Pod, ["10.244.1.5", "fd00:1::5"]),
            (Place::OtherPod, ["10.244.1.6", "fd00:1::6"]),
            (Place::Remote, ["10.244.2.7", "fd00:2::7"]),
        ] {
            for address in addresses {
                lab.within(place, || serve_datagrams(place, address.parse().unwrap()));
            }
        }
        lab
    }

    fn attach(&mut self, acceleration: Acceleration) {
        let bridge = hardware_address("cni0");
        let bridge_index = nix::net::if_::if_nametoindex("cni0").unwrap();
        let (mut here, mut into_pods) = (0, 0);
        let mut ingress = name::INGRESS_PROGRAM;
        if acceleration != Acceleration::Off {
            self.world.configure(|config| config.flags |= ACCELERATE);
            here = ACCELERATES | BEGINS;
            into_pods = if acceleration == Acceleration::IntoPods { HANDS_OVER } else { 0 };
            ingress = name::ACCELERATED_INGRESS_PROGRAM;
            let value = InterfaceValue {
                flags: here,
                address: bridge,
                upper: bridge_index,
                ..InterfaceValue::default()
            };
            self.world.interface(bridge_index, value);
        }
        for interface in ["lo", "pod5", "pod6", "up0", "up1"] {
            self.world.attach(ingress, interface, true);
            self.world.attach(name::EGRESS_PROGRAM, interface, false);
            let index = nix::net::if_::if_nametoindex(interface).unwrap();
            let value = if interface.starts_with("pod") {
                InterfaceValue {
                    flags: BRIDGE_PORT | here | into_pods,
                    address: bridge,
                    upper: bridge_index,
                    ..InterfaceValue::default()
                }
            } else {
                InterfaceValue {
                    flags: if interface == "lo" { 0 } else { here },
                    address: hardware_address(interface),
                    upper: index,
                    ..InterfaceValue::default()
                }
            };
            self.world.interface(index, value);
        }
        for address in ["192.0.2.2", "192.0.3.2", "10.244.1.1", "2001:db8:2::2", "2001:db8:3::2", "fd00:1::1"]
        {
            self.world.node_address(address);
        }
    }

    /// Lets packets between the outsider and the first pod be as long as packets can be.
    pub(crate) fn widen(&self) {
        let prefix = &self.namespaces.0;
        for link in ["up0", "pod5", "pod6", "cni0"] {
            run(&format!("ip link set {link} mtu 65535"));
        }
        for role in ["a", "out"] {
            run(&format!("ip -n {prefix}{role} link set eth0 mtu 65535"));
        }
    }

    /// Runs `body` somewhere else, in a thread.
    pub(crate) fn within<T: Send>(&self, place: Place, body: impl FnOnce() -> T + Send) -> T {
        let file = match place {
            Place::Node => self.own.try_clone().unwrap(),
            Place::Pod => self.open("a"),
            Place::OtherPod => self.open("b"),
            Place::Outsider => self.open("out"),
            Place::Remote => self.open("far"),
        };
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                body()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn open(&self, role: &str) -> File {
        File::open(format!("/run/netns/{}{role}", self.namespaces.0)).unwrap()
    }

    /// Exchanges data with `to`; who answered, and the client's address as that saw it.
    pub(crate) fn ask(
        &self,
        place: Place,
        protocol: u8,
        to: SocketAddr,
    ) -> Result<(String, SocketAddr), String> {
        // IPv6 routers do not cut packets up, and the kernel learns no path for its own addresses: a datagram that only
        // the loopback interface is wide enough for does not get through (socket load balancing sends none there).
        let own = place == Place::Node
            && to.ip() == FAMILIES[1].node.trim_matches(['[', ']']).parse::<IpAddr>().unwrap();
        let lengths: &[usize] = if own { &[4, 4, 4] } else { &[4, 4, 4, 4000, 4000] };
        let ask = || if protocol == TCP { ask_tcp(to) } else { ask_udp(to, lengths) };
        self.within(place, || ask().map_err(|error| error.to_string()))
    }
}

pub(crate) fn hardware_address(interface: &str) -> [u8; 6] {
    // sysfs is that of another namespace.
    let output = Command::new("ip").args(["-o", "link", "show", interface]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let address = text.split("link/").nth(1).unwrap().split_once(' ').unwrap().1.split(' ').next().unwrap();
    let bytes: Vec<u8> = address.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// More than one segment, both ways.
const BULK: usize = 200_000;

/// Answers on TCP for as long as the process lives.
fn serve(place: Place) {
    let listener = TcpListener::bind(("::", PORT)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, place));
        }
    });
}

/// Answers on UDP, from the address that was asked, for as long as the process lives.
fn serve_datagrams(place: Place, address: IpAddr) {
    let socket = UdpSocket::bind((address, PORT)).unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            // An answer that cannot be sent shows at who waits for it.
            let _lost = socket.send_to(format!("{place:?} {}", plain(peer)).as_bytes(), peer);
        }
    });
}

fn plain(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

fn answer(mut stream: TcpStream, place: Place) -> Option<()> {
    let peer = stream.peer_addr().ok()?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received).ok()?;
    let text = format!("{place:?} {} {}\n", plain(peer), received.len());
    stream.write_all(text.as_bytes()).ok()?;
    stream.write_all(&vec![b'x'; BULK]).ok()
}

fn ask_tcp(to: SocketAddr) -> std::io::Result<(String, SocketAddr)> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    assert_eq!(stream.peer_addr()?, to);
    stream.write_all(&vec![b'y'; BULK])?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (line, rest) = text.split_once('\n').unwrap_or_default();
    let words: Vec<_> = line.split(' ').collect();
    assert_eq!((words.get(2).copied(), rest.len()), (Some("200000"), BULK));
    Ok((words[0].to_owned(), words[1].parse().unwrap()))
}

fn ask_udp(to: SocketAddr, lengths: &[usize]) -> std::io::Result<(String, SocketAddr)> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(Duration::from_millis(700)))?;
    socket.connect(to)?;
    let mut buffer = [0; 200];
    let mut last = String::new();
    // The second packet establishes the flow; the last ones are fragments.
    for length in lengths {
        let received = exchange(&socket, *length, &mut buffer)?;
        last = String::from_utf8_lossy(&buffer[..received]).into_owned();
    }
    let (who, peer) = last.split_once(' ').unwrap_or_default();
    Ok((who.to_owned(), peer.parse().unwrap()))
}

/// One answer to a datagram. One that is too long for the path may be lost, and then be too long for the kernel, until
/// that knows the path.
fn exchange(socket: &UdpSocket, length: usize, buffer: &mut [u8]) -> std::io::Result<usize> {
    let once = |buffer: &mut [u8]| socket.send(&vec![1; length]).and_then(|_| socket.recv(buffer));
    match once(buffer) {
        Err(_) if length > 1400 => once(buffer).or_else(|_| once(buffer)),
        other => other,
    }
}

/// Keeps a debugging aid close: what the firewall has counted.
pub(crate) fn firewall_counts() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack")
        .map(|stat| format!("{text}{stat}"))
        .unwrap_or(text)
}
