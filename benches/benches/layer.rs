//! The layer around a service that does nothing, the bare service, and rejections.

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use http::Request;
use http_body_util::Full;
use tower_qstash_bench::{
    Bare, CURRENT, Frames, NEXT, SIZES, UNKNOWN, body, call, request, service, sign,
    signed_with_claim,
};

fn accepted(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layer");
    let (mut layered, mut bare) = (service(), Bare);
    for size in SIZES {
        let body = body(size);
        let token = sign(CURRENT, &body);
        let one_frame = || request(&token, Full::new(body.clone()));
        let frames = || request(&token, Frames::boxed(body.clone()));
        group.bench_function(BenchmarkId::new("bare", size), |bencher| {
            bencher.iter_batched(
                one_frame,
                |request| call(&mut bare, request),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("one frame", size), |bencher| {
            bencher.iter_batched(
                one_frame,
                |request| call(&mut layered, request),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("bare, 16 KiB frames", size), |bencher| {
            bencher.iter_batched(frames, |request| call(&mut bare, request), BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("16 KiB frames", size), |bencher| {
            bencher.iter_batched(
                frames,
                |request| call(&mut layered, request),
                BatchSize::SmallInput,
            );
        });
    }
}

fn rejected(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rejection, body of 1 MiB");
    let mut service = service();
    let body = body(1024 * 1024);
    let tokens = [
        ("forged", sign(UNKNOWN, &body)),
        ("expired", signed_with_claim("exp", 1.into(), &body)),
        ("wrong URL", signed_with_claim("sub", "https://api.example.com/other".into(), &body)),
    ];
    for (what, token) in tokens {
        let build = || -> Request<Full<Bytes>> { request(&token, Full::new(body.clone())) };
        group.bench_function(what, |bencher| {
            bencher.iter_batched(
                build,
                |request| call(&mut service, request),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();

    let small = tower_qstash_bench::body(256);
    let token = sign(NEXT, &small);
    criterion.bench_function("accepted with the next key, 256 B", |bencher| {
        let build = || request(&token, Full::new(small.clone()));
        bencher.iter_batched(build, |request| call(&mut service, request), BatchSize::SmallInput);
    });
}

criterion_group!(benches, accepted, rejected);
criterion_main!(benches);
