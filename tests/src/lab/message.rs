//! What the two ends of a test conversation say to each other.
//!
//! A message is one line of JSON, its header, followed by a body of the length
//! the header gives. Bodies hold a fixed pattern, so that damage is noticed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Most bytes a datagram can hold.
pub(crate) const MAX_DATAGRAM: usize = 65_535;
/// No header is longer; protects against endless garbage on a stream.
const MAX_HEADER: usize = 4096;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, of which only INIT and INIT ACK are spoken.
    Sctp,
}

/// What came back in one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A responder answered.
    Answer(Answer),
    /// Silence until the time was over.
    Timeout,
    /// The network said that nobody is there (the error's text).
    Rejected(String),
    /// The own machine refused to send: EPERM, as a drop of local output looks.
    Denied,
    /// Anything else (the error's text).
    Failed(String),
}

impl Outcome {
    /// Sorts errors by what they say about the network.
    pub fn of_error(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut {
            return Self::Timeout;
        }
        match error.raw_os_error() {
            Some(libc::EPERM) => Self::Denied,
            Some(
                libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EACCES
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN,
            ) => Self::Rejected(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Both ends of a conversation, as the responder saw them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The responder's own address and port.
    pub local: SocketAddr,
    /// The address and port of the client, as it arrived.
    pub peer: SocketAddr,
    /// Damage found on the way, in words.
    pub problem: Option<String>,
}

/// Header of a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RequestHeader {
    /// Bytes of body that follow.
    pub body: usize,
    /// Bytes of body wanted in the answer.
    pub reply: usize,
    /// Comes back in the answer: tells late answers apart.
    pub nonce: u64,
}

/// Header of an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AnswerHeader {
    pub body: usize,
    pub nonce: u64,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub problem: Option<String>,
}

/// Headers know how much body follows them.
pub(crate) trait Header: Serialize + DeserializeOwned {
    fn body(&self) -> usize;
}

impl Header for RequestHeader {
    fn body(&self) -> usize {
        self.body
    }
}

impl Header for AnswerHeader {
    fn body(&self) -> usize {
        self.body
    }
}

/// The bytes of a message with a pattern body of the header's length.
pub(crate) fn encode<H: Header>(header: &H) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(header).context("cannot encode a header")?;
    bytes.push(b'\n');
    bytes.extend(pattern(header.body()));
    Ok(bytes)
}

/// A header and what is wrong with the body behind it.
pub(crate) fn decode<H: Header>(bytes: &[u8]) -> Result<(H, Option<String>)> {
    let end = bytes.iter().position(|byte| *byte == b'\n').context("a message without header")?;
    let (line, rest) = bytes.split_at(end);
    let header: H = serde_json::from_slice(line).context("a header that cannot be read")?;
    let problem = damage(rest.get(1..).unwrap_or_default(), header.body());
    Ok((header, problem))
}

/// Reads one message from a stream; `None` at a clean end.
pub(crate) async fn receive<H: Header>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<(H, Option<String>)>> {
    let mut data = Vec::new();
    let end = loop {
        if let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            break end;
        }
        if data.len() > MAX_HEADER {
            anyhow::bail!("a header of over {MAX_HEADER} bytes");
        }
        if stream.read_buf(&mut data).await? == 0 {
            return Ok(None);
        }
    };
    let header: H = serde_json::from_slice(data.get(..end).unwrap_or_default())?;
    while data.len() < end + 1 + header.body() {
        if stream.read_buf(&mut data).await? == 0 {
            break;
        }
    }
    let problem = damage(data.get(end + 1..).unwrap_or_default(), header.body());
    Ok(Some((header, problem)))
}

fn damage(body: &[u8], wanted: usize) -> Option<String> {
    if body.len() != wanted {
        return Some(format!("{} of {wanted} bytes arrived", body.len()));
    }
    let wrong = body.iter().zip(pattern(wanted)).position(|(found, wanted)| *found != wanted);
    wrong.map(|place| format!("byte {place} of {wanted} was changed"))
}

fn pattern(length: usize) -> impl Iterator<Item = u8> {
    (0..=u8::MAX).map(|number| number.wrapping_mul(7).wrapping_add(3)).cycle().take(length)
}

/// One attempt of a client, with where it came from and how long it took.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The source the client bound, if it bound one.
    pub from: Option<IpAddr>,
    /// What came back.
    pub outcome: Outcome,
    /// From before the first packet until the outcome.
    pub elapsed: Duration,
}

#[cfg(test)]
mod tests {
    use super::{RequestHeader, decode, encode};

    #[test]
    fn damaged_bodies_are_noticed() {
        let message = encode(&RequestHeader { body: 600, reply: 0, nonce: 7 }).expect("encodes");
        assert_eq!(decode::<RequestHeader>(&message).expect("decodes").1, None);
        let mut changed = message.clone();
        *changed.last_mut().expect("not empty") ^= 1;
        assert_eq!(
            decode::<RequestHeader>(&changed).expect("decodes").1.as_deref(),
            Some("byte 599 of 600 was changed")
        );
        let short = &message[..message.len() - 1];
        assert_eq!(
            decode::<RequestHeader>(short).expect("decodes").1.as_deref(),
            Some("599 of 600 bytes arrived")
        );
    }
}
