//! The eBPF dataplane against the real kernel: what it makes, takes over, repairs and leaves. Each test has network and
//! mount namespaces and a BPF file system of its own, and needs root, `ip` and `nft`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod explain;
mod fixtures;
mod interfaces;
mod life;
