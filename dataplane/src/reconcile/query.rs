//! Questions to the agent from the HTTP servers, answered by the task that owns the state.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::domain::Protocol;
use crate::serve::{ExplainError, Introspection};

/// One question, with the way to answer it.
#[derive(Debug)]
pub enum Query {
    /// What is programmed, how healthy, how far behind.
    Status(oneshot::Sender<Value>),
    /// Frontends and pools.
    Services(oneshot::Sender<Value>),
    /// Where a connection goes.
    Explain {
        /// Source; `None` is this node.
        from: Option<IpAddr>,
        /// Destination.
        to: SocketAddr,
        /// Protocol.
        protocol: Protocol,
        /// Run a packet through what is loaded, too.
        probe: bool,
        /// For the answer.
        answer: oneshot::Sender<Value>,
    },
    /// Bring metrics that are measured on demand up to date.
    Measure(oneshot::Sender<()>),
}

/// Asks the agent; cheap to clone.
#[derive(Clone)]
pub struct QueryHandle(mpsc::Sender<Query>);

impl fmt::Debug for QueryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryHandle").finish_non_exhaustive()
    }
}

impl QueryHandle {
    /// A handle, and the end that the agent reads.
    pub fn channel() -> (Self, mpsc::Receiver<Query>) {
        let (sender, receiver) = mpsc::channel(16);
        (Self(sender), receiver)
    }

    /// `None` if the agent is gone.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Query) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(question(sender)).await.ok()?;
        receiver.await.ok()
    }
}

impl Introspection for QueryHandle {
    fn status(&self) -> BoxFuture<'_, Value> {
        async { self.ask(Query::Status).await.unwrap_or_else(stopping) }.boxed()
    }

    fn services(&self) -> BoxFuture<'_, Value> {
        async { self.ask(Query::Services).await.unwrap_or_else(stopping) }.boxed()
    }

    fn explain(&self, from: String, to: String, probe: bool) -> BoxFuture<'_, Result<Value, ExplainError>> {
        async move {
            let from = parse_from(&from)?;
            let (to, protocol) = parse_to(&to)?;
            let answer = self.ask(|answer| Query::Explain { from, to, protocol, probe, answer }).await;
            answer.ok_or_else(|| ExplainError::Unavailable("the agent is stopping".to_owned()))
        }
        .boxed()
    }

    fn before_metrics(&self) -> BoxFuture<'_, ()> {
        // Without an answer the metrics are as old as they are.
        self.ask(Query::Measure).map(Option::unwrap_or_default).boxed()
    }
}

fn stopping() -> Value {
    json!({"state": "stopping"})
}

/// The client's address; empty, `node` and `localhost` mean this node.
fn parse_from(text: &str) -> Result<Option<IpAddr>, ExplainError> {
    if matches!(text, "" | "node" | "localhost") {
        return Ok(None);
    }
    let bad = |error: std::net::AddrParseError| ExplainError::BadParameter {
        parameter: "from",
        reason: format!("{text:?} is not an address: {error}"),
    };
    text.trim_matches(['[', ']']).parse().map(Some).map_err(bad)
}

/// `ADDRESS:PORT/PROTOCOL`; without a protocol it is TCP.
fn parse_to(text: &str) -> Result<(SocketAddr, Protocol), ExplainError> {
    let bad = |reason: String| ExplainError::BadParameter { parameter: "to", reason };
    let (socket, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = Protocol::parse(protocol)
        .ok_or_else(|| bad(format!("{protocol:?} is not a protocol: use tcp, udp or sctp")))?;
    let socket = socket.parse().map_err(|error| bad(format!("{socket:?} is not ADDRESS:PORT: {error}")))?;
    Ok((socket, protocol))
}

/// The address this node would use towards `to` when nothing else is known.
pub(super) const fn loopback_towards(to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_an_address_a_port_and_a_protocol() {
        let (to, protocol) = parse_to("[fd00::1]:53/UDP").unwrap();
        assert_eq!((to.to_string().as_str(), protocol), ("[fd00::1]:53", Protocol::Udp));
        assert_eq!(parse_to("10.96.0.1:443").unwrap().1, Protocol::Tcp);
    }

    #[test]
    fn bad_parameters_are_named() {
        assert!(parse_to("10.96.0.1/tcp").unwrap_err().to_string().starts_with("to: "));
        assert!(parse_to("10.96.0.1:80/icmp").unwrap_err().to_string().contains("icmp"));
        assert!(parse_from("web").unwrap_err().to_string().starts_with("from: "));
    }

    #[test]
    fn a_client_can_be_the_node() {
        assert_eq!(parse_from("node").unwrap(), None);
        assert_eq!(parse_from("[fd00::1]").unwrap(), Some("fd00::1".parse().unwrap()));
    }
}
