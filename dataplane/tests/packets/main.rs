//! The tc programs, packet by packet (`BPF_PROG_TEST_RUN`): packet in, verdict and packet out, map state. Needs root,
//! fails without.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that is wrong about its own packet is a test that fails; figures are for whoever asks"
)]

mod accelerated;
mod beginnings;
mod checksums;
mod choosing;
mod conflicts;
mod counting;
mod coverage;
mod elements;
mod flows;
mod forms;
mod fragments;
mod half_open;
mod lab;
mod malformed;
mod packet;
mod policies;
mod readdressed;
mod shortcuts;
mod slots;
mod sockets;
mod speed;
mod traffic;
mod twice;
mod unanswered;
mod untouched;
mod wire;
mod world;
