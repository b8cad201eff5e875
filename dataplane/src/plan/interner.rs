//! Reuse of what the frontends of one Service have in common, among each other and with the previous plan.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Backend, Frontend, FrontendSpec, Pool, Target};
use crate::domain::ServicePortName;

/// A frontend and what becomes of it.
pub type Claim = (Frontend, Arc<FrontendSpec>);

/// Shares equal lists: first those of the previous plan, then those of this one.
pub(super) struct Interner<'a> {
    /// Sorted by frontend.
    previous: &'a [Claim],
    pools: Vec<Pool>,
    serving: Vec<Arc<[SocketAddr]>>,
}

impl<'a> Interner<'a> {
    pub(super) const fn new(previous: &'a [Claim]) -> Self {
        Self { previous, pools: Vec::new(), serving: Vec::new() }
    }

    pub(super) fn pool(&mut self, backends: &[Backend]) -> Pool {
        let old = self.previous.iter().flat_map(|(_, spec)| [&spec.inside, &spec.outside]);
        let old = old.filter_map(|target| match target {
            Target::Pool(pool) => Some(pool),
            Target::Reject | Target::Drop => None,
        });
        share(&mut self.pools, old, backends)
    }

    pub(super) fn serving(&mut self, sockets: &[SocketAddr]) -> Arc<[SocketAddr]> {
        share(&mut self.serving, self.previous.iter().map(|(_, spec)| &spec.serving), sockets)
    }

    pub(super) fn owner(&self, name: ServicePortName) -> Arc<ServicePortName> {
        let old = self.previous.iter().find(|(_, spec)| *spec.owner == name);
        old.map_or_else(|| Arc::new(name), |(_, spec)| Arc::clone(&spec.owner))
    }

    pub(super) fn ranges(&self, ranges: &[IpNet]) -> Arc<[IpNet]> {
        let old = self.previous.iter().filter_map(|(_, spec)| spec.source_ranges.as_ref());
        old.into_iter().find(|old| ***old == *ranges).map_or_else(|| ranges.into(), Arc::clone)
    }

    /// The previous specification of that frontend, if nothing about it changed.
    pub(super) fn spec(&self, frontend: &Frontend, spec: FrontendSpec) -> Arc<FrontendSpec> {
        let old = self.previous.binary_search_by_key(frontend, |(frontend, _)| *frontend);
        let old = old.ok().and_then(|index| self.previous.get(index)).map(|(_, old)| old);
        match old {
            Some(old) if **old == spec => Arc::clone(old),
            _ => Arc::new(spec),
        }
    }
}

fn share<'a, T: Copy + PartialEq + 'a>(
    known: &mut Vec<Arc<[T]>>,
    mut previous: impl Iterator<Item = &'a Arc<[T]>>,
    wanted: &[T],
) -> Arc<[T]> {
    if let Some(found) = known.iter().find(|known| ***known == *wanted) {
        return Arc::clone(found);
    }
    let list = previous.find(|old| ***old == *wanted).map_or_else(|| wanted.into(), Arc::clone);
    known.push(Arc::clone(&list));
    list
}
