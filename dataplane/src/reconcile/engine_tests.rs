//! The engine over fakes: what reaches the kernel, in which order, and after which failures.

use std::net::SocketAddr;
use std::time::Instant;

use super::*;
use crate::domain::{Endpoint, EndpointPort, EndpointSlice, Protocol, Service, ServiceName, ServicePort};
use crate::domain::{ServiceType, SliceName, TrafficPolicy};
use crate::kernel::FakeDataplane;
use crate::kernel::conntrack::{Cleaning, FakeConntrack};
use crate::plan::FrontendAddress;

fn service(name: &str, address: &str, protocol: Protocol) -> Event {
    Event::Service(Box::new(Service {
        name: ServiceName::new("default", name),
        uid: name.into(),
        created: 0,
        kind: ServiceType::ClusterIp,
        cluster_ips: vec![address.parse().unwrap()],
        external_ips: vec![],
        load_balancer_ips: vec![],
        source_ranges: vec![],
        ports: vec![ServicePort { name: "p".into(), protocol, port: 80, node_port: None }],
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_seconds: None,
        health_check_node_port: None,
    }))
}

fn slice(service: &str, protocol: Protocol, endpoints: &[&str]) -> Event {
    let endpoint = |address: &&str| Endpoint {
        address: address.parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        hints: None,
    };
    Event::Slice(Box::new(EndpointSlice {
        name: SliceName { namespace: "default".into(), name: service.into() },
        service: ServiceName::new("default", service),
        family: crate::domain::IpFamily::V4,
        ports: vec![EndpointPort { name: "p".into(), protocol, port: 8080 }],
        endpoints: endpoints.iter().map(endpoint).collect(),
        trigger_time_ns: None,
    }))
}

fn frontend(address: &str, protocol: Protocol) -> Frontend {
    Frontend { address: FrontendAddress::Ip(address.parse().unwrap()), port: 80, protocol }
}

struct Bench {
    engine: Engine,
    dataplane: FakeDataplane,
    conntrack: FakeConntrack,
}

impl Bench {
    fn over(dataplane: FakeDataplane) -> Self {
        let conntrack = FakeConntrack::default();
        let engine = Engine::new(
            PlanSettings::new("n1"),
            [ObjectKind::Service, ObjectKind::EndpointSlice],
            Box::new(dataplane.clone()),
            Box::new(conntrack.clone()),
        );
        Self { engine, dataplane, conntrack }
    }

    fn take(&mut self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.engine.take(event));
    }

    fn listed(&mut self) {
        self.take([Event::Synced(ObjectKind::Service), Event::Synced(ObjectKind::EndpointSlice)]);
    }

    fn sync(&mut self) -> Result<SyncReport, SyncFailure> {
        self.engine.sync(Instant::now())
    }

    /// Syncs, and cleans if that is owed.
    fn sync_and_clean(&mut self) {
        self.sync().unwrap();
        if self.engine.owes_cleaning() {
            self.engine.clean_conntrack().unwrap();
        }
    }

    fn programmed(&self, frontend: Frontend) -> Option<Vec<SocketAddr>> {
        let table = self.dataplane.table();
        let spec = table.frontends.get(&frontend)?;
        Some(spec.inside.backends().iter().map(crate::plan::Backend::socket).collect())
    }
}

const WEB: &str = "10.96.0.1";
const DNS: &str = "10.96.0.2";

#[test]
fn nothing_is_ready_before_every_required_kind_was_listed() {
    let mut bench = Bench::over(FakeDataplane::new());
    bench.take([service("web", WEB, Protocol::Tcp), Event::Synced(ObjectKind::Service)]);
    assert_eq!(bench.engine.readiness(), Readiness::WaitingFor([ObjectKind::EndpointSlice].into()));
    bench.engine.stop_waiting_for(ObjectKind::EndpointSlice);
    assert_eq!(bench.engine.readiness(), Readiness::Ready);
}

#[test]
fn the_first_sync_restores_and_later_ones_apply_only_what_changed() {
    let mut bench = Bench::over(FakeDataplane::new());
    bench.take([service("web", WEB, Protocol::Tcp), slice("web", Protocol::Tcp, &["10.1.0.1"])]);
    bench.listed();
    assert!(bench.sync().unwrap().full);
    assert!(!bench.engine.has_work());
    bench.take([slice("web", Protocol::Tcp, &["10.1.0.1", "10.1.0.2"])]);
    let report = bench.sync().unwrap();
    assert_eq!((report.full, report.frontends), (false, 1));
    assert_eq!(bench.programmed(frontend(WEB, Protocol::Tcp)).unwrap().len(), 2);
    assert_eq!((bench.dataplane.calls().restore, bench.dataplane.calls().apply), (1, 1));
}

