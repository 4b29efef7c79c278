//! The core beside the floor and beside qstash-rs, for each size of body.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tower_qstash_bench::{
    CURRENT, Floor, SIZES, URL, ask_peer, body, now, peer, sign, sign_for_peer, verifier,
};

fn core(criterion: &mut Criterion) {
    let (verifier, floor, peer) = (verifier(), Floor::default(), peer());
    let now = now();
    let mut group = criterion.benchmark_group("core");
    for size in SIZES {
        let body = body(size);
        let (token, peers) = (sign(CURRENT, &body), sign_for_peer(&body));
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("floor", size), |bencher| {
            bencher.iter(|| floor.run(&token, &body));
        });
        group.bench_function(BenchmarkId::new("verify", size), |bencher| {
            bencher.iter(|| verifier.verify(black_box(&token), URL, black_box(&body), now).is_ok());
        });
        group.bench_function(BenchmarkId::new("qstash-rs", size), |bencher| {
            bencher.iter(|| ask_peer(&peer, &peers, &body));
        });
    }
}

criterion_group!(benches, core);
criterion_main!(benches);
