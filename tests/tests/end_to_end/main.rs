//! What an operator sees of shunt on a small cluster, with real packets.
//!
//! Needs root, iproute2, nft and the built agent (or `SHUNT_BIN`).

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod accelerated;
mod bridge;
mod client_ports;
mod masquerade;
mod nodes;
mod overlay;
mod recovery;
mod rolling_update;
mod scale;
mod switches;
mod topologies;
mod upgrade;

use std::net::SocketAddr;

use shunt_tests::lab::{Dial, Outcome, Protocol};

/// A socket address from its text.
fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// A TCP conversation.
fn tcp(to: &str) -> Dial {
    Dial::new(Protocol::Tcp, at(to))
}

fn answered_by(outcome: &Outcome) -> Option<SocketAddr> {
    match outcome {
        Outcome::Answer(answer) if answer.problem.is_none() => Some(answer.local),
        _ => None,
    }
}

fn is_answer(outcome: &Outcome) -> bool {
    answered_by(outcome).is_some()
}
