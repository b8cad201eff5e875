//! The running agent: starts its tasks and ends with the first that ends.

use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::choice::Choice;
use super::dataplane::Opened;
use super::observer::{Shown, observer, spawn_servers};
use super::{choice, dataplane, init, node_cidr, source};
use crate::cli::Args;
use crate::config::{Loaded, LocalMode, Mode, NodePortAddresses, Settings, watch_file};
use crate::domain::{IpFamily, Node, ObjectKind};
use crate::kernel::conntrack::NetlinkConntrack;
use crate::kernel::monitor::AddressMonitor;
use crate::kernel::{Dataplane, economize_memory, release_memory};
use crate::plan::{self, PlanSettings};
use crate::reconcile::{Agent, AgentParts, ClientClasses, Engine, QueryHandle, Running};
use crate::serve::{
    Clock, ClusterEvent, EventSink, HealthMonitor, LogHandle, Metrics, ServeError, ServiceSeries, Severity,
};
use crate::watch::Stamped;

/// Runs the agent until it is stopped by a signal, or cannot go on.
pub(super) fn run(args: &Args, loaded: Loaded, logs: LogHandle) -> anyhow::Result<ExitCode> {
    economize_memory();
    let runtime = runtime()?;
    let config_file = args.config_file().map(ToOwned::to_owned);
    runtime.block_on(async move {
        let stop = CancellationToken::new();
        let changed = config_file.as_deref().map(watch_file).transpose()?;
        let stopped = stopped()?;
        let agent = start(loaded, logs, stop.clone());
        tokio::select! {
            ended = agent => ended,
            () = stopped => { stop.cancel(); Ok(ExitCode::SUCCESS) }
            () = async { match changed { Some(changed) => changed.await, None => std::future::pending().await } } => {
                Err(anyhow!("the configuration file has changed; ending, to be started again with the new one"))
            }
        }
    })
}

/// A runtime of one thread. The agent has one, and all that waits and answers has another: the agent blocks while the
/// kernel works, and neither has to hand its tasks to the other.
fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")
}

/// Runs the agent on a thread of its own.
fn on_its_own_thread(
    make: impl FnOnce() -> anyhow::Result<Agent> + Send + 'static,
) -> oneshot::Receiver<anyhow::Result<()>> {
    let (done, ended) = oneshot::channel();
    let work = move || {
        let outcome = runtime().and_then(|runtime| runtime.block_on(async { Ok(make()?.run().await?) }));
        // Nobody waits for the end any more when the process is ending anyway.
        drop(done.send(outcome));
    };
    if let Err(error) = std::thread::Builder::new().name("agent".to_owned()).spawn(work) {
        tracing::error!("no thread for the agent: {error}");
    }
    ended
}

/// Listens for the signals that end the agent, from this call on: the agent may be busy for a while before anything
/// else is looked at, and a signal that nobody listens for kills.
fn stopped() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: ending; what is programmed stays"),
            _ = interrupt.recv() => tracing::info!("interrupted: ending; what is programmed stays"),
        }
    })
}

async fn start(loaded: Loaded, logs: LogHandle, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let started = Timestamp::now();
    let mut settings = loaded.settings.clone();
    init::prepare(&settings);
    let metrics = Arc::new(Metrics::new(service_series(&settings))?);
    let health = Arc::new(HealthMonitor::new(settings.sync_period * 2, Clock::System));
    let mut source = source::start(&settings, &metrics, &health).await?;
    let (queries, asked) = QueryHandle::channel();
    let (events, watches, proxy_mode) = (Arc::clone(&source.sink), source.handle.status(), Arc::default());
    let shown = Shown {
        loaded: &loaded,
        metrics: &metrics,
        health: &health,
        events: &events,
        queries,
        logs,
        started,
        proxy_mode: Arc::clone(&proxy_mode),
    };
    let mut servers = spawn_servers(shown)?;
    let (node, mut early) = node_cidr::wait(&settings, &mut source.events).await?;
    let detectors = dataplane::detectors(&settings, &node)?;
    check_families(&settings, &node)?;
    let kernel_changed = Arc::new(Notify::new());
    let opening = dataplane::open(&settings, &detectors, &kernel_changed);
    let Opened { dataplane, choice, report, opt_out, port } =
        meanwhile(opening, &mut source.events, &mut early).await?;
    source.watch_pods(opt_out.is_some());
    let running = running(&settings, &choice, &metrics, &*events);
    proxy_mode.get_or_init(|| running.dataplane);
    settings.mode = choice.mode;
    let kernel_notes = Arc::new(OnceLock::new());
    let observer = observer(&settings, Arc::clone(&metrics), health, events, watches, started);
    let make = move || {
        let parts = AgentParts {
            engine: engine(&settings, dataplane),
            early,
            events: source.events,
            queries: asked,
            addresses: AddressMonitor::new().context("watching the node's addresses")?,
            kernel_changed: Arc::clone(&kernel_changed),
            observer,
            running,
            opt_out,
            kernel_notes: Arc::clone(&kernel_notes),
            classes: ClientClasses { detectors, masquerade_all: settings.masquerade_all },
            min_interval: min_interval(&settings),
            sync_period: settings.sync_period,
            follows_pod_cidrs: settings.local_mode == LocalMode::NodeCidr,
            after_first_sync: Some(Box::new(move || {
                after_first_sync(&settings, port, kernel_changed, &metrics);
                kernel_notes.get_or_init(|| dataplane::kernel_notes(&settings, report));
                release_memory();
            })),
            stop,
        };
        Ok(Agent::new(parts))
    };
    until_the_end(on_its_own_thread(make), &mut servers).await
}

