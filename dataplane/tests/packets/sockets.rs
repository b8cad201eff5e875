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

use shunt::kernel::probe::find_cgroup2;
use shunt_abi::{
    config::{COUNT_SERVICES, SOCKETS_HOST_ONLY},
    frontend::{FrontendValue, INSIDE_REJECT, INTERNAL, RANGES},
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

/// Tells the test, run again as the process in the cgroup, what to do: `tcp`, `udp` or `unconnected`, and an address.
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

/// Not a test of its own: what the process in the cgroup runs.
#[test]
fn process_in_the_cgroup() {
    if let Ok(order) = std::env::var(ORDER) {
        let (kind, to) = order.split_once(' ').unwrap();
        match report(kind, to.parse().unwrap()) {
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
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            for address in ["127.0.0.7:8080", "[::1]:8080"] {
                serve(address);
            }
            let (mut world, cgroup) = (World::new(), Cgroup::new());
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
