//! The real conntrack table.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use netlink_socket2::NetlinkSocket;

use super::index::FrontendIndex;
use super::message::{Deletion, Filter, read_flow};
use super::{Conntrack, ConntrackError, Flow, UdpFrontend};
use crate::domain::IpFamily;
use crate::plan::{FrontendAddress, Globals, PerFamily};

/// Every dump walks the whole table in the kernel, filtered or not; a filter saves the copying. Measured with 262,144
/// buckets: 5 ms for the walk, 0.7 us more for each flow that is listed. Beyond this many destinations one dump of all
/// UDP flows is cheaper, or costs little more.
const MOST_FILTERS: usize = 4;
const LIST: &str = "list conntrack entries";
const DELETE: &str = "delete conntrack entry";

/// The conntrack table of the network namespace of the thread that uses it first.
pub struct NetlinkConntrack {
    /// Opened when needed, dropped after an error.
    socket: Option<NetlinkSocket>,
    /// The kernel has not refused a filter yet.
    filters_work: bool,
}

impl NetlinkConntrack {
    /// Opens nothing yet.
    pub const fn new() -> Self {
        Self { socket: None, filters_work: true }
    }

    /// All UDP flows of a family.
    pub fn list(&mut self, family: IpFamily) -> Result<Vec<Flow>, ConntrackError> {
        self.find(Filter::family(family), |_| true)
    }

    fn delete_stale(
        &mut self,
        filters: BTreeSet<Filter>,
        index: &FrontendIndex<'_>,
    ) -> Result<PerFamily<u64>, ConntrackError> {
        let mut deleted = PerFamily::default();
        for filter in filters {
            let family = filter.family;
            for flow in self.find(filter, |flow| index.is_stale(flow))? {
                *deleted.get_mut(family) += u64::from(self.delete(&flow)?);
            }
        }
        Ok(deleted)
    }

    /// Flows that pass the filter and `wanted`. Listing ends before anything is deleted, so that no entry is missed.
    fn find(&mut self, filter: Filter, wanted: impl Fn(&Flow) -> bool) -> Result<Vec<Flow>, ConntrackError> {
        match self.dump(filter, self.filters_work, &wanted) {
            // Kernels built without what the filter needs say so; then everything is listed.
            Err(ConntrackError::Unavailable { .. } | ConntrackError::Refused { .. }) if self.filters_work => {
                let found = self.dump(filter, false, &wanted)?;
                self.filters_work = false;
                tracing::info!("the kernel refuses conntrack filters, listing whole families instead");
                Ok(found)
            }
            outcome => outcome,
        }
    }

    fn dump(
        &mut self,
        filter: Filter,
        in_kernel: bool,
        wanted: impl Fn(&Flow) -> bool,
    ) -> Result<Vec<Flow>, ConntrackError> {
        let mut socket = self.socket.take().unwrap_or_default();
        let request = filter.dump(in_kernel);
        let mut found = Vec::new();
        let mut replies = socket.request(&request).map_err(|source| ConntrackError::new(LIST, source))?;
        while let Some(reply) = replies.recv() {
            let (_, attributes) = reply.map_err(|reply| ConntrackError::new(LIST, reply))?;
            found.extend(read_flow(attributes).filter(&wanted));
        }
        drop(replies);
        self.socket = Some(socket);
        Ok(found)
    }

    /// Whether it was still there.
    fn delete(&mut self, flow: &Flow) -> Result<bool, ConntrackError> {
        let mut socket = self.socket.take().unwrap_or_default();
        let outcome = socket
            .request(&Deletion::of(flow))
            .map_err(|source| ConntrackError::new(DELETE, source))?
            .recv_ack();
        let deleted = match outcome {
            Ok(()) => true,
            Err(reply) if reply.as_io_error().raw_os_error() == Some(libc::ENOENT) => false,
            Err(reply) => return Err(ConntrackError::new(DELETE, reply)),
        };
        self.socket = Some(socket);
        Ok(deleted)
    }
}

impl Default for NetlinkConntrack {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for NetlinkConntrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetlinkConntrack")
            .field("open", &self.socket.is_some())
            .field("filters_work", &self.filters_work)
            .finish()
    }
}

impl Conntrack for NetlinkConntrack {
    fn clean(
        &mut self,
        changed: &[UdpFrontend],
        node_port_addresses: &BTreeSet<IpAddr>,
    ) -> Result<PerFamily<u64>, ConntrackError> {
        let index = FrontendIndex::new(changed, node_port_addresses);
        self.delete_stale(filters_for(changed), &index)
    }

    fn clean_all(
        &mut self,
        all: &[UdpFrontend],
        globals: &Globals,
    ) -> Result<PerFamily<u64>, ConntrackError> {
        self.delete_stale(IpFamily::ALL.map(Filter::family).into(), &FrontendIndex::of_all(all, globals))
    }
}

/// One filter for each destination if they are few, otherwise one for each family.
fn filters_for(frontends: &[UdpFrontend]) -> BTreeSet<Filter> {
    let filters: BTreeSet<Filter> = frontends
        .iter()
        .map(|UdpFrontend { frontend, .. }| Filter {
            family: frontend.family(),
            port: Some(frontend.port),
            address: match frontend.address {
                FrontendAddress::Ip(IpAddr::V4(address)) => Some(address),
                FrontendAddress::Ip(IpAddr::V6(_)) | FrontendAddress::NodePort(_) => None,
            },
        })
        .collect();
    if filters.len() <= MOST_FILTERS {
        return filters;
    }
    filters.iter().map(|filter| Filter::family(filter.family)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::domain::Protocol;
    use crate::plan::Frontend;

    fn frontend(address: FrontendAddress, port: u16) -> UdpFrontend {
        UdpFrontend { frontend: Frontend { address, port, protocol: Protocol::Udp }, serving: [].into() }
    }

    #[test]
    fn few_destinations_have_a_filter_each() {
        let address = Ipv4Addr::new(10, 96, 0, 10);
        let frontends = [
            frontend(FrontendAddress::Ip(address.into()), 53),
            frontend(FrontendAddress::NodePort(IpFamily::V4), 30053),
            frontend(FrontendAddress::Ip("fd00::1".parse().unwrap()), 53),
            frontend(FrontendAddress::Ip("fd00::2".parse().unwrap()), 53),
        ];
        let expected = [
            Filter { family: IpFamily::V4, port: Some(53), address: Some(address) },
            Filter { family: IpFamily::V4, port: Some(30053), address: None },
            Filter { family: IpFamily::V6, port: Some(53), address: None },
        ];
        assert_eq!(filters_for(&frontends), BTreeSet::from(expected));
    }

    #[test]
    fn many_destinations_share_a_filter_for_the_family() {
        let frontends: Vec<_> = (0..100)
            .map(|port| frontend(FrontendAddress::Ip(Ipv4Addr::LOCALHOST.into()), port + 1))
            .collect();
        assert_eq!(filters_for(&frontends), BTreeSet::from([Filter::family(IpFamily::V4)]));
    }

    #[test]
    fn nothing_changed_asks_the_kernel_nothing() {
        let mut conntrack = NetlinkConntrack::new();
        assert_eq!(conntrack.clean(&[], &BTreeSet::new()).unwrap(), PerFamily::default());
        assert!(conntrack.socket.is_none());
    }
}
