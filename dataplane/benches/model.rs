//! The pure parts of the dataplanes: from the changes of a plan to what is written to the kernel, without a kernel.
//!
//! `cargo bench -p shunt --features workbench`
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot begin ends")]

mod scene;

use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use scene::{Planned, SERVICES, versions};
use shunt::kernel::{ebpf, nftables};
use shunt::plan::Changes;

/// There and back again.
fn changes(planned: &mut Planned) -> [Changes; 2] {
    let changes = versions().map(|slice| planned.change(slice));
    assert!(changes.iter().all(|changes| changes.frontends.len() == 2));
    changes
}

fn ebpf(criterion: &mut Criterion) {
    let mut planned = Planned::new(SERVICES);
    let changes = changes(&mut planned);
    criterion.bench_function("eBPF: writes for 10,000 services", |bencher| {
        bencher.iter_with_large_drop(|| {
            let mut workbench = ebpf::workbench::Workbench::new(Instant::now());
            workbench.apply(&planned.first);
            workbench
        });
    });
    let mut workbench = ebpf::workbench::Workbench::new(Instant::now());
    workbench.apply(&planned.first);
    let mut turns = changes.iter().cycle();
    criterion.bench_function("eBPF: writes for one change among 10,000", |bencher| {
        bencher.iter(|| {
            let (written, _) = workbench.apply(turns.next().unwrap());
            assert!(written > 0);
        });
    });
}

fn nftables(criterion: &mut Criterion) {
    let mut planned = Planned::new(SERVICES);
    let changes = changes(&mut planned);
    criterion.bench_function("nftables: messages for 10,000 services", |bencher| {
        bencher.iter_with_large_drop(|| {
            let mut workbench = nftables::workbench::Workbench::new();
            workbench.apply(&planned.first);
            workbench
        });
    });
    let mut workbench = nftables::workbench::Workbench::new();
    workbench.apply(&planned.first);
    let mut turns = changes.iter().cycle();
    criterion.bench_function("nftables: messages for one change among 10,000", |bencher| {
        bencher.iter(|| {
            let (written, removed) = workbench.apply(turns.next().unwrap());
            assert!(written > 0 && removed > 0);
        });
    });
}

criterion_group!(benches, ebpf, nftables);
criterion_main!(benches);
