//! Socket load balancing: real sockets of a process in a cgroup of its own.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::Command,
    thread,
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use shunt::kernel::probe::find_cgroup2;
use shunt_abi::{
    address::{word, words},
    config::{COUNT_SERVICES, PODS_BY_RANGE, Range4, Range6, SOCKETS_HOST_ONLY},
    frontend::{FrontendValue, INSIDE_REJECT, INTERNAL, RANGES, SPLIT},
    name,
};

use crate::{
    packet::{TCP, UDP},
    world::World,
};

/// A child of the cgroup v2 root, removed at the end.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        let unique = format!("shunt-packets-{}-{}", std::process::id(), nix::unistd::gettid());
        let path = find_cgroup2().unwrap().join(unique);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..50 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Tells the test, run again as the process in the cgroup, what to do: `tcp`, `udp` or `unconnected` and an address, or
/// another of the orders in [`obey`].
const ORDER: &str = "SHUNT_TEST_SOCKET_ORDER";

/// What the process says: who answered, and who it believes it talked to.
fn report(kind: &str, to: SocketAddr) -> std::io::Result<String> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let mut buffer = [0; 100];
    if kind == "tcp" {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        let received = stream.read(&mut buffer)?;
        return Ok(format!("{} {}", String::from_utf8_lossy(&buffer[..received]), stream.peer_addr()?));
    }
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    if kind == "udp" {
        socket.connect(to)?;
        socket.send(b"hello")?;
        let received = socket.recv(&mut buffer)?;
        return Ok(format!("{} {}", String::from_utf8_lossy(&buffer[..received]), socket.peer_addr()?));
    }
    // Twice: the second datagram goes to the same backend.
    socket.send_to(b"hello", to)?;
    socket.recv_from(&mut buffer)?;
    socket.send_to(b"hello", to)?;
    let (received, from) = socket.recv_from(&mut buffer)?;
    Ok(format!("{} {from}", String::from_utf8_lossy(&buffer[..received])))
}

fn datagram_socket(to: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    Ok(socket)
}

/// Sends, and reads the answer with its sender.
fn sender_of_answer(socket: &UdpSocket) -> std::io::Result<SocketAddr> {
    socket.send(b"hello")?;
    Ok(socket.recv_from(&mut [0; 100])?.1)
}

/// One socket connected to all of these, one after the other, while an answer of the one before waits: its peers, and who
/// the answers are from.
fn anew(to: &[SocketAddr]) -> std::io::Result<String> {
    let socket = datagram_socket(to[0])?;
    let mut buffer = [0; 100];
    let (mut peers, mut senders) = (Vec::new(), Vec::new());
    for (index, to) in to.iter().enumerate() {
        socket.connect(to)?;
        peers.push(format!("peer {}", socket.peer_addr()?));
        if index > 0 {
            senders.push(format!("from {}", socket.recv_from(&mut buffer)?.1));
        }
        socket.send(b"hello")?;
        socket.peek(&mut buffer)?;
    }
    senders.push(format!("from {}", socket.recv_from(&mut buffer)?.1));
    peers.extend(senders);
    Ok(peers.join(", "))
}

/// A stream that is refused at the first address and then connected to the second: its peer.
fn refused(to: &[SocketAddr]) -> std::io::Result<String> {
    let socket = Socket::new(Domain::for_address(to[0]), Type::STREAM, None)?;
    let refusal = socket.connect(&to[0].into()).unwrap_err();
    socket.connect(&to[1].into())?;
    Ok(format!("{:?}, then {}", refusal.kind(), socket.peer_addr()?.as_socket().unwrap()))
}

/// A stream that has been connected for a while and asks for its peer, before and after others are connected.
fn asking_stream(to: &[SocketAddr]) -> std::io::Result<String> {
    let first = TcpStream::connect(to[0])?;
    thread::sleep(Duration::from_secs(2));
    let before = first.peer_addr()?;
    let _others: Vec<_> = to.iter().map(TcpStream::connect).collect::<Result<_, _>>()?;
    Ok(format!("{before}, then {}", first.peer_addr()?))
}

/// Streams to all of these, one after the other and all open: their peers in the end.
fn streams(to: &[SocketAddr]) -> std::io::Result<String> {
    let streams: Vec<_> = to.iter().map(TcpStream::connect).collect::<Result<_, _>>()?;
    let peers = streams.iter().map(|stream| stream.peer_addr().map(|peer| peer.to_string()));
    Ok(peers.collect::<std::io::Result<Vec<_>>>()?.join(", "))
}

/// A socket that has been connected for a while and asks who sends its datagrams, before and after others are connected.
fn asking(to: &[SocketAddr]) -> std::io::Result<String> {
    let first = datagram_socket(to[0])?;
    first.connect(to[0])?;
    // Who asks at once only is not taken to ask again.
    thread::sleep(Duration::from_secs(2));
    let before = sender_of_answer(&first)?;
    let mut others = Vec::new();
    for to in to {
        let other = datagram_socket(*to)?;
        other.connect(to)?;
        others.push(other);
    }
    Ok(format!("{before}, then {}", sender_of_answer(&first)?))
}

