//! Whether programming keeps up with the changes, by kube-proxy's rules.
//!
//! A family is late once its oldest change that is not programmed has waited for the whole timeout (twice the sync
//! period). A family counts from its first [`HealthState::applied`], which the reconciler reports when it starts. What
//! the watch does has no part in this: an unreachable API server leaves the proxy healthy.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{Clock, Moment};
use crate::domain::{IpFamily, Node};

/// The state behind `/healthz` and `/livez`; pure, every call is given the time.
#[derive(Clone, Debug)]
pub struct HealthState {
    timeout: Duration,
    applied: BTreeMap<IpFamily, Timestamp>,
    oldest_queued: BTreeMap<IpFamily, Instant>,
    node: NodeState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeState {
    Unknown,
    Eligible,
    Leaving,
}

/// The health at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// No family is late.
    pub healthy: bool,
    /// The Node exists and neither goes away nor is drained by the autoscaler.
    pub node_eligible: bool,
    /// When the report was made.
    pub current_time: Timestamp,
    /// When the most recent family was programmed; `None` before the first.
    pub last_updated: Option<Timestamp>,
    /// Each family that has been programmed: when, and whether it is in time.
    pub families: BTreeMap<IpFamily, (Timestamp, bool)>,
}

impl HealthState {
    /// A proxy that starts: healthy, and its Node not yet known.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, applied: BTreeMap::new(), oldest_queued: BTreeMap::new(), node: NodeState::Unknown }
    }

    /// A change for that family waits to be programmed.
    pub fn queued(&mut self, family: IpFamily, now: Moment) {
        self.oldest_queued.entry(family).or_insert(now.monotonic);
    }

    /// Everything queued for that family is programmed, or the family starts to be served.
    pub fn applied(&mut self, family: IpFamily, now: Moment) {
        self.oldest_queued.remove(&family);
        self.applied.insert(family, now.wall);
    }

    /// The Node object as it is now; `None` if it does not exist.
    pub fn set_node(&mut self, node: Option<&Node>) {
        self.node = match node {
            None => NodeState::Unknown,
            Some(node) if node.deleting || node.autoscaler_drains => NodeState::Leaving,
            Some(_) => NodeState::Eligible,
        };
    }

    /// There is no Node object to look at (manifests mode): the node is eligible.
    pub fn assume_node_eligible(&mut self) {
        self.node = NodeState::Eligible;
    }

    /// The health now.
    pub fn report(&self, now: Moment) -> HealthReport {
        let families: BTreeMap<_, _> = self
            .applied
            .iter()
            .map(|(&family, &applied)| (family, (applied, self.in_time(family, now.monotonic))))
            .collect();
        HealthReport {
            healthy: families.values().all(|&(_, in_time)| in_time),
            node_eligible: self.node == NodeState::Eligible,
            current_time: now.wall,
            last_updated: self.applied.values().max().copied(),
            families,
        }
    }

    fn in_time(&self, family: IpFamily, now: Instant) -> bool {
        self.oldest_queued
            .get(&family)
            .is_none_or(|&queued| now.saturating_duration_since(queued) < self.timeout)
    }
}

impl HealthReport {
    /// `/healthz`: whether to answer 200, and the JSON body.
    pub fn healthz(&self) -> (bool, String) {
        let ok = self.healthy && self.node_eligible;
        (ok, self.body(ok, Some(self.node_eligible)))
    }

    /// `/livez`: the same without a look at the node.
    pub fn livez(&self) -> (bool, String) {
        (self.healthy, self.body(self.healthy, None))
    }

    /// `lastUpdated` is the present while all is well: load balancers of old read it as "the loop runs".
    fn body(&self, ok: bool, node_eligible: Option<bool>) -> String {
        let body = Body {
            last_updated: GoTime(if ok { Some(self.current_time) } else { self.last_updated }),
            current_time: GoTime(Some(self.current_time)),
            node_eligible,
            healthy: self.healthy,
            status: self
                .families
                .iter()
                .map(|(family, &(applied, healthy))| {
                    (family.to_string(), FamilyBody { last_updated: GoTime(Some(applied)), healthy })
                })
                .collect(),
        };
        serde_json::to_string(&body).unwrap_or_default()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    last_updated: GoTime,
    current_time: GoTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<String, FamilyBody>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyBody {
    last_updated: GoTime,
    healthy: bool,
}

/// RFC 3339 with as many fraction digits as needed; Go's zero time for "never".
struct GoTime(Option<Timestamp>);

impl Serialize for GoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(time) => serializer.collect_str(&time),
            None => serializer.serialize_str("0001-01-01T00:00:00Z"),
        }
    }
}

/// The health state with its clock, shared by the reconciler and the servers.
#[derive(Debug)]
pub struct HealthMonitor {
    state: Mutex<HealthState>,
    clock: Clock,
}

impl HealthMonitor {
    /// Unhealthy once a change waits for `timeout`, which is twice the sync period.
    pub fn new(timeout: Duration, clock: Clock) -> Self {
        Self { state: Mutex::new(HealthState::new(timeout)), clock }
    }

