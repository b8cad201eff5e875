//! All frontends of the node, as they should be.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Frontend, FrontendSpec, Globals};

/// The complete desired state of a dataplane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Every frontend.
    pub frontends: BTreeMap<Frontend, Arc<FrontendSpec>>,
    /// Everything else.
    pub globals: Globals,
}
