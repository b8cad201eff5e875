//! The web server of each pod, and how the demo asks it: who answered, and whom it saw.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::serve::IncomingStream;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::lab::{Answer, Attempt, Outcome, http_get};

/// Both ends of one connection, as the pod sees them.
#[derive(Debug, Clone, Copy)]
struct Ends {
    local: SocketAddr,
    peer: SocketAddr,
}

impl Connected<IncomingStream<'_, TcpListener>> for Ends {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        let peer = canonical(*stream.remote_addr());
        // A connection that is gone by now is not answered anyway.
        Self { local: stream.io().local_addr().map_or(peer, canonical), peer }
    }
}

/// One socket takes both IP versions; IPv4 then shows up as mapped addresses.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What every path is answered with, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    pod: String,
    local: SocketAddr,
    client: SocketAddr,
}

/// Serves until `stop`, then finishes what was begun; to be called on the pod's worker.
pub(super) async fn serve(pod: String, port: u16, stop: CancellationToken) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await?;
    let page = move |ConnectInfo(ends): ConnectInfo<Ends>| {
        let page = Page { pod: pod.clone(), local: ends.local, client: ends.peer };
        // With an end of line, for those who look with curl.
        async move { serde_json::to_string(&page).map(|json| json + "\n").map_err(|error| error.to_string()) }
    };
    let router = axum::Router::new().fallback(page).into_make_service_with_connect_info::<Ends>();
    tokio::spawn(async move {
        // Serving only ends when it is told to.
        drop(axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await);
    });
    Ok(())
}

/// Asks once, on a connection of its own; to be called on a worker.
pub(super) async fn ask(source: Option<IpAddr>, to: SocketAddr, patience: Duration) -> Attempt {
    let started = Instant::now();
    let outcome = match http_get(source, to, "/".to_owned(), patience).await {
        Ok(answer) => match serde_json::from_str::<Page>(&answer.body) {
            Ok(page) if answer.status == 200 => {
                Outcome::Answer(Answer { local: page.local, peer: page.client, problem: None })
            }
            _ => Outcome::Failed(format!("HTTP status {}: {}", answer.status, answer.body)),
        },
        Err(outcome) => outcome,
    };
    Attempt { from: source, outcome, elapsed: started.elapsed() }
}
