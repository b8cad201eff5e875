//! A plain HTTP/1.1 GET from a chosen source address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::message::Outcome;

/// An HTTP response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// Status line and headers as they came.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Fetches `path`; to be called on a worker. Errors are sorted like those of
/// other conversations.
pub async fn get(
    source: Option<IpAddr>,
    to: SocketAddr,
    path: String,
    patience: Duration,
) -> Result<HttpAnswer, Outcome> {
    match timeout(patience, fetch(source, to, &path)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Outcome::of_error(&error)),
        Err(_elapsed) => Err(Outcome::Timeout),
    }
}

async fn fetch(source: Option<IpAddr>, to: SocketAddr, path: &str) -> io::Result<HttpAnswer> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let mut stream = socket.connect(to).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| io::Error::other("not an HTTP response"))
}

fn parse(text: &str) -> Option<HttpAnswer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(HttpAnswer { status, head: head.to_owned(), body: body.to_owned() })
}
