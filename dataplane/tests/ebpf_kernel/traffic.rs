//! A client and a server in namespaces of their own, and connections between them that never stop.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::fixtures::{Pod, run};

/// Nothing that works takes so long.
const FOREVER: Duration = Duration::from_secs(20);
/// Connections that last for the whole test.
const LASTING: usize = 20;

/// Client 10.1.0.2, server 10.2.0.2 with the ports that were asked for, and this namespace routing between them.
pub(crate) struct Lab {
    pub(crate) client: Pod,
    _server: Pod,
}

impl Lab {
    pub(crate) fn new(ports: &'static [u16]) -> Self {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let (client, server) = (Pod::new(), Pod::new());
        client.connect("client0", "10.1.0");
        server.connect("server0", "10.2.0");
        for port in ports {
            server.spawn(move || serve(*port)).join().unwrap();
        }
        Self { client, _server: server }
    }

    /// Connections that last, and others that come and go, from now until they are asked how they were.
    pub(crate) fn keep_talking(&self, to: &str) -> Talk {
        let to: SocketAddr = to.parse().unwrap();
        let talk = Arc::new(Shared::default());
        let job = Arc::clone(&talk);
        let thread = self.client.spawn(move || talk_until_the_end(to, &job));
        while talk.rounds.load(Ordering::Relaxed) < 3 {
            assert!(!thread.is_finished(), "connections fail from the start: {:?}", thread.join());
            std::thread::sleep(Duration::from_millis(1));
        }
        Talk { shared: talk, thread }
    }
}

#[derive(Debug, Default)]
struct Shared {
    ends: AtomicBool,
    /// How often every lasting connection was used and another one was made.
    rounds: AtomicU64,
}

/// Connections under way.
pub(crate) struct Talk {
    shared: Arc<Shared>,
    thread: JoinHandle<u64>,
}

impl Talk {
    /// Waits until some more connections were made.
    pub(crate) fn go_on(&self) {
        let before = self.shared.rounds.load(Ordering::Relaxed);
        while self.shared.rounds.load(Ordering::Relaxed) < before + 5 && !self.thread.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends all. Fails if one of them failed, or had to ask twice for its connection.
    pub(crate) fn end(self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        let asked_twice = self.thread.join().unwrap();
        assert_eq!(asked_twice, 0, "requests for connections that were lost");
    }
}

/// Requests for connections that had to be sent again.
fn talk_until_the_end(to: SocketAddr, shared: &Shared) -> u64 {
    let mut lasting: Vec<TcpStream> = (0..LASTING).map(|_| open(to)).collect();
    let datagrams = UdpSocket::bind("0.0.0.0:0").unwrap();
    datagrams.connect(to).unwrap();
    datagrams.set_read_timeout(Some(FOREVER)).unwrap();
    while !shared.ends.load(Ordering::Relaxed) {
        lasting.iter_mut().for_each(exchange);
        exchange(&mut open(to));
        datagrams.send(b"ping").unwrap();
        assert_eq!(datagrams.recv(&mut [0; 8]).unwrap(), 4);
        shared.rounds.fetch_add(1, Ordering::Relaxed);
    }
    repeated_requests()
}

/// A connection that works.
pub(crate) fn open(to: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&to, FOREVER).expect("a new connection");
    stream.set_read_timeout(Some(FOREVER)).unwrap();
    stream.set_nodelay(true).unwrap();
    exchange(&mut stream);
    stream
}

/// Sends something and waits for it to come back.
pub(crate) fn exchange(stream: &mut TcpStream) {
    assert_eq!(ask(stream)[..4], *b"ping");
}

/// The port of the server that answers.
pub(crate) fn answering_port(to: SocketAddr) -> u16 {
    let answer = ask(&mut open(to));
    u16::from_be_bytes([answer[4], answer[5]])
}

fn ask(stream: &mut TcpStream) -> [u8; 6] {
    let mut answer = [0; 6];
    stream.write_all(b"ping").unwrap();
    stream.read_exact(&mut answer).expect("an answer on a connection that is there");
    answer
}

/// Answers on the port with what it was sent and the port.
fn serve(port: u16) {
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
    let datagrams = UdpSocket::bind(("0.0.0.0", port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut words = [0; 4];
                while stream.read_exact(&mut words).is_ok() {
                    let [high, low] = port.to_be_bytes();
                    let [a, b, c, d] = words;
                    if stream.write_all(&[a, b, c, d, high, low]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    std::thread::spawn(move || {
        let mut words = [0; 8];
        while let Ok((length, from)) = datagrams.recv_from(&mut words) {
            datagrams.send_to(&words[..length], from).unwrap();
        }
    });
}

/// `TCPSynRetrans` of this namespace.
fn repeated_requests() -> u64 {
    let text = run("cat /proc/thread-self/net/netstat");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let (names, values) = (&lines[0], &lines[1]);
    let place = names.iter().position(|name| *name == "TCPSynRetrans").unwrap();
    values[place].parse().unwrap()
}
