//! Processes in cgroups, and what they see of the sockets they connect.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use shunt::kernel::probe::find_cgroup2;

use crate::fixtures::run;

/// A child of the cgroup v2 root, removed at the end with what is below it.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    pub(crate) fn new() -> Self {
        let unique = format!("shunt-ebpf-{}-{}", std::process::id(), nix::unistd::gettid());
        let path = find_cgroup2().unwrap().join(unique);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A cgroup below it.
    pub(crate) fn child(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fn remove(path: &Path) {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
            // Busy for a moment after its last process has ended.
            for _ in 0..50 {
                if fs::remove_dir(path).is_ok() {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        remove(&self.0);
    }
}

/// Tells the test binary, run again as the process in the cgroup, what to do: words separated by blanks.
const ORDER: &str = "SHUNT_TEST_SOCKET_ORDER";

/// Not a test of its own: what the process in the cgroup runs.
#[test]
fn process_in_the_cgroup() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let words: Vec<&str> = order.split(' ').collect();
    match obey(&words) {
        Ok(text) => println!("said: {text}"),
        Err(error) => println!("said: {error}"),
    }
}

fn obey(words: &[&str]) -> std::io::Result<String> {
    match words {
        // A pod has a network namespace of its own, in which the backend answers too.
        ["pod", rest @ ..] => {
            run("ip link set lo up");
            serve("127.0.0.7:8080", "pod");
            obey(rest)
        }
        ["tcp", to] => tcp(to.parse().unwrap()),
        ["udp", to] => udp(to.parse().unwrap()),
        ["unconnected", to @ ..] => unconnected(to),
        ["abandoned", to] => abandoned(to.parse().unwrap()),
        other => panic!("{other:?}"),
    }
}

fn socket(to: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(socket)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn tcp(to: SocketAddr) -> std::io::Result<String> {
    let mut buffer = [0; 100];
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
    let received = stream.read(&mut buffer)?;
    Ok(format!("{} {}", text(&buffer[..received]), stream.peer_addr()?))
}

fn udp(to: SocketAddr) -> std::io::Result<String> {
    let mut buffer = [0; 100];
    let socket = socket(to)?;
    socket.connect(to)?;
    socket.send(b"hello")?;
    let received = socket.recv(&mut buffer)?;
    Ok(format!("{} {}", text(&buffer[..received]), socket.peer_addr()?))
}

/// One socket to all of these, one after the other; who answers each.
fn unconnected(to: &[&str]) -> std::io::Result<String> {
    let mut buffer = [0; 100];
    let to: Vec<SocketAddr> = to.iter().map(|to| to.parse().unwrap()).collect();
    let socket = socket(to[0])?;
    let mut said = Vec::new();
    for to in to {
        socket.send_to(b"hello", to)?;
        let (received, from) = socket.recv_from(&mut buffer)?;
        said.push(format!("{} {from}", text(&buffer[..received])));
    }
    Ok(said.join(", "))
}

/// Is answered once, says so, and waits for what never comes.
fn abandoned(to: SocketAddr) -> std::io::Result<String> {
    let mut buffer = [0; 100];
    let socket = socket(to)?;
    socket.connect(to)?;
    socket.send(b"hello")?;
    socket.recv(&mut buffer)?;
    println!("answered");
    std::io::stdout().flush()?;
    socket.recv(&mut buffer).map(|received| text(&buffer[..received]))
}

/// Starts a process in a cgroup, in this thread's network namespace.
pub(crate) fn start(cgroup: &Path, order: &str) -> Child {
    // The whole process, as a pod's: threads of others' namespaces are nobody's business.
    let own = if order.starts_with("pod ") { "unshare --net" } else { "" };
    let join = format!("echo $$ > {}/cgroup.procs && exec {own} \"$@\"", cgroup.display());
    Command::new("sh")
        .args(["-c", &join, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "processes::process_in_the_cgroup", "--nocapture"])
        .env(ORDER, order)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the process says in the end.
pub(crate) fn last_word(process: Child) -> String {
    let output = process.wait_with_output().unwrap();
    let output = text(&output.stdout);
    let said = output.lines().find_map(|line| line.split_once("said: ").map(|(_, said)| said.to_owned()));
    said.unwrap_or_else(|| panic!("{output}"))
}

/// Has a process in a cgroup do something; what it says.
pub(crate) fn ask(cgroup: &Path, order: &str) -> String {
    last_word(start(cgroup, order))
}

/// Waits until the process has been answered.
pub(crate) fn wait_for_answer(process: &mut Child) {
    let lines = BufReader::new(process.stdout.as_mut().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line.ends_with("answered")), "not answered");
}

/// Answers on TCP and UDP, until the process ends.
pub(crate) fn serve(address: &str, name: &'static str) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A client that went away is none of this thread's business.
            let _gone = stream.write_all(name.as_bytes());
        }
    });
    let socket = UdpSocket::bind(address).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _gone = socket.send_to(name.as_bytes(), peer);
        }
    });
}
