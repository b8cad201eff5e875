//! Classic BPF filters of a clsact qdisc: for kernels without tcx, and for the first moments on many interfaces at once
//! (a link takes the kernel some 15 ms, with everything else that configures interfaces waiting; a filter 50 µs).
//!
//! A filter is told from those of others by priority, handle and name. It belongs to the kernel, so it stays when the
//! agent ends, and replacing it is atomic.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::hook::Hook;
use crate::kernel::netlink::{Message, Socket, Writer, find, find_text};

/// Priority unless the operator says otherwise: after those that others usually choose (1, 2, 0xc000 downwards).
pub(super) const PRIORITY: u16 = 0x5347;
/// The one filter of shunt at this priority.
const HANDLE: u32 = 1;
/// `TC_H_CLSACT`, the place of the qdisc, and the handle that it gets there.
const PLACE: u32 = 0xffff_fff1;
const QDISC: u32 = 0xffff_0000;
const KIND: &str = "clsact";

/// Attributes of qdiscs and filters (`TCA_*`), and of BPF filters (`TCA_BPF_*`).
mod attribute {
    pub(super) const KIND: u16 = 1;
    pub(super) const OPTIONS: u16 = 2;
    pub(super) const FD: u16 = 6;
    pub(super) const NAME: u16 = 7;
    pub(super) const FLAGS: u16 = 8;
}

/// `struct tcmsg`
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    interface: u32,
    handle: u32,
    parent: u32,
    info: u32,
}

impl Header {
    /// Its length, and where its fields are.
    const LENGTH: usize = 20;

    fn bytes(self) -> Vec<u8> {
        let numbers = [0, self.interface, self.handle, self.parent, self.info];
        numbers.into_iter().flat_map(u32::to_ne_bytes).collect()
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_ne_bytes(payload.get(at..at + 4)?.try_into().ok()?));
        Some(Self { interface: number(4)?, handle: number(8)?, parent: number(12)?, info: number(16)? })
    }
}

/// A filter of whomever.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter {
    priority: u16,
    handle: u32,
    name: String,
}

impl Filter {
    fn is_own(&self, hook: &Hook) -> bool {
        self.handle == HANDLE && self.name == hook.program
    }
}

/// Talks to the kernel about classic filters, in the network namespace of the thread that made it.
#[derive(Debug)]
pub(super) struct Classic {
    socket: Socket,
    priority: u16,
}

impl Classic {
    pub(super) fn new(priority: u16) -> io::Result<Self> {
        Ok(Self { socket: Socket::route()?, priority })
    }

