//! Answers to questions about the agent's state.

use std::net::IpAddr;
use std::time::Instant;

use serde_json::{Value, json};

use super::engine::{Engine, Readiness, error_chain};
use super::observe::Observer;
use super::query::{Query, loopback_towards};
use super::running::Running;
use crate::domain::{IpFamily, LocalDetector, ObjectKind};
use crate::kernel::Inspection;
use crate::plan::explain::{Client, Question, SourceHandling, explain};
use crate::plan::{Frontend, FrontendSpec, PerFamily, Target};

/// How clients are told apart, as far as an address shows it.
#[derive(Clone, Debug, Default)]
pub struct ClientClasses {
    /// The local detectors.
    pub detectors: PerFamily<LocalDetector>,
    /// `masqueradeAll`.
    pub masquerade_all: bool,
}

/// The state that answers are read from.
#[derive(Debug)]
pub(super) struct Answers<'a> {
    pub(super) engine: &'a mut Engine,
    pub(super) observer: &'a Observer,
    pub(super) classes: &'a ClientClasses,
    pub(super) running: &'a Running,
    pub(super) kernel_notes: &'a [String],
}

impl Answers<'_> {
    /// Answers; whoever asked may have gone away in the meantime.
    pub(super) fn answer(&mut self, query: Query) {
        match query {
            Query::Status(answer) => drop(answer.send(self.status())),
            Query::Services(answer) => drop(answer.send(self.services())),
            Query::Explain { from, to, protocol, probe, answer } => {
                let (from, client) = match from {
                    Some(from) => (from, self.class_of(from)),
                    None => (loopback_towards(to), Client::Node),
                };
                let question = Question { from, client, to, protocol };
                drop(answer.send(self.explain(Inspection { question, probe })));
            }
            Query::Measure(done) => done.send(()).unwrap_or_default(),
        }
    }

    /// What is planned, and beside it what the kernel itself says.
    fn explain(&mut self, inspection: Inspection) -> Value {
        let question = &inspection.question;
        let detector = self.classes.detectors.get(IpFamily::of(question.to.ip()));
        let sources = SourceHandling {
            masquerade_all: self.classes.masquerade_all,
            pods_told_apart: *detector != LocalDetector::None,
        };
        let found = explain(self.engine.planner(), self.engine.cluster(), sources, question);
        let (kernel, text) = match self.engine.inspect(&inspection) {
            Ok(inspected) => (json!(inspected), inspected.to_string()),
            Err(error) => {
                let words = error_chain(&error);
                (json!({"error": &words}), format!("in the kernel: {words}"))
            }
        };
        json!({"text": format!("{found}\n{text}"), "explanation": found, "kernel": kernel})
    }

    /// What the source address makes of a client. Detectors by interface cannot be asked about an address: then the
    /// endpoints of this node are its pods.
    fn class_of(&self, from: IpAddr) -> Client {
        if from.is_loopback() || self.engine.interface_addresses().contains(&from) {
            return Client::Node;
        }
        let is_pod = match self.classes.detectors.get(IpFamily::of(from)) {
            LocalDetector::None => false,
            LocalDetector::Cidrs(cidrs) => cidrs.iter().any(|cidr| cidr.contains(&from)),
            LocalDetector::BridgeInterface(_) | LocalDetector::InterfaceNamePrefix(_) => {
                self.is_local_endpoint(from)
            }
        };
        if is_pod { Client::Pod } else { Client::Outside }
    }

    fn is_local_endpoint(&self, address: IpAddr) -> bool {
        let frontends = self.engine.planner().table().frontends.values();
        frontends
            .flat_map(|spec| spec.inside.backends().iter().chain(spec.outside.backends()))
            .any(|backend| backend.local && backend.address == address)
    }

    fn status(&self) -> Value {
        let totals = self.engine.planner().totals();
        let health = self.observer.health.report();
        let readiness = match self.engine.readiness() {
            Readiness::Ready => json!("ready"),
            Readiness::WaitingFor(kinds) => {
                json!(kinds.into_iter().map(ObjectKind::resource).collect::<Vec<_>>())
            }
        };
        let programmed: serde_json::Map<String, Value> = self
            .engine
            .programmed()
            .into_iter()
            .map(|(kind, count)| (kind.to_owned(), json!(count)))
            .collect();
        let watches: serde_json::Map<String, Value> = self
            .observer
            .watches
            .in_use()
            .map(|kind| {
                let status = self.observer.watches.kind(kind);
                let age = status.age().map(|age| age.as_secs_f64());
                let state = json!({"connected": status.connected(), "synced": status.synced(), "ageSeconds": age,
                                   "absent": status.absent(), "lists": status.lists()});
                (kind.resource().to_owned(), state)
            })
            .collect();
        let refused = self.engine.refused().iter().chain(self.engine.left_out());
        let problems = self.engine.planner().problems();
        json!({
            "node": &*self.engine.planner().settings().node_name,
            "healthy": health.livez().0,
            "eligible": health.healthz().0,
            "mode": self.mode(),
            "waitingFor": readiness,
            "services": totals.services,
            "servicePorts": {"IPv4": totals.ports.get(IpFamily::V4), "IPv6": totals.ports.get(IpFamily::V6)},
            "endpoints": {"IPv4": totals.endpoints.get(IpFamily::V4), "IPv6": totals.endpoints.get(IpFamily::V6)},
            "frontends": self.engine.planner().table().frontends.len(),
            "programmed": programmed,
            "pendingForSeconds": self.observer.oldest_pending().map(seconds_since),
            "lastSyncSeconds": self.observer.last_sync().map(seconds_since),
            "watches": watches,
            "kernel": self.kernel_notes,
            "refused": refused.map(|(frontend, words)| json!({"frontend": frontend.to_string(), "reason": words}))
                .collect::<Vec<_>>(),
            "problems": problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }

    fn mode(&self) -> Value {
        let Running { configured, dataplane, reason, notes } = self.running;
        let notes: Vec<_> = notes.iter().cloned().chain(self.engine.remarks()).collect();
        json!({"configured": configured, "running": dataplane, "reason": reason, "notes": notes,
               "degraded": self.engine.shortcomings()})
    }

    fn services(&self) -> Value {
        let frontends = self.engine.planner().table().frontends.iter();
        json!({"frontends": frontends.map(|(frontend, spec)| frontend_json(frontend, spec)).collect::<Vec<_>>()})
    }
}

fn seconds_since(at: Instant) -> f64 {
    at.elapsed().as_secs_f64()
}

fn frontend_json(frontend: &Frontend, spec: &FrontendSpec) -> Value {
    let ranges = spec.source_ranges.as_deref();
    json!({
        "frontend": frontend.to_string(),
        "service": spec.owner.service.to_string(),
        "port": &*spec.owner.port,
        "kind": spec.kind,
        "policy": spec.policy,
        "inside": target_json(&spec.inside),
        "outside": target_json(&spec.outside),
        "affinitySeconds": spec.affinity_seconds,
        "sourceRanges": ranges.map(|ranges| ranges.iter().map(ToString::to_string).collect::<Vec<_>>()),
    })
}

fn target_json(target: &Target) -> Value {
    match target {
        Target::Pool(pool) => {
            json!(pool.iter().map(|backend| backend.socket().to_string()).collect::<Vec<_>>())
        }
        Target::Reject => json!("reject"),
        Target::Drop => json!("drop"),
    }
}
