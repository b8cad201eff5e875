//! Deleting a network device.

use netlink_bindings::rt_link::{Ifinfomsg, Request};
use netlink_socket2::NetlinkSocket;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;

use super::StepError;

pub(super) fn exists(name: &str) -> bool {
    if_nametoindex(name).is_ok()
}

/// Whether it was there.
pub(super) fn remove(name: &str) -> Result<bool, StepError> {
    let failed = |source| StepError::Kernel { operation: format!("delete device {name}"), source };
    let index = match if_nametoindex(name) {
        Ok(index) => index,
        Err(Errno::ENODEV) => return Ok(false),
        Err(error) => return Err(failed(error.into())),
    };
    let mut header = Ifinfomsg::new();
    header.ifi_index = index.cast_signed();
    let request = Request::new().op_dellink_do(&header);
    let mut socket = NetlinkSocket::new();
    socket.request(&request).map_err(failed)?.recv_ack().map_err(|error| failed(error.into()))?;
    Ok(true)
}