    /// Makes a clsact qdisc; false if there is one.
    pub(super) fn add_qdisc(&mut self, interface: u32) -> io::Result<bool> {
        let header = Header { interface, handle: QDISC, parent: PLACE, info: 0 };
        let mut message = header.bytes();
        Writer::new(&mut message).text(attribute::KIND, KIND);
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        match self.ask(libc::RTM_NEWQDISC, flags, &message) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the clsact qdisc with all filters; none there is not an error.
    pub(super) fn remove_qdisc(&mut self, interface: u32) -> io::Result<()> {
        let header = Header { interface, handle: QDISC, parent: PLACE, info: 0 };
        let mut message = header.bytes();
        Writer::new(&mut message).text(attribute::KIND, KIND);
        absent(self.ask(libc::RTM_DELQDISC, 0, &message))
    }

    /// Interfaces with a clsact qdisc, whosever.
    pub(super) fn qdiscs(&mut self) -> io::Result<BTreeSet<u32>> {
        let request = (libc::RTM_GETQDISC, libc::NLM_F_DUMP);
        self.socket.request(request, &Header::default().bytes(), |found: &mut BTreeSet<u32>, message| {
            let kind =
                message.payload.get(Header::LENGTH..).and_then(|bytes| find_text(bytes, attribute::KIND));
            if kind == Some(KIND) {
                found.extend(Header::read(message.payload).map(|header| header.interface));
            }
        })
    }

    /// Has `program` run at the hook, in place of the filter that shunt has there. Fails if the place among the filters
    /// is somebody else's.
    pub(super) fn attach(&mut self, interface: u32, hook: &Hook, program: BorrowedFd<'_>) -> io::Result<()> {
        const DIRECT_ACTION: u32 = 1;
        let mut message = header(interface, hook, self.priority).bytes();
        // These numbers are in the order of the host.
        Writer::new(&mut message).text(attribute::KIND, "bpf").nested(attribute::OPTIONS, |options| {
            options
                .bytes(attribute::FD, &program.as_raw_fd().to_ne_bytes())
                .text(attribute::NAME, hook.program)
                .bytes(attribute::FLAGS, &DIRECT_ACTION.to_ne_bytes());
        });
        let present = self.filters(interface, hook)?;
        let taken = |filter: &&Filter| filter.priority == self.priority && filter.handle == HANDLE;
        if present.iter().find(taken).is_some_and(|filter| !filter.is_own(hook)) {
            let words = format!(
                "a filter that is not shunt's has priority {} and handle {HANDLE}: choose another filterPriority",
                self.priority
            );
            return Err(io::Error::new(io::ErrorKind::AddrInUse, words));
        }
        self.ask(libc::RTM_NEWTFILTER, libc::NLM_F_CREATE, &message)?;
        // Of an agent with another setting.
        let priority = self.priority;
        present
            .iter()
            .filter(|filter| filter.is_own(hook) && filter.priority != priority)
            .try_for_each(|filter| self.remove(interface, hook, filter.priority))
    }

    /// Removes shunt's filters from a hook, whatever their priority; none there is not an error.
    pub(super) fn detach(&mut self, interface: u32, hook: &Hook) -> io::Result<()> {
        let present = self.filters(interface, hook)?;
        let mut own = present.iter().filter(|filter| filter.is_own(hook));
        own.try_for_each(|filter| self.remove(interface, hook, filter.priority))
    }

    fn remove(&mut self, interface: u32, hook: &Hook, priority: u16) -> io::Result<()> {
        let mut message = header(interface, hook, priority).bytes();
        Writer::new(&mut message).text(attribute::KIND, "bpf");
        absent(self.ask(libc::RTM_DELTFILTER, 0, &message))
    }

    /// Whether shunt's filter is at the hook.
    pub(super) fn is_attached(&mut self, interface: u32, hook: &Hook) -> io::Result<bool> {
        let priority = self.priority;
        let own = |filter: &Filter| filter.priority == priority && filter.is_own(hook);
        self.filters(interface, hook).map(|filters| filters.iter().any(own))
    }

    /// Whether there is any filter at the hook.
    pub(super) fn is_used(&mut self, interface: u32, hook: &Hook) -> io::Result<bool> {
        self.filters(interface, hook).map(|filters| !filters.is_empty())
    }

    /// Whether there is a filter of somebody else at the hook.
    pub(super) fn has_others(&mut self, interface: u32, hook: &Hook) -> io::Result<bool> {
        self.filters(interface, hook).map(|filters| filters.iter().any(|filter| !filter.is_own(hook)))
    }

    /// Filters at a hook; none where there is no qdisc or no interface.
    fn filters(&mut self, interface: u32, hook: &Hook) -> io::Result<Vec<Filter>> {
        let header = Header { interface, parent: hook.parent, ..Header::default() };
        let request = (libc::RTM_GETTFILTER, libc::NLM_F_DUMP);
        let found = self.socket.request(request, &header.bytes(), |found: &mut Vec<Filter>, message| {
            found.extend(read(message));
        });
        match found {
            Err(error) if is_absence(&error) => Ok(Vec::new()),
            outcome => outcome,
        }
    }

    fn ask(&mut self, kind: u16, flags: i32, message: &[u8]) -> io::Result<()> {
        self.socket.request((kind, flags), message, |(): &mut (), _| {})
    }
}

fn header(interface: u32, hook: &Hook, priority: u16) -> Header {
    /// `ETH_P_ALL`
    const ALL: u16 = 3;
    let info = u32::from(priority) << 16 | u32::from(ALL.to_be());
    Header { interface, handle: HANDLE, parent: hook.parent, info }
}

fn read(message: Message<'_>) -> Option<Filter> {
    let header = Header::read(message.payload)?;
    let attributes = message.payload.get(Header::LENGTH..)?;
    let options = find(attributes, attribute::OPTIONS).unwrap_or_default();
    let name = find_text(options, attribute::NAME).unwrap_or_default().to_owned();
    Some(Filter { priority: u16::try_from(header.info >> 16).ok()?, handle: header.handle, name })
}

/// There is no such filter, qdisc or interface.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput)
        || error.raw_os_error() == Some(libc::ENODEV)
}

fn absent(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if is_absence(&error) => Ok(()),
        outcome => outcome,
    }
}
