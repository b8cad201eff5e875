//! A small blocking netlink socket, as much of one as nfnetlink needs: batches that commit or fail as a whole, dumps,
//! and the kernel's own words for what it refuses.
//!
//! The kernel works a batch off inside the `send` call, so there is nothing to wait for and nothing to be gained from
//! an asynchronous socket.

mod attribute;
mod batch;
mod message;
mod notifications;
mod socket;
mod writer;

pub use attribute::{Attribute, Attributes, contains, find, find_text, find_u32};
pub use batch::{Batch, BatchError};
pub use message::{Message, Messages};
pub use notifications::Notifications;
pub use socket::Socket;
pub use writer::Writer;