fn obey(kind: &str, to: &[SocketAddr]) -> std::io::Result<String> {
    match kind {
        "anew" => anew(to),
        "refused" => refused(to),
        "streams" => streams(to),
        "asking" => asking(to),
        "asking-stream" => asking_stream(to),
        kind => report(kind, to[0]),
    }
}

/// Not a test of its own: what the process in the cgroup runs.
#[test]
fn process_in_the_cgroup() {
    if let Ok(order) = std::env::var(ORDER) {
        let (kind, to) = order.split_once(' ').unwrap();
        let to: Vec<SocketAddr> = to.split(' ').map(|to| to.parse().unwrap()).collect();
        match obey(kind, &to) {
            Ok(text) => println!("said: {text}"),
            Err(error) => println!("said: {error}"),
        }
    }
}

pub(crate) fn ask(cgroup: &Cgroup, kind: &str, to: &str) -> String {
    let join = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", cgroup.0.display());
    let output = Command::new("sh")
        .args(["-c", &join, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "sockets::process_in_the_cgroup", "--nocapture"])
        .env(ORDER, format!("{kind} {to}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.lines().find_map(|line| line.split_once("said: ").map(|(_, said)| said.to_owned()));
    said.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Listens on loopback addresses of a namespace of its own, with the programs attached to a cgroup.
pub(crate) fn in_world(body: impl FnOnce(&mut World, &Cgroup) + Send) {
    in_world_with(&[], body);
}

/// The same with maps of other capacities.
fn in_world_with(capacities: &[(&'static str, u32)], body: impl FnOnce(&mut World, &Cgroup) + Send) {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            for address in ["127.0.0.7:8080", "[::1]:8080"] {
                serve(address);
            }
            for (_, backend, plain) in OTHERS {
                serve(backend);
                serve(plain);
            }
            let (mut world, cgroup) = (World::with_capacities(capacities), Cgroup::new());
            for program in name::SOCKET_PROGRAMS {
                world.attach_to_cgroup(program, &File::open(&cgroup.0).unwrap());
            }
            body(&mut world, &cgroup);
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn serve(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A client that went away is none of this thread's business.
            let _gone = stream.write_all(b"backend");
        }
    });
    let socket = UdpSocket::bind(address).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _gone = socket.send_to(b"backend", peer);
        }
    });
}

/// (frontend, backend) in both families.
pub(crate) const FAMILIES: [(&str, &str); 2] =
    [("10.96.0.10:80", "127.0.0.7:8080"), ("[fd00:96::10]:80", "[::1]:8080")];

#[test]
fn every_kind_of_socket_talks_to_a_backend_and_sees_the_frontend() {
    in_world(|world, cgroup| {
        world.configure(|config| config.flags |= COUNT_SERVICES);
        for (frontend, backend) in FAMILIES {
            for protocol in [TCP, UDP] {
                world.service(frontend, protocol, &[backend]);
            }
            for kind in ["tcp", "udp", "unconnected"] {
                assert_eq!(ask(cgroup, kind, frontend), format!("backend {frontend}"), "{kind}");
            }
        }
        let counts = world.counts();
        assert_eq!((counts["socket_connect"], counts["socket_send"]), (4, 4));
        for (tcp, udp) in [(1, 2), (3, 4)] {
            let flows = [tcp, udp].map(|service| world.traffic(service).flows);
            assert_eq!(flows, [1, 2], "a datagram of a socket that has sent before begins nothing");
        }
    });
}

#[test]
fn an_ipv6_socket_reaches_an_ipv4_frontend() {
    in_world(|world, cgroup| {
        let (frontend, backend) = FAMILIES[0];
        world.service(frontend, TCP, &[backend]);
        let mapped = "[::ffff:10.96.0.10]:80";
        assert_eq!(ask(cgroup, "tcp", mapped), format!("backend {mapped}"));
    });
}

#[test]
fn a_socket_to_what_nobody_serves_is_refused() {
    in_world(|world, cgroup| {
        for (frontend, _) in FAMILIES {
            for (protocol, kind) in [(TCP, "tcp"), (UDP, "udp"), (UDP, "unconnected")] {
                let value =
                    FrontendValue { flags: INTERNAL | INSIDE_REJECT, service: 1, ..FrontendValue::default() };
                world.frontend(frontend, protocol, value);
                let said = ask(cgroup, kind, frontend);
                assert!(said.contains("Connection refused"), "{kind} {frontend}: {said}");
            }
        }
    });
}

#[test]
fn sockets_are_left_alone_where_the_client_address_matters_or_the_namespace_is_not_the_hosts() {
    in_world(|world, cgroup| {
        let (frontend, backend) = FAMILIES[0];
        world.service_with(frontend, TCP, &[backend], 0, RANGES);
        assert!(ask(cgroup, "tcp", frontend).contains("unreachable"));
        world.service_with(frontend, TCP, &[backend], 0, INTERNAL);
        world.configure(|config| {
            config.flags |= SOCKETS_HOST_ONLY;
            config.host_netns_cookie = 1;
        });
        assert!(ask(cgroup, "tcp", frontend).contains("unreachable"));
        assert!(!world.counts().contains_key("socket_connect"));
    });
}