    /// See [`HealthState::queued`].
    pub fn queued(&self, family: IpFamily) {
        let now = self.clock.now();
        self.state().queued(family, now);
    }

    /// See [`HealthState::applied`].
    pub fn applied(&self, family: IpFamily) {
        let now = self.clock.now();
        self.state().applied(family, now);
    }

    /// See [`HealthState::set_node`].
    pub fn set_node(&self, node: Option<&Node>) {
        self.state().set_node(node);
    }

    /// See [`HealthState::assume_node_eligible`].
    pub fn assume_node_eligible(&self) {
        self.state().assume_node_eligible();
    }

    /// The health now.
    pub fn report(&self) -> HealthReport {
        let now = self.clock.now();
        self.state().report(now)
    }

    fn state(&self) -> MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_mins(1);

    fn clock() -> Clock {
        Clock::manual("2026-05-04T03:02:01.5Z".parse().unwrap())
    }

    fn node(deleting: bool, autoscaler_drains: bool) -> Node {
        Node { name: "n1".into(), deleting, autoscaler_drains, ..Node::default() }
    }

    #[test]
    fn a_proxy_that_starts_is_live_and_reports_the_zero_time_only_when_it_is_not_ok() {
        let report = HealthMonitor::new(TIMEOUT, clock()).report();
        let time = "2026-05-04T03:02:01.5Z";
        assert_eq!(
            report.livez(),
            (true, format!(r#"{{"lastUpdated":"{time}","currentTime":"{time}","healthy":true}}"#))
        );
        let body = format!(
            r#"{{"lastUpdated":"0001-01-01T00:00:00Z","currentTime":"{time}","nodeEligible":false,"healthy":true}}"#
        );
        assert_eq!(report.healthz(), (false, body));
    }

    #[test]
    fn a_change_that_waits_for_the_whole_timeout_makes_its_family_and_the_proxy_unhealthy() {
        let clock = clock();
        let monitor = HealthMonitor::new(TIMEOUT, clock.clone());
        monitor.set_node(Some(&node(false, false)));
        for family in IpFamily::ALL {
            monitor.applied(family);
        }
        monitor.queued(IpFamily::V6);
        clock.advance(Duration::from_secs(30));
        monitor.queued(IpFamily::V6);
        clock.advance(Duration::from_millis(29_999));
        assert!(monitor.report().healthy, "the last millisecond is not over");
        clock.advance(Duration::from_millis(1));
        monitor.applied(IpFamily::V4);

        let (applied, now) = ("2026-05-04T03:02:01.5Z", "2026-05-04T03:03:01.5Z");
        let status = format!(
            r#""status":{{"IPv4":{{"lastUpdated":"{now}","healthy":true}},"IPv6":{{"lastUpdated":"{applied}","healthy":false}}}}"#
        );
        let head = format!(r#"{{"lastUpdated":"{now}","currentTime":"{now}","#);
        let report = monitor.report();
        assert_eq!(report.livez(), (false, format!(r#"{head}"healthy":false,{status}}}"#)));
        assert_eq!(
            report.healthz(),
            (false, format!(r#"{head}"nodeEligible":true,"healthy":false,{status}}}"#))
        );

        monitor.applied(IpFamily::V6);
        assert!(monitor.report().healthz().0, "healthy again once it is programmed");
    }

    #[test]
    fn last_updated_is_the_present_while_healthy_and_the_truth_otherwise() {
        let clock = clock();
        let monitor = HealthMonitor::new(TIMEOUT, clock.clone());
        monitor.set_node(Some(&node(false, false)));
        monitor.applied(IpFamily::V4);
        clock.advance(Duration::from_hours(1));
        assert!(monitor.report().healthz().1.starts_with(r#"{"lastUpdated":"2026-05-04T04:02:01.5Z""#));
        monitor.set_node(Some(&node(true, false)));
        assert!(monitor.report().healthz().1.starts_with(r#"{"lastUpdated":"2026-05-04T03:02:01.5Z""#));
    }

    #[test]
    fn only_healthz_looks_at_the_node() {
        let monitor = HealthMonitor::new(TIMEOUT, clock());
        monitor.applied(IpFamily::V4);
        let outcomes = [
            (None, false),
            (Some(node(false, false)), true),
            (Some(node(true, false)), false),
            (Some(node(false, true)), false),
        ];
        for (node, eligible) in outcomes {
            monitor.set_node(node.as_ref());
            assert_eq!(monitor.report().healthz().0, eligible, "{node:?}");
            assert!(monitor.report().livez().0, "{node:?}");
        }
        monitor.assume_node_eligible();
        assert!(monitor.report().healthz().0);
    }

    #[test]
    fn a_change_queued_before_the_first_start_of_a_family_does_not_count() {
        let clock = clock();
        let monitor = HealthMonitor::new(TIMEOUT, clock.clone());
        monitor.queued(IpFamily::V4);
        clock.advance(TIMEOUT * 2);
        assert!(monitor.report().healthy);
        monitor.applied(IpFamily::V4);
        monitor.queued(IpFamily::V4);
        clock.advance(TIMEOUT);
        assert!(!monitor.report().healthy);
    }
}