/// Takes in what arrives while something else is done. What lists it would be held up otherwise.
async fn meanwhile<T>(
    work: impl Future<Output = T>,
    events: &mut mpsc::Receiver<Stamped>,
    early: &mut Vec<Stamped>,
) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            Some(stamped) = events.recv() => early.push(stamped),
        }
    }
}

async fn until_the_end(
    agent: oneshot::Receiver<anyhow::Result<()>>,
    servers: &mut JoinSet<ServeError>,
) -> anyhow::Result<ExitCode> {
    tokio::select! {
        ended = agent => {
            ended.context("the agent's thread ended")??;
            Ok(ExitCode::SUCCESS)
        }
        Some(failed) = servers.join_next() => Err(failed.context("a server's task ended")?.into()),
    }
}

/// Tells everybody which dataplane runs, and why, and sets what it needs.
fn running(settings: &Settings, choice: &Choice, metrics: &Metrics, events: &dyn EventSink) -> Running {
    let running = Running {
        configured: choice::name(settings.mode),
        dataplane: choice::name(choice.mode),
        reason: choice.reason.clone(),
        notes: choice::notes(choice.mode, settings),
    };
    let Running { configured, dataplane, reason, .. } = &running;
    tracing::info!(configured, "mode {dataplane}: {reason}");
    for note in &running.notes {
        tracing::info!("{note}");
    }
    metrics.set_mode(configured, dataplane);
    if settings.mode == Mode::Auto && choice.mode != Mode::Ebpf {
        let news = ClusterEvent::degraded(format!("mode {dataplane}: {reason}"));
        events.emit(ClusterEvent { severity: Severity::Normal, ..news });
    }
    if choice.mode == Mode::Ebpf {
        init::local_sources();
    }
    running
}

const fn service_series(settings: &Settings) -> ServiceSeries {
    match settings.service_metrics {
        0 => ServiceSeries::Off,
        limit => ServiceSeries::UpTo(limit),
    }
}

/// Pod ranges of the wrong family only are an error, or worth a warning.
fn check_families(settings: &Settings, node: &Node) -> anyhow::Result<()> {
    let primary = settings.primary_family().unwrap_or(IpFamily::V4);
    for warning in settings.check_families(primary, dataplane::families().len() > 1, node)? {
        tracing::warn!("{warning}");
    }
    Ok(())
}

fn engine(settings: &Settings, dataplane: Box<dyn Dataplane>) -> Engine {
    let required =
        [ObjectKind::Service, ObjectKind::EndpointSlice, ObjectKind::Node, ObjectKind::ServiceCidr];
    Engine::new(plan_settings(settings), required, dataplane, Box::new(NetlinkConntrack::new()))
}

fn plan_settings(settings: &Settings) -> PlanSettings {
    PlanSettings {
        bind_address: settings.bind_address,
        node_port_addresses: match &settings.node_port_addresses {
            NodePortAddresses::Primary => plan::NodePortAddresses::Primary,
            NodePortAddresses::Cidrs(cidrs) => plan::NodePortAddresses::Cidrs(cidrs.clone()),
        },
        loopback_node_ports: dataplane::loopback_node_ports(settings),
        ..PlanSettings::new(settings.node_name.as_str())
    }
}

/// kube-proxy's default of a second is there to collect changes for an expensive sync; ours cost what they change. Only
/// a longer time is somebody's decision.
fn min_interval(settings: &Settings) -> Duration {
    let default = Duration::from_secs(1);
    if settings.min_sync_period > default { settings.min_sync_period } else { Duration::ZERO }
}

/// Rules of a kube-proxy go only now that ours are in place, and the kernel loads connection tracking with our rules.
fn after_first_sync(settings: &Settings, port: Option<u32>, kernel_changed: Arc<Notify>, metrics: &Metrics) {
    if let Some(port) = port {
        dataplane::spawn_monitor(port, kernel_changed);
    }
    if let Err(error) = init::conntrack(&settings.conntrack) {
        tracing::error!("{error:#}");
    }
    if dataplane::wants_localnet(settings) {
        init::localnet();
    }
    was_removed(&dataplane::remove_other_mode(settings), metrics);
    was_removed(&init::take_over(), metrics);
}

/// Notes if what another dataplane left could not be removed.
fn was_removed(outcome: &anyhow::Result<()>, metrics: &Metrics) {
    if let Err(error) = outcome {
        tracing::error!("{error:#}");
        for family in IpFamily::ALL {
            metrics.cleanup_failed(family);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_cannot_be_removed_is_counted() {
        let metrics = Metrics::new(ServiceSeries::default()).unwrap();
        was_removed(&Ok(()), &metrics);
        was_removed(&Err(anyhow!("busy")), &metrics);
        let text = metrics.render(Instant::now()).unwrap();
        for family in ["IPv4", "IPv6"] {
            let name = "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total";
            assert!(text.contains(&format!("{name}{{ip_family=\"{family}\"}} 1\n")), "{text}");
        }
    }
}
