//! Which dataplane runs, and how it is set up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Notify;

use crate::config::{Mode, NodePortAddresses, Settings, SocketLb};
use crate::domain::{IpFamily, LocalDetector, Node};
use crate::kernel::ebpf::{self, Ebpf};
use crate::kernel::nftables::{self, Monitor, Nftables};
use crate::kernel::probe::{Need, ProbeOptions, probe_kernel};
use crate::kernel::{Dataplane, takeover};
use crate::plan::PerFamily;

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
    /// The netlink port its changes come from, if it is one whose tables others may change.
    pub(super) port: Option<u32>,
}

/// Opens the dataplane that was asked for.
pub(super) fn open(settings: &Settings, detectors: &PerFamily<LocalDetector>) -> anyhow::Result<Opened> {
    match settings.mode {
        Mode::Ebpf => open_ebpf(settings, detectors),
        Mode::Auto | Mode::Nftables => open_nftables(settings, detectors),
    }
}

fn open_ebpf(settings: &Settings, detectors: &PerFamily<LocalDetector>) -> anyhow::Result<Opened> {
    let dataplane = Ebpf::new(ebpf_settings(settings, detectors)).context("mode ebpf")?;
    Ok(Opened { dataplane: Box::new(dataplane), port: None })
}

fn open_nftables(settings: &Settings, detectors: &PerFamily<LocalDetector>) -> anyhow::Result<Opened> {
    let nftables = Nftables::new(&nftables_settings(settings, detectors)).context("nftables mode")?;
    for warning in nftables.warnings() {
        tracing::warn!("{warning}");
    }
    let port = nftables.port().context("nftables mode")?;
    Ok(Opened { dataplane: Box::new(nftables), port: Some(port) })
}

/// What mode `auto` saw of the kernel, a line for each thing that eBPF would be needed for.
pub(super) fn kernel_notes(settings: &Settings) -> Vec<String> {
    if settings.mode != Mode::Auto {
        return Vec::new();
    }
    // The default is not where cgroup v2 is on every host; the probe finds it.
    let cgroup = Some(settings.ebpf.cgroup_root.clone()).filter(|root| root != Path::new("/sys/fs/cgroup"));
    let report = probe_kernel(&ProbeOptions { cgroup, ..ProbeOptions::default() });
    let needs = [Need::Datapath, Need::SocketLb, Need::Acceleration];
    let notes: Vec<_> = needs.into_iter().map(|need| report.summary(need)).collect();
    tracing::info!("mode auto: nftables, the dataplane of this build");
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

fn ebpf_settings(settings: &Settings, detectors: &PerFamily<LocalDetector>) -> ebpf::Settings {
    // Without an answer nothing may be cut: as if there were connections.
    let takes_over = nftables::is_present().unwrap_or(true) || !takeover::detect().is_empty();
    ebpf::Settings {
        cgroup_root: settings.ebpf.cgroup_root.clone(),
        bpffs_root: settings.ebpf.bpffs_root.clone(),
        sockets: match settings.ebpf.socket_lb {
            SocketLb::All => ebpf::Sockets::All,
            SocketLb::Host => ebpf::Sockets::Host,
            SocketLb::Off => ebpf::Sockets::Off,
        },
        detectors: detectors.clone(),
        masquerade_mark: settings.masquerade_mark(),
        masquerade_all: settings.masquerade_all,
        takes_over,
        tcp_idle_seconds: tcp_idle(settings),
    }
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
pub(super) fn remove_other_mode(settings: &Settings) {
    let outcome = match settings.mode {
        Mode::Ebpf => nftables::cleanup().context("removing the tables of mode nftables"),
        Mode::Auto | Mode::Nftables if ebpf::is_present(&settings.ebpf.bpffs_root) => {
            ebpf::retire(&settings.ebpf.bpffs_root, tcp_idle(settings)).context("leaving mode ebpf")
        }
        Mode::Auto | Mode::Nftables => Ok(()),
    };
    if let Err(error) = outcome {
        tracing::error!("{error:#}");
    }
}

/// Node ports on 127.0.0.1 were asked for by naming a loopback range: they need `route_localnet`.
pub(super) fn wants_localnet(settings: &Settings) -> bool {
    // In mode ebpf they are for sockets, which never send to that address.
    if settings.mode == Mode::Ebpf {
        return false;
    }
    match &settings.node_port_addresses {
        NodePortAddresses::Primary => false,
        NodePortAddresses::Cidrs(cidrs) => {
            cidrs.iter().any(|cidr| cidr.addr().is_ipv4() && cidr.addr().is_loopback())
        }
    }
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
