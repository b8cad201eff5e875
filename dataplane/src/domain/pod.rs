//! What a pod can ask of its node.

use std::sync::Arc;

/// A pod of this node whose sockets are to be left alone: its packets are translated one by one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OptedOutPod {
    /// By which its cgroup is named: the pod's uid, or of a static pod the hash of its manifest.
    pub uid: Arc<str>,
    /// `namespace/name`, for people.
    pub name: Arc<str>,
}
