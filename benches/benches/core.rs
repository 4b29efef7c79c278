//! The verifier, the floor and qstash-rs, for each size of body, and the verifier's worst cases.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tower_qstash::{Signer, SigningKeys, Verifier};
use tower_qstash_bench::{
    CURRENT, Floor, SIZES, UNKNOWN, URL, body, now, qstash_rs_receiver, sign, sign_for_qstash_rs,
    verifier, verify_with_qstash_rs,
};

fn core(criterion: &mut Criterion) {
    let (verifier, floor, receiver) = (verifier(), Floor::default(), qstash_rs_receiver());
    let now = now();
    let mut group = criterion.benchmark_group("core");
    for size in SIZES {
        let body = body(size);
        let token = sign(CURRENT, &body);
        let token_for_qstash_rs = sign_for_qstash_rs(&body);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("floor", size), |bencher| {
            bencher.iter(|| floor.run(&token, &body));
        });
        group.bench_function(BenchmarkId::new("verify", size), |bencher| {
            bencher.iter(|| verifier.verify(black_box(&token), URL, black_box(&body), now).is_ok());
        });
        group.bench_function(BenchmarkId::new("qstash-rs", size), |bencher| {
            bencher.iter(|| verify_with_qstash_rs(&receiver, &token_for_qstash_rs, &body));
        });
    }
}

/// The most work that a client can cause, without a key or with one valid token.
fn worst(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("worst case");
    for keys in [2, 16, 64, 2_000] {
        let single = |index| {
            SigningKeys::from_key(&format!("sig_{index}"))
                .expect("a valid key")
                .with_label("key")
                .expect("a valid label")
        };
        let verifier =
            Verifier::new((0..keys).map(single).reduce(SigningKeys::also).expect("keys"));
        // The longest token that isn't rejected for its length.
        let length = (128 * 1024 / keys).clamp(2_048, 8_192);
        let message = format!("{}.{}", "a".repeat(100), "a".repeat(length - 145));
        let forged = signer(UNKNOWN).sign_segments(&message);
        assert_eq!(forged.len(), length);
        group.bench_function(BenchmarkId::new("longest forged token, keys", keys), |bencher| {
            bencher.iter(|| verifier.verify(black_box(&forged), URL, b"", now()).is_err());
        });
    }
    let pairs: Vec<_> = (0..500).map(|index| format!("n{index}={index}")).collect();
    let url = format!("{URL}?{}", pairs.join("&"));
    let reversed: Vec<_> = pairs.iter().rev().cloned().collect();
    let other: Vec<_> = (0..10_000).map(|index| format!("n{index}={index}")).collect();
    let token = signer(CURRENT).delivery(&url, b"", now()).token();
    for (what, query) in
        [("the same", &pairs), ("reversed", &reversed), ("of 10,000 pairs", &other)]
    {
        let other = format!("{URL}?{}", query.join("&"));
        group.bench_function(BenchmarkId::new("query of 500 pairs,", what), |bencher| {
            bencher.iter(|| verifier().verify(black_box(&token), &other, b"", now()).is_ok());
        });
    }
}

fn signer(key: &str) -> Signer {
    Signer::new(key).expect("a valid key")
}

criterion_group!(benches, core, worst);
criterion_main!(benches);
