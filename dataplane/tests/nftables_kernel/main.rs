//! The nftables dataplane against the real kernel. Each test has a network namespace of its own and needs root and `nft`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stderr, reason = "figures for whoever runs the tests")]

#[path = "../namespace/mod.rs"]
mod namespace;

mod changes;
mod explain;
mod fixtures;
mod neighbours;
mod sources;
mod speed;
mod state;
mod traffic;
