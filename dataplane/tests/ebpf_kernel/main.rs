//! The eBPF dataplane against the real kernel: what it makes, takes over, repairs and leaves. Each test has network and
//! mount namespaces and a BPF file system of its own, and needs root, `ip` and `nft`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on fails; processes of tests say what they see, and times are for whoever asks"
)]

#[path = "../bpffs/mod.rs"]
mod bpffs;
#[path = "../namespace/mod.rs"]
mod namespace;

mod attaching;
mod counted;
mod drift;
mod explain;
mod filters;
mod fixtures;
mod full;
mod interfaces;
mod kinds;
mod life;
mod masquerading;
mod network;
mod others;
mod processes;
mod sockets;
mod traffic;
mod upgrade;
