//! The socket itself.
#![expect(unsafe_code, reason = "two socket options are not known to nix")]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, recv, send,
    setsockopt, socket, sockopt,
};

use super::message::{Message, Messages};

/// Enough for everything the kernel puts into one datagram.
const RECEIVE_BUFFER: usize = 128 << 10;
/// What the kernel may queue for us; a transaction with many refused messages answers each of them.
const RECEIVE_QUEUE: usize = 8 << 20;
/// A dump is repeated at most this often when somebody changes the table meanwhile.
const DUMP_ATTEMPTS: usize = 10;

/// A blocking netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    send_queue: usize,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a `NETLINK_NETFILTER` socket in the network namespace of the calling thread.
    pub fn netfilter() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkNetFilter)
    }

    /// Opens a `NETLINK_ROUTE` socket in the network namespace of the calling thread.
    pub fn route() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    fn open(protocol: SockProtocol) -> io::Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_QUEUE)?;
        // Errors come with a text and the offset of the attribute, and without a copy of the request.
        set_flag(&fd, libc::NETLINK_EXT_ACK)?;
        set_flag(&fd, libc::NETLINK_CAP_ACK)?;
        Ok(Self { fd, send_queue: 0, sequence: 1, buffer: vec![0; RECEIVE_BUFFER] })
    }

    /// The port that the kernel gave to this socket: the sender in notifications about what it changed.
    pub fn port(&self) -> io::Result<u32> {
        Ok(getsockname::<NetlinkAddr>(self.fd.as_raw_fd())?.pid())
    }

    /// A sequence number that is followed by `count` unused ones.
    pub(super) const fn reserve(&mut self, count: u32) -> u32 {
        let first = self.sequence;
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    /// Sends one datagram, however large.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        // The kernel refuses what does not fit its queue of one message; it doubles what is asked for.
        if self.send_queue < bytes.len() {
            setsockopt(&self.fd, sockopt::SndBufForce, &(bytes.len() + 4096))?;
            self.send_queue = bytes.len();
        }
        let sent = send(self.fd.as_raw_fd(), bytes, MsgFlags::empty())?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Hands every queued message to `each`, without waiting for more.
    pub fn drain(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<()> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    let messages = Messages::new(self.buffer.get(..length).unwrap_or_default());
                    messages.for_each(&mut each);
                }
                Err(nix::errno::Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks one question and folds the answers with `each`. `flags` says whether it is a dump (`NLM_F_DUMP`), which
    /// starts again from the default when somebody changes meanwhile what is being read.
    pub fn request<T: Default>(
        &mut self,
        (kind, flags): (u16, i32),
        payload: &[u8],
        mut each: impl FnMut(&mut T, Message<'_>),
    ) -> io::Result<T> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.reserve(1);
            let mut answer = T::default();
            self.send(&single(kind, flags, sequence, payload))?;
            if self.collect(sequence, &mut |message| each(&mut answer, message))? {
                return Ok(answer);
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the table changes faster than it can be read"))
    }

    /// Reads answers up to the end; false if somebody changed what was dumped meanwhile.
    fn collect(&mut self, sequence: u32, each: &mut dyn FnMut(Message<'_>)) -> io::Result<bool> {
        let mut consistent = true;
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            let answers = Messages::new(self.buffer.get(..length).unwrap_or_default());
            for message in answers.filter(|message| message.sequence == sequence) {
                consistent &= i32::from(message.flags) & libc::NLM_F_DUMP_INTR == 0;
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok(consistent),
                    libc::NLMSG_ERROR => return super::batch::errno(message.payload).map(|()| consistent),
                    _ => each(message),
                }
            }
        }
    }
}

fn single(kind: u16, flags: i32, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    // A single answer is followed by an acknowledgement, so that each request has a clear end.
    let acknowledge = if flags & libc::NLM_F_DUMP == libc::NLM_F_DUMP { 0 } else { libc::NLM_F_ACK };
    super::batch::push_message(
        &mut bytes,
        (kind, flags | libc::NLM_F_REQUEST | acknowledge),
        sequence,
        |bytes| {
            bytes.extend(payload);
        },
    );
    bytes
}

fn set_flag(fd: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to `on`, which outlives the call, and the length is that of its type.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            libc::socklen_t::try_from(size_of_val(&on)).unwrap_or_default(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
