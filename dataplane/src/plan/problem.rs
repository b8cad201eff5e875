//! What in a Service cannot be served, or not as its author may expect.

use std::fmt;
use std::sync::Arc;

use super::Frontend;
use crate::domain::{IpFamily, ServiceName, ServicePortName};

/// Something to tell the owner of a Service about; the rest of the Service is served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlanProblem {
    /// The Service.
    pub service: ServiceName,
    /// Its `metadata.uid`, for Events.
    pub uid: Arc<str>,
    /// Path of the field: `spec.ports[1]`.
    pub field: String,
    /// What is the matter.
    pub reason: ProblemReason,
}

/// What is the matter with a field of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemReason {
    /// Another port of the same Service has the same address, port and protocol, and comes first.
    PortTaken {
        /// What both claim.
        frontend: Frontend,
        /// The port that has it.
        by: ServicePortName,
    },
    /// Another Service has the same address, port and protocol: an older one, or one that has it as its cluster IP.
    Disputed {
        /// What both claim.
        frontend: Frontend,
        /// The Service that has it.
        by: ServiceName,
    },
    /// An older Service has the same health check node port.
    HealthPortDisputed {
        /// The port.
        port: u16,
        /// The Service that has it.
        by: ServiceName,
    },
    /// There are source ranges, but none of this family, in which the Service has load balancer addresses.
    NoSourceRange {
        /// The family without ranges.
        family: IpFamily,
        /// Nobody may pass; otherwise everybody.
        closed: bool,
    },
}

impl fmt::Display for ProblemReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PortTaken { frontend, by } => write!(f, "{frontend} is already served for port {by}"),
            Self::Disputed { frontend, by } => write!(f, "{frontend} belongs to Service {by}"),
            Self::HealthPortDisputed { port, by } => {
                write!(f, "health check node port {port} belongs to the older Service {by}")
            }
            Self::NoSourceRange { family, closed: true } => {
                write!(
                    f,
                    "no range is {family}, so the load balancer's {family} addresses are closed to everybody"
                )
            }
            Self::NoSourceRange { family, closed: false } => {
                write!(
                    f,
                    "no range is {family}, so the load balancer's {family} addresses are open to everybody"
                )
            }
        }
    }
}

impl fmt::Display for PlanProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {}: {}: {}", self.service, self.field, self.reason)
    }
}
