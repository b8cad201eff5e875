//! Packet-flow cases: objects in, real packets out.
//!
//! A case ([`Case`], the file format is described in `tests/data/README.md`)
//! gives Services and EndpointSlices step by step, and flows with what must
//! happen to them. [`run`] builds the case's machines (`topology`), starts
//! the agent in the node's namespace, shows it the objects, waits until they
//! are in effect (`barrier`), sends every flow and judges what came back.
//! It knows nothing of the agent's insides.

mod agent;
mod api_feed;
mod barrier;
mod case;
mod check;
mod expand;
mod far;
mod feed;
mod health;
mod judge;
mod objects;
mod placement;
mod ports;
mod probe;
mod run;
mod sticky;
mod topology;
mod words;

pub use agent::{Agent, AgentConfig, AgentProgram, shunt_program};
pub use case::{Case, Config, Expect, Flow, Kind, LocalDetect, NodeSpec, Step};
pub use expand::{Backend, cases_in, cases_of};
pub use feed::{FeedKind, ManifestDirectory, ObjectFeed, ObjectSet};
pub use objects::{complete_service, complete_slice};
pub use run::{Failure, Options, run};
