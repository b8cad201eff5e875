//! Which dataplane runs, and how it is set up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Notify;

use super::choice::{Choice, choose};
use crate::config::{Acceleration, Mode, NodePortAddresses, Settings, SocketLb};
use crate::domain::{IpFamily, LocalDetector, Node};
use crate::kernel::ebpf::{self, Ebpf};
use crate::kernel::nftables::{self, Monitor, Nftables};
use crate::kernel::probe::{Need, ProbeOptions, Report, probe_kernel};
use crate::kernel::{Dataplane, takeover};
use crate::plan::{LoopbackNodePorts, PerFamily};
use crate::reconcile::OptOut;

/// Pause before listening again after the kernel's notifications failed.
const MONITOR_RETRY: Duration = Duration::from_secs(1);
/// Idle established connections are remembered as long as kube-proxy has connection tracking remember them.
const TCP_IDLE: Duration = Duration::from_hours(24);

/// The local detectors of both families.
pub(super) fn detectors(settings: &Settings, node: &Node) -> anyhow::Result<PerFamily<LocalDetector>> {
    let mut detectors = PerFamily::default();
    for family in IpFamily::ALL {
        *detectors.get_mut(family) = settings.local_detector(family, node)?;
    }
    Ok(detectors)
}

/// Families that this kernel has.
pub(super) fn families() -> Vec<IpFamily> {
    let has_ipv6 = Path::new("/proc/net/if_inet6").exists();
    IpFamily::ALL.into_iter().filter(|family| *family == IpFamily::V4 || has_ipv6).collect()
}

/// The open dataplane.
pub(super) struct Opened {
    pub(super) dataplane: Box<dyn Dataplane>,
    /// Which it is, and why.
    pub(super) choice: Choice,
    /// What the kernel was found to have, if it was asked.
    pub(super) report: Option<Report>,
    /// Takes the pods whose sockets are to be left alone, where sockets are balanced.
    pub(super) opt_out: Option<OptOut>,
    /// The netlink port its changes come from, if it is one whose tables others may change.
    pub(super) port: Option<u32>,
}

/// Opens the dataplane, on a thread of its own: asking the kernel and loading programs take a while, and the servers are
/// to answer meanwhile. It signals `drifted` itself, if it notices what others do.
pub(super) async fn open(
    settings: &Settings,
    detectors: &PerFamily<LocalDetector>,
    drifted: &Arc<Notify>,
) -> anyhow::Result<Opened> {
    let (settings, detectors, drifted) = (settings.clone(), detectors.clone(), Arc::clone(drifted));
    let opening = tokio::task::spawn_blocking(move || open_here(&settings, &detectors, &drifted));
    opening.await.context("opening the dataplane")?
}

/// Opens the dataplane that was asked for, or the best that works here if that is left to us.
fn open_here(
    settings: &Settings,
    detectors: &PerFamily<LocalDetector>,
    drifted: &Arc<Notify>,
) -> anyhow::Result<Opened> {
    let (choice, report) = choose(settings.mode, || probe(settings));
    if choice.mode != Mode::Ebpf {
        return open_nftables(settings, detectors, choice, report);
    }
    let was_present = ebpf::is_present(&settings.ebpf.bpffs_root);
    // To ask for what others left starts three programs, which takes as long as loading ours.
    let (opened, takes_over) = std::thread::scope(|scope| {
        let looking = scope.spawn(takes_over);
        (Ebpf::new(ebpf_settings(settings, detectors)), looking.join().unwrap_or(true))
    });
    match opened.context("mode ebpf") {
        Ok(mut dataplane) => {
            dataplane.set_takes_over(takes_over);
            dataplane.tell_of_drift(Arc::clone(drifted));
            let opt_out = dataplane.opt_outs().map(|pods| -> OptOut { Box::new(move |set| pods.set(set)) });
            Ok(Opened { dataplane: Box::new(dataplane), choice, report, opt_out, port: None })
        }
        Err(error) if settings.mode == Mode::Auto => {
            // What an earlier agent left is retired in order once the other dataplane is in place.
            if !was_present && let Err(error) = ebpf::cleanup(&settings.ebpf.bpffs_root) {
                tracing::warn!("removing what was made for mode ebpf: {error}");
            }
            open_nftables(settings, detectors, Choice::fall_back(&error), report)
        }
        Err(error) => Err(error),
    }
}

fn open_nftables(
    settings: &Settings,
    detectors: &PerFamily<LocalDetector>,
    choice: Choice,
    report: Option<Report>,
) -> anyhow::Result<Opened> {
    let nftables = Nftables::new(&nftables_settings(settings, detectors)).context("nftables mode")?;
    for warning in nftables.warnings() {
        tracing::warn!("{warning}");
    }
    let port = nftables.port().context("nftables mode")?;
    Ok(Opened { dataplane: Box::new(nftables), choice, report, opt_out: None, port: Some(port) })
}

/// What this kernel has of what mode `ebpf` needs.
fn probe(settings: &Settings) -> Report {
    let ebpf = &settings.ebpf;
    probe_kernel(&ProbeOptions {
        cgroup: Some(ebpf::cgroup_path(&ebpf.cgroup_root)),
        without_cgroup: ebpf.socket_lb == SocketLb::Off,
        bpffs: Some(ebpf.bpffs_root.clone()),
        interface: None,
    })
}

