//! The eBPF dataplane against the real kernel: what it makes, takes over, repairs and leaves. Each test has network and
//! mount namespaces and a BPF file system of its own, and needs root, `ip` and `nft`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and processes of tests say what they see"
)]

mod explain;
mod fixtures;
mod interfaces;
mod life;
mod processes;
mod sockets;