#[test]
fn pods_sockets_have_the_policy_of_clients_outside_where_pods_of_the_family_are_not_known() {
    let ten = Range4 { network: word("10.0.0.0".parse().unwrap()), mask: word("255.0.0.0".parse().unwrap()) };
    let local = Range6 { network: words("fd00::".parse().unwrap()), mask: words("ffff::".parse().unwrap()) };
    in_world(|world, cgroup| {
        for (frontend, backend) in FAMILIES {
            world.service_with(frontend, TCP, &[backend], 0, SPLIT);
        }
        for (pods4, pods6, known) in
            [(ten, Range6::NONE, [true, false]), (Range4::NONE, local, [false, true])]
        {
            world.configure(|config| {
                config.flags |= PODS_BY_RANGE;
                config.host_netns_cookie = 1;
                config.pods4[0] = pods4;
                config.pods6[0] = pods6;
            });
            for ((frontend, _), is_known) in FAMILIES.into_iter().zip(known) {
                let said = ask(cgroup, "tcp", frontend);
                assert_eq!(said == format!("backend {frontend}"), is_known, "{said}");
                assert_eq!(said.contains("unreachable"), !is_known, "left to the packet programs: {said}");
            }
        }
    });
}

/// Other frontends with their backends, and an address of no Service.
const OTHERS: [(&str, &str, &str); 2] =
    [("10.96.0.11:80", "127.0.0.8:8080", "127.0.0.9:8080"), ("[fd00:96::11]:80", "[::1]:8081", "[::1]:8082")];

/// A Service of each family, of that protocol, besides the first ones.
fn add_services(world: &mut World, protocol: u8) {
    for ((frontend, backend), (other, other_backend, _)) in FAMILIES.into_iter().zip(OTHERS) {
        world.service(frontend, protocol, &[backend]);
        world.service(other, protocol, &[other_backend]);
    }
}

#[test]
fn a_socket_that_is_connected_anew_sees_its_present_peer_and_who_sent_what_waits() {
    in_world(|world, cgroup| {
        add_services(world, UDP);
        for ((frontend, _), (other, _, plain)) in FAMILIES.into_iter().zip(OTHERS) {
            let said = ask(cgroup, "anew", &format!("{frontend} {other} {plain} {frontend}"));
            let seen =
                |what: &str| [frontend, other, plain, frontend].map(|at| format!("{what} {at}")).join(", ");
            assert_eq!(said, format!("{}, {}", seen("peer"), seen("from")));
        }
        let [mapped, other, plain] = ["10.96.0.10:80", "10.96.0.11:80", "127.0.0.9:8080"]
            .map(|at| format!("[::ffff:{}", at.replace(':', "]:")));
        let said = ask(cgroup, "anew", &format!("{mapped} {other} {plain}"));
        let peers = format!("peer {mapped}, peer {other}, peer {plain}");
        assert_eq!(said, format!("{peers}, {}", peers.replace("peer", "from")));
    });
}

#[test]
fn a_stream_that_was_refused_once_sees_what_it_is_connected_to_in_the_end() {
    in_world(|world, cgroup| {
        add_services(world, TCP);
        for ((frontend, _), (_, _, plain)) in FAMILIES.into_iter().zip(OTHERS) {
            let dead = frontend.replace(":80", ":81");
            let nobody = plain.rsplit_once(':').unwrap().0;
            world.service(&dead, TCP, &[&format!("{nobody}:9")]);
            for end in [frontend, plain] {
                let said = ask(cgroup, "refused", &format!("{dead} {end}"));
                assert_eq!(said, format!("ConnectionRefused, then {end}"));
            }
        }
    });
}

#[test]
fn a_later_socket_takes_the_place_of_an_earlier_one_and_never_its_frontend() {
    in_world_with(&[(name::PEERS, 1)], |world, cgroup| {
        add_services(world, TCP);
        for ((frontend, backend), (other, other_backend, _)) in FAMILIES.into_iter().zip(OTHERS) {
            let said = ask(cgroup, "streams", &[frontend, other, frontend].join(" "));
            assert_eq!(said, [backend, other_backend, frontend].join(", "));
        }
    });
}

#[test]
fn a_socket_that_keeps_asking_is_told_the_frontend_also_when_its_place_is_gone() {
    in_world_with(&[(name::PEERS, 1)], |world, cgroup| {
        for (protocol, kind) in [(UDP, "asking"), (TCP, "asking-stream")] {
            add_services(world, protocol);
            let (frontend, other) = (FAMILIES[0].0, OTHERS[0].0);
            let said = ask(cgroup, kind, &[frontend, other, frontend].join(" "));
            assert_eq!(said, format!("{frontend}, then {frontend}"), "{kind}");
        }
    });
}