#[test]
fn a_sync_without_changes_does_not_touch_the_kernel() {
    let mut bench = Bench::over(FakeDataplane::new());
    bench.listed();
    bench.sync().unwrap();
    bench.sync().unwrap();
    assert_eq!((bench.dataplane.calls().restore, bench.dataplane.calls().apply), (1, 0));
}

#[test]
fn after_a_failed_sync_everything_is_restored() {
    let mut bench = Bench::over(FakeDataplane::failing(100, 1));
    bench.take([service("web", WEB, Protocol::Tcp), slice("web", Protocol::Tcp, &["10.1.0.1"])]);
    bench.listed();
    assert!(matches!(bench.sync(), Err(SyncFailure::Dataplane { fatal: false, .. })));
    assert!(bench.engine.has_work());
}

#[test]
fn syncs_that_fail_now_and_then_converge_to_the_plan() {
    for seed in 0..20 {
        let mut bench = Bench::over(FakeDataplane::failing(40, seed));
        bench.listed();
        for round in 1..=20_u8 {
            let endpoint = format!("10.1.0.{round}");
            bench.take([service("web", WEB, Protocol::Tcp), slice("web", Protocol::Tcp, &[&endpoint])]);
            drop(bench.sync());
        }
        let attempts = (0..100).take_while(|_| bench.engine.has_work() && bench.sync().is_err()).count();
        assert!(attempts < 100, "seed {seed} never came to an end");
        assert_eq!(bench.dataplane.table(), *bench.engine.planner().table(), "seed {seed}");
    }
}

#[test]
fn a_frontend_that_the_kernel_refuses_does_not_stop_the_others() {
    let dataplane = FakeDataplane::new();
    dataplane.refuse(Some(frontend(WEB, Protocol::Tcp)));
    let mut bench = Bench::over(dataplane);
    bench.take([service("web", WEB, Protocol::Tcp), slice("web", Protocol::Tcp, &["10.1.0.1"])]);
    bench.take([service("dns", DNS, Protocol::Udp), slice("dns", Protocol::Udp, &["10.1.0.2"])]);
    bench.listed();
    let report = bench.sync().unwrap();
    assert_eq!(report.refused.len(), 1);
    assert_eq!(bench.programmed(frontend(WEB, Protocol::Tcp)), None);
    assert_eq!(bench.programmed(frontend(DNS, Protocol::Udp)).unwrap().len(), 1);
    assert_eq!(bench.engine.refused().len(), 1);
}

#[test]
fn frontends_without_room_are_told_of_once_and_stay_in_the_plan() {
    let mut bench = Bench::over(FakeDataplane::new());
    bench.take([service("web", WEB, Protocol::Tcp), slice("web", Protocol::Tcp, &["10.1.0.1"])]);
    bench.take([service("dns", DNS, Protocol::Udp), slice("dns", Protocol::Udp, &["10.1.0.2"])]);
    bench.listed();
    let (web, dns) = (frontend(WEB, Protocol::Tcp), frontend(DNS, Protocol::Udp));
    bench.dataplane.leave_out([web]);
    let report = bench.sync().unwrap();
    assert_eq!(report.refused, [(web, "map FAKE is full".to_owned())]);
    assert!(bench.engine.planner().table().frontends.contains_key(&web));
    bench.take([slice("web", Protocol::Tcp, &["10.1.0.3"])]);
    assert!(bench.sync().unwrap().refused.is_empty(), "nothing new");
    assert_eq!(bench.engine.left_out().len(), 1);
    bench.dataplane.leave_out([web, dns]);
    bench.take([slice("web", Protocol::Tcp, &["10.1.0.4"])]);
    assert_eq!(bench.sync().unwrap().refused.len(), 1, "only the new one");
    bench.dataplane.leave_out([]);
    bench.take([slice("web", Protocol::Tcp, &["10.1.0.5"])]);
    bench.sync().unwrap();
    assert!(bench.engine.left_out().is_empty());
    assert_eq!(
        bench.dataplane.calls().restore,
        1,
        "no frontend without room costs another look at everything"
    );
}

