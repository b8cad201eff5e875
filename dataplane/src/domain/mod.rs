//! Kubernetes semantics as plain data: what a Service, its endpoints and this node are.
//!
//! Pure: no runtime, no clock, no kernel, no API crate. `watch` turns API objects into these types (and reports what
//! it could not use), `plan` turns them into frontends.

mod cluster;
mod endpoint;
mod event;
mod local_detector;
mod name;
mod node;
mod pod;
mod protocol;
mod service;

pub use cluster::{Cluster, Dirty};
pub use endpoint::{Endpoint, EndpointPort, EndpointSlice, Hints, SliceName};
pub use event::{Event, ObjectKind, Problem};
pub use local_detector::LocalDetector;
pub use name::{ServiceName, ServicePortName};
pub use node::Node;
pub use pod::OptedOutPod;
pub use protocol::{IpFamily, Protocol};
pub use service::{Service, ServicePort, ServiceType, TrafficPolicy};
