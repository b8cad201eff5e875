//! Listening sockets and the loop that serves HTTP on them.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Connections served at a time on one socket: whoever opens more waits, the agent's file descriptors are not theirs.
const CONNECTIONS: usize = 512;
/// How long a client may take to send a request head, and so how long an idle connection stays.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// Pause after an accept that failed for lack of something (file descriptors), which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Opens a listening socket, as Go's `net.Listen("tcp", ...)` does: `0.0.0.0` and `[::]` both mean every address of
/// both families, or of IPv4 where the kernel has no IPv6. Needs a tokio runtime.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_unspecified() {
        return listen_exactly(address);
    }
    match listen_exactly(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port())) {
        Err(error) if address.is_ipv4() && lacks_ipv6(&error) => listen_exactly(address),
        outcome => outcome,
    }
}

/// IPv6 is not built in, or switched off: no such sockets, or no such address.
fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT))
}

fn listen_exactly(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &!address.ip().is_unspecified())?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Answers requests for ever. Dropping the future closes the socket and every connection.
pub async fn serve(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, router.clone()));
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::trace!(%error, "connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn the_ipv4_wildcard_listens_on_both_families() {
        let listener = listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            TcpStream::connect((host, port)).await.unwrap_or_else(|error| panic!("{host}: {error}"));
        }
    }

    #[tokio::test]
    async fn a_single_address_listens_on_that_address_only() {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.is_err());
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error_until_it_is_free() {
        let first = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = first.local_addr().unwrap();
        assert_eq!(listen(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        listen(address).unwrap();
    }
}
