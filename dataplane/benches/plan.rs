//! Planning 10,000 Services, and what changes by one EndpointSlice.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot begin ends")]
#![expect(dead_code, reason = "the scene is shared by all benchmarks")]

mod scene;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use scene::{Planned, SERVICES, events, planner, versions};
use shunt::domain::Cluster;

fn take_in(criterion: &mut Criterion) {
    let all = events(SERVICES);
    let take_in = |events: Vec<_>| {
        let mut cluster = Cluster::default();
        for event in events {
            cluster.apply(event);
        }
        cluster
    };
    criterion.bench_function("take in 10,000 services", |bencher| {
        bencher.iter_batched(|| all.clone(), take_in, BatchSize::PerIteration);
    });
}

fn plan_all(criterion: &mut Criterion) {
    let planned = Planned::new(SERVICES);
    criterion.bench_function("plan 10,000 services", |bencher| {
        bencher.iter_with_large_drop(|| {
            let mut planner = planner();
            let changes = planner.update_all(&planned.cluster, &planned.interfaces);
            (planner, changes)
        });
    });
}

fn plan_again(criterion: &mut Criterion) {
    let mut planned = Planned::new(SERVICES);
    criterion.bench_function("plan 10,000 services again, nothing changed", |bencher| {
        bencher.iter(|| {
            let changes = planned.planner.update_all(&planned.cluster, &planned.interfaces);
            assert!(changes.frontends.is_empty());
        });
    });
}

fn plan_one(criterion: &mut Criterion) {
    let mut planned = Planned::new(SERVICES);
    let mut versions = versions().into_iter().cycle();
    criterion.bench_function("one EndpointSlice among 10,000 services", |bencher| {
        let next = || versions.next().unwrap();
        bencher.iter_batched(next, |slice| planned.change(slice), BatchSize::SmallInput);
    });
}

criterion_group!(benches, take_in, plan_all, plan_again, plan_one);
criterion_main!(benches);
