//! The only folder that touches the kernel: narrow traits, each with a real form and a fake one.

mod allowance;
mod dataplane;
mod fake;
mod inspection;
mod locked_memory;
mod process_memory;

pub mod conntrack;
pub mod ebpf;
pub mod monitor;
pub mod netlink;
pub mod nftables;
pub mod probe;
pub mod sysctl;
pub mod takeover;

pub(crate) use allowance::{Allowance, LONGEST_PAUSE};
pub use dataplane::{Applied, Dataplane, DataplaneError, Disposition, EventCount, Observations, Traffic};
pub use fake::{Calls, FakeDataplane};
pub use inspection::{Fact, Inspected, Inspection, Trial};
pub(crate) use locked_memory::allow_maps;
pub(crate) use process_memory::{economize as economize_memory, release as release_memory};