/// What was seen of the kernel, a line for each thing that eBPF is needed for; nothing where nobody asked for eBPF. If it
/// was not needed for a choice, the look is taken now.
pub(super) fn kernel_notes(settings: &Settings, report: Option<Report>) -> Vec<String> {
    if report.is_none() && settings.mode != Mode::Ebpf {
        return Vec::new();
    }
    let report = report.unwrap_or_else(|| probe(settings));
    let needs = [Need::Datapath, Need::SocketLb, Need::Acceleration];
    let notes: Vec<_> = needs.into_iter().map(|need| report.summary(need)).collect();
    for note in &notes {
        tracing::debug!("kernel: {note}");
    }
    notes
}

fn nftables_settings(settings: &Settings, detectors: &PerFamily<LocalDetector>) -> nftables::Settings {
    nftables::Settings {
        families: families().into_iter().map(|family| (family, detectors.get(family).clone())).collect(),
        masquerade_mark: settings.masquerade_mark(),
        masquerade_all: settings.masquerade_all,
    }
}

/// Whether connections of another dataplane may live. Without an answer nothing may be cut: as if there were some.
fn takes_over() -> bool {
    nftables::is_present().unwrap_or(true) || !takeover::detect().is_empty()
}

fn ebpf_settings(settings: &Settings, detectors: &PerFamily<LocalDetector>) -> ebpf::Settings {
    ebpf::Settings {
        cgroup_root: settings.ebpf.cgroup_root.clone(),
        bpffs_root: settings.ebpf.bpffs_root.clone(),
        sockets: match settings.ebpf.socket_lb {
            SocketLb::All => ebpf::Sockets::All,
            SocketLb::Host => ebpf::Sockets::Host,
            SocketLb::Off => ebpf::Sockets::Off,
        },
        attaching: settings.ebpf.attaching.clone(),
        detectors: detectors.clone(),
        masquerade_mark: settings.masquerade_mark(),
        masquerade_all: settings.masquerade_all,
        loopback_node_ports: settings.localhost_node_ports.ipv4 || settings.localhost_node_ports.ipv6,
        accelerate: settings.ebpf.acceleration != Acceleration::Off,
        sizes: sizes(settings),
        tcp_idle_seconds: tcp_idle(settings),
    }
}

/// Elements of the maps: as configured, the rest by the node's memory.
fn sizes(settings: &Settings) -> ebpf::Sizes {
    ebpf::Sizes::of_this_node(&settings.ebpf.maps, settings.service_metrics > 0)
}

/// Seconds.
fn tcp_idle(settings: &Settings) -> u64 {
    settings.conntrack.tcp_established_timeout.unwrap_or(TCP_IDLE).as_secs()
}

/// Removes every dataplane's objects.
pub(super) fn cleanup(bpffs_root: &Path) -> anyhow::Result<()> {
    nftables::cleanup().context("removing shunt's tables")?;
    ebpf::cleanup(bpffs_root).context("removing shunt's BPF programs and maps")
}

/// Removes what another mode left, now that this one's is in place.
pub(super) fn remove_other_mode(settings: &Settings) -> anyhow::Result<()> {
    match settings.mode {
        Mode::Ebpf => nftables::cleanup().context("removing the tables of mode nftables"),
        Mode::Auto | Mode::Nftables if ebpf::is_present(&settings.ebpf.bpffs_root) => {
            ebpf::retire(&settings.ebpf.bpffs_root, tcp_idle(settings)).context("leaving mode ebpf")
        }
        Mode::Auto | Mode::Nftables => Ok(()),
    }
}

/// Node ports on 127.0.0.1 were asked for by naming a loopback range: they need `route_localnet`.
pub(super) fn wants_localnet(settings: &Settings) -> bool {
    // In mode ebpf they are for sockets, which never send to that address.
    if settings.mode == Mode::Ebpf {
        return false;
    }
    names_loopback(settings)
}

/// A range of IPv4 loopback addresses is among those for node ports, and they are not turned off.
pub(super) fn names_loopback(settings: &Settings) -> bool {
    match &settings.node_port_addresses {
        NodePortAddresses::Primary => false,
        NodePortAddresses::Cidrs(cidrs) => {
            let is_loopback = |cidr: &ipnet::IpNet| cidr.addr().is_ipv4() && cidr.addr().is_loopback();
            settings.localhost_node_ports.named && cidrs.iter().any(is_loopback)
        }
    }
}

/// Which loopback addresses are to accept node ports in the mode that runs. In mode ebpf sockets reach them; the nftables
/// rules for them need settings of the kernel that only who names them wants.
pub(super) fn loopback_node_ports(settings: &Settings) -> PerFamily<LoopbackNodePorts> {
    let wanted = settings.localhost_node_ports;
    let of = |family_wanted: bool| match (settings.mode, family_wanted) {
        (Mode::Ebpf, true) => LoopbackNodePorts::Always,
        (Mode::Auto | Mode::Nftables, _) if wanted.named => LoopbackNodePorts::IfNamed,
        _ => LoopbackNodePorts::Never,
    };
    PerFamily { v4: of(wanted.ipv4), v6: of(wanted.ipv6) }
}

/// Signals `changed` whenever somebody else than the socket `own` changes our tables. For after the first sync: before,
/// every element of it would be news.
pub(super) fn spawn_monitor(own: u32, changed: Arc<Notify>) {
    tokio::spawn(async move {
        loop {
            if let Err(error) = watch_tables(own, &changed).await {
                tracing::warn!("watching for changes of the nftables tables: {error}");
            }
            // Whatever was missed meanwhile is found by the audit this asks for.
            changed.notify_one();
            tokio::time::sleep(MONITOR_RETRY).await;
        }
    });
}

async fn watch_tables(own: u32, changed: &Notify) -> std::io::Result<()> {
    let mut monitor = Monitor::new(own)?;
    loop {
        monitor.changed_by_others().await?;
        changed.notify_one();
    }
}
