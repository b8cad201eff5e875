//! nfnetlink batches: several messages that take effect together or not at all.

use std::io;

use super::attribute::find;
use super::message::{HEADER, Message, u32_at};
use super::socket::Socket;
use super::writer::Writer;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
/// Attributes of an extended acknowledgement.
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;

/// A batch of nftables messages in the making.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each message starts.
    messages: Vec<usize>,
    family: u8,
}

/// Why a batch was refused. Nothing of it took effect.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct BatchError {
    /// Which message (in order of [`Batch::push`], from 0) the kernel refused first, if it was one of them.
    pub message: Option<usize>,
    /// Where in that message, counted from its header, the offending attribute starts.
    pub offset: Option<usize>,
    /// The kernel's answer.
    pub source: io::Error,
}

impl Batch {
    /// An empty batch for one protocol family (`NFPROTO_IPV4`, ...).
    pub fn new(family: u8) -> Self {
        let mut batch = Self { bytes: Vec::with_capacity(4096), messages: Vec::new(), family };
        batch.control(NFNL_MSG_BATCH_BEGIN);
        batch
    }

    /// Adds one message; `attributes` writes what follows the family header.
    pub fn push(&mut self, kind: u16, flags: i32, attributes: impl FnOnce(&mut Writer<'_>)) {
        self.messages.push(self.bytes.len());
        let family = self.family;
        let header = ((NFNL_SUBSYS_NFTABLES << 8) | kind, flags | libc::NLM_F_REQUEST);
        push_message(&mut self.bytes, header, 0, |bytes| {
            bytes.extend([family, 0, 0, 0]);
            attributes(&mut Writer::new(bytes));
        });
    }

    /// Number of messages.
    pub const fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is anything to send.
    pub const fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The message of that number, header included.
    pub fn message(&self, index: usize) -> Option<&[u8]> {
        let start = *self.messages.get(index)?;
        let length = usize::try_from(u32_at(&self.bytes, start)?).ok()?;
        self.bytes.get(start..start + length)
    }

    /// Sends the batch, which takes effect as a whole or not at all.
    pub fn commit(&mut self, socket: &mut Socket) -> Result<(), BatchError> {
        let open = self.bytes.len();
        self.control(NFNL_MSG_BATCH_END);
        let result = self.send(socket);
        self.bytes.truncate(open);
        result
    }

    /// Has the kernel look at everything, and then forget it: a batch without an end.
    pub fn check(&mut self, socket: &mut Socket) -> Result<(), BatchError> {
        self.send(socket)
    }

    fn send(&mut self, socket: &mut Socket) -> Result<(), BatchError> {
        let Some(&last) = self.messages.last() else { return Ok(()) };
        let first = self.number(socket);
        self.request_acknowledgement(last);
        socket.send(&self.bytes).map_err(unplaced)?;
        self.answer(socket, first)
    }

    /// Numbers the messages; the answers carry these numbers.
    fn number(&mut self, socket: &mut Socket) -> u32 {
        let first = socket.reserve(u32::try_from(self.messages.len()).unwrap_or(u32::MAX));
        for (start, sequence) in self.messages.iter().zip(first..) {
            if let Some(field) = self.bytes.get_mut(start + 8..start + 12) {
                field.copy_from_slice(&sequence.to_ne_bytes());
            }
        }
        first
    }

    fn request_acknowledgement(&mut self, start: usize) {
        if let Some(flags) = self.bytes.get_mut(start + 6..start + 8) {
            let old =
                u16::from_ne_bytes([flags.first().copied().unwrap_or(0), flags.last().copied().unwrap_or(0)]);
            flags.copy_from_slice(&(old | u16::try_from(libc::NLM_F_ACK).unwrap_or(0)).to_ne_bytes());
        }
    }

    /// The kernel has answered by the time `send` returns: the first error, and an acknowledgement of the last message.
    fn answer(&self, socket: &mut Socket, first: u32) -> Result<(), BatchError> {
        let mut refused = None;
        let mut acknowledged = false;
        socket
            .drain(|message| {
                if i32::from(message.kind) != libc::NLMSG_ERROR {
                    return;
                }
                match errno(message.payload) {
                    Ok(()) => acknowledged = true,
                    Err(source) => {
                        refused.get_or_insert_with(|| self.place(message, first, source));
                    }
                }
            })
            .map_err(unplaced)?;
        match refused {
            Some(error) => Err(error),
            None if acknowledged => Ok(()),
            None => Err(unplaced(io::Error::other("the kernel did not acknowledge the transaction"))),
        }
    }

    fn place(&self, message: Message<'_>, first: u32, source: io::Error) -> BatchError {
        let index = usize::try_from(message.sequence.wrapping_sub(first)).ok();
        let offset = extended(message.payload).and_then(|bytes| find(bytes, NLMSGERR_ATTR_OFFS));
        BatchError {
            message: index.filter(|index| *index < self.messages.len()),
            offset: offset.and_then(|bytes| usize::try_from(u32_at(bytes, 0)?).ok()),
            source,
        }
    }

    fn control(&mut self, kind: u16) {
        push_message(&mut self.bytes, (kind, libc::NLM_F_REQUEST), 0, |bytes| {
            bytes.extend([0, 0]);
            bytes.extend(NFNL_SUBSYS_NFTABLES.to_be_bytes());
        });
    }
}

const fn unplaced(source: io::Error) -> BatchError {
    BatchError { message: None, offset: None, source }
}

/// Appends one message; its length is filled in after `payload` has written.
pub(super) fn push_message(
    bytes: &mut Vec<u8>,
    (kind, flags): (u16, i32),
    sequence: u32,
    payload: impl FnOnce(&mut Vec<u8>),
) {
    let start = bytes.len();
    bytes.extend([0; 4]);
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(u16::try_from(flags).unwrap_or(u16::MAX).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    payload(bytes);
    let length = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
    if let Some(field) = bytes.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_ne_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// What an `NLMSG_ERROR` says, with the kernel's own words where it has some.
pub(super) fn errno(payload: &[u8]) -> io::Result<()> {
    let code =
        payload.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(-libc::EBADMSG, i32::from_ne_bytes);
    if code == 0 {
        return Ok(());
    }
    let error = io::Error::from_raw_os_error(-code);
    let words = extended(payload).and_then(|bytes| super::attribute::find_text(bytes, NLMSGERR_ATTR_MSG));
    match words {
        Some(words) => Err(io::Error::new(error.kind(), Worded { words: words.to_owned(), error })),
        None => Err(error),
    }
}

/// An error number with the kernel's explanation.
#[derive(Debug, thiserror::Error)]
#[error("{error}: {words}")]
struct Worded {
    words: String,
    #[source]
    error: io::Error,
}

/// The attributes after the error number and the (capped) copy of the request's header.
fn extended(payload: &[u8]) -> Option<&[u8]> {
    payload.get(4 + HEADER..)
}
