//! Reading objects: from the API server's JSON, and from a directory of manifests.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot begin ends")]
#![expect(dead_code, reason = "the scene is shared by all benchmarks")]

mod scene;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shunt::domain::{Event, ObjectKind};
use shunt::watch::convert::Names;
use shunt::watch::manifests::{self, ManifestSettings};

const IN_A_FILE: u32 = 500;

fn json(criterion: &mut Criterion) {
    let names = Names::default();
    let mut group = criterion.benchmark_group("JSON");
    let (service, slice) = (scene::service_json(1), scene::slice_json(1, false));
    group.throughput(bytes(&service));
    group.bench_function("Service", |bencher| bencher.iter(|| scene::service(&service, &names)));
    group.throughput(bytes(&slice));
    group.bench_function("EndpointSlice", |bencher| bencher.iter(|| scene::slice(&slice, &names)));
    group.finish();
}

/// The source as the agent starts it, until it says that all has been read.
fn manifest_directory(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("manifests");
    group.sample_size(10);
    for (syntax, separator) in [("json", "\n"), ("yaml", "---\n")] {
        let folder = tempfile::tempdir().unwrap();
        let mut text = String::new();
        for index in 0..IN_A_FILE {
            let (service, slice) = (scene::service_json(index), scene::slice_json(index, false));
            write!(text, "{service}\n{separator}{slice}\n{separator}").unwrap();
        }
        fs::write(folder.path().join(format!("services.{syntax}")), &text).unwrap();
        group.throughput(bytes(&text));
        group.bench_function(format!("{IN_A_FILE} services, {syntax}"), |bencher| {
            bencher.iter(|| assert_eq!(runtime.block_on(read(folder.path())), IN_A_FILE));
        });
    }
    group.finish();
}

/// Number of Services in the directory.
async fn read(directory: &Path) -> u32 {
    let settings = ManifestSettings { directory: directory.to_owned(), node_name: "node-1".to_owned() };
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4096);
    let source = manifests::spawn(&settings, sender).unwrap();
    let mut services = 0;
    loop {
        match receiver.recv().await.unwrap().event {
            Event::Service(_) => services += 1,
            Event::Synced(ObjectKind::Service) => break,
            Event::Problem(problem) => panic!("{problem:?}"),
            _ => {}
        }
    }
    drop(source);
    services
}

fn bytes(text: &str) -> Throughput {
    Throughput::Bytes(u64::try_from(text.len()).unwrap())
}

criterion_group!(benches, json, manifest_directory);
criterion_main!(benches);