#[test]
fn a_refused_frontend_is_tried_again_when_it_changes() {
    let dataplane = FakeDataplane::new();
    dataplane.refuse(Some(frontend(WEB, Protocol::Tcp)));
    let mut bench = Bench::over(dataplane);
    bench.take([service("web", WEB, Protocol::Tcp), slice("web", Protocol::Tcp, &["10.1.0.1"])]);
    bench.listed();
    bench.sync().unwrap();
    bench.dataplane.refuse(None);
    bench.take([slice("web", Protocol::Tcp, &["10.1.0.3"])]);
    bench.sync().unwrap();
    assert_eq!(bench.programmed(frontend(WEB, Protocol::Tcp)), Some(vec!["10.1.0.3:8080".parse().unwrap()]));
    assert!(bench.engine.refused().is_empty());
}

#[test]
fn an_audit_counts_what_somebody_else_took_away_and_the_next_sync_restores_it() {
    let mut bench = Bench::over(FakeDataplane::new());
    bench.take([service("web", WEB, Protocol::Tcp), slice("web", Protocol::Tcp, &["10.1.0.1"])]);
    bench.listed();
    assert_eq!(bench.engine.audit().unwrap(), None, "nothing was programmed yet");
    bench.sync().unwrap();
    assert_eq!(bench.engine.audit().unwrap(), Some(0));
    bench.dataplane.flush();
    assert!(bench.engine.audit().unwrap().is_some_and(|drift| drift > 0));
    bench.engine.distrust_kernel();
    bench.sync().unwrap();
    assert_eq!(bench.engine.audit().unwrap(), Some(0));
}

#[test]
fn stale_flows_are_looked_for_everywhere_at_first_and_then_where_endpoints_went() {
    let mut bench = Bench::over(FakeDataplane::new());
    bench.take([service("dns", DNS, Protocol::Udp), slice("dns", Protocol::Udp, &["10.1.0.1", "10.1.0.2"])]);
    bench.listed();
    bench.sync_and_clean();
    bench.take([slice("dns", Protocol::Udp, &["10.1.0.1", "10.1.0.2", "10.1.0.3"])]);
    bench.sync_and_clean();
    bench.take([slice("dns", Protocol::Udp, &["10.1.0.1"])]);
    bench.sync_and_clean();
    let calls = bench.conntrack.calls();
    assert!(matches!(calls[0], Cleaning::All(_)));
    assert_eq!(calls.len(), 2, "an endpoint that was added makes no flow stale: {calls:?}");
    assert!(matches!(&calls[1], Cleaning::Changed(found) if found[0].serving.len() == 1));
}

#[test]
fn a_dataplane_without_connection_tracking_has_it_looked_through_once() {
    let mut bench = Bench::over(FakeDataplane::new());
    bench.dataplane.translate_itself();
    bench.take([service("dns", DNS, Protocol::Udp), slice("dns", Protocol::Udp, &["10.1.0.1", "10.1.0.2"])]);
    bench.listed();
    bench.sync_and_clean();
    bench.take([slice("dns", Protocol::Udp, &["10.1.0.1"])]);
    bench.sync().unwrap();
    assert!(!bench.engine.owes_cleaning());
    let calls = bench.conntrack.calls();
    assert!(matches!(calls[..], [Cleaning::All(_)]), "{calls:?}");
}

#[test]
fn a_service_that_goes_before_all_flows_were_looked_through_is_among_those_looked_for() {
    let mut bench = Bench::over(FakeDataplane::new());
    bench.take([service("dns", DNS, Protocol::Udp), slice("dns", Protocol::Udp, &["10.1.0.1"])]);
    bench.listed();
    bench.sync().unwrap();
    bench.take([Event::ServiceGone(ServiceName::new("default", "dns"))]);
    bench.sync_and_clean();
    let calls = bench.conntrack.calls();
    assert!(matches!(&calls[..], [Cleaning::All(all)] if all[0].serving.is_empty()), "{calls:?}");
}

#[test]
fn flows_of_a_deleted_service_are_cleaned_also_when_cleaning_failed_at_first() {
    let mut bench = Bench::over(FakeDataplane::new());
    bench.take([service("dns", DNS, Protocol::Udp), slice("dns", Protocol::Udp, &["10.1.0.1"])]);
    bench.listed();
    bench.sync_and_clean();
    bench.conntrack.fail_next(1);
    bench.take([Event::ServiceGone(ServiceName::new("default", "dns"))]);
    bench.sync().unwrap();
    assert!(bench.engine.clean_conntrack().is_err());
    assert!(bench.engine.owes_cleaning());
    bench.sync_and_clean();
    let calls = bench.conntrack.calls();
    assert!(
        matches!(calls.last(), Some(Cleaning::Changed(found)) if found[0].serving.is_empty()),
        "{calls:?}"
    );
    assert!(!bench.engine.owes_cleaning());
}
