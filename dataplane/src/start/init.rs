//! What needs more privileges than running does, and taking everything away again.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use super::dataplane;
use crate::config::{Conntrack, Mode, Settings};
use crate::domain::IpFamily;
use crate::kernel::sysctl::{
    ConntrackSettings, Report, SysctlRoot, apply_conntrack, enable_local_sources_on_loopback,
    enable_route_localnet, preflight, set_oom_score_adj,
};
use crate::kernel::takeover;

/// `--init-only`: the settings that need a privileged container; the agent itself gets by with `CAP_NET_ADMIN`.
pub(super) fn init_only(settings: &Settings) -> anyhow::Result<ExitCode> {
    let report = conntrack(&settings.conntrack)?;
    if report.incomplete {
        tracing::info!("connection tracking is not loaded yet; its settings are made when the agent runs");
    }
    if dataplane::wants_localnet(settings) {
        localnet();
    }
    // Mode auto may come to need it, when the agent cannot set it any more.
    if settings.mode != Mode::Nftables {
        local_sources();
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets packets from 127.0.0.1 leave the loopback interface, for node ports there.
pub(super) fn localnet() {
    match enable_route_localnet(&SysctlRoot::kernel()) {
        Ok(report) => log(&report),
        Err(error) => tracing::error!("node ports on 127.0.0.1 will not work: {error}"),
    }
}

/// Lets replies to node ports that the node itself has addressed come in by the loopback interface, for mode ebpf.
pub(super) fn local_sources() {
    match enable_local_sources_on_loopback(&SysctlRoot::kernel()) {
        Ok(report) => log(&report),
        Err(error) => tracing::error!("node ports will not work for this node itself: {error}"),
    }
}

/// Makes the conntrack settings and logs what they were.
pub(super) fn conntrack(wanted: &Conntrack) -> anyhow::Result<Report> {
    let zero = std::time::Duration::ZERO;
    let settings = ConntrackSettings {
        max_per_core: wanted.max_per_core,
        min: wanted.min,
        tcp_established_timeout: wanted.tcp_established_timeout.unwrap_or(zero),
        tcp_close_wait_timeout: wanted.tcp_close_wait_timeout.unwrap_or(zero),
        tcp_be_liberal: wanted.tcp_be_liberal,
        udp_timeout: wanted.udp_timeout.unwrap_or(zero),
        udp_stream_timeout: wanted.udp_stream_timeout.unwrap_or(zero),
    };
    let report = apply_conntrack(&SysctlRoot::kernel(), &settings).context("connection tracking")?;
    log(&report);
    Ok(report)
}

/// The process' own settings and a look at the node.
pub(super) fn prepare(settings: &Settings) {
    let root = SysctlRoot::kernel();
    if let Err(error) = set_oom_score_adj(&root, settings.oom_score_adj) {
        tracing::warn!("oom_score_adj: {error}");
    }
    for warning in preflight(&root, &IpFamily::ALL.into_iter().collect()) {
        tracing::warn!(check = warning.check, "{}", warning.advice);
    }
}

fn log(report: &Report) {
    for change in &report.changed {
        tracing::info!("set {change}");
    }
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
}

/// `shunt cleanup` and `--cleanup`: what shunt left, and (unless `own_only`) what kube-proxy left, as `kube-proxy --cleanup`
/// does.
pub(super) fn cleanup(bpffs_root: &Path, own_only: bool) -> anyhow::Result<ExitCode> {
    dataplane::cleanup(bpffs_root)?;
    if own_only {
        return Ok(ExitCode::SUCCESS);
    }
    let removed = takeover::remove(&takeover::detect())?;
    for sentence in removed {
        crate::cli::say(&sentence)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes over from a kube-proxy whose rules are still there, now that ours are in place.
pub(super) fn take_over() -> anyhow::Result<()> {
    let found = takeover::detect();
    if found.is_empty() {
        return Ok(());
    }
    for leftover in &found {
        tracing::info!("kube-proxy left {leftover}");
    }
    let removed = takeover::remove(&found).context("some of kube-proxy's rules stay")?;
    for sentence in removed {
        tracing::info!("{sentence}");
    }
    Ok(())
}
