//! The tables of kube-proxy's nftables mode.

use std::io;

use netlink_bindings::nftables::{Chained, Nfgenmsg, Request};
use netlink_socket2::{NetlinkSocket, ReplyError};

use super::{Leftover, StepError};
use crate::domain::IpFamily;

const NAME: &[u8] = b"kube-proxy";
/// Subsystem number that opens a transaction: NFNL_SUBSYS_NFTABLES.
const NFTABLES: u16 = 10;

pub(super) fn detect() -> Vec<Leftover> {
    let present = |family: &IpFamily| match exists(*family) {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(%family, %error, "cannot list nftables tables");
            false
        }
    };
    IpFamily::ALL.into_iter().filter(present).map(|family| Leftover::NftablesTable { family }).collect()
}

/// The table with all that is in it. Whether it was there.
pub(super) fn remove(family: IpFamily) -> Result<bool, StepError> {
    match delete(family) {
        Ok(()) => Ok(true),
        Err(error) if error.as_io_error().raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => {
            let operation = format!("delete the nftables table kube-proxy ({family})");
            Err(StepError::Kernel { operation, source: error.into() })
        }
    }
}

/// Table and name of every chain of a family.
pub(super) fn chains(family: IpFamily) -> io::Result<Vec<(String, String)>> {
    let mut socket = NetlinkSocket::new();
    let request = Request::new().op_getchain_dump(&header(family));
    let mut replies = socket.request(&request)?;
    let mut found = Vec::new();
    while let Some(reply) = replies.recv() {
        let (_, attributes) = reply?;
        if let (Ok(table), Ok(name)) = (attributes.get_table(), attributes.get_name()) {
            found.push((table.to_string_lossy().into_owned(), name.to_string_lossy().into_owned()));
        }
    }
    Ok(found)
}

fn exists(family: IpFamily) -> io::Result<bool> {
    let mut socket = NetlinkSocket::new();
    let request = Request::new().op_gettable_dump(&header(family));
    let mut replies = socket.request(&request)?;
    let mut found = false;
    while let Some(reply) = replies.recv() {
        let (_, attributes) = reply?;
        found |= attributes.get_name().is_ok_and(|name| name.to_bytes() == NAME);
    }
    Ok(found)
}

fn delete(family: IpFamily) -> Result<(), ReplyError> {
    let mut socket = NetlinkSocket::new();
    let mut transaction = Chained::new(socket.reserve_seq(3));
    let mut frame = Nfgenmsg::new();
    frame.set_res_id(NFTABLES);
    transaction.request().op_batch_begin_do(&frame);
    transaction.request().op_deltable_do(&header(family)).encode().push_name_bytes(NAME);
    transaction.request().op_batch_end_do(&frame);
    socket.request_chained(&transaction.finalize())?.recv_all()
}

fn header(family: IpFamily) -> Nfgenmsg {
    let mut header = Nfgenmsg::new();
    // NFPROTO_IPV4 and NFPROTO_IPV6 have the numbers of the address families.
    header.nfgen_family = match family {
        IpFamily::V4 => 2,
        IpFamily::V6 => 10,
    };
    header
}
