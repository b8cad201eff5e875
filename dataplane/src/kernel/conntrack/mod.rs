//! Connection tracking entries of UDP Services: removing those that lead clients to endpoints that are gone.
//!
//! The kernel translates only the first packet of a flow by the rules; every later one follows the tracked entry. A TCP
//! connection to a dead endpoint breaks and is made anew, but a UDP client that keeps sending keeps its entry alive
//! for ever. So whenever endpoints of a UDP frontend go away, the entries that lead to them are deleted, also when the
//! frontend is left without endpoints, when its Service is deleted, and when either happened while the agent was not
//! running. Entries that belong to no frontend are never touched, nor are those of TCP and SCTP.
//!
//! [`is_stale`] decides, [`NetlinkConntrack`] lists and deletes, [`FakeConntrack`] records.

mod error;
mod fake;
mod flow;
mod index;
mod message;
mod netlink;
mod occupancy;
mod staleness;
mod udp_frontend;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::plan::{Globals, PerFamily};

pub use error::ConntrackError;
pub use fake::{Cleaning, FakeConntrack};
pub use flow::{Flow, Tuple};
pub use netlink::NetlinkConntrack;
pub use occupancy::Occupancy;
pub use staleness::is_stale;
pub use udp_frontend::UdpFrontend;

/// Removes stale UDP flows. After an error the caller tries again, with the same frontends or with `clean_all`:
/// cleaning twice does no harm.
pub trait Conntrack: Send + fmt::Debug {
    /// Deletes the stale flows of these frontends (see [`is_stale`]) and returns how many there were of each family. Call it after
    /// the dataplane has been programmed: the next packet of a deleted flow is translated by what is there then.
    ///
    /// Of two frontends for one destination (an external IP that is a node port address as well) the one with the
    /// address must be in `changed` if the other is; the flows are its.
    fn clean(
        &mut self,
        changed: &[UdpFrontend],
        node_port_addresses: &BTreeSet<IpAddr>,
    ) -> Result<PerFamily<u64>, ConntrackError>;

    /// The same for all there is, at start and to catch up: `all` holds every UDP frontend. In addition, translated
    /// flows to an address in the service CIDRs that none of them owns are deleted: their Service went away while
    /// nobody watched.
    fn clean_all(&mut self, all: &[UdpFrontend], globals: &Globals)
    -> Result<PerFamily<u64>, ConntrackError>;
}
