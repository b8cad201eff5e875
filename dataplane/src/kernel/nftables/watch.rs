//! Noticing that somebody else changes our tables: `nft flush ruleset`, a firewall that restarts, a helping hand.
#![expect(unsafe_code, reason = "tokio wants a promise about the descriptor")]

use std::io;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::encode;
use crate::kernel::netlink::{Messages, Notifications, find_text};

/// Hears of every change of nftables in this network namespace.
///
/// Created after the first `restore`: a notification for each of some hundred thousand elements would be of no use.
#[derive(Debug)]
pub struct Monitor {
    socket: AsyncFd<Notifications>,
    own: u32,
}

impl Monitor {
    /// Starts to listen, in the network namespace of the calling thread. `own` is the port of the socket whose changes
    /// are not news ([`super::Nftables::port`]). Must be called within a tokio runtime.
    pub fn new(own: u32) -> io::Result<Self> {
        /// `NFNLGRP_NFTABLES`
        const GROUP: u32 = 7;
        let notifications = Notifications::netfilter(GROUP)?;
        // SAFETY: the socket owns its descriptor, gives out always the same one, and is dropped with the `AsyncFd`.
        let socket = unsafe { AsyncFd::register_with_interest(notifications, Interest::READABLE) };
        Ok(Self { socket: socket.map_err(io::Error::from)?, own })
    }

    /// Waits until somebody else has changed one of our tables, or may have: when more happens than can be listened to.
    /// Everything that has happened by then counts as one change.
    pub async fn changed_by_others(&mut self) -> io::Result<()> {
        let own = self.own;
        loop {
            let mut ready = self.socket.readable_mut().await?;
            let changed = ready.get_inner_mut().drain(|datagram| is_foreign(datagram, own))?;
            ready.clear_ready();
            if changed {
                return Ok(());
            }
        }
    }
}

/// Whether a datagram tells of a change to one of our tables by another socket than `own`.
fn is_foreign(datagram: &[u8], own: u32) -> bool {
    tells_of(datagram, encode::TABLE, Some(own))
}

/// Whether a datagram tells of a change to a table of that name by another socket than `own`.
pub(super) fn tells_of(datagram: &[u8], table: &str, own: Option<u32>) -> bool {
    /// In every kind of object, the first attribute is the name of the table.
    const TABLE: u16 = 1;
    const NEW_GENERATION: u16 = (10 << 8) | 15;
    Messages::new(datagram).any(|message| {
        message.kind != NEW_GENERATION
            && Some(message.port) != own
            && message.payload.get(4..).and_then(|bytes| find_text(bytes, TABLE)) == Some(table)
    })
}
