//! The kernel probe on the real kernel. Needs root (`CAP_BPF`, `CAP_NET_ADMIN`, `CAP_SYS_ADMIN`) and `ip`; without
//! them these tests fail.

use std::{
    error::Error,
    fs::{self, File},
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use nix::sched::{CloneFlags, unshare};
use shunt::kernel::probe::{
    ConnectProbeProgram, Direction, Need, PacketProbe, ProbeOptions, SamplePacket, find_cgroup2, probe_kernel,
};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// A child of the cgroup v2 root, removed at the end.
struct ChildCgroup(PathBuf);

impl ChildCgroup {
    fn new(name: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let path = find_cgroup2()?.join(format!("shunt-test-{name}-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ChildCgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).unwrap_or_else(|error| {
            // Not a panic: another one may be under way.
            writeln!(io::stderr(), "cannot remove {}: {error}", self.0.display()).unwrap_or_default();
        });
    }
}

/// Runs `body` on a thread with a network namespace of its own, which goes away with the thread.
fn in_new_netns(body: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        body()
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn ip(arguments: &str) -> Outcome {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

fn is_bpf_file_system() -> bool {
    fs::read_to_string("/proc/self/mounts")
        .unwrap_or_default()
        .lines()
        .any(|line| line.split(' ').nth(1) == Some("/sys/fs/bpf") && line.split(' ').nth(2) == Some("bpf"))
}

/// tcx came with Linux 6.6.
fn kernel_has_tcx() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(6))
}

#[test]
fn what_the_kernel_offers_is_found_feature_by_feature() -> Outcome {
    let cgroup = ChildCgroup::new("probe")?;
    let report = probe_kernel(&ProbeOptions {
        cgroup: Some(cgroup.path().to_owned()),
        bpffs: Some("/sys/fs/bpf".into()),
        ..ProbeOptions::default()
    });
    assert!(report.features.len() > 17, "{report:#?}");
    for feature in &report.features {
        let expected = match feature.name {
            "tcx link" => kernel_has_tcx(),
            "BPF file system" => is_bpf_file_system(),
            _ => true,
        };
        assert_eq!(feature.available, expected, "{}: {}", feature.name, feature.detail);
    }
    assert_eq!(report.supports(Need::Datapath), is_bpf_file_system());
    assert!(report.supports(Need::SocketLb) && report.supports(Need::Acceleration));
    Ok(())
}

#[test]
fn a_cgroup_that_does_not_exist_is_named_in_the_report() {
    let report =
        probe_kernel(&ProbeOptions { cgroup: Some("/nowhere/at-all".into()), ..ProbeOptions::default() });
    assert!(!report.supports(Need::SocketLb));
    assert!(report.summary(Need::SocketLb).contains("/nowhere/at-all"), "{}", report.summary(Need::SocketLb));
}

#[test]
fn an_interface_that_does_not_exist_makes_the_link_unavailable() {
    let options = ProbeOptions { interface: Some("shunt-none".into()), ..ProbeOptions::default() };
    let report = probe_kernel(&options);
    let link = report.features.iter().find(|feature| feature.name == "tcx link").unwrap();
    assert!(!link.available, "{}", link.detail);
    // What takes its place was tried in its stead, and stands in for it.
    let packets = report.features.iter().find(|feature| feature.name == "programs on packets").unwrap();
    assert_eq!((packets.available, packets.detail.as_str()), (true, "by a clsact filter"));
    assert!(report.supports(Need::Datapath));
    assert!(report.summary(Need::Datapath).contains("clsact"), "{}", report.summary(Need::Datapath));
}

#[test]
fn a_folder_without_bpf_file_system_is_named_and_stops_the_datapath() {
    let folder = tempfile::tempdir().unwrap();
    let options = ProbeOptions { bpffs: Some(folder.path().to_owned()), ..ProbeOptions::default() };
    let report = probe_kernel(&options);
    assert!(!report.supports(Need::Datapath));
    let summary = report.summary(Need::Datapath);
    assert!(summary.contains(&folder.path().display().to_string()), "{summary}");
}

#[test]
fn facts_of_a_packet_are_recorded_where_the_agent_reads_them_without_a_system_call() -> Outcome {
    let mut probe = PacketProbe::load()?;
    let facts = probe.run(&SamplePacket::tcp4().with_gso(1000, 3))?;
    assert_eq!((facts.packets, facts.gso_size, facts.gso_segs, facts.network_offset), (1, 1000, 3, 14));
    let facts = probe.run(&SamplePacket::tcp6())?;
    assert_eq!((facts.packets, facts.protocol, facts.length), (2, 0x86dd, 74));
    assert_eq!(probe.facts(), facts);
    Ok(())
}

#[test]
fn loopback_packets_have_an_ethernet_header() -> Outcome {
    in_new_netns(|| {
        ip("link set lo up")?;
        let mut probe = PacketProbe::load()?;
        probe.attach("lo", Direction::Ingress)?;
        UdpSocket::bind("127.0.0.1:0")?.send_to(b"hello", "127.0.0.1:9")?;
        let facts = probe.facts();
        assert!(facts.packets >= 1);
        assert_eq!((facts.network_offset, facts.protocol, facts.ifindex), (14, 0x0800, 1));
        Ok(())
    })
}

#[test]
fn packets_of_a_tunnel_start_with_the_ip_header() -> Outcome {
    in_new_netns(|| {
        ip("tuntap add mode tun tun7")?;
        ip("addr add 192.0.2.1/24 dev tun7")?;
        ip("link set tun7 up")?;
        let mut probe = PacketProbe::load()?;
        let link = probe.attach("tun7", Direction::Egress)?;
        UdpSocket::bind("192.0.2.1:0")?.send_to(b"hello", "192.0.2.2:9")?;
        let facts = probe.facts();
        assert_eq!((facts.packets, facts.network_offset, facts.length), (1, 0, 20 + 8 + 5));
        assert!(facts.fib_result >= 0, "{facts:?}");

        probe.detach(link)?;
        UdpSocket::bind("192.0.2.1:0")?.send_to(b"hello", "192.0.2.2:9")?;
        assert_eq!(probe.facts().packets, 1, "a detached program still saw a packet");
        Ok(())
    })
}

/// A `connect()` from a process of its own, within `cgroup`; what `bash` says about it.
fn connect_within(cgroup: &Path, target: SocketAddrV4) -> io::Result<String> {
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec 3<>/dev/tcp/{}/{} && echo connected",
        cgroup.display(),
        target.ip(),
        target.port()
    );
    let output = Command::new("bash").args(["-c", &script]).env("LC_ALL", "C").output()?;
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_connection_is_refused_with_the_errno_of_our_choice_and_others_pass() -> Outcome {
    in_new_netns(|| {
        ip("link set lo up")?;
        let refused = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let open = listener.local_addr()?.port();
        let cgroup = ChildCgroup::new("connect")?;
        let mut probe = ConnectProbeProgram::load()?;
        probe.attach(&File::open(cgroup.path())?)?;
        let errno = nix::errno::Errno::EHOSTDOWN as i32;
        probe.refuse(SocketAddrV4::new(Ipv4Addr::LOCALHOST, refused), errno.cast_unsigned())?;

        let said = connect_within(cgroup.path(), SocketAddrV4::new(Ipv4Addr::LOCALHOST, refused))?;
        assert!(said.contains("Host is down"), "{said}");
        let record = probe.record()?;
        assert_eq!(record.refused, 1);
        assert_ne!(record.netns_cookie, 0);

        let said = connect_within(cgroup.path(), SocketAddrV4::new(Ipv4Addr::LOCALHOST, open))?;
        assert!(said.starts_with("connected"), "{said}");
        // This process is not in the cgroup: nobody listens, and the kernel's own answer is what it gets.
        let error = TcpStream::connect(("127.0.0.1", refused)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(probe.record()?.refused, 1);
        Ok(())
    })
}

const AS_NOBODY: &str = "SHUNT_TEST_PROBE_AS_NOBODY";

#[test]
fn without_privileges_nothing_is_available_and_the_reason_says_what_is_needed() -> Outcome {
    if std::env::var_os(AS_NOBODY).is_some() {
        let report = probe_kernel(&ProbeOptions::default());
        for need in [Need::Datapath, Need::SocketLb, Need::Acceleration] {
            assert!(!report.supports(need), "{report:#?}");
            let summary = report.summary(need);
            assert!(summary.ends_with("(needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN))"), "{summary}");
        }
        return Ok(());
    }
    // The same test once more, as a user without any capability. /proc/self/exe also works where the path of the
    // test binary is closed to that user.
    let output = Command::new("/proc/self/exe")
        .args(["--exact", "without_privileges_nothing_is_available_and_the_reason_says_what_is_needed"])
        .env(AS_NOBODY, "1")
        .uid(65534)
        .gid(65534)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
